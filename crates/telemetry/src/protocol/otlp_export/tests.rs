//! Nothing is lost on the way into other words, and what belonged together still does.

use std::collections::{BTreeMap, BTreeSet};

use handfast_proto::otlp::common::v1::any_value::Value;
use handfast_proto::otlp::common::v1::{AnyValue, KeyValue};
use handfast_proto::otlp::logs::v1::ResourceLogs;
use handfast_proto::otlp::metrics::v1::metric::Data;
use handfast_proto::otlp::metrics::v1::{ResourceMetrics, number_data_point};
use handfast_proto::otlp::resource::v1::Resource;
use handfast_proto::otlp::trace::v1::{ResourceSpans, Span};
use handfast_proto::skywalking::v3::log_data_body::Content;
use handfast_proto::skywalking::v3::span_attached_event::SpanReference;
use handfast_proto::skywalking::v3::{
    ClrGc, ClrMetric, ClrMetricCollection, ClrThread, Cpu, Event, Instant, JvmMetric,
    JvmMetricCollection, KeyIntValuePair, KeyStringValuePair, Log, LogData, LogDataBody, LogTags,
    Memory, MeterBucketValue, MeterData, MeterHistogram, SegmentObject, SegmentReference, Source,
    SpanAttachedEvent, SpanObject, TextLog, TraceContext, meter_data,
};
use proptest::prelude::*;

use super::*;

fn record(kind: RecordKind, body: Vec<u8>) -> Record {
    let received = "2026-11-25T12:00:00Z".parse().expect("a time");
    Record { body: body.into(), kind, received, reporter: Bytes::new() }
}

fn told(kind: RecordKind, body: Vec<u8>) -> Exported {
    export(&record(kind, body)).expect("readable").expect("has a counterpart")
}

fn spans_of(segment: &SegmentObject) -> (Resource, Vec<Span>) {
    let told = told(RecordKind::Segment, segment.encode_to_vec());
    assert_eq!(told.kind, RecordKind::OtlpTraces);
    let told = ResourceSpans::decode(told.body).expect("a message");
    let spans = told.scope_spans.into_iter().flat_map(|scope| scope.spans).collect();
    (told.resource.expect("a resource"), spans)
}

fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let mut found = attributes.iter().filter(|pair| pair.key == key);
    let AnyValue { value } = found.next()?.value.clone()?;
    assert!(found.next().is_none(), "{key} is there once");
    Some(match value? {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    })
}

fn pair(key: &str, value: &str) -> KeyStringValuePair {
    KeyStringValuePair { key: key.to_owned(), value: value.to_owned() }
}

/// A segment of some spans; of each its parent, kind, layer and tags are anything.
fn segments() -> impl Strategy<Value = SegmentObject> {
    let span = (any::<prop::sample::Index>(), 0..3_i32, 0..7_i32, any::<bool>(), "[a-c.]{0,3}");
    (prop::collection::vec(span, 0..30), "[0-9a-f]{32}|[0-9a-z.]{1,50}", "[0-9a-z.]{1,50}")
        .prop_map(|(spans, trace_id, trace_segment_id)| {
            let spans = spans.into_iter().enumerate().map(|(at, span)| {
                let (parent, kind, layer, bad, tag) = span;
                let number = |at: usize| i32::try_from(at).expect("few");
                SpanObject {
                    span_id: number(at),
                    parent_span_id: number(parent.index(at + 1)) - 1,
                    start_time: 1_795_000_000_000 + i64::from(number(at)),
                    end_time: 1_795_000_000_099,
                    operation_name: format!("op {at}"),
                    span_type: kind,
                    span_layer: layer,
                    is_error: bad,
                    tags: vec![pair(&tag, "1"), pair("http.method", "GET")],
                    ..SpanObject::default()
                }
            });
            SegmentObject {
                trace_id,
                trace_segment_id,
                spans: spans.collect(),
                service: "shop".to_owned(),
                service_instance: "shop-1".to_owned(),
                ..SegmentObject::default()
            }
        })
}

