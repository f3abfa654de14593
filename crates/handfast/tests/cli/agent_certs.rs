//! `agent-certs` as typed: the files that it makes, as OpenSSL and rustls see them, and what it says.

use std::io::BufRead as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use handfast_pki::{Certificate, Credential, Eku, Purpose};
use handfast_testkit::openssl::OpenSsl;
use jiff::Timestamp;
use serde_json::Value;

use crate::desk::{Desk, Ran, mode};

const LINE: &str = "--home h agent-certs certs --service shop --hosts localhost,127.0.0.1";

/// A desk with a home `h` that has a site.
fn desk() -> Desk {
    let desk = Desk::new();
    let made = desk.run("--home h site create west --trust-domain demo.example");
    assert_eq!(made.code, 0, "{made:#?}");
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
    serde_json::from_str(&ok(desk, &format!("{line} -o json")).stdout).expect("JSON")
}

fn certificate(desk: &Desk, name: &str) -> Certificate {
    let chain = handfast_pki::Chain::from_pem(desk.read(name).as_bytes()).expect("a chain");
    chain.leaf().clone()
}

fn credential(desk: &Desk, end: &str) -> Credential {
    let read = |name: &str| desk.read(&format!("certs/{name}")).into_bytes();
    let (chain, key) = (read(&format!("{end}.crt")), read(&format!("{end}.pem")));
    Credential::from_pem(&chain, &key, &read("ca.crt"), None).expect("they fit together")
}

