//! Certificates on request: what is granted, what is refused, and that both are on record.

use std::sync::Arc;
use std::time::Duration;

use handfast_authority::{Declared, IssueFor, IssueRefusal, IssuedFor, RenewNowError, Report};
use handfast_pki::{Csr, Host, KeyAlgorithm, PrivateKey, Profile, Purpose, Subject, verify_chain};
use handfast_store::{AuditRange, AuditRow, IssuedFilter, Ledger as _};
use handfast_testkit::openssl::OpenSsl;

use crate::site::{Site, name};

fn key() -> PrivateKey {
    PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap()
}

fn csr(subject: &Subject) -> Vec<u8> {
    Csr::create(&key(), subject).unwrap().to_pem().into_bytes()
}

fn order(profile: Profile, subject: &Subject) -> IssueFor {
    IssueFor {
        profile,
        csr: csr(subject),
        identity: None,
        hosts: Vec::new(),
        common_name: None,
        ttl: None,
        issuer: None,
        actor: "uid:0".to_owned(),
        why: "ticket 7".to_owned(),
    }
}

fn site() -> Site {
    let site = Site::new("west");
    site.settled();
    site
}

fn issue(site: &Site, order: &IssueFor) -> Result<IssuedFor, IssueRefusal> {
    site.authority.issue_for(order, site.now)
}

fn audit(site: &Site) -> Vec<AuditRow> {
    let rows = site.authority.ledger().audit_rows(&AuditRange::after(0, 10_000)).unwrap();
    rows.into_iter().map(|recorded| recorded.row).collect()
}

#[test]
fn each_profile_for_users_is_issued_with_its_identity_and_recorded() {
    let site = site();
    for (profile, subject, identity, purpose) in [
        (Profile::Component, Subject::new("payments"), "component/payments", Purpose::Client),
        (Profile::Agent, Subject::new("orders"), "agent/orders", Purpose::Client),
        (Profile::Operator, Subject::new("ann"), "operator/ann", Purpose::Client),
        (Profile::ServiceClient, Subject::new("batch"), "component/batch", Purpose::Client),
    ] {
        let issued = issue(&site, &order(profile, &subject)).unwrap();
        let leaf = issued.chain.leaf();
        let expect = format!("spiffe://demo.example/{identity}");
        assert_eq!(leaf.spiffe_id().unwrap().map(|id| id.to_string()), Some(expect.clone()));
        verify_chain(&issued.chain, &issued.anchors, purpose, site.now).unwrap();
        let found = site.authority.ledger().lineage(&issued.lineage).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].serial, *leaf.serial());
        let row = audit(&site).pop().unwrap();
        assert_eq!((row.action.as_str(), row.outcome.as_str()), ("certificate.issue", "ok"));
        assert_eq!((row.actor.as_str(), row.why.as_str()), ("uid:0", "ticket 7"));
        assert_eq!(row.subject, expect);
    }
    let hosts =
        Subject::new("pay").with_hosts(["pay.example", "10.0.0.7"].map(|h| h.parse().unwrap()));
    let mut wanted = order(Profile::ServiceServer, &Subject::new("pay"));
    wanted.hosts = ["pay.example", "10.0.0.7"].map(|host| host.parse::<Host>().unwrap()).to_vec();
    for order in [wanted, order(Profile::ServiceServer, &hosts)] {
        let issued = issue(&site, &order).unwrap();
        assert_eq!(issued.chain.leaf().dns_names(), ["pay.example"]);
        assert_eq!(issued.issuer, site.declared.names.service_ca);
        verify_chain(&issued.chain, &issued.anchors, Purpose::Server, site.now).unwrap();
    }
}