proptest! {
    #[test]
    fn every_span_is_told_once_and_its_parent_is_there(segment in segments()) {
        let (_, spans) = spans_of(&segment);
        prop_assert_eq!(spans.len(), segment.spans.len());
        let ids: BTreeSet<_> = spans.iter().map(|span| span.span_id.clone()).collect();
        prop_assert_eq!(ids.len(), spans.len(), "each has an id of its own");
        for (span, ours) in spans.iter().zip(&segment.spans) {
            prop_assert_eq!(&span.name, &ours.operation_name);
            prop_assert_eq!(span.span_id.len(), 8);
            prop_assert_eq!(&span.trace_id, &spans[0].trace_id);
            prop_assert_eq!(span.trace_id.len(), 16);
            prop_assert_eq!(span.parent_span_id.is_empty(), ours.parent_span_id < 0);
            if let Ok(parent) = usize::try_from(ours.parent_span_id) {
                prop_assert_eq!(&span.parent_span_id, &spans[parent].span_id);
            }
            prop_assert_eq!(span.start_time_unix_nano, ours.start_time.cast_unsigned() * 1_000_000);
            prop_assert_eq!(text(&span.attributes, "sw8.trace_id").unwrap(), segment.trace_id.clone());
            prop_assert_eq!(text(&span.attributes, "http.request.method").unwrap(), "GET");
            prop_assert_eq!(span.status.as_ref().unwrap().code == 2, ours.is_error);
            let names: BTreeSet<_> = span.attributes.iter().map(|pair| &pair.key).collect();
            prop_assert_eq!(names.len(), span.attributes.len(), "no name is there twice");
        }
        // Told again, it is the same: what comes twice can be recognised.
        prop_assert_eq!(spans_of(&segment).1, spans);
    }

    #[test]
    fn a_segment_is_read_back_as_it_was(segment in segments()) {
        let told = told(RecordKind::Segment, segment.encode_to_vec());
        let back = SegmentView::of(told.kind, &told.body).expect("readable");
        let Some(back) = back.first() else {
            prop_assert!(segment.spans.is_empty());
            return Ok(());
        };
        let before = SegmentView::of(RecordKind::Segment, &segment.encode_to_vec()).unwrap();
        let before = &before[0];
        prop_assert_eq!(&back.service, &before.service);
        prop_assert_eq!(&back.instance, &before.instance);
        prop_assert_eq!((back.start_ms, back.end_ms), (before.start_ms, before.end_ms));
        prop_assert_eq!(back.is_error, before.is_error);
        prop_assert_eq!(&back.endpoint, &before.endpoint);
        for (back, before) in back.spans.iter().zip(&before.spans) {
            prop_assert_eq!(back.kind, before.kind);
            prop_assert_eq!(back.duration_us, before.duration_us);
        }
    }

    #[test]
    fn arbitrary_bytes_of_any_kind_are_told_or_refused(
        body in prop::collection::vec(any::<u8>(), 0..300),
        kind in prop::sample::select(RecordKind::ALL.to_vec()),
    ) {
        if let Ok(Some(told)) = export(&record(kind, body)) {
            prop_assert!(told.kind.is_otlp());
        }
    }

    #[test]
    fn buckets_have_one_bound_less_than_counts_and_none_is_lost(
        buckets in prop::collection::vec((any::<f64>(), 0_i64..1000, any::<bool>()), 0..20),
    ) {
        let total: i64 =
            buckets.iter().filter(|(at, _, low)| *low || !at.is_nan()).map(|(_, count, _)| count).sum();
        let values = buckets.into_iter().map(|(bucket, count, is_negative_infinity)| {
            MeterBucketValue { bucket, count, is_negative_infinity }
        });
        let histogram =
            MeterHistogram { name: "h".to_owned(), values: values.collect(), ..Default::default() };
        let meter = MeterData {
            metric: Some(meter_data::Metric::Histogram(histogram)),
            service: "shop".to_owned(),
            ..Default::default()
        };
        let metric = metrics_of(RecordKind::Meter, meter.encode_to_vec()).remove(0);
        let Some(Data::Histogram(histogram)) = metric.data else { panic!("a histogram") };
        let point = &histogram.data_points[0];
        prop_assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
        prop_assert!(point.explicit_bounds.windows(2).all(|two| two[0] < two[1]));
        prop_assert_eq!(point.count, total.cast_unsigned());
        prop_assert_eq!(point.bucket_counts.iter().sum::<u64>(), total.cast_unsigned());
    }
}

fn metrics_of(kind: RecordKind, body: Vec<u8>) -> Vec<handfast_proto::otlp::metrics::v1::Metric> {
    let told = told(kind, body);
    assert_eq!(told.kind, RecordKind::OtlpMetrics);
    let told = ResourceMetrics::decode(told.body).expect("a message");
    told.scope_metrics.into_iter().flat_map(|scope| scope.metrics).collect()
}

