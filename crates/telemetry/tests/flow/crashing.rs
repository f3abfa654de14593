//! kill -9 of a real relay and of a real collector, again and again, while agents report: every segment that
//! was accepted is in the store once.
//!
//! Each is this test binary, started again with its part in the environment.

use std::collections::{BTreeMap, HashSet};
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use handfast_proto::skywalking::v3::SegmentObject;
use handfast_telemetry::forward::Dialect;
use handfast_telemetry::journal::{JournalSettings, Position};
use handfast_telemetry::keep::KeepSettings;
use handfast_telemetry::port::{Mode, Place, Protection, Protocol};
use handfast_telemetry::station::{Output, PortPlan, Station, StationPlan};
use handfast_telemetry::upstream::{Backend, Security, UpstreamPlan};
use handfast_tls::Revocations;
use prost::Message as _;

use crate::support::{Scene, clock, dice, grpc, plain_caller, report, segment, until};

/// `relay`, `collector` or `retry`; without it the child is a test like others.
const PART: &str = "HANDFAST_TEST_PART";
/// Where it keeps what it has.
const DIRECTORY: &str = "HANDFAST_TEST_DIRECTORY";
/// Where it listens.
const LISTEN: &str = "HANDFAST_TEST_LISTEN";
/// Where it sends what it takes.
const SEND: &str = "HANDFAST_TEST_SEND";

#[test]
fn child_relays_or_collects_until_it_is_killed() {
    let Ok(part) = std::env::var(PART) else { return };
    let value = |name: &str| std::env::var(name).expect("set by the parent");
    let directory = value(DIRECTORY).into();
    let output = if part == "collector" {
        Output::Keep { directory, settings: KeepSettings::default() }
    } else {
        forwarding(directory, value(SEND).parse().expect("an address"))
    };
    let retries = part == "retry";
    let port = PortPlan {
        place: Place::Tcp(value(LISTEN).parse().expect("an address")),
        protection: Protection { mode: Mode::Plaintext, tls: None },
        protocol: Protocol::Grpc,
    };
    let plan = StationPlan {
        desk: handfast_telemetry::desk::DeskPlan::default(),
        name: part,
        output,
        ports: BTreeMap::from([("grpc".to_owned(), port)]),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let witness = std::sync::Arc::new(|_| ());
        let (station, faults) =
            Station::start(plan, Revocations::new(), clock(), dice(), witness).expect("a station");
        assert!(faults.is_empty(), "{faults:?}");
        println!("listens {}", station.address("grpc").expect("a port"));
        if retries {
            crate::aside::retry_for_ever(&station).await;
        }
        std::future::pending::<()>().await;
    });
}

/// Into chunks so small that some are given back within each round.
fn forwarding(directory: PathBuf, to: SocketAddr) -> Output {
    Output::Forward {
        dialect: Dialect::SkyWalking,
        directory,
        spool: JournalSettings { chunk_bytes: 64 << 10, ..JournalSettings::default() },
        upstream: UpstreamPlan {
            authentication: None,
            backends: vec![Backend { host: to.ip().to_string(), port: to.port() }],
            security: Some(Security::Plaintext),
        },
    }
}

pub(crate) struct Process {
    child: Child,
    address: SocketAddr,
}

impl Process {
    pub(crate) fn start(
        part: &str,
        directory: &Path,
        listen: SocketAddr,
        send: SocketAddr,
    ) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this binary"))
            .args([
                "--exact",
                "crashing::child_relays_or_collects_until_it_is_killed",
                "--nocapture",
            ])
            .env(PART, part)
            .env(DIRECTORY, directory)
            .env(LISTEN, listen.to_string())
            .env(SEND, send.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a process");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        // The first word may share its line with what the harness says.
        let address = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.split_once("listens ")?.1.trim().parse().ok())
            .expect("it listens");
        Self { child, address }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("gone");
    }
}

