//! Chains that must not be trusted, judged by both sides over a socket; and the same mistakes in
//! our own material, found before it is presented.

use std::sync::Arc;

use handfast_pki::{Certificate, Chain, Credential, PrivateKey, Purpose};
use handfast_tls::probe::{Impostor, Material, Probe, Report};
use handfast_tls::{
    Attempt, Fault, FaultCode, MAX_PRESENTED, Side, check, client_config, probe, server_config,
};
use tokio::net::TcpListener;

use crate::forge::{Ca, DAY, Domain, HOUR, Issued, LIMIT, Leaf, now};
use crate::meeting::{dial, dialling, link_alpn, link_client, link_server, listen, serve, serving};

/// A client that presents `issued`, unchecked, to a sound server of `domain`: both faults, the
/// client's first.
pub(crate) async fn client_presents(domain: &Domain, issued: &Issued) -> (Fault, Fault) {
    let listener: TcpListener = listen().await;
    let addr = listener.local_addr().expect("bound");
    let server = serving(&domain.server());
    let accepting = async move {
        let (socket, _) = listener.accept().await.expect("accept");
        serve(socket, server, Attempt::server(now()).with_subject("test server")).await
    };
    let (anchors, material) = (domain.anchors(), issued.material());
    let mut probe = Probe::new("127.0.0.1", addr.port(), Some(&anchors));
    (probe.options, probe.presents) = (link_client(), Some(&material));
    (probe.limit, probe.settle) = (LIMIT, LIMIT);
    let (server, report) = tokio::join!(accepting, probe::connect(&probe, now()));
    let Report { fault: Some(client), .. } = report else { panic!("not refused: {report:?}") };
    (client, server.expect_err("refused"))
}

/// A server that presents `issued`, unchecked, to a sound client of `domain`: both faults, the
/// client's first.
pub(crate) async fn server_presents(domain: &Domain, issued: &Issued) -> (Fault, Fault) {
    let any = "127.0.0.1:0".parse().expect("address");
    let impostor =
        Impostor::bind(any, &issued.material(), link_alpn(), now()).await.expect("loopback");
    let addr = impostor.local_addr().expect("bound");
    let config = dialling(&domain.client());
    let attempt = Attempt::client("127.0.0.1", now()).with_subject("test client");
    let (mut outcomes, client) =
        tokio::join!(impostor.serve(1, LIMIT, now()), dial(addr, config, "127.0.0.1", attempt));
    (client.expect_err("refused"), outcomes.remove(0).expect_err("refused"))
}

#[tokio::test]
async fn an_unknown_issuer() {
    let ours = Domain::new();
    let stranger = Ca::root("stranger");
    let (client, server) = client_presents(&ours, &stranger.issue(&Leaf::client("east"))).await;
    assert_eq!(server.code(), FaultCode::UnknownIssuer, "{server}");
    assert_eq!(server.evidence_of("issuer"), Some("CN=stranger"));
    assert_eq!(server.evidence_of("trusted-here"), Some("CN=handfast-root"));
    assert_eq!(client.code(), FaultCode::UnknownIssuer, "{client}");
    assert_eq!(client.evidence_of("alert"), Some("unknown_ca (48)"));

    let (client, server) = server_presents(&ours, &stranger.issue(&Leaf::server("west"))).await;
    assert_eq!(client.code(), FaultCode::UnknownIssuer, "{client}");
    assert!(client.evidence_of("peer-address").is_some());
    assert!(client.remedy().contains("handfast token"), "{client}");
    assert_eq!(server.evidence_of("alert"), Some("unknown_ca (48)"), "{server}");
}

#[tokio::test]
async fn another_ca_of_the_same_name_is_an_unknown_issuer_and_not_a_bad_signature() {
    let (ours, theirs) = (Domain::new(), Domain::new());
    let (client, _) = server_presents(&ours, &theirs.site.issue(&Leaf::server("west"))).await;
    assert_eq!(client.code(), FaultCode::UnknownIssuer, "{client}");
    assert!(client.what().contains("another key"), "{client}");
}

