//! Calling a node's admin API, for the command line and tests.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use handfast_tls::Fault;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::approval::{Approve, Approved, PendingApproval};
use super::ca::{AuthorityStatus, RollBack, Rotate, Taint};
use super::ceremony::{
    InstallAuthorities, InstalledAuthorities, KeysProtected, ProtectKeys, RequestAuthorities,
    RequestedAuthorities,
};
use super::export::{RecordExport, RecordedExport};
use super::issue::{IssueCertificate, IssuedCertificate};
use super::message::{
    IssueToken, IssuedToken, RedeemToken, RedeemedToken, Refusal, Renew, Renewals,
};
use super::policy::{PolicyListing, PolicyVerdict, TestPolicy};
use super::remote::Remote;
use super::revoke::{Revoke, Revoked, RevokedCertificate};
use super::socket::LONGEST_PATH;
use crate::exchange::{ExchangeError, exchange};
use crate::status::{
    ConnectorStatus, CredentialStatus, Faults, LinkStatus, ListenerStatus, NodeStatus,
};
use crate::telemetry::{
    AsideChoice, AsideDealt, AsideLine, AsideRecord, AsideSearch, AsideWanted, EndpointView,
    EventLine, EventSearch, InstanceView, LogLine, LogSearch, MetricSearch, MetricView,
    NewestMetric, NewestSearch, OfService, Rollout, RolloutQuestion, ServiceView, StationView,
    Trace, TraceLine, TraceSearch, TraceWanted,
};

/// Calls one node. Every call is a connection of its own.
#[derive(Clone, Debug)]
pub struct Client {
    way: Way,
    /// The socket, or the URL: what messages name.
    place: PathBuf,
    timeout: Duration,
    slow: Option<fn(&Path, Duration)>,
}

/// How a node is reached.
#[derive(Clone, Debug)]
enum Way {
    /// Over its admin port.
    Port(Box<Remote>),
    /// Over its admin socket.
    Socket,
}