/// A number that looks like chance and is the same in every run.
pub(crate) fn chance(round: u64) -> u64 {
    let mixed = round.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_is_in_the_store_once_however_often_relay_and_collector_are_killed() {
    let place = tempfile::tempdir().expect("a directory");
    let (at_relay, at_collector) = (place.path().join("relay"), place.path().join("collector"));
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    let mut collector = Process::start("collector", &at_collector, any, any);
    let to = collector.address;
    let mut relay = Process::start("relay", &at_relay, any, to);
    let at = relay.address;
    let mut accepted = Vec::new();
    // More rounds where little is accepted in one: on a machine that has no time.
    let mut round = 0;
    while round < ROUNDS || (round < MOST_ROUNDS && accepted.len() <= ENOUGH) {
        let agents: Vec<_> = (0..3)
            .map(|agent| tokio::spawn(report_until_refused(at, round * 10 + agent)))
            .collect();
        // Anywhere between the first call and some dozens of calls later.
        tokio::time::sleep(Duration::from_millis(chance(round) % 120)).await;
        if round % 3 == 1 {
            drop(collector);
            collector = Process::start("collector", &at_collector, to, any);
            tokio::time::sleep(Duration::from_millis(chance(round + 100) % 60)).await;
        }
        drop(relay);
        for agent in agents {
            accepted.extend(agent.await.expect("no panic"));
        }
        relay = Process::start("relay", &at_relay, at, to);
        round += 1;
    }
    drop(relay);
    drop(collector);
    assert!(accepted.len() > ENOUGH, "{} segments were accepted", accepted.len());
    assert_eq!(accepted.iter().collect::<HashSet<_>>().len(), accepted.len());

    // What they have left is brought together here.
    let scene = Scene::new();
    let keep = Output::Keep { directory: at_collector, settings: KeepSettings::default() };
    let collector = scene.start(scene.plan("collector", Mode::Plaintext, keep));
    let relay = forwarding(at_relay, grpc(&collector));
    let relay = scene.start(scene.plan("relay", Mode::Plaintext, relay));
    until("everything has gone out", || {
        relay.status().forward.is_some_and(|forward| forward.lag_bytes == 0)
    })
    .await;
    // Counted in the records as they lie there, and not as a reader shows them, who leaves out what is there twice.
    let keep = collector.keep().expect("it keeps");
    let mut raw: BTreeMap<String, usize> = BTreeMap::new();
    let mut records = keep.journal().reader(Position::START);
    loop {
        let batch = records.next_batch(1 << 20).expect("read");
        if batch.is_empty() {
            break;
        }
        for (_, record) in batch {
            let segment = SegmentObject::decode(record.body).expect("a segment");
            *raw.entry(segment.trace_segment_id).or_default() += 1;
        }
    }
    let counts: BTreeMap<usize, usize> = accepted.iter().fold(BTreeMap::new(), |mut counts, id| {
        *counts.entry(raw.get(id).copied().unwrap_or_default()).or_default() += 1;
        counts
    });
    assert_eq!(counts, BTreeMap::from([(1, accepted.len())]), "each once");
    assert_eq!(raw.values().max(), Some(&1), "what was not answered is not there twice either");
    let trace = keep.reader().trace(&format!("trace-{}", accepted[0])).expect("read");
    assert_eq!(trace.len(), 1);
    let services = keep.reader().services().expect("read");
    assert_eq!(services.iter().map(|it| it.segments).sum::<u64>(), raw.len() as u64);
}

/// An agent that reports in small batches until it is cut off; the ids of what was accepted.
async fn report_until_refused(to: SocketAddr, agent: u64) -> Vec<String> {
    let caller = plain_caller(to);
    let mut accepted = Vec::new();
    for batch in 0.. {
        let ids: Vec<String> = (0..7).map(|n| format!("{agent}-{batch}-{n}")).collect();
        let segments: Vec<Bytes> = ids.iter().map(|id| recent(id)).collect();
        if report(&caller, &segments).await.is_err() {
            break;
        }
        accepted.extend(ids);
    }
    accepted
}

/// A segment of this moment: an old one would not be shown.
fn recent(id: &str) -> Bytes {
    let mut segment = SegmentObject::decode(segment("shop", id)).expect("a segment");
    for span in &mut segment.spans {
        span.start_time = handfast_testkit::eventually::now().as_millisecond();
        span.end_time = span.start_time + 1;
    }
    segment.encode_to_vec().into()
}

const ROUNDS: u64 = 20;

/// On a machine that has little time less is accepted in each round: then there are more of them.
const MOST_ROUNDS: u64 = 400;

/// So many segments have to be accepted that something could have been lost.
const ENOUGH: usize = 500;