#[tokio::test]
async fn a_missing_intermediate_is_named_as_a_possibility() {
    let ours = Domain::new();
    let mut bare = ours.site.issue(&Leaf::server("west"));
    bare.chain.truncate(1);
    let (client, _) = server_presents(&ours, &bare).await;
    assert_eq!(client.code(), FaultCode::UnknownIssuer, "{client}");
    assert!(client.evidence_of("note").is_some_and(|note| note.contains("leaf only")), "{client}");
}

#[tokio::test]
async fn the_system_store_counts_for_nothing() {
    // Nothing but the configured anchor is in the store that judges; a self-made anchor with the
    // name of a public CA gains nothing either.
    let ours = Domain::new();
    let public = Ca::root("ISRG Root X1");
    let (client, _) = server_presents(&ours, &public.issue(&Leaf::server("west"))).await;
    assert_eq!(client.code(), FaultCode::UnknownIssuer, "{client}");
    assert_eq!(client.evidence_of("trusted-here"), Some("CN=handfast-root"));
}

#[tokio::test]
async fn a_bad_signature() {
    let ours = Domain::new();
    let bad = ours.site.issue(&Leaf::server("west")).with_bad_signature();
    let (client, server) = server_presents(&ours, &bad).await;
    assert_eq!(client.code(), FaultCode::BadSignature, "{client}");
    assert_eq!(server.code(), FaultCode::BadSignature, "{server}");
    assert_eq!(server.evidence_of("alert"), Some("decrypt_error (51)"));
    let bad = ours.site.issue(&Leaf::client("east")).with_bad_signature();
    let (_, server) = client_presents(&ours, &bad).await;
    assert_eq!(server.code(), FaultCode::BadSignature, "{server}");
}

#[tokio::test]
async fn a_v1_certificate() {
    let ours = Domain::new();
    let (_, server) = client_presents(&ours, &ours.site.issue_v1(&Leaf::client("east"))).await;
    assert_eq!(server.code(), FaultCode::V1Certificate, "{server}");
    assert_eq!(server.evidence_of("version"), Some("1"));
    assert!(server.remedy().contains("v3"), "{server}");
    let old = ours.site.issue_v1(&Leaf::server("west"));
    let (client, _) = server_presents(&ours, &old).await;
    assert_eq!(client.code(), FaultCode::V1Certificate, "{client}");

    let fault = server_config(&old.credential(&ours.anchors()), &link_server()).expect_err("v1");
    assert_eq!((fault.code(), fault.side()), (FaultCode::V1Certificate, Side::Ours), "{fault}");
}

#[tokio::test]
async fn a_ca_certificate_as_leaf() {
    let ours = Domain::new();
    let (_, server) = client_presents(&ours, &ours.site.as_leaf()).await;
    assert_eq!(server.code(), FaultCode::CaAsLeaf, "{server}");
    let (client, _) = server_presents(&ours, &ours.site.as_leaf()).await;
    assert_eq!(client.code(), FaultCode::CaAsLeaf, "{client}");
    assert_eq!(client.evidence_of("basic-constraints"), Some("CA:TRUE"));

    let own = ours.site.as_leaf().credential(&ours.anchors());
    let fault = client_config(Some(&own), own.anchors(), &link_client()).expect_err("CA");
    assert_eq!((fault.code(), fault.side()), (FaultCode::CaAsLeaf, Side::Ours), "{fault}");
    let fault = check(&own, Purpose::Ca, &[], now()).expect_err("never presented");
    assert_eq!(fault.code(), FaultCode::CaAsLeaf);
}

#[tokio::test]
async fn a_chain_that_is_too_long() {
    let ours = Domain::new();
    // The site CA may have no CA below it.
    let below = ours.site.intermediate("too-deep", None);
    let (_, server) = client_presents(&ours, &below.issue(&Leaf::client("east"))).await;
    assert_eq!(server.code(), FaultCode::ChainTooLong, "{server}");
    assert!(server.evidence_of("path-lengths").is_some_and(|l| l.contains("handfast-site-ca: 0")));

    // More certificates than anybody needs are not even looked at.
    let mut flood = ours.site.issue(&Leaf::server("west"));
    while flood.chain.len() <= MAX_PRESENTED {
        flood.chain.push(flood.chain[1].clone());
    }
    let (client, _) = server_presents(&ours, &flood).await;
    assert_eq!(client.code(), FaultCode::ChainTooLong, "{client}");

    // Nine CAs deep, each of them sound: deeper than any path is followed.
    let mut ca = Ca::root("root");
    let anchors = ca.anchors();
    for depth in 0..MAX_PRESENTED - 2 {
        ca = ca.intermediate(&format!("ca-{depth}"), None);
    }
    let deep = ca.issue(&Leaf::server("west")).credential(&anchors);
    let fault = check(&deep, Purpose::Server, &[], now()).expect_err("too deep");
    assert_eq!((fault.code(), fault.side()), (FaultCode::ChainTooLong, Side::Ours), "{fault}");
}

