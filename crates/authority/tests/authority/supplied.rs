//! Credentials that the user supplies: used, judged, never written.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use handfast_authority::{CredentialState, ProblemCode, RenewNowError, Report, Selection};
use handfast_pki::{Credential, CredentialPem, Issuer, PrivateKey};
use handfast_store::Source;
use handfast_testkit::authority::TestAuthority;

use crate::site::{Site, name, start, state, write_credential};

const SERVER: &str = "handfast-site-server";

fn foreign() -> TestAuthority {
    TestAuthority::new("demo.example", start())
}

fn software(ca: &Issuer) -> PrivateKey {
    ca.key().software().unwrap().clone()
}

/// Every file below `input/` with its content.
fn input(site: &Site) -> BTreeMap<PathBuf, Vec<u8>> {
    fn walk(directory: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else {
                found.insert(path.clone(), fs::read(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(&site.path().join("input"), &mut found);
    found
}

fn problem(report: &Report, code: ProblemCode) -> &handfast_authority::Problem {
    report
        .problems
        .iter()
        .find(|problem| problem.code == code)
        .unwrap_or_else(|| panic!("no {code} in {:#?}", report.problems))
}

#[test]
fn a_supplied_server_certificate_is_used_and_never_written() {
    let site = Site::new("west");
    let theirs = foreign().server("west", &["127.0.0.1"]);
    write_credential(&site.input("certs", SERVER), &theirs);
    let before = input(&site);
    let report = site.settled();
    assert_eq!(site.live(SERVER).leaf().fingerprint(), theirs.leaf().fingerprint());
    let facts = report.credentials.iter().find(|facts| facts.name == name(SERVER)).unwrap();
    assert_eq!((facts.source, facts.state), (Source::Supplied, CredentialState::Ready));
    assert_eq!(facts.renew_at, None);
    assert!(report.changed.iter().all(|change| change.name != name(SERVER)));

    let named = Selection::Named(vec![name(SERVER)]);
    let refused = site.authority.renew_now(&site.declared, &named, site.now).unwrap_err();
    assert!(matches!(refused, RenewNowError::Supplied { .. }), "{refused}");
    site.authority.renew_now(&site.declared, &Selection::All, site.now).unwrap();
    assert_eq!(site.live(SERVER).leaf().fingerprint(), theirs.leaf().fingerprint());
    assert_eq!(input(&site), before);
}

#[test]
fn a_supplied_one_that_breaks_leaves_the_last_good_one_live() {
    let site = Site::new("west");
    let directory = site.input("certs", SERVER);
    let authority = foreign();
    let good = authority.server("west", &["127.0.0.1"]);
    write_credential(&directory, &good);
    site.settled();
    let live = site.live(SERVER);

    let other = authority.server("west", &["127.0.0.1"]);
    fs::write(directory.join("tls.key"), other.to_pem().tls_key.as_bytes()).unwrap();
    let report = site.reconcile();
    let problem = problem(&report, ProblemCode::CredentialBroken);
    assert_eq!(problem.resource.as_ref().unwrap().to_string(), "RouterAccess/west");
    assert!(problem.what.contains(directory.to_str().unwrap()), "{problem}");
    assert!(problem.what.contains("key"), "{problem}");
    assert_eq!(state(&report, SERVER), CredentialState::Broken);
    assert!(Arc::ptr_eq(&live, &report.live[&name(SERVER)]));

    write_credential(&directory, &other);
    let report = site.settled();
    assert_eq!(report.live[&name(SERVER)].leaf().fingerprint(), other.leaf().fingerprint());
}

#[test]
fn each_fault_of_a_supplied_one_is_told() {
    let authority = foreign();
    let stranger = TestAuthority::new("demo.example", start());
    let server = || authority.leaf("west").server(&["127.0.0.1"]);
    let good = server().build();
    let cases: Vec<(&str, CredentialPem, &[&str])> = vec![
        ("version 1", server().version_1().build().to_pem(), &["version 1"]),
        ("expired", server().expired().build().to_pem(), &["expired"]),
        ("not yet valid", server().not_yet_valid().build().to_pem(), &["valid"]),
        ("usage", server().wrong_usage().build().to_pem(), &["clientAuth", "serverAuth"]),
        ("CA as leaf", server().ca().build().to_pem(), &["CA"]),
        (
            "another host",
            authority.leaf("west").server(&["other.example"]).build().to_pem(),
            &["other.example", "127.0.0.1"],
        ),
        (
            "two identities",
            server().uri("spiffe://demo.example/site/x").build().to_pem(),
            &["spiffe://demo.example/site/x"],
        ),
        (
            "another CA",
            CredentialPem { ca_crt: stranger.anchors().to_pem(), ..good.to_pem() },
            &["is not signed by"],
        ),
        ("no PEM", CredentialPem { tls_crt: "hello".to_owned(), ..good.to_pem() }, &["tls.crt"]),
    ];
    for (case, pem, words) in cases {
        let site = Site::new("west");
        let directory = site.input("certs", SERVER);
        write_credential(&directory, &good);
        fs::write(directory.join("tls.crt"), &pem.tls_crt).unwrap();
        fs::write(directory.join("tls.key"), pem.tls_key.as_bytes()).unwrap();
        fs::write(directory.join("ca.crt"), &pem.ca_crt).unwrap();
        let before = input(&site);
        let report = site.reconcile();
        let problem = problem(&report, ProblemCode::CredentialBroken);
        for word in words {
            assert!(problem.what.contains(word), "{case}: {problem}");
        }
        assert!(problem.remedy.contains(directory.to_str().unwrap()), "{case}: {problem}");
        assert!(!report.live.contains_key(&name(SERVER)), "{case} went live");
        assert_eq!(input(&site), before, "{case}");
        // The rest of the site is not hurt.
        assert_eq!(state(&report, "handfast-local-server"), CredentialState::Ready);
    }
}

#[test]
fn missing_files_are_named() {
    let site = Site::new("west");
    let directory = site.input("certs", SERVER);
    write_credential(&directory, &foreign().server("west", &["127.0.0.1"]));
    for file in ["ca.crt", "tls.key"] {
        fs::remove_file(directory.join(file)).unwrap();
        let report = site.reconcile();
        let problem = problem(&report, ProblemCode::CredentialBroken);
        assert!(problem.what.contains(file), "{problem}");
    }
}

#[test]
fn a_host_that_is_not_covered_is_a_warning_while_others_are() {
    let mut site = Site::new("west");
    site.declared.accesses[0].hosts.push("west.example".parse().unwrap());
    write_credential(&site.input("certs", SERVER), &foreign().server("west", &["127.0.0.1"]));
    let report = site.reconcile();
    let problem = problem(&report, ProblemCode::CredentialWarning);
    assert!(problem.what.contains("west.example"), "{problem}");
    assert!(report.live.contains_key(&name(SERVER)));
}

#[test]
fn a_supplied_one_near_its_end_is_told_and_used_until_then() {
    let mut site = Site::new("west");
    write_credential(&site.input("certs", SERVER), &foreign().server("west", &["127.0.0.1"]));
    site.settled();
    site.pass(20 * 3600);
    let report = site.reconcile();
    let warning = problem(&report, ProblemCode::CredentialExpiring);
    assert!(warning.what.contains("in 4 h"), "{warning}");
    assert_eq!(state(&report, SERVER), CredentialState::Expiring);
    site.pass(5 * 3600);
    let report = site.reconcile();
    assert_eq!(state(&report, SERVER), CredentialState::Expired);
    assert!(problem(&report, ProblemCode::CredentialBroken).what.contains("expired"));
}

#[test]
fn a_supplied_site_ca_signs_what_is_missing_and_needs_no_root_for_it() {
    let site = Site::new("west");
    let authority = foreign();
    let ca = authority.site_ca();
    let theirs = Credential::new(ca.chain().clone(), software(ca), ca.anchors().clone()).unwrap();
    write_credential(&site.input("issuers", "handfast-site-ca"), &theirs);
    let before = input(&site);
    site.settled();
    let server = site.live(SERVER);
    assert_eq!(server.anchors().to_pem(), authority.anchors().to_pem());
    assert!(server.leaf().verify_signed_by(ca.certificate()).is_ok());
    assert_eq!(input(&site), before);

    // Taken away again, the site makes its own, and what the other signed goes with it.
    fs::remove_dir_all(site.input("issuers", "handfast-site-ca")).unwrap();
    let report = site.settled();
    assert!(report.changed.iter().any(|change| change.name == name(SERVER)));
    assert!(site.live(SERVER).leaf().verify_signed_by(ca.certificate()).is_err());
}

#[test]
fn a_supplied_ca_without_its_key_is_named_by_what_needs_it() {
    let site = Site::new("west");
    let authority = foreign();
    let ca = authority.site_ca();
    let theirs = Credential::new(ca.chain().clone(), software(ca), ca.anchors().clone()).unwrap();
    let directory = site.input("issuers", "handfast-site-ca");
    write_credential(&directory, &theirs);
    fs::remove_file(directory.join("tls.key")).unwrap();
    let report = site.reconcile();
    let problem = problem(&report, ProblemCode::CredentialMissing);
    assert_eq!(problem.name, name(SERVER));
    assert!(problem.what.contains("handfast-site-ca"), "{problem}");
    assert!(problem.what.contains("no key"), "{problem}");
}

#[test]
fn what_resources_use_as_it_was_supplied_is_live_for_as_long_as_one_does() {
    let mut site = Site::new("west");
    let theirs = foreign().client("to-oap");
    write_credential(&site.input("certs", "to-oap"), &theirs);
    site.settled();
    assert!(site.authority.live(&name("to-oap")).is_none(), "nobody uses it");

    site.declared.used.insert(name("to-oap"));
    let report = site.settled();
    assert_eq!(site.live("to-oap").leaf().fingerprint(), theirs.leaf().fingerprint());
    assert!(report.live.contains_key(&name("to-oap")));

    site.declared.used.insert(name("not-there"));
    site.settled();
    assert!(site.authority.live(&name("not-there")).is_none(), "nothing is made of a mere use");

    site.declared.used.clear();
    assert!(!site.settled().live.contains_key(&name("to-oap")));
}
