//! Views hold what prost wrote, and no more than they may.

use handfast_proto::otlp::common::v1::{
    AnyValue, InstrumentationScope, KeyValue, any_value::Value,
};
use handfast_proto::otlp::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use handfast_proto::otlp::resource::v1::Resource;
use handfast_proto::otlp::trace::v1::{
    ResourceSpans, ScopeSpans, Span, Status,
    span::{Event, Link},
};
use handfast_proto::skywalking::v3;
use proptest::prelude::*;
use prost::Message;

use super::*;

pub(super) fn tag(key: &str, value: &str) -> Tag {
    Tag { key: key.to_owned(), value: value.to_owned() }
}

fn sky_tag((key, value): (String, String)) -> v3::KeyStringValuePair {
    v3::KeyStringValuePair { key, value }
}

pub(super) fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }) }
}

pub(super) fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

pub(super) fn shop() -> Resource {
    let attributes = vec![text("service.name", "shop"), text("service.instance.id", "shop-1")];
    Resource { attributes, ..Resource::default() }
}

prop_compose! {
    fn spans()(
        ids in (0..20_i32, -1..20_i32),
        times in (0..1_000_000_i64, 0..1_000_000_i64),
        words in ("[a-z/]{0,12}", "[a-z.:]{0,12}"),
        kinds in (0..3_i32, 0..7_i32, 0..9000_i32),
        is_error: bool,
        tags in prop::collection::vec(("[a-z.]{1,9}", "\\PC{0,9}"), 0..5),
        log in prop::option::of((0..99_i64, "[a-z]{1,9}")),
        parent in prop::option::of("[a-z]{1,9}"),
    ) -> v3::SpanObject {
        v3::SpanObject {
            span_id: ids.0,
            parent_span_id: ids.1,
            start_time: times.0,
            end_time: times.1,
            operation_name: words.0,
            peer: words.1,
            span_type: kinds.0,
            span_layer: kinds.1,
            component_id: kinds.2,
            is_error,
            tags: tags.into_iter().map(sky_tag).collect(),
            logs: log
                .into_iter()
                .map(|(time, event)| v3::Log { time, data: vec![sky_tag(("event".into(), event))] })
                .collect(),
            refs: parent
                .into_iter()
                .map(|parent| v3::SegmentReference {
                    parent_trace_segment_id: parent.clone(),
                    parent_service: parent,
                    parent_span_id: ids.0,
                    ..Default::default()
                })
                .collect(),
            skip_analysis: false,
        }
    }
}

prop_compose! {
    fn segments()(
        names in ("[a-z0-9.]{1,20}", "[a-z0-9.]{1,20}", "\\PC{1,20}", "\\PC{0,20}"),
        spans in prop::collection::vec(spans(), 0..8),
    ) -> v3::SegmentObject {
        v3::SegmentObject {
            trace_id: names.0,
            trace_segment_id: names.1,
            service: names.2,
            service_instance: names.3,
            spans,
            is_size_limited: false,
        }
    }
}

/// Who stands for a segment, told another way than the code does.
fn endpoint_of(segment: &v3::SegmentObject) -> &str {
    let entry = |span: &&v3::SpanObject| span.span_type == v3::SpanType::Entry as i32;
    let outer = |span: &&v3::SpanObject| span.parent_span_id < 0;
    let mut spans = segment.spans.iter();
    let found = spans
        .clone()
        .find(|span| entry(span) && outer(span))
        .or_else(|| spans.clone().find(entry))
        .or_else(|| spans.clone().find(outer))
        .or_else(|| spans.next());
    found.map_or("", |span| &span.operation_name)
}

