//! Commands that talk to a node, against a stub that serves the real admin socket with prepared answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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
use handfast_api::secret::Secret;
use handfast_api::status::{
    ConnectorStatus, CredentialStatus, CredentialSummary, EdgeState, FaultSide, FaultView, Faults,
    LinkDirection, LinkState, LinkStatus, ListenerStatus, NodeState, NodeStatus, PeerView,
    ProblemSeverity, ProblemView, SessionView,
};
use handfast_api::telemetry::{AsideChoice, AsideDealt, Rollout, RolloutQuestion, StationView};
use handfast_telemetry::forward::Forwarder;
use handfast_telemetry::keep::KeepReader;
use handfast_testkit::authority::TestAuthority;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::desk::{Desk, Ran, mode};

/// What the stub answers.
#[derive(Clone, Default)]
struct Stub {
    links: Vec<LinkStatus>,
    listeners: Vec<ListenerStatus>,
    /// Why it does not know how its links are.
    network_unknown: Option<String>,
    /// How often it still answers that it knows no listener.
    unaware: Arc<AtomicUsize>,
    faults: Faults,
    /// How often it still tells of its faults, if not for ever.
    mended: Option<Arc<AtomicUsize>>,
    token: Option<Result<IssuedToken, Refusal>>,
    redeemed: Option<Result<RedeemedToken, Refusal>>,
    renewals: Renewals,
}

impl Node for Stub {
    async fn status(&self) -> NodeStatus {
        NodeStatus {
            site: Some("west".into()),
            trust_domain: Some("demo.example".into()),
            version: "1.2.3".into(),
            pid: 7,
            home: "/h".into(),
            started_at: Timestamp::UNIX_EPOCH,
            state: NodeState::Ready,
            accesses: Vec::new(),
            links: self.links.clone(),
            listeners: self.listeners.clone(),
            connectors: Vec::new(),
            network_unknown: self.network_unknown.clone(),
            credentials: CredentialSummary::default(),
            problems: self.faults.problems.clone(),
        }
    }

    async fn links(&self) -> Result<Vec<LinkStatus>, Refusal> {
        match &self.network_unknown {
            None => Ok(self.links.clone()),
            Some(unknown) => Err(Refusal::new(RefusalCode::TimedOut, unknown.clone(), "ask again")),
        }
    }

    async fn listeners(&self) -> Result<Vec<ListenerStatus>, Refusal> {
        let less = |left: usize| left.checked_sub(1);
        if self.unaware.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok() {
            return Ok(Vec::new());
        }
        Ok(self.listeners.clone())
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
        Ok(Vec::new())
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
        let less = |left: usize| left.checked_sub(1);
        let mended = self.mended.as_ref().is_some_and(|left| {
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_err()
        });
        if mended { Faults::default() } else { self.faults.clone() }
    }

    async fn authorize(
        &self,
        _caller: &Caller,
        _action: Action,
        _targets: &[Target],
    ) -> Result<Permit, Refusal> {
        Ok(Permit::Alone)
    }

    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    async fn hold(&self, _held: Held) -> Result<PendingApproval, Refusal> {
        panic!("nothing needs a second person here")
    }

    async fn approvals(&self) -> Vec<PendingApproval> {
        Vec::new()
    }

    async fn approve(&self, _second: &Caller, _id: &str) -> Result<Held, Refusal> {
        panic!("nothing waits here")
    }

    async fn policies(&self) -> PolicyListing {
        PolicyListing::default()
    }

    async fn test_policy(&self, _request: TestPolicy) -> Result<PolicyVerdict, Refusal> {
        panic!("there are no policies here")
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
        Err(Refusal::new(RefusalCode::Internal, "the disk is full", "make room"))
    }

    async fn issue_token(
        &self,
        _caller: &Caller,
        _request: IssueToken,
    ) -> Result<IssuedToken, Refusal> {
        self.token.clone().expect("an answer is prepared")
    }

    async fn redeem_token(
        &self,
        _caller: &Caller,
        _request: RedeemToken,
    ) -> Result<RedeemedToken, Refusal> {
        self.redeemed.clone().expect("an answer is prepared")
    }

