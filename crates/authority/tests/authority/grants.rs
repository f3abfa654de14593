//! Grants and their redemption: who is let in, who is not, and that nothing is used up by a refusal.

use std::fs;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use handfast_authority::{GrantError, GrantOptions, RedeemRefusal};
use handfast_pki::{Csr, KeyAlgorithm, PrivateKey, Purpose, SpiffeId, Subject, verify_chain};
use handfast_store::{Audience, AuditRange, Ledger};
use handfast_testkit::openssl::OpenSsl;

use crate::site::{Applicant, Site, anchors, chain, name};

fn west() -> Site {
    let site = Site::new("west");
    site.settled();
    site
}

fn for_site(site: &str) -> GrantOptions {
    GrantOptions { audience: Audience::Site(name(site)), ..GrantOptions::default() }
}

#[test]
fn a_redemption_gives_a_link_certificate_for_the_name_and_the_key_alone() {
    let site = west();
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let greedy = Subject::new("west")
        .with_hosts(["127.0.0.1".parse().unwrap(), "west.example".parse().unwrap()]);
    let csr = Csr::create(&key, &greedy).unwrap();
    let applicant = Applicant { site: "east".into(), csr: csr.der().to_vec() };
    let options = GrantOptions { cost: 7, ..GrantOptions::default() };
    let bundle = site.enrol(&options, &applicant);

    let chain = chain(&bundle);
    let leaf = chain.leaf();
    verify_chain(&chain, &anchors(&bundle), Purpose::Client, site.now).unwrap();
    assert!(verify_chain(&chain, &anchors(&bundle), Purpose::Server, site.now).is_err());
    assert_eq!(leaf.spiffe_id().unwrap().unwrap().to_string(), "spiffe://demo.example/site/east");
    assert_eq!(leaf.common_name(), Some("east"));
    assert_eq!(leaf.spki_der(), key.spki_der());
    assert!(leaf.dns_names().is_empty() && leaf.ip_addresses().is_empty() && !leaf.is_ca());
    assert_eq!(bundle.context, "cost 7");
    assert_eq!(anchors(&bundle).to_pem(), site.authority.trust_anchors().unwrap().to_pem());
}

/// It is not given less than it asks for, so that somebody hears of the attempt; the token is not used by it.
#[test]
fn a_request_for_a_ca_or_for_anothers_identity_is_refused_and_recorded() {
    let site = west();
    let (grant, code) = site.authority.issue_grant(&GrantOptions::default(), site.now).unwrap();
    let refused = |csr: Vec<u8>, expected: &str| {
        let applicant = Applicant { site: "east".into(), csr };
        let refusal = site.redeem(grant.id.as_str(), code.expose(), &applicant).unwrap_err();
        assert_eq!(refusal.code(), expected, "{refusal}");
        let rows = site.authority.ledger().audit_rows(&AuditRange::after(0, 1000)).unwrap();
        let row = &rows.last().unwrap().row;
        assert_eq!((row.action.as_str(), row.outcome.as_str()), ("grant.redeem", "refused"));
        assert!(row.detail.contains(&refusal.to_string()), "{row:?}");
    };
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let asking = |identity: &str| {
        let subject = Subject::new("east").with_identity(identity.parse().unwrap());
        Csr::create(&key, &subject).unwrap().der().to_vec()
    };
    refused(asking("spiffe://demo.example/site/west"), "wrong-name");
    refused(asking("spiffe://demo.example/operator/ann"), "wrong-name");
    refused(asking("spiffe://other.example/site/east"), "wrong-name");
    if let Some(openssl) = OpenSsl::find("a request for a CA") {
        openssl.must("req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=west -keyout key -out ca.csr -addext basicConstraints=critical,CA:TRUE");
        openssl.must(
            "req -new -key key -subj /CN=east -out signs.csr -addext keyUsage=critical,keyCertSign",
        );
        for file in ["ca.csr", "signs.csr"] {
            refused(openssl.read(file), "asks-for-ca");
        }
    }
    // The one that it may have is fine, and the token still good for it.
    let applicant =
        Applicant { site: "east".into(), csr: asking("spiffe://demo.example/site/east") };
    site.redeem(grant.id.as_str(), code.expose(), &applicant).unwrap();
}

