//! The accept loop and the HTTP connection that every server of this crate shares: how many, how
//! large, how long. Nothing an unauthenticated peer does can take more than [`Limits`] says.
//!
//! Knows nothing of TLS or of what is served.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body as _, Bytes};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Bounds of one server. A connection carries one request and is closed after the answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Connections open at a time; further ones wait in the kernel's queue.
    pub connections: usize,
    /// Time for a TLS handshake, where there is one.
    pub handshake: Duration,
    /// Time for the request line and all headers.
    pub header: Duration,
    /// Size of the request line and all headers, in bytes; at least 8192.
    pub header_bytes: usize,
    /// Time for the request body.
    pub body: Duration,
    /// Size of the request body, in bytes.
    pub body_bytes: usize,
    /// Time from accepting a connection to closing it, whatever it does meanwhile.
    pub lifetime: Duration,
    /// Time that open connections get when the server is stopped.
    pub drain: Duration,
}

impl Limits {
    /// For the admin socket, whose callers are trusted but may be wrong, and may ask for work that
    /// talks to other sites.
    pub const ADMIN: Self = Self {
        connections: 64,
        handshake: Duration::ZERO,
        header: Duration::from_secs(5),
        header_bytes: 16 * 1024,
        body: Duration::from_secs(5),
        body_bytes: 256 * 1024,
        lifetime: Duration::from_secs(300),
        drain: Duration::from_secs(5),
    };

    /// For the admin port, whose callers have shown a certificate and may be far away.
    pub const ADMIN_PORT: Self =
        Self { connections: 128, handshake: Duration::from_secs(5), ..Self::ADMIN };

    /// For the grant port, whose callers are strangers.
    pub const GRANTS: Self = Self {
        connections: 128,
        handshake: Duration::from_secs(5),
        header: Duration::from_secs(5),
        header_bytes: 8 * 1024,
        body: Duration::from_secs(5),
        body_bytes: 64 * 1024,
        lifetime: Duration::from_secs(30),
        drain: Duration::from_secs(5),
    };

    /// For health and metrics on loopback.
    pub const HEALTH: Self = Self {
        connections: 32,
        handshake: Duration::ZERO,
        header: Duration::from_secs(5),
        header_bytes: 8 * 1024,
        body: Duration::from_secs(1),
        body_bytes: 1024,
        lifetime: Duration::from_secs(15),
        drain: Duration::from_secs(1),
    };
}

/// Something that connections come from.
pub(crate) trait Incoming: Send + 'static {
    type Stream: Send + 'static;
    type Source: Send + 'static;

    fn next(&self) -> impl Future<Output = io::Result<(Self::Stream, Self::Source)>> + Send;
}

impl Incoming for TcpListener {
    type Stream = TcpStream;
    type Source = SocketAddr;

    async fn next(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, source) = self.accept().await?;
        stream.set_nodelay(true)?;
        Ok((stream, source))
    }
}

impl Incoming for UnixListener {
    type Stream = UnixStream;
    type Source = ();

    async fn next(&self) -> io::Result<(UnixStream, ())> {
        self.accept().await.map(|(stream, _)| (stream, ()))
    }
}

/// Accepts until `shutdown`, then gives open connections [`Limits::drain`] and cuts the rest.
/// `handle` must not block; what it returns runs in a task of its own, bounded by
/// [`Limits::lifetime`].
pub(crate) async fn accept<L, H, F>(
    listener: L,
    limits: Limits,
    shutdown: CancellationToken,
    handle: H,
) where
    L: Incoming,
    H: Fn(L::Stream, L::Source) -> Option<F> + Send,
    F: Future<Output = ()> + Send + 'static,
{
    let permits = Arc::new(Semaphore::new(limits.connections));
    let mut tasks = JoinSet::new();
    loop {
        let turn = async {
            let permit = Arc::clone(&permits).acquire_owned().await;
            (permit, listener.next().await)
        };
        let (permit, accepted) = tokio::select! {
            turn = turn => turn,
            () = shutdown.cancelled() => break,
        };
        while let Some(ended) = tasks.try_join_next() {
            report(ended);
        }
        match accepted {
            Ok((stream, source)) => {
                let Some(connection) = handle(stream, source) else { continue };
                tasks.spawn(async move {
                    let _permit = permit;
                    // Time over is the peer's fault or the node's shutdown; either way it is done.
                    timeout(limits.lifetime, connection).await.ok();
                });
            }
            // The peer was gone before we had it.
            Err(error) if is_peer_gone(&error) => {}
            Err(error) => {
                // Out of file descriptors or memory: the connection stays queued, so trying again at
                // once would spin.
                tracing::warn!(%error, "cannot accept a connection; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let drained = timeout(limits.drain, async {
        while let Some(ended) = tasks.join_next().await {
            report(ended);
        }
    });
    if drained.await.is_err() {
        tasks.shutdown().await;
    }
}

fn is_peer_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, InvalidInput, NotConnected};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | InvalidInput | NotConnected)
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "BUG: a connection's task panicked");
    }
}

/// Serves one request on `stream` and closes it.
pub(crate) async fn http<I>(stream: I, router: Router, limits: Limits, shutdown: CancellationToken)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header)
        .max_header_size(limits.header_bytes)
        .max_buf_size(limits.header_bytes.max(SMALLEST_BUFFER))
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    {
        let mut served =
            pin!(std::future::poll_fn(|context| { connection.poll_without_shutdown(context) }));
        // A request that is under way when the server stops is answered still; `accept` sees to it
        // that this does not take for ever.
        let ended = tokio::select! {
            ended = &mut served => Some(ended),
            () = shutdown.cancelled() => None,
        };
        let ended = match ended {
            Some(ended) => ended,
            None => served.await,
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "HTTP connection ended early");
        }
    }
    linger(connection.into_parts().io.into_inner(), limits).await;
}

/// Reads what the peer is still sending, within bounds, so that the answer (413, say) is not
/// overtaken by the reset that closing with unread bytes would send.
async fn linger<I: AsyncRead + AsyncWrite + Unpin>(mut stream: I, limits: Limits) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let mut buffer = [0; 4096];
    let mut left = LINGER_BYTES;
    let discarded = timeout(limits.body.min(LINGER), async {
        while left > 0 {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(count) => left = left.saturating_sub(count),
            }
        }
    });
    discarded.await.ok();
}

/// Reads a request body within the limits.
pub(crate) async fn body(body: Body, limits: Limits) -> Result<Bytes, BodyFault> {
    // Said beforehand (Content-Length): not worth waiting for.
    if body.size_hint().lower() > limits.body_bytes as u64 {
        return Err(BodyFault::TooLarge);
    }
    match timeout(limits.body, Limited::new(body, limits.body_bytes).collect()).await {
        Err(_) => Err(BodyFault::TimedOut),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyFault::TooLarge),
        Ok(Err(_)) => Err(BodyFault::Broken),
    }
}

/// Why a request body was not read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum BodyFault {
    /// The connection broke, or the framing is wrong.
    Broken,
    /// It did not come in time.
    TimedOut,
    /// It is larger than is accepted.
    TooLarge,
}

/// How long to wait before accepting again when the system is out of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long, and how many bytes, a peer may go on sending after it got its answer.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 1024 * 1024;

/// hyper takes no smaller buffer.
const SMALLEST_BUFFER: usize = 8192;
