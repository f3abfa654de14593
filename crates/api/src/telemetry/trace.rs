//! One trace, whole: its segments and their spans.

use std::collections::HashSet;

use handfast_telemetry::keep::{KeepError, KeepReader};
use handfast_telemetry::protocol::view;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::logs::{LogLine, LogSearch};
use crate::access::{About, Target};

/// `GET /v1/trace`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TraceWanted {
    /// Its id.
    pub id: String,
    /// Without what was logged in it: `false`.
    #[serde(default = "yes")]
    pub logs: bool,
}

fn yes() -> bool {
    true
}

impl About for TraceWanted {
    fn about(&self) -> Vec<Target> {
        vec![Target::Site]
    }
}

/// A trace.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Trace {
    /// Its id.
    pub trace_id: String,
    /// Each segment once, by when it began.
    pub segments: Vec<SegmentView>,
    /// What was logged in it, the earliest first; the newest of it if there is much.
    #[serde(default)]
    pub logs: Vec<LogLine>,
    /// There are more lines than these.
    #[serde(default)]
    pub more_logs: bool,
}

/// What one instance did in a trace.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct SegmentView {
    /// Its id.
    pub segment_id: String,
    /// The service.
    pub service: String,
    /// The instance of it.
    pub instance: String,
    /// Who reported it: the identity of the certificate, empty without one.
    pub reporter: String,
    /// The spans, as they came.
    pub spans: Vec<SpanView>,
    /// Spans, tags, logs and references that were too many to show.
    pub left_out: usize,
}

/// A piece of work.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct SpanView {
    /// Unique within the segment.
    pub id: String,
    /// The span that it is a part of, if it is.
    pub parent: Option<String>,
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// How many microseconds it took, as fine as the protocol tells.
    pub duration: i64,
    /// What was done.
    pub operation: String,
    /// The address of the other side.
    pub peer: String,
    /// `Entry`, `Exit` or `Local`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What kind of thing was spoken to.
    pub layer: String,
    /// Which library did it.
    pub component: String,
    /// Whether it failed.
    pub error: bool,
    /// Its tags, as they came.
    pub tags: Vec<TagView>,
    /// What happened meanwhile.
    pub logs: Vec<SpanLogView>,
    /// The spans of other segments that it continues.
    pub refs: Vec<RefView>,
}

/// A name with a text.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TagView {
    /// The name.
    pub key: String,
    /// The text.
    pub value: String,
}

/// What happened during a span.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct SpanLogView {
    /// When.
    pub time: Timestamp,
    /// What.
    pub fields: Vec<TagView>,
}

/// A span of another segment.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RefView {
    /// Its trace.
    pub trace_id: String,
    /// Its segment; empty where ids of spans are enough.
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

/// A trace as these stores have it; `None` if none of them has anything of it.
pub fn trace(readers: &[KeepReader], wanted: &TraceWanted) -> Result<Option<Trace>, KeepError> {
    let mut segments = Vec::new();
    let mut seen = HashSet::new();
    for reader in readers {
        for record in reader.trace_records(&wanted.id)? {
            let reporter = String::from_utf8_lossy(&record.reporter).into_owned();
            // What is kept was read before it was taken; what cannot be read now is left out.
            for view in view::SegmentView::of(record.kind, &record.body).unwrap_or_default() {
                if view.trace_id == wanted.id && seen.insert(view.segment_id.clone()) {
                    segments.push((view.start_ms, segment(view, &reporter)));
                }
            }
        }
    }
    segments.sort_by_key(|(start, _)| *start);
    let segments: Vec<SegmentView> = segments.into_iter().map(|(_, segment)| segment).collect();
    if segments.is_empty() {
        return Ok(None);
    }
    let mut logs = Vec::new();
    if wanted.logs {
        let trace = Some(wanted.id.clone());
        let search = LogSearch { trace, limit: Some(MOST_LOGS + 1), ..LogSearch::default() };
        logs = super::logs::logs(readers, &search)?;
    }
    let more_logs = logs.len() > MOST_LOGS;
    logs.truncate(MOST_LOGS);
    logs.reverse();
    Ok(Some(Trace { trace_id: wanted.id.clone(), segments, logs, more_logs }))
}

fn segment(view: view::SegmentView, reporter: &str) -> SegmentView {
    SegmentView {
        segment_id: view.segment_id,
        service: view.service,
        instance: view.instance,
        reporter: reporter.to_owned(),
        spans: view.spans.into_iter().map(span).collect(),
        left_out: view.left_out,
    }
}

fn span(view: view::SpanView) -> SpanView {
    SpanView {
        id: view.id,
        parent: view.parent,
        start: at(view.start_ms),
        end: at(view.end_ms),
        duration: view.duration_us,
        operation: view.operation,
        peer: view.peer,
        kind: view.kind.as_str().to_owned(),
        layer: view.layer.as_str().to_owned(),
        component: view.component,
        error: view.is_error,
        tags: view.tags.into_iter().map(tag).collect(),
        logs: view
            .logs
            .into_iter()
            .map(|log| SpanLogView {
                time: at(log.time_ms),
                fields: log.fields.into_iter().map(tag).collect(),
            })
            .collect(),
        refs: view
            .refs
            .into_iter()
            .map(|it| RefView {
                trace_id: it.trace_id,
                segment_id: it.segment_id,
                span_id: it.span_id,
                service: it.service,
                instance: it.instance,
                endpoint: it.endpoint,
                address: it.address,
                same_process: it.same_process,
            })
            .collect(),
    }
}

fn tag(tag: view::Tag) -> TagView {
    TagView { key: tag.key, value: tag.value }
}

/// A time that an agent made up is shown as the earliest or the latest there is.
fn at(milliseconds: i64) -> Timestamp {
    let outside = if milliseconds < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_millisecond(milliseconds).unwrap_or(outside)
}

/// Lines of log with a trace; `GET /v1/logs` has all.
const MOST_LOGS: usize = 200;
