//! Messages nearly as large as the protocol allows: they go all the way, whole.

use std::fmt::Write as _;

use bytes::Bytes;
use handfast_proto::skywalking::v3::{KeyStringValuePair, SegmentObject, SpanObject};
use handfast_telemetry::grpc::{Code, MESSAGE_LIMIT};
use handfast_telemetry::port::Mode;
use prost::Message as _;

use crate::backend::{Backend, TAKEN};
use crate::posting::post;
use crate::support::{SEGMENTS, Scene, accepted, grpc, http, plain_caller, report, until};

/// A segment with one tag of so many bytes, no two stretches of which are the same.
pub(crate) fn segment_with(bytes: usize, id: &str) -> SegmentObject {
    let mut value = String::with_capacity(bytes + 9);
    for number in 0_u32.. {
        write!(value, "{number:08x} ").expect("memory");
        if value.len() >= bytes {
            break;
        }
    }
    value.truncate(bytes);
    let tag = KeyStringValuePair { key: "db.statement".to_owned(), value };
    let span = SpanObject { parent_span_id: -1, tags: vec![tag], ..SpanObject::default() };
    SegmentObject {
        trace_id: format!("trace-{id}"),
        trace_segment_id: id.to_owned(),
        spans: vec![span],
        service: "shop".to_owned(),
        service_instance: "shop-1".to_owned(),
        ..SegmentObject::default()
    }
}

const LARGE: usize = 49 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_of_49_mib_arrives_whole_over_relay_and_collector() {
    let scene = Scene::new();
    let backend = Backend::start(|_| TAKEN).await;
    let output = scene.forward(Scene::plain_upstream(&[backend.address]));
    let collector = scene.start(scene.plan("collector", Mode::Mtls, output));
    let relay = scene.relay(grpc(&collector), "shop");

    let sent = Bytes::from(segment_with(LARGE, "grpc").encode_to_vec());
    assert!(sent.len() > LARGE && sent.len() < MESSAGE_LIMIT);
    report(&plain_caller(grpc(&relay)), std::slice::from_ref(&sent)).await.expect("spooled");
    until("it has arrived", || backend.asked(SEGMENTS) == 1).await;
    let arrived = backend.each(|call| call.messages.clone()).concat();
    assert!(arrived.len() == 1 && arrived[0] == sent, "whole and equal");

    // The same over HTTP, as JSON.
    let told = segment_with(LARGE, "http");
    let value = &told.spans[0].tags[0].value;
    let body = format!(
        r#"{{"traceId":"trace-http","traceSegmentId":"http","service":"shop","serviceInstance":"shop-1","spans":[{{"spanId":0,"parentSpanId":-1,"tags":[{{"key":"db.statement","value":"{value}"}}]}}]}}"#
    );
    let json = [("content-type", "application/json")];
    let (status, said) = post(&plain_caller(http(&relay)), "/v3/segment", &json, body).await;
    assert_eq!(status, 200, "{said}");
    until("it has arrived too", || backend.asked(SEGMENTS) == 2).await;
    let arrived = backend.each(|call| call.messages.clone()).concat();
    let arrived = SegmentObject::decode(arrived[1].clone()).expect("a segment");
    assert!(arrived == told, "whole and equal");

    assert_eq!(accepted(&relay, "segment"), 2);
    assert_eq!(accepted(&collector, "segment"), 2);
    for station in [&relay, &collector] {
        let forward = || station.status().forward.expect("it forwards");
        until("nothing is left", || forward().lag_bytes == 0).await;
        assert_eq!((forward().sent, forward().set_aside), (2, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_is_the_last_byte_that_is_taken() {
    let scene = Scene::new();
    let collector = scene.collector(Mode::Plaintext);
    let agent = plain_caller(grpc(&collector));
    let around = segment_with(LARGE, "limit").encoded_len() - LARGE;
    let at_limit = Bytes::from(segment_with(MESSAGE_LIMIT - around, "limit").encode_to_vec());
    assert_eq!(at_limit.len(), MESSAGE_LIMIT);
    let over = Bytes::from(segment_with(MESSAGE_LIMIT - around + 1, "limit").encode_to_vec());
    let refused = report(&agent, &[over]).await.expect_err("one byte too many");
    assert_eq!(refused.code, Code::ResourceExhausted, "{refused}");
    report(&agent, &[at_limit]).await.expect("as large as may be");
    let records = collector.keep().expect("it keeps").reader().trace_records("trace-limit");
    let records = records.expect("read");
    assert_eq!(records.iter().map(|record| record.body.len()).collect::<Vec<_>>(), [MESSAGE_LIMIT]);
}
