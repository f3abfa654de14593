//! The other end that records are sent to: one of several backends, over one HTTP/2 connection that is
//! made again whenever it must be. A name is resolved at each dialling and verified whatever it resolves to.
//!
//! A connection is used as long as it works. When it breaks, or when a credential was renewed, the next
//! call dials: the same backend first, then those after it in the order of the list. One that takes connections
//! but answers again and again that it cannot serve is left for the next. Whoever is not at the first of the list
//! looks from time to time whether that is back, without holding anything up.

mod authentication;
mod backend;
mod connection;
mod dial;
mod dice;
mod lookup;
mod pause;
mod plan;

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::{Bytes, BytesMut};
use handfast_tls::{Fault, FaultCode, Side};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header};
use hyper::body::Incoming;
use jiff::Timestamp;
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

pub use self::authentication::Authentication;
pub use self::backend::{Backend, BadBackend};
use self::connection::{Connection, Dialling, Line, Standing};
pub use self::dice::Dice;
pub use self::lookup::Lookup;
pub use self::pause::pause;
pub use self::plan::{Security, UpstreamPlan};
use crate::grpc::{Body, Code, Coding, Framing, MESSAGE_LIMIT, Messages, Status, encode};
use crate::remedy;

/// A clock: the moment that certificates are judged at.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The backends of a relay or a forwarder.
pub struct Upstream {
    plan: ArcSwap<Planned>,
    line: tokio::sync::Mutex<Line>,
    state: Mutex<State>,
    clock: Clock,
    dice: Dice,
    lookup: Lookup,
    tasks: TaskTracker,
}

/// A plan and which one it is, in one piece: what is dialled by an earlier plan must never pass for a later one's.
struct Planned {
    plan: Arc<UpstreamPlan>,
    /// Grows with each plan: a connection of an earlier one is not used any more.
    generation: u64,
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
    pub fn new(plan: UpstreamPlan, clock: Clock, dice: Dice) -> Self {
        Self {
            plan: ArcSwap::from_pointee(Planned { plan: Arc::new(plan), generation: 0 }),
            line: tokio::sync::Mutex::default(),
            state: Mutex::default(),
            clock,
            dice,
            lookup: lookup::of_the_system(),
            tasks: TaskTracker::new(),
        }
    }

    /// The same, with names that are looked up so.
    #[must_use]
    pub fn looking_up(self, lookup: Lookup) -> Self {
        Self { lookup, ..self }
    }

    /// From now on; what is under way ends over the connection it began on. A plan that says what the
    /// one before said changes nothing.
    pub fn set(&self, plan: UpstreamPlan) {
        // One after the other, if several are set at the same time.
        let _state = self.state();
        let before = self.plan.load_full();
        if before.plan.is(&plan) {
            return;
        }
        let generation = before.generation + 1;
        self.plan.store(Arc::new(Planned { plan: Arc::new(plan), generation }));
    }

    /// Grows with each plan.
    pub(crate) fn generation(&self) -> u64 {
        self.plan.load().generation
    }

    /// By the clock that it judges certificates with.
    pub(crate) fn now(&self) -> Timestamp {
        (self.clock)()
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
        let body = Body::Framed(Framing::of(messages.to_vec()));
        self.unary(path, &HeaderMap::new(), body).await
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
        self.unary(path, headers, Body::from(body.freeze())).await
    }

    async fn unary(&self, path: &str, headers: &HeaderMap, body: Body) -> Result<Bytes, Status> {
        let late = || {
            Status::new(
                Code::DeadlineExceeded,
                format!("the backend did not answer {path} within {} s", ANSWER.as_secs()),
            )
        };
        let mut standing = None;
        let exchange = async {
            let (response, connection) = self.send(path, headers, body).await?;
            standing = Some(connection.standing);
            read_answer(response).await
        };
        let outcome = timeout(ANSWER, exchange).await.map_err(|_| late()).flatten();
        if let Some(Standing { unable, .. }) = standing.as_deref() {
            match &outcome {
                Err(Status { code: Code::Unavailable | Code::DeadlineExceeded, .. }) => {
                    unable.fetch_add(1, Ordering::Relaxed);
                }
                _ => unable.store(0, Ordering::Relaxed),
            }
        }
        outcome
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
        self.send(path, headers, body).await.map(|(response, _)| response)
    }

    async fn send(
        &self,
        path: &str,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<(Response<Incoming>, Connection), Status> {
        let (mut connection, plan) = self.connected().await?;
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
            let (name, value) = token.header();
            sent.insert(name, value);
        }
        let error = match connection.sender.send_request(request).await {
            Ok(response) => {
                connection.standing.answered.store(true, Ordering::Relaxed);
                return Ok((response, connection));
            }
            Err(error) => error,
        };
        if !connection.standing.answered.load(Ordering::Relaxed) {
            // It took the connection and nothing else: the next one is tried first.
            self.state().next = connection.index + 1;
        }
        Err(if let Some(fault) = connection.ended.get() {
            self.not_connected(fault.clone())
        } else {
            let why = causes(&error);
            Status::new(Code::Unavailable, format!("the backend is lost: {why}"))
        })
    }