/// What a shop asks of a bank: an entry with an exit below it, and the bank's entry.
fn two_segments() -> [SegmentObject; 2] {
    let trace_id = "56a5e1c519ae4c76a2b8b11d92cead7f.12.16563474296430001";
    let span = |span_id, parent_span_id, span_type| SpanObject {
        span_id,
        parent_span_id,
        span_type,
        ..SpanObject::default()
    };
    let segment = |id: &str, service: &str, spans| SegmentObject {
        trace_id: trace_id.to_owned(),
        trace_segment_id: id.to_owned(),
        service: service.to_owned(),
        spans,
        ..SegmentObject::default()
    };
    let exit = SpanObject { peer: "bank.example:443".to_owned(), ..span(1, 0, 1) };
    let reference = |trace_id: &str, segment: &str| SegmentReference {
        trace_id: trace_id.to_owned(),
        parent_trace_segment_id: segment.to_owned(),
        parent_span_id: 1,
        parent_service: "shop".to_owned(),
        network_address_used_at_peer: "bank.example:443".to_owned(),
        ..SegmentReference::default()
    };
    let refs = vec![reference(trace_id, "segment-of-shop"), reference("another", "elsewhere")];
    let thrown = Log {
        time: 1_795_000_000_001,
        data: vec![
            pair("event", "error"),
            pair("error.kind", "java.io.IOException"),
            pair("message", "broken pipe"),
            pair("stack", "at Bank.pay"),
        ],
    };
    let entry = SpanObject {
        refs,
        peer: "10.0.0.7:50000".to_owned(),
        logs: vec![thrown],
        tags: vec![
            pair("url", "http://bank/pay"),
            pair("status_code", "500"),
            pair("db.type", "a"),
        ],
        component_id: 49,
        span_layer: 3,
        ..span(0, -1, 0)
    };
    [
        segment("segment-of-shop", "shop", vec![span(0, -1, 0), exit]),
        segment("segment-of-bank", "bank", vec![entry]),
    ]
}

#[test]
fn a_reference_makes_the_callers_span_the_parent_and_a_foreign_one_a_link() {
    let [shop, bank] = two_segments();
    let (resource, of_shop) = spans_of(&shop);
    let (_, of_bank) = spans_of(&bank);
    assert_eq!(text(&resource.attributes, "service.name").as_deref(), Some("shop"));
    assert_eq!(text(&resource.attributes, "service.layer").as_deref(), Some("GENERAL"));
    assert_eq!(of_bank[0].trace_id, of_shop[0].trace_id);
    assert_eq!(of_bank[0].parent_span_id, of_shop[1].span_id);
    assert_eq!(of_bank[0].links.len(), 1);
    assert_ne!(of_bank[0].links[0].trace_id, of_bank[0].trace_id);
    let attribute = |span: &Span, key| text(&span.attributes, key).unwrap_or_default();
    assert_eq!(attribute(&of_shop[1], "server.address"), "bank.example");
    assert_eq!(attribute(&of_shop[1], "server.port"), "443");
    assert_eq!((of_shop[0].kind, of_shop[1].kind), (2, 3));
    for (key, value) in [
        ("parent.service", "shop"),
        ("sw8.parent_segment_id", "segment-of-shop"),
        ("network.AddressUsedAtPeer", "bank.example:443"),
        ("network.peer.address", "10.0.0.7"),
        ("url.full", "http://bank/pay"),
        ("http.response.status_code", "500"),
        ("db.system.name", "a"),
        ("sw8.component_id", "49"),
        ("sw8.span_layer", "Http"),
    ] {
        assert_eq!(attribute(&of_bank[0], key), value, "{key}");
    }
    let thrown = &of_bank[0].events[0];
    assert_eq!(thrown.name, "exception");
    assert_eq!(text(&thrown.attributes, "exception.type").as_deref(), Some("java.io.IOException"));
    assert_eq!(text(&thrown.attributes, "exception.stacktrace").as_deref(), Some("at Bank.pay"));
    assert_eq!(text(&thrown.attributes, "event").as_deref(), Some("error"));
}

