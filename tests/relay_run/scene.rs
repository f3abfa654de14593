//! A site that signs, a collector and a relay as processes beside it, and agents that report.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use handfast_pki::SystemEntropy;
use handfast_telemetry::upstream::{Backend, Dice, Security, Upstream, UpstreamPlan};
use handfast_testkit::agents;
use handfast_testkit::eventually::{now, until};
use handfast_testkit::place::{Place, free_port};
use handfast_testkit::site::Site;
use prost::Message as _;
use serde_json::Value;

pub(crate) const SEGMENTS: &str = "/skywalking.v3.TraceSegmentReportService/collect";

/// A site that signs, a collector by itself, and what a relay by itself needs.
pub(crate) struct Scene {
    pub(crate) place: Place,
    pub(crate) west: Site,
    pub(crate) collector_port: u16,
    pub(crate) relay_port: u16,
    pub(crate) health_port: u16,
    pub(crate) collector: Option<Process>,
    pub(crate) relay: Option<Process>,
    pub(crate) runtime: tokio::runtime::Runtime,
}

impl Scene {
    /// The files of `agent-certs` are in `certs`; the collector runs in this mode.
    pub(crate) fn new(mode: &str) -> Self {
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

    pub(crate) fn certs(&self, name: &str) {
        let directory = self.place.path(name);
        let line = format!(
            "agent-certs {} --service shop --hosts localhost,127.0.0.1 --force",
            directory.display()
        );
        self.west.run(&line).ok();
    }

    pub(crate) fn collect(&mut self, mode: &str) {
        self.collector = None;
        let line = format!(
            "collector run --data kept --grpc 127.0.0.1:{} --http 127.0.0.1:{} --mode {mode} --cert certs/server.crt \
             --key certs/server.pem --client-ca certs/ca.crt --trust-domain demo.example --allow *=shop",
            self.collector_port,
            free_port()
        );
        self.collector = Some(Process::start(&self.place, &line, "collector.log"));
    }

    pub(crate) fn line(&self, more: &str) -> String {
        format!(
            "relay run --backend localhost:{} --listen 127.0.0.1:{} --http 127.0.0.1:{} --metrics 127.0.0.1:{} {more}",
            self.collector_port,
            self.relay_port,
            free_port(),
            self.health_port
        )
    }

    pub(crate) fn relay(&mut self, more: &str) {
        self.relay_in(&[], more);
    }

    /// With these variables in its environment.
    pub(crate) fn relay_in(&mut self, variables: &[(&str, &str)], more: &str) {
        self.relay = None;
        let line = self.line(more);
        self.relay = Some(Process::start_in(&self.place, variables, &line, "relay.log"));
    }

    /// Gives the agent's folder these files.
    pub(crate) fn folder(&self, files: &[&str]) {
        for name in files {
            let content = std::fs::read(self.place.path("certs").join(name)).unwrap();
            self.place.write(&format!("agent/ca/{name}"), content);
        }
    }

    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(self.place.path("relay.log")).unwrap()
    }

    pub(crate) fn reports(&self, id: &str) -> bool {
        let caller = agent(self.relay_port);
        self.runtime.block_on(caller.call(SEGMENTS, &[segment(id)])).is_ok()
    }

    pub(crate) fn kept(&self) -> Vec<Value> {
        let list = self.place.run("trace ls --data kept --limit 100000 -o json");
        // Before the first segment there is nothing to read.
        if list.code == 0 { list.json().as_array().unwrap().clone() } else { Vec::new() }
    }

    /// How the segment came to the collector.
    pub(crate) fn reporter(&self, id: &str) -> String {
        until("the segment is kept", || {
            self.place.run(&format!("trace show trace-{id} --data kept")).code == 0
        });
        let trace = self.place.run(&format!("trace show trace-{id} --data kept -o json"));
        trace.ok().json()["segments"][0]["reporter"].as_str().unwrap_or_default().to_owned()
    }

    /// The answer of `/healthz`, or nothing while there is none.
    pub(crate) fn health(&self) -> String {
        self.page("/healthz")
    }

    pub(crate) fn page(&self, path: &str) -> String {
        use std::io::{Read as _, Write as _};
        let mut page = String::new();
        if let Ok(mut socket) = std::net::TcpStream::connect(("127.0.0.1", self.health_port)) {
            let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
            drop(socket.write_all(request.as_bytes()));
            drop(socket.read_to_string(&mut page));
        }
        page
    }

    /// What a counter of the relay says.
    pub(crate) fn counter(&self, name: &str) -> u64 {
        let page = self.page("/metrics");
        let begin = format!("handfast_telemetry_{name}_total{{station=\"relay\",name=\"relay\"}} ");
        let value = page.lines().find_map(|line| line.strip_prefix(&begin));
        let value = value.unwrap_or_else(|| panic!("{begin}?\n{page}"));
        value.trim().trim_end_matches(".0").parse().unwrap()
    }

    /// Every acknowledged segment is there, and once.
    pub(crate) fn all_there_once(&self, acknowledged: &[String]) {
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
pub(crate) fn agent(port: u16) -> Upstream {
    let plan = UpstreamPlan {
        authentication: None,
        backends: vec![Backend { host: "127.0.0.1".to_owned(), port }],
        security: Some(Security::Plaintext),
    };
    Upstream::new(plan, Arc::new(now), Dice::new(SystemEntropy))
}

pub(crate) fn segment(id: &str) -> Bytes {
    padded(id, 0)
}

/// One that takes room.
pub(crate) fn padded(id: &str, padding: usize) -> Bytes {
    let mut segment = agents::segment("shop", id);
    segment.spans[0].operation_name.push_str(&"x".repeat(padding));
    segment.encode_to_vec().into()
}

/// A process that ends with the value, by SIGKILL.
pub(crate) struct Process(std::process::Child);

impl Process {
    pub(crate) fn start(place: &Place, line: &str, log: &str) -> Self {
        Self::start_in(place, &[], line, log)
    }

    pub(crate) fn start_in(
        place: &Place,
        variables: &[(&str, &str)],
        line: &str,
        log: &str,
    ) -> Self {
        let words: Vec<&str> = line.split_whitespace().collect();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(place.path(log));
        let mut command = place.command(&words);
        command.envs(variables.iter().copied()).stderr(log.unwrap());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Reports segment after segment, until told to end; knows which were acknowledged.
pub(crate) struct Reporter {
    pub(crate) ending: Arc<AtomicBool>,
    pub(crate) acknowledged: Arc<AtomicU64>,
    pub(crate) task: tokio::task::JoinHandle<Vec<String>>,
}

impl Reporter {
    pub(crate) fn start(scene: &Scene) -> Self {
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

    pub(crate) fn more(&self, what: &str) {
        let before = self.acknowledged.load(Ordering::Relaxed);
        until(what, || self.acknowledged.load(Ordering::Relaxed) > before + 20);
    }

    pub(crate) fn end(self, scene: &Scene) -> Vec<String> {
        self.ending.store(true, Ordering::Relaxed);
        scene.runtime.block_on(self.task).unwrap()
    }
}
