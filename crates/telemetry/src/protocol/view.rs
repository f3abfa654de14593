//! What is in a record, for those who index, query and draw it: facts with names, whichever protocol
//! they came in.
//!
//! Every number of things is bounded ([`MAX_ITEMS`]) and what is beyond is counted, not kept: a
//! record that holds a million empty tags costs what it was sent with. Texts are not cut, for they
//! are no longer than the record.

mod attached;
mod clr;
mod event;
mod facts;
mod instance;
mod jvm;
mod log;
mod meter;
mod segment;
mod spans;

pub use attached::AttachedEventView;
pub use clr::{ClrSample, ClrView, PoolThreads};
pub use event::EventView;
pub use facts::SegmentFacts;
pub use instance::InstanceView;
pub use jvm::{Classes, Collection, JvmSample, JvmView, MemoryUse, RuntimeSeries, Threads};
pub use log::{Format, LogView};
pub use meter::{Bucket, MeterNature, MeterValue, MeterView};

use super::otlp::Attribute;
use super::wire::{Fields, Malformed};
use crate::RecordKind;

/// The part of a trace that one instance did: a SkyWalking segment, or the spans of one trace that
/// an OpenTelemetry resource sent together.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SegmentView {
    /// The trace.
    pub trace_id: String,
    /// The segment; of OpenTelemetry the id of its first span.
    pub segment_id: String,
    /// The service.
    pub service: String,
    /// The instance of the service.
    pub instance: String,
    /// When the first span began, in milliseconds since 1970.
    pub start_ms: i64,
    /// When the last one ended.
    pub end_ms: i64,
    /// Whether any span failed.
    pub is_error: bool,
    /// What was asked of the service: the operation of the span that entered it, or of the outermost
    /// one.
    pub endpoint: String,
    /// The layer of that span.
    pub layer: Layer,
    /// The component of that span.
    pub component: String,
    /// The spans, as they came.
    pub spans: Vec<SpanView>,
    /// How many spans, tags, logs and references were too many to keep.
    pub left_out: usize,
}

/// One piece of work.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SpanView {
    /// Unique within the segment: a number for SkyWalking, hexadecimal for OpenTelemetry.
    pub id: String,
    /// The span that it is a part of, if it is.
    pub parent: Option<String>,
    /// What was done.
    pub operation: String,
    /// Which end of a call it is.
    pub kind: SpanKind,
    /// What kind of thing was spoken to.
    pub layer: Layer,
    /// Which library did it: the number that SkyWalking gave it, or OpenTelemetry's name.
    pub component: String,
    /// The address of the other side.
    pub peer: String,
    /// When it began, in milliseconds since 1970.
    pub start_ms: i64,
    /// When it ended.
    pub end_ms: i64,
    /// How long it took, as fine as the protocol tells.
    pub duration_us: i64,
    /// Whether it failed.
    pub is_error: bool,
    /// Its tags, as they came.
    pub tags: Vec<Tag>,
    /// What happened meanwhile.
    pub logs: Vec<SpanLog>,
    /// The spans of other segments that it continues.
    pub refs: Vec<SpanRef>,
}

/// A name with a text.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Tag {
    /// The name.
    pub key: String,
    /// The text.
    pub value: String,
}

/// Something that happened during a span.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SpanLog {
    /// When, in milliseconds since 1970.
    pub time_ms: i64,
    /// What.
    pub fields: Vec<Tag>,
}

/// A span of another segment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SpanRef {
    /// Its trace.
    pub trace_id: String,
    /// Its segment; empty for OpenTelemetry.
    pub segment_id: String,
    /// Its id.
    pub span_id: String,
    /// Its service, as the caller said.
    pub service: String,
    /// Its instance.
    pub instance: String,
    /// Its endpoint.
    pub endpoint: String,
    /// The address that the caller dialled.
    pub address: String,
    /// Whether it was another thread of the same process.
    pub same_process: bool,
}

/// Which end of a call a span is.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum SpanKind {
    /// Somebody called.
    Entry,
    /// Somebody is called.
    Exit,
    /// Neither.
    #[default]
    Local,
}

/// What kind of thing a span speaks to.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[expect(missing_docs, reason = "the protocol's own words")]
pub enum Layer {
    Cache,
    Database,
    Faas,
    Http,
    Mq,
    Rpc,
    #[default]
    Unknown,
}

impl Layer {
    /// The protocol's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cache => "Cache",
            Self::Database => "Database",
            Self::Faas => "FAAS",
            Self::Http => "Http",
            Self::Mq => "MQ",
            Self::Rpc => "RPCFramework",
            Self::Unknown => "Unknown",
        }
    }
}

impl SpanKind {
    /// The protocol's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Entry => "Entry",
            Self::Exit => "Exit",
            Self::Local => "Local",
        }
    }
}

impl SegmentView {
    /// What a record of spans holds: one segment, or one for each trace; none where the record holds
    /// something else.
    pub fn of(kind: RecordKind, body: &[u8]) -> Result<Vec<Self>, Malformed> {
        match kind {
            RecordKind::Segment => Ok(vec![segment::view(body)?]),
            RecordKind::OtlpTraces => spans::views(body),
            _ => Ok(Vec::new()),
        }
    }

    /// The tags of all spans, for those who search by them.
    pub fn tags(&self) -> impl Iterator<Item = &Tag> {
        self.spans.iter().flat_map(|span| &span.tags)
    }
}

/// Spans, tags, logs, references, samples, labels, buckets of one record, all together. The Java agent
/// sends 300 spans at most in a segment.
pub const MAX_ITEMS: usize = 16_384;

/// How much more a view may hold.
#[derive(Debug)]
struct Room {
    left: usize,
    refused: usize,
}

impl Room {
    fn new() -> Self {
        Self { left: MAX_ITEMS, refused: 0 }
    }

    /// Whether there is room for one more; where not, it is counted as left out.
    fn take(&mut self) -> bool {
        let there = self.left > 0;
        if there {
            self.left -= 1;
        } else {
            self.refused += 1;
        }
        there
    }
}

/// A `KeyStringValuePair`, a `Label` and an entry of a map are all alike.
fn pair(fields: Fields<'_>) -> Result<(&str, &str), Malformed> {
    let (mut key, mut value) = ("", "");
    for field in fields {
        let field = field?;
        match field.number {
            1 => key = field.text("key")?,
            2 => value = field.text("value")?,
            _ => {}
        }
    }
    Ok((key, value))
}

fn push_pair(tags: &mut Vec<Tag>, fields: Fields<'_>, room: &mut Room) -> Result<(), Malformed> {
    let (key, value) = pair(fields)?;
    if room.take() {
        tags.push(Tag { key: key.to_owned(), value: value.to_owned() });
    }
    Ok(())
}

fn push_attribute(
    tags: &mut Vec<Tag>,
    fields: Fields<'_>,
    room: &mut Room,
) -> Result<(), Malformed> {
    let Attribute { key, value } = Attribute::of(fields)?;
    if room.take() {
        tags.push(Tag { key: key.to_owned(), value: value.to_text().into_owned() });
    }
    Ok(())
}

/// Milliseconds, of nanoseconds.
fn ms(nanos: u64) -> i64 {
    (nanos / 1_000_000).cast_signed()
}

#[cfg(test)]
#[path = "view_measured_tests.rs"]
mod measured_tests;
#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
