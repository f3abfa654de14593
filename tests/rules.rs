//! The rules that never bend (docs/security-rules.md): that each has tests, as has each case of docs/negative-list.md, that what
//! docs/book/compliance.md points to is there, and those tests that need a whole node and are about nothing else.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use handfast_testkit::authority::TestAuthority;
use handfast_testkit::eventually::{eventually, now, until};
use handfast_testkit::openssl::OpenSsl;
use handfast_testkit::place::{Place, free_port};
use handfast_testkit::site::Site;
use handfast_testkit::traffic::{Echo, visit};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace")
}

/// Everything between backticks on a line.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

#[test]
fn every_rule_has_tests_and_every_test_named_exists() {
    let page = fs::read_to_string(root().join("docs/security-rules.md")).expect("the page");
    let mut rules = 0;
    let mut tests = 0;
    for section in page.split("\n## ").skip(1) {
        rules += 1;
        assert!(
            section.starts_with(&format!("{rules}. ")),
            "rule {rules} is next, not {section:.40}"
        );
        let mut source = None;
        let mut of_rule = 0;
        // The first word of a bullet is a file; what follows, also on later lines, is in it.
        let list = section.lines().skip_while(|line| !line.starts_with("- "));
        for line in list {
            let mut words = quoted(line);
            if line.starts_with("- ") {
                let path = words.next().expect("a path");
                let full = root().join(path);
                assert!(full.exists(), "rule {rules}: there is no {path}");
                source = full.is_file().then(|| fs::read_to_string(&full).expect("readable"));
            }
            for name in words {
                let text = source.as_ref().expect("a file before its tests");
                let found = text.lines().any(|line| {
                    let line = line.trim_start();
                    line.starts_with(&format!("fn {name}("))
                        || line.starts_with(&format!("async fn {name}("))
                });
                assert!(found, "rule {rules}: there is no test {name}");
                of_rule += 1;
            }
        }
        assert!(of_rule > 0, "rule {rules} has no test");
        tests += of_rule;
    }
    assert_eq!(rules, 10);
    assert!(tests > 30, "only {tests} tests were understood");
}

#[test]
fn what_the_notes_on_standards_point_to_is_there() {
    let page = fs::read_to_string(root().join("docs/book/compliance.md")).expect("the page");
    let (mut files, mut tests) = (0, 0);
    for row in page.lines().filter(|line| line.starts_with("| ")) {
        let shown = row.trim_end_matches(" |").rsplit(" | ").next().unwrap_or_default();
        let mut source = String::new();
        for word in quoted(shown) {
            if word.contains(['/', '.']) {
                source = fs::read_to_string(root().join(word))
                    .unwrap_or_else(|error| panic!("{word}: {error}: {row}"));
                files += 1;
            } else if !word.contains(' ') {
                assert!(source.contains(&format!("fn {word}()")), "there is no test {word}: {row}");
                tests += 1;
            }
        }
    }
    assert!(files > 15 && tests > 8, "{files} files and {tests} tests were understood");
}

#[test]
fn every_case_of_the_negative_list_is_shown_by_a_test_that_exists() {
    let page = fs::read_to_string(root().join("docs/negative-list.md")).expect("the page");
    let rows = page.lines().filter(|line| line.starts_with("| ")).skip(1);
    let mut cases = 0;
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [case, file, tests] = cells[..] else { panic!("not three cells: {row}") };
        let path = root().join(file.trim_matches('`'));
        let text =
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{case}: {file}: {error}"));
        let mut named = 0;
        for name in quoted(tests) {
            // With its attribute above, so that it runs.
            let place = text
                .find(&format!("fn {name}("))
                .unwrap_or_else(|| panic!("{case}: there is no test {name} in {file}"));
            let before = text[..place].trim_end().trim_end_matches("async");
            assert!(before.trim_end().ends_with(']'), "{case}: {name} is no test");
            named += 1;
        }
        assert!(named > 0, "{case}: no test");
        cases += 1;
    }
    assert!(cases >= 28, "only {cases} cases were understood");
}

#[test]
fn every_crate_forbids_unsafe_code() {
    let workspace = fs::read_to_string(root().join("Cargo.toml")).expect("the workspace");
    assert!(workspace.contains("unsafe_code = \"forbid\""), "the workspace's lints");
    let mut crates = 0;
    for entry in fs::read_dir(root().join("crates")).expect("crates") {
        let manifest = entry.expect("an entry").path().join("Cargo.toml");
        let Ok(text) = fs::read_to_string(&manifest) else { continue };
        assert!(text.contains("[lints]\nworkspace = true"), "{}", manifest.display());
        crates += 1;
    }
    assert!(crates >= 9, "only {crates} crates were found");
}

