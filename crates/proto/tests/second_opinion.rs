//! What the committed Rust writes, read by `protoc` with the definitions beside it. Says `skipped`
//! where there is no protoc.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test")]

use std::io::Write;
use std::process::{Command, Stdio};

use handfast_proto::otlp::collector::trace::v1::ExportTraceServiceRequest;
use handfast_proto::otlp::common::v1::{AnyValue, KeyValue, any_value::Value};
use handfast_proto::otlp::resource::v1::Resource;
use handfast_proto::otlp::trace::v1::{ResourceSpans, ScopeSpans, Span};
use handfast_proto::skywalking::{v3, v10};
use prost::Message;

/// The text that protoc makes of an encoded message; none where it is not installed.
fn read_by_protoc(file: &str, message: &str, encoded: &[u8]) -> Option<String> {
    let proto = concat!(env!("CARGO_MANIFEST_DIR"), "/proto");
    let started = Command::new("protoc")
        .arg(format!("--decode={message}"))
        .arg(format!("-I{proto}"))
        .arg(file)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut protoc) = started else {
        eprintln!("skipped: protoc is not installed");
        return None;
    };
    protoc.stdin.take().unwrap().write_all(encoded).unwrap();
    let output = protoc.wait_with_output().unwrap();
    assert!(output.status.success(), "protoc read no {message} in {encoded:02x?}");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn a_segment_is_read_as_it_was_meant() {
    let segment = v3::SegmentObject {
        trace_id: "trace".into(),
        trace_segment_id: "segment".into(),
        spans: vec![v3::SpanObject {
            parent_span_id: -1,
            span_type: v3::SpanType::Local.into(),
            span_layer: v3::SpanLayer::RpcFramework.into(),
            tags: vec![v3::KeyStringValuePair { key: "status".into(), value: "200".into() }],
            is_error: true,
            ..Default::default()
        }],
        service: "shop".into(),
        service_instance: "shop-1".into(),
        is_size_limited: false,
    };
    let file = "skywalking/v3/tracing.proto";
    let Some(text) = read_by_protoc(file, "skywalking.v3.SegmentObject", &segment.encode_to_vec())
    else {
        return;
    };
    assert_eq!(
        text,
        "trace_id: \"trace\"\ntrace_segment_id: \"segment\"\nspans {\n  parent_span_id: -1\n  \
         span_type: Local\n  span_layer: RPCFramework\n  is_error: true\n  tags {\n    key: \
         \"status\"\n    value: \"200\"\n  }\n}\nservice: \"shop\"\nservice_instance: \"shop-1\"\n"
    );
}

#[test]
fn what_others_write_is_understood() {
    // As bytes that no program of ours made: 4 service, 5 instance, then a field that we do not know.
    let bytes = b"\x22\x04shop\x2a\x06shop-1\xf8\x07\x01";
    let segment = v3::SegmentObject::decode(bytes.as_slice()).unwrap();
    assert_eq!((segment.service.as_str(), segment.service_instance.as_str()), ("shop", "shop-1"));
    let meter = v3::MeterData::decode(b"\x0a\x0d\x0a\x02up\x19\0\0\0\0\0\0\xf8\x3f".as_slice());
    let Some(v3::meter_data::Metric::SingleValue(value)) = meter.unwrap().metric else {
        panic!("is a single value");
    };
    assert_eq!((value.name.as_str(), value.value.to_bits()), ("up", 1.5_f64.to_bits()));
    let part = v10::PprofData::decode(b"\x1a\x03abc".as_slice()).unwrap();
    assert_eq!(part.result, Some(v10::pprof_data::Result::Content(b"abc".as_slice().into())));
}

#[test]
fn a_batch_of_spans_is_read_as_it_was_meant() {
    let service = KeyValue {
        key: "service.name".into(),
        value: Some(AnyValue { value: Some(Value::StringValue("shop".into())) }),
    };
    let span = Span {
        trace_id: vec![1; 16],
        name: "GET".into(),
        start_time_unix_nano: 7,
        flags: 1,
        ..Span::default()
    };
    let batch = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource { attributes: vec![service], ..Resource::default() }),
            scope_spans: vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }],
            ..ResourceSpans::default()
        }],
    };
    let name = "opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest";
    let file = "opentelemetry/proto/collector/trace/v1/trace_service.proto";
    let Some(text) = read_by_protoc(file, name, &batch.encode_to_vec()) else { return };
    for wanted in ["string_value: \"shop\"", "name: \"GET\"", "start_time_unix_nano: 7", "flags: 1"]
    {
        assert!(text.contains(wanted), "{wanted} is not in\n{text}");
    }
}
