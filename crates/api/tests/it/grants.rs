//! Redeeming over real TLS, both ends ours.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use handfast_api::grants::{
    GrantLimits, HintQuestion, HintReply, HintWhy, ProblemCode, ProvedLimits, Rate, RedeemError,
    Redeeming, RedemptionReply, Renewing, ask_for_hint, redeem, renew,
};
use handfast_api::secret::Secret;
use handfast_pki::{Credential, Csr, IdentityKind, KeyAlgorithm, PrivateKey, Profile, Subject};
use handfast_store::Applicant;
use handfast_testkit::authority::TestAuthority;
use handfast_testkit::traffic::Nobody;
use handfast_tls::{Attempt, ClientAuth, ClientOptions, Clock, IdentityRule, ServerOptions};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::clients::{CODE, GrantPort, PATIENCE, now, server_config};

/// A site that redeems.
pub(crate) struct East {
    code: Secret,
    applicant: Applicant,
    csr: Csr,
}

impl East {
    pub(crate) fn new() -> Self {
        Self::named("east", CODE)
    }

    fn named(site: &str, code: &str) -> Self {
        let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).expect("a key");
        let subject = Subject {
            common_name: site.to_owned(),
            identity: None,
            dns: Vec::new(),
            ips: Vec::new(),
        };
        Self {
            code: Secret::new(code),
            applicant: Applicant::Site(site.parse().expect("a name")),
            csr: Csr::create(&key, &subject).expect("a request"),
        }
    }

    pub(crate) async fn redeem(&self, url: &str, ca: &str) -> Result<RedemptionReply, RedeemError> {
        redeem(Redeeming {
            url,
            code: &self.code,
            ca,
            applicant: &self.applicant,
            csr: &self.csr,
            now: now(),
            timeout: PATIENCE,
        })
        .await
    }
}

fn authority() -> TestAuthority {
    TestAuthority::new("demo.example", now())
}

fn refusal(result: Result<RedemptionReply, RedeemError>) -> ProblemCode {
    match result {
        Err(RedeemError::Refused { problem, .. }) => {
            assert!(!problem.message.is_empty() && !problem.remedy.is_empty());
            problem.error
        }
        other => panic!("not a refusal: {other:?}"),
    }
}

#[tokio::test]
async fn a_token_is_redeemed() {
    let authority = authority();
    let port = GrantPort::start(&authority, GrantLimits::default()).await;
    let east = East::new();
    let reply =
        east.redeem(&port.url("good"), &authority.anchors().to_pem()).await.expect("granted");
    assert_eq!(reply.certificate, east.csr.to_pem(), "the request came through whole");
    assert_eq!((reply.site.as_str(), reply.links[0].port), ("west", 55671));
    assert!(port.granter.refusals.lock().expect("unpoisoned").is_empty());
    port.server.stop().await;
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let authority = authority();
    let ca = authority.anchors().to_pem();
    let port = GrantPort::start(&authority, GrantLimits::default()).await;
    let east = East::new();
    for (grant, code) in [
        ("late", ProblemCode::Expired),
        ("used", ProblemCode::Spent),
        ("nothing", ProblemCode::Unknown),
        ("Not_A_Name", ProblemCode::Unknown),
    ] {
        assert_eq!(refusal(east.redeem(&port.url(grant), &ca).await), code, "{grant}");
    }
    let wrong = East::named("east", "another-code");
    assert_eq!(refusal(wrong.redeem(&port.url("good"), &ca).await), ProblemCode::WrongCode);
    let north = East::named("north", CODE);
    assert_eq!(refusal(north.redeem(&port.url("good"), &ca).await), ProblemCode::Refused);
    let elsewhere = format!("https://{}/other/path", port.address);
    assert_eq!(refusal(east.redeem(&elsewhere, &ca).await), ProblemCode::Unknown);
    assert_eq!(port.granter.redeemed.load(Ordering::Relaxed), 0);
    port.server.stop().await;
}

#[tokio::test]
async fn only_the_ca_of_the_token_and_the_host_of_its_url_count() {
    let authority = authority();
    let port = GrantPort::start(&authority, GrantLimits::default()).await;
    let east = East::new();

    let other_ca = TestAuthority::new("demo.example", now()).anchors().to_pem();
    let Err(RedeemError::Tls(fault)) = east.redeem(&port.url("good"), &other_ca).await else {
        panic!("a server of another CA was trusted")
    };
    assert_eq!(fault.code().to_string(), "unknown-issuer");

    // The certificate is for 127.0.0.1 only.
    let ca = authority.anchors().to_pem();
    let url = format!("https://localhost:{}/v1/grants/good", port.address.port());
    match east.redeem(&url, &ca).await {
        Err(RedeemError::Tls(fault)) => assert_eq!(fault.code().to_string(), "wrong-name"),
        // Where localhost is ::1 only, nobody listens.
        Err(RedeemError::Unreachable { .. }) => {}
        other => panic!("another host's certificate was trusted: {other:?}"),
    }

    for (url, ca) in [("http://127.0.0.1/g", ca.as_str()), ("https://127.0.0.1:1/g", "no PEM")] {
        let result = east.redeem(url, ca).await;
        assert!(matches!(result, Err(RedeemError::Url(_) | RedeemError::Ca { .. })), "{result:?}");
    }
    assert_eq!(port.granter.redeemed.load(Ordering::Relaxed), 0);
    port.server.stop().await;
}

