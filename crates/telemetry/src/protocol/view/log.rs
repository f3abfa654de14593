//! Lines of log.

use super::spans::{id, numbered, scope_name};
use super::{Room, Tag, ms, push_attribute, push_pair};
use crate::RecordKind;
use crate::protocol::claim::name;
use crate::protocol::otlp::{AttributeValue, Resource, hex};
use crate::protocol::wire::{Fields, Malformed};

/// One line of log.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LogView {
    /// When it was written, in milliseconds since 1970; 0 where nobody said.
    pub time_ms: i64,
    /// The service.
    pub service: String,
    /// The instance of the service.
    pub instance: String,
    /// The endpoint that was being served.
    pub endpoint: String,
    /// The trace it was written in; empty where there was none.
    pub trace_id: String,
    /// The segment; empty for OpenTelemetry.
    pub segment_id: String,
    /// The span.
    pub span_id: String,
    /// How grave it is, in the words of whoever wrote it.
    pub level: String,
    /// The layer that the service belongs to.
    pub layer: String,
    /// What the content is written in.
    pub format: Format,
    /// What it says.
    pub content: String,
    /// Its tags.
    pub tags: Vec<Tag>,
}

/// What the content of a line is written in.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[expect(missing_docs, reason = "each is its own name")]
pub enum Format {
    Json,
    #[default]
    Text,
    Yaml,
}

impl LogView {
    /// The lines of a record of logs: one, or all of a resource up to [`MAX_ITEMS`](super::MAX_ITEMS);
    /// none where the record holds something else.
    pub fn of(kind: RecordKind, body: &[u8]) -> Result<Vec<Self>, Malformed> {
        match kind {
            RecordKind::Log => Ok(vec![line(body)?]),
            RecordKind::OtlpLogs => records(body),
            _ => Ok(Vec::new()),
        }
    }
}

fn line(body: &[u8]) -> Result<LogView, Malformed> {
    let (mut view, mut room) = (LogView::default(), Room::new());
    for field in Fields::of("LogData", body) {
        let field = field?;
        match field.number {
            1 => view.time_ms = field.int64("timestamp")?,
            2 => view.service = name(&field, "service")?.into(),
            3 => view.instance = name(&field, "serviceInstance")?.into(),
            4 => view.endpoint = field.text("endpoint")?.into(),
            5 => content(field.nested("body", "LogDataBody")?, &mut view)?,
            6 => trace(field.nested("traceContext", "TraceContext")?, &mut view)?,
            7 => {
                for tag in numbered(field.nested("tags", "LogTags")?, 1) {
                    let tag = tag?.nested("data", "KeyStringValuePair")?;
                    push_pair(&mut view.tags, tag, &mut room)?;
                }
            }
            8 => view.layer = field.text("layer")?.into(),
            _ => {}
        }
    }
    if let Some(level) = view.tags.iter().find(|tag| tag.key == "level") {
        view.level.clone_from(&level.value);
    }
    Ok(view)
}

fn content(fields: Fields<'_>, view: &mut LogView) -> Result<(), Malformed> {
    for field in fields {
        let field = field?;
        view.format = match field.number {
            2 => Format::Text,
            3 => Format::Json,
            4 => Format::Yaml,
            _ => continue,
        };
        for text in numbered(field.nested("content", "TextLog")?, 1) {
            view.content = text?.text("text")?.into();
        }
    }
    Ok(())
}

fn trace(fields: Fields<'_>, view: &mut LogView) -> Result<(), Malformed> {
    // A span of number 0 is not sent.
    "0".clone_into(&mut view.span_id);
    for field in fields {
        let field = field?;
        match field.number {
            1 => view.trace_id = field.text("traceId")?.into(),
            2 => view.segment_id = field.text("traceSegmentId")?.into(),
            3 => view.span_id = field.int32("spanId")?.to_string(),
            _ => {}
        }
    }
    Ok(())
}

fn records(body: &[u8]) -> Result<Vec<LogView>, Malformed> {
    let resource = Resource::of("ResourceLogs", body)?;
    let (mut views, mut room) = (Vec::new(), Room::new());
    for scope in numbered(Fields::of("ResourceLogs", body), 2) {
        let scope = scope?.nested("scopeLogs", "ScopeLogs")?;
        let library = scope_name(scope.clone())?;
        for record in numbered(scope, 2) {
            let record = record?.nested("logRecords", "LogRecord")?;
            if !room.take() {
                return Ok(views);
            }
            let mut view = LogView {
                service: resource.service().into_owned(),
                instance: resource.instance.to_owned(),
                ..LogView::default()
            };
            if !library.is_empty() && room.take() {
                let (key, value) = ("scope".to_owned(), library.to_owned());
                view.tags.push(Tag { key, value });
            }
            fill(record, &mut view, &mut room)?;
            views.push(view);
        }
    }
    Ok(views)
}

fn fill(record: Fields<'_>, view: &mut LogView, room: &mut Room) -> Result<(), Malformed> {
    let mut observed_ms = 0;
    let mut severity = 0;
    for field in record {
        let field = field?;
        match field.number {
            1 => view.time_ms = ms(field.fixed64("timeUnixNano")?),
            2 => severity = field.int32("severityNumber")?,
            3 => view.level = field.text("severityText")?.into(),
            5 => {
                let value = AttributeValue::of(field.nested("body", "AnyValue")?)?;
                view.content = value.to_text().into_owned();
            }
            6 => push_attribute(&mut view.tags, field.nested("attributes", "KeyValue")?, room)?,
            9 => view.trace_id = hex(id(&field, "traceId")?),
            10 => view.span_id = hex(id(&field, "spanId")?),
            11 => observed_ms = ms(field.fixed64("observedTimeUnixNano")?),
            _ => {}
        }
    }
    if view.time_ms == 0 {
        view.time_ms = observed_ms;
    }
    if view.level.is_empty() {
        level(severity).clone_into(&mut view.level);
    }
    Ok(())
}

/// Four steps to each word.
fn level(severity: i32) -> &'static str {
    match severity {
        1..=4 => "TRACE",
        5..=8 => "DEBUG",
        9..=12 => "INFO",
        13..=16 => "WARN",
        17..=20 => "ERROR",
        21..=24 => "FATAL",
        _ => "",
    }
}
