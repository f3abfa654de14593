//! A collector as a process of its own: the token that callers bring and the one for backends, quotas, revocation lists, and
//! what it says of itself.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use handfast_pki::{Chain, Credential, IdentityKind, Profile, Serial, Subject, SystemEntropy};
use handfast_telemetry::grpc::{Code, Status};
use handfast_telemetry::upstream::{
    Authentication, Backend, Dice, Security, Upstream, UpstreamPlan,
};
use handfast_testkit::agents;
use handfast_testkit::authority::TestAuthority;
use handfast_testkit::eventually::{now, until};
use handfast_testkit::lists::forge;
use handfast_testkit::place::{Place, free_port};
use handfast_tls::{ClientOptions, client_config};
use prost::Message as _;

const SEGMENTS: &str = "/skywalking.v3.TraceSegmentReportService/collect";

/// A place, and somebody's CA with its files in it.
struct Scene {
    authority: TestAuthority,
    place: Place,
    runtime: tokio::runtime::Runtime,
}

/// A collector that runs there.
struct Collector {
    grpc: u16,
    metrics: u16,
    _process: Process,
}

impl Scene {
    fn new() -> Self {
        let place = Place::new(env!("CARGO_BIN_EXE_handfast"));
        let authority = TestAuthority::new("shop.example", now());
        let pem = authority.server("west", &["localhost"]).to_pem();
        place.write("server.crt", &pem.tls_crt);
        place.write("server.key", pem.tls_key.as_bytes());
        place.write("ca.crt", &pem.ca_crt);
        Self { authority, place, runtime: tokio::runtime::Runtime::new().unwrap() }
    }

    /// Starts one, and returns when it listens.
    fn collect(&self, name: &str, more: &str) -> Collector {
        let (grpc, metrics) = (free_port(), free_port());
        let line = format!(
            "collector run --data {name} --grpc 127.0.0.1:{grpc} --http 127.0.0.1:{} --metrics 127.0.0.1:{metrics} {more}",
            free_port()
        );
        let words: Vec<&str> = line.split_whitespace().collect();
        let log = std::fs::File::create(self.place.path(&format!("{name}.log"))).unwrap();
        let process = Process(self.place.command(&words).stderr(log).spawn().unwrap());
        until("it is up", || !page(metrics, "/healthz").is_empty());
        Collector { grpc, metrics, _process: process }
    }

    fn agent(&self, service: &str) -> Credential {
        let identity = self.authority.identity(IdentityKind::Agent, service);
        self.authority.issue(Profile::Agent, Subject::new(service).with_identity(identity))
    }

    fn caller(&self, to: u16, agent: Option<&Credential>, token: Option<&str>) -> Upstream {
        let security = match agent {
            None => Security::Plaintext,
            Some(agent) => {
                let options =
                    ClientOptions { alpn: vec![b"h2".to_vec()], ..ClientOptions::default() };
                let anchors = self.authority.anchors();
                let config = client_config(Some(agent), &anchors, &options).unwrap();
                Security::Tls { config, server_name: None }
            }
        };
        let plan = UpstreamPlan {
            authentication: token.and_then(Authentication::token),
            backends: vec![Backend { host: "localhost".to_owned(), port: to }],
            security: Some(security),
        };
        Upstream::new(plan, Arc::new(now), Dice::new(SystemEntropy))
    }

    fn report(&self, caller: &Upstream, ids: &[&str]) -> Result<Bytes, Status> {
        let segments: Vec<Bytes> = ids.iter().map(|id| segment("shop", id)).collect();
        self.runtime.block_on(caller.call(SEGMENTS, &segments))
    }

    /// The certificate that whoever dials is shown.
    fn presented(&self, port: u16) -> Vec<u8> {
        let options = ClientOptions { alpn: vec![b"h2".to_vec()], ..ClientOptions::default() };
        let (agent, anchors) = (self.agent("shop"), self.authority.anchors());
        let config = client_config(Some(&agent), &anchors, &options).unwrap();
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        let mut connection = rustls::ClientConnection::new(config, name).unwrap();
        let mut socket = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        while connection.is_handshaking() {
            connection.complete_io(&mut socket).unwrap();
        }
        connection.peer_certificates().unwrap()[0].to_vec()
    }

    /// A list of the CA that signs leaves, with these in it.
    fn list(&self, number: u64, until: Duration, revoked: &[Serial]) -> Vec<u8> {
        let this_update = now() - Duration::from_secs(60);
        forge(self.authority.site_ca(), (this_update, now() + until), |list| {
            list.number(number);
            for serial in revoked {
                list.entry(serial, this_update, 1);
            }
        })
    }