#[test]
fn a_log_is_tied_to_the_span_it_was_written_in() {
    let [shop, _] = two_segments();
    let (_, spans) = spans_of(&shop);
    let log = LogData {
        timestamp: 1_795_000_000_000,
        service: "shop".to_owned(),
        body: Some(LogDataBody {
            content: Some(Content::Text(TextLog { text: "sold out".to_owned() })),
            ..Default::default()
        }),
        trace_context: Some(TraceContext {
            trace_id: shop.trace_id.clone(),
            trace_segment_id: shop.trace_segment_id.clone(),
            span_id: 1,
        }),
        tags: Some(LogTags { data: vec![pair("level", "WARN")] }),
        layer: "MESH".to_owned(),
        ..LogData::default()
    };
    let told = told(RecordKind::Log, log.encode_to_vec());
    assert_eq!(told.kind, RecordKind::OtlpLogs);
    let told = ResourceLogs::decode(told.body).expect("a message");
    let resource = told.resource.expect("a resource");
    assert_eq!(text(&resource.attributes, "service.layer").as_deref(), Some("MESH"));
    let record = &told.scope_logs[0].log_records[0];
    assert_eq!(record.trace_id, spans[1].trace_id);
    assert_eq!(record.span_id, spans[1].span_id);
    assert_eq!((record.severity_number, record.severity_text.as_str()), (13, "WARN"));
    let body = record.body.clone().and_then(|body| body.value);
    assert_eq!(body, Some(Value::StringValue("sold out".to_owned())));
    assert_eq!(record.time_unix_nano, 1_795_000_000_000_000_000);
}

#[test]
fn an_event_is_a_log_record_with_a_name() {
    let event = Event {
        uuid: "u-1".to_owned(),
        source: Some(Source { service: "shop".to_owned(), ..Source::default() }),
        name: "Shutdown".to_owned(),
        r#type: 1,
        message: "out of memory".to_owned(),
        parameters: [("OPTS".to_owned(), "-Xmx".to_owned())].into_iter().collect(),
        ..Event::default()
    };
    let told = told(RecordKind::Event, event.encode_to_vec());
    let told = ResourceLogs::decode(told.body).expect("a message");
    let record = &told.scope_logs[0].log_records[0];
    assert_eq!((record.event_name.as_str(), record.severity_text.as_str()), ("Shutdown", "ERROR"));
    assert_eq!(text(&record.attributes, "OPTS").as_deref(), Some("-Xmx"));
    assert_eq!(text(&record.attributes, "sw8.event.uuid").as_deref(), Some("u-1"));
}

#[test]
fn the_state_of_a_jvm_is_told_by_the_names_of_the_conventions() {
    let memory = |is_heap, used| Memory { is_heap, used, max: -1, ..Memory::default() };
    let sample = |time, used| JvmMetric {
        time,
        memory: vec![memory(true, used), memory(false, 7)],
        ..JvmMetric::default()
    };
    let state = JvmMetricCollection {
        metrics: vec![sample(1000, 5), sample(2000, 6)],
        service: "shop".to_owned(),
        ..Default::default()
    };
    let metrics: BTreeMap<String, Data> = metrics_of(RecordKind::JvmMetrics, state.encode_to_vec())
        .into_iter()
        .map(|metric| (metric.name, metric.data.expect("points")))
        .collect();
    let Some(Data::Sum(used)) = metrics.get("jvm.memory.used") else { panic!("{metrics:?}") };
    let heap: Vec<_> = used
        .data_points
        .iter()
        .filter(|point| text(&point.attributes, "jvm.memory.type").as_deref() == Some("heap"))
        .map(|point| (point.time_unix_nano, point.value))
        .collect();
    let double = |value| Some(number_data_point::Value::AsDouble(value));
    assert_eq!(heap, [(1_000_000_000, double(5.0)), (2_000_000_000, double(6.0))]);
    assert!(!metrics.contains_key("jvm.memory.limit"), "-1 says that there is none");
}

#[test]
fn the_state_of_a_net_runtime_is_told_by_the_names_of_the_conventions() {
    let sample = ClrMetric {
        time: 1000,
        cpu: Some(Cpu { usage_percent: 25.0 }),
        gc: Some(ClrGc {
            gen0_collect_count: 4,
            gen2_collect_count: 1,
            heap_memory: 99,
            ..ClrGc::default()
        }),
        thread: Some(ClrThread {
            available_worker_threads: 30,
            max_worker_threads: 32,
            ..ClrThread::default()
        }),
    };
    let state = ClrMetricCollection {
        metrics: vec![sample],
        service: "shop".to_owned(),
        ..ClrMetricCollection::default()
    };
    let mut told = BTreeMap::new();
    for metric in metrics_of(RecordKind::ClrMetrics, state.encode_to_vec()) {
        let points = match metric.data.expect("points") {
            Data::Gauge(gauge) => gauge.data_points,
            Data::Sum(sum) => {
                // Agents count collections from report to report.
                assert_eq!(
                    sum.aggregation_temporality == 1,
                    metric.name == "dotnet.gc.collections"
                );
                sum.data_points
            }
            other => panic!("{other:?}"),
        };
        for point in points {
            let Some(number_data_point::Value::AsDouble(value)) = point.value else {
                panic!("a double")
            };
            let of = ["dotnet.gc.heap.generation", "dotnet.thread_pool.thread.type"];
            let of = of.iter().find_map(|key| text(&point.attributes, key)).unwrap_or_default();
            told.insert(format!("{} {of}", metric.name), value);
        }
    }
    for (series, value) in [
        ("process.cpu.utilization ", 0.25),
        ("dotnet.gc.collections gen0", 4.0),
        ("dotnet.gc.collections gen2", 1.0),
        ("dotnet.gc.heap.used ", 99.0),
        ("dotnet.thread_pool.thread.available worker", 30.0),
        ("dotnet.thread_pool.thread.limit worker", 32.0),
    ] {
        assert_eq!(told.get(series), Some(&value), "{series}: {told:?}");
    }
}