impl Client {
    /// A client for the node at `socket`, which need not be there yet. Reading calls may take 10 s,
    /// acting ones 120 s.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { way: Way::Socket, place: socket.into(), timeout: ACTING, slow: None }
    }

    /// A client for the node at an admin port.
    pub fn remote(remote: Remote) -> Self {
        let place = PathBuf::from(remote.node.to_string());
        Self { way: Way::Port(Box::new(remote)), place, timeout: ACTING, slow: None }
    }

    /// The same with another bound for acting calls (`--timeout`).
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The same with somebody who is told when nothing was answered for [`Client::QUIET`]: where, and how long it is waited for
    /// in all. So nobody sits before a node that hangs, and wonders.
    #[must_use]
    pub fn telling(mut self, slow: fn(&Path, Duration)) -> Self {
        self.slow = Some(slow);
        self
    }

    /// For how long an answer may be out before somebody is told.
    pub const QUIET: Duration = Duration::from_secs(5);

    /// Where the node is looked for: its socket, or its URL.
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// What waits for a second person.
    pub async fn approvals(&self) -> Result<Vec<PendingApproval>, ClientError> {
        self.read("/v1/approvals").await
    }

    /// Approves what somebody else asked for.
    pub async fn approve(&self, request: &Approve) -> Result<Approved, ClientError> {
        self.act("/v1/approvals", request).await
    }

    /// The policies in force.
    pub async fn policies(&self) -> Result<PolicyListing, ClientError> {
        self.read("/v1/policies").await
    }

    /// What the policies in force say of a case.
    pub async fn test_policy(&self, case: &TestPolicy) -> Result<PolicyVerdict, ClientError> {
        self.find("/v1/policies/test", case).await
    }

    /// The node at one glance.
    pub async fn status(&self) -> Result<NodeStatus, ClientError> {
        self.read("/v1/status").await
    }

    /// Links in both directions.
    pub async fn links(&self) -> Result<Vec<LinkStatus>, ClientError> {
        self.read("/v1/links").await
    }

    /// Listeners.
    pub async fn listeners(&self) -> Result<Vec<ListenerStatus>, ClientError> {
        self.read("/v1/listeners").await
    }

    /// Connectors.
    pub async fn connectors(&self) -> Result<Vec<ConnectorStatus>, ClientError> {
        self.read("/v1/connectors").await
    }

    /// Collectors and relays.
    pub async fn stations(&self) -> Result<Vec<StationView>, ClientError> {
        self.read("/v1/telemetry").await
    }

    /// Who reports to them, and who was refused.
    pub async fn rollout(&self, question: RolloutQuestion) -> Result<Rollout, ClientError> {
        self.find("/v1/telemetry/reporters", &question.pairs()).await
    }

    /// The services that reported something.
    pub async fn services(&self) -> Result<Vec<ServiceView>, ClientError> {
        self.read("/v1/services").await
    }

    /// The instances of a service.
    pub async fn instances(&self, of: &OfService) -> Result<Vec<InstanceView>, ClientError> {
        self.find("/v1/instances", of).await
    }

    /// The endpoints of a service.
    pub async fn endpoints(&self, of: &OfService) -> Result<Vec<EndpointView>, ClientError> {
        self.find("/v1/endpoints", of).await
    }

    /// Traces that are wanted.
    pub async fn traces(&self, search: &TraceSearch) -> Result<Vec<TraceLine>, ClientError> {
        self.find("/v1/traces", &search.pairs()).await
    }

    /// One trace, whole.
    pub async fn trace(&self, wanted: &TraceWanted) -> Result<Trace, ClientError> {
        self.find("/v1/trace", wanted).await
    }

    /// Lines of log that are wanted.
    pub async fn logs(&self, search: &LogSearch) -> Result<Vec<LogLine>, ClientError> {
        self.find("/v1/logs", &search.pairs()).await
    }

    /// Events that are wanted.
    pub async fn events(&self, search: &EventSearch) -> Result<Vec<EventLine>, ClientError> {
        self.find("/v1/events", search).await
    }

    /// Values of metrics that are wanted.
    pub async fn metrics(&self, search: &MetricSearch) -> Result<Vec<MetricView>, ClientError> {
        self.find("/v1/metrics", search).await
    }

    /// The newest values of metrics that are wanted.
    pub async fn newest(&self, search: &NewestSearch) -> Result<Vec<NewestMetric>, ClientError> {
        self.find("/v1/metrics/newest", search).await
    }

    /// What a backend refused for good.
    pub async fn aside(&self, search: &AsideSearch) -> Result<Vec<AsideLine>, ClientError> {
        self.find("/v1/aside", &search.pairs()).await
    }

    /// One record of it.
    pub async fn aside_record(&self, wanted: &AsideWanted) -> Result<AsideRecord, ClientError> {
        self.find("/v1/aside/record", wanted).await
    }

    /// Sends it again.
    pub async fn retry_aside(&self, choice: &AsideChoice) -> Result<AsideDealt, ClientError> {
        self.act("/v1/aside/retries", choice).await
    }

    /// Throws it away.
    pub async fn drop_aside(&self, choice: &AsideChoice) -> Result<AsideDealt, ClientError> {
        self.act("/v1/aside/drops", choice).await
    }

    /// Credentials.
    pub async fn credentials(&self) -> Result<Vec<CredentialStatus>, ClientError> {
        self.read("/v1/credentials").await
    }

    /// The authorities of the site, and their rotations.
    pub async fn authorities(&self) -> Result<Vec<AuthorityStatus>, ClientError> {
        self.read("/v1/authorities").await
    }

    /// Begins to rotate an authority, or makes a rotation urgent.
    pub async fn rotate(&self, request: &Rotate) -> Result<AuthorityStatus, ClientError> {
        self.act("/v1/rotations", request).await
    }

    /// Rotates an authority whose key is in the wrong hands.
    pub async fn taint(&self, request: &Taint) -> Result<AuthorityStatus, ClientError> {
        self.act("/v1/taints", request).await
    }

    /// Takes a rotation back.
    pub async fn roll_back(&self, request: &RollBack) -> Result<AuthorityStatus, ClientError> {
        self.act("/v1/rollbacks", request).await
    }

    /// What is wrong, and who was refused.
    pub async fn faults(&self) -> Result<Faults, ClientError> {
        self.read("/v1/faults").await
    }

    /// Issues a certificate for the holder of a key.
    pub async fn issue_certificate(
        &self,
        request: &IssueCertificate,
    ) -> Result<IssuedCertificate, ClientError> {
        self.act("/v1/certificates", request).await
    }

    /// Records that parts of a credential are taken out of the home.
    pub async fn record_export(
        &self,
        request: &RecordExport,
    ) -> Result<RecordedExport, ClientError> {
        self.act("/v1/exports", request).await
    }

    /// Makes an access grant and the token for it.
    pub async fn issue_token(&self, request: &IssueToken) -> Result<IssuedToken, ClientError> {
        self.act("/v1/tokens", request).await
    }

    /// Redeems another site's token.
    pub async fn redeem_token(&self, request: &RedeemToken) -> Result<RedeemedToken, ClientError> {
        self.act("/v1/redemptions", request).await
    }

    /// Has the keys on disk encrypted, or not any more.
    pub async fn protect_keys(&self, request: &ProtectKeys) -> Result<KeysProtected, ClientError> {
        self.act("/v1/authorities/protection", request).await
    }

    /// Makes requests for certificates of authorities, to be signed elsewhere.
    pub async fn request_authorities(
        &self,
        request: &RequestAuthorities,
    ) -> Result<RequestedAuthorities, ClientError> {
        self.act("/v1/authorities/requests", request).await
    }

    /// Puts certificates of authorities to use that were signed elsewhere.
    pub async fn install_authorities(
        &self,
        request: &InstallAuthorities,
    ) -> Result<InstalledAuthorities, ClientError> {
        self.act("/v1/authorities/certificates", request).await
    }

    /// Renews credentials now.
    pub async fn renew(&self, request: &Renew) -> Result<Renewals, ClientError> {
        self.act("/v1/renewals", request).await
    }

    /// Everything that the node knows to be revoked.
    pub async fn revocations(&self) -> Result<Vec<RevokedCertificate>, ClientError> {
        self.read("/v1/revocations").await
    }

    /// Revokes certificates.
    pub async fn revoke(&self, request: &Revoke) -> Result<Revoked, ClientError> {
        self.act("/v1/revocations", request).await
    }

    async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call(Method::GET, path, Bytes::new(), READING.min(self.timeout)).await
    }

    pub(super) async fn find<Q: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        query: &Q,
    ) -> Result<T, ClientError> {
        let query =
            serde_urlencoded::to_string(query).map_err(|error| self.odd(error.to_string()))?;
        self.read(&format!("{path}?{query}")).await
    }

    /// The same for what may take as long as acting does.
    pub(super) async fn find_slowly<Q: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        query: &Q,
    ) -> Result<T, ClientError> {
        let query =
            serde_urlencoded::to_string(query).map_err(|error| self.odd(error.to_string()))?;
        let path = format!("{path}?{query}");
        self.call(Method::GET, &path, Bytes::new(), self.timeout).await
    }

    async fn act<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| self.odd(error.to_string()))?;
        self.call(Method::POST, path, body.into(), self.timeout).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        bound: Duration,
    ) -> Result<T, ClientError> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.host())
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| self.odd(error.to_string()))?;
        let exchanged = async {
            match &self.way {
                Way::Port(remote) => {
                    let stream = remote.connect(bound).await?;
                    self.exchanged(stream, request).await
                }
                Way::Socket => self.exchanged(self.connect().await?, request).await,
            }
        };
        let mut answering = pin!(timeout(bound, exchanged));
        let answered = if let Ok(answered) = timeout(Self::QUIET, &mut answering).await {
            answered
        } else {
            if let Some(slow) = self.slow.filter(|_| bound > Self::QUIET) {
                slow(&self.place, bound);
            }
            answering.await
        };
        let (status, bytes) = answered.map_err(|_| ClientError::TimedOut {
            socket: self.place.clone(),
            seconds: bound.as_secs(),
        })??;
        if status == StatusCode::ACCEPTED {
            let pending: PendingApproval = serde_json::from_slice(&bytes)
                .map_err(|error| self.odd(format!("unexpected answer: {error}")))?;
            return Err(ClientError::Pending(Box::new(pending)));
        }
        if status.is_success() {
            return serde_json::from_slice(&bytes)
                .map_err(|error| self.odd(format!("unexpected answer: {error}")));
        }
        match serde_json::from_slice::<Refusal>(&bytes) {
            Ok(refusal) => Err(ClientError::Refused(Box::new(refusal))),
            Err(_) => Err(self.odd(format!("it answered with HTTP status {status}"))),
        }
    }

    async fn exchanged<S>(
        &self,
        stream: S,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), ClientError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let failed = |error: ExchangeError| match &self.way {
            // In TLS 1.3 a server's refusal of our certificate arrives with the first answer.
            Way::Port(remote) => match remote.fault_of(&error) {
                Some(fault) => ClientError::Tls(Box::new(fault)),
                None => self.odd(error.to_string()),
            },
            Way::Socket => self.odd(error.to_string()),
        };
        exchange(stream, request, ANSWER_BYTES).await.map_err(failed)
    }

    fn host(&self) -> String {
        match &self.way {
            Way::Port(remote) => remote.node.authority(),
            Way::Socket => "handfast".to_owned(),
        }
    }

    async fn connect(&self) -> Result<UnixStream, ClientError> {
        let socket = || self.place.clone();
        if self.place.as_os_str().len() > LONGEST_PATH {
            return Err(ClientError::PathTooLong { socket: socket() });
        }
        UnixStream::connect(&self.place).await.map_err(|source| match source.kind() {
            // Missing: never started, or stopped. Refused: killed, its socket file left behind. No directory: the
            // home that was named is a file.
            io::ErrorKind::NotFound
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::NotADirectory => ClientError::NoNode { socket: socket() },
            io::ErrorKind::PermissionDenied => ClientError::NotAllowed { socket: socket() },
            _ => ClientError::Connect { socket: socket(), source },
        })
    }

    fn odd(&self, reason: String) -> ClientError {
        ClientError::Odd { socket: self.place.clone(), reason }
    }
}