#[tokio::test]
async fn an_unreachable_site_is_told_from_one_that_is_no_handfast() {
    let authority = authority();
    let ca = authority.anchors().to_pem();
    let east = East::new();

    let nobody = Nobody::listens();
    let address = nobody.address();
    let result = east.redeem(&format!("https://{address}/v1/grants/good"), &ca).await;
    assert!(matches!(result, Err(RedeemError::Unreachable { .. })), "{result:?}");

    // TLS is right, and what is inside is not: a redirect, then no HTTP at all.
    for answer in [
        "HTTP/1.1 302 Found\r\nlocation: https://evil.example/\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n{}  ",
        "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
        "220 mail.example ESMTP\r\n",
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        let config = server_config(&authority);
        let odd = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("a client");
            let acceptor = tokio_rustls::TlsAcceptor::from(config);
            let mut stream = acceptor.accept(stream).await.expect("a handshake");
            stream.write_all(answer.as_bytes()).await.expect("sent");
            crate::clients::read_to_end(&mut stream).await;
        });
        let result = east.redeem(&format!("https://{address}/v1/grants/good"), &ca).await;
        assert!(matches!(result, Err(RedeemError::Odd { .. })), "{answer}: {result:?}");
        odd.await.expect("no panic");
    }
}

#[tokio::test]
async fn a_renewed_certificate_is_used_by_the_next_connection_and_a_missing_one_answers_nobody() {
    let (first, second) = (authority(), authority());
    let current = Arc::new(Mutex::new(Some(server_config(&first))));
    let for_server = Arc::clone(&current);
    let port = GrantPort::start_with(
        move || for_server.lock().expect("unpoisoned").clone(),
        GrantLimits::default(),
    )
    .await;
    let east = East::new();
    let url = port.url("good");
    east.redeem(&url, &first.anchors().to_pem()).await.expect("the first one");
    *current.lock().expect("unpoisoned") = Some(server_config(&second));
    east.redeem(&url, &second.anchors().to_pem()).await.expect("the second one");
    assert!(east.redeem(&url, &first.anchors().to_pem()).await.is_err());
    *current.lock().expect("unpoisoned") = None;
    assert!(east.redeem(&url, &second.anchors().to_pem()).await.is_err(), "fails closed");
    port.server.stop().await;
}

#[tokio::test]
async fn one_address_cannot_ask_without_end() {
    let authority = authority();
    let ca = authority.anchors().to_pem();
    let slow = Rate { burst: 3, every: Duration::from_secs(3600) };
    let limits = GrantLimits { request_rate: slow, ..GrantLimits::default() };
    let port = GrantPort::start(&authority, limits).await;
    let guesser = East::named("east", "a guess");
    for _ in 0..3 {
        let code = refusal(guesser.redeem(&port.url("good"), &ca).await);
        assert_eq!(code, ProblemCode::WrongCode);
    }
    let Err(RedeemError::Refused { problem, .. }) = guesser.redeem(&port.url("good"), &ca).await
    else {
        panic!("not limited")
    };
    assert_eq!(problem.error, ProblemCode::TooMany);
    assert!(problem.retry_after_seconds.is_some_and(|wait| (3500..=3600).contains(&wait)));
    // The right code does not help either: nothing is tried while too many ask.
    assert_eq!(refusal(East::new().redeem(&port.url("good"), &ca).await), ProblemCode::TooMany);
    port.server.stop().await;

    // What is too many connections is closed before the handshake.
    let limits = GrantLimits { connection_rate: slow, ..GrantLimits::default() };
    let port = GrantPort::start(&authority, limits).await;
    let east = East::new();
    for _ in 0..3 {
        east.redeem(&port.url("good"), &ca).await.expect("granted");
    }
    let closed = east.redeem(&port.url("good"), &ca).await;
    assert!(matches!(closed, Err(RedeemError::Tls(_))), "{closed:?}");
    port.server.stop().await;
}

#[tokio::test]
async fn a_server_that_stops_closes_its_port() {
    let authority = authority();
    let port = GrantPort::start(&authority, GrantLimits::default()).await;
    let east = East::new();
    let reply = east.redeem(&port.url("good"), &authority.anchors().to_pem()).await;
    assert!(reply.is_ok());
    let address = port.address;
    port.server.stop().await;
    assert!(TcpStream::connect(address).await.is_err(), "the port is closed");
}

