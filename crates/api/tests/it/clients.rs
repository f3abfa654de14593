//! What the tests share: a node that answers with known values, a granter, raw connections.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use handfast_api::access::{Caller, Target};
use handfast_api::admin::{
    Action, AdminSocket, AuditSearch, AuthorityStatus, ExportAudit, ExportPage, FindIssued, Held,
    InstallAuthorities, InstalledAuthorities, IssueCertificate, IssueToken, IssuedCertificate,
    IssuedToken, IssuedView, KeysProtected, Node, PendingApproval, Permit, PolicyListing,
    PolicyVerdict, ProtectKeys, RecordExport, RecordedExport, RedeemToken, RedeemedToken, Refusal,
    RefusalCode, Renew, Renewal, RenewalOutcome, Renewals, RequestAuthorities,
    RequestedAuthorities, Revoke, Revoked, RevokedCertificate, RollBack, Rotate, Taint, TestPolicy,
    VerifyAudit,
};
use handfast_api::audit::{AuditRowView, VerificationView};
use handfast_api::grants::{
    GrantLimits, GrantServer, Granter, HintReply, HintWhy, LinkOffer, Problem, ProblemCode,
    RedemptionReply, RedemptionRequest, RenewalRequest, SuggestedWindow,
};
use handfast_api::secret::Secret;
use handfast_api::serve::Limits;
use handfast_api::status::{
    ConnectorStatus, CredentialSource, CredentialState, CredentialStatus, CredentialSummary,
    EdgeState, Faults, LinkDirection, LinkState, LinkStatus, ListenerStatus, NodeState, NodeStatus,
};
use handfast_api::telemetry::{AsideChoice, AsideDealt, Rollout, RolloutQuestion, StationView};
use handfast_store::Applicant;
use handfast_telemetry::forward::Forwarder;
use handfast_telemetry::keep::KeepReader;
use handfast_testkit::authority::TestAuthority;
use handfast_tls::{ClientAuth, Fault, Peer, ServerOptions};
use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::rustls::ServerConfig;
use tokio_util::sync::CancellationToken;

/// The moment of every test.
pub(crate) fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().expect("a timestamp")
}

/// Long enough for a busy machine; reaching it fails the test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A server that is stopped and awaited at the end of a test.
pub(crate) struct Running {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    pub(crate) fn new<F: Future<Output = ()> + Send + 'static>(
        serve: impl FnOnce(CancellationToken) -> F,
    ) -> Self {
        let stop = CancellationToken::new();
        Self { task: tokio::spawn(serve(stop.clone())), stop }
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        timeout(PATIENCE, self.task).await.expect("the server stops").expect("without a panic");
    }
}

/// A node whose answers can be recognised.
#[derive(Default)]
pub(crate) struct FakeNode {
    pub(crate) calls: AtomicUsize,
    pub(crate) asked: Mutex<Vec<(String, Action)>>,
}

impl Node for FakeNode {
    async fn authorize(
        &self,
        caller: &Caller,
        action: Action,
        _targets: &[Target],
    ) -> Result<Permit, Refusal> {
        self.asked.lock().expect("no panic under it").push((caller.actor(), action));
        Ok(Permit::Alone)
    }

    fn now(&self) -> Timestamp {
        now()
    }

    async fn hold(&self, _held: Held) -> Result<PendingApproval, Refusal> {
        Err(Refusal::new(RefusalCode::NotReady, "nothing is held here", "do it alone"))
    }

    async fn approvals(&self) -> Vec<PendingApproval> {
        Vec::new()
    }

    async fn approve(&self, _second: &Caller, _id: &str) -> Result<Held, Refusal> {
        Err(Refusal::new(RefusalCode::NotFound, "nothing waits", "see what waits"))
    }

    async fn policies(&self) -> PolicyListing {
        PolicyListing::default()
    }

    async fn test_policy(&self, _request: TestPolicy) -> Result<PolicyVerdict, Refusal> {
        Err(Refusal::new(RefusalCode::NotReady, "there are no policies here", "ask a node"))
    }

