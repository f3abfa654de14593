//! The grant port: HTTPS for strangers that hold a token, and for agents that renew what they got by one or ask when to.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::{get, post};
use handfast_pki::{Csr, Name};
use handfast_store::Applicant;
use handfast_tls::{Attempt, Fault, Peer};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_rustls::rustls::ServerConfig;
use tokio_util::sync::CancellationToken;

use super::message::{
    HintReply, Problem, ProblemCode, RedemptionBody, RedemptionReply, RenewalBody,
};
use super::quota::{ProvedLimits, Quotas, identified};
use super::url::{HINT_PATH, PATH_PREFIX, RENEWAL_PATH};
use crate::admin::json_fault;
use crate::gate::{Gate, Place, Rate};
use crate::secret::Secret;
use crate::serve::{self, BodyFault, Limits};

/// Who decides about redemptions. Implemented by the node over `handfast-authority`.
pub trait Granter: Send + Sync + 'static {
    /// Decides, signs and records. When this returns `Ok`, the redemption is durable; the caller
    /// may be gone by then, so a repetition with the same key must get the same answer. The future
    /// is dropped when the connection is cut.
    fn redeem(
        &self,
        request: RedemptionRequest,
    ) -> impl Future<Output = Result<RedemptionReply, Problem>> + Send;

    /// Decides about the renewal of an agent's certificate, signs and records, as above.
    fn renew(
        &self,
        request: RenewalRequest,
    ) -> impl Future<Output = Result<RedemptionReply, Problem>> + Send;

    /// Says when the certificate of this agent should be renewed. Signs and records nothing.
    fn hint(&self, peer: Peer) -> impl Future<Output = Result<HintReply, Problem>> + Send;

    /// The node's clock, for faults.
    fn now(&self) -> Timestamp;

    /// Told of every connection that did not get as far as a request.
    fn refused(&self, from: SocketAddr, fault: Fault) {
        let _ = (from, fault);
    }
}

/// A redemption as asked for: well-formed, and nothing more is known of it.
#[derive(Debug)]
pub struct RedemptionRequest {
    /// The grant.
    pub grant: Name,
    /// The code presented.
    pub code: Secret,
    /// Who it says that it is.
    pub applicant: Applicant,
    /// Its certificate request, possession of the key proven.
    pub csr: Csr,
    /// Where it came from.
    pub from: SocketAddr,
}

/// A renewal as asked for.
#[derive(Debug)]
pub struct RenewalRequest {
    /// Who the connection belongs to, by its certificate.
    pub peer: Peer,
    /// The request for the new certificate, possession of its key proven.
    pub csr: Csr,
    /// Where it came from.
    pub from: SocketAddr,
}

/// What strangers may cost, and agents.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct GrantLimits {
    /// Of each connection.
    pub connection: Limits,
    /// Connections open at a time from one address.
    pub connections_per_source: usize,
    /// Connections of strangers from one address over time. Each costs a handshake, so what is too many is closed
    /// before it. Those of agents count only until they have shown who they are.
    pub connection_rate: Rate,
    /// Requests of strangers from one address over time. What is too many is answered with
    /// [`ProblemCode::TooMany`] and the time to wait.
    pub request_rate: Rate,
    /// Addresses that are remembered.
    pub sources: usize,
    /// What agents may cost that have shown their certificate.
    pub proved: ProvedLimits,
}

impl Default for GrantLimits {
    /// [`Limits::GRANTS`]; from one address 16 connections at a time; of strangers 60 at once and 5 per second after
    /// that, and 20 requests at once and one per second after that; 4096 addresses remembered.
    fn default() -> Self {
        Self {
            connection: Limits::GRANTS,
            connections_per_source: 16,
            connection_rate: Rate { burst: 60, every: Duration::from_millis(200) },
            request_rate: Rate { burst: 20, every: Duration::from_secs(1) },
            sources: 4096,
            proved: ProvedLimits::default(),
        }
    }
}

/// A bound grant port.
#[derive(Debug)]
pub struct GrantServer {
    listener: TcpListener,
    limits: GrantLimits,
}

