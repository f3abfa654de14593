//! What the index shall know of a record, read out of its message. Pure.
//!
//! Everything that a message can make large is bounded here; the record itself is kept whole.

use std::collections::BTreeMap;

use handfast_proto::skywalking::v3::SpanAttachedEvent;
use prost::Message;

use super::digest::{digest, wide_digest};
use super::index::bounded;
use super::row::{ERROR, ROOT, SKEWED};
use crate::protocol::Malformed;
use crate::protocol::claim;
use crate::protocol::view::{
    ClrView, EventView, InstanceView, JvmView, LogView, MeterView, SegmentFacts,
};
use crate::{Record, RecordKind};

/// One row to be. A message of OpenTelemetry has several: one for each trace or metric in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Facts {
    pub(super) kind: RecordKind,
    pub(super) service: String,
    pub(super) instance: String,
    pub(super) subject: String,
    pub(super) id: Option<u128>,
    pub(super) trace: u64,
    pub(super) start: i64,
    pub(super) duration: u32,
    pub(super) received: i64,
    pub(super) spans: u16,
    pub(super) flags: u8,
    /// The subject is where requests enter.
    pub(super) entry: bool,
    pub(super) tags: Vec<u32>,
    /// There is more in it than it is found by.
    pub(super) is_cut: bool,
}

impl Facts {
    /// Adds what is known of a record: at least one row, for everything that is kept can be counted.
    pub(super) fn of(record: &Record, into: &mut Vec<Self>) {
        let begin = into.len();
        // What cannot be read was let in by its claim, and is kept under it.
        let _ = Self::read(record, into);
        let is_cut = into.len() > begin + MOST_ROWS;
        into.truncate(begin + MOST_ROWS);
        for facts in &mut into[begin..] {
            facts.is_cut |= is_cut || bounded(&facts.subject).len() < facts.subject.len();
        }
        if into.len() == begin {
            let mut facts = Self::nothing(record);
            let claims = claim::claims(record.kind, &record.body);
            if let Some(claim) = claims.as_ref().ok().and_then(|claims| claims.iter().next()) {
                claim.service.as_ref().clone_into(&mut facts.service);
                claim.instance.clone_into(&mut facts.instance);
            }
            into.push(facts);
        }
    }

    fn read(record: &Record, into: &mut Vec<Self>) -> Result<(), Malformed> {
        let body = record.body.as_ref();
        match record.kind {
            RecordKind::Segment => into.push({
                let segment = SegmentFacts::of_segment(body)?;
                Self::of_segment(record, segment, None)
            }),
            RecordKind::OtlpTraces => {
                let whole = wide_digest(&[body]);
                for segment in SegmentFacts::of(record.kind, body)?.into_iter().take(MOST_ROWS + 1)
                {
                    into.push(Self::of_segment(record, segment, Some(whole)));
                }
            }
            RecordKind::Log | RecordKind::OtlpLogs => logs(record, into)?,
            RecordKind::Meter | RecordKind::OtlpMetrics => meters(record, into)?,
            RecordKind::JvmMetrics => {
                let view = JvmView::of(body)?;
                let times = view.samples.iter().map(|sample| sample.time_ms);
                let facts = Self::of_samples(record, times);
                into.push(Self { service: view.service, instance: view.instance, ..facts });
            }
            RecordKind::ClrMetrics => {
                let view = ClrView::of(body)?;
                let times = view.samples.iter().map(|sample| sample.time_ms);
                let facts = Self::of_samples(record, times);
                into.push(Self { service: view.service, instance: view.instance, ..facts });
            }
            RecordKind::Event => {
                let view = EventView::of(body)?;
                let mut facts = Self::nothing(record);
                let start = if view.start_ms > 0 { view.start_ms } else { view.end_ms };
                facts.at(start, view.end_ms);
                facts.flags |= if view.is_error { ERROR } else { 0 };
                let (service, instance, subject) = (view.service, view.instance, view.name);
                into.push(Self { service, instance, subject, ..facts });
            }
            RecordKind::InstanceProperties | RecordKind::InstancePing => {
                if let Some(view) = InstanceView::of(record.kind, body)? {
                    let (service, instance) = (view.service, view.instance);
                    into.push(Self { service, instance, ..Self::nothing(record) });
                }
            }
            RecordKind::SpanAttachedEvent => {
                let event = SpanAttachedEvent::decode(body).unwrap_or_default();
                let of = event.trace_context.unwrap_or_default();
                let trace = trace(&of.trace_id);
                into.push(Self { subject: event.event, trace, ..Self::nothing(record) });
            }
            _ => {}
        }
        Ok(())
    }

    /// Of a segment; or of the spans that a message holds of one trace, which are the same again if the whole
    /// message is.
    fn of_segment(record: &Record, segment: SegmentFacts<'_>, whole: Option<u128>) -> Self {
        let mut facts = Self::nothing(record);
        facts.trace = trace(&segment.trace_id);
        // Of one reporter: nobody can keep a segment of somebody else away by guessing its id.
        let (service, instance) = (segment.service.as_bytes(), segment.instance.as_bytes());
        facts.id = match whole {
            Some(whole) => {
                let (whole, trace) = (whole.to_le_bytes(), segment.trace_id.as_bytes());
                Some(identity(&[b"otlp", service, instance, trace, &whole]))
            }
            None if segment.segment_id.is_empty() => None,
            None => {
                let segment = segment.segment_id.as_bytes();
                Some(identity(&[b"segment", service, instance, segment]))
            }
        };
        facts.at(segment.start_ms, segment.end_ms);
        facts.flags |= if segment.is_error { ERROR } else { 0 };
        facts.flags |= if segment.is_root { ROOT } else { 0 };
        facts.spans = u16::try_from(segment.spans).unwrap_or(u16::MAX);
        facts.entry = segment.is_entry;
        segment.endpoint.clone_into(&mut facts.subject);
        segment.instance.clone_into(&mut facts.instance);
        facts.service = segment.service.into_owned();
        for (key, value) in &segment.tags {
            facts.tag(key, value);
        }
        facts.is_cut |= segment.has_more_tags;
        facts
    }

