//! `cert show` and `cert verify` on files: good material, and what is wrong with bad material.

use handfast_pki::Credential;
use handfast_testkit::authority::TestAuthority;
use handfast_testkit::traffic::Nobody;
use jiff::Timestamp;

use crate::desk::Desk;

/// The certificates under test are judged by the program's own clock.
#[expect(clippy::disallowed_methods, reason = "the program under test reads the real time")]
fn authority() -> TestAuthority {
    TestAuthority::new("demo.example", Timestamp::now())
}

fn put(desk: &Desk, name: &str, credential: &Credential) {
    let pem = credential.to_pem();
    desk.write(&format!("{name}.crt"), pem.tls_crt.as_bytes());
    desk.write(&format!("{name}.key"), pem.tls_key.as_bytes());
    desk.write("ca.crt", pem.ca_crt.as_bytes());
}

#[test]
fn a_good_server_certificate_is_proven_by_a_handshake() {
    let desk = Desk::new();
    put(&desk, "west", &authority().server("west", &["west.example", "127.0.0.1"]));
    let line = "cert verify west.crt --ca ca.crt --key west.key --purpose server";
    for name in ["", " --name west.example", " --name 127.0.0.1", " --name WEST.example"] {
        let ran = desk.run(&format!("{line}{name}"));
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{name}: {ran:#?}");
        assert!(ran.stdout.contains("a handshake with its key succeeded"), "{ran:#?}");
        assert!(ran.stdout.contains("spiffe://demo.example/site/west"), "{ran:#?}");
    }
}

#[test]
fn each_fault_of_a_certificate_is_said_with_its_code() {
    let authority = authority();
    let stranger = TestAuthority::new("other.example", authority.now());
    let leaf = || authority.leaf("west");
    for (what, credential, line, expect) in [
        ("expired", leaf().server(&["h"]).expired().build(), "--ca ca.crt", "expired"),
        (
            "not yet valid",
            leaf().server(&["h"]).not_yet_valid().build(),
            "--ca ca.crt",
            "not-yet-valid",
        ),
        (
            "client as server",
            authority.client("west"),
            "--ca ca.crt --purpose server",
            "wrong-usage",
        ),
        (
            "server as client",
            authority.server("west", &["h"]),
            "--ca ca.crt --purpose client",
            "wrong-usage",
        ),
        ("a CA as a leaf", leaf().ca().build(), "--ca ca.crt --purpose client", "ca-as-leaf"),
        ("version 1", leaf().version_1().build(), "--ca ca.crt --purpose client", "old-version"),
        (
            "another name",
            authority.server("west", &["h"]),
            "--ca ca.crt --name i.example",
            "wrong-name",
        ),
        ("another CA", stranger.client("west"), "--ca trusted.crt", "chain"),
    ] {
        let desk = Desk::new();
        put(&desk, "it", &credential);
        desk.write("trusted.crt", authority.anchors().to_pem());
        let ran = desk.run(&format!("cert verify it.crt {line} -o json"));
        assert_eq!(ran.code, 1, "{what}: {ran:#?}");
        let verdict: serde_json::Value =
            serde_json::from_str(&ran.stdout).expect("a JSON document");
        assert_eq!(verdict["ok"], false, "{what}");
        let codes: Vec<&str> = verdict["problems"]
            .as_array()
            .expect("problems")
            .iter()
            .filter_map(|one| one["code"].as_str())
            .collect();
        assert!(codes.contains(&expect), "{what}: {codes:?}");
        let error: serde_json::Value = serde_json::from_str(&ran.stderr).expect("a JSON error");
        assert_eq!(error["error"], "failed", "{what}");
    }
}

#[test]
fn a_key_of_another_certificate_is_noticed() {
    let desk = Desk::new();
    let authority = authority();
    put(&desk, "west", &authority.client("west"));
    put(&desk, "east", &authority.client("east"));
    let ran = desk.run("cert verify west.crt --ca ca.crt --key east.key");
    assert_eq!(ran.code, 1, "{ran:#?}");
    assert!(ran.stderr.contains("key"), "{ran:#?}");
}

#[test]
fn files_that_are_no_certificates_exit_with_3() {
    let desk = Desk::new();
    put(&desk, "west", &authority().client("west"));
    desk.write("empty.pem", "");
    desk.write("text.pem", "hello\n");
    desk.write("cut.pem", &desk.read("west.crt")[..300]);
    for line in [
        "cert show empty.pem",
        "cert show text.pem",
        "cert show cut.pem",
        "cert show west.key",
        "cert show nowhere.pem",
        "cert verify empty.pem",
        "cert verify west.crt --ca text.pem",
        "cert verify west.crt --ca nowhere.pem",
        "cert verify west.crt --key west.crt",
        "cert verify west.crt --key nowhere.key",
        "cert verify no-such-credential",
    ] {
        let ran = desk.run(line);
        assert_eq!(ran.code, 3, "`handfast {line}`: {ran:#?}");
        assert_eq!(ran.stdout, "", "`handfast {line}`");
        assert!(
            ran.stderr.starts_with("error: ") && ran.stderr.contains("where"),
            "`handfast {line}`: {ran:#?}"
        );
    }
}

#[test]
fn show_prints_the_whole_chain_and_never_a_key() {
    let desk = Desk::new();
    put(&desk, "west", &authority().server("west", &["west.example"]));
    let ran = desk.run("cert show west.crt");
    assert_eq!(ran.code, 0, "{ran:#?}");
    for word in [
        "west.example",
        "spiffe://demo.example/site/west",
        "serverAuth",
        "Its issuer, 1 up",
        "X.509 v3",
    ] {
        assert!(ran.stdout.contains(word), "`{word}` is not in {}", ran.stdout);
    }
    let json: serde_json::Value =
        serde_json::from_str(&desk.run("cert show west.crt -o json").stdout).expect("JSON");
    assert_eq!(json["certificates"].as_array().expect("a list").len(), 2);
    assert_eq!(json["certificates"][0]["dnsNames"][0], "west.example");
}

#[test]
fn the_list_of_a_home_without_a_node_comes_from_its_files() {
    let desk = Desk::new();
    std::fs::create_dir(desk.path("h")).expect("a home");
    desk.check(
        "--home h cert list",
        0,
        "No certificates. They are made when the node first runs: handfast --home h run\n",
        "",
    );
    let pem = authority().server("west", &["west.example"]).to_pem();
    desk.write("h/input/certs/mine/tls.crt", pem.tls_crt.as_bytes());
    desk.write("h/input/certs/mine/tls.key", pem.tls_key.as_bytes());
    desk.write("h/input/certs/mine/ca.crt", pem.ca_crt.as_bytes());
    desk.write("h/input/certs/bad/tls.crt", "not PEM");
    let ran = desk.run("--home h cert list -o json");
    assert_eq!(ran.code, 0, "{ran:#?}");
    let list: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let mut fields: Vec<&str> =
        list[1].as_object().expect("an object").keys().map(String::as_str).collect();
    fields.sort_unstable();
    assert_eq!(
        fields,
        [
            "failures",
            "identity",
            "issuer",
            "key",
            "lastError",
            "name",
            "notAfter",
            "notBefore",
            "renewAt",
            "serial",
            "source",
            "state"
        ]
    );
    assert_eq!((&list[0]["name"], &list[0]["state"]), (&"bad".into(), &"broken".into()));
    assert_eq!((&list[1]["name"], &list[1]["state"]), (&"mine".into(), &"valid".into()));
    assert_eq!(list[1]["source"], "supplied");
    assert_eq!(list[1]["identity"], "spiffe://demo.example/site/west");
    assert!(list[1]["renewAt"].is_null(), "supplied credentials are not ours to renew");

    let verified = desk.run("--home h cert verify mine");
    assert_eq!(verified.code, 0, "{verified:#?}");
    assert_eq!(desk.run("--home h cert verify bad").code, 3);
}

#[test]
fn a_server_nobody_runs_is_unreachable() {
    let desk = Desk::new();
    let nobody = Nobody::listens();
    let ran = desk.run(&format!("cert verify {}", nobody.address()));
    assert_eq!(ran.code, 4, "{ran:#?}");
    assert!(ran.stderr.contains("unreachable"), "{ran:#?}");
}

#[test]
fn a_port_that_speaks_no_tls_is_recognised() {
    use std::io::{Read as _, Write as _};
    let desk = Desk::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut hello = [0; 64];
        let _ = stream.read(&mut hello);
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").expect("an answer");
    });
    let ran = desk.run(&format!("cert verify 127.0.0.1:{port} -o json"));
    server.join().expect("the server ends");
    assert_eq!(ran.code, 5, "{ran:#?}");
    let found: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(
        (&found["ok"], &found["fault"]["code"]),
        (&false.into(), &"tls-to-plaintext".into())
    );
}

#[test]
fn a_credential_that_is_mistyped_is_answered_with_the_nearest() {
    let desk = Desk::new();
    desk.write("h/input/certs/payments/tls.crt", "");
    let mistyped = desk.run("--home h cert show paymets");
    assert_eq!(mistyped.code, 3, "{mistyped:#?}");
    assert!(mistyped.stderr.contains("to do  did you mean `payments`?"), "{mistyped:#?}");
    let strange = desk.run("--home h cert show banana");
    assert!(
        strange.stderr.contains("see what there is: handfast --home h cert list"),
        "{strange:#?}"
    );
}

#[test]
fn of_a_server_that_is_not_there_nothing_is_said_but_that() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = closed.local_addr().expect("an address").port();
    drop(closed);
    let ran = Desk::new().run(&format!("cert verify 127.0.0.1:{port}"));
    assert_eq!((ran.code, ran.stdout.trim()), (4, ""), "{ran:#?}");
    assert!(ran.stderr.contains("nothing answers at the address"), "{ran:#?}");
}