/// Why a call had no answer, or a refusal for one.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The socket is there and cannot be connected to.
    #[error(
        "cannot connect to the node at {socket}: {source}; check whether it is overloaded or stopped"
    )]
    Connect {
        /// Where.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The socket is missing, or nobody listens on it.
    #[error(
        "no node runs here (nobody answers on {socket}); start one with `handfast run`, or name its home with --home"
    )]
    NoNode {
        /// Where.
        socket: PathBuf,
    },
    /// The caller may not use the socket.
    #[error(
        "no permission to use {socket}; run the command as root or as the user that runs the node"
    )]
    NotAllowed {
        /// Where.
        socket: PathBuf,
    },
    /// The answer makes no sense.
    #[error(
        "the node at {socket} cannot be understood: {reason}; check that it runs the same version as this command"
    )]
    Odd {
        /// Where.
        socket: PathBuf,
        /// Why.
        reason: String,
    },
    /// The system takes no path of this length.
    #[error(
        "the path {socket} is too long for a Unix socket (more than 107 bytes); use a shorter --home"
    )]
    PathTooLong {
        /// Where.
        socket: PathBuf,
    },
    /// It waits for a second person, as the two-person rule wants.
    #[error(
        "{} asked for {} and somebody else has to approve it by {}; another operator types `handfast approve {}`",
        .0.requested_by, .0.action, .0.expires_at, .0.id
    )]
    Pending(Box<PendingApproval>),
    /// The node said no.
    #[error("{0}")]
    Refused(#[source] Box<Refusal>),
    /// The node cannot be reached, or one side does not trust the other.
    #[error("{0}")]
    Tls(#[source] Box<Fault>),
    /// No answer in time.
    #[error(
        "the node at {socket} did not answer within {seconds} s; see its log, or allow more time"
    )]
    TimedOut {
        /// Where.
        socket: PathBuf,
        /// The bound, in seconds.
        seconds: u64,
    },
}

/// Bound for calls that only read.
const READING: Duration = Duration::from_secs(10);

/// Bound for calls that act, which may talk to other sites.
const ACTING: Duration = Duration::from_secs(120);

/// Largest answer that is read, in bytes: status of some tens of thousands of links.
const ANSWER_BYTES: usize = 64 * 1024 * 1024;
