//! Spans of Zipkin become what OpenTelemetry's mapping says they are, whichever way they were written.

use handfast_proto::otlp::common::v1::any_value::Value as Any;
use handfast_proto::otlp::trace::v1::span::SpanKind;
use handfast_proto::otlp::trace::v1::{ResourceSpans, Span as OtlpSpan};
use proptest::prelude::*;
use prost::Message as _;
use serde_json::{Value, json};

use super::*;
use crate::RecordKind;
use crate::protocol::claim::claims;
use crate::protocol::view::{SegmentView, SpanKind as Seen};
use crate::protocol::wire::{put_bytes, put_uint64, put_varint};

fn received() -> Timestamp {
    "2026-11-25T12:00:00Z".parse().unwrap()
}

fn told(encoding: Encoding, body: &[u8]) -> Vec<Bytes> {
    read(encoding, body, received()).unwrap()
}

fn refused(encoding: Encoding, body: &str) -> String {
    read(encoding, body.as_bytes(), received()).unwrap_err().to_string()
}

fn spans(record: &Bytes) -> Vec<OtlpSpan> {
    let told = ResourceSpans::decode(record.clone()).unwrap();
    told.scope_spans.into_iter().flat_map(|scope| scope.spans).collect()
}

/// An attribute as text.
fn attribute(span: &OtlpSpan, key: &str) -> Option<String> {
    let value = span.attributes.iter().find(|pair| pair.key == key)?.value.clone()?.value?;
    Some(match value {
        Any::StringValue(text) => text,
        Any::IntValue(number) => number.to_string(),
        Any::BoolValue(flag) => flag.to_string(),
        other => format!("{other:?}"),
    })
}

/// As Brave writes it.
fn brave() -> Value {
    json!([{
        "traceId": "5af7183fb1d4cf5f", "parentId": "6b221d5bc9e6496c", "id": "352bff9a74ca9ad2",
        "kind": "CLIENT", "name": "get /api", "timestamp": 1_556_604_172_355_737_u64, "duration": 1431,
        "localEndpoint": { "serviceName": "shop", "ipv4": "10.113.160.3", "port": 8080 },
        "remoteEndpoint": { "serviceName": "bank", "ipv6": "2001:db8::1", "port": 443 },
        "annotations": [{ "timestamp": 1_556_604_172_355_800_u64, "value": "ws" }],
        "tags": { "http.method": "GET", "error": "timed out", "otel.library.name": "okhttp" },
        "later": [{ "a": null }], "shared": false
    }])
}

#[test]
fn a_span_says_in_other_words_what_it_said() {
    let records = told(Encoding::JsonTwo, brave().to_string().as_bytes());
    let claims = claims(RecordKind::OtlpTraces, &records[0]).unwrap();
    let claim = claims.iter().next().unwrap();
    assert_eq!((&*claim.service, claim.instance), ("shop", "10.113.160.3:8080"));
    let span = &spans(&records[0])[0];
    assert_eq!(span.trace_id, b"\0\0\0\0\0\0\0\0\x5a\xf7\x18\x3f\xb1\xd4\xcf\x5f");
    assert_eq!(span.span_id, b"\x35\x2b\xff\x9a\x74\xca\x9a\xd2");
    assert_eq!(span.parent_span_id, b"\x6b\x22\x1d\x5b\xc9\xe6\x49\x6c");
    assert_eq!((span.kind(), &*span.name), (SpanKind::Client, "get /api"));
    assert_eq!(span.start_time_unix_nano, 1_556_604_172_355_737_000);
    assert_eq!(span.end_time_unix_nano - span.start_time_unix_nano, 1_431_000);
    assert_eq!(&*span.events[0].name, "ws");
    let status = span.status.clone().unwrap();
    assert_eq!((status.code, &*status.message), (2, "timed out"));
    assert_eq!(attribute(span, "peer.service").as_deref(), Some("bank"));
    assert_eq!(attribute(span, "network.peer.address").as_deref(), Some("2001:db8::1"));
    assert_eq!(attribute(span, "network.peer.port").as_deref(), Some("443"));
    assert_eq!(attribute(span, "otel.library.name").as_deref(), None);

    let view = &SegmentView::of(RecordKind::OtlpTraces, &records[0]).unwrap()[0];
    assert!(view.is_error);
    assert_eq!((&*view.component, &*view.endpoint), ("okhttp", "get /api"));
    assert_eq!((view.spans[0].kind, &*view.spans[0].peer), (Seen::Exit, "2001:db8::1:443"));
}