    /// The connection that works, or a new one; and the plan that it was made by.
    async fn connected(&self) -> Result<(Connection, Arc<UpstreamPlan>), Status> {
        // Whoever dials, the others wait for the same connection; and go by the plan of the time when it is their turn.
        let mut line = self.line.lock().await;
        let planned = self.plan.load_full();
        let Planned { plan, generation } = &*planned;
        let generation = *generation;
        let several = plan.backends.len() > 1;
        if let Some(open) = &line.open
            && open.generation == generation
            && !open.is_over()
            && !(several && open.is_unable())
        {
            if open.index > 0 {
                self.look_back(&mut line, &planned).await;
            }
            if let Some(open) = &line.open {
                return Ok((open.clone(), Arc::clone(plan)));
            }
        }
        line.looking = None;
        let Some(security) = &plan.security else {
            line.open = None;
            let fault = Fault::new(FaultCode::NoCertificate, Side::Ours, "upstream")
                .saying("there is no good credential to dial with, so nothing is sent");
            return Err(self.not_connected(fault));
        };
        let left =
            line.open.take().filter(|open| open.generation == generation && open.is_unable());
        let first = match left {
            Some(open) if several => open.index + 1,
            _ => self.state().next,
        };
        let dialling = self.dialling(&planned, security);
        let mut last = None;
        for attempt in 0..plan.backends.len() {
            let index = first.wrapping_add(attempt) % plan.backends.len();
            match dialling.dial(index).await {
                Ok(connection) => {
                    self.took(index, &plan.backends[index]);
                    return Ok((line.open.insert(connection).clone(), Arc::clone(plan)));
                }
                Err(fault) => last = Some(fault),
            }
        }
        let fault = last.unwrap_or_else(|| {
            Fault::new(FaultCode::Unreachable, Side::Ours, "upstream")
                .saying("no backend is configured")
        });
        self.state().next = first.wrapping_add(1);
        Err(self.not_connected(fault))
    }

    /// Goes back to a backend that is preferred to the connected one, once it is there again.
    async fn look_back(&self, line: &mut Line, planned: &Planned) {
        let plan = &planned.plan;
        let (Some(open), Some(security)) = (&mut line.open, &plan.security) else { return };
        match line.looking.take() {
            Some(looking) if looking.is_finished() => {
                if let Ok(Some(better)) = looking.await {
                    let index = better.index;
                    *open = better;
                    self.took(index, &plan.backends[index]);
                } else {
                    open.look = Instant::now() + self.patience();
                }
            }
            None if Instant::now() >= open.look => {
                let dialling = self.dialling(planned, security);
                line.looking = Some(tokio::spawn(dialling.better_than(open.index)));
            }
            looking => line.looking = looking,
        }
    }

    fn dialling(&self, planned: &Planned, security: &Security) -> Dialling {
        Dialling {
            plan: Arc::clone(&planned.plan),
            security: security.clone(),
            generation: planned.generation,
            now: (self.clock)(),
            lookup: Arc::clone(&self.lookup),
            tasks: self.tasks.clone(),
            patience: self.patience(),
        }
    }

    /// Between half of it and all.
    fn patience(&self) -> Duration {
        PATIENCE / 2 + PATIENCE / 2 * u32::from(self.dice.throw().to_le_bytes()[0]) / 256
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
        f.debug_struct("Upstream").field("plan", &self.plan.load().plan).finish_non_exhaustive()
    }
}

/// The one message of an answer.
async fn read_answer(response: Response<Incoming>) -> Result<Bytes, Status> {
    let (parts, body) = response.into_parts();
    if let Some(status) = Status::read(&parts.headers) {
        return if status.code == Code::Ok { Ok(Bytes::new()) } else { Err(status) };
    }
    if !parts.status.is_success() || !says_grpc(&parts.headers) {
        return Err(Status::of_http(parts.status));
    }
    let coding = Coding::of(&parts.headers)?;
    let mut messages = Messages::new(body, coding, MESSAGE_LIMIT, ANSWER);
    let mut answers = Vec::with_capacity(1);
    while messages.next(&mut answers).await? {}
    match messages.trailers().and_then(Status::read) {
        Some(Status { code: Code::Ok, .. }) => Ok(answers.pop().unwrap_or_default()),
        Some(status) => Err(status),
        // It may have been taken or not, and somebody in between keeps us from knowing.
        None => Err(Status::new(
            Code::Unavailable,
            "the answer has no status: what stands in between does not pass trailers on",
        )),
    }
}

fn says_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    kind.starts_with(b"application/grpc")
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
                | "authorization"
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

/// A backend that is not the first of the list is kept so long before it is looked whether one before it is
/// there; up to half of it is left to chance, so that a thousand relays do not come back at once.
const PATIENCE: Duration = Duration::from_secs(120);

/// A call is answered within this time.
const ANSWER: Duration = Duration::from_secs(30);

const USER_AGENT: &str = concat!("handfast/", env!("CARGO_PKG_VERSION"));
