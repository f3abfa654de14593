//! What a sound handshake negotiates: TLS 1.3, the hybrid group, the link protocol, both
//! identities, and never a resumed session.

use std::sync::Arc;

use handfast_tls::{FaultCode, LINK_ALPN, client_config};
use rustls::NamedGroup;
use rustls::crypto::aws_lc_rs::kx_group;
use rustls::version::TLS13;

use crate::foreign::{eager_to_resume, foreign_client, handing_out_tickets, with_groups};
use crate::forge::{Domain, Leaf, now};
use crate::meeting::{dialling, link_client, meet, open_client, serving};

#[tokio::test]
async fn two_sites_meet_and_know_each_other() {
    let domain = Domain::new();
    let (client, server) =
        meet(serving(&domain.server()), dialling(&domain.client()), "127.0.0.1").await.met();
    for met in [&client, &server] {
        assert_eq!(met.session.version, "TLSv1.3");
        assert_eq!(met.session.group, "X25519MLKEM768");
        assert_eq!(met.session.cipher, "TLS_AES_256_GCM_SHA384");
        assert_eq!(met.session.alpn.as_deref(), Some(LINK_ALPN));
        assert!(!met.session.resumed);
    }
    let (west, east) = (client.peer.expect("server"), server.peer.expect("client"));
    assert_eq!(west.label(), "spiffe://demo.example/site/west");
    assert_eq!(west.dns, ["localhost"]);
    assert_eq!(east.label(), "spiffe://demo.example/site/east");
    assert_eq!(east.common_name.as_deref(), Some("east"));
    assert!(east.not_after > now());
    assert_eq!(east.issuer, "CN=handfast-site-ca");
}

#[tokio::test]
async fn a_peer_that_knows_classical_groups_only_still_connects() {
    let domain = Domain::new();
    for (group, name) in [
        (kx_group::X25519, NamedGroup::X25519),
        (kx_group::SECP256R1, NamedGroup::secp256r1),
        (kx_group::SECP384R1, NamedGroup::secp384r1),
    ] {
        let classical = foreign_client(&domain.client(), with_groups(&[group]), &[&TLS13]);
        let views = meet(serving(&domain.server()), Arc::new(classical), "localhost").await;
        let (client, server) = views.met();
        for met in [client, server] {
            assert_eq!(Some(met.session.group.as_str()), name.as_str());
        }
    }
}

#[tokio::test]
async fn a_client_that_comes_with_a_classical_key_share_is_not_sent_back_for_another() {
    let domain = Domain::new();
    // rustls spares the round trip of a HelloRetryRequest. Our own clients always come with the
    // hybrid share, so inside the fabric every session is hybrid.
    let groups = with_groups(&[kx_group::X25519, kx_group::X25519MLKEM768]);
    let reluctant = foreign_client(&domain.client(), groups, &[&TLS13]);
    let views = meet(serving(&domain.server()), Arc::new(reluctant), "localhost").await;
    assert_eq!(views.met().0.session.group, "X25519");
}

#[tokio::test]
async fn nothing_is_ever_resumed_whichever_side_would_like_to() {
    let domain = Domain::new();
    let (server, client) = (serving(&domain.server()), dialling(&domain.client()));
    assert_eq!(server.send_tls13_tickets, 0);
    assert!(!server.session_storage.can_cache() && !server.ticketer.enabled());
    let eager = eager_to_resume(&domain.client());
    for client in [client, eager] {
        for _ in 0..3 {
            let views = meet(Arc::clone(&server), Arc::clone(&client), "localhost").await;
            let (client, server) = views.met();
            assert!(!client.session.resumed && !server.session.resumed);
        }
    }
    // The other way round: a server that hands out tickets meets our client twice.
    let generous = handing_out_tickets(&domain.server());
    let client = dialling(&domain.client());
    for _ in 0..3 {
        let views = meet(Arc::clone(&generous), Arc::clone(&client), "localhost").await;
        let (client, server) = views.met();
        assert!(!client.session.resumed && !server.session.resumed);
    }
}

#[tokio::test]
async fn the_resumption_test_can_tell_a_resumed_session() {
    let domain = Domain::new();
    let server = handing_out_tickets(&domain.server());
    let client = eager_to_resume(&domain.client());
    let mut resumed = Vec::new();
    for _ in 0..2 {
        let views = meet(Arc::clone(&server), Arc::clone(&client), "localhost").await;
        resumed.push(views.met().0.session.resumed);
    }
    assert_eq!(resumed, [false, true]);
}

#[tokio::test]
async fn a_server_certificate_without_identity_serves_edges_but_no_links() {
    let domain = Domain::new();
    let plain = domain.site.issue(&Leaf::server("west").uris(&[])).credential(&domain.anchors());
    let client = domain.client();
    let open = client_config(Some(&client), client.anchors(), &open_client()).expect("config");
    meet(serving(&plain), open, "localhost").await.met();
    let link = client_config(Some(&client), client.anchors(), &link_client()).expect("config");
    let (fault, _) = meet(serving(&plain), link, "localhost").await.faults();
    assert_eq!(fault.code(), FaultCode::NoIdentity);
}
