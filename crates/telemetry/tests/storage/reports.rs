//! What agents report, as records.

use bytes::Bytes;
use handfast_proto::otlp::common::v1::{AnyValue, KeyValue, any_value::Value};
use handfast_proto::otlp::resource::v1::Resource;
use handfast_proto::otlp::trace::v1::{ResourceSpans, ScopeSpans, Span};
use handfast_proto::skywalking::v3::{
    Event, InstancePingPkg, InstanceProperties, JvmMetric, JvmMetricCollection, KeyStringValuePair,
    LogData, LogDataBody, LogTags, Memory, MeterData, MeterSingleValue, SegmentObject,
    SegmentReference, Source, SpanObject, TextLog, TraceContext, log_data_body::Content,
    meter_data::Metric,
};
use handfast_telemetry::keep::{Keep, KeepSettings, Kept};
use handfast_telemetry::{Record, RecordKind};
use jiff::Timestamp;
use prost::Message;
use std::path::Path;

/// The time that everything here happens around, in milliseconds.
pub(crate) const NOW: i64 = 1_800_000_000_000;

pub(crate) fn at(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap()
}

pub(crate) fn reported(kind: RecordKind, message: &impl Message, received: i64) -> Record {
    Record {
        body: message.encode_to_vec().into(),
        kind,
        received: at(received),
        reporter: Bytes::from_static(b"spiffe://shop.example/agent/shop"),
    }
}

pub(crate) fn tag(key: &str, value: &str) -> KeyStringValuePair {
    KeyStringValuePair { key: key.to_owned(), value: value.to_owned() }
}

/// A segment: an entry and an exit span.
#[derive(Clone)]
pub(crate) struct Segment {
    pub(crate) trace: String,
    pub(crate) id: String,
    pub(crate) service: &'static str,
    pub(crate) instance: &'static str,
    pub(crate) endpoint: &'static str,
    pub(crate) start: i64,
    pub(crate) duration: i64,
    pub(crate) parent: Option<&'static str>,
    pub(crate) error: bool,
    pub(crate) tags: Vec<KeyStringValuePair>,
}

impl Segment {
    pub(crate) fn new(trace: &str, id: &str) -> Self {
        Self {
            trace: trace.to_owned(),
            id: id.to_owned(),
            service: "shop",
            instance: "shop-1",
            endpoint: "GET:/pay",
            start: NOW,
            duration: 100,
            parent: None,
            error: false,
            tags: Vec::new(),
        }
    }

    pub(crate) fn object(&self) -> SegmentObject {
        let entry = SpanObject {
            span_id: 0,
            parent_span_id: -1,
            start_time: self.start,
            end_time: self.start + self.duration,
            operation_name: self.endpoint.to_owned(),
            is_error: self.error,
            tags: self.tags.clone(),
            refs: self.parent.iter().map(|parent| self.reference(parent)).collect(),
            ..SpanObject::default()
        };
        let exit = SpanObject {
            span_id: 1,
            parent_span_id: 0,
            start_time: self.start + 1,
            end_time: self.start + self.duration - 1,
            operation_name: "SELECT".to_owned(),
            span_type: 1,
            tags: vec![tag("db.statement", &"select everything ".repeat(20))],
            ..SpanObject::default()
        };
        SegmentObject {
            trace_id: self.trace.clone(),
            trace_segment_id: self.id.clone(),
            spans: vec![entry, exit],
            service: self.service.to_owned(),
            service_instance: self.instance.to_owned(),
            is_size_limited: false,
        }
    }

    pub(crate) fn record(&self) -> Record {
        reported(RecordKind::Segment, &self.object(), self.start + self.duration)
    }

    fn reference(&self, parent: &str) -> SegmentReference {
        SegmentReference {
            trace_id: self.trace.clone(),
            parent_trace_segment_id: parent.to_owned(),
            ..SegmentReference::default()
        }
    }
}