    fn said(&self, name: &str) -> String {
        std::fs::read_to_string(self.place.path(&format!("{name}.log"))).unwrap()
    }
}

/// A process that ends with the value, by SIGKILL.
struct Process(std::process::Child);

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// What is answered on a path; nothing while nobody listens.
fn page(port: u16, path: &str) -> String {
    let mut page = String::new();
    if let Ok(mut socket) = std::net::TcpStream::connect(("127.0.0.1", port)) {
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        drop(socket.write_all(request.as_bytes()));
        drop(socket.read_to_string(&mut page));
    }
    page
}

fn segment(service: &str, id: &str) -> Bytes {
    agents::segment(service, id).encode_to_vec().into()
}

const TLS: &str =
    "--cert server.crt --key server.key --client-ca ca.crt --trust-domain shop.example";
const DAY: Duration = Duration::from_secs(86_400);

#[test]
fn a_token_is_asked_for_and_another_one_is_taken_up_while_it_runs() {
    let scene = Scene::new();
    scene.place.write("token", "word\n");
    let collector = scene.collect("kept", "--authentication token");
    let with = |token| scene.caller(collector.grpc, None, token);
    for token in [None, Some("another")] {
        let refused = scene.report(&with(token), &["1"]).unwrap_err();
        assert_eq!(refused.code, Code::PermissionDenied, "{refused}");
    }
    scene.report(&with(Some("word")), &["2"]).unwrap();
    scene.place.write("token", "");
    until("the empty one is said", || page(collector.metrics, "/healthz").contains("token"));
    scene.report(&with(Some("word")), &["3"]).unwrap();
    scene.place.write("token", "another");
    until("the new one is asked for", || scene.report(&with(Some("another")), &["4"]).is_ok());
    assert_eq!(scene.report(&with(Some("word")), &["5"]).unwrap_err().code, Code::PermissionDenied);
    let metrics = page(collector.metrics, "/metrics");
    let accepted = "handfast_telemetry_accepted_total{station=\"collector\",name=\"collector\",kind=\"segment\"} 3.0";
    assert!(metrics.contains(accepted), "{metrics}");
    until("all is well", || page(collector.metrics, "/healthz").ends_with("ok\n"));
    scene.place.run("collector run --data other --authentication nowhere").exits(3);
}

#[test]
fn one_identity_has_its_quota_and_another_one_its_own() {
    let scene = Scene::new();
    let collector = scene.collect("kept", &format!("{TLS} --allow *=shop --quota-messages 20"));
    let [shop, other] = ["shop", "other"]
        .map(|service| scene.caller(collector.grpc, Some(&scene.agent(service)), None));
    let flood: Vec<String> = (0..200).map(|number| number.to_string()).collect();
    let flood: Vec<&str> = flood.iter().map(String::as_str).collect();
    let refused = (0..50).find_map(|_| scene.report(&shop, &flood).err());
    let refused = refused.expect("the flood is stopped");
    assert_eq!(refused.code, Code::ResourceExhausted, "{refused}");
    scene.report(&other, &["other"]).unwrap();
    let metrics = page(collector.metrics, "/metrics");
    assert!(
        metrics.contains(
            "handfast_telemetry_over_quota_total{station=\"collector\",name=\"collector\"} 1.0"
        ),
        "{metrics}"
    );
    scene.place.run("collector run --data other --quota-messages 0").exits(2);
}

#[test]
fn an_identity_reports_as_the_instances_that_it_was_let_and_as_no_other() {
    let scene = Scene::new();
    for (name, instances, taken) in [("some", "shop-?,other", true), ("others", "shop-9*", false)] {
        let allow = format!("--allow /agent/shop=sh*;instances={instances}");
        let collector = scene.collect(name, &format!("{TLS} {allow}"));
        let shop = scene.caller(collector.grpc, Some(&scene.agent("shop")), None);
        let answer = scene.report(&shop, &["1"]);
        match answer {
            Ok(_) => assert!(taken, "{allow}"),
            Err(status) => {
                assert!(!taken, "{allow}: {status}");
                assert_eq!(status.code, Code::PermissionDenied, "{status}");
                assert!(status.message.contains("shop-1"), "{status}");
            }
        }
    }
    scene.place.run("collector run --data kept --allow /agent/shop=shop;instance=a").exits(2);
}

