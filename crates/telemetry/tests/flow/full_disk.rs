//! A disk that is full below the spool: agents are told so, nothing that was accepted is lost, and it goes on
//! when there is room.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use handfast_proto::skywalking::v3::SegmentObject;
use handfast_telemetry::forward::Dialect;
use handfast_telemetry::grpc::Code;
use handfast_telemetry::journal::{JournalSettings, Position};
use handfast_telemetry::keep::KeepSettings;
use handfast_telemetry::port::Mode;
use handfast_telemetry::station::{Output, Station};
use handfast_telemetry::upstream::Upstream;
use handfast_testkit::faults::SmallDisk;
use prost::Message as _;

use crate::backend::{Answer, Backend, TAKEN};
use crate::support::{SEGMENTS, Scene, grpc, plain_caller, report, segment, until};

/// A segment of a known size.
fn large(id: usize) -> Bytes {
    segment(&format!("shop{}", "-".repeat(900)), &format!("{id:0>1000}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_are_told_that_the_disk_is_full_and_what_was_accepted_arrives() {
    let scene = Scene::new();
    let Some(disk) = SmallDisk::mount(&scene.path("disk"), "3m") else { return };
    let backend = Backend::start(|_| Answer::Status(Code::Unavailable, "away")).await;
    let output = Output::Forward {
        dialect: Dialect::SkyWalking,
        directory: disk.path().join("relay"),
        spool: JournalSettings { chunk_bytes: 256 << 10, ..JournalSettings::default() },
        upstream: Scene::plain_upstream(&[backend.address]),
    };
    let relay = scene.start(scene.plan("relay", Mode::Plaintext, output));
    let agent = plain_caller(grpc(&relay));
    let (mut accepted, mut refused) = (0, Vec::new());
    for n in 0..2000 {
        match report(&agent, &[large(n)]).await {
            Ok(_) => accepted += 1,
            Err(status) => refused.push(status),
        }
        if refused.len() == 20 {
            break;
        }
    }
    assert!(accepted > 100, "{accepted} were accepted before");
    assert_eq!(refused.len(), 20);
    for status in &refused {
        assert_eq!(status.code, Code::Unavailable, "agents come again: {status}");
        for part in ["cannot be written to disk", "No space left", "send again later"] {
            assert!(status.message.contains(part), "{part}: {status}");
        }
    }
    let forward = relay.status().forward.expect("it forwards");
    assert_eq!((forward.spool.refused_batches, forward.spool.dropped_records), (20, 0));

    // What is sent makes room, on a disk that is still full of something else.
    disk.fill();
    backend.answers(|_| TAKEN);
    until("what was accepted arrives", || {
        relay.status().forward.is_some_and(|it| it.sent == accepted && it.lag_bytes == 0)
    })
    .await;
    let mut ids: Vec<Bytes> = Vec::new();
    backend.each(|call| {
        if call.path == SEGMENTS {
            ids.extend(call.messages.iter().cloned());
        }
    });
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len() as u64, accepted, "all of them");
    disk.empty();
    for n in 5000..5010 {
        report(&agent, &[large(n)]).await.expect("there is room again");
    }
    until("it goes on", || relay.status().forward.is_some_and(|it| it.sent == accepted + 10)).await;
    relay.stop(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_set_aside_because_the_disk_is_full_waits() {
    let scene = Scene::new();
    let Some(disk) = SmallDisk::mount(&scene.path("disk"), "3m") else { return };
    let backend = Backend::start(|_| Answer::Status(Code::Unavailable, "away")).await;
    let output = Output::Forward {
        dialect: Dialect::SkyWalking,
        directory: disk.path().join("relay"),
        spool: JournalSettings::default(),
        upstream: Scene::plain_upstream(&[backend.address]),
    };
    let relay = scene.start(scene.plan("relay", Mode::Plaintext, output));
    let agent = plain_caller(grpc(&relay));
    let segments: Vec<_> = (0..50).map(large).collect();
    report(&agent, &segments).await.expect("spooled");
    until("it is tried", || backend.asked(SEGMENTS) > 0).await;
    disk.fill();
    backend.answers(|_| Answer::Status(Code::PermissionDenied, "wrong-identity: not yours"));
    let asked = backend.asked(SEGMENTS);
    until("it is refused", || backend.asked(SEGMENTS) > asked).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let forward = relay.status().forward.expect("it forwards");
    assert_eq!(forward.set_aside, 0);
    assert!(forward.lag_bytes > 0, "it is not stepped over");
    disk.empty();
    until("it is set aside", || relay.status().forward.is_some_and(|it| it.set_aside == 50)).await;
    until("and stepped over", || relay.status().forward.is_some_and(|it| it.lag_bytes == 0)).await;
}

/// How often each segment lies in the store, by its id.
fn kept(collector: &Station) -> BTreeMap<String, usize> {
    let keep = collector.keep().expect("it keeps");
    let mut kept = BTreeMap::new();
    let mut records = keep.journal().reader(Position::START);
    loop {
        let batch = records.next_batch(1 << 20).expect("read");
        if batch.is_empty() {
            return kept;
        }
        for (_, record) in batch {
            let segment = SegmentObject::decode(record.body).expect("a segment");
            *kept.entry(segment.trace_segment_id).or_default() += 1;
        }
    }
}

/// Reports segments until twenty were refused, all of them for want of room; the numbers of both.
async fn report_until_full(agent: &Upstream, numbers: std::ops::Range<usize>) -> [Vec<usize>; 2] {
    let (mut accepted, mut refused) = (Vec::new(), Vec::new());
    for n in numbers {
        let Err(status) = report(agent, &[large(n)]).await else {
            accepted.push(n);
            continue;
        };
        assert_eq!(status.code, Code::Unavailable, "agents come again: {status}");
        for part in ["cannot be written to disk", "No space left", "send again later"] {
            assert!(status.message.contains(part), "{part}: {status}");
        }
        refused.push(n);
        if refused.len() == 20 {
            return [accepted, refused];
        }
    }
    panic!("never full: {} were accepted", accepted.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_keeps_says_that_the_disk_is_full_and_has_what_it_accepted_once() {
    let scene = Scene::new();
    let Some(disk) = SmallDisk::mount(&scene.path("disk"), "3m") else { return };
    let start = || {
        let settings = KeepSettings { chunk_bytes: 256 << 10, ..KeepSettings::default() };
        let output = Output::Keep { directory: disk.path().join("collector"), settings };
        scene.start(scene.plan("collector", Mode::Plaintext, output))
    };
    let has = |collector: &Station, accepted: &[usize]| {
        let expected = accepted.iter().map(|n| (format!("{n:0>1000}"), 1)).collect();
        assert!(kept(collector) == expected, "each once, and nothing else");
        let services = collector.keep().expect("it keeps").reader().services().expect("read");
        assert_eq!(services[0].segments, accepted.len() as u64, "it is asked as well as ever");
    };
    let collector = start();
    let agent = plain_caller(grpc(&collector));
    for n in 0..100 {
        report(&agent, &[large(n)]).await.expect("there is room");
    }
    // Full of something else.
    disk.fill();
    let [more, refused] = report_until_full(&agent, 100..2000).await;
    let mut accepted: Vec<usize> = (0..100).chain(more).collect();
    has(&collector, &accepted);
    disk.empty();
    for n in refused {
        report(&agent, &[large(n)]).await.expect("there is room again");
        accepted.push(n);
    }
    has(&collector, &accepted);
    // Full of itself; what it tells stays the same when it is opened as full as it is.
    let [more, refused] = report_until_full(&agent, 2000..9000).await;
    assert!(more.len() > 500, "{} were accepted before", more.len());
    accepted.extend(more);
    has(&collector, &accepted);
    let status = collector.status().keep.expect("it keeps");
    assert_eq!((status.journal.refused_batches, status.kept), (40, accepted.len() as u64));
    collector.stop(Duration::from_secs(5)).await;
    let collector = start();
    has(&collector, &accepted);
    let agent = plain_caller(grpc(&collector));
    report(&agent, &[large(refused[0])]).await.expect_err("still full");
    // What it has already is known, and takes no room.
    report(&agent, &[large(accepted[0])]).await.expect("it has that");
    has(&collector, &accepted);
}
