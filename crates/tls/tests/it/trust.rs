//! Chains that must not be trusted, judged by both sides over a socket; and the same mistakes in
//! our own material, found before it is presented.

use std::sync::Arc;

use handfast_pki::{Certificate, Chain, Credential, PrivateKey, Purpose, TrustAnchors};
use handfast_tls::probe::{Impostor, Judgement, Material, Probe, Report};
use handfast_tls::{
    Attempt, Fault, FaultCode, IdentityRule, MAX_PRESENTED, RevocationCheck, Role, Side, check,
    client_config, probe, server_config,
};
use rcgen::{CustomExtension, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType};
use tokio::net::TcpListener;

use crate::forge::{Ca, DAY, Domain, HOUR, Issued, LIMIT, Leaf, RsaOf, now};
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

/// What a client says of a chain that a server named localhost presents.
fn judged(
    anchors: &TrustAnchors,
    chain: &[rustls::pki_types::CertificateDer<'_>],
) -> Result<(), Fault> {
    let judgement = Judgement {
        role: Role::Client,
        anchors,
        name: Some("localhost"),
        identities: IdentityRule::any(),
        revocation: RevocationCheck::default(),
        now: now(),
    };
    judgement.of(chain)
}

#[test]
fn what_may_not_sign_vouches_for_itself_only() {
    let leaf = Leaf::server("west");
    // webpki looks at an anchor's name and key only: whoever holds the key of a self-signed server
    // certificate that somebody trusts could else name himself as he likes.
    let no_ca = Ca::odd_root("pinned", |params| params.is_ca = IsCa::ExplicitNoCa);
    let silent = Ca::odd_root("silent", |params| params.is_ca = IsCa::NoCa);
    let mute = Ca::odd_root("mute", |params| params.key_usages = vec![KeyUsagePurpose::CrlSign]);
    let demanding = Ca::odd_root("demanding", |params| {
        let mut unheard = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
        unheard.set_criticality(true);
        params.custom_extensions = vec![unheard];
    });
    for (ca, evidence) in
        [(&no_ca, "CA:FALSE"), (&silent, "CA:FALSE"), (&mute, "CA:TRUE"), (&demanding, "CA:TRUE")]
    {
        for issuer in [ca, &ca.intermediate("below", None)] {
            let chain = issuer.issue(&leaf).chain;
            let fault = judged(&ca.anchors(), &chain).expect_err("no CA");
            assert_eq!((fault.code(), fault.side()), (FaultCode::UnknownIssuer, Side::Ours));
            assert!(fault.what().contains("vouches for nothing but itself"), "{fault}");
            assert_eq!(fault.evidence_of("basic-constraints"), Some(evidence), "{fault}");
        }
        // A proper CA beside it is not harmed.
        let proper = Ca::root("proper");
        let both = proper.anchors().with(ca.anchors().iter().next().expect("one").clone());
        judged(&both, &proper.issue(&leaf).chain).expect("issued by the other");
    }
    // A CA that was sent is held to its key usage as well.
    let root = Ca::root("root");
    let mute = root.odd_intermediate("mute", |params| {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    });
    let fault = judged(&root.anchors(), &mute.issue(&leaf).chain).expect_err("may not sign");
    assert_eq!((fault.code(), fault.side()), (FaultCode::UnknownIssuer, Side::Peer));
    assert!(fault.what().contains("may not sign others"), "{fault}");
    // For itself what is trusted does stand: a self-signed certificate that is trusted as such.
    let pinned = Ca::odd_root("pinned", |params| {
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.subject_alt_names = vec![SanType::DnsName("localhost".try_into().expect("ASCII"))];
    });
    judged(&pinned.anchors(), &pinned.as_leaf().chain).expect("it is itself");
    let fault = judged(&pinned.anchors(), &pinned.issue(&leaf).chain).expect_err("another");
    assert_eq!(fault.code(), FaultCode::UnknownIssuer, "{fault}");
}

#[test]
fn a_key_that_no_signature_is_accepted_of_is_named_before_the_signature_fails() {
    let ours = Domain::new();
    let leaf = Leaf::server("west");
    let short = ours.site.issue_for(&leaf, &RsaOf::bits(1024));
    let fault = judged(&ours.anchors(), &short).expect_err("too short");
    assert_eq!((fault.code(), fault.side()), (FaultCode::UnsupportedAlgorithm, Side::Peer));
    assert_eq!(fault.evidence_of("presented-key"), Some("RSA 1024 bits"), "{fault}");
    let fault = judged(&ours.anchors(), &ours.site.issue_on_old_curve(&leaf)).expect_err("P-192");
    assert_eq!(fault.code(), FaultCode::UnsupportedAlgorithm, "{fault}");

    // Keys that we issue for no more than others, but verify: long RSA, and P-521.
    for bits in [2048, 8192] {
        judged(&ours.anchors(), &ours.site.issue_for(&leaf, &RsaOf::bits(bits))).expect("long");
    }
    let p521 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).expect("key");
    judged(&ours.anchors(), &ours.site.issue_for(&leaf, &p521)).expect("P-521");
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
