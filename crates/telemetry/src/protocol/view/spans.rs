//! Spans of OpenTelemetry, told in the words of segments.

use std::collections::HashMap;

use super::facts::Outermost;
use super::{
    Layer, Room, SegmentFacts, SegmentView, SpanKind, SpanLog, SpanRef, SpanView, Tag, ms,
    push_attribute,
};
use crate::protocol::otlp::{Attribute, Resource, hex};
use crate::protocol::wire::{Fault, Field, Fields, Malformed};

/// What a `Span` says in fields of its own; what nests is read when it is asked for.
#[derive(Clone, Debug)]
pub(super) struct OtlpSpan<'a> {
    pub(super) trace_id: &'a [u8],
    pub(super) id: &'a [u8],
    pub(super) parent: &'a [u8],
    pub(super) name: &'a str,
    pub(super) kind: SpanKind,
    pub(super) start_ns: u64,
    pub(super) end_ns: u64,
    pub(super) is_error: bool,
    pub(super) fields: Fields<'a>,
}

impl<'a> OtlpSpan<'a> {
    /// Every span of a `ResourceSpans`, with the name of the library that recorded it.
    pub(super) fn all(
        body: &'a [u8],
    ) -> impl Iterator<Item = Result<(&'a str, OtlpSpan<'a>), Malformed>> {
        let scopes = numbered(Fields::of("ResourceSpans", body), 2);
        scopes.flat_map(|scope| {
            let fields = scope.and_then(|scope| scope.nested("scopeSpans", "ScopeSpans"));
            let library = fields.and_then(|fields| Ok((scope_name(fields.clone())?, fields)));
            let (name, fields, fault) = match library {
                Ok((name, fields)) => (name, Some(fields), None),
                Err(fault) => ("", None, Some(Err(fault))),
            };
            let spans = fields.into_iter().flat_map(|fields| numbered(fields, 2));
            let spans =
                spans.map(move |span| Ok((name, OtlpSpan::of(span?.nested("spans", "Span")?)?)));
            fault.into_iter().chain(spans)
        })
    }

    fn of(fields: Fields<'a>) -> Result<Self, Malformed> {
        let mut span = Self {
            trace_id: &[],
            id: &[],
            parent: &[],
            name: "",
            kind: SpanKind::Local,
            start_ns: 0,
            end_ns: 0,
            is_error: false,
            fields: fields.clone(),
        };
        for field in fields {
            let field = field?;
            match field.number {
                1 => span.trace_id = id(&field, "traceId")?,
                2 => span.id = id(&field, "spanId")?,
                4 => span.parent = id(&field, "parentSpanId")?,
                5 => span.name = field.text("name")?,
                6 => span.kind = kind(field.int32("kind")?),
                7 => span.start_ns = field.fixed64("startTimeUnixNano")?,
                8 => span.end_ns = field.fixed64("endTimeUnixNano")?,
                15 => span.is_error = is_error(field.nested("status", "Status")?)?,
                _ => {}
            }
        }
        Ok(span)
    }

    pub(super) fn attributes(
        &self,
    ) -> impl Iterator<Item = Result<Attribute<'a>, Malformed>> + use<'a> {
        numbered(self.fields.clone(), 9)
            .map(|field| field?.nested("attributes", "KeyValue").and_then(Attribute::of))
    }

    fn view(&self, library: &str, room: &mut Room) -> Result<SpanView, Malformed> {
        let mut view = SpanView {
            id: hex(self.id),
            parent: (!self.parent.is_empty()).then(|| hex(self.parent)),
            operation: self.name.to_owned(),
            kind: self.kind,
            component: library.to_owned(),
            start_ms: ms(self.start_ns),
            end_ms: ms(self.end_ns),
            duration_us: (self.end_ns.saturating_sub(self.start_ns) / 1000).cast_signed(),
            is_error: self.is_error,
            ..SpanView::default()
        };
        for field in self.fields.clone() {
            let field = field?;
            match field.number {
                9 => push_attribute(&mut view.tags, field.nested("attributes", "KeyValue")?, room)?,
                11 if room.take() => {
                    view.logs.push(event(field.nested("events", "Event")?, room)?);
                }
                13 if room.take() => view.refs.push(link(field.nested("links", "Link")?)?),
                _ => {}
            }
        }
        view.layer = view.tags.iter().fold(Layer::Unknown, |known, tag| layer(known, &tag.key));
        view.peer = peer(&view.tags);
        Ok(view)
    }
}