/// Who asks in vain asks again and again: each kind is a row once an hour.
#[test]
fn refused_renewals_are_on_record_and_fill_no_disk() {
    let mut site = west();
    site.enrol(&GrantOptions::default(), &Applicant::new("east"));
    let east: SpiffeId = "spiffe://demo.example/site/east".parse().unwrap();
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let north =
        Subject::new("north").with_identity("spiffe://demo.example/site/north".parse().unwrap());
    let request = Csr::create(&key, &north).unwrap().to_pem();
    let rows = |site: &Site| -> Vec<String> {
        let rows = site.authority.ledger().audit_rows(&AuditRange::after(0, 1000)).unwrap();
        let refused = rows.into_iter().map(|recorded| recorded.row).filter(|row| {
            (row.action.as_str(), row.outcome.as_str()) == ("certificate.renew", "refused")
        });
        refused.map(|row| format!("{} {}", row.actor, row.detail)).collect()
    };
    let issued = site.issued();
    for _ in 0..50 {
        for (request, code) in [(request.as_str(), "wrong-name"), ("hello", "bad-request")] {
            let refusal =
                site.authority.renew_for_peer(&east, request.as_bytes(), site.now).unwrap_err();
            assert_eq!(refusal.code(), code, "{refusal}");
        }
    }
    let told = rows(&site);
    assert_eq!(told.len(), 2, "{told:?}");
    for (row, code) in told.iter().zip(["wrong-name", "bad-request"]) {
        assert!(row.starts_with(&format!("{east} {code}: ")), "{row}");
    }
    site.pass(3700);
    site.authority.renew_for_peer(&east, request.as_bytes(), site.now).unwrap_err();
    assert_eq!(rows(&site).len(), 3);
    assert_eq!(site.issued(), issued, "nothing was signed");
}

#[test]
fn each_refusal_is_told_apart_and_uses_nothing() {
    let mut site = west();
    let (grant, code) = site.authority.issue_grant(&GrantOptions::default(), site.now).unwrap();
    let id = grant.id.as_str();
    let east = Applicant::new("east");

    let refused = site.redeem("grant-nobody-made", code.expose(), &east).unwrap_err();
    assert!(matches!(refused, RedeemRefusal::Unknown), "{refused}");
    let refused = site.redeem("../../etc", code.expose(), &east).unwrap_err();
    assert!(matches!(refused, RedeemRefusal::Unknown), "{refused}");
    for wrong in ["", "x", &code.expose()[1..], &code.expose().to_lowercase()] {
        let refused = site.redeem(id, wrong, &east).unwrap_err();
        assert!(matches!(refused, RedeemRefusal::WrongCode), "{refused}");
    }
    for bad in ["", "East", "a/b", "ü", &"a".repeat(64)] {
        let applicant = Applicant { site: bad.into(), ..east.clone() };
        let refused = site.redeem(id, code.expose(), &applicant).unwrap_err();
        assert!(matches!(refused, RedeemRefusal::BadSiteName(_)), "{bad}: {refused}");
    }
    let mut torn = east.clone();
    torn.csr.truncate(200);
    let refused = site.redeem(id, code.expose(), &torn).unwrap_err();
    assert!(matches!(refused, RedeemRefusal::BadRequest(_)), "{refused}");
    let refused = site.redeem(id, code.expose(), &Applicant::new("west")).unwrap_err();
    assert_eq!(refused.code(), "own-name");

    // All of that used nothing.
    let first = site.redeem(id, code.expose(), &east).unwrap();
    // The same key again: the same answer, even when the grant is long over.
    assert_eq!(site.redeem(id, code.expose(), &east).unwrap(), first);
    let refused = site.redeem(id, code.expose(), &Applicant::new("north")).unwrap_err();
    assert!(matches!(refused, RedeemRefusal::Spent), "{refused}");
    site.pass(16 * 60);
    assert_eq!(site.redeem(id, code.expose(), &east).unwrap(), first);

    let (late, code) = site.authority.issue_grant(&GrantOptions::default(), site.now).unwrap();
    site.pass(15 * 60);
    let refused = site.redeem(late.id.as_str(), code.expose(), &Applicant::new("south"));
    assert!(matches!(refused, Err(RedeemRefusal::Expired)), "{refused:?}");
}

#[test]
fn a_request_that_proves_no_key_is_refused() {
    let site = west();
    let (grant, code) = site.authority.issue_grant(&GrantOptions::default(), site.now).unwrap();
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let mut der = Csr::create(&key, &Subject::new("east")).unwrap().der().to_vec();
    *der.last_mut().unwrap() ^= 1;
    let applicant = Applicant { site: "east".into(), csr: der };
    let refused = site.redeem(grant.id.as_str(), code.expose(), &applicant).unwrap_err();
    assert_eq!(refused.code(), "bad-request");
}

