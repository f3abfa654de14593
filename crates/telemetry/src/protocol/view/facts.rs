//! What an index wants to know of a segment, borrowed from its bytes: about a microsecond for five
//! spans, a third of what the whole view takes.

use std::borrow::Cow;

use super::segment::RawSpan;
use super::spans::OtlpSpan;
use super::{Layer, SpanKind};
use crate::RecordKind;
use crate::protocol::claim::name;
use crate::protocol::otlp::{Resource, hex};
use crate::protocol::wire::{Fault, Fields, Malformed};

/// What an index wants to know of a segment. The words mean what they mean in
/// [`SegmentView`](super::SegmentView).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[expect(missing_docs, reason = "each is the field of that name in `SegmentView`")]
pub struct SegmentFacts<'a> {
    pub trace_id: Cow<'a, str>,
    pub segment_id: Cow<'a, str>,
    pub service: Cow<'a, str>,
    pub instance: &'a str,
    pub start_ms: i64,
    pub end_ms: i64,
    pub is_error: bool,
    pub endpoint: &'a str,
    pub layer: Layer,
    /// How many spans there are.
    pub spans: usize,
    /// Whether it continues no other segment: the trace began here.
    pub is_root: bool,
    /// Whether somebody called: the endpoint is one, and not just what was done.
    pub is_entry: bool,
    /// The tags of all spans, up to [`SegmentFacts::MAX_TAGS`].
    pub tags: Vec<(&'a str, Cow<'a, str>)>,
    /// Whether there are more than those.
    pub has_more_tags: bool,
}

impl<'a> SegmentFacts<'a> {
    /// Tags of one segment that are told. More are in its view.
    pub const MAX_TAGS: usize = 64;

    /// Traces that one resource may send spans of together. Exporters send 512 spans at a time.
    pub const MAX_TRACES: usize = 8192;

    /// Of a record of spans, as [`SegmentView::of`](super::SegmentView::of): one, one for each trace, or none.
    pub fn of(kind: RecordKind, body: &'a [u8]) -> Result<Vec<Self>, Malformed> {
        match kind {
            RecordKind::Segment => Ok(vec![Self::of_segment(body)?]),
            RecordKind::OtlpTraces => Self::of_resource(body),
            _ => Ok(Vec::new()),
        }
    }

    /// Of a `SegmentObject`.
    pub fn of_segment(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut facts = Self { is_root: true, ..Self::default() };
        let mut outermost = Outermost::default();
        for field in Fields::of("SegmentObject", body) {
            let field = field?;
            match field.number {
                1 => facts.trace_id = Cow::Borrowed(field.text("traceId")?),
                2 => facts.segment_id = Cow::Borrowed(field.text("traceSegmentId")?),
                3 => {
                    let span = RawSpan::of(field.nested("spans", "SpanObject")?)?;
                    facts.is_error |= span.is_error;
                    facts.is_root &= !span.has_refs;
                    facts.span(span.start_ms, span.end_ms);
                    if outermost.is(span.kind, span.parent < 0) {
                        facts.endpoint = span.operation;
                        facts.layer = span.layer;
                    }
                    facts.is_entry |= span.kind == SpanKind::Entry;
                    for tag in span.tags() {
                        if facts.tags.len() == Self::MAX_TAGS {
                            facts.has_more_tags = true;
                            break;
                        }
                        let (key, value) = tag?;
                        facts.tags.push((key, Cow::Borrowed(value)));
                    }
                }
                4 => facts.service = Cow::Borrowed(name(&field, "service")?),
                5 => facts.instance = name(&field, "serviceInstance")?,
                _ => {}
            }
        }
        Ok(facts)
    }

    /// Of a `ResourceSpans`: one for each trace, in the order of their first spans.
    fn of_resource(body: &'a [u8]) -> Result<Vec<Self>, Malformed> {
        let resource = Resource::of("ResourceSpans", body)?;
        let mut traces: Vec<Self> = Vec::new();
        let mut outermost: Vec<Outermost> = Vec::new();
        let mut places = std::collections::HashMap::new();
        for span in OtlpSpan::all(body) {
            let (_, span) = span?;
            let at = *places.entry(span.trace_id).or_insert(traces.len());
            if at == traces.len() {
                if at == Self::MAX_TRACES {
                    return Err(span.fields.malformed("traceId", Fault::TooMany(at)));
                }
                outermost.push(Outermost::default());
                traces.push(Self {
                    trace_id: Cow::Owned(hex(span.trace_id)),
                    segment_id: Cow::Owned(hex(span.id)),
                    service: resource.service(),
                    instance: resource.instance,
                    ..Self::default()
                });
            }
            let (facts, outermost) = (&mut traces[at], &mut outermost[at]);
            facts.is_error |= span.is_error;
            facts.is_root |= span.parent.is_empty();
            facts.is_entry |= span.kind == SpanKind::Entry;
            facts.span(super::ms(span.start_ns), super::ms(span.end_ns));
            let outer = outermost.is(span.kind, span.parent.is_empty());
            if outer {
                facts.endpoint = span.name;
            }
            let mut layer = Layer::Unknown;
            for attribute in span.attributes() {
                let attribute = attribute?;
                layer = super::spans::layer(layer, attribute.key);
                if facts.tags.len() < Self::MAX_TAGS {
                    facts.tags.push((attribute.key, attribute.value.to_text()));
                } else {
                    facts.has_more_tags = true;
                }
            }
            if outer {
                facts.layer = layer;
            }
        }
        Ok(traces)
    }

    fn span(&mut self, start_ms: i64, end_ms: i64) {
        self.start_ms = if self.spans == 0 { start_ms } else { self.start_ms.min(start_ms) };
        self.end_ms = if self.spans == 0 { end_ms } else { self.end_ms.max(end_ms) };
        self.spans += 1;
    }
}

/// Which span of a segment stands for it: the first that entered the service, else the first that is a part of
/// none, else the first.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outermost {
    rank: u8,
}

impl Outermost {
    /// Whether this span is further out than those before it.
    pub(super) fn is(&mut self, kind: SpanKind, has_no_parent: bool) -> bool {
        let rank = 1 + u8::from(has_no_parent) + 2 * u8::from(kind == SpanKind::Entry);
        let is = rank > self.rank;
        self.rank = self.rank.max(rank);
        is
    }
}
