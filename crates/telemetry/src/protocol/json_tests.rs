//! Bodies become the messages that they are of.

use handfast_proto::otlp::collector::logs::v1::ExportLogsServiceRequest;
use handfast_proto::otlp::collector::metrics::v1::ExportMetricsServiceRequest;
use handfast_proto::otlp::collector::trace::v1::ExportTraceServiceRequest;
use handfast_proto::otlp::common::v1::any_value::Value as Any;
use handfast_proto::otlp::metrics::v1::{ResourceMetrics, metric, number_data_point};
use handfast_proto::otlp::trace::v1::ResourceSpans;
use handfast_proto::skywalking::v3;
use proptest::prelude::*;
use prost::Message as _;
use serde_json::{Value, json};

use super::schema::{Field, Kind};
use super::*;

fn read(path: &str, body: &Value) -> Result<Vec<Bytes>, BodyError> {
    Endpoint::at(path).unwrap().read(body.to_string().as_bytes())
}

fn refused(path: &str, body: &str) -> String {
    Endpoint::at(path).unwrap().read(body.as_bytes()).unwrap_err().to_string()
}

#[test]
fn segments_as_agents_post_them() {
    // Python: enums by number, everything named.
    let python = json!([{
        "traceId": "t", "traceSegmentId": "s", "service": "shop", "serviceInstance": "shop-1", "isSizeLimited": false,
        "spans": [{
            "spanId": 0, "parentSpanId": -1, "startTime": 1_795_000_000_000_i64, "endTime": 1_795_000_000_009_i64,
            "operationName": "/cart", "peer": "127.0.0.1:4", "spanType": "Entry", "spanLayer": "Http",
            "componentId": 7001, "isError": false, "skipAnalysis": false,
            "tags": [{ "key": "http.method", "value": "GET" }],
            "logs": [{ "time": 7, "data": [{ "key": "event", "value": "error" }] }],
            "refs": [{ "refType": 0, "traceId": "t", "parentTraceSegmentId": "p", "parentSpanId": 1,
                "parentService": "front", "parentServiceInstance": "front-1", "parentEndpoint": "/",
                "networkAddressUsedAtPeer": "127.0.0.1:5" }]
        }]
    }]);
    let record = read("/v3/segments", &python).unwrap().remove(0);
    let segment = v3::SegmentObject::decode(record).unwrap();
    assert_eq!((segment.service.as_str(), segment.service_instance.as_str()), ("shop", "shop-1"));
    let span = &segment.spans[0];
    assert_eq!((span.parent_span_id, span.start_time), (-1, 1_795_000_000_000));
    assert_eq!((span.span_type(), span.span_layer()), (v3::SpanType::Entry, v3::SpanLayer::Http));
    assert_eq!((span.tags[0].value.as_str(), span.logs[0].time), ("GET", 7));
    assert_eq!(span.refs[0].ref_type(), v3::RefType::CrossProcess);
    assert_eq!(span.refs[0].network_address_used_at_peer, "127.0.0.1:5");

    // nginx: one object, enums by name, numbers where it likes, fields that nobody knows.
    let nginx = json!({
        "traceId": "t", "spans": [{ "spanType": 1, "spanLayer": "Later", "refs": [{ "refType": "CrossThread" }],
            "startTime": "1795", "endTime": 1.8e3, "later": { "a": [1, { "b": null }] }, "tags": null }],
    });
    let record = read("/v3/segments", &nginx).unwrap().remove(0);
    assert_eq!(read("/v3/segment", &nginx).unwrap(), std::slice::from_ref(&record));
    let span = v3::SegmentObject::decode(record).unwrap().spans.remove(0);
    assert_eq!((span.span_type(), span.span_layer()), (v3::SpanType::Exit, v3::SpanLayer::Unknown));
    assert_eq!((span.start_time, span.end_time), (1795, 1800));
    assert_eq!(span.refs[0].ref_type(), v3::RefType::CrossThread);
}