#[test]
fn records_are_of_one_instance_and_one_trace() {
    let span = |trace: u32, service: &str| json!({ "traceId": trace.to_string(), "id": "1", "localEndpoint": { "serviceName": service } });
    let body = json!([span(1, "a"), span(2, "a"), span(1, "b"), span(1, "a")]).to_string();
    let records = told(Encoding::JsonTwo, body.as_bytes());
    let counts: Vec<_> = records.iter().map(|record| spans(record).len()).collect();
    assert_eq!(counts, [2, 1, 1]);
}

#[test]
fn what_a_program_of_opentelemetry_lays_into_tags_is_taken_out_again() {
    let body = json!([{ "traceId": "1", "id": "2", "localEndpoint": { "serviceName": "shop" },
        "tags": { "service.instance.id": "shop-1", "service.namespace": "eu", "service.name": "shop",
            "otel.status_code": "ERROR", "otel.status_description": "no", "peer.service": "said" },
        "remoteEndpoint": { "serviceName": "guessed" } }]);
    let records = told(Encoding::JsonTwo, body.to_string().as_bytes());
    let claims = claims(RecordKind::OtlpTraces, &records[0]).unwrap();
    let claim = claims.iter().next().unwrap();
    assert_eq!((&*claim.service, claim.instance), ("eu/shop", "shop-1"));
    let span = &spans(&records[0])[0];
    let status = span.status.clone().unwrap();
    assert_eq!((status.code, &*status.message), (2, "no"));
    assert_eq!(attribute(span, "peer.service").as_deref(), Some("said"));
    // It names nobody else: what is judged is the endpoint.
    assert_eq!(attribute(span, "service.name").as_deref(), Some("shop"));
}

#[test]
fn a_span_without_a_time_is_of_its_first_annotation_or_of_now() {
    let with = |annotations: Value| {
        let body = json!([{ "traceId": "1", "id": "2", "annotations": annotations, "tags": { "error": "false" } }]);
        spans(&told(Encoding::JsonTwo, body.to_string().as_bytes())[0]).remove(0)
    };
    let span = with(json!([{ "timestamp": 7, "value": "b" }, { "timestamp": "5", "value": "a" }]));
    assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano), (5000, 5000));
    let span = with(json!([]));
    let now = u64::try_from(received().as_nanosecond()).unwrap();
    assert_eq!(span.start_time_unix_nano, now);
    assert_eq!(attribute(&span, "otel.zipkin.absentField.startTime").as_deref(), Some("true"));
    assert_eq!(span.status.unwrap().code, 0, "it says itself that it is none");
}

#[test]
fn both_sides_of_a_call_in_a_span_of_version_one_are_two_spans() {
    let at = |service: &str| json!({ "serviceName": service, "ipv4": "127.0.0.1", "port": 1 });
    let body = json!([{ "traceId": "000000000000000a", "id": "b", "parentId": null, "name": "get",
        "timestamp": 10, "duration": 100, "debug": true,
        "annotations": [
            { "timestamp": 10, "value": "cs", "endpoint": at("front") },
            { "timestamp": 110, "value": "cr", "endpoint": at("front") },
            { "timestamp": 20, "value": "sr", "endpoint": at("back") },
            { "timestamp": 25, "value": "half way", "endpoint": at("back") },
            { "timestamp": 30, "value": "ss", "endpoint": at("back") }],
        "binaryAnnotations": [
            { "key": "http.path", "value": "/x", "endpoint": at("front") },
            { "key": "tries", "value": 2, "endpoint": at("back") },
            { "key": "sa", "value": true, "endpoint": at("seen-by-client") },
            { "key": "ca", "value": true, "endpoint": at("seen-by-server") }] }]);
    let records = told(Encoding::JsonOne, body.to_string().as_bytes());
    let services: Vec<_> = records
        .iter()
        .map(|record| {
            claims(RecordKind::OtlpTraces, record)
                .unwrap()
                .iter()
                .next()
                .unwrap()
                .service
                .to_string()
        })
        .collect();
    assert_eq!(services, ["front", "back"], "who may say it is asked of both");
    let (front, back) = (&spans(&records[0])[0], &spans(&records[1])[0]);
    assert_eq!((front.kind(), back.kind()), (SpanKind::Client, SpanKind::Server));
    assert_eq!((front.start_time_unix_nano, front.end_time_unix_nano), (10_000, 110_000));
    assert_eq!((back.start_time_unix_nano, back.end_time_unix_nano), (20_000, 30_000));
    assert_eq!(attribute(front, "peer.service").as_deref(), Some("seen-by-client"));
    assert_eq!(attribute(back, "peer.service").as_deref(), Some("seen-by-server"));
    assert_eq!(
        (attribute(front, "http.path").as_deref(), attribute(front, "tries").as_deref()),
        (Some("/x"), None)
    );
    assert_eq!(attribute(back, "tries").as_deref(), Some("2"));
    assert_eq!((front.events.len(), back.events.len()), (0, 1));
}

