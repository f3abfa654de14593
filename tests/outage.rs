//! A collector that is away for long while agents go on at their pace: the relay takes everything onto its disk,
//! stays small in memory, and hands over each segment once when the collector is back.
//!
//! `HANDFAST_OUTAGE` is how long it is away, in seconds; without it that is short enough for every run of the tests.
//! `HANDFAST_BINARY` is another build to run, for figures of an optimised one.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use handfast_pki::SystemEntropy;
use handfast_proto::skywalking::v3::{KeyStringValuePair, SegmentObject, SpanObject};
use handfast_telemetry::upstream::{Backend, Dice, Security, Upstream, UpstreamPlan};
use handfast_testkit::eventually::{now, until, within};
use handfast_testkit::place::{Place, free_port};
use prost::Message as _;

const SEGMENTS: &str = "/skywalking.v3.TraceSegmentReportService/collect";

/// Agents that report.
const AGENTS: usize = 8;

/// Each says so much in one call; the segments of a call are one trace.
const BATCH: usize = 25;

/// And so often.
const PACE: Duration = Duration::from_millis(400);

/// The relay's memory never grows by more, however long it waits, and however much has to be caught up with.
const GROWTH_KIB: u64 = 24 * 1024;

/// What was said, by trace, and whether it was accepted.
type Said = BTreeMap<String, bool>;

struct Scene {
    place: Place,
    collector_port: u16,
    relay_port: u16,
    metrics_port: u16,
    runtime: tokio::runtime::Runtime,
}

impl Scene {
    fn new() -> Self {
        let binary = std::env::var("HANDFAST_BINARY");
        let place = Place::new(binary.as_deref().unwrap_or(env!("CARGO_BIN_EXE_handfast")));
        let west = place.west();
        let certs = place.path("certs").display().to_string();
        west.run(&format!("agent-certs {certs} --service shop --hosts localhost,127.0.0.1")).ok();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (collector_port, relay_port, metrics_port) = (free_port(), free_port(), free_port());
        Self { place, collector_port, relay_port, metrics_port, runtime }
    }

    fn collector(&self) -> Process {
        let line = format!(
            "collector run --data kept --grpc 127.0.0.1:{} --http 127.0.0.1:{} --mode mtls --cert certs/server.crt \
             --key certs/server.pem --client-ca certs/ca.crt --trust-domain demo.example",
            self.collector_port,
            free_port()
        );
        Process::start(&self.place, &line, "collector.log")
    }

    fn relay(&self, spool: &str) -> Process {
        let line = format!(
            "relay run --backend localhost:{} --listen 127.0.0.1:{} --http 127.0.0.1:{} --metrics 127.0.0.1:{} --data spool \
             --spool-size {spool} --ca certs/ca.crt --cert certs/client.crt --key certs/client.pem",
            self.collector_port,
            self.relay_port,
            free_port(),
            self.metrics_port
        );
        Process::start(&self.place, &line, "relay.log")
    }

    /// A figure of the relay, or nothing while it is not there.
    fn figure(&self, name: &str) -> Option<f64> {
        use std::io::{Read as _, Write as _};
        let mut page = String::new();
        let mut socket = std::net::TcpStream::connect(("127.0.0.1", self.metrics_port)).ok()?;
        socket.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").ok()?;
        socket.read_to_string(&mut page).ok()?;
        let line = page.lines().find(|line| line.starts_with(&format!("{name}{{")))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    /// Everything that was accepted has gone on.
    fn drained(&self) -> bool {
        self.figure("handfast_telemetry_lag_bytes") == Some(0.0)
    }

    /// How many segments of each trace are kept.
    fn kept(&self) -> BTreeMap<String, u64> {
        let mut kept = BTreeMap::new();
        // No answer lists more than 10,000 traces; of one agent there are fewer.
        for agent in 0..AGENTS {
            let line = format!(
                "trace ls --data kept --since 2h --limit 10000 --service shop --instance shop-{agent} -o json"
            );
            let list = self.place.run(&line).ok().json();
            let count = |one: &serde_json::Value| {
                (one["traceId"].as_str().unwrap().to_owned(), one["segments"].as_u64().unwrap())
            };
            kept.extend(list.as_array().unwrap().iter().map(count));
        }
        kept
    }

    /// All that was accepted is there once, and nothing twice.
    fn all_there_once(&self, said: &Said) {
        let kept = self.kept();
        for (trace, accepted) in said {
            let there = kept.get(trace).copied().unwrap_or_default();
            let whole = there == BATCH as u64;
            assert!(whole || !accepted, "{trace}: {there} of {BATCH} segments are kept");
            assert!(there <= BATCH as u64, "{trace}: {there} segments are kept, {BATCH} were said");
        }
        assert!(kept.keys().all(|trace| said.contains_key(trace)), "what nobody said is kept");
    }
}

/// Agents at their pace, until they are told to end.
struct Talk {
    ending: Arc<AtomicBool>,
    /// Calls that were not accepted so far.
    refused: Arc<AtomicU64>,
    agents: Vec<tokio::task::JoinHandle<(Said, Vec<Duration>)>>,
}

impl Talk {
    fn start(scene: &Scene) -> Self {
        let (ending, refused) = (Arc::default(), Arc::default());
        let port = scene.relay_port;
        let agents = (0..AGENTS).map(|agent| {
            let told = (Arc::clone(&ending), Arc::clone(&refused));
            scene.runtime.spawn(talk(agent, port, told))
        });
        Self { agents: agents.collect(), ending, refused }
    }