    async fn status(&self) -> NodeStatus {
        NodeStatus {
            site: Some("west".to_owned()),
            trust_domain: Some("demo.example".to_owned()),
            version: "0.1.0".to_owned(),
            pid: 42,
            home: "/home".to_owned(),
            started_at: now(),
            state: NodeState::Ready,
            accesses: Vec::new(),
            links: self.links().await.expect("links"),
            listeners: self.listeners().await.expect("listeners"),
            connectors: self.connectors().await.expect("connectors"),
            network_unknown: None,
            credentials: CredentialSummary::of(&[credential()]),
            problems: Vec::new(),
        }
    }

    async fn links(&self) -> Result<Vec<LinkStatus>, Refusal> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        Ok(vec![LinkStatus {
            name: "west".to_owned(),
            direction: LinkDirection::Outgoing,
            state: LinkState::Up,
            endpoint: "127.0.0.1:55671".to_owned(),
            remote_site: Some("west".to_owned()),
            cost: 1,
            since: Some(now()),
            peer: None,
            session: None,
            connections: 3,
            bytes_in: 1,
            bytes_out: 2,
            fault: None,
        }])
    }

    async fn listeners(&self) -> Result<Vec<ListenerStatus>, Refusal> {
        Ok(vec![ListenerStatus {
            name: "payments".to_owned(),
            routing_key: "payments".to_owned(),
            host: "127.0.0.1".to_owned(),
            port: 9090,
            bind: Some("127.0.0.1:9090".to_owned()),
            state: EdgeState::Ready,
            has_matching_connector: true,
            connections_open: 0,
            connections_total: 7,
            bytes_in: 0,
            bytes_out: 0,
            fault: None,
        }])
    }

    async fn connectors(&self) -> Result<Vec<ConnectorStatus>, Refusal> {
        Ok(Vec::new())
    }

    async fn stations(&self) -> Vec<StationView> {
        Vec::new()
    }

    async fn rollout(&self, _question: RolloutQuestion) -> Rollout {
        Rollout::default()
    }

    async fn kept(&self) -> Vec<KeepReader> {
        Vec::new()
    }

    async fn forwarder(&self, station: &str) -> Result<Arc<Forwarder>, Refusal> {
        Err(Refusal::new(RefusalCode::NotFound, format!("no {station}"), "declare one"))
    }

    async fn retry_aside(&self, _: &Caller, _: AsideChoice) -> Result<AsideDealt, Refusal> {
        Ok(AsideDealt::default())
    }

    async fn drop_aside(&self, _: &Caller, _: AsideChoice) -> Result<AsideDealt, Refusal> {
        Ok(AsideDealt::default())
    }

    async fn credentials(&self) -> Result<Vec<CredentialStatus>, Refusal> {
        Ok(vec![credential()])
    }

    async fn issued(&self, _search: FindIssued) -> Result<Vec<IssuedView>, Refusal> {
        Ok(Vec::new())
    }

    async fn audit_rows(&self, _search: AuditSearch) -> Result<Vec<AuditRowView>, Refusal> {
        Ok(Vec::new())
    }

    async fn export_audit(&self, _question: ExportAudit) -> Result<ExportPage, Refusal> {
        Ok(ExportPage::default())
    }

    async fn verify_audit(&self, _question: VerifyAudit) -> Result<VerificationView, Refusal> {
        Err(Refusal::new(RefusalCode::Internal, "there is no log here", "look elsewhere"))
    }

    async fn authorities(&self) -> Result<Vec<AuthorityStatus>, Refusal> {
        Ok(Vec::new())
    }

    async fn rotate(&self, _: &Caller, _: Rotate) -> Result<AuthorityStatus, Refusal> {
        Err(no_authority())
    }

    async fn taint(&self, _: &Caller, _: Taint) -> Result<AuthorityStatus, Refusal> {
        Err(no_authority())
    }

    async fn roll_back(&self, _: &Caller, _: RollBack) -> Result<AuthorityStatus, Refusal> {
        Err(no_authority())
    }

    async fn faults(&self) -> Faults {
        Faults::default()
    }

    async fn issue_certificate(
        &self,
        _caller: &Caller,
        _request: IssueCertificate,
    ) -> Result<IssuedCertificate, Refusal> {
        Err(Refusal::new(RefusalCode::NotGranted, "not today", "ask tomorrow"))
    }

    async fn record_export(
        &self,
        _caller: &Caller,
        _request: RecordExport,
    ) -> Result<RecordedExport, Refusal> {
        Err(Refusal::new(RefusalCode::Internal, "not on record", "make room"))
    }

    async fn issue_token(
        &self,
        _caller: &Caller,
        request: IssueToken,
    ) -> Result<IssuedToken, Refusal> {
        Ok(IssuedToken {
            name: request.name.unwrap_or_else(|| "token-1".to_owned()),
            url: "https://127.0.0.1:55672/v1/grants/abc".to_owned(),
            code: Secret::new("0123456789abcdefghijklmn"),
            ca: "pem".to_owned(),
            link_cost: request.cost.unwrap_or(1),
            redemptions_allowed: request.redemptions_allowed.unwrap_or(1),
            expiration_time: now(),
            agent: None,
        })
    }

    async fn redeem_token(
        &self,
        _caller: &Caller,
        _request: RedeemToken,
    ) -> Result<RedeemedToken, Refusal> {
        Err(Refusal::new(RefusalCode::RefusedByPeer, "west says: spent", "ask for a new token"))
    }

    async fn protect_keys(&self, _: &Caller, _: ProtectKeys) -> Result<KeysProtected, Refusal> {
        Ok(KeysProtected { changed: vec!["handfast-site-ca".to_owned()], unchanged: 2 })
    }

    async fn request_authorities(
        &self,
        _: &Caller,
        _: RequestAuthorities,
    ) -> Result<RequestedAuthorities, Refusal> {
        Ok(RequestedAuthorities::default())
    }

    async fn install_authorities(
        &self,
        _: &Caller,
        _: InstallAuthorities,
    ) -> Result<InstalledAuthorities, Refusal> {
        Ok(InstalledAuthorities::default())
    }

    async fn renew(&self, _caller: &Caller, request: Renew) -> Result<Renewals, Refusal> {
        let renewals = request.names.into_iter().map(|name| Renewal {
            name,
            outcome: RenewalOutcome::Renewed,
            old_serial: None,
            credential: Some(credential()),
            message: None,
        });
        Ok(Renewals { renewals: renewals.collect() })
    }

    async fn revocations(&self) -> Result<Vec<RevokedCertificate>, Refusal> {
        Ok(Vec::new())
    }

    async fn revoke(&self, _caller: &Caller, _request: Revoke) -> Result<Revoked, Refusal> {
        Err(Refusal::new(RefusalCode::NotFound, "nothing was issued", "look"))
    }
}

