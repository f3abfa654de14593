//! Spans of Zipkin in OpenTelemetry's words, put together by who says them and of which trace.

use std::collections::HashMap;

use bytes::Bytes;
use handfast_proto::otlp::common::v1::InstrumentationScope;
use handfast_proto::otlp::resource::v1::Resource;
use handfast_proto::otlp::trace::v1::span::{Event, SpanKind};
use handfast_proto::otlp::trace::v1::status::StatusCode;
use handfast_proto::otlp::trace::v1::{ResourceSpans, ScopeSpans, Span as OtlpSpan, Status};
use jiff::Timestamp;
use prost::Message as _;

use super::{Endpoint, Kind, Span};
use crate::protocol::otlp_export::attributes::Attributes;

/// What was told so far.
pub(super) struct Told {
    /// In nanoseconds since 1970.
    received: u64,
    places: HashMap<Reporter, usize>,
    groups: Vec<(Reporter, Vec<ScopeSpans>)>,
}

/// Who says something, and of which trace.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Reporter {
    namespace: String,
    service: String,
    instance: String,
    trace_id: [u8; 16],
}

impl Told {
    pub(super) fn new(received: Timestamp) -> Self {
        Self {
            received: u64::try_from(received.as_nanosecond()).unwrap_or_default(),
            places: HashMap::new(),
            groups: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, mut span: Span<'_>) {
        let mut own = |name: &str| {
            let at = span.tags.iter().position(|(key, _)| key == name)?;
            Some(span.tags.remove(at).1.into_owned())
        };
        let namespace = own("service.namespace").unwrap_or_default();
        let instance = own("service.instance.id");
        let mut library = |newer, older| own(newer).or_else(|| own(older)).unwrap_or_default();
        let name = library("otel.scope.name", "otel.library.name");
        let version = library("otel.scope.version", "otel.library.version");
        let reporter = Reporter {
            namespace,
            service: span.local.service.clone().into_owned(),
            instance: instance.unwrap_or_else(|| span.local.place()),
            trace_id: span.trace_id,
        };
        let name = if name.is_empty() { ZIPKIN.to_owned() } else { name };
        let span = self.tell(span);
        let at = *self.places.entry(reporter.clone()).or_insert(self.groups.len());
        if at == self.groups.len() {
            self.groups.push((reporter, Vec::new()));
        }
        let Some((_, scopes)) = self.groups.get_mut(at) else { return };
        // Neighbours mostly are of one library.
        let scope = InstrumentationScope { name, version, ..InstrumentationScope::default() };
        match scopes.last_mut() {
            Some(known) if known.scope.as_ref() == Some(&scope) => known.spans.push(span),
            _ => scopes.push(ScopeSpans {
                scope: Some(scope),
                spans: vec![span],
                ..ScopeSpans::default()
            }),
        }
    }

    pub(super) fn finish(self) -> Vec<Bytes> {
        let groups = self.groups.into_iter();
        groups
            .map(|(reporter, scope_spans)| {
                let mut attributes = Attributes::default();
                attributes.some("service.name", reporter.service);
                attributes.some("service.namespace", reporter.namespace);
                attributes.some("service.instance.id", reporter.instance);
                let attributes = attributes.finish();
                let resource = Some(Resource { attributes, ..Resource::default() });
                let told = ResourceSpans { resource, scope_spans, ..ResourceSpans::default() };
                Bytes::from(told.encode_to_vec())
            })
            .collect()
    }

    fn tell(&self, span: Span<'_>) -> OtlpSpan {
        let first = span.annotations.iter().map(|(at, _)| *at).filter(|at| *at > 0).min();
        let said = if span.timestamp > 0 { Some(span.timestamp) } else { first };
        let start = said.map_or(self.received, nanos);
        let mut attributes = Attributes::default();
        let (mut status, mut trace_state) = (Status::default(), String::new());
        for (key, value) in span.tags {
            match &*key {
                "error" if value != "false" => {
                    status.code = StatusCode::Error.into();
                    if status.message.is_empty() && !value.is_empty() && value != "true" {
                        status.message = value.clone().into_owned();
                    }
                    // It is what people look for, too.
                    attributes.text("error", value);
                }
                "otel.status_code" => status.code = status_code(&value, status.code),
                "otel.status_description" => status.message = value.into_owned(),
                "w3c.tracestate" => trace_state = value.into_owned(),
                _ => attributes.text(&key, value),
            }
        }
        attributes.missing("peer.service", span.remote.service.clone());
        endpoint(&mut attributes, "network.peer", &span.remote);
        endpoint(&mut attributes, "network.local", &span.local);
        if said.is_none() {
            attributes.flag(ABSENT_START);
        }
        if span.shared {
            attributes.flag("zipkin.shared");
        }
        if span.debug {
            attributes.flag("zipkin.debug");
        }
        let events = span.annotations.into_iter().map(|(at, value)| Event {
            time_unix_nano: nanos(at),
            name: value.into_owned(),
            ..Event::default()
        });
        let is_child = span.parent != [0; 8] && span.parent != span.id;
        OtlpSpan {
            trace_id: span.trace_id.to_vec(),
            span_id: span.id.to_vec(),
            parent_span_id: if is_child { span.parent.to_vec() } else { Vec::new() },
            trace_state,
            name: span.name.into_owned(),
            kind: kind(span.kind).into(),
            start_time_unix_nano: start,
            end_time_unix_nano: start.saturating_add(nanos(span.duration)),
            attributes: attributes.finish(),
            events: events.collect(),
            status: Some(status),
            ..OtlpSpan::default()
        }
    }
}

impl Endpoint<'_> {
    /// Which of a service's it is: its address and the port that it listens at, as far as it says.
    fn place(&self) -> String {
        match (self.address, self.port) {
            (None, _) => String::new(),
            (Some(address), 0) => address.to_string(),
            (Some(address), port) => std::net::SocketAddr::new(address, port).to_string(),
        }
    }
}

fn endpoint(attributes: &mut Attributes, key: &str, endpoint: &Endpoint<'_>) {
    if let Some(address) = endpoint.address {
        attributes.missing(&format!("{key}.address"), address.to_string());
    }
    if endpoint.port > 0 && !attributes.has(&format!("{key}.port")) {
        attributes.int(&format!("{key}.port"), endpoint.port.into());
    }
}

fn kind(kind: Kind) -> SpanKind {
    match kind {
        Kind::Client => SpanKind::Client,
        Kind::Consumer => SpanKind::Consumer,
        Kind::Producer => SpanKind::Producer,
        Kind::Server => SpanKind::Server,
        Kind::Unsaid => SpanKind::Unspecified,
    }
}

/// What exporters of OpenTelemetry write, of either age.
fn status_code(value: &str, known: i32) -> i32 {
    match value {
        "OK" | "STATUS_CODE_OK" => StatusCode::Ok.into(),
        "ERROR" | "STATUS_CODE_ERROR" => StatusCode::Error.into(),
        _ => known,
    }
}

fn nanos(micros: u64) -> u64 {
    micros.saturating_mul(1000)
}

/// As whose work spans are told that name no library.
const ZIPKIN: &str = "zipkin";

/// What other readers of Zipkin put where no time was said.
const ABSENT_START: &str = "otel.zipkin.absentField.startTime";