    /// What was said, and how long each accepted call took, in order.
    fn end(self, scene: &Scene) -> (Said, Vec<Duration>) {
        self.ending.store(true, Ordering::Relaxed);
        let (mut said, mut took) = (Said::new(), Vec::new());
        for agent in self.agents {
            let (more, times) = scene.runtime.block_on(agent).unwrap();
            said.extend(more);
            took.extend(times);
        }
        took.sort();
        (said, took)
    }
}

async fn talk(
    agent: usize,
    port: u16,
    (ending, refused): (Arc<AtomicBool>, Arc<AtomicU64>),
) -> (Said, Vec<Duration>) {
    let plan = UpstreamPlan {
        authentication: None,
        backends: vec![Backend { host: "127.0.0.1".to_owned(), port }],
        security: Some(Security::Plaintext),
    };
    let caller = Upstream::new(plan, Arc::new(now), Dice::new(SystemEntropy));
    let mut tick = tokio::time::interval(PACE);
    let (mut said, mut took) = (Said::new(), Vec::new());
    for call in 0_u32.. {
        tick.tick().await;
        if ending.load(Ordering::Relaxed) {
            break;
        }
        let trace = format!("trace-{agent}-{call}");
        let segments: Vec<Bytes> =
            (0..BATCH).map(|number| segment(agent, &trace, number)).collect();
        let begin = Instant::now();
        let accepted = caller.call(SEGMENTS, &segments).await.is_ok();
        if accepted {
            took.push(begin.elapsed());
        } else {
            refused.fetch_add(1, Ordering::Relaxed);
        }
        said.insert(trace, accepted);
    }
    (said, took)
}

fn segment(agent: usize, trace: &str, number: usize) -> Bytes {
    let begin = now().as_millisecond();
    let tag = |key: &str, value: &str| KeyStringValuePair { key: key.into(), value: value.into() };
    let span = |id: i32, name: &str| SpanObject {
        span_id: id,
        parent_span_id: id - 1,
        start_time: begin,
        end_time: begin + 40,
        operation_name: name.to_owned(),
        tags: vec![tag("http.method", "POST"), tag("url", "http://shop/checkout")],
        ..SpanObject::default()
    };
    let segment = SegmentObject {
        trace_id: trace.to_owned(),
        trace_segment_id: format!("{trace}-{number}"),
        spans: vec![span(0, "/checkout"), span(1, "Mysql/JDBI/Statement/execute")],
        service: "shop".to_owned(),
        service_instance: format!("shop-{agent}"),
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

    /// A line of `/proc/PID/status`, in KiB.
    fn memory(&self, what: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(what)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn a_collector_that_is_away_for_long_misses_nothing_and_the_relay_stays_small() {
    let seconds = std::env::var("HANDFAST_OUTAGE").map_or(6, |text| text.parse().unwrap());
    let outage = Duration::from_secs(seconds);
    let scene = Scene::new();
    let collector = scene.collector();
    let relay = scene.relay("2Gi");
    until("the relay is there", || scene.figure("handfast_telemetry_lag_bytes").is_some());
    let talk = Talk::start(&scene);
    until("reports go through", || scene.figure("handfast_telemetry_sent_total") > Some(200.0));
    let before = relay.memory("VmRSS");

    drop(collector);
    let away = Instant::now();
    let mut waiting_memory = 0;
    within(outage + Duration::from_secs(60), "the collector is away", || {
        waiting_memory = waiting_memory.max(relay.memory("VmRSS"));
        (away.elapsed() >= outage).then_some(())
    });
    let away = away.elapsed();
    let waiting = scene.figure("handfast_telemetry_lag_bytes").unwrap();
    let _collector = scene.collector();
    let back = Instant::now();
    until("the relay has found it", || scene.figure("handfast_telemetry_upstream_up") == Some(1.0));
    let found = back.elapsed();
    // They go on while the relay catches up.
    within(outage + Duration::from_secs(60), "what waited has gone on", || {
        scene.drained().then_some(())
    });
    let caught_up = back.elapsed();
    let (said, took) = talk.end(&scene);
    until("the rest has gone on", || scene.drained());
    let accepted = said.values().filter(|accepted| **accepted).count();
    eprintln!(
        "away for {:.0?}: {} segments accepted of {} said, half of the calls within {:.1?}, 99 of 100 within {:.1?}; {:.1} MiB \
         waited; found again after {found:.1?}, all of it handed over after {caught_up:.1?}; memory of the relay {} KiB before, \
         {waiting_memory} KiB while the collector was away, {} KiB at most",
        away,
        accepted * BATCH,
        said.len() * BATCH,
        took[took.len() / 2],
        took[took.len() * 99 / 100],
        waiting / 1024.0 / 1024.0,
        before,
        relay.memory("VmHWM"),
    );
    assert_eq!(accepted, said.len(), "with room on the disk nothing is refused");
    scene.all_there_once(&said);
    let peak = relay.memory("VmHWM");
    assert!(peak <= before + GROWTH_KIB, "{before} KiB before, {peak} KiB at most");
}

#[test]
fn a_spool_that_is_full_refuses_and_what_it_had_accepted_arrives_once() {
    let scene = Scene::new();
    let relay = scene.relay("1Mi");
    until("the relay is there", || scene.figure("handfast_telemetry_lag_bytes").is_some());
    let before = relay.memory("VmRSS");
    let talk = Talk::start(&scene);
    until("it is full", || talk.refused.load(Ordering::Relaxed) >= AGENTS as u64);
    let _collector = scene.collector();
    until("what waited has gone on", || scene.drained());
    let (said, _) = talk.end(&scene);
    until("the rest has gone on", || scene.drained());
    let refused = said.values().filter(|accepted| !**accepted).count();
    assert!(refused > 0 && refused < said.len(), "{refused} of {}", said.len());
    scene.all_there_once(&said);
    let peak = relay.memory("VmHWM");
    assert!(peak <= before + GROWTH_KIB, "{before} KiB before, {peak} KiB at most");
}
