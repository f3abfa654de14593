//! What a side can be told to trust instead of its own CA: client certificates asked for and not demanded, other CAs
//! for clients, a pinned server, the system's bundle. Each with the attempts to get more out of it than was meant.

use std::sync::Arc;

use handfast_pki::{Certificate, CertificateId, Fingerprint, RevocationReason};
use handfast_tls::{
    ClientAuth, ClientOptions, ClientTrust, FaultCode, Floor, RevocationCheck, Revocations,
    RevokedInfo, ServerOptions, Side, SystemTrust, client_config, client_config_trusting, provider,
    server_config,
};
use rustls::server::ServerConfig;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, SupportedProtocolVersion};

use crate::foreign::TestTime;
use crate::forge::{Ca, DAY, Domain, HOUR, Issued, Leaf, now};
use crate::meeting::{
    Views, dialling, link_alpn, link_server, meet, open_client, open_server, serving,
};

/// A client of no certificate that trusts `domain`.
fn anonymous(domain: &Domain) -> Arc<ClientConfig> {
    client_config(None, &domain.anchors(), &open_client()).expect("sound")
}

fn asking(domain: &Domain, options: ServerOptions) -> Arc<ServerConfig> {
    let options = ServerOptions { client_auth: ClientAuth::Optional, ..options };
    server_config(&domain.server(), &options).expect("sound")
}

#[tokio::test]
async fn a_certificate_that_is_asked_for_may_be_missing_but_never_wrong() {
    let (ours, theirs) = (Domain::new(), Domain::new());
    let (_, server) = meet(asking(&ours, link_server()), anonymous(&ours), "localhost").await.met();
    assert!(server.peer.is_none(), "{server:?}");
    let (_, server) =
        meet(asking(&ours, link_server()), dialling(&ours.client()), "localhost").await.met();
    assert_eq!(server.peer.expect("east").label(), "spiffe://demo.example/site/east");

    // Presented is judged: an unknown CA, another trust domain, a certificate that is over, a server's.
    let leaf = |leaf: &Leaf| ours.site.issue(leaf);
    for (issued, code) in [
        (theirs.site.issue(&Leaf::client("east")), FaultCode::UnknownIssuer),
        (
            leaf(&Leaf::client("east").uris(&["spiffe://other.example/site/east"])),
            FaultCode::WrongTrustDomain,
        ),
        (leaf(&Leaf::client("east").uris(&[])), FaultCode::NoIdentity),
        (leaf(&Leaf::client("east").valid(-DAY, -HOUR)), FaultCode::Expired),
        (leaf(&Leaf::server("east")), FaultCode::WrongEku),
    ] {
        let views = presenting(asking(&ours, link_server()), &ours, &issued).await;
        let (_, server) = views.faults();
        assert_eq!(server.code(), code, "{server}");
    }
}

#[tokio::test]
async fn a_revoked_certificate_is_no_anonymous_client() {
    let ours = Domain::new();
    let client = ours.client();
    let issuer = Certificate::from_der(ours.site.der.to_vec()).expect("the site CA");
    let view = Revocations::new();
    let info = RevokedInfo { at: now(), reason: RevocationReason::KeyCompromise };
    view.record([(CertificateId::of(client.leaf(), &issuer), info)]);
    let revocation = RevocationCheck::by(view);
    let options = ServerOptions { revocation, ..link_server() };
    let (_, server) = meet(asking(&ours, options), dialling(&client), "localhost").await.faults();
    assert_eq!(server.code(), FaultCode::Revoked, "{server}");
}