pub(crate) fn credential() -> CredentialStatus {
    CredentialStatus {
        name: "handfast-site-server".to_owned(),
        identity: Some("spiffe://demo.example/site/west".to_owned()),
        serial: Some("5a".to_owned()),
        issuer: None,
        not_before: Some(now()),
        not_after: Some(now()),
        renew_at: None,
        source: CredentialSource::Managed,
        state: CredentialState::Valid,
        key: None,
        failures: 0,
        last_error: None,
    }
}

/// Serves a [`FakeNode`] on `socket`.
pub(crate) async fn serve_admin(socket: &Path, limits: Limits) -> Running {
    let socket = AdminSocket::bind(socket).await.expect("bound");
    Running::new(|stop| socket.serve_within(Arc::new(FakeNode::default()), limits, stop))
}

/// A granter with one grant, `good`, that accepts the code [`CODE`] from site `east`.
#[derive(Default)]
pub(crate) struct FakeGranter {
    pub(crate) redeemed: AtomicUsize,
    pub(crate) hints: AtomicUsize,
    pub(crate) refusals: Mutex<Vec<Fault>>,
}

pub(crate) const CODE: &str = "0123456789abcdefghijklmn";

impl Granter for FakeGranter {
    async fn redeem(&self, request: RedemptionRequest) -> Result<RedemptionReply, Problem> {
        let refuse = |code| Err(Problem::new(code));
        match request.grant.as_ref() {
            "good" if request.code.reveal() != CODE => refuse(ProblemCode::WrongCode),
            "good" if request.applicant != Applicant::Site("east".parse().expect("a name")) => {
                refuse(ProblemCode::Refused)
            }
            "good" => {
                self.redeemed.fetch_add(1, Ordering::Relaxed);
                Ok(RedemptionReply {
                    certificate: request.csr.to_pem(),
                    ca: "ca".to_owned(),
                    port_ca: None,
                    links: vec![LinkOffer {
                        name: None,
                        host: "127.0.0.1".to_owned(),
                        port: 55671,
                        role: "inter-router".to_owned(),
                        cost: 1,
                    }],
                    trust_domain: "demo.example".to_owned(),
                    site: "west".to_owned(),
                })
            }
            "late" => refuse(ProblemCode::Expired),
            "used" => refuse(ProblemCode::Spent),
            _ => refuse(ProblemCode::Unknown),
        }
    }

