//! One dialling: resolve, connect, prove, greet. Ends in a connection that takes requests, or in a fault.

use std::sync::{Arc, OnceLock};
use std::time::Duration;
use std::{io, pin::Pin, task};

use handfast_tls::{Attempt, Fault, FaultCode, Session, Side};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::{Backend, Lookup, Security};
use crate::grpc::Body;

/// A connection that takes requests.
pub(super) struct Dialled {
    pub(super) sender: SendRequest<Body>,
    /// Why it broke, once it has.
    pub(super) ended: Ended,
}

/// Filled when a read or a write fails, or when what comes is not HTTP/2. In TLS 1.3 a server judges our certificate after we are done: its refusal is
/// the answer to the first read, and would otherwise be lost below HTTP/2.
pub(super) type Ended = Arc<OnceLock<Fault>>;

pub(super) async fn dial(
    backend: &Backend,
    security: &Security,
    now: Timestamp,
    lookup: &Lookup,
    tasks: &TaskTracker,
) -> Result<Dialled, Fault> {
    let name = match security {
        Security::Tls { server_name: Some(name), .. } => name.clone(),
        _ => backend.host.clone(),
    };
    let attempt = Attempt::client(&name, now).with_subject(format!("backend {backend}"));
    let socket = connect(backend, lookup, &attempt).await?;
    match security {
        Security::Plaintext => greet(socket, backend, attempt, tasks).await,
        Security::Tls { config, .. } => {
            let attempt = attempt.with_alpn(&[b"h2"]);
            let stream =
                handfast_tls::connect(socket, Arc::clone(config), &name, attempt.clone(), CONNECT)
                    .await?;
            if let Some(session) = Session::of(stream.get_ref().1) {
                session.require_alpn(b"h2", &attempt)?;
            }
            greet(stream, backend, attempt, tasks).await
        }
    }
}

/// The first address that answers, of those that the name has at this moment. All of them together have as
/// long as one would have alone: where the first is a machine that is gone, the next is still tried.
async fn connect(
    backend: &Backend,
    lookup: &Lookup,
    attempt: &Attempt,
) -> Result<TcpStream, Fault> {
    let connecting = async {
        let addresses = lookup(backend).await.map_err(|error| {
            Fault::new(FaultCode::HostNotFound, Side::Ours, format!("backend {backend}"))
                .with("reason", error.to_string())
                .caused_by(error)
        })?;
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        let share = CONNECT / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
        for address in addresses {
            let connected = timeout(share, TcpStream::connect(address)).await;
            match connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(socket) => {
                    socket.set_nodelay(true).map_err(|e| handfast_tls::fault_of_io(&e, attempt))?;
                    return Ok(socket);
                }
                Err(error) => last = error,
            }
        }
        Err(handfast_tls::fault_of_io(&last, attempt))
    };
    timeout(CONNECT, connecting).await.map_err(|_| handfast_tls::timed_out(CONNECT, attempt))?
}

async fn greet<I>(
    io: I,
    backend: &Backend,
    attempt: Attempt,
    tasks: &TaskTracker,
) -> Result<Dialled, Fault>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let ended = Ended::default();
    let lost = |error: hyper::Error| {
        ended.get().cloned().unwrap_or_else(|| {
            Fault::new(FaultCode::ConnectionReset, Side::Peer, format!("backend {backend}"))
                .with("reason", super::causes(&error))
        })
    };
    let io = Watched { io, attempt, ended: Arc::clone(&ended), heard: false };
    let (mut sender, connection) = Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_ANSWER)
        .keep_alive_while_idle(true)
        .max_send_buf_size(SEND_BUFFER)
        .handshake(TokioIo::new(io))
        .await
        .map_err(lost)?;
    let named = backend.clone();
    tasks.spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(backend = %named, error = %super::causes(&error), "the connection ended");
        }
    });
    timeout(CONNECT, sender.ready())
        .await
        .map_err(|_| Fault::new(FaultCode::TimedOut, Side::Peer, format!("backend {backend}")))?
        .map_err(lost)?;
    Ok(Dialled { sender, ended })
}

/// Notes why reading failed.
struct Watched<I> {
    io: I,
    attempt: Attempt,
    ended: Ended,
    /// Something has come.
    heard: bool,
}

