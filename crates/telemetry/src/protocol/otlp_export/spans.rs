//! A segment as spans of one resource.

use handfast_proto::otlp::trace::v1::span::{Event, Link, SpanKind as Kind};
use handfast_proto::otlp::trace::v1::status::StatusCode;
use handfast_proto::otlp::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};

use super::attributes::Attributes;
use super::{ids, nanos, resource, scope};
use crate::protocol::view::{Layer, SegmentView, SpanKind, SpanLog, SpanRef, SpanView};

pub(super) fn tell(segment: SegmentView) -> ResourceSpans {
    let SegmentView { trace_id, segment_id, service, instance, spans, .. } = segment;
    // What OAP makes of it: a function is filed apart, everything else an agent reports is general.
    let is_function = spans.iter().any(|span| span.layer == Layer::Faas);
    let layer = if is_function { "FAAS" } else { "" };
    let told = spans.into_iter().map(|span| tell_span(&trace_id, &segment_id, span)).collect();
    ResourceSpans {
        resource: Some(resource(service, instance, layer.to_owned())),
        scope_spans: vec![ScopeSpans {
            scope: Some(scope()),
            spans: told,
            ..ScopeSpans::default()
        }],
        ..ResourceSpans::default()
    }
}

fn tell_span(trace_id: &str, segment_id: &str, span: SpanView) -> Span {
    let SpanView { id, parent, operation, kind, layer, component, peer, refs, .. } = span;
    let mut attributes = Attributes::default();
    attributes.text("sw8.trace_id", trace_id);
    attributes.text("sw8.segment_id", segment_id);
    attributes.text("sw8.span_id", id.clone());
    attributes.some("sw8.component_id", component);
    if layer != Layer::Unknown {
        attributes.text("sw8.span_layer", layer.as_str());
    }
    // Whom an exit dialled, and who dialled an entry.
    let side = if kind == SpanKind::Exit { "server" } else { "network.peer" };
    attributes.address(side, &peer);
    let trace = ids::trace(trace_id);
    let mut refs = refs.into_iter().peekable();
    let parent_id = match parent {
        Some(parent) if parent != id => ids::span(segment_id, &parent),
        // A span has one parent, in its own trace; what else it continues, it is linked with.
        _ => match refs.next_if(|reference| ids::trace(&reference.trace_id) == trace) {
            Some(reference) => {
                let parent = ids::span(&reference.segment_id, &reference.span_id);
                tell_ref(&reference, &mut attributes);
                parent
            }
            None => Vec::new(),
        },
    };
    let links = refs.map(link).collect();
    for tag in span.tags {
        attributes.tag(tag, TAGS);
    }
    let code = if span.is_error { StatusCode::Error } else { StatusCode::Unset };
    Span {
        trace_id: trace,
        span_id: ids::span(segment_id, &id),
        parent_span_id: parent_id,
        name: operation,
        kind: tell_kind(kind, layer).into(),
        start_time_unix_nano: nanos(span.start_ms),
        end_time_unix_nano: nanos(span.end_ms),
        attributes: attributes.finish(),
        events: span.logs.into_iter().map(event).collect(),
        links,
        status: Some(Status { message: String::new(), code: code.into() }),
        ..Span::default()
    }
}

fn tell_kind(kind: SpanKind, layer: Layer) -> Kind {
    match (kind, layer) {
        (SpanKind::Entry, Layer::Mq) => Kind::Consumer,
        (SpanKind::Entry, _) => Kind::Server,
        (SpanKind::Exit, Layer::Mq) => Kind::Producer,
        (SpanKind::Exit, _) => Kind::Client,
        (SpanKind::Local, _) => Kind::Internal,
    }
}

fn link(reference: SpanRef) -> Link {
    let mut attributes = Attributes::default();
    tell_ref(&reference, &mut attributes);
    attributes.text("sw8.trace_id", reference.trace_id.clone());
    Link {
        trace_id: ids::trace(&reference.trace_id),
        span_id: ids::span(&reference.segment_id, &reference.span_id),
        attributes: attributes.finish(),
        ..Link::default()
    }
}

/// Who called, as the caller said.
fn tell_ref(reference: &SpanRef, attributes: &mut Attributes) {
    let SpanRef { segment_id, span_id, service, instance, endpoint, address, same_process, .. } =
        reference;
    attributes.text("refType", if *same_process { "CrossThread" } else { "CrossProcess" });
    attributes.some("parent.service", service.as_str());
    attributes.some("parent.service.instance", instance.as_str());
    attributes.some("parent.endpoint", endpoint.as_str());
    attributes.text("sw8.parent_segment_id", segment_id.as_str());
    attributes.text("sw8.parent_span_id", span_id.as_str());
    attributes.some("network.AddressUsedAtPeer", address.as_str());
}

/// Agents log what was thrown under names of their own.
fn event(log: SpanLog) -> Event {
    let SpanLog { time_ms, fields } = log;
    let thrown = fields.iter().any(|field| matches!(&*field.key, "error.kind" | "stack"));
    let mut name = if thrown { "exception" } else { "log" }.to_owned();
    let mut attributes = Attributes::default();
    for field in fields {
        if field.key == "event" && name == "log" {
            name = field.value;
        } else if thrown {
            attributes.tag(field, THROWN);
        } else {
            attributes.tag(field, &[]);
        }
    }
    Event {
        time_unix_nano: nanos(time_ms),
        name,
        attributes: attributes.finish(),
        ..Event::default()
    }
}

/// Tags that all agents use, and their names in the semantic conventions.
const TAGS: &[(&str, &str)] = &[
    ("cache.cmd", "db.operation.name"),
    ("cache.type", "db.system.name"),
    ("db.instance", "db.namespace"),
    ("db.statement", "db.query.text"),
    ("db.type", "db.system.name"),
    ("http.method", "http.request.method"),
    ("http.status_code", "http.response.status_code"),
    ("mq.queue", "messaging.destination.name"),
    ("mq.topic", "messaging.destination.name"),
    ("status_code", "http.response.status_code"),
    ("url", "url.full"),
];

/// The same for what was thrown.
const THROWN: &[(&str, &str)] = &[
    ("error.kind", "exception.type"),
    ("message", "exception.message"),
    ("stack", "exception.stacktrace"),
];
