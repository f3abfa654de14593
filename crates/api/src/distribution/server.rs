//! The port, and what strangers may cost.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use handfast_pki::ocsp::OcspRequest;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::answer::answer;
use crate::gate::{Gate, Rate, RateLimiter};
use crate::serve::{self, Limits};

/// What there is to hand out. Implemented by the node over `handfast-authority`.
pub trait Distributor: Send + Sync + 'static {
    /// The CRL of an issuer, by what it is called in URLs.
    fn list(&self, issuer: &str, delta: bool) -> Option<Document>;

    /// The certificate of an issuer.
    fn issuer(&self, issuer: &str) -> Option<Document>;

    /// The answer to an OCSP request that is at hand and costs nothing.
    fn kept_answer(&self, request: &OcspRequest) -> Option<Answer>;

    /// The answer to an OCSP request, looked up and signed.
    fn answer(&self, request: OcspRequest) -> impl Future<Output = Answer> + Send;

    /// The node's clock, for cache headers.
    fn now(&self) -> Timestamp;
}

/// Something signed, in DER.
#[derive(Clone, Debug)]
pub struct Document {
    /// Its octets.
    pub der: Arc<[u8]>,
    /// When it was made.
    pub this_update: Timestamp,
    /// Until when it is good.
    pub next_update: Timestamp,
}

/// An OCSP response in DER.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its octets.
    pub der: Arc<[u8]>,
    /// From when until when it is good; `None` if it must not be kept.
    pub good: Option<(Timestamp, Timestamp)>,
}

/// What strangers may cost.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DistributionLimits {
    /// Of each connection.
    pub connection: Limits,
    /// Connections open at a time from one address.
    pub connections_per_source: usize,
    /// Connections from one address over time.
    pub connection_rate: Rate,
    /// OCSP answers for one address over time that have to be looked up and signed. What is too many is told
    /// to try later; what is at hand is not counted.
    pub answer_rate: Rate,
    /// Addresses that are remembered.
    pub sources: usize,
}

impl Default for DistributionLimits {
    /// 512 connections, each for two minutes at most and ten seconds without a request; from one address 64 at
    /// a time, 1000 at once and 200 per second after that; 500 signed answers at once and 100 per second after that; 4096 addresses remembered.
    fn default() -> Self {
        Self {
            connection: Limits {
                connections: 512,
                handshake: Duration::ZERO,
                header: Duration::from_secs(10),
                header_bytes: 16 * 1024,
                body: Duration::from_secs(5),
                body_bytes: OcspRequest::MAX_DER,
                lifetime: Duration::from_secs(120),
                drain: Duration::from_secs(2),
            },
            connections_per_source: 64,
            connection_rate: Rate { burst: 1000, every: Duration::from_millis(5) },
            answer_rate: Rate { burst: 500, every: Duration::from_millis(10) },
            sources: 4096,
        }
    }
}

/// A bound port.
#[derive(Debug)]
pub struct DistributionServer {
    listener: TcpListener,
    limits: DistributionLimits,
}

impl DistributionServer {
    /// Binds `address`; port 0 chooses a free one.
    pub async fn bind(
        address: SocketAddr,
        limits: DistributionLimits,
    ) -> Result<Self, DistributionServerError> {
        match TcpListener::bind(address).await {
            Ok(listener) => Ok(Self { listener, limits }),
            Err(source) => Err(DistributionServerError::Bind { address, source }),
        }
    }

    /// The address as bound.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown`.
    pub async fn serve<D: Distributor>(self, distributor: Arc<D>, shutdown: CancellationToken) {
        let limits = self.limits;
        let answers = RateLimiter::new(limits.answer_rate, limits.sources, Instant::now());
        let answers = Mutex::new(answers);
        let shared = Arc::new(Shared { distributor, answers, limits: limits.connection });
        let gate = Gate::new(limits.connections_per_source, limits.connection_rate, limits.sources);
        serve::accept(self.listener, limits.connection, shutdown.clone(), move |stream, from| {
            let place = gate.enter(from.ip())?;
            let served = connection(stream, from, Arc::clone(&shared), shutdown.clone());
            Some(async move {
                let _place = place;
                served.await;
            })
        })
        .await;
    }
}

/// What all connections have in common.
pub(super) struct Shared<D> {
    pub(super) distributor: Arc<D>,
    answers: Mutex<RateLimiter>,
    pub(super) limits: Limits,
}

impl<D> Shared<D> {
    /// Counts one answer that has to be made; how long to wait if that is too many.
    pub(super) fn take(&self, from: SocketAddr) -> Result<(), Duration> {
        // Nothing that runs under the lock can panic half-way through a change.
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.take(from.ip(), Instant::now())
    }
}

/// Serves one request after the other: clients that look up many certificates keep their connection.
async fn connection<D: Distributor>(
    stream: TcpStream,
    from: SocketAddr,
    shared: Arc<Shared<D>>,
    shutdown: CancellationToken,
) {
    let limits = shared.limits;
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(&shared, from, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header)
        .max_header_size(limits.header_bytes)
        .max_buf_size(limits.header_bytes)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%from, %error, "HTTP connection ended early");
    }
}

/// Why the port could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DistributionServerError {
    /// The system refused.
    #[error(
        "cannot listen for CRL and OCSP requests on {address}: {source}; free the port, or set `settings.revocation-port` of the RouterAccess"
    )]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}
