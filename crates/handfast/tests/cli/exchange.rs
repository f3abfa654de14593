//! `cert issue`, `import`, `export`, `needs-renewal`, `lint`, `explain` and `list --expiring` as typed, on a home
//! without a node.

use std::fs;

use handfast_testkit::authority::TestAuthority;
use jiff::Timestamp;
use serde_json::Value;

use crate::desk::{Desk, Ran, mode};

#[expect(clippy::disallowed_methods, reason = "the program under test reads the real time")]
fn authority() -> TestAuthority {
    TestAuthority::new("demo.example", Timestamp::now())
}

/// A desk with a home `h` that has a site.
fn desk() -> Desk {
    let desk = Desk::new();
    let made = desk.run("--home h site create west --trust-domain demo.example");
    assert_eq!(made.code, 0, "{made:#?}");
    desk.write("pass", "secret word\n");
    desk
}

#[track_caller]
fn ok(desk: &Desk, line: &str) -> Ran {
    let ran = desk.run(line);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "`handfast {line}`: {ran:#?}");
    ran
}

#[track_caller]
fn json(desk: &Desk, line: &str) -> Value {
    let ran = desk.run(&format!("{line} -o json"));
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{line}: {error}: {ran:#?}"))
}

#[test]
fn a_certificate_is_issued_into_files_that_nobody_else_reads_or_overwrites() {
    let desk = desk();
    ok(&desk, "--home h cert issue --profile component --name payments --out payments");
    assert_eq!(mode(&desk.path("payments/tls.key")), 0o600);
    ok(
        &desk,
        "cert verify payments/tls.crt --ca payments/ca.crt --key payments/tls.key --purpose client",
    );
    let shown = json(&desk, "cert show payments/tls.crt");
    let identity = &shown["certificates"][0]["identity"];
    assert_eq!(identity, "spiffe://demo.example/component/payments");

    let key = desk.read("payments/tls.key");
    let again = desk.run("--home h cert issue --profile component --name payments --out payments");
    assert_eq!(again.code, 1, "{again:#?}");
    assert_eq!(desk.read("payments/tls.key"), key);
    ok(&desk, "--home h cert issue --profile component --name payments --out payments --force");
    assert_ne!(desk.read("payments/tls.key"), key);

    // The same key again, on request.
    ok(
        &desk,
        "--home h cert issue --profile component --name payments --key payments/tls.key --out again",
    );
    assert_eq!(desk.read("again/tls.key"), desk.read("payments/tls.key"));
    for (line, code) in [
        ("--profile root --name r --out x", 5),
        (
            "--profile component --name west.bank --identity spiffe://other.example/component/x --out x",
            5,
        ),
        ("--profile service-server --host *.example --out x", 5),
        ("--profile component --name a --ttl 300d --out x", 5),
        ("--profile component --name a", 2),
        ("--name a --out x", 2),
        ("--profile component --out x", 2),
        ("--profile nonsense --name a --out x", 2),
        ("--csr nowhere.csr", 3),
        ("--csr pass", 3),
    ] {
        let ran = desk.run(&format!("--home h cert issue {line}"));
        assert_eq!(ran.code, code, "{line}: {ran:#?}");
        assert!(!desk.path("x").exists(), "{line}");
    }
    assert_eq!(desk.run("--home nobody cert issue --profile component --name a --out x").code, 1);
}

#[test]
fn what_is_exported_is_imported_by_another_home() {
    let desk = desk();
    ok(&desk, "--home h cert issue --profile service-server --host pay.example --out pay");
    ok(&desk, "--home h cert import pay/tls.crt pay/tls.key pay/ca.crt --name pay");
    assert_eq!(mode(&desk.path("h/input/certs/pay/tls.key")), 0o600);
    ok(&desk, "--home h cert export pay --format pkcs12 --out pay.p12 --passphrase-file pass");
    assert_eq!(mode(&desk.path("pay.p12")), 0o600);
    ok(
        &desk,
        "--home h cert export pay --format pkcs12 --legacy --out old.p12 --passphrase-file pass",
    );
    ok(&desk, "--home h cert export pay --out pay.pem");
    ok(&desk, "--home h cert export pay --format der --out pay.der");
    ok(&desk, "--home h cert export pay --format der --only key --out pay-key.der");
    ok(&desk, "--home h cert export pay --only ca --out ca.pem");
    ok(
        &desk,
        "--home h cert export pay --format pkcs12 --only ca --out trust.p12 --passphrase-file pass",
    );
    let expect = desk.read("h/input/certs/pay/tls.crt");
    for (files, name) in [
        ("pay.p12 --passphrase-file pass", "a"),
        ("old.p12 --passphrase-file pass", "b"),
        ("pay.pem ca.pem", "c"),
        ("ca.pem pay-key.der pay.der h/input/certs/pay/tls.crt", "d"),
    ] {
        ok(&desk, &format!("--home g cert import {files} --name {name}"));
        assert_eq!(desk.read(&format!("g/input/certs/{name}/tls.crt")), expect, "{files}");
        ok(&desk, &format!("--home g cert verify {name} --name pay.example"));
    }
    for (line, code) in [
        ("--home g cert import pay.p12 --name e", 3),
        ("--home g cert import pay.der pay-key.der --name e", 3),
        ("--home g cert import pay.p12 --passphrase-file pay.pem --name e", 3),
        ("--home g cert import pay.pem ca.pem --name a", 1),
        ("--home h cert export pay --format jks --out pay.jks", 2),
        ("--home h cert export pay --out pay.pem", 1),
        ("--home h cert export pay --format pkcs12 --out q.p12", 2),
        ("--home h cert export nobody --out q.pem", 3),
        ("--home h cert export handfast-service-ca --out q.pem", 1),
    ] {
        let ran = desk.run(line);
        assert_eq!(ran.code, code, "{line}: {ran:#?}");
    }
    assert!(!desk.path("g/input/certs/e").exists());
}

#[test]
fn an_export_is_on_record_or_it_is_none() {
    let desk = desk();
    // Nothing was ever made in this home, so there is no record to be kept.
    let credential = authority().server("pay", &["pay.example"]).to_pem();
    desk.write("h/input/certs/pay/tls.crt", &credential.tls_crt);
    desk.write("h/input/certs/pay/tls.key", credential.tls_key.as_bytes());
    desk.write("h/input/certs/pay/ca.crt", &credential.ca_crt);
    ok(&desk, "--home h cert export pay --out before.pem");

    ok(&desk, "--home h cert issue --profile component --name a --out a");
    ok(&desk, "--home h cert export pay --out whole.pem --reason for-java");
    ok(&desk, "--home h cert export pay --only ca --out ca.pem");
    ok(&desk, "--home h cert export pay --only key --out -");
    let refused = desk.run("--home h cert export pay --out whole.pem");
    assert_eq!(refused.code, 1, "a file is in the way: {refused:#?}");
    desk.write("blocked", "a file");
    let failed = desk.run("--home h cert export pay --out blocked/below.pem");
    assert_ne!(failed.code, 0, "{failed:#?}");
    let rows = json(&desk, "--home h audit list --action credential.export");
    let rows = rows.as_array().expect("rows");
    let told: Vec<(bool, &str)> = rows
        .iter()
        .map(|row| {
            let detail = row["detail"].as_str().expect("text");
            (detail.starts_with("with its private key"), row["outcome"].as_str().expect("text"))
        })
        .collect();
    let newest_first = rows[0]["sequence"].as_u64() > rows[1]["sequence"].as_u64();
    let expected = [(true, "ok"), (false, "ok"), (true, "ok"), (true, "ok"), (true, "failed")];
    let in_order: Vec<_> = if newest_first { told.into_iter().rev().collect() } else { told };
    assert_eq!(in_order, expected, "{rows:#?}");
    let first = rows.iter().find(|row| row["why"] == "for-java").expect("the reason is kept");
    assert!(first["actor"].as_str().is_some_and(|who| who.starts_with("uid:")), "{first:#}");
    assert!(first["subject"].as_str().is_some_and(|what| what.contains("pay")), "{first:#}");
    assert!(first["detail"].as_str().is_some_and(|what| what.contains("whole.pem")), "{first:#}");

    // What cannot be recorded does not leave the home.
    desk.write("h/runtime/state.db", "this is no ledger");
    for out in ["lost.pem", "-"] {
        let ran = desk.run(&format!("--home h cert export pay --out {out}"));
        assert_ne!(ran.code, 0, "{ran:#?}");
        assert!(ran.stderr.contains("nothing is exported"), "{ran:#?}");
        assert!(!ran.stdout.contains("PRIVATE KEY"), "{ran:#?}");
    }
    assert!(!desk.path("lost.pem").exists());
}

#[test]
fn what_is_revoked_without_a_node_is_on_record_and_stays_so() {
    let desk = desk();
    ok(&desk, "--home h cert issue --profile component --name a --out a");
    let shown = json(&desk, "cert show a/tls.crt");
    let serial = shown["certificates"][0]["serial"].as_str().expect("a serial").to_owned();
    let before = json(&desk, &format!("--home h cert list --issued --serial {serial}"));
    assert_eq!(before[0]["revocationReason"], Value::Null, "{before:#}");

    let line = "--home h cert revoke --name a --reason key-compromise --yes --note stolen";
    let said = ok(&desk, line).stdout;
    assert!(said.contains(&serial) && said.contains("from its start on"), "{said}");
    let again = json(&desk, line);
    assert_eq!(again["certificates"][0]["already"], true, "{again:#}");
    let after = json(&desk, &format!("--home h cert list --issued --serial {serial}"));
    assert_eq!(after[0]["revocationReason"], "key-compromise", "{after:#}");
    assert_eq!(after[0]["enrolmentEnded"], true);
    let rows = json(&desk, "--home h audit list --action certificate.revoke");
    assert_eq!(rows[0]["why"], "stolen", "{rows:#}");
    assert!(rows[0]["actor"].as_str().is_some_and(|who| who.starts_with("uid:")), "{rows:#}");
    // Nothing is issued for its key any more.
    let renewed =
        desk.run("--home h cert issue --profile component --name a --key a/tls.key --out b");
    assert_eq!(renewed.code, 5, "{renewed:#?}");
    for (line, code) in [
        ("--home h cert revoke --serial 00ff --reason superseded --yes", 11),
        ("--home nobody cert revoke --serial 00ff --reason superseded --yes", 4),
    ] {
        assert_eq!(desk.run(line).code, code, "{line}");
    }
    assert!(!desk.path("nobody").exists());
}

#[test]
fn an_import_that_fails_says_what_to_type_and_that_works() {
    let desk = desk();
    let credential = authority().leaf("greeter").version_1().build().to_pem();
    desk.write("client.crt", credential.tls_crt);
    desk.write("client.key", credential.tls_key.as_bytes());
    desk.write("ca.crt", credential.ca_crt);
    let line = "--home h cert import client.crt client.key ca.crt --purpose client";
    let ran = desk.run(line);
    assert_eq!(ran.code, 3, "{ran:#?}");
    assert!(ran.stdout.contains("old-version") && ran.stderr.contains("cert issue"), "{ran:#?}");
    let found = json(&desk, line);
    let typed = found["reissue"].as_str().expect("a command").replace("handfast ", "--home h ");
    ok(&desk, &typed);
    let out = typed.rsplit(' ').next().expect("a directory");
    ok(
        &desk,
        &format!("--home h cert import {out}/tls.crt {out}/tls.key {out}/ca.crt --name greeter"),
    );
    assert_eq!(fs::read_dir(desk.path("h/input/certs")).expect("readable").count(), 1);
}

#[test]
fn questions_are_answered_by_the_exit_code() {
    let desk = desk();
    let authority = authority();
    let put = |name: &str, credential: &handfast_pki::Credential| {
        desk.write(name, credential.to_pem().tls_crt);
    };
    put("fresh.crt", &authority.client("west"));
    put("over.crt", &authority.leaf("west").expired().build());
    for (line, code) in [
        ("cert needs-renewal fresh.crt", 9),
        ("cert needs-renewal fresh.crt --expires-in 30m", 9),
        ("cert needs-renewal fresh.crt --expires-in 365d", 0),
        ("cert needs-renewal fresh.crt --expires-in 100%", 0),
        ("cert needs-renewal over.crt", 0),
        ("cert needs-renewal over.crt --expires-in 0%", 0),
        ("cert needs-renewal ./nowhere.crt", 3),
        ("cert needs-renewal pass", 3),
        ("cert needs-renewal fresh.crt --expires-in soon", 2),
        ("cert needs-renewal 127.0.0.1:1", 4),
        ("--home h cert list --expiring 1d", 9),
        ("cert lint fresh.crt", 0),
        ("cert lint over.crt", 1),
        ("cert lint ./nowhere.crt", 3),
    ] {
        let ran = desk.run(line);
        assert_eq!(ran.code, code, "{line}: {ran:#?}");
        assert_eq!(ran.stderr.is_empty(), matches!(code, 0 | 9), "{line}: {ran:#?}");
    }
    assert_eq!(json(&desk, "cert needs-renewal over.crt")["needsRenewal"], true);
    // Making one makes the home's own, of which the leaves end within two days.
    ok(&desk, "--home h cert issue --profile component --name a --out a");
    assert_eq!(desk.run("--home h cert list --expiring 2d").code, 0);
    assert_eq!(desk.run("--home h cert list --expiring 1m").code, 9);
}

#[test]
fn certificates_and_faults_are_explained_in_words() {
    let desk = desk();
    let pem = authority().server("west", &["west.example"]).to_pem();
    desk.write("west.crt", pem.tls_crt);
    let said = ok(&desk, "cert explain west.crt").stdout;
    for words in [
        "a server certificate",
        "the site west",
        "act as the server of west.example",
        "It is valid",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let said = ok(&desk, "cert explain unknown-issuer").stdout;
    assert!(said.starts_with("unknown-issuer: ") && said.contains("What to do."), "{said}");
    assert_eq!(json(&desk, "cert explain unknown-issuer")["code"], "unknown-issuer");
    assert_eq!(desk.run("cert explain no-such-thing").code, 3);
}
