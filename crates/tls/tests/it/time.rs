//! Validity: expired, not yet valid (with the skew), at the leaf, in the middle and at the anchor,
//! and what a wrong clock looks like from both ends.

use handfast_tls::{
    ClientOptions, Clock, FaultCode, ServerOptions, Side, client_config, server_config,
};
use jiff::Timestamp;

use crate::forge::{Ca, DAY, Domain, HOUR, Leaf, NOW_SECOND};
use crate::meeting::{dialling, link_client, link_server, meet, serving};
use crate::trust::{client_presents, server_presents};

#[tokio::test]
async fn an_expired_certificate() {
    let ours = Domain::new();
    let stale = Leaf::client("east").valid(-2 * DAY, -DAY - 2 * HOUR);
    let (client, server) = client_presents(&ours, &ours.site.issue(&stale)).await;
    assert_eq!((server.code(), server.side()), (FaultCode::Expired, Side::Peer), "{server}");
    assert_eq!(server.evidence_of("expired-for"), Some("1d 2h"));
    assert_eq!(server.evidence_of("not-after"), Some("2026-05-30T22:00:00Z"));
    assert_eq!((client.code(), client.side()), (FaultCode::Expired, Side::Ours), "{client}");
    assert_eq!(client.evidence_of("alert"), Some("certificate_expired (45)"));
    assert!(client.remedy().contains("handfast cert renew"), "{client}");

    let stale = Leaf::server("west").valid(-2 * DAY, -1);
    let (client, _) = server_presents(&ours, &ours.site.issue(&stale)).await;
    assert_eq!(client.code(), FaultCode::Expired, "{client}");
    assert!(client.what().contains("expired 1s ago"), "{client}");
}

#[tokio::test]
async fn a_certificate_that_is_not_valid_yet_shows_the_skew() {
    let ours = Domain::new();
    let early = Leaf::client("east").valid(23 * HOUR + 60, 2 * DAY);
    let (client, server) = client_presents(&ours, &ours.site.issue(&early)).await;
    assert_eq!((server.code(), server.side()), (FaultCode::NotYetValid, Side::Either), "{server}");
    assert_eq!(server.evidence_of("skew"), Some("23h 1min"));
    assert_eq!(server.evidence_of("checked-at"), Some("2026-06-01T00:00:00Z"));
    assert!(server.remedy().contains("date -u"), "{server}");
    assert_eq!(client.evidence_of("alert"), Some("certificate_expired (45)"));
    let early = Leaf::server("west").valid(90, 2 * DAY);
    let (client, _) = server_presents(&ours, &ours.site.issue(&early)).await;
    assert_eq!(client.evidence_of("skew"), Some("1min 30s"), "{client}");
}

#[tokio::test]
async fn a_clock_that_is_wrong_by_a_day_is_the_fault_of_either() {
    let ours = Domain::new();
    let yesterday = Clock::fixed(Timestamp::from_second(NOW_SECOND - DAY).expect("in range"));
    let slow = ServerOptions { clock: yesterday, ..link_server() };
    let slow = server_config(&ours.server(), &slow).expect("config");
    let (_, server) = meet(slow, dialling(&ours.client()), "localhost").await.faults();
    assert_eq!(server.code(), FaultCode::NotYetValid, "{server}");
    assert_eq!(server.evidence_of("skew"), Some("23h"));

    let next_week = Clock::fixed(Timestamp::from_second(NOW_SECOND + 7 * DAY).expect("in range"));
    let fast = ClientOptions { clock: next_week, ..link_client() };
    let east = ours.client();
    let fast = client_config(Some(&east), east.anchors(), &fast).expect("config");
    let (client, _) = meet(serving(&ours.server()), fast, "localhost").await.faults();
    assert_eq!(client.code(), FaultCode::Expired, "{client}");
}

#[tokio::test]
async fn an_expired_anchor_vouches_for_nobody() {
    let stale = Ca::root_valid("handfast-root", -20 * DAY, -10 * DAY);
    let anchors = stale.anchors();
    let server = stale.issue(&Leaf::server("west")).credential(&anchors);
    let client = stale.issue(&Leaf::client("east")).credential(&anchors);
    let (client, _) = meet(serving(&server), dialling(&client), "localhost").await.faults();
    assert_eq!(client.code(), FaultCode::Expired, "{client}");
    assert!(client.what().contains("CN=handfast-root"), "{client}");

    let future = Ca::root_valid("handfast-root", DAY, 10 * DAY);
    let anchors = future.anchors();
    let server = future.issue(&Leaf::server("west")).credential(&anchors);
    let client = future.issue(&Leaf::client("east")).credential(&anchors);
    let (client, _) = meet(serving(&server), dialling(&client), "localhost").await.faults();
    assert_eq!(client.code(), FaultCode::NotYetValid, "{client}");
}