/// Of a `ResourceSpans`: one for each trace.
pub(super) fn views(body: &[u8]) -> Result<Vec<SegmentView>, Malformed> {
    let resource = Resource::of("ResourceSpans", body)?;
    let mut room = Room::new();
    let mut views: Vec<(SegmentView, Outermost)> = Vec::new();
    let mut places = HashMap::new();
    for span in OtlpSpan::all(body) {
        let (library, span) = span?;
        let at = *places.entry(span.trace_id).or_insert(views.len());
        if at == views.len() {
            if at == SegmentFacts::MAX_TRACES {
                return Err(span.fields.malformed("traceId", Fault::TooMany(at)));
            }
            let view = SegmentView {
                trace_id: hex(span.trace_id),
                segment_id: hex(span.id),
                service: resource.service().into_owned(),
                instance: resource.instance.to_owned(),
                start_ms: ms(span.start_ns),
                end_ms: ms(span.end_ns),
                ..SegmentView::default()
            };
            views.push((view, Outermost::default()));
        }
        let (view, outermost) = &mut views[at];
        view.is_error |= span.is_error;
        view.start_ms = view.start_ms.min(ms(span.start_ns));
        view.end_ms = view.end_ms.max(ms(span.end_ns));
        let is_outermost = outermost.is(span.kind, span.parent.is_empty());
        let before = room.refused;
        if room.take() {
            let span = span.view(library, &mut room)?;
            if is_outermost {
                view.endpoint.clone_from(&span.operation);
                view.layer = span.layer;
                view.component.clone_from(&span.component);
            }
            view.spans.push(span);
        }
        view.left_out += room.refused - before;
    }
    Ok(views.into_iter().map(|(view, _)| view).collect())
}

/// The layer that an attribute of this name tells, unless one before it told.
pub(super) fn layer(known: Layer, attribute: &str) -> Layer {
    if known != Layer::Unknown {
        return known;
    }
    match attribute {
        "db.system" | "db.system.name" => Layer::Database,
        "http.method" | "http.request.method" => Layer::Http,
        "messaging.system" => Layer::Mq,
        "rpc.system" | "rpc.system.name" => Layer::Rpc,
        "faas.trigger" => Layer::Faas,
        _ => Layer::Unknown,
    }
}

/// What the attributes say of the other side, the most telling one first.
fn peer(tags: &[Tag]) -> String {
    let told = |key: &str| tags.iter().find(|tag| tag.key == key).map(|tag| tag.value.as_str());
    for (address, port) in [
        ("server.address", "server.port"),
        ("network.peer.address", "network.peer.port"),
        ("net.peer.name", "net.peer.port"),
    ] {
        if let Some(address) = told(address) {
            return told(port)
                .map_or_else(|| address.to_owned(), |port| format!("{address}:{port}"));
        }
    }
    told("peer.service").unwrap_or_default().to_owned()
}

/// The fields of one number, and every fault.
pub(super) fn numbered(
    fields: Fields<'_>,
    number: u32,
) -> impl Iterator<Item = Result<Field<'_>, Malformed>> {
    fields.filter(move |field| field.as_ref().map_or(true, |field| field.number == number))
}

/// The name of the library that is field 1 of a `ScopeSpans`, `ScopeLogs` or `ScopeMetrics`.
pub(super) fn scope_name(fields: Fields<'_>) -> Result<&str, Malformed> {
    let mut name = "";
    for scope in numbered(fields, 1) {
        for field in numbered(scope?.nested("scope", "InstrumentationScope")?, 1) {
            name = field?.text("name")?;
        }
    }
    Ok(name)
}

/// 16 and 8 bytes are right; some more are borne, for ids are kept and shown.
pub(super) fn id<'a>(field: &Field<'a>, called: &'static str) -> Result<&'a [u8], Malformed> {
    let id = field.bytes(called)?;
    if id.len() > MAX_ID {
        return Err(field.malformed(called, Fault::TooLong(MAX_ID)));
    }
    Ok(id)
}

/// Bytes of an id.
const MAX_ID: usize = 64;

fn kind(number: i32) -> SpanKind {
    match number {
        2 | 5 => SpanKind::Entry,
        3 | 4 => SpanKind::Exit,
        _ => SpanKind::Local,
    }
}

fn is_error(status: Fields<'_>) -> Result<bool, Malformed> {
    let mut is = false;
    for field in numbered(status, 3) {
        is = field?.int32("code")? == 2;
    }
    Ok(is)
}

fn event(fields: Fields<'_>, room: &mut Room) -> Result<SpanLog, Malformed> {
    let mut log = SpanLog::default();
    for field in fields {
        let field = field?;
        match field.number {
            1 => log.time_ms = ms(field.fixed64("timeUnixNano")?),
            2 if room.take() => {
                let value = field.text("name")?.to_owned();
                log.fields.push(Tag { key: "event".to_owned(), value });
            }
            3 => push_attribute(&mut log.fields, field.nested("attributes", "KeyValue")?, room)?,
            _ => {}
        }
    }
    Ok(log)
}

fn link(fields: Fields<'_>) -> Result<SpanRef, Malformed> {
    let mut reference = SpanRef::default();
    for field in fields {
        let field = field?;
        match field.number {
            1 => reference.trace_id = hex(id(&field, "traceId")?),
            2 => reference.span_id = hex(id(&field, "spanId")?),
            _ => {}
        }
    }
    Ok(reference)
}
