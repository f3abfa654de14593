//! One HTTP/1.1 request over a connection that is already there, with a bounded answer.

use std::pin::pin;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// Sends `request`, reads the whole answer, and closes the connection by dropping it.
pub(crate) async fn exchange<I>(
    stream: I,
    request: Request<Full<Bytes>>,
    answer_bytes: usize,
) -> Result<(StatusCode, Bytes), ExchangeError>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(HEADER_BYTES).handshake(TokioIo::new(stream)).await?;
    let mut connection = pin!(connection);
    let mut answer = pin!(async {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body =
            Limited::new(answer.into_body(), answer_bytes).collect().await.map_err(|error| {
                match error.downcast::<hyper::Error>() {
                    Ok(error) => ExchangeError::Http(*error),
                    Err(other) if other.is::<LengthLimitError>() => ExchangeError::TooLarge,
                    Err(_) => ExchangeError::Cut,
                }
            })?;
        Ok((status, body.to_bytes()))
    });
    // The connection may end before its last bytes have been looked at, so its end is no verdict; but
    // where there is no answer, its error is the reason.
    let ended = tokio::select! {
        answer = &mut answer => return answer,
        ended = &mut connection => ended,
    };
    match (answer.await, ended) {
        (Err(_), Err(reason)) => Err(reason.into()),
        (answer, _) => answer,
    }
}

/// Why there was no whole answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExchangeError {
    /// The answer ended early.
    #[error("the answer was cut short")]
    Cut,
    /// HTTP failed.
    #[error("{0}")]
    Http(#[from] hyper::Error),
    /// The answer is larger than is accepted.
    #[error("the answer is too large")]
    TooLarge,
}

const HEADER_BYTES: usize = 16 * 1024;
