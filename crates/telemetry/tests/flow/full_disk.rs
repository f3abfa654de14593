//! A disk that is full below the spool: agents are told so, nothing that was accepted is lost, and it goes on
//! when there is room.

use bytes::Bytes;
use handfast_telemetry::forward::Dialect;
use handfast_telemetry::grpc::Code;
use handfast_telemetry::journal::JournalSettings;
use handfast_telemetry::port::Mode;
use handfast_telemetry::station::Output;
use handfast_testkit::faults::SmallDisk;

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
    relay.stop(std::time::Duration::from_secs(5)).await;
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
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let forward = relay.status().forward.expect("it forwards");
    assert_eq!(forward.set_aside, 0);
    assert!(forward.lag_bytes > 0, "it is not stepped over");
    disk.empty();
    until("it is set aside", || relay.status().forward.is_some_and(|it| it.set_aside == 50)).await;
    until("and stepped over", || relay.status().forward.is_some_and(|it| it.lag_bytes == 0)).await;
}
