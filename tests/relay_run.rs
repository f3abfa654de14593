//! A relay and a collector as processes of their own: certificates from files by the Java agent's habits, or by a
//! token; what is broken, changed or killed loses nothing and opens nothing.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "relay_run/aside.rs"]
mod aside;
#[path = "relay_run/scene.rs"]
mod scene;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use bytes::{BufMut as _, BytesMut};
use handfast_pki::{Chain, Serial};
use handfast_telemetry::grpc::{Body, Code, Status};
use handfast_testkit::authority::TestAuthority;
use handfast_testkit::eventually::{now, until};
use handfast_testkit::lists::forge;
use handfast_testkit::place::free_port;
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::scene::{Process, Reporter, SEGMENTS, Scene, agent, padded, segment};

#[test]
fn a_ca_in_the_folder_is_tls_and_client_files_there_make_it_mutual() {
    let mut scene = Scene::new("tls");
    scene.folder(&["ca.crt"]);
    scene.relay("--agent-dir agent");
    until("it takes reports", || scene.reports("one-way"));
    assert!(!scene.reporter("one-way").contains("/agent/shop"));
    // The other two appear while it runs.
    scene.folder(&["client.crt", "client.pem"]);
    until("they are taken up", || scene.said().contains("new TLS material is in use"));
    assert!(scene.reports("mutual"));
    assert!(scene.reporter("mutual").ends_with("/agent/shop"), "{}", scene.said());
    // And do not go again: what is less than before stays unused, and that is said.
    std::fs::remove_file(scene.place.path("agent/ca/client.pem")).unwrap();
    until("it is said", || scene.health().contains("client.pem"));
    assert!(scene.reports("still"));
    assert!(scene.reporter("still").ends_with("/agent/shop"));
}

#[test]
fn nothing_is_sent_in_the_clear_unless_that_was_said() {
    let scene = Scene::new("mtls");
    let refused = |more: &str, code: i32| {
        scene.place.run(&format!("{} -o json", scene.line(more))).exits(code).error()
    };
    let error = refused("--agent-dir empty", 3);
    assert_eq!(error["where"], "empty/ca/ca.crt", "{error:#}");
    scene.folder(&["ca.crt"]);
    let error = refused("--agent-dir agent --mode mtls", 3);
    assert_eq!(error["where"], "agent/ca/client.crt", "{error:#}");
    refused("--agent-dir empty --mode tls", 3);
    refused("--agent-dir agent --mode permissive", 2);
    refused("--ca certs/ca.crt --mode plaintext", 2);
    scene.place.run(&scene.line("--enrol-dir e --ca certs/ca.crt")).exits(2);
    refused("--enrol-dir e --token nowhere", 3);
    refused("--enrol-dir e", 3);
    refused("--ca certs/nowhere.crt", 3);
    refused("--ca certs/ca.crt --authentication certs/nowhere.token", 3);
    scene.place.write("agent/ca/ca.crt", "nonsense");
    let error = refused("--agent-dir agent", 3);
    assert_eq!(error["where"], "agent/ca/ca.crt", "{error:#}");
    // No backend.
    scene.place.run("relay run --mode plaintext").exits(2);
}

#[test]
fn files_that_are_swapped_or_broken_while_agents_report_lose_nothing() {
    let mut scene = Scene::new("mtls");
    scene.place.write("oap.token", "word\n");
    scene.relay("--ca certs/ca.crt --cert certs/client.crt --key certs/client.pem --authentication oap.token");
    until("it takes reports", || scene.reports("first"));
    scene.place.write("oap.token", "\n");
    until("the empty token is said", || scene.health().contains("oap.token"));
    scene.place.write("oap.token", "another word\n");
    until("the token is in use", || scene.health().ends_with("ok\n"));
    let reporter = Reporter::start(&scene);
    reporter.more("segments flow");
    let taken = |scene: &Scene| scene.said().matches("new TLS material is in use").count();
    for round in 1..=3 {
        let before = taken(&scene);
        scene.certs("certs");
        until("the new files are in use", || taken(&scene) > before);
        reporter.more("segments flow with new files");
        let good = std::fs::read(scene.place.path("certs/client.crt")).unwrap();
        scene.place.write("certs/client.crt", format!("nonsense {round}"));
        until("what is broken is said", || scene.health().contains("certs/client.crt"));
        reporter.more("segments flow with the last good ones");
        scene.place.write("certs/client.crt", good);
        until("what was mended is in use", || scene.health().ends_with("ok\n"));
    }
    let acknowledged = reporter.end(&scene);
    scene.all_there_once(&acknowledged);
}