impl<I> Watched<I> {
    /// Looks at the first that comes. A server begins with the frame SETTINGS; hyper says of anything else only
    /// that it is a protocol error.
    fn first(&mut self, bytes: &[u8]) {
        self.heard = true;
        let subject = self.attempt.subject.clone().unwrap_or_default();
        let fault = |code| Fault::new(code, Side::Peer, subject);
        match bytes {
            [] => {
                self.ended.get_or_init(|| {
                    fault(FaultCode::ConnectionReset)
                        .saying("it closed the connection without a word: is it the port for gRPC?")
                });
            }
            [_, _, _, kind, ..] if *kind != SETTINGS => {
                let said: String =
                    bytes.iter().take(24).map(|b| b.escape_ascii().to_string()).collect();
                self.ended.get_or_init(|| fault(FaultCode::Http2Missing).with("said", said));
            }
            _ => {}
        }
    }
}

impl<I: AsyncRead + Unpin> Watched<I> {
    /// A write has failed, and nothing will be read any more. Why may have come already: whoever refuses says so and closes, and
    /// it is chance whether the one or the other is noticed first.
    fn broken(&mut self, error: &io::Error, context: &mut task::Context<'_>) {
        for _ in 0..LAST_WORDS {
            let mut space = [0; 1024];
            let mut buffer = ReadBuf::new(&mut space);
            let read = Pin::new(&mut *self).poll_read(context, &mut buffer);
            if read.is_pending() || self.ended.get().is_some() || buffer.filled().is_empty() {
                break;
            }
        }
        self.ended.get_or_init(|| handfast_tls::fault_of_io(error, &self.attempt));
    }

    /// What came of writing.
    fn wrote<T>(
        &mut self,
        outcome: task::Poll<io::Result<T>>,
        context: &mut task::Context<'_>,
    ) -> task::Poll<io::Result<T>> {
        if let task::Poll::Ready(Err(error)) = &outcome {
            self.broken(error, context);
        }
        outcome
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Watched<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> task::Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.io).poll_read(context, buffer);
        match &outcome {
            task::Poll::Ready(Err(error)) => {
                self.ended.get_or_init(|| handfast_tls::fault_of_io(error, &self.attempt));
            }
            task::Poll::Ready(Ok(())) if !self.heard => self.first(&buffer.filled()[before..]),
            _ => {}
        }
        outcome
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
        bytes: &[u8],
    ) -> task::Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.io).poll_write(context, bytes);
        self.wrote(outcome, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> task::Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.io).poll_write_vectored(context, slices);
        self.wrote(outcome, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
    ) -> task::Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.io).poll_flush(context);
        self.wrote(outcome, context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
    ) -> task::Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

/// Reads after a write that failed: more than a refusal needs.
const LAST_WORDS: usize = 64;

/// The type of the frame that a server of HTTP/2 begins with.
const SETTINGS: u8 = 4;

/// Time for name, connection and handshake.
const CONNECT: Duration = Duration::from_secs(5);

const KEEP_ALIVE: Duration = Duration::from_secs(20);
const KEEP_ALIVE_ANSWER: Duration = Duration::from_secs(10);

/// What an answer may send ahead.
const WINDOW: u32 = 1024 * 1024;

/// What is buffered towards the backend for one stream.
const SEND_BUFFER: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// A socket that takes nothing more, with this left to be read.
    struct Reset(Option<&'static [u8]>);

    impl AsyncRead for Reset {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut task::Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> task::Poll<io::Result<()>> {
            match self.0.take() {
                Some(left) => buffer.put_slice(left),
                None => return task::Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            }
            task::Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Reset {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut task::Context<'_>,
            _: &[u8],
        ) -> task::Poll<io::Result<usize>> {
            task::Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_flush(
            self: Pin<&mut Self>,
            _: &mut task::Context<'_>,
        ) -> task::Poll<io::Result<()>> {
            task::Poll::Ready(Ok(()))
        }

        fn poll_shutdown(
            self: Pin<&mut Self>,
            _: &mut task::Context<'_>,
        ) -> task::Poll<io::Result<()>> {
            task::Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn why_it_broke_is_known_whether_that_is_read_or_writing_fails_first() {
        for (left, code) in [
            (Some(&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..]), FaultCode::Http2Missing),
            (Some(&b""[..]), FaultCode::ConnectionReset),
            (Some(&[0, 0, 0, SETTINGS, 0, 0, 0, 0, 0][..]), FaultCode::ConnectionReset),
            (None, FaultCode::ConnectionReset),
        ] {
            let attempt = Attempt::client("localhost", Timestamp::UNIX_EPOCH);
            let ended = Ended::default();
            let mut io =
                Watched { io: Reset(left), attempt, ended: Arc::clone(&ended), heard: false };
            let wrote = poll_fn(|context| Pin::new(&mut io).poll_write(context, b"PRI")).await;
            assert_eq!(wrote.expect_err("broken").kind(), io::ErrorKind::BrokenPipe);
            assert_eq!(ended.get().map(Fault::code), Some(code), "{left:?}");
        }
    }
}
