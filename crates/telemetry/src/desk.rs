//! The desk behind the ports: every call of every caller comes here, is told apart, judged, counted, and
//! ends in records for the sink, a question passed on, or a refusal with its reason.

mod ask;
mod blame;
mod dialogue;
mod foreign_report;
mod health;
mod http_report;
mod onward;
mod repeats;
mod report;
mod stream_quota;
mod unknown;

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use handfast_tls::{Fault, FaultCode, Side};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use jiff::Timestamp;

use self::health::Health;
use self::repeats::Repeats;
use crate::caller::{Caller, Identity};
use crate::census::{Census, Refusal};
use crate::counts::Counts;
use crate::grpc::{Body, Code, Flaw, Status, failed, is_grpc};
use crate::protocol::method::{Handling, Method, Shape};
use crate::protocol::sw8;
use crate::quota::{Quota, Usage};
use crate::record::RecordKind;
use crate::remedy;
use crate::rules::{Claimed, Rules};
use crate::sink::Sink;
use crate::upstream::Clock;

/// What may be reported, by whom, and how much. Replaced as a whole while calls go on.
#[derive(Clone, Default)]
pub struct DeskPlan {
    /// The token that every call has to bring (`authentication: TOKEN`, or `authorization: Bearer TOKEN` as clients of
    /// OpenTelemetry do), if one is asked for.
    pub authentication: Option<Arc<str>>,
    /// Per caller.
    pub quota: Quota,
    /// Who may speak for whom.
    pub rules: Rules,
    /// Whether headers that carry somebody's trace context are taken off what is passed on.
    pub strip_trace_context: bool,
}

impl fmt::Debug for DeskPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeskPlan")
            .field("authentication", &self.authentication.as_ref().map(|_| "<redacted>"))
            .field("quota", &self.quota)
            .field("rules", &self.rules)
            .field("strip_trace_context", &self.strip_trace_context)
            .finish()
    }
}

/// Something that belongs into the audit log.
#[derive(Clone, Debug)]
pub struct Denial {
    /// When.
    pub at: Timestamp,
    /// Who claimed it: an identity or an address.
    pub caller: String,
    /// The instance it claimed to be.
    pub instance: String,
    /// In which message.
    pub kind: RecordKind,
    /// The service it claimed to be.
    pub service: String,
}

/// Told of denials, without waiting: a caller who is refused a million times must not hold up anybody.
pub type Witness = Arc<dyn Fn(Denial) + Send + Sync>;

/// Where all calls come.
pub struct Desk {
    name: Arc<str>,
    plan: ArcSwap<DeskPlan>,
    usage: Mutex<Usage>,
    sink: Arc<dyn Sink>,
    counts: Counts,
    census: Census,
    health: Health,
    repeats: Repeats,
    clock: Clock,
    witness: Witness,
    start: Instant,
}

impl Desk {
    /// A desk in front of `sink`. Its name stands in faults and logs.
    pub fn new(
        name: &str,
        plan: DeskPlan,
        sink: Arc<dyn Sink>,
        clock: Clock,
        witness: Witness,
    ) -> Self {
        Self {
            name: name.into(),
            usage: Mutex::new(Usage::new(plan.quota)),
            plan: ArcSwap::from_pointee(plan),
            sink,
            counts: Counts::default(),
            census: Census::default(),
            health: Health::default(),
            repeats: Repeats::default(),
            clock,
            witness,
            start: Instant::now(),
        }
    }

