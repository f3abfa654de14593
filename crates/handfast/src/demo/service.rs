//! The small HTTP service behind the demo's connector: `handfast demo-service`, hidden from help.
//!
//! It knows nothing of TLS: plain HTTP/1.1 on loopback, as an application beside a node would speak it.

use std::convert::Infallible;
use std::time::Duration;

use anyhow::Context as _;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

/// What the service answers to `GET /`.
pub(super) const GREETING: &str = "payments at west: 3 open invoices\n";

/// Arguments of the hidden command `handfast demo-service`.
#[derive(clap::Args, Debug)]
pub(crate) struct ServiceArguments {
    /// The port on 127.0.0.1
    port: u16,
}

/// Serves until it is told to end.
pub(crate) async fn serve(arguments: ServiceArguments) -> anyhow::Result<()> {
    let address = ("127.0.0.1", arguments.port);
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on 127.0.0.1:{}", arguments.port))?;
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    loop {
        let stream = tokio::select! {
            _ = terminate.recv() => return Ok(()),
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                // The peer gave up before we looked, or descriptors are short for the moment.
                Err(_) => continue,
            },
        };
        let _ = stream.set_nodelay(true);
        tokio::spawn(async move {
            // An application that is hung up on has nobody to tell.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_LIMIT)
                .serve_connection(TokioIo::new(stream), service_fn(answer))
                .await;
        });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = match request.uri().path() {
        "/" => Response::new(Full::from(GREETING)),
        "/bulk" => Response::new(Full::from(vec![b'x'; BULK])),
        _ => {
            let mut missing = Response::new(Full::from("not here\n"));
            *missing.status_mut() = StatusCode::NOT_FOUND;
            missing
        }
    };
    let text = hyper::header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, text);
    Ok(response)
}

/// Bytes of the body of `GET /bulk`.
pub(super) const BULK: usize = 1024 * 1024;

/// How long a client may take for its request line and headers.
const HEADER_LIMIT: Duration = Duration::from_secs(30);
