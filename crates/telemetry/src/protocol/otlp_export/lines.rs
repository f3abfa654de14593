//! Lines of log, and events, as log records. An event that is attached to a span is one too: the span is another's
//! report, which nothing can be added to, and a record with the span's ids is how OpenTelemetry has events tell of spans
//! since it gave up those within spans.

use handfast_proto::otlp::common::v1::AnyValue;
use handfast_proto::otlp::common::v1::any_value::Value;
use handfast_proto::otlp::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use jiff::Timestamp;

use super::attributes::Attributes;
use super::{ids, nanos, resource, scope};
use crate::protocol::view::{AttachedEventView, EventView, Format, LogView};

pub(super) fn tell_log(line: LogView, received: Timestamp) -> ResourceLogs {
    let LogView { service, instance, layer, trace_id, segment_id, span_id, level, .. } = line;
    let mut attributes = Attributes::default();
    attributes.some("sw8.endpoint", line.endpoint);
    match line.format {
        Format::Text => {}
        Format::Json => attributes.text("sw8.log.format", "JSON"),
        Format::Yaml => attributes.text("sw8.log.format", "YAML"),
    }
    let mut record = LogRecord {
        time_unix_nano: nanos(line.time_ms),
        severity_number: severity(&level),
        severity_text: level,
        body: Some(AnyValue { value: Some(Value::StringValue(line.content)) }),
        observed_time_unix_nano: nanos(received.as_millisecond()),
        ..LogRecord::default()
    };
    if !trace_id.is_empty() {
        record.trace_id = ids::trace(&trace_id);
        attributes.text("sw8.trace_id", trace_id);
    }
    if !segment_id.is_empty() {
        record.span_id = ids::span(&segment_id, &span_id);
        attributes.text("sw8.segment_id", segment_id);
        attributes.text("sw8.span_id", span_id);
    }
    for tag in line.tags {
        attributes.tag(tag, &[]);
    }
    record.attributes = attributes.finish();
    told(record, service, instance, layer)
}

pub(super) fn tell_event(event: EventView, received: Timestamp) -> ResourceLogs {
    let EventView { service, instance, layer, is_error, .. } = event;
    let mut attributes = Attributes::default();
    attributes.some("sw8.event.uuid", event.uuid);
    attributes.some("sw8.endpoint", event.endpoint);
    if event.end_ms > 0 {
        attributes.int("sw8.event.end_time", event.end_ms);
    }
    for parameter in event.parameters {
        attributes.tag(parameter, &[]);
    }
    let level = if is_error { "ERROR" } else { "INFO" };
    let record = LogRecord {
        time_unix_nano: nanos(event.start_ms),
        severity_number: severity(level),
        severity_text: level.to_owned(),
        body: Some(AnyValue { value: Some(Value::StringValue(event.message)) }),
        attributes: attributes.finish(),
        observed_time_unix_nano: nanos(received.as_millisecond()),
        event_name: event.name,
        ..LogRecord::default()
    };
    told(record, service, instance, layer)
}

/// It names no service, for whoever saw it knows none: then the conventions have `unknown_service`.
pub(super) fn tell_attached(event: AttachedEventView, received: Timestamp) -> ResourceLogs {
    let AttachedEventView { trace_id, segment_id, span_id, .. } = event;
    let mut attributes = Attributes::default();
    if event.end_ns > event.start_ns {
        attributes.int("sw8.event.duration", (event.end_ns - event.start_ns).cast_signed());
    }
    let (trace, span) = if event.of_zipkin {
        (zipkin::<16>(&trace_id), zipkin::<8>(&span_id))
    } else {
        let is_said = !segment_id.is_empty();
        let span = if is_said { ids::span(&segment_id, &span_id) } else { Vec::new() };
        (if trace_id.is_empty() { Vec::new() } else { ids::trace(&trace_id) }, span)
    };
    attributes.some("sw8.trace_id", trace_id);
    attributes.some("sw8.segment_id", segment_id);
    attributes.some("sw8.span_id", span_id);
    for tag in event.tags {
        attributes.tag(tag, &[]);
    }
    for (key, number) in event.numbers {
        attributes.int(&key, number);
    }
    let record = LogRecord {
        time_unix_nano: event.start_ns,
        attributes: attributes.finish(),
        observed_time_unix_nano: nanos(received.as_millisecond()),
        event_name: event.name,
        trace_id: trace,
        span_id: span,
        ..LogRecord::default()
    };
    told(record, UNKNOWN.to_owned(), String::new(), String::new())
}

/// An id as Zipkin writes it, in OpenTelemetry's size; none where it is none.
fn zipkin<const N: usize>(id: &str) -> Vec<u8> {
    let even = if id.len().is_multiple_of(2) { id.to_owned() } else { format!("0{id}") };
    let bytes = crate::protocol::json::message::digits(&even);
    let padded = bytes.and_then(|bytes| crate::protocol::zipkin::id::<N>(&bytes));
    padded.map(Vec::from).unwrap_or_default()
}

/// What the conventions want where nobody knows.
const UNKNOWN: &str = "unknown_service";

fn told(record: LogRecord, service: String, instance: String, layer: String) -> ResourceLogs {
    let scope_logs =
        ScopeLogs { scope: Some(scope()), log_records: vec![record], ..ScopeLogs::default() };
    ResourceLogs {
        resource: Some(resource(service, instance, layer)),
        scope_logs: vec![scope_logs],
        ..ResourceLogs::default()
    }
}

/// The lowest of the four steps of a word; 0 for a word that says nothing.
fn severity(level: &str) -> i32 {
    let is = |words: &[&str]| words.iter().any(|word| level.eq_ignore_ascii_case(word));
    match () {
        () if is(&["trace", "finest"]) => 1,
        () if is(&["debug", "fine"]) => 5,
        () if is(&["info", "notice"]) => 9,
        () if is(&["warn", "warning"]) => 13,
        () if is(&["error", "severe"]) => 17,
        () if is(&["fatal", "critical", "emergency"]) => 21,
        () => 0,
    }
}