/// A grant port that agents renew at.
async fn port_for_agents(authority: &TestAuthority, limits: GrantLimits) -> GrantPort {
    let options = ServerOptions {
        alpn: vec![b"http/1.1".to_vec()],
        client_auth: ClientAuth::Optional,
        clock: Clock::fixed(now()),
        identities: IdentityRule::within(authority.trust_domain().clone())
            .kind(IdentityKind::Agent),
        ..ServerOptions::default()
    };
    let config = handfast_tls::server_config(&authority.server("west", &["127.0.0.1"]), &options)
        .expect("a configuration");
    GrantPort::start_with(move || Some(Arc::clone(&config)), limits).await
}

fn agent_of(authority: &TestAuthority) -> Credential {
    let agent = Subject::new("shop").with_identity(authority.identity(IdentityKind::Agent, "shop"));
    authority.issue(Profile::Agent, agent)
}

async fn hint(port: &GrantPort, ca: &str, agent: &Credential) -> Result<HintReply, RedeemError> {
    let url = port.url("whatever");
    let question = HintQuestion { url: &url, ca, credential: agent, now: now(), timeout: PATIENCE };
    ask_for_hint(question).await
}

/// What is answered to a client that shows no certificate.
async fn anonymously(authority: &TestAuthority, port: &GrantPort, request: &str) -> Vec<u8> {
    let options = ClientOptions { clock: Clock::fixed(now()), ..ClientOptions::default() };
    let dialler = handfast_tls::client_config(None, &authority.anchors(), &options).expect("sound");
    let socket = TcpStream::connect(port.address).await.expect("loopback");
    let attempt = Attempt::client("127.0.0.1", now());
    let mut anonymous = handfast_tls::connect(socket, dialler, "127.0.0.1", attempt, PATIENCE)
        .await
        .expect("without a certificate");
    anonymous.write_all(request.as_bytes()).await.expect("written");
    crate::clients::read_to_end(&mut anonymous).await
}

#[tokio::test]
async fn an_agent_is_told_when_to_renew_and_nobody_else_is() {
    let authority = authority();
    let port = port_for_agents(&authority, GrantLimits::default()).await;
    let (ca, agent) = (authority.anchors().to_pem(), agent_of(&authority));
    let told = hint(&port, &ca, &agent).await.expect("told");
    assert_eq!(told.suggested_window.start, agent.leaf().not_before(), "by what it showed");
    assert_eq!((told.why, told.retry_after_seconds), (HintWhy::Rotation, 7));
    let asked = port.granter.hints.load(Ordering::Relaxed);
    // Another kind of certificate and another CA's end in the handshake, nobody's in a sentence.
    let stranger = TestAuthority::new("demo.example", now());
    for credential in [authority.client("east"), stranger.client("east")] {
        let refused = hint(&port, &ca, &credential).await.expect_err("no agent of ours");
        assert!(matches!(refused, RedeemError::Tls(_)), "{refused:?}");
    }
    let request = "GET /v1/renewal-hint HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answer = anonymously(&authority, &port, request).await;
    assert_eq!(crate::clients::status_of(&answer), Some(401));
    // Whatever is added to it, the question is about who asks: there is no way to name another's.
    for path in ["/v1/renewal-hint/00", "/v1/renewal-hint?serial=00"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let answer = anonymously(&authority, &port, &request).await;
        assert!(matches!(crate::clients::status_of(&answer), Some(401 | 404)), "{path}");
    }
    assert_eq!(port.granter.hints.load(Ordering::Relaxed), asked);
    port.server.stop().await;
}

#[tokio::test]
async fn questions_are_bounded_and_take_nothing_from_renewals() {
    let authority = authority();
    let slow = Rate { burst: 2, every: Duration::from_secs(3600) };
    let proved = ProvedLimits { by_certificate: slow, ..ProvedLimits::default() };
    let limits = GrantLimits { proved, ..GrantLimits::default() };
    let port = port_for_agents(&authority, limits).await;
    let (ca, agent) = (authority.anchors().to_pem(), agent_of(&authority));
    for _ in 0..2 {
        hint(&port, &ca, &agent).await.expect("told");
    }
    let Err(RedeemError::Refused { problem, .. }) = hint(&port, &ca, &agent).await else {
        panic!("not limited")
    };
    assert_eq!(problem.error, ProblemCode::TooMany);
    let east = East::new();
    let (url, now) = (port.url("whatever"), now());
    renew(Renewing {
        url: &url,
        ca: &ca,
        credential: &agent,
        csr: &east.csr,
        now,
        timeout: PATIENCE,
    })
    .await
    .expect("renewed all the same");
    port.server.stop().await;
}