fn refusal(west: &Site) -> Option<String> {
    let code = west.status()["refusals"][0]["fault"]["code"].as_str()?.to_owned();
    Some(code)
}

#[test]
fn a_site_certificate_behind_another_leaf_makes_nobody_a_site() {
    let Some(openssl) = OpenSsl::find("identities behind the leaf") else { return };
    let place = Place::new(env!("CARGO_BIN_EXE_handfast"));
    let (west, east) = place.linked();
    let link = east.json("link status")[0]["name"].as_str().expect("a link").to_owned();
    // A component of the same root, which may be a client, with all that east has to show behind it.
    let component = west.path("runtime/certs/handfast-local-client");
    let read = |path: PathBuf| fs::read_to_string(path).expect("a file");
    let chain = read(component.join("tls.crt"))
        + &read(east.path(&format!("runtime/certs/{link}/tls.crt")));
    let chain = openssl.file("chain.crt", chain);
    let (certificate, key) = (component.join("tls.crt"), component.join("tls.key"));
    let said = openssl.s_client(
        west.link_port(),
        &west.path("runtime/certs/handfast-site-server/ca.crt"),
        &[
            "-alpn",
            "handfast-link/1",
            "-cert",
            &certificate.display().to_string(),
            "-key",
            &key.display().to_string(),
            "-cert_chain",
            &chain.display().to_string(),
        ],
    );
    assert!(said.contains("SSL alert number"), "{said}");
    let code = eventually("the refusal shows", || refusal(&west));
    assert_eq!(code, "wrong-identity");
    let links = west.json("link status");
    assert_eq!(links.as_array().map(Vec::len), Some(1), "{links:#}");
}

#[test]
fn the_system_store_of_a_node_counts_for_nothing() {
    let Some(openssl) = OpenSsl::find("the system store") else { return };
    let place = Place::new(env!("CARGO_BIN_EXE_handfast"));
    let stranger = TestAuthority::new("stranger.example", now());
    let pem = stranger.client("east").to_pem();
    let anchors = openssl.file("ca.crt", stranger.anchors().to_pem());
    let certificate = openssl.file("tls.crt", &pem.tls_crt);
    let key = openssl.file("tls.key", pem.tls_key.as_bytes());
    let mut west = place.west();
    // Where the operating system's store is looked for, by those who look.
    west.set("SSL_CERT_FILE", &anchors.display().to_string());
    west.set("SSL_CERT_DIR", &openssl.directory().display().to_string());
    west.start();
    let certificate = certificate.display().to_string();
    let said = openssl.s_client(
        west.link_port(),
        &west.path("runtime/certs/handfast-site-server/ca.crt"),
        &[
            "-alpn",
            "handfast-link/1",
            "-cert",
            &certificate,
            "-key",
            &key.display().to_string(),
            "-cert_chain",
            &certificate,
        ],
    );
    assert!(said.contains("unknown ca"), "{said}");
    assert_eq!(eventually("the refusal shows", || refusal(&west)), "unknown-issuer");
}

#[test]
fn material_that_is_broken_from_the_start_keeps_the_link_port_shut() {
    let place = Place::new(env!("CARGO_BIN_EXE_handfast"));
    let mut west = place.west();
    west.write(
        "input/certs/handfast-site-server/tls.crt",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    );
    west.write("input/certs/handfast-site-server/tls.key", "nothing");
    let service = Echo::start("local");
    let port = free_port();
    west.json(&format!("connector create local {} --host 127.0.0.1", service.port()));
    west.json(&format!("listener create local {port} --host 127.0.0.1"));
    west.start();
    let status = eventually("it says why", || {
        let status = west.status();
        status["problems"].to_string().contains("handfast-site-server").then_some(status)
    });
    assert_eq!(status["state"], "degraded", "{status:#}");
    // What needs no credential is served.
    until("the rest is served", || visit(port).is_ok());
    for (door, port) in [("link", west.link_port()), ("grant", west.grant_port())] {
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "the {door} port is open");
    }
    let refused = west.run(&format!("token issue {} -o json", place.path("t").display()));
    assert_ne!(refused.code, 0, "nobody could redeem it: {refused:#?}");

    fs::remove_dir_all(west.path("input/certs/handfast-site-server")).expect("removed");
    until("both ports open", || {
        [west.link_port(), west.grant_port()]
            .iter()
            .all(|port| TcpStream::connect(("127.0.0.1", *port)).is_ok())
    });
    until("it is well", || west.status()["state"] == "ready");
}
