//! Serving one connection: HTTP/2 or HTTP/1.1 over whatever it came by, until it ends, is told to end,
//! or is cut.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_util::task::TaskTracker;

use handfast_tls::FirstBytes;

use super::handshake::{Admitted, HANDSHAKE, admit};
use super::heard::{FirstWord, Heard};
use super::register::{Ending, Proof};
use super::{Protection, Protocol, Shared, Stranger};
use crate::caller::{Caller, Transport};
use crate::grpc::Body;

/// Serves a TCP connection from its first byte on.
/// `place` is given back as soon as it is known who calls.
pub(super) async fn serve_tcp(
    shared: Shared,
    socket: TcpStream,
    address: SocketAddr,
    place: Stranger,
) {
    if let Err(error) = socket.set_nodelay(true) {
        // It is gone already.
        tracing::debug!(%address, %error, "a connection ended at once");
        return;
    }
    let under = shared.protection.load_full();
    let admitted = tokio::select! {
        () = shared.closing.cancelled() => return,
        () = place.lost() => {
            shared.desk.counts().connection_refused();
            return;
        }
        admitted = admit(&shared, &under, socket, address) => admitted,
    };
    drop(place);
    match admitted {
        Ok(Admitted::Plain(socket, first, caller)) => {
            let version = match first {
                FirstBytes::Http2Preface => Version::Two,
                _ => Version::One,
            };
            serve(&shared, &under, socket, version, caller, None).await;
        }
        Ok(Admitted::Tls(stream, caller, proof)) => {
            let version = match (stream.get_ref().1.alpn_protocol(), shared.protocol) {
                (Some(b"h2"), _) | (None, Protocol::Grpc) => Version::Two,
                _ => Version::One,
            };
            serve(&shared, &under, *stream, version, caller, proof).await;
        }
        Err(fault) => shared.desk.refused_handshake(&shared.name, address, &fault),
    }
}

/// Serves a connection over a Unix socket.
pub(super) async fn serve_unix(shared: Shared, socket: UnixStream) {
    let version = match shared.protocol {
        Protocol::Grpc => Version::Two,
        Protocol::Http => Version::One,
    };
    let under = shared.protection.load_full();
    let caller = Caller::anonymous(None, Transport::Plaintext);
    serve(&shared, &under, socket, version, caller, None).await;
}

#[derive(Clone, Copy)]
enum Version {
    One,
    Two,
}

/// `under` is what it was let in by.
async fn serve<I>(
    shared: &Shared,
    under: &Arc<Protection>,
    io: I,
    version: Version,
    caller: Caller,
    proof: Option<Proof>,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let caller = Arc::new(caller);
    let entered = shared.connections.enter(Arc::clone(&caller), proof, shared.now());
    let Some(registered) = entered else {
        shared.desk.counts().connection_refused();
        return;
    };
    // Between the judgement and the register something may have been revoked that the watch passed
    // over: once it is registered, it is looked at again.
    if registered.cut_if_revoked(&shared.revocations, &shared.name) {
        shared.desk.counts().cut(1);
    }
    let now = shared.protection.load_full();
    if !Arc::ptr_eq(under, &now) {
        shared.connections.judge_again(under, &now);
    }
    let desk = Arc::clone(&shared.desk);
    let service = service_fn(move |request: Request<Incoming>| {
        let (desk, caller) = (Arc::clone(&desk), Arc::clone(&caller));
        async move { Ok::<Response<Body>, Infallible>(desk.answer(request, &caller).await) }
    });
    let ending = &registered.ending;
    let (io, word) = Heard::new(io);
    let outcome = match version {
        Version::Two => {
            let mut builder = http2::Builder::new(Owned(shared.tasks.clone()));
            builder
                .timer(TokioTimer::new())
                .keep_alive_interval(KEEP_ALIVE)
                .keep_alive_timeout(KEEP_ALIVE_ANSWER)
                .max_concurrent_streams(STREAMS)
                .max_header_list_size(HEADER_BYTES)
                .max_frame_size(FRAME_BYTES)
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .max_send_buf_size(SEND_BUFFER)
                .max_pending_accept_reset_streams(RESETS)
                .max_local_error_reset_streams(RESETS);
            let connection = builder.serve_connection(TokioIo::new(io), service);
            let ended = until_ended(connection, http2::Connection::graceful_shutdown, ending);
            tokio::select! {
                outcome = ended => outcome,
                () = silent(word) => {
                    shared.desk.counts().connection_refused();
                    Ok(())
                }
            }
        }
        Version::One => {
            let mut builder = http1::Builder::new();
            builder
                .timer(TokioTimer::new())
                .header_read_timeout(HANDSHAKE)
                .max_headers(HEADERS)
                .max_buf_size(HTTP1_BUFFER)
                .half_close(true);
            let connection = builder.serve_connection(TokioIo::new(io), service);
            until_ended(connection, http1::Connection::graceful_shutdown, ending).await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(port = %shared.name, %error, "a connection ended in disorder");
    }
}

/// Resolves if the first word does not come in time.
async fn silent(word: FirstWord) {
    tokio::time::sleep(HANDSHAKE).await;
    if word.has_come() {
        std::future::pending::<()>().await;
    }
}

async fn until_ended<C: Future<Output = hyper::Result<()>>>(
    connection: C,
    finish: impl Fn(std::pin::Pin<&mut C>),
    ending: &Ending,
) -> hyper::Result<()> {
    let mut connection = pin!(connection);
    tokio::select! {
        // Whoever is cut gets no further word in.
        biased;
        () = ending.cut.cancelled() => return Ok(()),
        outcome = &mut connection => return outcome,
        () = ending.finish.cancelled() => {}
    }
    finish(connection.as_mut());
    tokio::select! {
        biased;
        () = ending.cut.cancelled() => Ok(()),
        outcome = connection => outcome,
        // Streams that never end by themselves must not keep a port open.
        () = tokio::time::sleep(FINISH) => Ok(()),
    }
}

/// Runs the tasks of HTTP/2 streams where the port waits for them.
#[derive(Clone)]
struct Owned(TaskTracker);

impl<F> hyper::rt::Executor<F> for Owned
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

/// A silent caller is asked so often whether it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// And has so long to answer.
const KEEP_ALIVE_ANSWER: Duration = Duration::from_secs(20);

/// Streams of one connection at the same time.
const STREAMS: u32 = 256;

/// Bytes of all headers of a request: more of them are refused without a word about who sent them. The desk takes fewer,
/// and says so.
const HEADER_BYTES: u32 = 64 * 1024;

/// Headers of a request of HTTP/1.1.
const HEADERS: usize = 64;

/// Largest frame that is asked for.
const FRAME_BYTES: u32 = 64 * 1024;

/// What one stream may send ahead.
const STREAM_WINDOW: u32 = 1024 * 1024;

/// What all streams of a connection may send ahead.
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// What is buffered of answers for one stream.
const SEND_BUFFER: usize = 64 * 1024;

/// Streams that are opened and reset at once, before the connection is ended for it.
const RESETS: usize = 64;

/// Buffer of a connection of HTTP/1.1.
const HTTP1_BUFFER: usize = 64 * 1024;

/// Calls under way may take so long when a connection is to end.
const FINISH: Duration = Duration::from_secs(10);
