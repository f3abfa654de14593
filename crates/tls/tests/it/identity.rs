//! Rules 1 and 2 of the design: identity comes from the leaf that signed CertificateVerify and
//! from nothing else in the list; trust domains are never merged. And rule 4: no certificate
//! plays both sides.

use handfast_pki::IdentityKind;
use handfast_tls::{FaultCode, IdentityRule, ServerOptions, Side, client_config, server_config};
use rcgen::{ExtendedKeyUsagePurpose as Eku, KeyUsagePurpose};
use rustls::pki_types::CertificateDer;

use crate::forge::{Ca, Domain, Leaf};
use crate::meeting::{dialling, domain, link_client, link_server, meet, open_server, serving};
use crate::trust::{client_presents, server_presents};

#[tokio::test]
async fn certificates_after_the_leaf_never_lend_their_identity() {
    let ours = Domain::new();
    let stranger = Ca::root("stranger");
    let filler = ours.site.issue(&Leaf::client("west"));

    // A leaf of ours, with another site's leaf and a stranger's as fillers: it is who the leaf says.
    let mut east = ours.site.issue(&Leaf::client("east"));
    east.chain.insert(1, filler.chain[0].clone());
    east.chain.push(stranger.issue(&Leaf::client("north")).chain[0].clone());
    let (server, client) = (serving(&ours.server()), dialling(&east.credential(&ours.anchors())));
    let (_, met) = meet(server, client, "localhost").await.met();
    assert_eq!(met.peer.expect("client").label(), "spiffe://demo.example/site/east");

    // A stranger's leaf in front of a chain that is all ours: refused.
    let mut impostor = stranger.issue(&Leaf::client("east"));
    impostor.chain.truncate(1);
    impostor.chain.extend(filler.chain);
    let (_, fault) = client_presents(&ours, &impostor).await;
    assert_eq!(fault.code(), FaultCode::UnknownIssuer, "{fault}");
    assert_eq!(fault.evidence_of("issuer"), Some("CN=stranger"));
}

#[tokio::test]
async fn a_certificate_without_its_key_is_no_identity() {
    let ours = Domain::new();
    // East's certificates are public; whoever has seen them can present them, but not sign.
    let stolen: Vec<CertificateDer<'static>> = ours.site.issue(&Leaf::client("east")).chain;
    let mut thief = Ca::root("stranger").issue(&Leaf::client("east"));
    thief.chain = stolen;
    let (client, server) = client_presents(&ours, &thief).await;
    assert_eq!(server.code(), FaultCode::KeyMismatch, "{server}");
    assert_eq!(server.side(), Side::Peer);
    assert_eq!(client.code(), FaultCode::BadSignature, "{client}");

    let mut thief = Ca::root("stranger").issue(&Leaf::server("west"));
    thief.chain = ours.site.issue(&Leaf::server("west")).chain;
    let (client, _) = server_presents(&ours, &thief).await;
    assert_eq!(client.code(), FaultCode::KeyMismatch, "{client}");
    assert_eq!(client.evidence_of("identity"), Some("spiffe://demo.example/site/west"));
}

#[tokio::test]
async fn another_trust_domain_under_the_same_ca_is_refused_by_both_sides() {
    let ours = Domain::new();
    let other = ["spiffe://other.example/site/east"];
    let (client, server) =
        client_presents(&ours, &ours.site.issue(&Leaf::client("east").uris(&other))).await;
    assert_eq!(server.code(), FaultCode::WrongTrustDomain, "{server}");
    assert_eq!(server.evidence_of("expected-trust-domain"), Some("demo.example"));
    assert_eq!(server.evidence_of("presented-identity"), Some(other[0]));
    assert_eq!(client.code(), FaultCode::WrongIdentity, "{client}");
    assert_eq!(client.evidence_of("alert"), Some("access_denied (49)"));

    let (client, _) =
        server_presents(&ours, &ours.site.issue(&Leaf::server("west").uris(&other))).await;
    assert_eq!(client.code(), FaultCode::WrongTrustDomain, "{client}");
}

#[tokio::test]
async fn two_uri_sans_are_no_identity() {
    let ours = Domain::new();
    let two = ["spiffe://demo.example/site/east", "spiffe://demo.example/site/west"];
    let (_, server) =
        client_presents(&ours, &ours.site.issue(&Leaf::client("east").uris(&two))).await;
    assert_eq!(server.code(), FaultCode::TwoUriSans, "{server}");
    assert!(server.evidence_of("presented-uris").is_some_and(|uris| uris.contains(two[1])));
    let (client, _) =
        server_presents(&ours, &ours.site.issue(&Leaf::server("west").uris(&two))).await;
    assert_eq!(client.code(), FaultCode::TwoUriSans, "{client}");

    // Where no identity is demanded such a certificate passes, but it has no identity.
    let leaf = ours.site.issue(&Leaf::client("east").uris(&two));
    let server = server_config(&ours.server(), &open_server()).expect("config");
    let client = dialling(&leaf.credential(&ours.anchors()));
    let (_, met) = meet(server, client, "localhost").await.met();
    assert_eq!(met.peer.expect("client").identity, None);
}

