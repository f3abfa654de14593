//! The facts of SkyWalking's messages.

use handfast_proto::skywalking::v3::{
    Event, InstancePingPkg, InstanceProperties, JvmMetricCollection, LogData, MeterData,
    SegmentObject, SpanAttachedEvent, SpanType, meter_data::Metric,
};
use prost::Message;

use super::{Facts, identity, trace};
use crate::keep::row::{ERROR, ROOT};
use crate::{Record, RecordKind};

/// `None` for kinds, and messages, of which no more than the claim is known.
pub(super) fn facts(record: &Record) -> Option<Facts> {
    let facts = Facts::nothing(record);
    let body = record.body.as_ref();
    match record.kind {
        RecordKind::Segment => SegmentObject::decode(body).ok().map(|it| segment(facts, it)),
        RecordKind::Log => LogData::decode(body).ok().map(|it| log(facts, it)),
        RecordKind::Meter => MeterData::decode(body).ok().map(|it| meter(facts, it)),
        RecordKind::JvmMetrics => JvmMetricCollection::decode(body).ok().map(|it| jvm(facts, it)),
        RecordKind::Event => Event::decode(body).ok().map(|it| event(facts, it)),
        RecordKind::InstanceProperties => {
            let it = InstanceProperties::decode(body).ok()?;
            let (service, instance) = (it.service, it.service_instance);
            Some(Facts { service, instance, subject: it.layer, ..facts })
        }
        RecordKind::InstancePing => {
            let it = InstancePingPkg::decode(body).ok()?;
            let (service, instance) = (it.service, it.service_instance);
            Some(Facts { service, instance, subject: it.layer, ..facts })
        }
        RecordKind::SpanAttachedEvent => {
            let it = SpanAttachedEvent::decode(body).ok()?;
            let of = it.trace_context.unwrap_or_default();
            Some(Facts { trace: trace(of.trace_id.as_bytes()), subject: it.event, ..facts })
        }
        _ => None,
    }
}

fn segment(mut facts: Facts, segment: SegmentObject) -> Facts {
    facts.trace = trace(segment.trace_id.as_bytes());
    if !segment.trace_segment_id.is_empty() {
        // Of one reporter: nobody can keep a segment of somebody else away by guessing its id.
        facts.id = identity(&[
            b"segment",
            segment.service.as_bytes(),
            segment.service_instance.as_bytes(),
            segment.trace_segment_id.as_bytes(),
        ]);
    }
    let spans = &segment.spans;
    let entry = spans.iter().find(|span| span.span_type == SpanType::Entry as i32);
    let first = spans.iter().find(|span| span.parent_span_id < 0).or(spans.first());
    facts.entry = entry.is_some();
    facts.subject = entry.or(first).map(|span| span.operation_name.clone()).unwrap_or_default();
    facts.spans = u16::try_from(spans.len()).unwrap_or(u16::MAX);
    if spans.iter().all(|span| span.refs.is_empty()) {
        facts.flags |= ROOT;
    }
    if spans.iter().any(|span| span.is_error) {
        facts.flags |= ERROR;
    }
    // Spans without a time, or with one that cannot be, say nothing of the others.
    let start = spans.iter().map(|span| span.start_time).filter(|start| *start > 0).min();
    let end = spans.iter().map(|span| span.end_time).max();
    facts.at(start.unwrap_or_default(), end.unwrap_or_default());
    for tag in spans.iter().flat_map(|span| &span.tags) {
        facts.tag(&tag.key, &tag.value);
    }
    Facts { service: segment.service, instance: segment.service_instance, ..facts }
}

fn log(mut facts: Facts, log: LogData) -> Facts {
    facts.at(log.timestamp, log.timestamp);
    for tag in log.tags.iter().flat_map(|tags| &tags.data) {
        facts.tag(&tag.key, &tag.value);
    }
    let of = log.trace_context.unwrap_or_default();
    Facts {
        service: log.service,
        instance: log.service_instance,
        subject: log.endpoint,
        trace: trace(of.trace_id.as_bytes()),
        ..facts
    }
}

fn meter(mut facts: Facts, meter: MeterData) -> Facts {
    facts.at(meter.timestamp, meter.timestamp);
    let subject = match meter.metric {
        Some(Metric::SingleValue(value)) => value.name,
        Some(Metric::Histogram(histogram)) => histogram.name,
        None => String::new(),
    };
    Facts { service: meter.service, instance: meter.service_instance, subject, ..facts }
}

fn jvm(mut facts: Facts, jvm: JvmMetricCollection) -> Facts {
    let times = || jvm.metrics.iter().map(|metric| metric.time).filter(|time| *time > 0);
    facts.at(times().min().unwrap_or_default(), times().max().unwrap_or_default());
    Facts { service: jvm.service, instance: jvm.service_instance, ..facts }
}

fn event(mut facts: Facts, event: Event) -> Facts {
    facts.at(event.start_time.max(event.end_time), event.end_time);
    if event.start_time > 0 {
        facts.at(event.start_time, event.end_time);
    }
    if event.r#type == handfast_proto::skywalking::v3::Type::Error as i32 {
        facts.flags |= ERROR;
    }
    let of = event.source.unwrap_or_default();
    Facts { service: of.service, instance: of.service_instance, subject: event.name, ..facts }
}
