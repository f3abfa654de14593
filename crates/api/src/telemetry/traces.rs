//! Lists of traces: which are wanted, and a line for each that is found.

use std::collections::BTreeMap;
use std::time::Duration;

use handfast_telemetry::keep::{KeepError, KeepReader, TraceOrder, TraceQuery, TraceSummary};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer, Serialize};

use super::pairs::{Pairs, TagPair};
use crate::access::{About, Target};

/// `GET /v1/traces`: those with a segment that is all of this.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename_all = "camelCase", default))]
pub struct TraceSearch {
    /// Of this service.
    pub service: Option<String>,
    /// Of this instance.
    pub instance: Option<String>,
    /// With this endpoint.
    pub endpoint: Option<String>,
    /// Not over before.
    pub from: Option<Timestamp>,
    /// Begun not later.
    pub to: Option<Timestamp>,
    /// At least so many milliseconds long.
    pub min_duration: Option<u64>,
    /// At most so many milliseconds long.
    pub max_duration: Option<u64>,
    /// With this tag, as `key=value`; may be given several times.
    pub tag: Vec<String>,
    /// Only with an error: `true`.
    pub errors: bool,
    /// The longest first instead of the newest: `true`.
    pub longest: bool,
    /// How many; 20 if nothing is said.
    pub limit: Option<usize>,
}

const FIELDS: &[&str] = &[
    "service",
    "instance",
    "endpoint",
    "from",
    "to",
    "minDuration",
    "maxDuration",
    "tag",
    "errors",
    "longest",
    "limit",
];

impl About for TraceSearch {
    fn about(&self) -> Vec<Target> {
        vec![Target::Site]
    }
}

impl<'de> Deserialize<'de> for TraceSearch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut pairs = Pairs::of(deserializer)?;
        let search = Self {
            service: pairs.take("service")?,
            instance: pairs.take("instance")?,
            endpoint: pairs.take("endpoint")?,
            from: pairs.take("from")?,
            to: pairs.take("to")?,
            min_duration: pairs.take("minDuration")?,
            max_duration: pairs.take("maxDuration")?,
            tag: tags(pairs.take_all("tag")?),
            errors: pairs.take("errors")?.unwrap_or_default(),
            longest: pairs.take("longest")?.unwrap_or_default(),
            limit: pairs.take("limit")?,
        };
        pairs.end(FIELDS)?;
        Ok(search)
    }
}

impl TraceSearch {
    /// As the fields of a query.
    pub fn pairs(&self) -> Vec<(&'static str, String)> {
        let mut pairs = Vec::new();
        let mut add = |name, value: Option<String>| pairs.extend(value.map(|value| (name, value)));
        add("service", self.service.clone());
        add("instance", self.instance.clone());
        add("endpoint", self.endpoint.clone());
        add("from", self.from.map(|at| at.to_string()));
        add("to", self.to.map(|at| at.to_string()));
        add("minDuration", self.min_duration.map(|ms| ms.to_string()));
        add("maxDuration", self.max_duration.map(|ms| ms.to_string()));
        self.tag.iter().for_each(|tag| add("tag", Some(tag.clone())));
        add("errors", self.errors.then(|| "true".to_owned()));
        add("longest", self.longest.then(|| "true".to_owned()));
        add("limit", self.limit.map(|limit| limit.to_string()));
        pairs
    }

    fn query(&self) -> TraceQuery {
        TraceQuery {
            endpoint: self.endpoint.clone(),
            errors_only: self.errors,
            from: self.from,
            instance: self.instance.clone(),
            limit: self.limit.unwrap_or_default(),
            max_duration: self.max_duration.map(Duration::from_millis),
            min_duration: self.min_duration.map(Duration::from_millis),
            order: if self.longest { TraceOrder::Longest } else { TraceOrder::Newest },
            service: self.service.clone(),
            tags: split(&self.tag),
            to: self.to,
            trace_id: None,
        }
    }
}

/// The tags as they are asked for of a store.
pub(super) fn split(tags: &[String]) -> Vec<(String, String)> {
    let pair = |tag: &String| tag.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()));
    tags.iter().filter_map(pair).collect()
}