    /// Of what a runtime measured at these times.
    fn of_samples(record: &Record, times: impl Iterator<Item = i64> + Clone) -> Self {
        let mut facts = Self::nothing(record);
        let times = times.filter(|at| *at > 0);
        let (first, last) = (times.clone().min(), times.max());
        facts.at(first.unwrap_or_default(), last.unwrap_or_default());
        facts
    }

    fn nothing(record: &Record) -> Self {
        let received = record.received.as_millisecond();
        Self {
            kind: record.kind,
            service: String::new(),
            instance: String::new(),
            subject: String::new(),
            id: None,
            trace: 0,
            start: received,
            duration: 0,
            received,
            spans: 0,
            flags: 0,
            entry: false,
            tags: Vec::new(),
            is_cut: false,
        }
    }

    /// When it was over, in milliseconds since 1970.
    pub(super) fn end(&self) -> i64 {
        self.start.saturating_add(i64::from(self.duration))
    }

    /// From when to when it was, in milliseconds since 1970. A time that cannot be is the one at which it was
    /// received: one clock that is wrong must not make everybody search everywhere.
    fn at(&mut self, start: i64, end: i64) {
        if start > 0 {
            if (-EARLIEST..=LATEST).contains(&start.saturating_sub(self.received)) {
                self.start = start;
            } else {
                self.flags |= SKEWED;
            }
            let duration = end.saturating_sub(start).clamp(0, i64::from(u32::MAX));
            self.duration = u32::try_from(duration).unwrap_or(u32::MAX);
        }
    }

    fn tag(&mut self, key: &str, value: &str) {
        let tag = tag(key, value);
        if self.tags.contains(&tag) {
            return;
        }
        if self.tags.len() < MOST_TAGS {
            self.tags.push(tag);
        } else {
            self.is_cut = true;
        }
    }
}

/// A row for the lines of each trace.
fn logs(record: &Record, into: &mut Vec<Facts>) -> Result<(), Malformed> {
    let mut of_traces: BTreeMap<String, (Facts, i64, i64)> = BTreeMap::new();
    let mut is_cut = false;
    for line in LogView::of(record.kind, &record.body)? {
        if of_traces.len() == MOST_ROWS && !of_traces.contains_key(&line.trace_id) {
            is_cut = true;
            continue;
        }
        let trace = trace(&line.trace_id);
        let (facts, first, last) = of_traces.entry(line.trace_id).or_insert_with(|| {
            let (service, instance) = (line.service, line.instance);
            let subject = line.endpoint;
            let facts = Facts { service, instance, subject, trace, ..Facts::nothing(record) };
            (facts, line.time_ms, line.time_ms)
        });
        (*first, *last) = (line.time_ms.min(*first), line.time_ms.max(*last));
        for tag in &line.tags {
            facts.tag(&tag.key, &tag.value);
        }
    }
    for (mut facts, first, last) in of_traces.into_values() {
        facts.at(first, last);
        facts.is_cut |= is_cut;
        into.push(facts);
    }
    Ok(())
}

/// A row for each name.
fn meters(record: &Record, into: &mut Vec<Facts>) -> Result<(), Malformed> {
    let mut of_names: BTreeMap<String, (Facts, i64, i64)> = BTreeMap::new();
    let mut is_cut = false;
    for meter in MeterView::of(record.kind, &record.body)? {
        if of_names.len() == MOST_ROWS && !of_names.contains_key(&meter.name) {
            is_cut = true;
            continue;
        }
        let (_, first, last) = of_names.entry(meter.name).or_insert_with_key(|name| {
            let (service, instance, subject) = (meter.service, meter.instance, name.clone());
            let facts = Facts { service, instance, subject, ..Facts::nothing(record) };
            (facts, meter.time_ms, meter.time_ms)
        });
        (*first, *last) = (meter.time_ms.min(*first), meter.time_ms.max(*last));
    }
    for (mut facts, first, last) in of_names.into_values() {
        facts.at(first, last);
        facts.is_cut |= is_cut;
        into.push(facts);
    }
    Ok(())
}

/// What a tag is found by.
pub(super) fn tag(key: &str, value: &str) -> u32 {
    let [a, b, c, d, ..] = digest(&[key.as_bytes(), value.as_bytes()]).to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// What a trace is found by; 0 is none.
pub(super) fn trace(id: &str) -> u64 {
    if id.is_empty() { 0 } else { digest(&[id.as_bytes()]).max(1) }
}

fn identity(parts: &[&[u8]]) -> u128 {
    wide_digest(parts).max(1)
}

/// How long ago something may have been when it arrives: a relay's spool holds days.
const EARLIEST: i64 = 14 * 24 * 3_600_000;

/// How far a clock may be ahead.
const LATEST: i64 = 3_600_000;

/// Tags of one record by which it is found. Further ones are kept, and not found.
const MOST_TAGS: usize = 64;

/// Rows of one record. A message of OpenTelemetry with more traces or metrics is found by the first ones.
const MOST_ROWS: usize = 1024;