#[test]
fn a_home_without_a_site_is_told_what_to_type_and_gets_no_files() {
    let desk = Desk::new();
    let ran = desk.run(LINE);
    assert_eq!(ran.code, 1, "{ran:#?}");
    assert!(ran.stderr.contains("handfast --home h site create NAME"), "{ran:#?}");
    assert!(!desk.path("certs").exists());
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the program under test reads the real time")]
fn the_five_files_are_correct_and_nobody_overwrites_them_unasked() {
    let desk = desk();
    for kind in ["ecdsa", "rsa"] {
        let done = json(&desk, &format!("{LINE} --key-type {kind} --force"));
        assert_eq!(done["files"].as_array().expect("files").len(), 5);
        for (name, bits) in [
            ("ca.crt", 0o644),
            ("client.crt", 0o644),
            ("client.pem", 0o600),
            ("server.crt", 0o644),
            ("server.pem", 0o600),
        ] {
            assert_eq!(mode(&desk.path(&format!("certs/{name}"))), bits, "{name}");
        }
        for key in ["client.pem", "server.pem"] {
            let text = desk.read(&format!("certs/{key}"));
            assert!(text.starts_with("-----BEGIN PRIVATE KEY-----\n"), "{key} is no PKCS#8 PEM");
        }
        let client = certificate(&desk, "certs/client.crt");
        let server = certificate(&desk, "certs/server.crt");
        assert_eq!(client.extended_key_usage(), Some(vec![Eku::ClientAuth]));
        assert_eq!(server.extended_key_usage(), Some(vec![Eku::ServerAuth]));
        assert_eq!(client.uris(), ["spiffe://demo.example/agent/shop"]);
        assert_eq!(client.common_name(), Some("shop"));
        assert_eq!(server.uris(), ["spiffe://demo.example/component/collector.shop"]);
        assert_eq!(server.dns_names(), ["localhost"]);
        assert_eq!(server.ip_addresses(), ["127.0.0.1".parse::<std::net::IpAddr>().unwrap()]);
        assert_ne!(client.serial(), server.serial());
        let subjects = [client.subject(), server.subject(), client.issuer()];
        assert!(subjects[0] != subjects[1] && subjects[1] != subjects[2], "{subjects:?}");
        assert_ne!(subjects[0], subjects[2], "{subjects:?}");
        assert_eq!((client.version(), server.version()), (3, 3));

        // What rustls makes of them: a handshake with each.
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let now = Timestamp::now();
        let (client, server) = (credential(&desk, "client"), credential(&desk, "server"));
        handfast_tls::check(&client, Purpose::Client, &[], now).expect("a client");
        handfast_tls::check(&server, Purpose::Server, &names, now).expect("a server");
        handfast_tls::check(&client, Purpose::Server, &[], now).expect_err("never a server");
        handfast_tls::check(&server, Purpose::Client, &[], now).expect_err("never a client");
    }
    let before = desk.read("certs/client.pem");
    let again = desk.run(LINE);
    assert_eq!(again.code, 1, "{again:#?}");
    assert!(again.stderr.contains("--force"), "{again:#?}");
    assert_eq!(desk.read("certs/client.pem"), before);
}

#[test]
fn what_is_made_is_on_record_and_bounded_by_the_rules() {
    let desk = desk();
    let done = json(&desk, &format!("{LINE} --why bench --ttl 2d"));
    let log = json(&desk, "--home h audit list");
    let rows: Vec<&Value> = log
        .as_array()
        .or_else(|| log["rows"].as_array())
        .expect("rows")
        .iter()
        .filter(|row| row["action"] == "certificate.issue" && row["outcome"] == "ok")
        .collect();
    for end in ["client", "server"] {
        let serial = done[end]["serial"].as_str().expect("a serial");
        let row = rows.iter().find(|row| row["detail"].as_str().unwrap_or("").contains(serial));
        assert_eq!(row.expect("a row")["why"], "bench", "{end}");
    }
    let languages: Vec<&str> = done["settings"]
        .as_array()
        .expect("settings")
        .iter()
        .filter_map(|paste| paste["for"].as_str())
        .collect();
    assert_eq!(languages, ["oap", "java", "go", "php", "rust", "python", "node"]);
    for (line, code) in [
        ("--service shop --hosts h --ttl 300d", 5),
        ("--service shop --hosts 0.0.0.0", 5),
        ("--service shop --hosts *.example", 5),
        ("--service Sh_op --hosts h", 2),
        ("--service shop --hosts a_b!", 2),
        ("--service shop", 2),
        ("--hosts h", 2),
    ] {
        let ran = desk.run(&format!("--home h agent-certs other {line}"));
        assert_eq!(ran.code, code, "{line}: {ran:#?}");
        assert!(!desk.path("other").exists(), "{line}");
    }
    // A host and a service of one name do not become one subject.
    ok(&desk, "--home h agent-certs same --service shop --hosts shop");
    let (client, server) =
        (certificate(&desk, "same/client.crt"), certificate(&desk, "same/server.crt"));
    assert_ne!(client.subject(), server.subject());
}

#[test]
fn openssl_takes_both_ends_for_what_they_are_and_for_nothing_else() {
    let Some(openssl) = OpenSsl::find("agent-certs") else { return };
    let desk = desk();
    ok(&desk, LINE);
    let certs = desk.path("certs");
    for (purpose, file, good) in [
        ("sslclient", "client.crt", true),
        ("sslserver", "server.crt", true),
        ("sslserver", "client.crt", false),
        ("sslclient", "server.crt", false),
    ] {
        let file = certs.join(file).display().to_string();
        let anchors = certs.join("ca.crt").display().to_string();
        let answer = openssl.run([
            "verify",
            "-x509_strict",
            "-purpose",
            purpose,
            "-CAfile",
            &anchors,
            "-untrusted",
            &file,
            &file,
        ]);
        assert_eq!(answer.ok, good, "{purpose} {file}: {}", answer.text);
    }
    let client = ["-cert", "client.crt", "-key", "client.pem", "-cert_chain", "client.crt"];
    for version in ["-tls1_2", "-tls1_3"] {
        for name in [["-verify_hostname", "localhost"], ["-verify_ip", "127.0.0.1"]] {
            let (good, said) = meet(&certs, version, &[&client[..], &name[..]].concat());
            assert!(good && said.contains("Verify return code: 0 (ok)"), "{version}: {said}");
        }
    }
    // TLS 1.2: a refusal of the client's end shows in its own handshake.
    let server = ["-cert", "server.crt", "-key", "server.pem"];
    for (what, arguments) in [
        ("no certificate", &[][..]),
        ("a server as a client", &server[..]),
        ("a name that is not there", &[&client[..], &["-verify_hostname", "other"]].concat()),
    ] {
        let (good, said) = meet(&certs, "-tls1_2", arguments);
        assert!(!good, "{what}: {said}");
    }
}

/// `openssl s_client` meets `openssl s_server`, which wants a client certificate.
fn meet(certs: &Path, version: &str, client: &[&str]) -> (bool, String) {
    let mut server = Server(
        Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0", "-CAfile", "ca.crt", "-Verify", "3"])
            .args(["-cert", "server.crt", "-key", "server.pem", "-cert_chain", "server.crt"])
            .args(["-verify_return_error", "-www", version])
            .current_dir(certs)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl"),
    );
    let lines = std::io::BufReader::new(server.0.stdout.take().expect("piped")).lines();
    let mut lines = lines.map_while(Result::ok);
    let port: u16 = lines
        .find_map(|line| line.strip_prefix("ACCEPT 127.0.0.1:")?.parse().ok())
        .expect("openssl listens");
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &format!("127.0.0.1:{port}"), "-CAfile", "ca.crt"])
        .args(["-verify_return_error", version])
        .args(client)
        .current_dir(certs)
        .stdin(Stdio::null())
        .output()
        .expect("openssl");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// An `openssl s_server` that ends with the value.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