    async fn protect_keys(&self, _: &Caller, _: ProtectKeys) -> Result<KeysProtected, Refusal> {
        Ok(KeysProtected { changed: Vec::new(), unchanged: 3 })
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

    async fn renew(&self, _caller: &Caller, _request: Renew) -> Result<Renewals, Refusal> {
        Ok(self.renewals.clone())
    }

    async fn revocations(&self) -> Result<Vec<RevokedCertificate>, Refusal> {
        Ok(Vec::new())
    }

    async fn revoke(&self, _caller: &Caller, _request: Revoke) -> Result<Revoked, Refusal> {
        Err(Refusal::new(RefusalCode::NotFound, "nothing was issued", "look"))
    }
}

/// Types one command while the stub serves the home `h`.
fn run(desk: &Desk, stub: Stub, line: &str) -> Ran {
    std::fs::create_dir_all(desk.path("h/runtime")).expect("a directory");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let socket = AdminSocket::bind(&desk.path("h/runtime/admin.sock")).await.expect("a socket");
        let stop = CancellationToken::new();
        let served = tokio::spawn(socket.serve(Arc::new(stub), stop.clone()));
        let ran = tokio::task::block_in_place(|| desk.run(&format!("--home h {line}")));
        stop.cancel();
        served.await.expect("the stub ends");
        ran
    })
}

fn fault(code: &str) -> FaultView {
    FaultView {
        code: code.into(),
        side: FaultSide::Peer,
        place: "link west, connecting to 127.0.0.1:55671".into(),
        message: "the certificate's issuer is not trusted".into(),
        evidence: Vec::new(),
        remedy: "compare the CAs".into(),
    }
}

fn link(state: LinkState) -> LinkStatus {
    LinkStatus {
        name: "west".into(),
        direction: LinkDirection::Outgoing,
        state,
        endpoint: "127.0.0.1:55671".into(),
        remote_site: Some("west".into()),
        cost: 1,
        since: None,
        peer: Some(PeerView {
            identity: Some("spiffe://demo.example/site/west".into()),
            serial: "00ff".into(),
            fingerprint: "AA:BB".into(),
            ..PeerView::default()
        }),
        session: Some(SessionView {
            version: "TLSv1.3".into(),
            cipher: "TLS_AES_256_GCM_SHA384".into(),
            group: "X25519MLKEM768".into(),
            ..SessionView::default()
        }),
        connections: 1,
        bytes_in: 2048,
        bytes_out: 10,
        fault: None,
    }
}

fn issued() -> IssuedToken {
    // Any valid CA does.
    let authority = TestAuthority::new("demo.example", Timestamp::UNIX_EPOCH);
    IssuedToken {
        name: "token-1".into(),
        url: "https://127.0.0.1:55672/v1/grants/token-1".into(),
        code: Secret::new("a-code-that-nobody-may-see"),
        ca: authority.anchors().to_pem(),
        link_cost: 3,
        redemptions_allowed: 2,
        expiration_time: Timestamp::UNIX_EPOCH,
        agent: None,
    }
}

#[test]
fn what_is_not_known_is_not_shown_as_down_or_absent() {
    let desk = Desk::new();
    let unknown = "the data plane has not answered for 5 s".to_owned();
    let stub = Stub { network_unknown: Some(unknown.clone()), ..Stub::default() };
    let said = run(&desk, stub.clone(), "status");
    assert!(said.stdout.contains(&format!("Not known: {unknown}.")), "{said:#?}");
    assert!(said.stdout.contains("link access   not known"), "{said:#?}");
    let ran = run(&desk, stub.clone(), "link status");
    assert_eq!(ran.code, 7, "{ran:#?}");
    assert!(ran.stderr.contains(&unknown) && !ran.stdout.contains("link"), "{ran:#?}");
    let checked = run(&desk, stub, "check");
    assert!(checked.stdout.contains(&format!("is not known: {unknown}")), "{checked:#?}");
    assert!(!checked.stdout.contains("there is no link"), "{checked:#?}");
}

#[test]
fn links_are_a_table_and_one_link_is_shown_in_full() {
    let desk = Desk::new();
    let stub = Stub { links: vec![link(LinkState::Up)], ..Stub::default() };
    let ran = run(&desk, stub.clone(), "link status");
    assert_eq!(
        ran.stdout,
        "NAME  DIRECTION  STATE  COST  PEER                             PROTECTION              IN        OUT\n\
         west  outgoing   up     1     spiffe://demo.example/site/west  TLSv1.3 X25519MLKEM768  2.00 KiB  10 B\n"
    );
    let full = run(&desk, stub.clone(), "link status west");
    for word in ["X25519MLKEM768", "AA:BB", "00ff", "127.0.0.1:55671"] {
        assert!(full.stdout.contains(word), "{full:#?}");
    }
    let other = run(&desk, stub.clone(), "link status north");
    assert_eq!(other.code, 11, "{other:#?}");
    assert_eq!(other.stderr, "error: the node has no link `north`\n  why  it has: west\n");
    let mistyped = run(&desk, stub, "link status wets");
    assert!(mistyped.stderr.contains("to do  did you mean `west`?"), "{mistyped:#?}");
}