#[tokio::test]
async fn a_name_that_the_ca_may_not_issue_for() {
    let ours = Domain::new();
    let narrow = ours.root.constrained("narrow", "inside.example");
    let (client, _) = server_presents(&ours, &narrow.issue(&Leaf::server("west"))).await;
    assert_eq!(client.code(), FaultCode::NameConstraint, "{client}");
    assert!(client.evidence_of("presented-names").is_some_and(|names| names.contains("localhost")));
}

#[test]
fn a_check_finds_in_our_own_material_what_the_peer_would_find() {
    let ours = Domain::new();
    check(&ours.server(), Purpose::Server, &["localhost".into(), "127.0.0.1".into()], now())
        .expect("sound");
    check(&ours.server(), Purpose::Server, &[], now()).expect("sound");
    check(&ours.client(), Purpose::Client, &[], now()).expect("sound");

    let anchors = ours.anchors();
    let code = |credential: &Credential, purpose, names: &[&str]| {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let fault = check(credential, purpose, &names, now()).expect_err("unsound");
        assert_eq!(fault.side(), Side::Ours, "{fault}");
        assert!(!fault.what().contains("peer"), "{fault}");
        fault.code()
    };
    let foreign = Ca::root("stranger").issue(&Leaf::server("west")).credential(&anchors);
    assert_eq!(code(&foreign, Purpose::Server, &[]), FaultCode::UnknownIssuer);
    let foreign = Ca::root("stranger").issue(&Leaf::client("east")).credential(&anchors);
    assert_eq!(code(&foreign, Purpose::Client, &[]), FaultCode::UnknownIssuer);
    let stale = ours.site.issue(&Leaf::client("east").valid(-DAY, -HOUR)).credential(&anchors);
    assert_eq!(code(&stale, Purpose::Client, &[]), FaultCode::Expired);
    let early = ours.site.issue(&Leaf::server("west").valid(HOUR, DAY)).credential(&anchors);
    assert_eq!(code(&early, Purpose::Server, &[]), FaultCode::NotYetValid);
    assert_eq!(code(&ours.server(), Purpose::Server, &["other.example"]), FaultCode::WrongName);
    assert_eq!(code(&ours.server(), Purpose::Server, &["not a name"]), FaultCode::WrongName);
    let nameless = ours.site.issue(&Leaf::server("west").hosts(&[], &[])).credential(&anchors);
    assert_eq!(code(&nameless, Purpose::Server, &[]), FaultCode::WrongName);
    let bad = ours.site.issue(&Leaf::server("west")).with_bad_signature().credential(&anchors);
    assert_eq!(code(&bad, Purpose::Server, &[]), FaultCode::BadSignature);
}

#[test]
fn nothing_here_shows_a_key() {
    let ours = Domain::new();
    let issued = ours.site.issue(&Leaf::client("east"));
    let credential = issued.credential(&ours.anchors());
    let (server, client) = (serving(&ours.server()), dialling(&credential));
    let key = PrivateKey::from_der(issued.key_der().secret_der(), None).expect("key");
    let material: Material = issued.material();
    let leaf: &Certificate = credential.leaf();
    let chain: &Chain = credential.chain();
    let shown = format!(
        "{server:?} {client:?} {key:?} {material:?} {credential:?} {leaf:?} {chain:?} {:?}",
        handfast_tls::Live::new(Arc::clone(&client))
    );
    // The private scalar inside PKCS#8; what follows it is the public key.
    let scalar = &issued.key_der().secret_der().to_vec()[36..68];
    for window in scalar.windows(8) {
        assert!(!shown.contains(&format!("{window:?}").replace(['[', ']'], "")));
        let hex = window.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        assert!(!shown.to_lowercase().contains(&hex));
    }
}
