//! The other end that records are sent to: one of several backends, over one HTTP/2 connection that is
//! made again whenever it must be. A name is resolved at each dialling and verified whatever it resolves to.
//!
//! A connection is used as long as it works. When it breaks, or when a credential was renewed, the next
//! call dials: the same backend first after a renewal, the next one after a failure.

mod backend;
mod dial;
mod pause;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::{Bytes, BytesMut};
use handfast_tls::{Fault, FaultCode, Side};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use jiff::Timestamp;
use rustls::ClientConfig;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

pub use self::backend::{Backend, BadBackend};
pub use self::pause::pause;
use crate::grpc::{Body, Code, Coding, MESSAGE_LIMIT, Messages, Status, encode};
use crate::remedy;

/// How a backend is spoken to.
#[derive(Clone)]
pub enum Security {
    /// In the clear: only where that was asked for.
    Plaintext,
    /// TLS, with a certificate of ours or without one; the configuration says.
    Tls {
        /// Made by `handfast-tls`.
        config: Arc<ClientConfig>,
        /// The name to verify instead of the dialled one: behind a link, a backend is dialled at a
        /// listener of the site.
        server_name: Option<String>,
    },
}

impl fmt::Debug for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plaintext => f.write_str("Plaintext"),
            Self::Tls { server_name, .. } => {
                f.debug_struct("Tls").field("server_name", server_name).finish_non_exhaustive()
            }
        }
    }
}

/// Where to, and how.
#[derive(Clone)]
pub struct UpstreamPlan {
    /// The value of `authentication` in every call, if the backend asks for a token.
    pub authentication: Option<HeaderValue>,
    /// In the order of preference.
    pub backends: Vec<Backend>,
    /// How they are spoken to; `None` while there is no good credential: then nothing is sent.
    pub security: Option<Security>,
}

impl UpstreamPlan {
    /// Whether it is the same, with the very same configuration of TLS.
    fn is(&self, other: &Self) -> bool {
        let same_security = match (&self.security, &other.security) {
            (None, None) | (Some(Security::Plaintext), Some(Security::Plaintext)) => true,
            (
                Some(Security::Tls { config, server_name }),
                Some(Security::Tls { config: other, server_name: name }),
            ) => Arc::ptr_eq(config, other) && server_name == name,
            _ => false,
        };
        same_security
            && self.backends == other.backends
            && self.authentication == other.authentication
    }
}

impl fmt::Debug for UpstreamPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = self.authentication.as_ref().map(|_| "<redacted>");
        f.debug_struct("UpstreamPlan")
            .field("authentication", &token)
            .field("backends", &self.backends)
            .field("security", &self.security)
            .finish()
    }
}

/// A clock: the moment that certificates are judged at.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The backends of a relay or a forwarder.
pub struct Upstream {
    plan: ArcSwap<UpstreamPlan>,
    /// Grows with each plan: a connection of an earlier one is not used any more.
    generation: AtomicU64,
    connection: tokio::sync::Mutex<Option<Connection>>,
    state: Mutex<State>,
    clock: Clock,
    tasks: TaskTracker,
}

#[derive(Clone)]
struct Connection {
    sender: SendRequest<Body>,
    ended: dial::Ended,
    generation: u64,
    scheme: &'static str,
    authority: String,
}

#[derive(Clone, Default)]
struct State {
    /// Which backend is tried next.
    next: usize,
    connected: Option<Backend>,
    fault: Option<Fault>,
    since: Option<Timestamp>,
    dialled: u64,
}

/// What an upstream is up to, for tables and metrics.
#[derive(Clone, Debug)]
pub struct UpstreamStatus {
    /// The backend that is connected, if one is.
    pub connected: Option<Backend>,
    /// Connections that were made since the start.
    pub dialled: u64,
    /// Why the last dialling failed, while nothing is connected.
    pub fault: Option<Fault>,
    /// Since when it is so.
    pub since: Option<Timestamp>,
}

