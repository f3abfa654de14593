//! OpenSSL at both ends of a link: what it is let in with, what it is refused for, and what it says of
//! our certificates. Skipped, with one line, where there is no `openssl` command.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use handfast_testkit::authority::TestAuthority;
use handfast_testkit::eventually::{eventually, now, until};
use handfast_testkit::openssl::OpenSsl;
use handfast_testkit::place::{Place, free_port};
use handfast_testkit::site::Site;
use serde_json::Value;

/// A process that is killed when the value goes away.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// `openssl s_client` at the link port of `west`; what it printed until the node closed the connection:
/// at once when it refuses, and when it gave up waiting for a hello else.
fn s_client(west: &Site, openssl: &OpenSsl, arguments: &[&str]) -> String {
    let anchors = west.path("runtime/certs/handfast-site-server/ca.crt");
    openssl.s_client(west.link_port(), &anchors, arguments)
}

fn refusal_codes(west: &Site) -> Vec<String> {
    let refusals = west.status()["refusals"].clone();
    let refusals = refusals.as_array().expect("a list").iter();
    refusals.map(|refusal| refusal["fault"]["code"].as_str().expect("a code").to_owned()).collect()
}

const ALPN: [&str; 2] = ["-alpn", "handfast-link/1"];

fn with_certificate(directory: &Path) -> Vec<String> {
    let file = |name: &str| directory.join(name).display().to_string();
    let words = [
        "-cert".into(),
        file("tls.crt"),
        "-key".into(),
        file("tls.key"),
        "-cert_chain".into(),
        file("tls.crt"),
    ];
    words.into()
}

#[test]
fn a_stranger_at_the_link_port_is_refused_for_the_right_reason() {
    let Some(openssl) = OpenSsl::find("refusals at the link port") else { return };
    let place = Place::new(env!("CARGO_BIN_EXE_handfast"));
    let (west, east) = place.linked();
    let link = east.json("link status")[0]["name"].as_str().expect("a link").to_owned();
    let good = with_certificate(&east.path(&format!("runtime/certs/{link}")));
    let good: Vec<&str> = good.iter().map(String::as_str).collect();

    let from = |trust_domain: &str| {
        let pem = TestAuthority::new(trust_domain, now()).client("east").to_pem();
        let directory = openssl.path(trust_domain);
        fs::create_dir(&directory).expect("a directory");
        fs::write(directory.join("tls.crt"), &pem.tls_crt).expect("a file");
        fs::write(directory.join("tls.key"), pem.tls_key.as_bytes()).expect("a file");
        with_certificate(&directory)
    };
    let stranger = from("stranger.example");
    let stranger: Vec<&str> = stranger.iter().map(String::as_str).collect();
    // A root of the same name, with another key.
    let namesake = from("demo.example");
    let namesake: Vec<&str> = namesake.iter().map(String::as_str).collect();
    // A certificate of the right CA that is for a server.
    let server = with_certificate(&west.path("runtime/certs/handfast-site-server"));
    let server: Vec<&str> = server.iter().map(String::as_str).collect();

    for (what, arguments, code, alert) in [
        ("no certificate", [&ALPN[..]].concat(), "no-certificate", "certificate required"),
        ("another CA", [&ALPN[..], &stranger].concat(), "unknown-issuer", "unknown ca"),
        (
            "a namesake of our CA",
            [&ALPN[..], &namesake].concat(),
            "unknown-issuer",
            "decrypt error",
        ),
        (
            "a server certificate",
            [&ALPN[..], &server].concat(),
            "wrong-eku",
            "unsupported certificate",
        ),
        (
            "TLS 1.2",
            [&ALPN[..], &good, &["-tls1_2"]].concat(),
            "protocol-mismatch",
            "protocol version",
        ),
        (
            "another protocol",
            [&["-alpn", "h2"], &good[..]].concat(),
            "alpn-mismatch",
            "no application protocol",
        ),
    ] {
        let before = refusal_codes(&west).len();
        let said = s_client(&west, &openssl, &arguments);
        assert!(said.contains(alert), "{what}: {said}");
        eventually(&format!("{what} shows in `status`"), || {
            let codes = refusal_codes(&west);
            (codes.len() > before).then(|| assert_eq!(codes[0], code, "{what}"))
        });
    }
    let faults = west.run("status").ok().stdout;
    assert!(faults.contains("unknown-issuer") && faults.contains("wrong-eku"), "{faults}");
    assert_eq!(
        east.link(&link).expect("the link")["state"],
        "up",
        "the link has not noticed any of it"
    );
}

