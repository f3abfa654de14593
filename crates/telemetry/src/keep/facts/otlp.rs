//! The facts of OpenTelemetry's messages: a row for each trace, each metric, and the lines of log of each
//! trace, of each resource.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write;

use handfast_proto::otlp::collector::logs::v1::ExportLogsServiceRequest;
use handfast_proto::otlp::collector::metrics::v1::ExportMetricsServiceRequest;
use handfast_proto::otlp::collector::trace::v1::ExportTraceServiceRequest;
use handfast_proto::otlp::common::v1::{KeyValue, any_value::Value};
use handfast_proto::otlp::resource::v1::Resource;
use handfast_proto::otlp::trace::v1::{ResourceSpans, span::SpanKind, status::StatusCode};
use prost::Message;

use super::{Facts, MOST_ROWS, identity, trace};
use crate::keep::digest::wide_digest;
use crate::keep::row::{ERROR, ROOT};
use crate::{Record, RecordKind};

pub(super) fn facts(record: &Record, into: &mut Vec<Facts>) {
    let body = record.body.as_ref();
    let begin = into.len();
    match record.kind {
        RecordKind::OtlpTraces => {
            let Ok(request) = ExportTraceServiceRequest::decode(body) else { return };
            let whole = wide_digest(&[&record.body]);
            for resource in &request.resource_spans {
                traces(record, whole, resource, into);
            }
        }
        RecordKind::OtlpMetrics => {
            let Ok(request) = ExportMetricsServiceRequest::decode(body) else { return };
            for resource in request.resource_metrics {
                let (service, instance) = who(resource.resource.as_ref());
                for metric in resource.scope_metrics.into_iter().flat_map(|scope| scope.metrics) {
                    let mut facts = Facts::nothing(record);
                    facts.service.clone_from(&service);
                    facts.instance.clone_from(&instance);
                    facts.subject = metric.name;
                    into.push(facts);
                }
            }
        }
        RecordKind::OtlpLogs => {
            let Ok(request) = ExportLogsServiceRequest::decode(body) else { return };
            for resource in request.resource_logs {
                let (service, instance) = who(resource.resource.as_ref());
                let lines = resource.scope_logs.iter().flat_map(|scope| &scope.log_records);
                let mut of_traces: HashMap<&[u8], (u64, u64)> = HashMap::new();
                for line in lines {
                    let time = if line.time_unix_nano > 0 {
                        line.time_unix_nano
                    } else {
                        line.observed_time_unix_nano
                    };
                    if of_traces.len() >= MOST_ROWS && !of_traces.contains_key(&*line.trace_id) {
                        continue;
                    }
                    let times = of_traces.entry(&line.trace_id).or_insert((time, time));
                    *times = (times.0.min(time), times.1.max(time));
                }
                for (of_trace, (first, last)) in of_traces {
                    let mut facts = Facts::nothing(record);
                    facts.service.clone_from(&service);
                    facts.instance.clone_from(&instance);
                    facts.trace = trace(hex(of_trace).as_bytes());
                    facts.at(milliseconds(first), milliseconds(last));
                    into.push(facts);
                }
            }
        }
        _ => {}
    }
    into.truncate(begin + MOST_ROWS);
}

fn traces(record: &Record, whole: u128, resource: &ResourceSpans, into: &mut Vec<Facts>) {
    let (service, instance) = who(resource.resource.as_ref());
    let mut of_traces: HashMap<&[u8], (Facts, i64, i64)> = HashMap::new();
    for span in resource.scope_spans.iter().flat_map(|scope| &scope.spans) {
        let (start, end) =
            (milliseconds(span.start_time_unix_nano), milliseconds(span.end_time_unix_nano));
        if of_traces.len() >= MOST_ROWS && !of_traces.contains_key(span.trace_id.as_slice()) {
            continue;
        }
        let (facts, first, last) = of_traces.entry(&span.trace_id).or_insert_with(|| {
            let mut facts = Facts::nothing(record);
            facts.service.clone_from(&service);
            facts.instance.clone_from(&instance);
            facts.trace = trace(hex(&span.trace_id).as_bytes());
            // The same message again is the same spans again.
            facts.id = identity(&[
                b"otlp",
                service.as_bytes(),
                instance.as_bytes(),
                &span.trace_id,
                &whole.to_le_bytes(),
            ]);
            (facts, start, end)
        });
        (*first, *last) = (start.min(*first), end.max(*last));
        facts.spans = facts.spans.saturating_add(1);
        if span.parent_span_id.is_empty() {
            facts.flags |= ROOT;
        }
        let enters = span.kind == SpanKind::Server as i32 || span.kind == SpanKind::Consumer as i32;
        if facts.subject.is_empty() || span.parent_span_id.is_empty() || (enters && !facts.entry) {
            facts.subject.clone_from(&span.name);
            facts.entry |= enters;
        }
        let failed = span.status.as_ref().is_some_and(|it| it.code == StatusCode::Error as i32);
        if failed {
            facts.flags |= ERROR;
        }
        for attribute in &span.attributes {
            if let Some(value) = attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
                facts.tag(&attribute.key, &text(value));
            }
        }
    }
    for (mut facts, first, last) in of_traces.into_values() {
        facts.at(first, last);
        into.push(facts);
    }
}

/// Service and instance of a resource, as its claim was judged.
pub(in crate::keep) fn who(resource: Option<&Resource>) -> (String, String) {
    let attributes = resource.map(|resource| resource.attributes.as_slice()).unwrap_or_default();
    let said = |key: &str| attributes.iter().find(|pair| pair.key == key).and_then(string);
    let owned = |text: Option<&str>| text.unwrap_or_default().to_owned();
    (owned(said("service.name")), owned(said("service.instance.id")))
}

/// A value as people write it; what nests is not written out.
pub(in crate::keep) fn text(value: &Value) -> Cow<'_, str> {
    match value {
        Value::StringValue(text) => Cow::Borrowed(text),
        Value::BoolValue(flag) => Cow::Borrowed(if *flag { "true" } else { "false" }),
        Value::IntValue(number) => Cow::Owned(number.to_string()),
        Value::DoubleValue(number) => Cow::Owned(number.to_string()),
        Value::BytesValue(bytes) => Cow::Owned(hex(bytes)),
        Value::ArrayValue(_) => Cow::Borrowed("[..]"),
        Value::KvlistValue(_) => Cow::Borrowed("{..}"),
    }
}

/// An id as it is written: in small hexadecimal digits.
pub(in crate::keep) fn hex(id: &[u8]) -> String {
    id.iter().fold(String::with_capacity(id.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn string(pair: &KeyValue) -> Option<&str> {
    match pair.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text),
        _ => None,
    }
}

pub(in crate::keep) fn milliseconds(nanoseconds: u64) -> i64 {
    i64::try_from(nanoseconds / 1_000_000).unwrap_or(i64::MAX)
}

/// The ids of the traces in a record, each once.
pub(in crate::keep) fn trace_ids(record: &Record) -> Vec<String> {
    let Ok(request) = ExportTraceServiceRequest::decode(record.body.as_ref()) else {
        return Vec::new();
    };
    let spans =
        request.resource_spans.iter().flat_map(|it| &it.scope_spans).flat_map(|it| &it.spans);
    let ids: std::collections::BTreeSet<&[u8]> = spans.map(|span| &*span.trace_id).collect();
    ids.into_iter().map(hex).collect()
}