#[tokio::test]
async fn the_cas_for_clients_stand_instead_of_the_servers_own() {
    let (ours, first, second) = (Domain::new(), Domain::new(), Domain::new());
    let both = first.anchors().iter().fold(second.anchors(), |all, one| all.with(one.clone()));
    let options = ServerOptions { trust: Some(both), ..link_server() };
    let server = server_config(&ours.server(), &options).expect("sound");
    for domain in [&first, &second] {
        let dials = client_config(Some(&domain.client()), &ours.anchors(), &open_client());
        let views = meet(Arc::clone(&server), dials.expect("sound"), "localhost").await;
        views.met();
    }
    let (_, fault) =
        meet(Arc::clone(&server), dialling(&ours.client()), "localhost").await.faults();
    assert_eq!(fault.code(), FaultCode::UnknownIssuer, "the server's own CA: {fault}");
    // And the other way round nothing came in.
    let dials = client_config(Some(&first.client()), &ours.anchors(), &open_client());
    let (_, fault) =
        meet(serving(&ours.server()), dials.expect("sound"), "localhost").await.faults();
    assert_eq!(fault.code(), FaultCode::UnknownIssuer, "{fault}");
}

/// A server that presents anything, of one TLS version, and asks for no certificate.
fn foreign_server(
    issued: &Issued,
    version: &'static SupportedProtocolVersion,
) -> Arc<ServerConfig> {
    let key = provider().key_provider.load_private_key(issued.key_der()).expect("a key");
    let key = CertifiedKey::new(issued.chain.clone(), key);
    let mut config = ServerConfig::builder_with_details(provider(), Arc::new(TestTime))
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    config.alpn_protocols = link_alpn();
    Arc::new(config)
}

/// A client that presents anything to `server`, trusting `domain`.
async fn presenting(server: Arc<ServerConfig>, domain: &Domain, issued: &Issued) -> Views {
    let mut client = (*anonymous(domain)).clone();
    let key = provider().key_provider.load_private_key(issued.key_der()).expect("a key");
    let key = CertifiedKey::new(issued.chain.clone(), key);
    client.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(key));
    meet(server, Arc::new(client), "localhost").await
}

fn pinning(pins: &[Fingerprint]) -> Arc<ClientConfig> {
    let options = ClientOptions { floor: Floor::Tls12, ..open_client() };
    client_config_trusting(None, &ClientTrust::Pinned(pins.to_vec()), &options).expect("sound")
}

fn pin(issued: &Issued) -> Fingerprint {
    Fingerprint::of(&issued.chain[0])
}

#[tokio::test]
async fn a_pinned_server_is_taken_whatever_its_certificate_says() {
    let ca = Ca::root("oap");
    for version in [&TLS12, &TLS13] {
        for (what, issued) in [
            ("v1", ca.issue_v1(&Leaf::server("oap"))),
            ("no SAN", ca.issue(&Leaf::server("oap").hosts(&[], &[]))),
            ("no usage", ca.issue(&Leaf::server("oap").usages(&[]))),
            ("expired", ca.issue(&Leaf::server("oap").valid(-DAY, -HOUR))),
        ] {
            let views =
                meet(foreign_server(&issued, version), pinning(&[pin(&issued)]), "oap").await;
            let (client, _) = views.met();
            assert_eq!(client.peer.expect("a server").fingerprint, pin(&issued), "{what}");
        }
    }
}

