//! Handshakes over tokio sockets, bounded in time, that end in a stream or a fault. The network's
//! own event loops do not come through here; whoever serves or dials with tokio does.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::fault::{Attempt, Fault, FaultCode, Side, fault_of, fault_of_io, timed_out};
use crate::first_bytes::{FirstBytes, SNIFF_LIMIT, sniff};
use crate::refusal::{Refusal, watched_async};

/// Accepts TLS on `socket` with the configuration that is current for it.
///
/// The peer's address and first bytes are added to `attempt`. A client that is refused gets the
/// time to read the alert before the socket is closed ([`LINGER`]).
///
/// # Errors
/// Any fault of a handshake; `timed-out` if it takes longer than `limit`.
pub async fn accept(
    socket: TcpStream,
    config: Arc<ServerConfig>,
    mut attempt: Attempt,
    limit: Duration,
) -> Result<server::TlsStream<TcpStream>, Fault> {
    attempt.peer_addr = attempt.peer_addr.or_else(|| socket.peer_addr().ok());
    let first_bytes = &mut attempt.first_bytes;
    let step = timeout(limit, async {
        let mut first = [0; SNIFF_LIMIT];
        let seen = match socket.peek(&mut first).await {
            Ok(count) => sniff(&first[..count]),
            Err(error) => return (Err((error, socket)), None),
        };
        *first_bytes = Some(seen);
        if seen.is_plaintext() {
            // rustls would wait for the rest of a record that never comes.
            let error = rustls::Error::from(rustls::InvalidMessage::InvalidContentType);
            return (Err((io::Error::new(io::ErrorKind::InvalidData, error), socket)), None);
        }
        watched_async(TlsAcceptor::from(config).accept(socket).into_fallible()).await
    })
    .await;
    let Ok((result, refusal)) = step else {
        return Err(timed_out(limit, &attempt));
    };
    match result {
        Ok(stream) => Ok(stream),
        Err((error, socket)) => {
            let fault = explain(&error, refusal, &attempt);
            linger(socket).await;
            Err(fault)
        }
    }
}

/// Speaks TLS to the server at the other end of `socket`, which has to be `name`: a DNS name or an
/// IP address. The peer's address and first bytes are added to `attempt`.
///
/// In TLS 1.3 the client is done before the server has judged the client's certificate: a refusal
/// arrives as the answer to the first read.
///
/// # Errors
/// Any fault of a handshake; `timed-out` if it takes longer than `limit`; `wrong-name` if `name`
/// is neither a DNS name nor an IP address.
pub async fn connect(
    socket: TcpStream,
    config: Arc<ClientConfig>,
    name: &str,
    mut attempt: Attempt,
    limit: Duration,
) -> Result<client::TlsStream<TcpStream>, Fault> {
    attempt.peer_addr = attempt.peer_addr.or_else(|| socket.peer_addr().ok());
    let name = server_name(name, &attempt)?;
    let mut handshake = TlsConnector::from(config).connect(name, socket);
    let first_bytes = &mut attempt.first_bytes;
    let step = timeout(
        limit,
        watched_async(poll_fn(|context| {
            if let (None, Some(socket)) = (&first_bytes, handshake.get_ref()) {
                match peek(socket, context) {
                    Ok(first) => *first_bytes = first,
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            Pin::new(&mut handshake).poll(context)
        })),
    )
    .await;
    let Ok((result, refusal)) = step else {
        return Err(timed_out(limit, &attempt));
    };
    result.map_err(|error| explain(&error, refusal, &attempt))
}

/// `name` as a DNS name or IP address to verify a server against.
///
/// # Errors
/// `wrong-name`, ours, if it is neither.
pub fn server_name(name: &str, attempt: &Attempt) -> Result<ServerName<'static>, Fault> {
    ServerName::try_from(name.to_owned()).map_err(|error| {
        Fault::new(FaultCode::WrongName, Side::Ours, attempt.place())
            .saying("the name to dial is neither a DNS name nor an IP address")
            .with("expected-name", name)
            .remedied_by(
                "correct the host in the resource: letters, digits, hyphens and dots, or an IP address",
            )
            .caused_by(error)
    })
}

/// How long a refused client is given to read the alert: closing at once with unread data would
/// reset the connection and destroy the alert on its way.
pub const LINGER: Duration = Duration::from_millis(500);

/// The most that is read, and thrown away, from a client that was refused.
const LINGER_BYTES: u64 = 256 * 1024;

fn explain(error: &io::Error, refusal: Option<Refusal>, attempt: &Attempt) -> Fault {
    match refusal {
        Some(refusal) => fault_of(&refusal.into(), attempt, None),
        None => fault_of_io(error, attempt),
    }
}

/// Looks at the first bytes in the socket's buffer without taking them. An error has to be passed
/// on: the operating system reports a reset only once.
fn peek(socket: &TcpStream, context: &mut Context<'_>) -> io::Result<Option<FirstBytes>> {
    let mut space = [0; SNIFF_LIMIT];
    let mut buffer = ReadBuf::new(&mut space);
    match socket.poll_peek(context, &mut buffer) {
        Poll::Ready(Ok(_)) if !buffer.filled().is_empty() => Ok(Some(sniff(buffer.filled()))),
        Poll::Ready(Err(error)) => Err(error),
        _ => Ok(None),
    }
}

async fn linger(mut socket: TcpStream) {
    let drain = async {
        socket.shutdown().await?;
        let mut rest = socket.take(LINGER_BYTES);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
    };
    // Whatever happens to a socket that is given up is of no further interest.
    drop(timeout(LINGER, drain).await);
}