#[test]
fn what_is_against_the_rules_is_refused_and_audited_and_nothing_is_issued() {
    let site = site();
    let count = || site.authority.ledger().issued(&IssuedFilter::default()).unwrap().len();
    let before = count();
    let identity = |text: &str| text.parse().ok();
    let component = |change: &dyn Fn(&mut IssueFor)| {
        let mut order = order(Profile::Component, &Subject::new("payments"));
        change(&mut order);
        order
    };
    let server = |host: &str| {
        let mut order = order(Profile::ServiceServer, &Subject::new("pay"));
        order.hosts = vec![host.parse().unwrap()];
        order
    };
    let another = Subject::new("payments")
        .with_identity("spiffe://demo.example/component/ledger".parse().unwrap());
    let with_host = Subject::new("payments").with_hosts(["h.example".parse().unwrap()]);
    let mut truncated = order(Profile::Component, &Subject::new("payments"));
    truncated.csr.truncate(120);
    let mut another_identity = order(Profile::Component, &another);
    another_identity.identity = identity("spiffe://demo.example/component/payments");
    let mut other_hosts = order(
        Profile::ServiceServer,
        &Subject::new("pay").with_hosts(["bank.example".parse().unwrap()]),
    );
    other_hosts.hosts = vec!["pay.example".parse().unwrap()];
    for (what, order, code) in [
        ("no request", component(&|order| order.csr = b"hello".to_vec()), "bad-request"),
        ("an empty request", component(&|order| order.csr.clear()), "bad-request"),
        ("half a request", truncated, "bad-request"),
        ("a root", order(Profile::Root, &Subject::new("r")), "profile"),
        ("a site CA", order(Profile::SiteCa, &Subject::new("r")), "profile"),
        ("a link", order(Profile::LinkClient, &Subject::new("east")), "profile"),
        ("another's identity", another_identity, "wrong-name"),
        ("another's host", other_hosts, "wrong-name"),
        ("a host on a client", order(Profile::Component, &with_host), "not-allowed"),
        ("no name", component(&|order| order.common_name = Some(String::new())), "no-identity"),
        (
            "a bad name",
            order(Profile::Component, &Subject::new("Payments of the bank")),
            "bad-name",
        ),
        (
            "another trust domain",
            component(&|order| order.identity = identity("spiffe://other.example/component/x")),
            "foreign-domain",
        ),
        (
            "a site's identity",
            component(&|order| order.identity = identity("spiffe://demo.example/site/east")),
            "site-identity",
        ),
        (
            "an operator as a component",
            component(&|order| order.identity = identity("spiffe://demo.example/operator/ann")),
            "wrong-identity",
        ),
        ("a wildcard", server("*.example"), "wildcard"),
        ("nowhere", server("0.0.0.0"), "bad-address"),
        ("everybody", server("ff02::1"), "bad-address"),
        (
            "a server without a host",
            order(Profile::ServiceServer, &Subject::new("pay")),
            "not-allowed",
        ),
        (
            "ten years",
            component(&|order| order.ttl = Some(Duration::from_secs(3650 * 86_400))),
            "life-too-long",
        ),
        (
            "more than a sixth of the CA",
            component(&|order| order.ttl = Some(Duration::from_secs(60 * 86_400))),
            "life-too-long",
        ),
        (
            "a second",
            component(&|order| order.ttl = Some(Duration::from_secs(1))),
            "life-too-short",
        ),
        ("an unknown issuer", component(&|order| order.issuer = Some(name("nobody"))), "not-ready"),
    ] {
        let refusal = issue(&site, &order).expect_err(what);
        assert_eq!(refusal.code(), code, "{what}: {refusal}");
        let row = audit(&site).pop().unwrap();
        assert_eq!((row.outcome.as_str(), row.actor.as_str()), ("refused", "uid:0"), "{what}");
        assert!(row.detail.starts_with(code), "{what}: {}", row.detail);
    }
    assert_eq!(count(), before);
}