#[test]
fn logs_events_and_instances_as_agents_post_them() {
    let logs = json!([
        { "timestamp": "1795000000000", "service": "shop", "serviceInstance": "shop-1",
          "body": { "type": "text", "text": { "text": "é" } },
          "traceContext": { "traceId": "t", "traceSegmentId": "s", "spanId": 2 },
          "tags": { "data": [{ "key": "level", "value": "WARN" }] } },
        { "service_instance": "by its other name" }
    ]);
    let records = read("/v3/logs", &logs).unwrap();
    let log = v3::LogData::decode(records[0].clone()).unwrap();
    assert_eq!((log.timestamp, log.trace_context.unwrap().span_id), (1_795_000_000_000, 2));
    let text = v3::log_data_body::Content::Text(v3::TextLog { text: "é".into() });
    assert_eq!(log.body.unwrap().content, Some(text));
    let log = v3::LogData::decode(records[1].clone()).unwrap();
    assert_eq!(log.service_instance, "by its other name");

    let event = json!([{ "uuid": "u", "source": { "service": "shop" }, "type": "Error", "parameters": { "a": "b", "c": "d" } }]);
    let record = read("/v3/events", &event).unwrap().remove(0);
    let event = v3::Event::decode(record).unwrap();
    assert_eq!((event.r#type(), event.parameters["c"].as_str()), (v3::Type::Error, "d"));
    assert_eq!(event.source.unwrap().service, "shop");

    let ping = json!({ "service": "shop", "serviceInstance": "shop-1", "layer": "GENERAL" });
    let record = read("/v3/management/keepAlive", &ping).unwrap().remove(0);
    assert_eq!(v3::InstancePingPkg::decode(record).unwrap().layer, "GENERAL");
    let error =
        json!([{ "service": "web", "category": "js", "firstReportedError": "true", "line": 3 }]);
    let record = read("/browser/errorLogs", &error).unwrap().remove(0);
    let error = v3::BrowserErrorLog::decode(record).unwrap();
    assert_eq!(
        (error.category(), error.first_reported_error, error.line),
        (v3::ErrorCategory::Js, true, 3)
    );
}

#[test]
fn exports_as_opentelemetry_posts_them() {
    let traces = json!({ "resourceSpans": [
        { "resource": { "attributes": [
            { "key": "service.name", "value": { "stringValue": "shop" } },
            { "key": "n", "value": { "intValue": "-5" } },
            { "key": "list", "value": { "arrayValue": { "values": [{ "boolValue": false }, { "bytesValue": "-_8" }] } } } ] },
          "scopeSpans": [{ "scope": { "name": "lib" }, "spans": [{
            "traceId": "5B8EFFF798038103D269B633813FC60C", "spanId": "eee19b7ec3c1b174", "parentSpanId": "",
            "name": "GET", "kind": 2, "startTimeUnixNano": "1544712660000000000", "endTimeUnixNano": 1_544_712_661_000_000_000_u64,
            "status": { "code": "STATUS_CODE_ERROR" }, "flags": 257 }] }] },
        { "schemaUrl": "second" }
    ] });
    let records = read("/v1/traces", &traces).unwrap();
    assert_eq!(records.len(), 2);
    let spans = ResourceSpans::decode(records[0].clone()).unwrap();
    let attributes = spans.resource.unwrap().attributes;
    let value = |at: usize| attributes[at].value.clone().unwrap().value.unwrap();
    assert_eq!((value(0), value(1)), (Any::StringValue("shop".into()), Any::IntValue(-5)));
    let Any::ArrayValue(list) = value(2) else { panic!("{attributes:?}") };
    assert_eq!(list.values[1].value, Some(Any::BytesValue(vec![0xfb, 0xff])));
    let span = &spans.scope_spans[0].spans[0];
    assert_eq!((span.trace_id.len(), span.trace_id[0], span.span_id[7]), (16, 0x5b, 0x74));
    assert_eq!(
        (span.start_time_unix_nano, span.end_time_unix_nano),
        (1_544_712_660_000_000_000, 1_544_712_661_000_000_000)
    );
    assert_eq!((span.flags, span.status.clone().unwrap().code), (257, 2));

    let metrics = json!({ "resourceMetrics": [{ "scopeMetrics": [{ "metrics": [
        { "name": "up", "gauge": { "dataPoints": [{ "asInt": "-7", "timeUnixNano": "9" }, { "asDouble": "NaN" }] } },
        { "name": "took", "histogram": { "aggregationTemporality": 2, "dataPoints": [
            { "count": "3", "sum": 0, "bucketCounts": ["1", 2], "explicitBounds": [0.5] }] } } ] }] }] });
    let record = read("/v1/metrics", &metrics).unwrap().remove(0);
    let metrics = ResourceMetrics::decode(record).unwrap().scope_metrics.remove(0).metrics;
    let Some(metric::Data::Gauge(gauge)) = &metrics[0].data else { panic!("{metrics:?}") };
    assert_eq!(gauge.data_points[0].value, Some(number_data_point::Value::AsInt(-7)));
    let Some(metric::Data::Histogram(histogram)) = &metrics[1].data else { panic!("{metrics:?}") };
    let point = &histogram.data_points[0];
    assert_eq!(
        (point.count, point.sum, point.bucket_counts.as_slice()),
        (3, Some(0.0), [1, 2].as_slice())
    );
}

#[test]
fn the_fault_names_the_field_and_where_it_lies() {
    for (body, told) in [
        ("", "SegmentObject.(body), byte 0: expected an object"),
        ("[{}] x", "SegmentObject.(body), byte 5: there is more after the end"),
        (
            "{\"spans\":[{\"spanId\":1.5}]}",
            "SpanObject.spanId, byte 23: expected a number of 32 bits",
        ),
        (
            "{\"spans\":[{\"spanId\":4294967296}]}",
            "SpanObject.spanId, byte 30: expected a number of 32 bits",
        ),
        ("{\"spans\":{}}", "SegmentObject.spans, byte 9: expected an array"),
        ("{\"service\":7}", "SegmentObject.service, byte 11: expected a string"),
        (
            "{\"service\":\"a\"",
            "SegmentObject.(body), byte 14: expected a comma or the end of the object",
        ),
    ] {
        assert_eq!(refused("/v3/segments", body), told);
    }
    let deep = "[".repeat(65);
    assert_eq!(
        refused("/v3/segment", &format!("{{\"later\":{deep}")),
        "SegmentObject.(body), byte 73: nests deeper than 64"
    );
    let bytes = Endpoint::at("/v3/segment").unwrap().read(b"{\"service\":\"\xff\"}").unwrap_err();
    assert_eq!(bytes.to_string(), "SegmentObject.(body), byte 12: is not valid UTF-8");
    let id = "{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[{\"traceId\":\"xyz\"}]}]}]}";
    assert_eq!(refused("/v1/traces", id), "Span.traceId, byte 59: expected an id in hexadecimal");
}

#[test]
fn bodies_are_bounded() {
    let many = format!("[{}{{}}]", "{},".repeat(MAX_PARTS));
    assert_eq!(
        Endpoint::at("/v3/logs").unwrap().read(many.as_bytes()),
        Err(BodyError::TooMany(MAX_PARTS))
    );
    let long = vec![b' '; MAX_BODY + 1];
    assert_eq!(Endpoint::at("/v3/logs").unwrap().read(&long), Err(BodyError::TooLong(MAX_BODY)));
}

/// Whether prost finds in a body exactly what was written.
fn prost_agrees(kind: RecordKind, written: &[u8]) -> bool {
    fn agrees<M: prost::Message + Default>(written: &[u8]) -> bool {
        M::decode(written).is_ok_and(|message| message.encode_to_vec() == written)
    }
    match kind {
        RecordKind::Segment => agrees::<v3::SegmentObject>(written),
        RecordKind::Log => agrees::<v3::LogData>(written),
        RecordKind::Event => agrees::<v3::Event>(written),
        RecordKind::InstanceProperties => agrees::<v3::InstanceProperties>(written),
        RecordKind::InstancePing => agrees::<v3::InstancePingPkg>(written),
        RecordKind::BrowserPerf => agrees::<v3::BrowserPerfData>(written),
        RecordKind::BrowserWebVitals => agrees::<v3::BrowserWebVitalsPerfData>(written),
        RecordKind::BrowserResourcePerf => agrees::<v3::BrowserResourcePerfData>(written),
        RecordKind::BrowserWebInteraction => agrees::<v3::BrowserWebInteractionsPerfData>(written),
        RecordKind::BrowserErrorLog => agrees::<v3::BrowserErrorLog>(written),
        RecordKind::OtlpTraces => agrees::<ExportTraceServiceRequest>(written),
        RecordKind::OtlpMetrics => agrees::<ExportMetricsServiceRequest>(written),
        RecordKind::OtlpLogs => agrees::<ExportLogsServiceRequest>(written),
        other => panic!("{other} is not posted"),
    }
}

/// A body for each way from a message down to a field, with nothing but that.
fn bodies(message: &Message, depth: usize) -> Vec<(String, Value)> {
    let leaf = |field: &Field| match field.kind {
        Kind::Text => json!("a"),
        Kind::Bytes => json!("AQ=="),
        Kind::Id => json!("01"),
        Kind::Flag => json!(true),
        Kind::TextMap => json!({ "a": "b" }),
        Kind::Double => json!(1.5),
        _ => json!(1),
    };
    let mut all = Vec::new();
    for field in message.fields {
        let inner = match field.kind {
            Kind::Message(_) if depth == 0 => continue,
            Kind::Message(inner) => bodies(inner, depth - 1),
            _ => vec![(String::new(), leaf(field))],
        };
        for (path, value) in inner {
            let value = if field.repeated { json!([value]) } else { value };
            all.push((
                format!("{}.{}{path}", message.name, field.name),
                json!({ field.name: value }),
            ));
        }
    }
    all
}

#[test]
fn every_field_has_the_number_and_the_type_that_prost_knows() {
    let mut count = 0;
    for endpoint in Endpoint::all() {
        for (path, body) in bodies(endpoint.message, 8) {
            let text = body.to_string();
            let mut written = Vec::new();
            let read = message::write(&mut Reader::of(&text), endpoint.message, &mut written);
            read.unwrap_or_else(|fail| panic!("{path}: {fail:?}"));
            // Packed or not is the writer's choice.
            let is_packed = path.ends_with("bucketCounts") || path.ends_with("explicitBounds");
            assert!(
                is_packed || prost_agrees(endpoint.kind, &written),
                "{path}: {text} {written:02x?}"
            );
            count += 1;
        }
    }
    assert!(count > 500, "{count} fields");
}

proptest! {
    #[test]
    fn a_segment_is_what_was_posted(
        trace_id: String,
        service: String,
        numbers: (i32, i64, i64),
        tags in prop::collection::vec((any::<String>(), any::<String>()), 0..4),
        as_text: bool,
    ) {
        let number = |number: i64| if as_text { json!(number.to_string()) } else { json!(number) };
        let json_tags: Vec<_> = tags.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
        let body = json!({ "traceId": trace_id, "service": service, "spans": [{
            "spanId": number(numbers.0.into()), "startTime": number(numbers.1), "endTime": number(numbers.2), "tags": json_tags }] });
        let record = read("/v3/segment", &body).unwrap().remove(0);
        let tags = tags.into_iter().map(|(key, value)| v3::KeyStringValuePair { key, value }).collect();
        let span = v3::SpanObject { span_id: numbers.0, start_time: numbers.1, end_time: numbers.2, tags, ..Default::default() };
        let wanted = v3::SegmentObject { trace_id, service, spans: vec![span], ..Default::default() };
        prop_assert_eq!(v3::SegmentObject::decode(record).unwrap(), wanted);
    }

    #[test]
    fn whatever_is_posted_ends(body in r#"[\[\]{}:,"0-9eE+\-.a-ntu\\ ]{0,40}|\PC{0,40}"#, bytes: Vec<u8>) {
        for endpoint in Endpoint::all() {
            let _ = endpoint.read(body.as_bytes());
            let _ = endpoint.read(&bytes);
        }
    }
}