proptest! {
    #[test]
    fn a_segment_is_seen_as_it_was_written(segment in segments()) {
        let body = segment.encode_to_vec();
        let view = SegmentView::of(RecordKind::Segment, &body).unwrap().remove(0);
        prop_assert_eq!(&view.trace_id, &segment.trace_id);
        prop_assert_eq!(&view.segment_id, &segment.trace_segment_id);
        prop_assert_eq!(&view.service, &segment.service);
        prop_assert_eq!(&view.instance, &segment.service_instance);
        prop_assert_eq!(&view.endpoint, endpoint_of(&segment));
        prop_assert_eq!(view.spans.len(), segment.spans.len());
        prop_assert_eq!(view.left_out, 0);
        let started = segment.spans.iter().map(|span| span.start_time).min().unwrap_or_default();
        let ended = segment.spans.iter().map(|span| span.end_time).max().unwrap_or_default();
        prop_assert_eq!((view.start_ms, view.end_ms), (started, ended));
        for (seen, written) in view.spans.iter().zip(&segment.spans) {
            prop_assert_eq!(&seen.id, &written.span_id.to_string());
            let parent = (written.parent_span_id >= 0).then(|| written.parent_span_id.to_string());
            prop_assert_eq!(&seen.parent, &parent);
            prop_assert_eq!(&seen.operation, &written.operation_name);
            prop_assert_eq!(&seen.peer, &written.peer);
            prop_assert_eq!(seen.kind.as_str(), written.span_type().as_str_name());
            prop_assert_eq!(seen.layer.as_str(), written.span_layer().as_str_name());
            prop_assert_eq!(seen.is_error, written.is_error);
            prop_assert_eq!((seen.start_ms, seen.end_ms), (written.start_time, written.end_time));
            let tags: Vec<_> = written.tags.iter().map(|pair| tag(&pair.key, &pair.value)).collect();
            prop_assert_eq!(&seen.tags, &tags);
            for (seen, written) in seen.logs.iter().zip(&written.logs) {
                prop_assert_eq!(seen.time_ms, written.time);
                prop_assert_eq!(&seen.fields[0].value, &written.data[0].value);
            }
            prop_assert_eq!(seen.logs.len(), written.logs.len());
            for (seen, written) in seen.refs.iter().zip(&written.refs) {
                prop_assert_eq!(&seen.segment_id, &written.parent_trace_segment_id);
                prop_assert_eq!(&seen.span_id, &written.parent_span_id.to_string());
            }
            prop_assert_eq!(seen.refs.len(), written.refs.len());
        }
    }

    #[test]
    fn facts_are_what_the_view_holds(segment in segments()) {
        let body = segment.encode_to_vec();
        let view = SegmentView::of(RecordKind::Segment, &body).unwrap().remove(0);
        let facts = SegmentFacts::of_segment(&body).unwrap();
        same_facts(&facts, &view)?;
    }

    #[test]
    fn arbitrary_bytes_end(bytes: Vec<u8>) {
        for kind in RecordKind::ALL {
            let _ = SegmentFacts::of(kind, &bytes);
            let _ = SegmentView::of(kind, &bytes);
            let _ = LogView::of(kind, &bytes);
            let _ = MeterView::of(kind, &bytes);
            let _ = InstanceView::of(kind, &bytes);
        }
        let _ = (EventView::of(&bytes), JvmView::of(&bytes), ClrView::of(&bytes));
    }

    #[test]
    fn a_mangled_segment_is_no_panic(segment in segments(), at: prop::sample::Index, byte: u8) {
        let mut body = segment.encode_to_vec();
        let at = at.index(body.len());
        body[at] = byte;
        if let (Ok(facts), Ok(view)) =
            (SegmentFacts::of_segment(&body), SegmentView::of(RecordKind::Segment, &body))
        {
            same_facts(&facts, &view[0])?;
        }
    }
}

fn same_facts(facts: &SegmentFacts<'_>, view: &SegmentView) -> Result<(), TestCaseError> {
    prop_assert_eq!(&facts.trace_id, &view.trace_id);
    prop_assert_eq!(&facts.segment_id, &view.segment_id);
    prop_assert_eq!(&facts.service, &view.service);
    prop_assert_eq!(facts.instance, &view.instance);
    prop_assert_eq!(facts.endpoint, &view.endpoint);
    prop_assert_eq!(facts.layer, view.layer);
    prop_assert_eq!((facts.start_ms, facts.end_ms), (view.start_ms, view.end_ms));
    prop_assert_eq!(facts.is_error, view.is_error);
    prop_assert_eq!(facts.spans, view.spans.len());
    let tags: Vec<_> = facts
        .tags
        .iter()
        .map(|(key, value)| tag(key, value))
        .take(SegmentFacts::MAX_TAGS)
        .collect();
    let seen: Vec<_> = view.tags().take(SegmentFacts::MAX_TAGS).cloned().collect();
    prop_assert_eq!(tags, seen);
    Ok(())
}

#[test]
fn absurd_numbers_of_tags_are_bounded() {
    let tags = vec![v3::KeyStringValuePair::default(); MAX_ITEMS + 100];
    let spans = vec![v3::SpanObject { tags, ..Default::default() }];
    let body = v3::SegmentObject { spans, ..Default::default() }.encode_to_vec();
    let view = SegmentView::of(RecordKind::Segment, &body).unwrap().remove(0);
    // The span itself is one of them.
    assert_eq!((view.spans[0].tags.len(), view.left_out), (MAX_ITEMS - 1, 101));
    assert_eq!(SegmentFacts::of_segment(&body).unwrap().tags.len(), SegmentFacts::MAX_TAGS);
}