/// Requests that nobody makes by mistake: what their key or their extensions ask for.
#[test]
fn weak_keys_and_wishes_for_more_are_refused_and_audited() {
    let Some(openssl) = OpenSsl::find("requests with weak keys") else { return };
    let site = site();
    let before = site.issued();
    let rsa = "-newkey rsa:2048 -nodes -keyout key";
    let ec = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key";
    for (what, key, subject, extension, code) in [
        ("1024 bits", "-newkey rsa:1024 -nodes -keyout key", "/CN=pay", "", "bad-request"),
        (
            "an exponent of 3",
            "-newkey rsa:2048 -pkeyopt rsa_keygen_pubexp:3 -nodes -keyout key",
            "/CN=pay",
            "",
            "weak-key",
        ),
        (
            "a curve of 192 bits",
            "-newkey ec -pkeyopt ec_paramgen_curve:prime192v1 -nodes -keyout key",
            "/CN=pay",
            "",
            "bad-request",
        ),
        ("a CA", ec, "/CN=pay", "basicConstraints=critical,CA:TRUE", "asks-for-ca"),
        ("to sign", rsa, "/CN=pay", "keyUsage=critical,keyCertSign", "asks-for-ca"),
        (
            "two identities",
            ec,
            "/CN=pay",
            "subjectAltName=URI:spiffe://demo.example/component/pay,URI:spiffe://demo.example/component/b",
            "bad-request",
        ),
        ("a mail address", ec, "/CN=pay", "subjectAltName=email:root@pay.example", "bad-request"),
        ("a name with a slash", ec, "/CN=pay\\/..", "", "bad-name"),
        (
            "a wildcard in the middle",
            ec,
            "/CN=pay",
            "subjectAltName=DNS:a.*.example",
            "bad-request",
        ),
        ("a name of dots", ec, "/CN=pay", "subjectAltName=DNS:a..example", "bad-request"),
    ] {
        let extension =
            if extension.is_empty() { String::new() } else { format!(" -addext {extension}") };
        openssl.must(&format!("req -new {key} -subj {subject} -out it.csr{extension}"));
        let mut order = order(Profile::Component, &Subject::new("pay"));
        order.csr = openssl.read("it.csr");
        let refusal = issue(&site, &order).expect_err(what);
        assert_eq!(refusal.code(), code, "{what}: {refusal}");
        let row = audit(&site).pop().unwrap();
        assert_eq!((row.outcome.as_str(), row.actor.as_str()), ("refused", "uid:0"), "{what}");
        assert!(row.detail.starts_with(code), "{what}: {}", row.detail);
    }
    assert_eq!(site.issued(), before);
}

#[test]
fn before_anything_is_declared_nothing_is_issued() {
    let site = Site::declared(Declared::new(name("west")));
    let refusal = issue(&site, &order(Profile::Component, &Subject::new("payments"))).unwrap_err();
    assert!(refusal.is_temporary(), "{refusal}");
}

#[test]
fn many_ask_at_once_and_a_renewed_issuer_is_taken_up() {
    let site = site();
    let requests: Vec<IssueFor> =
        (0..8).map(|index| order(Profile::Component, &Subject::new(format!("c{index}")))).collect();
    std::thread::scope(|scope| {
        for request in &requests {
            let (authority, now) = (Arc::clone(&site.authority), site.now);
            scope.spawn(move || {
                for _ in 0..4 {
                    authority.issue_for(request, now).unwrap();
                }
            });
        }
    });
    let issued = site.authority.ledger().issued(&IssuedFilter::default()).unwrap();
    let ours = issued.iter().filter(|one| one.lineage.as_str().starts_with("issue/"));
    assert_eq!(ours.count(), 32);

    let first = issue(&site, &requests[0]).unwrap();
    let again: Result<Report, RenewNowError> = site.authority.renew_now(
        &site.declared,
        &handfast_authority::Selection::Named(vec![site.declared.names.service_ca.clone()]),
        site.now,
    );
    assert_eq!(again.unwrap().problems, Vec::new());
    let second = issue(&site, &requests[0]).unwrap();
    assert_eq!(first.lineage, second.lineage, "one key, one enrolment");
    assert_ne!(first.chain.rest(), second.chain.rest(), "the new CA signs");
}