#[test]
fn what_happens_within_a_process_has_the_endpoint_of_any_of_its_annotations() {
    let body = json!({ "traceId": "a", "id": "b", "name": "sum", "timestamp": 1,
        "binaryAnnotations": [{ "key": "lc", "value": "cart", "endpoint": { "serviceName": "shop" } }] });
    let records = told(Encoding::JsonOne, body.to_string().as_bytes());
    let claims = claims(RecordKind::OtlpTraces, &records[0]).unwrap();
    assert_eq!(claims.iter().next().unwrap().service, "shop");
    assert_eq!(attribute(&spans(&records[0])[0], "lc").as_deref(), Some("cart"));
}

#[test]
fn what_is_no_span_is_refused_with_the_place() {
    for (body, expected) in [
        ("[{\"id\":\"1\"}]", "Span.traceId, byte 11: expected a span to have one"),
        ("[{\"traceId\":\"1\"}]", "Span.id, byte 16: expected a span to have one"),
        ("[{\"traceId\":\"zz\"", "Span.traceId, byte 16: expected an id of up to 32"),
        ("[{\"id\":\"12345678123456781\"", "Span.id"),
        ("[{\"traceId\":\"0000\"", "that is not zero"),
        ("[{\"timestamp\":-1", "Span.timestamp, byte 16: expected microseconds"),
        ("[{\"tags\":{\"a\":{}", "Span.tags"),
        ("[{\"localEndpoint\":{\"port\":\"x\"", "Endpoint.port"),
        ("[1]", "Span.(body)"),
        ("[] x", "more after the end"),
    ] {
        let told = refused(Encoding::JsonTwo, body);
        assert!(told.contains(expected), "{body}: {told}");
    }
    assert!(refused(Encoding::Protobuf, "\u{a}\u{5}ab").contains("ends after"));
    assert!(refused(Encoding::Protobuf, "\u{a}\u{3}\u{a}\u{1}a").contains("Span.id is missing"));
}

#[test]
fn there_are_not_too_many_of_anything() {
    let span = "{\"traceId\":\"1\",\"id\":\"1\"}";
    let all = |many: usize| format!("[{}]", vec![span; many].join(","));
    assert_eq!(told(Encoding::JsonTwo, all(MAX_SPANS).as_bytes()).len(), 1);
    assert!(refused(Encoding::JsonTwo, &all(MAX_SPANS + 1)).contains("more than 16384"));
    let tags = |many: usize| {
        let tags: Vec<_> = (0..many).map(|at| format!("\"{at}\":\"\"")).collect();
        format!("{{\"traceId\":\"1\",\"id\":\"1\",\"tags\":{{{}}}}}", tags.join(","))
    };
    assert!(read(Encoding::JsonTwo, tags(MAX_OF_SPAN).as_bytes(), received()).is_ok());
    let told = refused(Encoding::JsonTwo, &tags(MAX_OF_SPAN + 1));
    assert_eq!(told, "Span.tags holds more than 1024; send fewer at a time");
    let most = vec![tags(MAX_OF_SPAN); MAX_PARTICULARS / MAX_OF_SPAN + 1].join(",");
    assert!(refused(Encoding::JsonTwo, &format!("[{most}]")).contains("more than 262144"));
}