#[tokio::test]
async fn a_certificate_without_a_usable_identity_is_refused_on_a_link() {
    let ours = Domain::new();
    for uris in [&[][..], &["https://demo.example/site/east"], &["spiffe://demo.example/../east"]] {
        let leaf = ours.site.issue(&Leaf::client("east").uris(uris));
        let (_, server) = client_presents(&ours, &leaf).await;
        assert_eq!(server.code(), FaultCode::NoIdentity, "{server}");
    }
}

#[tokio::test]
async fn the_rule_picks_kinds_and_names() {
    let ours = Domain::new();
    let agent = ours.site.issue(&Leaf::client("x").uris(&["spiffe://demo.example/agent/x"]));
    let (_, server) = client_presents(&ours, &agent).await;
    assert_eq!(server.code(), FaultCode::WrongIdentity, "{server}");
    assert!(server.evidence_of("allowed").is_some_and(|allowed| allowed.contains("site")));

    let only = |name: &str| ServerOptions {
        identities: IdentityRule::within(domain())
            .kind(IdentityKind::Site)
            .names([name.parse().expect("name")]),
        ..link_server()
    };
    let server = server_config(&ours.server(), &only("north")).expect("config");
    let (_, fault) = meet(server, dialling(&ours.client()), "localhost").await.faults();
    assert_eq!(fault.code(), FaultCode::WrongIdentity, "{fault}");
    let server = server_config(&ours.server(), &only("east")).expect("config");
    meet(server, dialling(&ours.client()), "localhost").await.met();
}

#[tokio::test]
async fn a_client_certificate_never_serves_and_a_server_certificate_never_dials() {
    let ours = Domain::new();
    let mut link = Leaf::client("west");
    (link.dns, link.ips) = (Leaf::server("west").dns, Leaf::server("west").ips);
    let (client, server) = server_presents(&ours, &ours.site.issue(&link)).await;
    assert_eq!(client.code(), FaultCode::WrongEku, "{client}");
    assert_eq!(client.evidence_of("presented-usage"), Some("clientAuth"));
    assert_eq!(client.evidence_of("required-usage"), Some("serverAuth"));
    assert_eq!(server.code(), FaultCode::WrongEku, "{server}");
    assert_eq!(server.side(), Side::Ours);

    let (_, server) = client_presents(&ours, &ours.site.issue(&Leaf::server("east"))).await;
    assert_eq!(server.code(), FaultCode::WrongEku, "{server}");
    assert_eq!(server.evidence_of("required-usage"), Some("clientAuth"));

    // Our own material is stopped before it is ever presented.
    let anchors = ours.anchors();
    let fault = server_config(&ours.client(), &link_server()).expect_err("client certificate");
    assert_eq!((fault.code(), fault.side()), (FaultCode::WrongEku, Side::Ours), "{fault}");
    let fault = client_config(Some(&ours.server()), &anchors, &link_client())
        .expect_err("server certificate");
    assert_eq!((fault.code(), fault.side()), (FaultCode::WrongEku, Side::Ours), "{fault}");
}

#[tokio::test]
async fn inside_the_fabric_a_certificate_must_say_what_it_is_for() {
    let ours = Domain::new();
    for usages in [&[][..], &[Eku::CodeSigning], &[Eku::Any]] {
        let leaf = ours.site.issue(&Leaf::client("east").usages(usages));
        let (_, server) = client_presents(&ours, &leaf).await;
        assert_eq!(server.code(), FaultCode::WrongEku, "{server}");
    }
    let both = [Eku::ClientAuth, Eku::ServerAuth];
    let both = ours.site.issue(&Leaf::server("east").usages(&both)).credential(&ours.anchors());
    meet(serving(&both), dialling(&both), "localhost").await.met();
}

#[tokio::test]
async fn inside_the_fabric_a_leaf_that_claims_to_sign_is_refused() {
    let ours = Domain::new();
    for usage in [KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign] {
        let mut leaf = Leaf::client("east");
        leaf.key_usages.push(usage);
        let (_, server) = client_presents(&ours, &ours.site.issue(&leaf)).await;
        assert_eq!((server.code(), server.side()), (FaultCode::CaAsLeaf, Side::Peer), "{server}");
        assert!(server.evidence_of("key-usage").is_some(), "{server}");
    }
}

#[tokio::test]
async fn anonymous_clients_are_refused_by_name() {
    let ours = Domain::new();
    let anonymous = client_config(None, &ours.anchors(), &link_client()).expect("config");
    let (client, server) = meet(serving(&ours.server()), anonymous, "localhost").await.faults();
    assert_eq!((server.code(), server.side()), (FaultCode::NoCertificate, Side::Peer), "{server}");
    assert_eq!((client.code(), client.side()), (FaultCode::NoCertificate, Side::Ours), "{client}");
    assert_eq!(client.evidence_of("alert"), Some("certificate_required (116)"));
    assert!(client.remedy().contains("handfast token redeem"), "{client}");
}