#[tokio::test]
async fn a_pin_lets_nobody_else_in() {
    let domain = Domain::new();
    let pinned = domain.site.issue_v1(&Leaf::server("oap"));
    for version in [&TLS12, &TLS13] {
        // Another certificate, however good, and however near.
        for other in
            [domain.site.issue(&Leaf::server("oap")), domain.site.issue_v1(&Leaf::server("oap"))]
        {
            let views =
                meet(foreign_server(&other, version), pinning(&[pin(&pinned)]), "localhost");
            let fault = views.await.client.expect_err("not the pinned one");
            assert_eq!(
                (fault.code(), fault.side()),
                (FaultCode::PinMismatch, Side::Peer),
                "{fault}"
            );
            assert_eq!(fault.evidence_of("pinned"), Some(pin(&pinned).to_string().as_str()));
            let presented = pin(&other).to_string();
            assert_eq!(fault.evidence_of("presented-fingerprint"), Some(presented.as_str()));
        }
        // The pinned one behind another leaf.
        let mut behind = domain.site.issue(&Leaf::server("oap"));
        behind.chain.push(pinned.chain[0].clone());
        let views = meet(foreign_server(&behind, version), pinning(&[pin(&pinned)]), "localhost");
        let fault = views.await.client.expect_err("not the leaf");
        assert_eq!(fault.code(), FaultCode::PinMismatch, "{fault}");
        // A copy of the pinned one, without its key.
        let mut thief = Ca::root("stranger").issue(&Leaf::server("oap"));
        thief.chain.clone_from(&pinned.chain);
        let views = meet(foreign_server(&thief, version), pinning(&[pin(&pinned)]), "localhost");
        let fault = views.await.client.expect_err("no key");
        assert_eq!(fault.code(), FaultCode::KeyMismatch, "{fault}");
    }
    let none = client_config_trusting(None, &ClientTrust::Pinned(vec![]), &open_client());
    let fault = none.expect_err("no pin");
    assert_eq!((fault.code(), fault.side()), (FaultCode::PinMismatch, Side::Ours));
}

#[tokio::test]
async fn the_systems_bundle_counts_where_it_is_named_and_names_are_still_verified() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("bundle.crt");
    let (public, other) = (Domain::new(), Ca::root("other"));
    let v1 = other.issue_v1(&Leaf::server("old")).chain_pem();
    let leaf = other.issue(&Leaf::server("leaf")).chain_pem();
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let bundle = format!("# a comment\n{v1}{garbage}{leaf}{}", public.anchors().to_pem());
    std::fs::write(&file, bundle).expect("write");
    let system = SystemTrust::read(Some(&file)).expect("a bundle");
    assert_eq!((system.anchors(), system.unusable()), (&public.anchors(), 3));

    let dials = client_config_trusting(None, &ClientTrust::System(system), &open_client());
    let dials = dials.expect("sound");
    let options = ServerOptions { client_auth: ClientAuth::None, ..open_server() };
    let server = server_config(&public.server(), &options).expect("sound");
    meet(Arc::clone(&server), Arc::clone(&dials), "localhost").await.met();
    let fault = meet(server, Arc::clone(&dials), "other").await.client.expect_err("a name");
    assert_eq!(fault.code(), FaultCode::WrongName, "{fault}");
    let stranger = Domain::new();
    let server = server_config(&stranger.server(), &options).expect("sound");
    let fault = meet(server, dials, "localhost").await.client.expect_err("a stranger");
    assert_eq!(fault.code(), FaultCode::UnknownIssuer, "{fault}");
}

#[test]
fn a_bundle_that_cannot_be_used_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let missing = directory.path().join("missing.crt");
    let fault = SystemTrust::read(Some(&missing)).expect_err("missing");
    assert_eq!(fault.code(), FaultCode::FileUnreadable);
    assert_eq!(fault.evidence_of("file"), missing.to_str());
    let empty = directory.path().join("empty.crt");
    std::fs::write(&empty, "nothing\n").expect("write");
    let fault = SystemTrust::read(Some(&empty)).expect_err("empty");
    assert_eq!(fault.code(), FaultCode::NotPem);
    assert_eq!(fault.evidence_of("file"), empty.to_str());
    let huge = directory.path().join("huge.crt");
    std::fs::write(&huge, vec![b'#'; 9 * 1024 * 1024]).expect("write");
    let fault = SystemTrust::read(Some(&huge)).expect_err("huge");
    assert_eq!(fault.code(), FaultCode::FileUnreadable, "{fault}");
    if let Ok(system) = SystemTrust::read(None) {
        assert!(
            SystemTrust::BUNDLES.iter().any(|bundle| system.file() == std::path::Path::new(bundle))
        );
    }
}
