//! Rule 3: server names match SANs only, DNS or IP; the common name decides nothing, whatever
//! is hidden in it.

use std::net::{IpAddr, Ipv6Addr};

use handfast_pki::Purpose;
use handfast_tls::{FaultCode, check};

use crate::forge::{Domain, Leaf, now};
use crate::meeting::{dialling, meet, serving};

/// The client's fault when it dials `name` and the server is `leaf`; `None` if they meet.
async fn dialled(domain: &Domain, leaf: &Leaf, name: &str) -> Option<handfast_tls::Fault> {
    let server = serving(&domain.site.issue(leaf).credential(&domain.anchors()));
    meet(server, dialling(&domain.client()), name).await.client.err()
}

#[tokio::test]
async fn dns_and_ip_sans_match_and_nothing_else_does() {
    let domain = Domain::new();
    let ip = |text: &str| text.parse::<IpAddr>().expect("address");
    let leaf = Leaf::server("west")
        .named("cn.example")
        .hosts(&["west.example", "*.wild.example"], &[ip("127.0.0.1"), ip("::1")]);
    for name in ["west.example", "WEST.example", "a.wild.example", "127.0.0.1", "::1"] {
        assert_eq!(dialled(&domain, &leaf, name).await, None, "{name}");
    }
    for name in [
        "cn.example",
        "east.example",
        "west.example.evil.example",
        "a.b.wild.example",
        "wild.example",
        "127.0.0.2",
    ] {
        let fault = dialled(&domain, &leaf, name).await.expect(name);
        assert_eq!(fault.code(), FaultCode::WrongName, "{fault}");
        assert_eq!(fault.evidence_of("expected-name"), Some(name));
        let presented = fault.evidence_of("presented-names").expect("names");
        assert!(
            presented.contains("DNS:west.example, DNS:*.wild.example, IP:127.0.0.1"),
            "{fault}"
        );
    }
}

#[tokio::test]
async fn a_common_name_never_names_a_server() {
    let domain = Domain::new();
    let leaf = Leaf::server("west").named("localhost").hosts(&[], &[]);
    let fault = dialled(&domain, &leaf, "localhost").await.expect("CN only");
    assert_eq!(fault.code(), FaultCode::WrongName, "{fault}");
    assert!(fault.evidence_of("note").is_some_and(|note| note.contains("SANs")), "{fault}");

    // An IP address is matched by an IP SAN, not by a DNS SAN that looks like one, nor by the CN.
    let leaf = Leaf::server("west").named("127.0.0.1").hosts(&["127.0.0.1"], &[]);
    let fault = dialled(&domain, &leaf, "127.0.0.1").await.expect("no IP SAN");
    assert_eq!(fault.code(), FaultCode::WrongName, "{fault}");

    // The other way round: an address does not stand for the name that resolves to it.
    let leaf = Leaf::server("west").hosts(&[], &[Ipv6Addr::LOCALHOST.into()]);
    let fault = dialled(&domain, &leaf, "localhost").await.expect("no DNS SAN");
    assert_eq!(fault.code(), FaultCode::WrongName, "{fault}");
}

#[tokio::test]
async fn hostile_common_names_change_nothing_and_are_shown_escaped() {
    let domain = Domain::new();
    for common_name in [
        "localhost\0.evil.example",
        "lоcalhost",
        "\u{202e}tsohlacol",
        "\u{1b}[31mlocalhost",
        "localhost\n  remedy: trust me",
    ] {
        let leaf = Leaf::server("west").named(common_name).hosts(&["other.example"], &[]);
        let fault = dialled(&domain, &leaf, "localhost").await.expect(common_name);
        assert_eq!(fault.code(), FaultCode::WrongName, "{fault}");
        let text = fault.to_string();
        assert!(!text.contains(['\0', '\u{1b}', '\u{202e}']), "{text:?}");
        assert_eq!(fault.one_line().lines().count(), 1);
        assert_eq!(text.lines().filter(|line| line.starts_with("  remedy:")).count(), 1, "{text}");
    }
}

#[tokio::test]
async fn a_client_is_authorised_by_its_identity_whatever_its_common_name_says() {
    let domain = Domain::new();
    let leaf = Leaf::client("east").named("west\0admin");
    let client = dialling(&domain.site.issue(&leaf).credential(&domain.anchors()));
    let (_, met) = meet(serving(&domain.server()), client, "localhost").await.met();
    let peer = met.peer.expect("client");
    assert_eq!(peer.label(), "spiffe://demo.example/site/east");
}

#[test]
fn our_own_server_certificate_is_checked_for_every_name_it_shall_serve() {
    let domain = Domain::new();
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let server = domain.server();
    check(&server, Purpose::Server, &names(&["127.0.0.1", "localhost"]), now()).expect("covered");
    let fault = check(&server, Purpose::Server, &names(&["localhost", "10.0.0.1"]), now())
        .expect_err("not covered");
    assert_eq!(fault.code(), FaultCode::WrongName);
    assert_eq!(fault.evidence_of("expected-name"), Some("10.0.0.1"));
}
