//! What the index shall know of a record, read out of its message. Pure.
//!
//! Everything that a message can make large is bounded here; the record itself is kept whole.

pub(super) mod otlp;
mod skywalking;

use super::digest::{digest, wide_digest};
use super::row::SKEWED;
use crate::protocol::claim;
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
}

impl Facts {
    /// Adds what is known of a record: at least one row, for everything that is kept can be counted.
    pub(super) fn of(record: &Record, into: &mut Vec<Self>) {
        let begin = into.len();
        match record.kind {
            RecordKind::OtlpTraces | RecordKind::OtlpMetrics | RecordKind::OtlpLogs => {
                otlp::facts(record, into);
            }
            _ => into.extend(skywalking::facts(record)),
        }
        if into.len() == begin {
            let mut facts = Self::nothing(record);
            if let Some(claim) =
                claim::claims(record.kind, &record.body).unwrap_or_default().iter().next()
            {
                facts.service = claim.service.to_string();
                claim.instance.clone_into(&mut facts.instance);
            }
            into.push(facts);
        }
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
        }
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
        if self.tags.len() < MOST_TAGS && !self.tags.contains(&tag) {
            self.tags.push(tag);
        }
    }
}

/// What a tag is found by.
pub(super) fn tag(key: &str, value: &str) -> u32 {
    let [a, b, c, d, ..] = digest(&[key.as_bytes(), value.as_bytes()]).to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// What a trace is found by; 0 is none.
pub(super) fn trace(id: &[u8]) -> u64 {
    if id.is_empty() { 0 } else { digest(&[id]).max(1) }
}

fn identity(parts: &[&[u8]]) -> Option<u128> {
    Some(wide_digest(parts).max(1))
}

/// How long ago something may have been when it arrives: a relay's spool holds days.
const EARLIEST: i64 = 14 * 24 * 3_600_000;

/// How far a clock may be ahead.
const LATEST: i64 = 3_600_000;

/// Tags of one record by which it is found. Further ones are kept, and not found.
const MOST_TAGS: usize = 64;

/// Rows of one record. A message of OpenTelemetry with more traces or metrics is found by the first ones.
const MOST_ROWS: usize = 1024;
