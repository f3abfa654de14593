//! Revocation as both sides of a handshake see it, and what it must not be fooled by.
//!
//! All the cases that a PKI must refuse, with the test that shows each, are in `docs/negative-list.md`.

use std::sync::Arc;

use handfast_pki::{
    Certificate, CertificateId, Credential, CrlView, RevocationReason, TrustAnchors,
};
use handfast_tls::{
    ClientOptions, FaultCode, RevocationCheck, RevocationList, Revocations, RevokedInfo,
    ServerOptions, Side, client_config, server_config,
};
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ServerConfig};

use crate::foreign::eager_to_resume;
use crate::forge::{Ca, DAY, Domain, HOUR, Issued, Leaf, malleated, now};
use crate::meeting::{dialling, link_client, link_server, meet, serving};

fn serving_by(credential: &Credential, revocation: RevocationCheck) -> Arc<ServerConfig> {
    let options = ServerOptions { revocation, ..link_server() };
    server_config(credential, &options).expect("good credential")
}

fn dialling_by(credential: &Credential, revocation: RevocationCheck) -> Arc<ClientConfig> {
    let options = ClientOptions { revocation, ..link_client() };
    client_config(Some(credential), credential.anchors(), &options).expect("good credential")
}

fn parsed(der: &CertificateDer<'_>) -> Certificate {
    Certificate::from_der(der.to_vec()).expect("a certificate")
}

fn id(certificate: &CertificateDer<'_>, issuer: &CertificateDer<'_>) -> CertificateId {
    CertificateId::of(&parsed(certificate), &parsed(issuer))
}

fn info() -> RevokedInfo {
    RevokedInfo { at: now(), reason: RevocationReason::KeyCompromise }
}

fn later(seconds: i64) -> Timestamp {
    Timestamp::from_second(now().as_second() + seconds).expect("a moment")
}

#[tokio::test]
async fn a_revoked_leaf_is_refused_by_either_side_from_the_next_handshake_on() {
    let ours = Domain::new();
    let (east, west) =
        (ours.site.issue(&Leaf::client("east")), ours.site.issue(&Leaf::server("west")));
    let view = Revocations::new();
    let check = || RevocationCheck::by(view.clone());
    let server = serving_by(&west.credential(&ours.anchors()), check());
    let client = dialling_by(&east.credential(&ours.anchors()), check());
    meet(Arc::clone(&server), Arc::clone(&client), "localhost").await.met();

    view.record([(id(&east.chain[0], &ours.site.der), info())]);
    let (told, fault) = meet(Arc::clone(&server), Arc::clone(&client), "localhost").await.faults();
    assert_eq!((fault.code(), fault.side()), (FaultCode::Revoked, Side::Peer), "{fault}");
    assert_eq!(fault.evidence_of("revocation-reason"), Some("key-compromise"));
    assert_eq!(fault.evidence_of("revoked-at"), Some(now().to_string().as_str()));
    let serial = parsed(&east.chain[0]).serial().to_string();
    assert_eq!(fault.evidence_of("revoked-serial"), Some(serial.as_str()));
    assert_eq!(fault.evidence_of("identity"), Some("spiffe://demo.example/site/east"));
    assert_eq!((told.code(), told.side()), (FaultCode::Revoked, Side::Ours), "{told}");
    assert_eq!(told.evidence_of("alert"), Some("certificate_revoked (44)"));

    // The others are not touched; and the server, once revoked, is refused by the client.
    let north = ours.site.issue(&Leaf::client("north")).credential(&ours.anchors());
    meet(Arc::clone(&server), dialling_by(&north, check()), "localhost").await.met();
    view.record([(id(&west.chain[0], &ours.site.der), info())]);
    let (fault, told) = meet(server, dialling_by(&north, check()), "localhost").await.faults();
    assert_eq!((fault.code(), fault.side()), (FaultCode::Revoked, Side::Peer), "{fault}");
    assert_eq!((told.code(), told.side()), (FaultCode::Revoked, Side::Ours), "{told}");
}

#[tokio::test]
async fn a_revoked_intermediate_takes_everything_below_it_along() {
    let ours = Domain::new();
    let view = Revocations::new();
    view.record([(id(&ours.site.der, &ours.root.der), info())]);
    let server = serving_by(&ours.server(), RevocationCheck::by(view));
    let (_, fault) = meet(server, dialling(&ours.client()), "localhost").await.faults();
    assert_eq!(fault.code(), FaultCode::Revoked, "{fault}");
    assert!(fault.what().contains("CA certificate above"), "{fault}");
    let serial = parsed(&ours.site.der).serial().to_string();
    assert_eq!(fault.evidence_of("revoked-serial"), Some(serial.as_str()));
}