#[test]
fn the_fault_names_the_field() {
    // A span whose operation is no text.
    let told =
        SegmentView::of(RecordKind::Segment, b"\x1a\x03\x32\x01\xff").unwrap_err().to_string();
    assert_eq!(told, "SpanObject.operationName is not valid UTF-8");
    let told = LogView::of(RecordKind::Log, b"\x0a\x00").unwrap_err().to_string();
    assert_eq!(told, "LogData.timestamp is encoded as another type");
}

fn otlp_span(trace: u8, id: u8, parent: u8, name: &str, kind: i32) -> Span {
    Span {
        trace_id: vec![trace; 16],
        span_id: vec![id; 8],
        parent_span_id: if parent == 0 { Vec::new() } else { vec![parent; 8] },
        name: name.to_owned(),
        kind,
        start_time_unix_nano: 5_000_000 + u64::from(id) * 1_000_000,
        end_time_unix_nano: 50_000_500,
        ..Span::default()
    }
}

#[test]
fn the_spans_of_a_resource_are_a_segment_for_each_trace() {
    let server = Span {
        attributes: vec![
            text("http.request.method", "GET"),
            attribute("http.response.status_code", Value::IntValue(500)),
        ],
        status: Some(Status { code: 2, message: String::new() }),
        events: vec![Event {
            name: "exception".into(),
            time_unix_nano: 9_000_000,
            ..Default::default()
        }],
        links: vec![Link { trace_id: vec![9; 16], span_id: vec![8; 8], ..Default::default() }],
        ..otlp_span(1, 2, 7, "GET /cart", 2)
    };
    let client = Span {
        attributes: vec![
            text("db.system", "postgresql"),
            text("server.address", "db"),
            attribute("server.port", Value::IntValue(5432)),
        ],
        ..otlp_span(1, 3, 2, "SELECT", 3)
    };
    let scope = InstrumentationScope { name: "flask".into(), ..Default::default() };
    let body = ResourceSpans {
        resource: Some(shop()),
        scope_spans: vec![
            ScopeSpans { scope: Some(scope), spans: vec![server], schema_url: String::new() },
            ScopeSpans { spans: vec![client, otlp_span(4, 5, 0, "job", 1)], ..Default::default() },
        ],
        schema_url: String::new(),
    }
    .encode_to_vec();
    let views = SegmentView::of(RecordKind::OtlpTraces, &body).unwrap();
    let [first, second] = views.as_slice() else { panic!("{views:?}") };
    assert_eq!(
        (first.trace_id.as_str(), first.segment_id.as_str()),
        ("01".repeat(16).as_str(), "02".repeat(8).as_str())
    );
    assert_eq!((first.service.as_str(), first.instance.as_str()), ("shop", "shop-1"));
    assert_eq!(
        (first.endpoint.as_str(), first.layer, first.component.as_str()),
        ("GET /cart", Layer::Http, "flask")
    );
    assert_eq!((first.start_ms, first.end_ms, first.is_error), (7, 50, true));
    let [served, asked] = first.spans.as_slice() else { panic!("{first:?}") };
    assert_eq!((served.kind, served.parent.clone()), (SpanKind::Entry, Some("07".repeat(8))));
    assert_eq!(served.tags[1], tag("http.response.status_code", "500"));
    assert_eq!(served.logs, [SpanLog { time_ms: 9, fields: vec![tag("event", "exception")] }]);
    assert_eq!(
        (served.refs[0].trace_id.clone(), served.refs[0].span_id.clone()),
        ("09".repeat(16), "08".repeat(8))
    );
    assert_eq!(
        (asked.kind, asked.layer, asked.peer.as_str()),
        (SpanKind::Exit, Layer::Database, "db:5432")
    );
    assert_eq!(asked.duration_us, 42_000);
    assert_eq!((second.endpoint.as_str(), second.spans[0].parent.clone()), ("job", None));

    let facts = SegmentFacts::of(RecordKind::OtlpTraces, &body).unwrap();
    assert_eq!(facts.len(), 2);
    for (facts, view) in facts.iter().zip(&views) {
        same_facts(facts, view).unwrap();
    }
    assert_eq!(facts.iter().map(|facts| facts.is_root).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn a_line_of_log_is_seen_as_it_was_written() {
    let content = v3::log_data_body::Content::Json(v3::JsonLog { json: "{}".into() });
    let body = v3::LogData {
        timestamp: 7,
        service: "shop".into(),
        service_instance: "shop-1".into(),
        endpoint: "/cart".into(),
        body: Some(v3::LogDataBody { r#type: "json".into(), content: Some(content) }),
        trace_context: Some(v3::TraceContext {
            trace_id: "t".into(),
            trace_segment_id: "s".into(),
            span_id: 0,
        }),
        tags: Some(v3::LogTags { data: vec![sky_tag(("level".into(), "WARN".into()))] }),
        layer: "GENERAL".into(),
    }
    .encode_to_vec();
    let view = LogView::of(RecordKind::Log, &body).unwrap().remove(0);
    let wanted = LogView {
        time_ms: 7,
        service: "shop".into(),
        instance: "shop-1".into(),
        endpoint: "/cart".into(),
        trace_id: "t".into(),
        segment_id: "s".into(),
        span_id: "0".into(),
        level: "WARN".into(),
        layer: "GENERAL".into(),
        format: Format::Json,
        content: "{}".into(),
        tags: vec![tag("level", "WARN")],
    };
    assert_eq!(view, wanted);
}

#[test]
fn log_records_are_seen_as_they_were_written() {
    let record = |severity_number, body| LogRecord {
        observed_time_unix_nano: 8_000_000,
        severity_number,
        body: Some(AnyValue { value: Some(body) }),
        trace_id: vec![1; 16],
        ..LogRecord::default()
    };
    let log_records =
        vec![record(17, Value::StringValue("lost".into())), record(1, Value::BoolValue(true))];
    let body = ResourceLogs {
        resource: Some(shop()),
        scope_logs: vec![ScopeLogs { log_records, ..ScopeLogs::default() }],
        schema_url: String::new(),
    }
    .encode_to_vec();
    let views = LogView::of(RecordKind::OtlpLogs, &body).unwrap();
    let told: Vec<_> = views
        .iter()
        .map(|view| {
            (view.service.as_str(), view.time_ms, view.level.as_str(), view.content.as_str())
        })
        .collect();
    assert_eq!(told, [("shop", 8, "ERROR", "lost"), ("shop", 8, "TRACE", "true")]);
    assert_eq!(views[0].trace_id, "01".repeat(16));
}

#[test]
fn events_and_instances_are_seen_as_they_were_written() {
    let source = v3::Source {
        service: "shop".into(),
        service_instance: "shop-1".into(),
        endpoint: String::new(),
    };
    let event = v3::Event {
        uuid: "u".into(),
        source: Some(source),
        name: "Start".into(),
        r#type: v3::Type::Error.into(),
        message: "out of memory".into(),
        parameters: [("opts".to_owned(), "-Xmx1g".to_owned())].into(),
        start_time: 7,
        end_time: 8,
        layer: "GENERAL".into(),
    };
    let view = EventView::of(&event.encode_to_vec()).unwrap();
    assert_eq!((view.service.as_str(), view.name.as_str(), view.is_error), ("shop", "Start", true));
    assert_eq!((view.parameters, view.start_ms, view.end_ms), (vec![tag("opts", "-Xmx1g")], 7, 8));

    let properties = vec![sky_tag(("language".into(), "python".into()))];
    let body = v3::InstanceProperties {
        service: "shop".into(),
        service_instance: "shop-1".into(),
        properties,
        layer: "GENERAL".into(),
    };
    let view =
        InstanceView::of(RecordKind::InstanceProperties, &body.encode_to_vec()).unwrap().unwrap();
    assert_eq!((view.instance.as_str(), view.layer.as_str()), ("shop-1", "GENERAL"));
    assert_eq!(view.properties, [tag("language", "python")]);
    let body = v3::InstancePingPkg {
        service: "shop".into(),
        service_instance: "shop-1".into(),
        layer: "MESH".into(),
    };
    let view = InstanceView::of(RecordKind::InstancePing, &body.encode_to_vec()).unwrap().unwrap();
    assert_eq!((view.layer.as_str(), view.properties.len()), ("MESH", 0));
    let body = ResourceLogs { resource: Some(shop()), ..ResourceLogs::default() };
    let view = InstanceView::of(RecordKind::OtlpLogs, &body.encode_to_vec()).unwrap().unwrap();
    assert_eq!((view.service.as_str(), view.properties.len()), ("shop", 2));
    assert_eq!(InstanceView::of(RecordKind::Segment, b""), Ok(None));
}