impl GrantServer {
    /// Binds `address`; port 0 chooses a free one.
    pub async fn bind(address: SocketAddr, limits: GrantLimits) -> Result<Self, GrantServerError> {
        match TcpListener::bind(address).await {
            Ok(listener) => Ok(Self { listener, limits }),
            Err(source) => Err(GrantServerError::Bind { address, source }),
        }
    }

    /// The address as bound.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown`. `tls` is asked anew for every connection, so a renewed certificate
    /// is used by the next one; while it says `None`, connections are closed unanswered.
    pub async fn serve<G, T>(self, granter: Arc<G>, tls: T, shutdown: CancellationToken)
    where
        G: Granter,
        T: Fn() -> Option<Arc<ServerConfig>> + Send + Sync + 'static,
    {
        let limits = self.limits;
        let gate = Gate::new(limits.connections_per_source, limits.connection_rate, limits.sources);
        let quotas = Arc::new(Quotas::new(&limits, Instant::now()));
        serve::accept(self.listener, limits.connection, shutdown.clone(), move |stream, from| {
            let Some(place) = gate.enter(from.ip()) else {
                tracing::debug!(%from, "too many connections to the grant port from this address");
                return None;
            };
            let config = tls()?;
            Some(connection(
                stream,
                from,
                Arc::clone(&granter),
                config,
                Arc::clone(&quotas),
                place,
                limits.connection,
                shutdown.clone(),
            ))
        })
        .await;
    }
}

#[expect(clippy::too_many_arguments, reason = "one caller, and each is used once")]
async fn connection<G: Granter>(
    stream: TcpStream,
    from: SocketAddr,
    granter: Arc<G>,
    config: Arc<ServerConfig>,
    quotas: Arc<Quotas>,
    place: Place,
    limits: Limits,
    shutdown: CancellationToken,
) {
    let now = granter.now();
    let attempt = Attempt::server(now).with_subject("grant port").with_alpn(&[HTTP_ALPN]);
    let stream = match handfast_tls::accept(stream, config, attempt, limits.handshake).await {
        Ok(stream) => stream,
        Err(fault) => {
            granter.refused(from, fault);
            return;
        }
    };
    let peer = Peer::of(stream.get_ref().1);
    if peer.as_ref().and_then(identified).is_some() {
        place.proved();
    }
    let shared = Arc::new(Shared { granter, from, peer, quotas, limits });
    let router = Router::new()
        .route(&format!("{PATH_PREFIX}{{id}}"), post(redeem::<G>))
        .route(RENEWAL_PATH, post(renew::<G>))
        .route(HINT_PATH, get(hint::<G>))
        .fallback(|| async { problem(&Problem::new(ProblemCode::Unknown)) })
        .method_not_allowed_fallback(wrong_method)
        .with_state(shared);
    serve::http(stream, router, limits, shutdown).await;
    drop(place);
}

struct Shared<G> {
    granter: Arc<G>,
    from: SocketAddr,
    /// Who is at the other end, if a certificate was shown.
    peer: Option<Peer>,
    quotas: Arc<Quotas>,
    limits: Limits,
}

async fn hint<G: Granter>(State(shared): State<Arc<Shared<G>>>) -> Response {
    match answer_hint(&shared).await {
        Ok(reply) => {
            let mut response = json(StatusCode::OK, serde_json::to_vec(&reply));
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, reply.retry_after_seconds.into());
            response
        }
        Err(reason) => problem(&reason),
    }
}

/// Whoever shows no certificate learns nothing, and whoever shows one can ask about no other.
async fn answer_hint<G: Granter>(shared: &Shared<G>) -> Result<HintReply, Problem> {
    shared.quotas.hint(shared.from.ip(), shared.peer.as_ref(), Instant::now())?;
    let peer = shared.peer.clone().ok_or_else(|| Problem::new(ProblemCode::Unauthenticated))?;
    shared.granter.hint(peer).await
}

async fn renew<G: Granter>(State(shared): State<Arc<Shared<G>>>, body: Body) -> Response {
    match answer_renewal(&shared, body).await {
        Ok(reply) => json(StatusCode::OK, serde_json::to_vec(&reply)),
        Err(reason) => problem(&reason),
    }
}