    async fn renew(&self, request: RenewalRequest) -> Result<RedemptionReply, Problem> {
        let identity = request.peer.identity.map(|identity| identity.to_string());
        Ok(RedemptionReply {
            certificate: request.csr.to_pem(),
            ca: "ca".to_owned(),
            port_ca: Some("port".to_owned()),
            links: Vec::new(),
            trust_domain: "demo.example".to_owned(),
            site: identity.unwrap_or_default(),
        })
    }

    async fn hint(&self, peer: Peer) -> Result<HintReply, Problem> {
        self.hints.fetch_add(1, Ordering::Relaxed);
        Ok(HintReply {
            suggested_window: SuggestedWindow { start: peer.not_before, end: peer.not_after },
            why: HintWhy::Rotation,
            retry_after_seconds: 7,
        })
    }

    fn now(&self) -> Timestamp {
        now()
    }

    fn refused(&self, _from: SocketAddr, fault: Fault) {
        self.refusals.lock().expect("no panic under it").push(fault);
    }
}

/// A grant port at work.
pub(crate) struct GrantPort {
    pub(crate) address: SocketAddr,
    pub(crate) granter: Arc<FakeGranter>,
    pub(crate) server: Running,
}

impl GrantPort {
    pub(crate) async fn start(authority: &TestAuthority, limits: GrantLimits) -> Self {
        let config = server_config(authority);
        Self::start_with(move || Some(Arc::clone(&config)), limits).await
    }

    pub(crate) async fn start_with(
        tls: impl Fn() -> Option<Arc<ServerConfig>> + Send + Sync + 'static,
        limits: GrantLimits,
    ) -> Self {
        let loopback = "127.0.0.1:0".parse().expect("an address");
        let server = GrantServer::bind(loopback, limits).await.expect("bound");
        let address = server.local_addr().expect("an address");
        let granter = Arc::new(FakeGranter::default());
        let for_server = Arc::clone(&granter);
        let server = Running::new(|stop| server.serve(for_server, tls, stop));
        Self { address, granter, server }
    }

    pub(crate) fn url(&self, grant: &str) -> String {
        format!("https://{}/v1/grants/{grant}", self.address)
    }
}

pub(crate) fn server_config(authority: &TestAuthority) -> Arc<ServerConfig> {
    let options = ServerOptions {
        alpn: vec![b"http/1.1".to_vec()],
        client_auth: ClientAuth::None,
        ..ServerOptions::default()
    };
    handfast_tls::server_config(&authority.server("west", &["127.0.0.1"]), &options)
        .expect("a configuration")
}

/// Limits short enough to be waited for, and long enough for a busy machine to do in time what is
/// expected to be done in time.
pub(crate) fn hasty() -> Limits {
    Limits {
        handshake: Duration::from_secs(2),
        header: Duration::from_secs(2),
        body: Duration::from_secs(1),
        lifetime: Duration::from_secs(8),
        drain: Duration::from_secs(1),
        ..Limits::GRANTS
    }
}

/// Everything until the end of the stream (or its reset), which must come.
pub(crate) async fn read_to_end<S: AsyncRead + Unpin>(stream: &mut S) -> Vec<u8> {
    let mut received = Vec::new();
    // How it ends is not the point: a reset or a missing close_notify is an end too.
    timeout(PATIENCE, stream.read_to_end(&mut received)).await.expect("the server closes").ok();
    received
}

/// The status code of an HTTP/1.1 answer.
pub(crate) fn status_of(answer: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(answer.get(..12)?).ok()?;
    text.strip_prefix("HTTP/1.1 ")?.parse().ok()
}

fn no_authority() -> Refusal {
    Refusal::new(RefusalCode::NotFound, "no such authority", "look at `handfast ca status`")
}