pub(crate) fn log(trace: &str, time: i64, text: &str) -> Record {
    let log = LogData {
        timestamp: time,
        service: "shop".to_owned(),
        service_instance: "shop-1".to_owned(),
        body: Some(LogDataBody {
            r#type: String::new(),
            content: Some(Content::Text(TextLog { text: text.to_owned() })),
        }),
        trace_context: Some(TraceContext { trace_id: trace.to_owned(), ..TraceContext::default() }),
        tags: Some(LogTags { data: vec![tag("level", "WARN")] }),
        ..LogData::default()
    };
    reported(RecordKind::Log, &log, time)
}

pub(crate) fn meter(name: &str, time: i64, value: f64) -> Record {
    let single = MeterSingleValue { name: name.to_owned(), labels: Vec::new(), value };
    let meter = MeterData {
        service: "shop".to_owned(),
        service_instance: "shop-1".to_owned(),
        timestamp: time,
        metric: Some(Metric::SingleValue(single)),
    };
    reported(RecordKind::Meter, &meter, time)
}

pub(crate) fn jvm(time: i64, heap: i64) -> Record {
    let metric = JvmMetric {
        time,
        memory: vec![Memory { is_heap: true, used: heap, ..Memory::default() }],
        ..JvmMetric::default()
    };
    let jvm = JvmMetricCollection {
        metrics: vec![metric],
        service: "shop".to_owned(),
        service_instance: "shop-1".to_owned(),
    };
    reported(RecordKind::JvmMetrics, &jvm, time)
}

pub(crate) fn properties(time: i64, language: &str) -> Record {
    let said = InstanceProperties {
        service: "shop".to_owned(),
        service_instance: "shop-1".to_owned(),
        properties: vec![tag("language", language)],
        layer: "GENERAL".to_owned(),
    };
    reported(RecordKind::InstanceProperties, &said, time)
}

pub(crate) fn ping(time: i64) -> Record {
    let said = InstancePingPkg {
        service: "shop".to_owned(),
        service_instance: "shop-1".to_owned(),
        layer: String::new(),
    };
    reported(RecordKind::InstancePing, &said, time)
}

pub(crate) fn event(uuid: &str, start: i64, end: i64, message: &str) -> Record {
    let event = Event {
        uuid: uuid.to_owned(),
        source: Some(Source { service: "shop".to_owned(), ..Source::default() }),
        name: "Restart".to_owned(),
        message: message.to_owned(),
        start_time: start,
        end_time: end,
        ..Event::default()
    };
    reported(RecordKind::Event, &event, start.max(end))
}

/// Two spans of two traces in one message of OpenTelemetry.
pub(crate) fn otlp(traces: [u8; 2]) -> Record {
    let said = |key: &str, text: &str| KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(Value::StringValue(text.to_owned())) }),
    };
    let span = |trace: u8| Span {
        trace_id: vec![trace; 16],
        span_id: vec![trace; 8],
        name: "GET /otel".to_owned(),
        kind: 2,
        start_time_unix_nano: u64::try_from(NOW).unwrap() * 1_000_000,
        end_time_unix_nano: u64::try_from(NOW + 30).unwrap() * 1_000_000,
        attributes: vec![said("http.route", "/otel")],
        ..Span::default()
    };
    let spans = ResourceSpans {
        resource: Some(Resource {
            attributes: vec![said("service.name", "otel"), said("service.instance.id", "otel-1")],
            ..Resource::default()
        }),
        scope_spans: vec![ScopeSpans {
            spans: traces.into_iter().map(span).collect(),
            ..ScopeSpans::default()
        }],
        ..ResourceSpans::default()
    };
    reported(RecordKind::OtlpTraces, &spans, NOW + 50)
}

pub(crate) fn keep(directory: &Path) -> Keep {
    Keep::open(directory, KeepSettings::default(), at(NOW)).unwrap()
}

/// Chunks so small that there are many of them.
pub(crate) fn many_chunks() -> KeepSettings {
    KeepSettings { chunk_bytes: 4096, ..KeepSettings::default() }
}

pub(crate) async fn take(keep: &Keep, records: Vec<Record>) -> Kept {
    keep.take(records).await.unwrap().durable().await.unwrap()
}