#[test]
fn a_link_that_is_down_says_why() {
    let down = LinkStatus { fault: Some(fault("unknown-issuer")), ..link(LinkState::Down) };
    let ran = run(&Desk::new(), Stub { links: vec![down], ..Stub::default() }, "link status");
    assert_eq!(ran.code, 0);
    assert!(
        ran.stdout.contains("[unknown-issuer]") && ran.stdout.contains("compare the CAs"),
        "{ran:#?}"
    );
}

#[test]
fn a_token_is_a_private_file_and_its_code_is_printed_nowhere() {
    let desk = Desk::new();
    let stub = Stub { token: Some(Ok(issued())), ..Stub::default() };
    for (file, format) in [("a.token", "text"), ("b.token", "json"), ("c.token", "yaml")] {
        let ran = run(&desk, stub.clone(), &format!("token issue {file} -o {format}"));
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:#?}");
        assert!(!ran.stdout.contains("a-code-that"), "{ran:#?}");
        let text = desk.read(file);
        assert!(
            text.contains("kind: AccessToken") && text.contains("a-code-that-nobody-may-see"),
            "{text}"
        );
        assert_eq!(mode(&desk.path(file)), 0o600);
    }
}

#[test]
fn a_refused_token_exits_with_5_and_says_what_to_do() {
    let desk = Desk::new();
    let issue = Stub { token: Some(Ok(issued())), ..Stub::default() };
    assert_eq!(run(&desk, issue, "token issue west.token").code, 0);
    let refusal =
        Refusal::new(RefusalCode::RefusedByPeer, "the token is spent", "ask for a new one");
    let stub = Stub { redeemed: Some(Err(refusal)), ..Stub::default() };
    let ran = run(&desk, stub, "token redeem west.token");
    assert_eq!(ran.code, 5, "{ran:#?}");
    assert_eq!(
        ran.stderr,
        "error: the token west.token was not redeemed\n  why    the token is spent\n  to do  ask for a new one\n"
    );
}

#[test]
fn a_node_that_cannot_issue_leaves_no_file() {
    let desk = Desk::new();
    let refusal = Refusal::new(RefusalCode::NotReady, "this site has no link access", "declare it");
    let ran =
        run(&desk, Stub { token: Some(Err(refusal)), ..Stub::default() }, "token issue west.token");
    assert_eq!(ran.code, 1, "{ran:#?}");
    assert!(ran.stderr.contains("no link access"), "{ran:#?}");
    assert!(!desk.path("west.token").exists());
}

#[test]
fn a_listener_on_a_port_in_use_exits_with_8_and_stays_declared() {
    let desk = Desk::new();
    let ran = run(
        &desk,
        Stub { listeners: vec![on_a_port_in_use()], ..Stub::default() },
        "listener create payments 9090",
    );
    assert_eq!(ran.code, 8, "{ran:#?}");
    assert!(ran.stderr.contains("the port is in use [port-in-use]"), "{ran:#?}");
    assert!(desk.path("h/input/resources/Listener-payments.yaml").exists());
}

/// A turn of the node may fall between the two questions: the port's code is what counts.
#[test]
fn a_port_in_use_that_becomes_known_while_the_node_is_asked_exits_with_8_too() {
    let problem = ProblemView {
        severity: ProblemSeverity::Error,
        subject: "Listener/payments".into(),
        file: None,
        line: None,
        message: "the port is in use".into(),
        remedy: "free it".into(),
    };
    let stub = Stub {
        listeners: vec![on_a_port_in_use()],
        unaware: Arc::new(AtomicUsize::new(1)),
        faults: Faults { problems: vec![problem], refusals: Vec::new() },
        ..Stub::default()
    };
    let ran = run(&Desk::new(), stub, "listener create payments 9090");
    assert_eq!(ran.code, 8, "{ran:#?}");
}

fn on_a_port_in_use() -> ListenerStatus {
    ListenerStatus {
        name: "payments".into(),
        routing_key: "payments".into(),
        host: "127.0.0.1".into(),
        port: 9090,
        bind: None,
        state: EdgeState::Failed,
        has_matching_connector: false,
        connections_open: 0,
        connections_total: 0,
        bytes_in: 0,
        bytes_out: 0,
        fault: Some(FaultView { message: "the port is in use".into(), ..fault("port-in-use") }),
    }
}

