//! Lines of log: which are wanted, and what was found.

use handfast_telemetry::keep::{KeepError, KeepReader, LogQuery};
use handfast_telemetry::protocol::view;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};

use super::pairs::Pairs;
use super::trace::TagView;
use super::traces::{split, tags};
use crate::access::{About, Target};

/// `GET /v1/logs`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename_all = "camelCase", default))]
pub struct LogSearch {
    /// Of this service.
    pub service: Option<String>,
    /// Of this instance.
    pub instance: Option<String>,
    /// Of this endpoint.
    pub endpoint: Option<String>,
    /// Of this trace.
    pub trace: Option<String>,
    /// Not before.
    pub from: Option<Timestamp>,
    /// Not after.
    pub to: Option<Timestamp>,
    /// With this tag, as `key=value`; may be given several times.
    pub tag: Vec<String>,
    /// With this in what they say.
    pub text: Option<String>,
    /// How many; 100 if nothing is said.
    pub limit: Option<usize>,
}

const FIELDS: &[&str] =
    &["service", "instance", "endpoint", "trace", "from", "to", "tag", "text", "limit"];

impl About for LogSearch {
    fn about(&self) -> Vec<Target> {
        vec![Target::Site]
    }
}

impl<'de> Deserialize<'de> for LogSearch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut pairs = Pairs::of(deserializer)?;
        let search = Self {
            service: pairs.take("service")?,
            instance: pairs.take("instance")?,
            endpoint: pairs.take("endpoint")?,
            trace: pairs.take("trace")?,
            from: pairs.take("from")?,
            to: pairs.take("to")?,
            tag: tags(pairs.take_all("tag")?),
            text: pairs.take("text")?,
            limit: pairs.take("limit")?,
        };
        pairs.end(FIELDS)?;
        Ok(search)
    }
}

impl LogSearch {
    /// As the fields of a query.
    pub fn pairs(&self) -> Vec<(&'static str, String)> {
        let mut pairs = Vec::new();
        let mut add = |name, value: Option<String>| pairs.extend(value.map(|value| (name, value)));
        add("service", self.service.clone());
        add("instance", self.instance.clone());
        add("endpoint", self.endpoint.clone());
        add("trace", self.trace.clone());
        add("from", self.from.map(|at| at.to_string()));
        add("to", self.to.map(|at| at.to_string()));
        self.tag.iter().for_each(|tag| add("tag", Some(tag.clone())));
        add("text", self.text.clone());
        add("limit", self.limit.map(|limit| limit.to_string()));
        pairs
    }
}

/// A line of log.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct LogLine {
    /// When.
    pub time: Timestamp,
    /// By which service.
    pub service: String,
    /// By which instance.
    pub instance: String,
    /// In which endpoint, if that is known.
    pub endpoint: String,
    /// In which trace, if in one.
    pub trace_id: String,
    /// In which segment of it; empty for OpenTelemetry.
    #[serde(default)]
    pub segment_id: String,
    /// In which span.
    #[serde(default)]
    pub span_id: String,
    /// How grave it is, in the words of whoever wrote it.
    #[serde(default)]
    pub level: String,
    /// What it says.
    pub text: String,
    /// Its tags, such as `level`.
    pub tags: Vec<TagView>,
}

/// The lines in these stores that are wanted, the newest first.
pub fn logs(readers: &[KeepReader], search: &LogSearch) -> Result<Vec<LogLine>, KeepError> {
    let limit = search.limit.filter(|limit| *limit > 0).unwrap_or(USUAL);
    let query = LogQuery {
        endpoint: search.endpoint.clone(),
        from: search.from,
        instance: search.instance.clone(),
        limit,
        service: search.service.clone(),
        tags: split(&search.tag),
        text: search.text.clone(),
        to: search.to,
        trace_id: search.trace.clone(),
    };
    let mut lines = Vec::new();
    for reader in readers {
        lines.extend(reader.logs(&query)?.into_iter().map(line));
    }
    lines.sort_by_key(|line| std::cmp::Reverse(line.time));
    lines.truncate(limit);
    Ok(lines)
}

fn line(log: view::LogView) -> LogLine {
    let mut level = log.level;
    if level.is_empty() {
        // Written otherwise by some.
        let tag = log.tags.iter().find(|tag| tag.key.eq_ignore_ascii_case("level"));
        level = tag.map(|tag| tag.value.clone()).unwrap_or_default();
    }
    let tag = |tag: view::Tag| TagView { key: tag.key, value: tag.value };
    LogLine {
        time: Timestamp::from_millisecond(log.time_ms).unwrap_or_default(),
        service: log.service,
        instance: log.instance,
        endpoint: log.endpoint,
        trace_id: log.trace_id,
        segment_id: log.segment_id,
        span_id: log.span_id,
        level,
        text: log.content,
        tags: log.tags.into_iter().map(tag).collect(),
    }
}

/// Lines if nobody says how many.
const USUAL: usize = 100;
