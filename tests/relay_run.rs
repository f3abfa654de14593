//! A relay and a collector as processes of their own: certificates from files by the Java agent's habits, or by a
//! token; what is broken, changed or killed loses nothing and opens nothing.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use handfast_pki::{Chain, SystemEntropy};
use handfast_proto::skywalking::v3::{SegmentObject, SpanObject};
use handfast_telemetry::upstream::{Backend, Dice, Security, Upstream, UpstreamPlan};
use handfast_testkit::eventually::{now, until};
use handfast_testkit::place::{Place, free_port};
use handfast_testkit::site::Site;
use prost::Message as _;
use serde_json::Value;

const SEGMENTS: &str = "/skywalking.v3.TraceSegmentReportService/collect";

/// A site that signs, a collector by itself, and what a relay by itself needs.
struct Scene {
    place: Place,
    west: Site,
    collector_port: u16,
    relay_port: u16,
    health_port: u16,
    collector: Option<Process>,
    relay: Option<Process>,
    runtime: tokio::runtime::Runtime,
}

impl Scene {
    /// The files of `agent-certs` are in `certs`; the collector runs in this mode.
    fn new(mode: &str) -> Self {
        let place = Place::new(env!("CARGO_BIN_EXE_handfast"));
        let west = place.west();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let mut scene = Self {
            place,
            west,
            collector_port: free_port(),
            relay_port: free_port(),
            health_port: free_port(),
            collector: None,
            relay: None,
            runtime,
        };
        scene.certs("certs");
        scene.collect(mode);
        scene
    }

    fn certs(&self, name: &str) {
        let directory = self.place.path(name);
        let line = format!(
            "agent-certs {} --service shop --hosts localhost,127.0.0.1 --force",
            directory.display()
        );
        self.west.run(&line).ok();
    }

    fn collect(&mut self, mode: &str) {
        self.collector = None;
        let line = format!(
            "collector run --data kept --grpc 127.0.0.1:{} --http 127.0.0.1:{} --mode {mode} --cert certs/server.crt \
             --key certs/server.pem --client-ca certs/ca.crt --trust-domain demo.example --allow *=shop",
            self.collector_port,
            free_port()
        );
        self.collector = Some(Process::start(&self.place, &line, "collector.log"));
    }

    fn line(&self, more: &str) -> String {
        format!(
            "relay run --backend localhost:{} --listen 127.0.0.1:{} --http 127.0.0.1:{} --metrics 127.0.0.1:{} {more}",
            self.collector_port,
            self.relay_port,
            free_port(),
            self.health_port
        )
    }

    fn relay(&mut self, more: &str) {
        self.relay = None;
        self.relay = Some(Process::start(&self.place, &self.line(more), "relay.log"));
    }

    /// Gives the agent's folder these files.
    fn folder(&self, files: &[&str]) {
        for name in files {
            let content = std::fs::read(self.place.path("certs").join(name)).unwrap();
            self.place.write(&format!("agent/ca/{name}"), content);
        }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.place.path("relay.log")).unwrap()
    }

    fn reports(&self, id: &str) -> bool {
        let caller = agent(self.relay_port);
        self.runtime.block_on(caller.call(SEGMENTS, &[segment(id)])).is_ok()
    }

    fn kept(&self) -> Vec<Value> {
        let list = self.place.run("trace ls --data kept --limit 100000 -o json");
        // Before the first segment there is nothing to read.
        if list.code == 0 { list.json().as_array().unwrap().clone() } else { Vec::new() }
    }

    /// How the segment came to the collector.
    fn reporter(&self, id: &str) -> String {
        until("the segment is kept", || {
            self.place.run(&format!("trace show trace-{id} --data kept")).code == 0
        });
        let trace = self.place.run(&format!("trace show trace-{id} --data kept -o json"));
        trace.ok().json()["segments"][0]["reporter"].as_str().unwrap_or_default().to_owned()
    }

    /// The answer of `/healthz`, or nothing while there is none.
    fn health(&self) -> String {
        use std::io::{Read as _, Write as _};
        let mut page = String::new();
        if let Ok(mut socket) = std::net::TcpStream::connect(("127.0.0.1", self.health_port)) {
            drop(
                socket.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
            );
            drop(socket.read_to_string(&mut page));
        }
        page
    }

    /// Every acknowledged segment is there, and once.
    fn all_there_once(&self, acknowledged: &[String]) {
        let wanted: BTreeSet<String> =
            acknowledged.iter().map(|id| format!("trace-{id}")).collect();
        assert!(wanted.len() > 20, "{}", wanted.len());
        until("everything acknowledged is kept", || {
            let kept = self.kept();
            let there = kept.iter().map(|one| one["traceId"].as_str().unwrap().to_owned());
            wanted.is_subset(&there.collect())
        });
        for trace in self.kept() {
            assert_eq!(trace["segments"], 1, "{trace:#}");
        }
    }
}

/// An agent in the clear.
fn agent(port: u16) -> Upstream {
    let plan = UpstreamPlan {
        authentication: None,
        backends: vec![Backend { host: "127.0.0.1".to_owned(), port }],
        security: Some(Security::Plaintext),
    };
    Upstream::new(plan, Arc::new(now), Dice::new(SystemEntropy))
}

fn segment(id: &str) -> Bytes {
    let begin = now().as_millisecond();
    let span = SpanObject {
        parent_span_id: -1,
        start_time: begin,
        end_time: begin + 40,
        operation_name: "/buy".to_owned(),
        ..SpanObject::default()
    };
    let segment = SegmentObject {
        trace_id: format!("trace-{id}"),
        trace_segment_id: id.to_owned(),
        spans: vec![span],
        service: "shop".to_owned(),
        service_instance: "shop-1".to_owned(),
        ..SegmentObject::default()
    };
    segment.encode_to_vec().into()
}

/// A process that ends with the value, by SIGKILL.
struct Process(std::process::Child);

impl Process {
    fn start(place: &Place, line: &str, log: &str) -> Self {
        let words: Vec<&str> = line.split_whitespace().collect();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(place.path(log));
        Self(place.command(&words).stderr(log.unwrap()).spawn().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Reports segment after segment, until told to end; knows which were acknowledged.
struct Reporter {
    ending: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<Vec<String>>,
}

impl Reporter {
    fn start(scene: &Scene) -> Self {
        let ending = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let (told, count) = (Arc::clone(&ending), Arc::clone(&acknowledged));
        let caller = agent(scene.relay_port);
        let task = scene.runtime.spawn(async move {
            let mut done = Vec::new();
            for number in 0_u64.. {
                if told.load(Ordering::Relaxed) {
                    break;
                }
                let id = format!("r{number}");
                if caller.call(SEGMENTS, &[segment(&id)]).await.is_ok() {
                    done.push(id);
                    count.fetch_add(1, Ordering::Relaxed);
                } else {
                    // Nobody is there at the moment.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
            done
        });
        Self { ending, acknowledged, task }
    }

    fn more(&self, what: &str) {
        let before = self.acknowledged.load(Ordering::Relaxed);
        until(what, || self.acknowledged.load(Ordering::Relaxed) > before + 20);
    }

    fn end(self, scene: &Scene) -> Vec<String> {
        self.ending.store(true, Ordering::Relaxed);
        scene.runtime.block_on(self.task).unwrap()
    }
}

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