#[test]
fn who_stands_on_a_new_revocation_list_is_cut_and_let_in_no_more() {
    let scene = Scene::new();
    let [shop, other] = ["shop", "other"].map(|service| scene.agent(service));
    scene.place.write("ca.crl", scene.list(5, DAY, &[]));
    let collector = scene.collect("kept", &format!("{TLS} --allow *=shop --crl ca.crl"));
    let caller = scene.caller(collector.grpc, Some(&shop), None);
    let stays = scene.caller(collector.grpc, Some(&other), None);
    scene.report(&caller, &["1"]).unwrap();
    scene.report(&stays, &["2"]).unwrap();
    let revoked = [shop.leaf().serial().clone()];
    scene.place.write("ca.crl", scene.list(6, DAY, &revoked));
    let cut =
        "handfast_telemetry_connections_cut_total{station=\"collector\",name=\"collector\"} 1.0";
    until("the open connection is cut", || page(collector.metrics, "/metrics").contains(cut));
    // Its end of the connection may not have noticed yet; nothing is taken over it, and whoever dials is told why.
    until("it is told that it is revoked", || {
        scene.report(&caller, &["3"]).unwrap_err().to_string().contains("revoked")
    });
    scene.report(&stays, &["4"]).unwrap();
    assert_eq!(stays.status().dialled, 1, "nobody else notices");
    // An older list takes nothing back, nonsense neither, and what is wrong is said.
    scene.place.write("ca.crl", scene.list(5, DAY, &[]));
    scene.place.write("ca.crl", "nonsense");
    until("it is said", || page(collector.metrics, "/healthz").contains("ca.crl"));
    assert!(scene.report(&caller, &["5"]).is_err());
    scene.place.write("ca.crl", scene.list(7, Duration::from_secs(1), &revoked));
    until("a list that is out of date is said", || {
        page(collector.metrics, "/healthz").contains("was to be replaced by")
    });
    assert!(scene.report(&caller, &["6"]).is_err(), "{}", scene.said("kept"));
    scene.report(&stays, &["7"]).unwrap();
}

#[test]
fn a_port_of_its_health_that_is_in_use_is_no_start_and_opens_nothing_else() {
    let scene = Scene::new();
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let held = holder.local_addr().unwrap();
    let line = format!(
        "collector run --data other --grpc 127.0.0.1:{} --http 127.0.0.1:{} --metrics {held} -o json",
        free_port(),
        free_port()
    );
    let error = scene.place.run(&line).exits(8).error();
    assert!(error.to_string().contains(&held.to_string()), "{error:#}");
    assert!(!scene.place.path("other").exists(), "it has not begun");
}

#[test]
fn a_directory_in_use_is_a_home_in_use() {
    let scene = Scene::new();
    let backend = scene.collect("kept", TLS);
    let agents = free_port();
    let relay = format!(
        "relay run --data spool --backend localhost:{} --ca ca.crt --listen 127.0.0.1:{agents} --http 127.0.0.1:{}",
        backend.grpc,
        free_port()
    );
    let words: Vec<&str> = relay.split_whitespace().collect();
    let _relay = Process(scene.place.command(&words).spawn().unwrap());
    until("it is up", || std::net::TcpStream::connect(("127.0.0.1", agents)).is_ok());
    for (data, line) in [
        ("kept", format!("collector run --data kept {TLS}")),
        ("spool", "relay run --data spool --backend localhost:1 --ca ca.crt".to_owned()),
    ] {
        let (grpc, http) = (free_port(), free_port());
        let option = if data == "kept" { "grpc" } else { "listen" };
        let line = format!("{line} --{option} 127.0.0.1:{grpc} --http 127.0.0.1:{http} -o json");
        let error = scene.place.run(&line).exits(6).error();
        assert_eq!((&error["error"], &error["where"]), (&"home".into(), &data.into()), "{error:#}");
        assert!(error["why"].as_str().unwrap().contains("in use by another process"), "{error:#}");
        assert!(error["remedy"].as_str().unwrap().contains("--data"), "{error:#}");
    }
}

#[test]
fn a_list_of_a_stranger_is_no_start() {
    let scene = Scene::new();
    let stranger = TestAuthority::new("other.example", now());
    let list = forge(stranger.site_ca(), (now() - DAY, now() + DAY), |list| list.number(1));
    scene.place.write("ca.crl", list);
    let error = scene.place.run(&format!("collector run --data kept {TLS} --crl ca.crl -o json"));
    let error = error.exits(3).error();
    assert_eq!(error["where"], "ca.crl", "{error:#}");
    assert!(error["why"].as_str().unwrap().contains("none of the CAs"), "{error:#}");
    scene.place.run(&format!("collector run --data kept {TLS} --crl nowhere.crl")).exits(3);
}

