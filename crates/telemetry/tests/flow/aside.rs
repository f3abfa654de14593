//! What a backend refused for good: looked at, put back when it would be taken now, or thrown away; and that putting
//! back loses nothing whenever it is killed.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use handfast_proto::skywalking::v3::SegmentObject;
use handfast_telemetry::RecordKind;
use handfast_telemetry::forward::{Chosen, Forwarder, ForwarderStatus};
use handfast_telemetry::grpc::Code;
use handfast_telemetry::port::Mode;
use handfast_telemetry::station::Station;
use prost::Message as _;

use crate::backend::{Answer, Backend, Call, TAKEN};
use crate::crashing::{Process, chance};
use crate::support::{Scene, grpc, plain_caller, report, segment, until};

const NOT_YOURS: Answer =
    Answer::Status(Code::PermissionDenied, "wrong-identity: agent shop may not report as bank");

fn forwarder(station: &Station) -> Arc<Forwarder> {
    Arc::clone(station.forwarder().expect("it forwards"))
}

fn status(station: &Station) -> ForwarderStatus {
    station.status().forward.expect("it forwards")
}

fn forwarding(scene: &Scene, to: SocketAddr) -> Station {
    let upstream = Scene::plain_upstream(&[to]);
    scene.start(scene.plan("first", Mode::Plaintext, scene.forward(upstream)))
}

/// The ids of the segments that were taken.
fn segments_of(calls: Vec<Vec<String>>) -> Vec<String> {
    calls.into_iter().flatten().collect()
}

fn ids(call: &Call) -> Vec<String> {
    let segment = |bytes: &Bytes| SegmentObject::decode(bytes.clone()).expect("a segment");
    call.messages.iter().map(|message| segment(message).trace_segment_id).collect()
}

fn names(call: &Call, service: &str) -> bool {
    let segment = |bytes: &Bytes| SegmentObject::decode(bytes.clone()).expect("a segment");
    call.messages.iter().any(|message| segment(message).service == service)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_is_listed_with_the_reason_and_sent_again_on_demand() {
    let scene = Scene::new();
    let refusing = |call: &Call| {
        if names(call, "bank") || names(call, "mint") { NOT_YOURS } else { TAKEN }
    };
    let backend = Backend::start(refusing).await;
    let first = forwarding(&scene, backend.address);
    let agent = plain_caller(grpc(&first));
    for service in ["shop", "bank", "mint"] {
        let segments: Vec<Bytes> =
            (0..5).map(|n| segment(service, &format!("{service}-{n}"))).collect();
        report(&agent, &segments).await.expect("spooled");
    }
    until("the others are set aside", || status(&first).set_aside == 10).await;
    let way = forwarder(&first);
    let all = way.aside(&Chosen::default(), None, 100).expect("read");
    assert_eq!((all.len(), status(&first).aside), (10, 10));
    for one in &all {
        assert_eq!(one.kind, RecordKind::Segment);
        assert!(one.reason.starts_with("PERMISSION_DENIED: wrong-identity"), "{}", one.reason);
        assert!(one.at.is_some_and(|at| at >= one.received), "{one:?}");
    }
    let bank = Chosen { services: vec!["bank".to_owned()], ..Chosen::default() };
    assert_eq!(way.aside(&bank, None, 100).expect("read").len(), 5);
    // Nothing has changed there: it comes back, and is another entry.
    assert_eq!(way.retry_aside(&bank).await.expect("put back").records, 5);
    until("they are refused again", || status(&first).set_aside == 15).await;
    assert_eq!(status(&first).aside, 10);
    let again = way.aside(&bank, None, 100).expect("read");
    assert!(again.iter().all(|one| all.iter().all(|before| before.id != one.id)));
    // Now it has: agents are asked for more at once, too.
    backend.answers(|_| TAKEN);
    assert_eq!(way.retry_aside(&bank).await.expect("put back").records, 5);
    report(&agent, &[segment("bank", "bank-5")]).await.expect("no refusal is remembered");
    until("they have arrived", || status(&first).sent == 11).await;
    let arrived = segments_of(backend.each(ids));
    assert!((0..6).all(|n| arrived.contains(&format!("bank-{n}"))), "{arrived:?}");
    assert_eq!(way.drop_aside(&Chosen::default()).await.expect("dropped").records, 5);
    assert_eq!(status(&first).aside, 0);
    // What is sent is counted before the place is noted from where to go on.
    until("nothing waits", || status(&first).lag_bytes == 0).await;
    assert_eq!(status(&first).aside_dropped, 0, "that was no want of room");
}

#[tokio::test(flavor = "multi_thread")]
async fn putting_back_loses_nothing_however_often_it_is_killed() {
    let scene = Scene::new();
    let backend = Backend::start(|_| NOT_YOURS).await;
    let first = forwarding(&scene, backend.address);
    let agent = plain_caller(grpc(&first));
    let wanted: HashSet<String> = (0..MANY).map(|n| n.to_string()).collect();
    for part in 0..MANY / 100 {
        let some = (part * 100..(part + 1) * 100).map(|n| large(&n.to_string()));
        report(&agent, &some.collect::<Vec<_>>()).await.expect("spooled");
    }
    until("all are aside", || status(&first).aside == MANY).await;
    first.stop(Duration::from_secs(5)).await;
    backend.answers(|_| TAKEN);

    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    for round in 0..ROUNDS {
        let child = Process::start("retry", &scene.path("forward"), any, backend.address);
        tokio::time::sleep(Duration::from_millis(chance(round) % 40)).await;
        drop(child);
    }
    let last = forwarding(&scene, backend.address);
    let interrupted = status(&last).aside;
    forwarder(&last).retry_aside(&Chosen::default()).await.expect("put back");
    until("nothing waits", || status(&last).lag_bytes == 0 && status(&last).aside == 0).await;
    let arrived: HashSet<String> = segments_of(backend.each(ids)).into_iter().collect();
    assert_eq!(arrived, wanted, "{interrupted} lay aside still");
    let taken = scene.path("forward").join("aside/taken");
    assert!(taken.exists(), "what was dealt with is noted");
}

/// A segment that takes its room, of a service that no other has.
fn large(id: &str) -> Bytes {
    let mut segment = SegmentObject::decode(segment(&format!("shop-{id}"), id)).expect("a segment");
    segment.spans[0].operation_name = "x".repeat(4096);
    segment.encode_to_vec().into()
}

/// What the child does, until it is killed.
pub(crate) async fn retry_for_ever(station: &Station) {
    let forwarder = forwarder(station);
    loop {
        forwarder.retry_aside(&Chosen::default()).await.expect("put back");
        tokio::task::yield_now().await;
    }
}

const MANY: u64 = 2000;
const ROUNDS: u64 = 12;
