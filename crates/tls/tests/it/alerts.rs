//! Application protocols, and refusals as the refused side sees them: an alert becomes a fault
//! with the same code that the other side found.

use std::sync::Arc;

use handfast_tls::{
    Attempt, ClientAuth, ClientOptions, FaultCode, IdentityRule, ServerOptions, Side,
    client_config, fault_of, server_config,
};
use rustls::AlertDescription;

use crate::forge::{Domain, now};
use crate::meeting::{Views, link_client, link_server, meet};

async fn with_protocols(server: &[&[u8]], client: &[&[u8]]) -> Views {
    let domain = Domain::new();
    let list = |protocols: &[&[u8]]| protocols.iter().map(|p| p.to_vec()).collect::<Vec<_>>();
    let options = ServerOptions { alpn: list(server), ..link_server() };
    let server = server_config(&domain.server(), &options).expect("config");
    let east = domain.client();
    let options = ClientOptions { alpn: list(client), ..link_client() };
    let client = client_config(Some(&east), east.anchors(), &options).expect("config");
    meet(server, client, "localhost").await
}

#[tokio::test]
async fn no_application_protocol_in_common() {
    let views = with_protocols(&[b"handfast-link/1"], &[b"handfast-link/9", b"x"]).await;
    let (client, server) = views.faults();
    assert_eq!(server.code(), FaultCode::AlpnMismatch, "{server}");
    assert_eq!(server.evidence_of("spoken-here"), Some("handfast-link/1"));
    assert_eq!(client.code(), FaultCode::AlpnMismatch, "{client}");
    assert_eq!(client.evidence_of("offered"), Some("handfast-link/9, x"));
}

#[tokio::test]
async fn http2_is_missing() {
    let (client, server) = with_protocols(&[b"http/1.1"], &[b"h2"]).await.faults();
    assert_eq!(client.code(), FaultCode::Http2Missing, "{client}");
    assert_eq!(server.code(), FaultCode::AlpnMismatch, "{server}");
    let (client, server) = with_protocols(&[b"h2"], &[b"http/1.1"]).await.faults();
    assert_eq!(server.code(), FaultCode::Http2Missing, "{server}");
    assert_eq!(client.code(), FaultCode::AlpnMismatch, "{client}");
}

#[tokio::test]
async fn a_protocol_that_was_silently_not_negotiated_is_noticed() {
    let attempt = Attempt::client("localhost", now());
    let (client, server) = with_protocols(&[], &[b"h2"]).await.met();
    let fault = client.session.require_alpn(b"h2", &attempt).expect_err("none");
    assert_eq!(fault.code(), FaultCode::Http2Missing);
    assert_eq!(fault.evidence_of("negotiated-protocol"), Some("none"));
    assert_eq!(server.session.alpn, None);

    let (_, server) = with_protocols(&[b"handfast-link/1"], &[]).await.met();
    let attempt = Attempt::server(now());
    let fault = server.session.require_alpn(b"handfast-link/1", &attempt).expect_err("none");
    assert_eq!(fault.code(), FaultCode::AlpnMismatch);

    let (client, _) = with_protocols(&[b"h2"], &[b"x", b"h2"]).await.met();
    assert_eq!(client.session.require_alpn(b"h2", &Attempt::server(now())), Ok(()));
}

#[tokio::test]
async fn a_server_may_ask_for_no_certificate() {
    let domain = Domain::new();
    let options = ServerOptions {
        client_auth: ClientAuth::None,
        identities: IdentityRule::any(),
        ..link_server()
    };
    let server = server_config(&domain.server(), &options).expect("config");
    let client = client_config(None, &domain.anchors(), &link_client()).expect("config");
    let (client, server) = meet(Arc::clone(&server), client, "localhost").await.met();
    assert!(server.peer.is_none());
    assert!(client.peer.is_some());
}

#[test]
fn every_alert_has_a_meaning_for_both_roles() {
    for number in 0..=u8::MAX {
        let error = rustls::Error::AlertReceived(AlertDescription::from(number));
        for attempt in [Attempt::client("x", now()), Attempt::server(now())] {
            let fault = fault_of(&error, &attempt, None);
            assert!(fault.what().starts_with("the peer refused us: "), "{fault}");
            let alert = fault.evidence_of("alert").expect("alert");
            assert!(alert.contains(&number.to_string()), "{alert} {number}");
        }
    }
    let of =
        |alert| fault_of(&rustls::Error::AlertReceived(alert), &Attempt::client("x", now()), None);
    for (alert, code, side) in [
        (AlertDescription::AccessDenied, FaultCode::WrongIdentity, Side::Ours),
        (AlertDescription::BadCertificate, FaultCode::RefusedByPeer, Side::Ours),
        (AlertDescription::CertificateRevoked, FaultCode::Revoked, Side::Ours),
        (AlertDescription::CertificateUnknown, FaultCode::RefusedByPeer, Side::Ours),
        (AlertDescription::HandshakeFailure, FaultCode::ProtocolMismatch, Side::Either),
        (AlertDescription::UnrecognisedName, FaultCode::WrongName, Side::Ours),
        (AlertDescription::UnsupportedCertificate, FaultCode::WrongEku, Side::Ours),
    ] {
        assert_eq!((of(alert).code(), of(alert).side()), (code, side), "{alert:?}");
    }
}
