//! Segments of SkyWalking.

use super::facts::Outermost;
use super::{Layer, Room, SegmentView, SpanKind, SpanLog, SpanRef, SpanView, pair, push_pair};
use crate::protocol::claim::name;
use crate::protocol::wire::{Fields, Malformed};

/// What a `SpanObject` says in fields of its own; what nests is read when it is asked for.
#[derive(Clone, Debug)]
pub(super) struct RawSpan<'a> {
    pub(super) id: i32,
    /// -1 where there is none.
    pub(super) parent: i32,
    pub(super) start_ms: i64,
    pub(super) end_ms: i64,
    pub(super) operation: &'a str,
    pub(super) peer: &'a str,
    pub(super) kind: SpanKind,
    pub(super) layer: Layer,
    pub(super) component: i32,
    pub(super) is_error: bool,
    pub(super) has_refs: bool,
    fields: Fields<'a>,
}

impl<'a> RawSpan<'a> {
    pub(super) fn of(fields: Fields<'a>) -> Result<Self, Malformed> {
        let mut span = Self {
            id: 0,
            parent: 0,
            start_ms: 0,
            end_ms: 0,
            operation: "",
            peer: "",
            // What is not sent is zero, and zero is an entry.
            kind: SpanKind::Entry,
            layer: Layer::Unknown,
            component: 0,
            is_error: false,
            has_refs: false,
            fields: fields.clone(),
        };
        for field in fields {
            let field = field?;
            match field.number {
                1 => span.id = field.int32("spanId")?,
                2 => span.parent = field.int32("parentSpanId")?,
                3 => span.start_ms = field.int64("startTime")?,
                4 => span.end_ms = field.int64("endTime")?,
                5 => span.has_refs = true,
                6 => span.operation = field.text("operationName")?,
                7 => span.peer = field.text("peer")?,
                8 => span.kind = kind(field.int32("spanType")?),
                9 => span.layer = layer(field.int32("spanLayer")?),
                10 => span.component = field.int32("componentId")?,
                11 => span.is_error = field.flag("isError")?,
                _ => {}
            }
        }
        Ok(span)
    }

    pub(super) fn tags(
        &self,
    ) -> impl Iterator<Item = Result<(&'a str, &'a str), Malformed>> + use<'a> {
        self.fields.clone().filter_map(|field| match field {
            Ok(field) if field.number == 12 => {
                Some(field.nested("tags", "KeyStringValuePair").and_then(pair))
            }
            Ok(_) => None,
            Err(fault) => Some(Err(fault)),
        })
    }

    fn view(self, room: &mut Room) -> Result<SpanView, Malformed> {
        let mut view = SpanView {
            id: self.id.to_string(),
            parent: (self.parent >= 0).then(|| self.parent.to_string()),
            operation: self.operation.to_owned(),
            kind: self.kind,
            layer: self.layer,
            component: if self.component == 0 { String::new() } else { self.component.to_string() },
            peer: self.peer.to_owned(),
            start_ms: self.start_ms,
            end_ms: self.end_ms,
            duration_us: self.end_ms.saturating_sub(self.start_ms).max(0).saturating_mul(1000),
            is_error: self.is_error,
            ..SpanView::default()
        };
        for field in self.fields {
            let field = field?;
            match field.number {
                5 if room.take() => {
                    view.refs.push(reference(field.nested("refs", "SegmentReference")?)?);
                }
                12 => {
                    let tag = field.nested("tags", "KeyStringValuePair")?;
                    push_pair(&mut view.tags, tag, room)?;
                }
                13 if room.take() => view.logs.push(log(field.nested("logs", "Log")?, room)?),
                _ => {}
            }
        }
        Ok(view)
    }
}

/// Of a `SegmentObject`.
pub(super) fn view(body: &[u8]) -> Result<SegmentView, Malformed> {
    let mut view = SegmentView::default();
    let (mut room, mut outermost) = (Room::new(), Outermost::default());
    let mut is_first = true;
    for field in Fields::of("SegmentObject", body) {
        let field = field?;
        match field.number {
            1 => view.trace_id = field.text("traceId")?.into(),
            2 => view.segment_id = field.text("traceSegmentId")?.into(),
            3 => {
                let span = RawSpan::of(field.nested("spans", "SpanObject")?)?;
                view.is_error |= span.is_error;
                view.start_ms =
                    if is_first { span.start_ms } else { view.start_ms.min(span.start_ms) };
                view.end_ms = if is_first { span.end_ms } else { view.end_ms.max(span.end_ms) };
                is_first = false;
                let is_outermost = outermost.is(span.kind, span.parent < 0);
                if !room.take() {
                    continue;
                }
                let span = span.view(&mut room)?;
                if is_outermost {
                    view.endpoint.clone_from(&span.operation);
                    view.layer = span.layer;
                    view.component.clone_from(&span.component);
                }
                view.spans.push(span);
            }
            4 => view.service = name(&field, "service")?.into(),
            5 => view.instance = name(&field, "serviceInstance")?.into(),
            _ => {}
        }
    }
    view.left_out = room.refused;
    Ok(view)
}

fn reference(fields: Fields<'_>) -> Result<SpanRef, Malformed> {
    let mut reference = SpanRef { span_id: "0".to_owned(), ..SpanRef::default() };
    for field in fields {
        let field = field?;
        match field.number {
            1 => reference.same_process = field.int32("refType")? == 1,
            2 => reference.trace_id = field.text("traceId")?.into(),
            3 => reference.segment_id = field.text("parentTraceSegmentId")?.into(),
            4 => reference.span_id = field.int32("parentSpanId")?.to_string(),
            5 => reference.service = field.text("parentService")?.into(),
            6 => reference.instance = field.text("parentServiceInstance")?.into(),
            7 => reference.endpoint = field.text("parentEndpoint")?.into(),
            8 => reference.address = field.text("networkAddressUsedAtPeer")?.into(),
            _ => {}
        }
    }
    Ok(reference)
}

fn log(fields: Fields<'_>, room: &mut Room) -> Result<SpanLog, Malformed> {
    let mut log = SpanLog::default();
    for field in fields {
        let field = field?;
        match field.number {
            1 => log.time_ms = field.int64("time")?,
            2 => push_pair(&mut log.fields, field.nested("data", "KeyStringValuePair")?, room)?,
            _ => {}
        }
    }
    Ok(log)
}

fn kind(number: i32) -> SpanKind {
    match number {
        0 => SpanKind::Entry,
        1 => SpanKind::Exit,
        _ => SpanKind::Local,
    }
}

fn layer(number: i32) -> Layer {
    match number {
        1 => Layer::Database,
        2 => Layer::Rpc,
        3 => Layer::Http,
        4 => Layer::Mq,
        5 => Layer::Cache,
        6 => Layer::Faas,
        _ => Layer::Unknown,
    }
}