async fn answer_renewal<G: Granter>(
    shared: &Shared<G>,
    body: Body,
) -> Result<RedemptionReply, Problem> {
    shared.quotas.renewal(shared.from.ip(), shared.peer.as_ref(), Instant::now())?;
    // Before the body: who is nobody need not send one.
    let peer = shared.peer.clone().ok_or_else(|| Problem::new(ProblemCode::Unauthenticated))?;
    let body: RenewalBody = read(body, shared.limits, "a renewal").await?;
    let request = RenewalRequest { peer, csr: csr(&body.csr)?, from: shared.from };
    shared.granter.renew(request).await
}

async fn redeem<G: Granter>(
    State(shared): State<Arc<Shared<G>>>,
    Path(id): Path<String>,
    body: Body,
) -> Response {
    match answer(&shared, &id, body).await {
        Ok(reply) => json(StatusCode::OK, serde_json::to_vec(&reply)),
        Err(reason) => problem(&reason),
    }
}

async fn answer<G: Granter>(
    shared: &Shared<G>,
    id: &str,
    body: Body,
) -> Result<RedemptionReply, Problem> {
    // Also of an agent: what is guessed at here is the code of a token, and that is a stranger's business.
    shared.quotas.stranger(shared.from.ip(), Instant::now())?;
    // An identifier that cannot be one of ours is simply not known.
    let grant: Name = id.parse().map_err(|_| Problem::new(ProblemCode::Unknown))?;
    let body: RedemptionBody = read(body, shared.limits, "a redemption").await?;
    let applicant = match (&body.site, &body.agent) {
        (Some(site), None) => {
            Applicant::Site(site.parse().map_err(|error| invalid(format!("`site`: {error}")))?)
        }
        (None, Some(service)) => {
            Applicant::Agent(service.parse().map_err(|error| invalid(format!("`agent`: {error}")))?)
        }
        _ => {
            return Err(invalid("the request names neither one `site` nor one `agent`".to_owned()));
        }
    };
    let csr = csr(&body.csr)?;
    let request = RedemptionRequest { grant, code: body.code, applicant, csr, from: shared.from };
    shared.granter.redeem(request).await
}

async fn read<T: DeserializeOwned>(body: Body, limits: Limits, what: &str) -> Result<T, Problem> {
    let bytes = serve::body(body, limits).await.map_err(|fault| match fault {
        BodyFault::Broken => invalid("the request body could not be read".to_owned()),
        BodyFault::TimedOut => Problem::new(ProblemCode::TimedOut),
        BodyFault::TooLarge => Problem::new(ProblemCode::TooLarge)
            .because(format!("the request is larger than {} KiB", limits.body_bytes / 1024)),
    })?;
    serde_json::from_slice(&bytes)
        .map_err(|error| invalid(format!("the request is not {what} ({})", json_fault(&error))))
}

fn csr(pem: &str) -> Result<Csr, Problem> {
    Csr::from_pem(pem.as_bytes()).map_err(|error| invalid(format!("`csr`: {error}")))
}

fn invalid(message: String) -> Problem {
    Problem::new(ProblemCode::Invalid).because(message)
}

async fn wrong_method() -> Response {
    let reason = Problem::new(ProblemCode::Invalid).because(
        "a grant is redeemed and a certificate renewed with POST, and GET asks when to renew one",
    );
    let mut response = problem(&reason);
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response
}

fn problem(reason: &Problem) -> Response {
    let mut response = json(reason.error.status(), serde_json::to_vec(reason));
    if let Some(seconds) = reason.retry_after_seconds {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

fn json(status: StatusCode, body: serde_json::Result<Vec<u8>>) -> Response {
    // Structs of text and numbers can always be written.
    let mut response = Response::new(Body::from(body.unwrap_or_default()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Why the grant port could not be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GrantServerError {
    /// The system refused.
    #[error(
        "cannot listen for redemptions on {address}: {source}; free the port, or set `settings.grant-port` of the RouterAccess"
    )]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// Application protocol of the grant port (RFC 7301).
pub(super) const HTTP_ALPN: &[u8] = b"http/1.1";