pub(super) fn tags(pairs: Vec<TagPair>) -> Vec<String> {
    pairs.into_iter().map(|TagPair(key, value)| format!("{key}={value}")).collect()
}

/// A trace in a list.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct TraceLine {
    /// Its id.
    pub trace_id: String,
    /// When it began.
    pub start: Timestamp,
    /// How many milliseconds it took.
    pub duration: u64,
    /// The service in which it began, as far as that is known.
    pub service: String,
    /// Where in it, as far as that is known.
    pub endpoint: String,
    /// All services in it.
    pub services: Vec<String>,
    /// How many segments there are.
    pub segments: usize,
    /// How many spans there are.
    pub spans: usize,
    /// Segments with an error.
    pub errors: usize,
    /// Whether the segment with which it began is there.
    pub whole: bool,
}

/// The traces in these stores that are wanted, the first ones of them.
pub fn traces(readers: &[KeepReader], search: &TraceSearch) -> Result<Vec<TraceLine>, KeepError> {
    let query = search.query();
    let mut found: BTreeMap<String, TraceSummary> = BTreeMap::new();
    for reader in readers {
        for summary in reader.traces(&query)? {
            match found.get_mut(&summary.trace_id) {
                Some(known) => join(known, summary),
                None => {
                    found.insert(summary.trace_id.clone(), summary);
                }
            }
        }
    }
    let mut found: Vec<TraceSummary> = found.into_values().collect();
    match query.order {
        TraceOrder::Longest => found.sort_by_key(|it| std::cmp::Reverse(it.duration)),
        TraceOrder::Newest => found.sort_by_key(|it| std::cmp::Reverse(it.start)),
    }
    found.truncate(if query.limit == 0 { USUAL } else { query.limit });
    Ok(found.into_iter().map(line).collect())
}

/// A trace of which two stores have a part.
fn join(known: &mut TraceSummary, other: TraceSummary) {
    let end = |it: &TraceSummary| {
        it.start.saturating_add(SignedDuration::try_from(it.duration).unwrap_or_default())
    };
    let last = end(known).unwrap_or(known.start).max(end(&other).unwrap_or(other.start));
    if (other.whole, known.start) > (known.whole, other.start) {
        known.service.clone_from(&other.service);
        known.endpoint.clone_from(&other.endpoint);
    }
    known.start = known.start.min(other.start);
    known.duration = Duration::try_from(last.duration_since(known.start)).unwrap_or_default();
    known.services.extend(other.services);
    known.services.sort();
    known.services.dedup();
    known.segments += other.segments;
    known.spans += other.spans;
    known.errors += other.errors;
    known.whole |= other.whole;
}

fn line(summary: TraceSummary) -> TraceLine {
    TraceLine {
        trace_id: summary.trace_id,
        start: summary.start,
        duration: u64::try_from(summary.duration.as_millis()).unwrap_or(u64::MAX),
        service: summary.service,
        endpoint: summary.endpoint,
        services: summary.services,
        segments: summary.segments,
        spans: summary.spans,
        errors: summary.errors,
        whole: summary.whole,
    }
}

/// Traces in a list if nobody says how many.
const USUAL: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_reads_back_as_it_was_written() {
        let search = TraceSearch {
            service: Some("shop & co".to_owned()),
            from: "2026-11-25T12:00:00Z".parse().ok(),
            min_duration: Some(250),
            tag: vec!["http.status_code=500".to_owned(), "db.statement=a=b, c".to_owned()],
            errors: true,
            limit: Some(7),
            ..TraceSearch::default()
        };
        let text = serde_urlencoded::to_string(search.pairs()).expect("a query");
        assert_eq!(serde_urlencoded::from_str::<TraceSearch>(&text).expect("the same"), search);
        for wrong in ["tag=a", "tag==b", "limit=x", "limit=1&limit=2", "spans=3", "from=now"] {
            assert!(serde_urlencoded::from_str::<TraceSearch>(wrong).is_err(), "{wrong}");
        }
    }
}