#[test]
fn a_relay_enrols_by_token_and_renews_while_agents_report() {
    let mut scene = Scene::new("mtls");
    let resource = std::fs::read_dir(scene.west.path("input/resources"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| std::fs::read_to_string(path).unwrap().contains("kind: Site\n"))
        .unwrap();
    let text = std::fs::read_to_string(&resource).unwrap();
    let text = if text.contains("settings:") {
        text.replacen("settings:", "settings:\n    leaf-ttl: 20s", 1)
    } else {
        text.replacen("spec:", "spec:\n  settings:\n    leaf-ttl: 20s", 1)
    };
    std::fs::write(resource, text).unwrap();
    scene.west.start();
    let token = scene.place.path("shop.token").display().to_string();
    scene.west.json(&format!("token issue {token} --agent shop"));
    scene.relay("--enrol-dir enrolled --token shop.token");
    until("it takes reports", || scene.reports("first"));
    assert!(scene.reporter("first").ends_with("/agent/shop"));
    let serial = |directory: &Path| {
        let pem = std::fs::read(directory.join("tls.crt")).unwrap();
        Chain::from_pem(&pem).unwrap().leaf().serial().to_string()
    };
    let directory = scene.place.path("enrolled");
    let before = serial(&directory);
    std::fs::remove_file(&token).unwrap();
    let reporter = Reporter::start(&scene);
    until("it is renewed", || serial(&directory) != before);
    reporter.more("segments flow with the new certificate");
    // Started anew, it needs no token.
    scene.relay("--enrol-dir enrolled");
    reporter.more("segments flow after another start");
    let acknowledged = reporter.end(&scene);
    scene.all_there_once(&acknowledged);
}

#[test]
fn a_killed_relay_and_a_killed_collector_have_every_acknowledged_segment_once() {
    let mut scene = Scene::new("mtls");
    let files = "--ca certs/ca.crt --cert certs/client.crt --key certs/client.pem";
    scene.relay(files);
    let reporter = Reporter::start(&scene);
    for _ in 0..3 {
        reporter.more("segments flow");
        scene.relay(files);
        reporter.more("segments flow after the relay was killed");
        scene.collect("mtls");
        reporter.more("segments flow after the collector was killed");
        scene.collector = None;
        reporter.more("segments are taken while the collector is away");
        scene.relay(files);
        scene.collect("mtls");
    }
    reporter.more("segments flow after the last start");
    let acknowledged = reporter.end(&scene);
    scene.all_there_once(&acknowledged);
}

const FILES: &str = "--ca certs/ca.crt --cert certs/client.crt --key certs/client.pem";

/// A call of an agent over a Unix socket: the status in its trailers.
async fn over_unix(path: &Path, message: &[u8]) -> Result<(), Status> {
    let gone = |error: &dyn std::fmt::Display| Status::new(Code::Unavailable, error.to_string());
    let socket = tokio::net::UnixStream::connect(path).await.map_err(|error| gone(&error))?;
    let handshake =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket));
    let (mut sender, connection) = handshake.await.map_err(|error| gone(&error))?;
    let driving = tokio::spawn(connection);
    let mut body = BytesMut::new();
    body.put_u8(0);
    body.put_u32(u32::try_from(message.len()).unwrap());
    body.put_slice(message);
    let request = Request::post(format!("http://localhost{SEGMENTS}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::from(body.freeze()))
        .unwrap();
    let mut response = sender.send_request(request).await.map_err(|error| gone(&error))?;
    let mut status = Status::read(response.headers());
    while let Some(frame) = http_body_util::BodyExt::frame(response.body_mut()).await {
        let frame = frame.map_err(|error| gone(&error))?;
        status = frame.trailers_ref().and_then(Status::read).or(status);
    }
    driving.abort();
    match status {
        Some(Status { code: Code::Ok, .. }) => Ok(()),
        Some(status) => Err(status),
        None => Err(gone(&"no status")),
    }
}

#[test]
fn agents_report_over_a_unix_socket_that_a_killed_relay_leaves_behind_too() {
    let mut scene = Scene::new("mtls");
    let path = scene.place.path("agents.sock");
    let reports =
        |scene: &Scene, id: &str| scene.runtime.block_on(over_unix(&path, &segment(id))).is_ok();
    for id in ["first", "second"] {
        scene.relay(&format!("{FILES} --unix agents.sock"));
        until("it takes reports over the socket", || reports(&scene, id));
        assert!(scene.reporter(id).ends_with("/agent/shop"), "{}", scene.said());
        // Killed, it leaves the socket where it is; the next one takes it over.
        scene.relay = None;
        assert!(path.exists() && !reports(&scene, "nobody"));
    }
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let error =
        scene.place.run(&format!("{} -o json", scene.line(&format!("{FILES} --unix agents.sock"))));
    let error = error.exits(8).error();
    assert!(error["why"].as_str().unwrap().contains("agents.sock"), "{error:#}");
    assert!(error["remedy"].as_str().unwrap().contains("--unix"), "{error:#}");
}

#[test]
fn the_name_to_verify_is_the_one_that_was_said_and_else_the_one_that_is_dialled() {
    let mut scene = Scene::new("mtls");
    let directory = scene.place.path("certs").display().to_string();
    scene
        .west
        .run(&format!("agent-certs {directory} --service shop --hosts collector.example --force"))
        .ok();
    scene.collect("mtls");
    // It dials localhost.
    scene.relay(FILES);
    until("it takes reports", || scene.reports("kept-back"));
    until("the name is missed", || scene.health().contains("wrong-name"));
    assert!(scene.kept().is_empty(), "nothing is sent to somebody else");
    scene.relay(&format!("{FILES} --server-name other.example"));
    until("that name is missed too", || scene.health().contains("other.example"));
    scene.relay(&format!("{FILES} --server-name collector.example"));
    assert!(scene.reporter("kept-back").ends_with("/agent/shop"), "{}", scene.said());
    until("it is well", || scene.health().ends_with("ok\n"));
}

/// Reports such large segments until one is refused, or so many were accepted.
fn fill(scene: &Scene, prefix: &str, most: usize) -> (Vec<String>, Option<Status>) {
    let caller = agent(scene.relay_port);
    let mut accepted = Vec::new();
    for number in 0..most {
        let id = format!("{prefix}{number}");
        match scene.runtime.block_on(caller.call(SEGMENTS, &[padded(&id, 4096)])) {
            Ok(_) => accepted.push(id),
            Err(status) => return (accepted, Some(status)),
        }
    }
    (accepted, None)
}

#[test]
fn a_full_spool_refuses_and_takes_again_when_the_collector_is_back() {
    let mut scene = Scene::new("mtls");
    scene.relay(&format!("{FILES} --spool-size 256Ki"));
    until("it takes reports", || scene.reports("first"));
    scene.collector = None;
    let (accepted, refused) = fill(&scene, "r", 1000);
    let refused = refused.expect("a spool of 256 KiB is full");
    // Agents keep what they have, and come again.
    assert_eq!(refused.code, Code::Unavailable, "{refused}");
    assert!(refused.message.contains("full"), "{refused}");
    assert!(accepted.len() > 20, "{}", accepted.len());
    assert_eq!(scene.counter("dropped"), 0);
    scene.collect("mtls");
    scene.all_there_once(&accepted);
    until("it takes reports again", || scene.reports("again"));
    assert_eq!(scene.counter("dropped"), 0);
}

#[test]
fn a_full_spool_gives_up_the_oldest_if_that_was_said_and_counts_it() {
    let mut scene = Scene::new("mtls");
    let line = format!("{FILES} --spool-size 256Ki --when-full drop-oldest");
    scene.relay(&line);
    until("it takes reports", || scene.reports("first"));
    scene.reporter("first");
    scene.collector = None;
    let (accepted, refused) = fill(&scene, "r", 300);
    assert!(refused.is_none(), "{refused:?}");
    // The first one is among them: it was sent long ago.
    let dropped = usize::try_from(scene.counter("dropped")).unwrap();
    assert!(dropped > 100 && dropped < 300, "{dropped} were given up");
    // What was read ahead goes with the process; what is on the disk is left.
    scene.relay(&line);
    scene.collect("mtls");
    let left = &accepted[dropped - 1..];
    until("the newest have arrived", || scene.kept().len() > left.len());
    let kept: BTreeSet<String> = scene
        .kept()
        .iter()
        .map(|trace| trace["traceId"].as_str().unwrap().trim_start_matches("trace-").to_owned())
        .collect();
    let wanted: BTreeSet<String> = left.iter().cloned().chain(["first".to_owned()]).collect();
    assert_eq!(kept, wanted);
}

#[test]
fn the_java_agents_variables_are_all_that_a_relay_needs() {
    let mut scene = Scene::new("mtls");
    let (port, health) = (scene.collector_port, scene.health_port);
    scene.collector = None;
    let line = format!(
        "collector run --data kept --grpc 127.0.0.1:{port} --http 127.0.0.1:{} --mode mtls --cert certs/server.crt \
         --key certs/server.pem --client-ca certs/ca.crt",
        free_port()
    );
    let asks = [("SW_AUTHENTICATION", "open-sesame")];
    scene.collector = Some(Process::start_in(&scene.place, &asks, &line, "collector.log"));

    let backends = format!("localhost:{},localhost:{port}", free_port());
    let line = format!(
        "relay run --agent-dir certs --listen 127.0.0.1:{} --http 127.0.0.1:{} --metrics 127.0.0.1:{health}",
        scene.relay_port,
        free_port()
    );
    let told = [
        ("SW_AGENT_COLLECTOR_BACKEND_SERVICES", backends.as_str()),
        ("SW_AGENT_SSL_TRUSTED_CA_PATH", "/ca.crt"),
        ("SW_AGENT_SSL_CERT_CHAIN_PATH", "/client.crt"),
        ("SW_AGENT_SSL_KEY_PATH", "/client.pem"),
        ("SW_AGENT_AUTHENTICATION", "open-sesame"),
    ];
    scene.relay = Some(Process::start_in(&scene.place, &told, &line, "relay.log"));
    until("it takes reports", || scene.reports("told"));
    assert!(scene.reporter("told").ends_with("/agent/shop"), "{}", scene.said());

    // Without the token nothing arrives.
    scene.relay = None;
    scene.relay = Some(Process::start_in(&scene.place, &told[..4], &line, "relay.log"));
    until("it takes reports", || scene.reports("untold"));
    until("the token is asked for", || scene.health().contains("the token is wrong"));
    assert!(scene.kept().iter().all(|trace| trace["traceId"] != "trace-untold"));
}

#[test]
fn tls_that_is_forced_without_a_ca_trusts_what_the_system_does_and_nobody_else() {
    let mut scene = Scene::new("tls");
    let forced = ("SW_AGENT_FORCE_TLS", "true");
    let stranger = TestAuthority::new("other.example", now());
    scene.place.write("stranger.crt", stranger.anchors().to_pem());
    scene.relay_in(&[forced, ("SSL_CERT_FILE", "stranger.crt")], "--agent-dir empty");
    until("it takes reports", || scene.reports("kept-back"));
    until("the collector is a stranger", || scene.health().contains("unknown-issuer"));
    assert!(scene.kept().is_empty(), "nothing is sent to a stranger");
    scene.relay_in(&[forced, ("SSL_CERT_FILE", "certs/ca.crt")], "--agent-dir empty");
    // It shows no certificate: there is none.
    assert!(!scene.reporter("kept-back").contains("/agent/shop"), "{}", scene.said());
    until("it is well", || scene.health().ends_with("ok\n"));
    // A bundle in which nobody is, is no start.
    scene.place.write("nobody.crt", "");
    let line = scene.line("--agent-dir empty -o json");
    let words: Vec<&str> = line.split_whitespace().collect();
    let mut command = scene.place.command(&words);
    command.envs([forced, ("SSL_CERT_FILE", "nobody.crt")]);
    let ran = handfast_testkit::place::Ran::from_output(&command.output().unwrap(), &line);
    let error = ran.exits(3).error();
    assert!(error["why"].as_str().unwrap().contains("nobody.crt"), "{error:#}");
}

#[test]
fn a_collector_on_a_new_revocation_list_is_dialled_no_more() {
    let mut scene = Scene::new("tls");
    let authority = TestAuthority::new("shop.example", now());
    let server = authority.server("collector", &["localhost"]);
    let pem = server.to_pem();
    scene.place.write("certs/server.crt", &pem.tls_crt);
    scene.place.write("certs/server.pem", pem.tls_key.as_bytes());
    let anchors = authority.anchors().with(authority.site_ca().certificate().clone());
    scene.place.write("certs/ca.crt", anchors.to_pem());
    scene.collect("tls");
    let list = |number: u64, revoked: &[Serial]| {
        let day = Duration::from_secs(86_400);
        let begin = now() - Duration::from_secs(60);
        forge(authority.site_ca(), (begin, now() + day), |list| {
            list.number(number);
            for serial in revoked {
                list.entry(serial, begin, 1);
            }
        })
    };
    scene.place.write("ca.crl", list(1, &[]));
    scene.relay("--ca certs/ca.crt --crl ca.crl");
    until("it takes reports", || scene.reports("first"));
    scene.reporter("first");
    scene.place.write("ca.crl", list(2, &[server.leaf().serial().clone()]));
    until("the list is in force", || {
        scene.said().matches("a revocation list is in force").count() > 1
    });
    until("reports are taken", || scene.reports("second"));
    until("the collector is revoked", || scene.health().contains("revoked"));
    assert_eq!(scene.kept().len(), 1, "the connection that was open is not used any more");
    scene.place.write("ca.crl", "nonsense");
    until("what is broken is said", || scene.health().contains("ca.crl"));
    // Whoever signs takes it back with a newer list.
    scene.place.write("ca.crl", list(3, &[]));
    scene.reporter("second");
    scene.place.run(&scene.line("--ca certs/ca.crt --crl nowhere.crl")).exits(3);
}