#[tokio::test]
async fn thousands_of_agents_behind_one_address_are_limited_each_by_itself() {
    let authority = authority();
    // What one address may do is gone with its third stranger.
    let slow = Rate { burst: 3, every: Duration::from_secs(3600) };
    let limits =
        GrantLimits { connection_rate: slow, request_rate: slow, ..GrantLimits::default() };
    let port = port_for_agents(&authority, limits).await;
    let ca = authority.anchors().to_pem();
    let (url, east) = (port.url("whatever"), East::new());
    for _ in 0..40 {
        let agent = agent_of(&authority);
        hint(&port, &ca, &agent).await.expect("told");
        let (csr, now) = (&east.csr, now());
        renew(Renewing { url: &url, ca: &ca, credential: &agent, csr, now, timeout: PATIENCE })
            .await
            .expect("renewed");
    }
    // Strangers have what they had before, and no more; a certificate is none of a redemption's business.
    for _ in 0..3 {
        east.redeem(&port.url("good"), &ca).await.expect("granted");
    }
    let closed = east.redeem(&port.url("good"), &ca).await;
    assert!(matches!(closed, Err(RedeemError::Tls(_))), "{closed:?}");
    port.server.stop().await;
}

#[tokio::test]
async fn an_answer_that_makes_no_sense_is_none() {
    let authority = authority();
    let (ca, agent) = (authority.anchors().to_pem(), agent_of(&authority));
    let window = |start: &str, end: &str, more: &str| {
        format!(
            "{{\"suggestedWindow\":{{\"start\":\"{start}\",\"end\":\"{end}\"}},\"why\":\"life\",\"retryAfterSeconds\":1{more}}}"
        )
    };
    let (early, late) = ("2026-11-21T12:00:00Z", "2026-11-21T13:00:00Z");
    let huge = format!(",\"more\":\"{}\"", "x".repeat(8 * 1024));
    for (body, good) in [
        (window(early, late, ""), true),
        (window(early, late, ",\"more\":1"), true),
        (window(late, early, ""), false),
        (window(early, "whenever", ""), false),
        (window(early, late, &huge), false),
        (String::from("{}"), false),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        let config = server_config(&authority);
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let odd = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("a client");
            let acceptor = tokio_rustls::TlsAcceptor::from(config);
            let mut stream = acceptor.accept(stream).await.expect("a handshake");
            // Whoever has read enough may be gone.
            drop(stream.write_all(answer.as_bytes()).await);
            crate::clients::read_to_end(&mut stream).await;
        });
        let url = format!("https://{address}/v1/grants/good");
        let question =
            HintQuestion { url: &url, ca: &ca, credential: &agent, now: now(), timeout: PATIENCE };
        let result = ask_for_hint(question).await;
        match result {
            Ok(_) => assert!(good, "{body}"),
            Err(RedeemError::Odd { .. }) => assert!(!good, "{body}"),
            Err(other) => panic!("{body}: {other:?}"),
        }
        odd.await.expect("no panic");
    }
}

#[tokio::test]
async fn an_agent_renews_over_mutual_tls_and_nobody_else_does() {
    let authority = authority();
    let port = port_for_agents(&authority, GrantLimits::default()).await;
    let (url, ca) = (port.url("whatever"), authority.anchors().to_pem());
    let agent = agent_of(&authority);
    let east = East::new();
    let ask = async |credential: &Credential| {
        renew(Renewing {
            url: &url,
            ca: &ca,
            credential,
            csr: &east.csr,
            now: now(),
            timeout: PATIENCE,
        })
        .await
    };
    let reply = ask(&agent).await.expect("renewed");
    assert_eq!(reply.site, "spiffe://demo.example/agent/shop", "who the connection belongs to");
    assert_eq!((reply.certificate, reply.port_ca), (east.csr.to_pem(), Some("port".to_owned())));

    // Another kind of certificate is refused in the handshake, and so is another CA's.
    let stranger = TestAuthority::new("demo.example", now());
    for credential in [authority.client("east"), stranger.client("east")] {
        let refused = ask(&credential).await.expect_err("no agent of ours");
        assert!(matches!(refused, RedeemError::Tls(_)), "{refused:?}");
    }
    // A client without a certificate redeems as before, and renews nothing.
    east.redeem(&port.url("good"), &ca).await.expect("granted");
    let body = "{\"csr\":\"\"}";
    let head = "POST /v1/renew HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    let request =
        format!("{head}Connection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let answer = anonymously(&authority, &port, &request).await;
    assert_eq!(crate::clients::status_of(&answer), Some(401));
    assert!(String::from_utf8_lossy(&answer).contains("unauthenticated"));
    port.server.stop().await;
}