    /// From now on; streams that are open follow at their next message.
    pub fn set(&self, plan: DeskPlan) {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner).set(plan.quota);
        self.plan.store(Arc::new(plan));
    }

    /// What was counted.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Says to whoever watches that this ends.
    pub(crate) fn stop(&self) {
        self.health.stop();
    }

    /// Who was heard.
    pub fn census(&self) -> &Census {
        &self.census
    }

    /// Answers a call.
    pub(crate) async fn answer(
        self: &Arc<Self>,
        request: Request<Incoming>,
        caller: &Arc<Caller>,
    ) -> Response<Body> {
        if let Some(refusal) = self.too_many_headers(&request, caller) {
            return refusal;
        }
        if !is_grpc(&request) {
            return http_report::answer(self, request, caller).await;
        }
        if let Err(status) = self.admit(&request) {
            self.blame(caller, blame::known(request.uri().path()), &status);
            return failed(&status);
        }
        let Some(method) = Method::at(request.uri().path()) else {
            return unknown::pass(self, request, caller).await;
        };
        let answer = match method.handling {
            Handling::Health => return health::answer(self, request, caller).await,
            Handling::Collection(_) | Handling::Report(_) => {
                report::report(self, method, request, caller).await
            }
            Handling::Ask if method.shape == Shape::Unary => {
                ask::ask(self, method, request, caller).await
            }
            Handling::Ask => return dialogue::pass(self, method, request, caller).await,
        };
        match answer {
            Ok(message) => crate::grpc::message(&message),
            Err(status) => {
                tracing::debug!(path = method.path, caller = %caller.name(), %status, "refused");
                self.blame(caller, method.path, &status);
                failed(&status)
            }
        }
    }

    /// Notes a handshake that came to nothing.
    pub(crate) fn refused_handshake(&self, port: &str, from: SocketAddr, fault: &Fault) {
        self.counts.handshake_refused(fault.code());
        let now = self.now();
        let fault = remedy::at_port(fault.clone());
        match self.repeats.note(&from.ip().to_string(), fault.code().as_str(), now) {
            None => {}
            Some(1) => tracing::info!(port, peer = %from, fault = %fault.one_line(), "refused"),
            Some(times) => {
                tracing::info!(port, peer = %from, times, fault = %fault.one_line(), "refused again");
            }
        }
        // The port that it came from is another one each time.
        let from = from.ip().to_string();
        self.census.refused(Refusal::new(now, fault, from, port));
    }

    /// Notes that a connection could not be accepted. Whoever uses up what it takes can have that happen all day.
    pub(crate) fn not_accepted(&self, port: &str, error: &std::io::Error) {
        if let Some(times) = self.repeats.note(port, "not-accepted", self.now()) {
            tracing::warn!(port, %error, times, "a connection cannot be accepted");
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// The token, where one is asked for.
    fn admit<B>(&self, request: &Request<B>) -> Result<(), Status> {
        let plan = self.plan.load();
        let Some(expected) = &plan.authentication else { return Ok(()) };
        let brought = |name: &str| request.headers().get(name).map_or(&b""[..], |v| v.as_bytes());
        let bearer = brought("authorization").strip_prefix(b"Bearer ").unwrap_or_default();
        if same(expected.as_bytes(), brought("authentication")) | same(expected.as_bytes(), bearer)
        {
            return Ok(());
        }
        Err(Status::new(
            Code::PermissionDenied,
            "the token is missing or wrong: set `SW_AGENT_AUTHENTICATION` at the agent to the token of this collector",
        )
        .flawed(Flaw::WrongToken))
    }

    /// Calls of methods whose messages cannot be looked into are passed on for whoever is known here: a
    /// foreign certificate without any rule about it may not reach what lies behind.
    fn may_pass(&self, caller: &Caller) -> Result<(), Status> {
        match &caller.identity {
            Identity::Anonymous => Ok(()),
            _ if self.plan.load().rules.knows(caller) => Ok(()),
            _ => Err(Status::new(
                Code::PermissionDenied,
                format!("wrong-identity: {} may not call this collector", caller.name()),
            )),
        }
    }

    /// Whether `caller` may ask for somebody.
    fn judge_question(&self, caller: &Caller, claim: Claimed<'_>) -> Result<(), Status> {
        self.judge(caller, RecordKind::InstancePing, claim)
    }

    /// Whether `caller` may speak for whom a message claims to come from.
    fn judge(&self, caller: &Caller, kind: RecordKind, claim: Claimed<'_>) -> Result<(), Status> {
        let allowed = match self.plan.load().rules.judge(caller, claim) {
            Ok(()) => return self.sink.refuses(claim.service).map_or(Ok(()), Err),
            Err(allowed) => allowed,
        };
        self.counts.refused(kind);
        let claimed = if claim.instance.is_empty() {
            claim.service.to_owned()
        } else {
            format!("{} ({})", claim.service, claim.instance)
        };
        let fault = Fault::new(FaultCode::WrongIdentity, Side::Peer, format!("collector {}", self.name))
            .saying(format!("{} reported as {claimed}", caller.name()))
            .with("claimed-service", claim.service)
            .with("claimed-instance", claim.instance)
            .with("may-report-as", allowed.to_string())
            .remedied_by(
                "give the agent the certificate of its service, or bind the identity to the service under `identities` of the Collector",
            );
        let said = format!("{}; {}", fault.one_line(), fault.remedy());
        let status = Status::new(Code::PermissionDenied, said);
        let at = self.now();
        self.census.refused(Refusal::new(at, fault, caller.name(), kind.as_str()));
        (self.witness)(Denial {
            at,
            caller: caller.name(),
            instance: claim.instance.to_owned(),
            kind,
            service: claim.service.to_owned(),
        });
        Err(status)
    }

    fn strip<B>(&self, request: &mut Request<B>) {
        if self.plan.load().strip_trace_context {
            sw8::strip(request.headers_mut());
        }
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Compares in a time that does not tell where the difference is.
fn same(expected: &[u8], brought: &[u8]) -> bool {
    let differences = expected.iter().zip(brought).fold(0, |all, (a, b)| all | (a ^ b));
    expected.len() == brought.len() && differences == 0
}

/// What a call over HTTP is answered when there is nothing to say.
fn plain(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(bytes::Bytes::from(text)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}