#[test]
fn an_event_that_is_attached_to_a_span_is_a_log_record_with_the_spans_ids() {
    let [shop, _] = two_segments();
    let (_, spans) = spans_of(&shop);
    let event = |context| SpanAttachedEvent {
        start_time: Some(Instant { seconds: 2, nanos: 5 }),
        end_time: Some(Instant { seconds: 3, nanos: 5 }),
        event: "HTTP Request Sampling".to_owned(),
        tags: vec![pair("data_content", "GET /")],
        summary: vec![KeyIntValuePair { key: "data_size".to_owned(), value: 7 }],
        trace_context: Some(context),
    };
    let told_of = |context| {
        let told = told(RecordKind::SpanAttachedEvent, event(context).encode_to_vec());
        let told = ResourceLogs::decode(told.body).expect("a message");
        let attributes = told.resource.expect("a resource").attributes;
        assert_eq!(text(&attributes, "service.name").as_deref(), Some("unknown_service"));
        told.scope_logs[0].log_records[0].clone()
    };
    let record = told_of(SpanReference {
        trace_id: shop.trace_id.clone(),
        trace_segment_id: shop.trace_segment_id.clone(),
        span_id: shop.spans[1].span_id.to_string(),
        ..SpanReference::default()
    });
    assert_eq!((&record.trace_id, &record.span_id), (&spans[1].trace_id, &spans[1].span_id));
    assert_eq!(
        (record.time_unix_nano, &*record.event_name),
        (2_000_000_005, "HTTP Request Sampling")
    );
    for (key, value) in
        [("data_content", "GET /"), ("data_size", "7"), ("sw8.event.duration", "1000000000")]
    {
        assert_eq!(text(&record.attributes, key).as_deref(), Some(value), "{key}");
    }
    let record = told_of(SpanReference {
        r#type: 1,
        trace_id: "5af7183fb1d4cf5f".to_owned(),
        span_id: "352bff9a74ca9ad2".to_owned(),
        ..SpanReference::default()
    });
    assert_eq!(record.trace_id, b"\0\0\0\0\0\0\0\0\x5a\xf7\x18\x3f\xb1\xd4\xcf\x5f");
    assert_eq!(record.span_id, b"\x35\x2b\xff\x9a\x74\xca\x9a\xd2");
}

#[test]
fn what_has_no_counterpart_is_not_told_and_what_is_told_already_stays_as_it_is() {
    for kind in RecordKind::ALL {
        let outcome = export(&record(kind, Vec::new())).expect("readable");
        let counterpart = matches!(
            kind,
            RecordKind::ClrMetrics
                | RecordKind::Event
                | RecordKind::JvmMetrics
                | RecordKind::Log
                | RecordKind::Segment
                | RecordKind::SpanAttachedEvent
        );
        assert_eq!(outcome.is_some(), counterpart || kind.is_otlp(), "{kind}");
    }
    let as_it_came = b"\x0a\x00\xba\x06\x02hi".to_vec();
    let told = told(RecordKind::OtlpLogs, as_it_came.clone());
    assert_eq!((told.kind, &told.body[..]), (RecordKind::OtlpLogs, &as_it_came[..]));
}

#[test]
fn a_segment_of_absurd_size_is_not_told_in_part() {
    let spans = vec![SpanObject::default(); crate::protocol::view::MAX_ITEMS + 3];
    let segment = SegmentObject { spans, ..SegmentObject::default() };
    let refused = export(&record(RecordKind::Segment, segment.encode_to_vec()));
    assert_eq!(refused, Err(Unexportable::TooMany(3)));
}