#[test]
fn a_good_link_certificate_is_accepted_at_the_link_port() {
    let Some(openssl) = OpenSsl::find("acceptance at the link port") else { return };
    let place = Place::new(env!("CARGO_BIN_EXE_handfast"));
    let (west, east) = place.linked();
    let link = east.json("link status")[0]["name"].as_str().expect("a link").to_owned();
    let good = with_certificate(&east.path(&format!("runtime/certs/{link}")));
    let mut arguments = ALPN.to_vec();
    arguments.extend(good.iter().map(String::as_str));
    let said = s_client(&west, &openssl, &arguments);
    for word in
        ["TLSv1.3", "Verify return code: 0 (ok)", "ALPN protocol: handfast-link/1", "CN = west"]
    {
        assert!(said.contains(word), "no {word:?} in {said}");
    }
    // Rule 5: nothing to resume with is handed out.
    assert!(!said.contains("New Session Ticket"), "{said}");
    // The handshake held: what it is refused for is that it never says hello.
    assert!(!said.contains("SSL alert number"), "{said}");
    let codes = refusal_codes(&west);
    assert!(codes.iter().all(|code| code == "timed-out"), "{codes:?}");
}

#[test]
fn a_link_certificate_used_as_a_server_is_refused_by_who_links_there() {
    let Some(_) = OpenSsl::find("a link certificate as a server") else { return };
    let place = Place::new(env!("CARGO_BIN_EXE_handfast"));
    let (_west, east) = place.linked();
    let link = east.json("link status")[0]["name"].as_str().expect("a link").to_owned();
    let directory = east.path(&format!("runtime/certs/{link}"));
    let port = free_port();
    let server = Command::new("openssl")
        .args([
            "s_server",
            "-accept",
            &format!("127.0.0.1:{port}"),
            "-tls1_3",
            "-quiet",
            "-naccept",
            "50",
        ])
        .args(["-Verify", "3", "-CAfile", &directory.join("ca.crt").display().to_string()])
        .args(ALPN)
        .args(with_certificate(&directory))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl");
    let _server = Running(server);
    until("s_server listens", || std::net::TcpListener::bind(("127.0.0.1", port)).is_err());
    east.declare(
        "impostor.yaml",
        &format!(
            "apiVersion: handfast.dev/v1alpha1\nkind: Link\nmetadata:\n  name: impostor\nspec:\n  \
             endpoints:\n  - name: inter-router\n    host: 127.0.0.1\n    port: {port}\n  \
             tlsCredentials: {link}\n"
        ),
    );
    let refused = eventually("the link shows a fault", || {
        east.link("impostor").filter(|link| link["fault"] != Value::Null)
    });
    assert_eq!(refused["fault"]["code"], "wrong-eku", "{refused:#}");
    assert_ne!(refused["state"], "up");
    assert!(
        refused["fault"]["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()),
        "{refused:#}"
    );
    let shown = east.run("link status").ok().stdout;
    assert!(shown.contains("wrong-eku"), "{shown}");
    assert_eq!(east.link(&link).expect("the link")["state"], "up");
}

/// Directories below `runtime/certs` and `runtime/issuers`, with the purpose OpenSSL checks.
fn material(site: &Site) -> Vec<PathBuf> {
    ["runtime/certs", "runtime/issuers"]
        .iter()
        .flat_map(|part| fs::read_dir(site.path(part)).expect("a directory"))
        .map(|entry| entry.expect("an entry").path())
        .collect()
}

#[test]
fn openssl_accepts_every_certificate_of_both_homes() {
    let Some(openssl) = OpenSsl::find("openssl verify over two homes") else { return };
    let place = Place::new(env!("CARGO_BIN_EXE_handfast"));
    let (west, east) = place.linked();
    let (mut servers, mut clients) = (0, 0);
    for directory in material(&west).iter().chain(&material(&east)) {
        let file = |name: &str| directory.join(name).display().to_string();
        let chain = file("tls.crt");
        let text = openssl.run(["x509", "-in", &chain, "-noout", "-text"]).text;
        let mut checked = false;
        for (usage, purpose, count) in [
            ("TLS Web Server Authentication", "sslserver", &mut servers),
            ("TLS Web Client Authentication", "sslclient", &mut clients),
        ] {
            if text.contains(usage) {
                verify(&openssl, &file("ca.crt"), &chain, Some(purpose));
                *count += 1;
                checked = true;
            }
        }
        if !checked {
            assert!(text.contains("CA:TRUE"), "neither a leaf with a usage nor a CA:\n{text}");
            verify(&openssl, &file("ca.crt"), &chain, None);
        }
        // Rule 4: never both.
        assert!(
            !(text.contains("TLS Web Server") && text.contains("TLS Web Client")),
            "one certificate for both directions:\n{text}"
        );
        assert_eq!(
            text.contains("TLS Web"),
            directory.starts_with(west.path("runtime/certs"))
                || directory.starts_with(east.path("runtime/certs")),
            "{text}"
        );
    }
    assert!(servers >= 3 && clients >= 3, "{servers} servers and {clients} clients");
}

fn verify(openssl: &OpenSsl, anchors: &str, chain: &str, purpose: Option<&str>) {
    let mut words = vec!["verify", "-x509_strict", "-CAfile", anchors, "-untrusted", chain];
    words.extend(purpose.iter().flat_map(|purpose| ["-purpose", purpose]));
    words.push(chain);
    let answer = openssl.run(words);
    assert!(answer.ok && answer.text.contains(": OK"), "{chain} as {purpose:?}: {}", answer.text);
}
