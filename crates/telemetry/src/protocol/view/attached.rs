//! What somebody else saw of a span: the kernel, mostly.

use super::{Room, Tag, push_pair};
use crate::protocol::wire::{Fields, Malformed};

/// One event that belongs to a span which another reports.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AttachedEventView {
    /// What happened.
    pub name: String,
    /// When it began, in nanoseconds since 1970.
    pub start_ns: u64,
    /// When it ended.
    pub end_ns: u64,
    /// What is said of it in words.
    pub tags: Vec<Tag>,
    /// What is said of it in numbers.
    pub numbers: Vec<(String, i64)>,
    /// Whether the span's ids are Zipkin's: in hexadecimal, and of no segment.
    pub of_zipkin: bool,
    /// The trace.
    pub trace_id: String,
    /// The segment.
    pub segment_id: String,
    /// The span.
    pub span_id: String,
}

impl AttachedEventView {
    /// Of a `SpanAttachedEvent`. Tags beyond [`MAX_ITEMS`](super::MAX_ITEMS) are left out.
    pub fn of(body: &[u8]) -> Result<Self, Malformed> {
        let (mut view, mut room) = (Self::default(), Room::new());
        for field in Fields::of("SpanAttachedEvent", body) {
            let field = field?;
            match field.number {
                1 => view.start_ns = instant(field.nested("startTime", "Instant")?)?,
                2 => view.name = field.text("event")?.into(),
                3 => view.end_ns = instant(field.nested("endTime", "Instant")?)?,
                4 => {
                    let pair = field.nested("tags", "KeyStringValuePair")?;
                    push_pair(&mut view.tags, pair, &mut room)?;
                }
                5 if room.take() => {
                    let (mut key, mut value) = ("", 0);
                    for part in field.nested("summary", "KeyIntValuePair")? {
                        let part = part?;
                        match part.number {
                            1 => key = part.text("key")?,
                            2 => value = part.int64("value")?,
                            _ => {}
                        }
                    }
                    view.numbers.push((key.to_owned(), value));
                }
                6 => view.context(field.nested("traceContext", "SpanReference")?)?,
                _ => {}
            }
        }
        Ok(view)
    }

    fn context(&mut self, fields: Fields<'_>) -> Result<(), Malformed> {
        for field in fields {
            let field = field?;
            match field.number {
                1 => self.of_zipkin = field.int32("type")? == 1,
                2 => self.trace_id = field.text("traceId")?.into(),
                3 => self.segment_id = field.text("traceSegmentId")?.into(),
                4 => self.span_id = field.text("spanId")?.into(),
                _ => {}
            }
        }
        Ok(())
    }
}

/// A time before 1970 is none.
fn instant(fields: Fields<'_>) -> Result<u64, Malformed> {
    let (mut seconds, mut nanos) = (0, 0);
    for field in fields {
        let field = field?;
        match field.number {
            1 => seconds = field.int64("seconds")?,
            2 => nanos = field.int32("nanos")?,
            _ => {}
        }
    }
    let of = |number: i64| u64::try_from(number).unwrap_or_default();
    Ok(of(seconds).saturating_mul(1_000_000_000).saturating_add(of(nanos.into())))
}