#[test]
fn a_resource_the_node_cannot_use_exits_with_3() {
    let problem = ProblemView {
        severity: ProblemSeverity::Error,
        subject: "Listener/payments".into(),
        file: Some("/h/x.yaml".into()),
        line: Some(4),
        message: "`host` is no host".into(),
        remedy: "write an address".into(),
    };
    let faults = Faults { problems: vec![problem], refusals: Vec::new() };
    let ran =
        run(&Desk::new(), Stub { faults, ..Stub::default() }, "listener create payments 9090");
    assert_eq!(ran.code, 3, "{ran:#?}");
    assert_eq!(
        ran.stderr,
        "error: the node cannot use Listener/payments\n  where  /h/x.yaml:4\n  why    `host` is no host\n  \
         to do  write an address\n"
    );
}

#[test]
fn a_node_that_does_not_take_a_listener_up_in_time_exits_with_7() {
    let desk = Desk::new();
    let ran = run(&desk, Stub::default(), "listener create payments 9090 --timeout 1s");
    assert_eq!(ran.code, 7, "{ran:#?}");
    assert!(
        ran.stderr.contains("within 1 s") && ran.stderr.contains("handfast --home h status"),
        "{ran:#?}"
    );
}

#[test]
fn deleting_waits_until_the_node_has_let_go() {
    let desk = Desk::new();
    assert_eq!(desk.run("--home h listener create payments 9090").code, 0);
    let ran = run(&desk, Stub::default(), "listener delete payments");
    assert_eq!(ran.code, 0, "{ran:#?}");
    assert!(ran.stdout.contains("stopped serving it"), "{ran:#?}");
}

/// What was wrong with it is still known until the node has looked again.
#[test]
fn deleting_what_cannot_be_used_waits_until_nothing_is_said_of_it() {
    let problem = ProblemView {
        severity: ProblemSeverity::Error,
        subject: "Listener/payments".into(),
        file: None,
        line: None,
        message: "`host` is no host".into(),
        remedy: "write an address".into(),
    };
    let faults = Faults { problems: vec![problem], refusals: Vec::new() };
    for (told, code) in [(3, 0), (usize::MAX, 3)] {
        let desk = Desk::new();
        assert_eq!(desk.run("--home h listener create payments 9090").code, 0);
        let mended = Arc::new(AtomicUsize::new(told));
        let stub =
            Stub { faults: faults.clone(), mended: Some(Arc::clone(&mended)), ..Stub::default() };
        let ran = run(&desk, stub, "listener delete payments --timeout 2s");
        assert_eq!(ran.code, code, "{ran:#?}");
        assert!(mended.load(Ordering::Relaxed) != told, "it was asked");
    }
}

#[test]
fn renewals_that_fail_are_told_one_by_one() {
    let renewal = |name: &str, outcome, message: Option<&str>| Renewal {
        name: name.into(),
        outcome,
        old_serial: Some("01".into()),
        credential: None,
        message: message.map(Into::into),
    };
    let renewals = Renewals {
        renewals: vec![
            renewal("a", RenewalOutcome::Renewed, None),
            renewal("b", RenewalOutcome::Failed, Some("the link is down")),
        ],
    };
    let ran = run(&Desk::new(), Stub { renewals, ..Stub::default() }, "cert renew --all");
    assert_eq!(ran.code, 1, "{ran:#?}");
    assert!(ran.stdout.contains("renewed") && ran.stdout.contains("failed"), "{ran:#?}");
    assert!(
        ran.stderr.starts_with(
            "error: 1 of 2 credentials were not renewed\n  why    b: the link is down\n"
        ),
        "{ran:#?}"
    );
}

#[test]
fn status_is_one_page_and_one_document() {
    let desk = Desk::new();
    let stub = Stub { links: vec![link(LinkState::Up)], ..Stub::default() };
    let page = run(&desk, stub.clone(), "status");
    assert_eq!(page.code, 0, "{page:#?}");
    for word in ["west", "demo.example", "ready", "Links", "TLSv1.3"] {
        assert!(page.stdout.contains(word), "{page:#?}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&run(&desk, stub, "status -o json").stdout).expect("JSON");
    assert_eq!((&json["site"], &json["state"]), (&"west".into(), &"ready".into()));
    assert!(json["refusals"].is_array() && json["links"].is_array(), "{json}");
}

#[test]
fn a_socket_left_by_a_killed_node_is_no_node() {
    let desk = Desk::new();
    std::fs::create_dir_all(desk.path("h/runtime")).expect("a directory");
    drop(
        std::os::unix::net::UnixListener::bind(desk.path("h/runtime/admin.sock"))
            .expect("a socket"),
    );
    let ran = desk.run("--home h status");
    assert_eq!(ran.code, 4, "{ran:#?}");
}

fn no_authority() -> Refusal {
    Refusal::new(RefusalCode::NotFound, "no such authority", "look at `handfast ca status`")
}