/// Nebula knew what was blocked by a hash of the signed certificate: whoever holds one can make another of it that
/// verifies as well.
#[tokio::test]
async fn another_signature_of_the_same_certificate_is_the_same_certificate() {
    let ours = Domain::new();
    let east = ours.site.issue(&Leaf::client("east"));
    let view = Revocations::new();
    view.record([(id(&east.chain[0], &ours.site.der), info())]);
    let twin = Issued {
        chain: [vec![malleated(&east.chain[0])], east.chain[1..].to_vec()].concat(),
        ..east
    };
    let twin = twin.credential(&ours.anchors());
    // It would be accepted, and has another fingerprint.
    meet(serving(&ours.server()), dialling(&twin), "localhost").await.met();
    let server = serving_by(&ours.server(), RevocationCheck::by(view));
    let (_, fault) = meet(server, dialling(&twin), "localhost").await.faults();
    assert_eq!(fault.code(), FaultCode::Revoked, "{fault}");
}

#[tokio::test]
async fn another_issuers_certificate_of_the_same_serial_is_not_meant() {
    let ours = Domain::new();
    let east = ours.site.issue(&Leaf::client("east"));
    let view = Revocations::new();
    // The same serial, revoked by the root's key: not what signed it.
    view.record([(id(&east.chain[0], &ours.root.der), info())]);
    let server = serving_by(&ours.server(), RevocationCheck::by(view));
    meet(server, dialling(&east.credential(&ours.anchors())), "localhost").await.met();
}

#[tokio::test]
async fn nothing_is_resumed_after_a_revocation() {
    let ours = Domain::new();
    let east = ours.site.issue(&Leaf::client("east"));
    let view = Revocations::new();
    let server = serving_by(&ours.server(), RevocationCheck::by(view.clone()));
    let eager = eager_to_resume(&east.credential(&ours.anchors()));
    for _ in 0..2 {
        let (client, _) = meet(Arc::clone(&server), Arc::clone(&eager), "localhost").await.met();
        assert!(!client.session.resumed);
    }
    view.record([(id(&east.chain[0], &ours.site.der), info())]);
    let (_, fault) = meet(server, eager, "localhost").await.faults();
    assert_eq!(fault.code(), FaultCode::Revoked, "{fault}");
}

#[tokio::test]
async fn what_cannot_be_told_is_refused_where_that_is_asked_for() {
    let ours = Domain::new();
    let east = ours.site.issue(&Leaf::client("east"));
    let view = Revocations::new();
    let required = RevocationCheck::by(view.clone()).required(true);
    let server = serving_by(&ours.server(), required);
    let client = dialling(&east.credential(&ours.anchors()));
    let list = |ca: &Ca, until: i64, revoked: &[&CertificateDer<'_>]| RevocationList {
        issuer_key_id: parsed(&ca.der).key_id(),
        view: CrlView::new(ca.list(1, until, revoked)).expect("a full list"),
    };
    let meeting = || meet(Arc::clone(&server), Arc::clone(&client), "localhost");
    let (told, fault) = meeting().await.faults();
    assert_eq!((fault.code(), fault.side()), (FaultCode::RevocationUnknown, Side::Ours), "{fault}");
    assert_eq!(told.code(), FaultCode::RefusedByPeer, "{told}");

    // Of the leaf's issuer only: the CA itself may be revoked for all we know.
    view.set_lists([list(&ours.site, HOUR, &[])]);
    assert_eq!(meeting().await.faults().1.code(), FaultCode::RevocationUnknown);
    view.set_lists([list(&ours.site, HOUR, &[]), list(&ours.root, HOUR, &[])]);
    meeting().await.met();
    view.set_lists([list(&ours.site, -HOUR, &[]), list(&ours.root, HOUR, &[])]);
    let (_, fault) = meeting().await.faults();
    assert_eq!(fault.code(), FaultCode::RevocationUnknown, "{fault}");
    assert_eq!(fault.evidence_of("next-update"), Some(later(-HOUR).to_string().as_str()));
    // Out of date or not: who is on it is revoked, whatever is asked for.
    view.set_lists([list(&ours.site, -HOUR, &[&east.chain[0]])]);
    let server = serving_by(&ours.server(), RevocationCheck::by(view));
    let (_, fault) = meet(server, client, "localhost").await.faults();
    assert_eq!(fault.code(), FaultCode::Revoked, "{fault}");
}