#[test]
fn a_grant_for_one_site_serves_that_site_only() {
    let site = west();
    let (grant, code) = site.authority.issue_grant(&for_site("east"), site.now).unwrap();
    let refused =
        site.redeem(grant.id.as_str(), code.expose(), &Applicant::new("north")).unwrap_err();
    assert_eq!(refused.code(), "wrong-site");
    assert!(refused.to_string().contains("north"), "{refused}");
    site.redeem(grant.id.as_str(), code.expose(), &Applicant::new("east")).unwrap();
}

#[test]
fn a_name_that_is_enrolled_is_refused_unless_the_grant_is_for_it() {
    let mut site = west();
    site.enrol(&GrantOptions::default(), &Applicant::new("east"));
    let (grant, code) = site.authority.issue_grant(&GrantOptions::default(), site.now).unwrap();
    let id = grant.id.as_str();
    let refused = site.redeem(id, code.expose(), &Applicant::new("east")).unwrap_err();
    assert_eq!(refused.code(), "name-taken");
    assert!(refused.to_string().contains("until"), "{refused}");
    site.enrol(&for_site("east"), &Applicant::new("east"));

    // Once its certificates have expired, the name is free again.
    site.pass(25 * 3600);
    site.enrol(&GrantOptions::default(), &Applicant::new("east"));
}

#[test]
fn the_code_is_nowhere_on_disk() {
    let site = west();
    let (grant, code) = site.authority.issue_grant(&GrantOptions::default(), site.now).unwrap();
    site.redeem(grant.id.as_str(), code.expose(), &Applicant::new("east")).unwrap();
    assert!(code.expose().len() >= 32);
    assert!(!format!("{code:?} {grant:?}").contains(code.expose()));
    let mut looked_at = 0;
    for entry in fs::read_dir(site.path().join("runtime")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let content = fs::read(&path).unwrap();
            let code = code.expose().as_bytes();
            assert!(!content.windows(code.len()).any(|window| window == code), "{path:?}");
            looked_at += usize::from(path.to_string_lossy().contains("state.db"));
        }
    }
    assert!(looked_at > 0, "the ledger was not looked at");
    for recorded in site.authority.ledger().audit_rows(&AuditRange::after(0, 100)).unwrap() {
        assert!(!format!("{recorded:?}").contains(code.expose()));
    }
}

#[test]
fn many_at_once_get_no_more_than_allowed() {
    let site = west();
    let options = GrantOptions { redemptions_allowed: 3, ..GrantOptions::default() };
    let (grant, code) = site.authority.issue_grant(&options, site.now).unwrap();
    let site = Arc::new(site);
    let served: usize = thread::scope(|scope| {
        let tries: Vec<_> = (0..8)
            .map(|number| {
                let (site, grant, code) = (Arc::clone(&site), grant.clone(), code.clone());
                scope.spawn(move || {
                    let applicant = Applicant::new(&format!("site-{number}"));
                    match site.redeem(grant.id.as_str(), code.expose(), &applicant) {
                        Ok(_) => 1,
                        Err(RedeemRefusal::Spent) => 0,
                        Err(other) => panic!("{other}"),
                    }
                })
            })
            .collect();
        tries.into_iter().map(|each| each.join().unwrap()).sum()
    });
    assert_eq!(served, 3);
    assert_eq!(site.authority.ledger().redemptions(&grant.id).unwrap().len(), 3);
}

#[test]
fn grants_out_of_bounds_are_not_given() {
    let site = west();
    let ask = |options: GrantOptions| site.authority.issue_grant(&options, site.now);
    let none = GrantOptions { redemptions_allowed: 0, ..GrantOptions::default() };
    assert!(matches!(ask(none), Err(GrantError::Count { .. })));
    let many = GrantOptions { redemptions_allowed: 1001, ..GrantOptions::default() };
    assert!(matches!(ask(many), Err(GrantError::Count { .. })));
    let never = GrantOptions { valid_for: Duration::ZERO, ..GrantOptions::default() };
    assert!(matches!(ask(never), Err(GrantError::Window { .. })));
    let ages =
        GrantOptions { valid_for: Duration::from_secs(91 * 86_400), ..GrantOptions::default() };
    assert!(matches!(ask(ages), Err(GrantError::Window { .. })));
    assert!(matches!(ask(for_site("west")), Err(GrantError::OwnName { .. })));
    let named = GrantOptions { name: Some(name("mine")), ..GrantOptions::default() };
    assert_eq!(ask(named.clone()).unwrap().0.id, name("mine"));
    assert!(matches!(ask(named), Err(GrantError::Store(_))));
}

#[test]
fn a_site_that_cannot_sign_gives_no_grant() {
    let site = Site::new("west");
    let refused = site.authority.issue_grant(&GrantOptions::default(), site.now).unwrap_err();
    assert!(matches!(refused, GrantError::CannotSign(_)), "{refused}");
}