#[test]
fn what_goes_on_to_a_backend_brings_its_token_in_either_protocol() {
    for protocol in ["oap", "otlp"] {
        let scene = Scene::new();
        let forwarder = scene.agent("forwarder").to_pem();
        scene.place.write("own.crt", &forwarder.tls_crt);
        scene.place.write("own.key", forwarder.tls_key.as_bytes());
        scene.place.write("right", "word");
        scene.place.write("given", "wrong");
        let second = scene.collect("second", &format!("{TLS} --allow *=* --authentication right"));
        let first = scene.collect(
            "first",
            &format!(
                "--forward localhost:{} --forward-protocol {protocol} --forward-authentication given --forward-ca ca.crt \
                 --forward-cert own.crt --forward-key own.key --max-size 1Gi --when-full drop-oldest",
                second.grpc
            ),
        );
        let agent = scene.caller(first.grpc, None, None);
        scene.report(&agent, &["1"]).unwrap();
        until("the wrong token is refused there", || {
            scene.said("first").contains("the token is wrong")
        });
        scene.place.write("given", "word");
        until("it has arrived", || {
            let list = scene.place.run("trace ls --data second -o json");
            list.code == 0 && list.json().as_array().is_some_and(|list| list.len() == 1)
        });
        // It is kept there before the one that sent it hears so.
        let sent = "handfast_telemetry_sent_total{station=\"collector\",name=\"collector\"} 1.0";
        until("it is counted", || page(first.metrics, "/metrics").contains(sent));
    }
}

#[test]
fn another_certificate_and_other_client_cas_are_taken_up_under_connected_agents() {
    let scene = Scene::new();
    let other = TestAuthority::new("shop.example", now());
    let ours = scene.authority.server("west", &["localhost"]).to_pem().ca_crt;
    let theirs = other.server("west", &["localhost"]).to_pem().ca_crt;
    let collector = scene.collect("kept", TLS);
    let (healthy, taken_up) = (
        || page(collector.metrics, "/healthz").ends_with("ok\n"),
        || scene.said("kept").matches("certificates were read again").count(),
    );
    let stays = scene.caller(collector.grpc, Some(&scene.agent("shop")), None);
    scene.report(&stays, &["1"]).unwrap();
    // Signed by another CA, in the same name.
    let identity = other.identity(IdentityKind::Agent, "shop");
    let stranger = other.issue(Profile::Agent, Subject::new("shop").with_identity(identity));
    let stranger = scene.caller(collector.grpc, Some(&stranger), None);
    assert_eq!(scene.report(&stranger, &["2"]).unwrap_err().code, Code::Unavailable);

    // Both CAs: whoever is connected notices nothing, whoever was refused comes in.
    scene.place.write("ca.crt", format!("{ours}{theirs}"));
    until("the second CA counts", || scene.report(&stranger, &["3"]).is_ok());
    scene.report(&stays, &["4"]).unwrap();
    assert_eq!(stays.status().dialled, 1, "it stays connected");

    // Nonsense: said, and nothing changes for anybody, connected or not.
    scene.place.write("ca.crt", "nonsense");
    until("it is said", || page(collector.metrics, "/healthz").contains("ca.crt"));
    for caller in [&stays, &stranger] {
        scene.report(caller, &["5", "6"]).unwrap();
    }
    let anew = scene.caller(collector.grpc, Some(&scene.agent("shop")), None);
    scene.report(&anew, &["7"]).unwrap();
    assert_eq!(stays.status().dialled, 1, "{}", scene.said("kept"));

    // Another server certificate: those connected stay, who comes sees the new one.
    let before = taken_up();
    let pem = scene.authority.server("east", &["localhost"]).to_pem();
    scene.place.write("ca.crt", format!("{ours}{theirs}"));
    scene.place.write("server.key", pem.tls_key.as_bytes());
    scene.place.write("server.crt", &pem.tls_crt);
    until("they are taken up", || taken_up() > before && healthy());
    // What it was told before may have been the first of the three files.
    let new = Chain::from_pem(pem.tls_crt.as_bytes()).unwrap();
    until("the new one is shown", || scene.presented(collector.grpc) == new.leaf().der());
    scene.report(&stays, &["8"]).unwrap();
    assert_eq!(stays.status().dialled, 1, "{}", scene.said("kept"));

    // The other CA alone: its own agents stay, ours are cut and refused.
    scene.place.write("ca.crt", &theirs);
    until("whoever the first CA signed is refused", || scene.report(&anew, &["9"]).is_err());
    let refused = scene.report(&stays, &["10"]).unwrap_err();
    assert_eq!(refused.code, Code::Unavailable, "{refused}");
    scene.report(&stranger, &["11"]).unwrap();
    assert_eq!(stranger.status().connected.map(|backend| backend.port), Some(collector.grpc));
    assert!(healthy(), "{}", scene.said("kept"));
}