impl Upstream {
    /// Dials nobody yet.
    pub fn new(plan: UpstreamPlan, clock: Clock) -> Self {
        Self {
            plan: ArcSwap::from_pointee(plan),
            generation: AtomicU64::new(0),
            connection: tokio::sync::Mutex::new(None),
            state: Mutex::default(),
            clock,
            tasks: TaskTracker::new(),
        }
    }

    /// From now on; what is under way ends over the connection it began on. A plan that says what the
    /// one before said changes nothing.
    pub fn set(&self, plan: UpstreamPlan) {
        if self.plan.load().is(&plan) {
            return;
        }
        self.plan.store(Arc::new(plan));
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// What it is up to.
    pub fn status(&self) -> UpstreamStatus {
        let State { connected, fault, since, dialled, .. } = self.state().clone();
        UpstreamStatus { connected, dialled, fault, since }
    }

    /// Sends messages in one call, streaming or unary, and waits for its one answer.
    ///
    /// # Errors
    /// The status of the call, or `UNAVAILABLE` with the fault if nobody could be asked.
    pub async fn call(&self, path: &str, messages: &[Bytes]) -> Result<Bytes, Status> {
        let mut body = BytesMut::with_capacity(messages.iter().map(|m| m.len() + 5).sum());
        for message in messages {
            encode(message, &mut body);
        }
        self.unary(path, &HeaderMap::new(), body.freeze()).await
    }

    /// Passes a unary call through with its headers.
    ///
    /// # Errors
    /// As for [`call`](Self::call).
    pub async fn ask(
        &self,
        path: &str,
        headers: &HeaderMap,
        message: &[u8],
    ) -> Result<Bytes, Status> {
        let mut body = BytesMut::new();
        encode(message, &mut body);
        self.unary(path, headers, body.freeze()).await
    }

    async fn unary(&self, path: &str, headers: &HeaderMap, body: Bytes) -> Result<Bytes, Status> {
        let late = || {
            Status::new(
                Code::DeadlineExceeded,
                format!("the backend did not answer {path} within {} s", ANSWER.as_secs()),
            )
        };
        let exchange = async {
            let response = self.request(path, headers, Body::from(body)).await?;
            let (parts, body) = response.into_parts();
            if let Some(status) = Status::read(&parts.headers) {
                return if status.code == Code::Ok { Ok(Bytes::new()) } else { Err(status) };
            }
            if !parts.status.is_success() {
                return Err(Status::of_http(parts.status));
            }
            let coding = Coding::of(&parts.headers)?;
            let mut messages = Messages::new(body, coding, MESSAGE_LIMIT, ANSWER);
            let mut answers = Vec::with_capacity(1);
            while messages.next(&mut answers).await? {}
            match messages.trailers().and_then(Status::read) {
                Some(Status { code: Code::Ok, .. }) => Ok(answers.pop().unwrap_or_default()),
                Some(status) => Err(status),
                None => Err(Status::new(Code::Unknown, "the backend's answer has no status")),
            }
        };
        timeout(ANSWER, exchange).await.map_err(|_| late())?
    }

    /// Sends one request of HTTP/2 with a body of any kind, and gives back the answer as it begins.
    ///
    /// # Errors
    /// `UNAVAILABLE` if nobody could be asked.
    pub async fn request(
        &self,
        path: &str,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Response<Incoming>, Status> {
        let plan = self.plan.load_full();
        let mut connection = self.connected(&plan).await?;
        let Connection { scheme, authority, .. } = &connection;
        let uri = Uri::builder()
            .scheme(*scheme)
            .authority(authority.as_str())
            .path_and_query(path)
            .build();
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri.map_err(|error| {
            Status::new(Code::Internal, format!("{path} cannot be asked for: {error}"))
        })?;
        let sent = request.headers_mut();
        copy_headers(headers, sent);
        sent.entry(header::CONTENT_TYPE)
            .or_insert_with(|| HeaderValue::from_static("application/grpc"));
        sent.insert(header::TE, HeaderValue::from_static("trailers"));
        sent.entry(header::USER_AGENT).or_insert_with(|| HeaderValue::from_static(USER_AGENT));
        if let Some(token) = &plan.authentication {
            sent.insert("authentication", token.clone());
        }
        connection.sender.send_request(request).await.map_err(|error| {
            if let Some(fault) = connection.ended.get() {
                return self.not_connected(fault.clone());
            }
            let why = causes(&error);
            Status::new(Code::Unavailable, format!("the backend is lost: {why}"))
        })
    }

    /// The connection that works, or a new one.
    async fn connected(&self, plan: &UpstreamPlan) -> Result<Connection, Status> {
        let generation = self.generation.load(Ordering::Acquire);
        // Whoever dials, the others wait for the same connection.
        let mut current = self.connection.lock().await;
        if let Some(open) = &*current
            && open.generation == generation
            && !open.sender.is_closed()
        {
            return Ok(open.clone());
        }
        *current = None;
        let Some(security) = &plan.security else {
            let fault = Fault::new(FaultCode::NoCertificate, Side::Ours, "upstream")
                .saying("there is no good credential to dial with, so nothing is sent");
            return Err(self.not_connected(fault));
        };
        let first = self.state().next;
        let mut last = None;
        for attempt in 0..plan.backends.len() {
            let index = (first + attempt) % plan.backends.len();
            let backend = &plan.backends[index];
            // Rare, and large: not to be carried by every call.
            match Box::pin(dial::dial(backend, security, (self.clock)(), &self.tasks)).await {
                Ok(dial::Dialled { sender, ended }) => {
                    self.took(index, backend);
                    let scheme = match security {
                        Security::Plaintext => "http",
                        Security::Tls { .. } => "https",
                    };
                    let authority = match security {
                        Security::Tls { server_name: Some(name), .. } => backend.renamed(name),
                        _ => backend.to_string(),
                    };
                    let open = Connection { sender, ended, generation, scheme, authority };
                    return Ok(current.insert(open).clone());
                }
                Err(fault) => {
                    tracing::debug!(%backend, fault = %fault.one_line(), "not reached");
                    last = Some(fault);
                }
            }
        }
        let fault = last.unwrap_or_else(|| {
            Fault::new(FaultCode::Unreachable, Side::Ours, "upstream")
                .saying("no backend is configured")
        });
        self.state().next = first.wrapping_add(1);
        Err(self.not_connected(fault))
    }

    fn took(&self, index: usize, backend: &Backend) {
        let now = (self.clock)();
        let mut state = self.state();
        if state.fault.take().is_some() || state.connected.as_ref() != Some(backend) {
            tracing::info!(%backend, "connected");
            state.since = Some(now);
        }
        state.next = index;
        state.connected = Some(backend.clone());
        state.dialled += 1;
    }

    fn not_connected(&self, fault: Fault) -> Status {
        let fault = remedy::towards_backend(fault);
        let now = (self.clock)();
        let status = Status::new(Code::Unavailable, fault.one_line());
        let mut state = self.state();
        if state.fault.as_ref().is_none_or(|known| known.code() != fault.code()) {
            tracing::warn!(fault = %fault.one_line(), "no backend can be reached");
            state.since = Some(now);
        }
        state.connected = None;
        state.fault = Some(fault);
        status
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("plan", &self.plan.load()).finish_non_exhaustive()
    }
}

/// What came with a call, without what belongs to the connection it came by, and without the token of
/// whoever sent it: that was for us.
pub(crate) fn copy_headers(from: &HeaderMap, into: &mut HeaderMap) {
    for (name, value) in from {
        let of_the_connection = matches!(
            name.as_str(),
            "connection"
                | "keep-alive"
                | "proxy-connection"
                | "transfer-encoding"
                | "upgrade"
                | "te"
                | "host"
                | "content-length"
                | "authentication"
        );
        if !of_the_connection {
            into.append(name.clone(), value.clone());
        }
    }
}

/// An error with what caused it: hyper says the useful part last.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// A call is answered within this time.
const ANSWER: Duration = Duration::from_secs(30);

const USER_AGENT: &str = concat!("handfast/", env!("CARGO_PKG_VERSION"));