#[tokio::test]
async fn an_expired_intermediate_vouches_for_nobody() {
    let root = Ca::root("handfast-root");
    let stale = root.intermediate_valid("handfast-site-ca", -20 * DAY, -DAY);
    let client = stale.issue(&Leaf::client("east")).credential(&root.anchors());
    let fresh = root.intermediate("handfast-site-ca", Some(0));
    let server = fresh.issue(&Leaf::server("west")).credential(&root.anchors());
    let (_, fault) = meet(serving(&server), dialling(&client), "localhost").await.faults();
    assert_eq!(fault.code(), FaultCode::Expired, "{fault}");
    assert!(fault.what().contains("CN=handfast-site-ca"), "{fault}");
}

#[tokio::test]
async fn an_intermediate_that_was_renewed_with_its_key_stands_for_both() {
    let root = Ca::root("handfast-root");
    let site = root.intermediate("handfast-site-ca", Some(0));
    let renewed = root.renew(&site, "handfast-site-ca");
    let anchors = root.anchors();
    let east = site.issue(&Leaf::client("east"));
    let view = Revocations::new();
    let server = serving_by(
        &site.issue(&Leaf::server("west")).credential(&anchors),
        RevocationCheck::by(view.clone()),
    );
    let with = |above: &[&CertificateDer<'static>]| {
        let mut issued = site.issue(&Leaf::client("east"));
        issued.chain.truncate(1);
        issued.chain.extend(above.iter().copied().cloned());
        dialling(&issued.credential(&anchors))
    };
    // Either certificate of the CA leads up, and so do both in any order.
    for above in [&[&site.der][..], &[&renewed], &[&site.der, &renewed], &[&renewed, &site.der]] {
        meet(Arc::clone(&server), with(above), "localhost").await.met();
    }
    // The old certificate of the CA is revoked: the new one still leads up.
    view.record([(id(&site.der, &root.der), info())]);
    let (_, fault) = meet(Arc::clone(&server), with(&[&site.der]), "localhost").await.faults();
    assert_eq!(fault.code(), FaultCode::Revoked, "{fault}");
    for above in [&[&renewed][..], &[&site.der, &renewed], &[&renewed, &site.der]] {
        meet(Arc::clone(&server), with(above), "localhost").await.met();
    }
    // What was revoked under the old certificate is revoked under the new one: the key is the same.
    view.record([(id(&east.chain[0], &site.der), info())]);
    let mut east = east;
    east.chain[1] = renewed;
    let client = dialling(&east.credential(&anchors));
    let (_, fault) = meet(server, client, "localhost").await.faults();
    assert_eq!(fault.code(), FaultCode::Revoked, "{fault}");
}

#[tokio::test]
async fn while_two_roots_overlap_either_is_enough_and_neither_lends_to_the_other() {
    let (old, new) = (Domain::new(), Domain::new());
    let both = old.anchors().with(parsed(&new.root.der));
    let trusting = |issued: Issued, anchors: &TrustAnchors| issued.credential(anchors);
    let server =
        |domain: &Domain, anchors| trusting(domain.site.issue(&Leaf::server("west")), anchors);
    let client =
        |domain: &Domain, anchors| trusting(domain.site.issue(&Leaf::client("east")), anchors);
    for (one, other) in [(&old, &old), (&old, &new), (&new, &old), (&new, &new)] {
        meet(serving(&server(one, &both)), dialling(&client(other, &both)), "localhost")
            .await
            .met();
    }
    // Who trusts the new one alone is done with the old one.
    let only = new.anchors();
    let (_, fault) =
        meet(serving(&server(&new, &only)), dialling(&client(&old, &both)), "localhost")
            .await
            .faults();
    assert_eq!(fault.code(), FaultCode::UnknownIssuer, "{fault}");
    // A leaf of the new root behind the old site CA, which has the same name, leads nowhere.
    let mut mixed = new.site.issue(&Leaf::client("east"));
    mixed.chain[1] = old.site.der.clone();
    let (_, fault) =
        meet(serving(&server(&old, &both)), dialling(&trusting(mixed, &both)), "localhost")
            .await
            .faults();
    assert!(matches!(fault.code(), FaultCode::UnknownIssuer | FaultCode::BadSignature), "{fault}");
}