/// The same span in JSON and in protobuf.
fn written(
    ids: (u128, u64, u64),
    kind: usize,
    times: (u32, u32),
    tags: &[(String, String)],
    service: &str,
) -> (Value, Vec<u8>) {
    const KINDS: [&str; 5] = ["", "CLIENT", "SERVER", "PRODUCER", "CONSUMER"];
    let (trace, id, parent) = ids;
    let (timestamp, duration) = times;
    let map: serde_json::Map<_, _> =
        tags.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str()))).collect();
    let json = json!({
        "traceId": format!("{trace:032x}"), "id": format!("{id:016x}"), "parentId": format!("{parent:016x}"),
        "kind": if kind == 0 { Value::Null } else { KINDS[kind].into() }, "name": service,
        "timestamp": timestamp, "duration": duration, "tags": map,
        "localEndpoint": { "serviceName": service, "ipv4": "10.0.0.7", "port": 80 },
        "annotations": [{ "timestamp": duration, "value": service }],
    });
    let mut span = Vec::new();
    put_bytes(&mut span, 1, &trace.to_be_bytes());
    let parent = parent.to_be_bytes();
    put_bytes(&mut span, 2, if parent == [0; 8] { &[] } else { &parent });
    put_bytes(&mut span, 3, &id.to_be_bytes());
    put_uint64(&mut span, 4, kind as u64);
    put_bytes(&mut span, 5, service.as_bytes());
    put_varint(&mut span, 6 << 3 | 1);
    span.extend_from_slice(&u64::from(timestamp).to_le_bytes());
    put_uint64(&mut span, 7, duration.into());
    let mut endpoint = Vec::new();
    put_bytes(&mut endpoint, 1, service.as_bytes());
    put_bytes(&mut endpoint, 2, &[10, 0, 0, 7]);
    put_uint64(&mut endpoint, 4, 80);
    put_bytes(&mut span, 8, &endpoint);
    let mut annotation = Vec::new();
    put_varint(&mut annotation, 1 << 3 | 1);
    annotation.extend_from_slice(&u64::from(duration).to_le_bytes());
    put_bytes(&mut annotation, 2, service.as_bytes());
    put_bytes(&mut span, 10, &annotation);
    for (key, value) in tags {
        let mut tag = Vec::new();
        put_bytes(&mut tag, 1, key.as_bytes());
        put_bytes(&mut tag, 2, value.as_bytes());
        put_bytes(&mut span, 11, &tag);
    }
    (json, span)
}

proptest! {
    #[test]
    fn json_and_protobuf_of_a_span_are_the_same(
        ids in (1_u128.., 1_u64.., any::<u64>()), kind in 0_usize..5, times in any::<(u32, u32)>(),
        tags in prop::collection::btree_map("[a-z]{1,4}|error|otel.scope.name", ".{0,9}", 0..6),
        service in "[a-zé\"\\\\]{0,9}",
    ) {
        let tags: Vec<_> = tags.into_iter().collect();
        let (json, span) = written(ids, kind, times, &tags, &service);
        let mut list = Vec::new();
        put_bytes(&mut list, 1, &span);
        let records = told(Encoding::JsonTwo, json.to_string().as_bytes());
        prop_assert_eq!(&records, &told(Encoding::Protobuf, &list));
        let span = &spans(&records[0])[0];
        prop_assert_eq!(&span.trace_id, &ids.0.to_be_bytes());
        prop_assert_eq!(span.parent_span_id.is_empty(), ids.2 == 0 || ids.2 == ids.1);
        let claims = claims(RecordKind::OtlpTraces, &records[0]).unwrap();
        prop_assert_eq!(&*claims.iter().next().unwrap().service, &*service);
    }

    #[test]
    fn any_bytes_end(bytes: Vec<u8>, text in r#"[\[\]{}:,"0-9a-fA-Z]{0,40}"#) {
        for body in [bytes.as_slice(), text.as_bytes()] {
            for encoding in [Encoding::JsonOne, Encoding::JsonTwo, Encoding::Protobuf] {
                let _ = read(encoding, body, received());
            }
        }
    }
}
