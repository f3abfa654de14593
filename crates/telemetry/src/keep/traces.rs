//! Traces: found by what their segments say, and read back whole.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::facts;
use super::part::Part;
use super::reader::{KeepReader, Records, present};
use super::row::{DUPLICATE, ERROR, ROOT, Row};
use super::scan::{Wanted, time};
use super::{KeepError, MOST_LISTED};
use crate::protocol::view::SegmentView;
use crate::{Record, RecordKind};

/// Which traces are wanted: those with a segment that is all of this.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TraceQuery {
    /// With this endpoint.
    pub endpoint: Option<String>,
    /// Only with an error.
    pub errors_only: bool,
    /// Not over before.
    pub from: Option<Timestamp>,
    /// Of this instance.
    pub instance: Option<String>,
    /// How many; 0 is 20.
    pub limit: usize,
    /// At most this long.
    pub max_duration: Option<Duration>,
    /// At least this long.
    pub min_duration: Option<Duration>,
    /// Which of them, if there are more.
    pub order: TraceOrder,
    /// Of this service.
    pub service: Option<String>,
    /// With each of these tags.
    pub tags: Vec<(String, String)>,
    /// Begun not later.
    pub to: Option<Timestamp>,
    /// Just this one.
    pub trace_id: Option<String>,
}

/// Which traces come first.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum TraceOrder {
    /// That took longest.
    Longest,
    /// That began last.
    #[default]
    Newest,
}

/// A trace in a list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TraceSummary {
    /// From the first span's beginning to the last one's end.
    pub duration: Duration,
    /// Where it began, as far as that is known.
    pub endpoint: String,
    /// Segments with an error.
    pub errors: usize,
    /// How many segments there are.
    pub segments: usize,
    /// The service in which it began, as far as that is known.
    pub service: String,
    /// All services in it.
    pub services: Vec<String>,
    /// How many spans there are.
    pub spans: usize,
    /// When it began.
    pub start: Timestamp,
    /// Its id.
    pub trace_id: String,
    /// The segment with which it began is there.
    pub whole: bool,
}

impl KeepReader {
    /// The traces that are wanted, the first ones of them.
    pub fn traces(&self, query: &TraceQuery) -> Result<Vec<TraceSummary>, KeepError> {
        let limit = if query.limit == 0 { USUAL } else { query.limit.min(MOST_LISTED) };
        let wanted = query.wanted();
        let parts = self.parts.newest_first();
        let mut best = Best::new(limit);
        for part in &parts {
            if query.order == TraceOrder::Newest
                && best.worst().is_some_and(|worst| part.times().last_end < worst)
            {
                continue;
            }
            wanted.each(&self.parts, part, |_, row| {
                if row.trace != 0 {
                    let key = match query.order {
                        TraceOrder::Longest => i64::from(row.duration),
                        TraceOrder::Newest => row.start,
                    };
                    best.offer(Match { key, trace: row.trace, base: part.base(), row: *row });
                }
            })?;
        }
        let mut records = Records::default();
        let mut summaries = Vec::new();
        for found in best.sorted() {
            if let Some(summary) = summary(query, &found, &parts, &mut records)? {
                summaries.push(summary);
            }
        }
        match query.order {
            TraceOrder::Longest => summaries.sort_by_key(|it| std::cmp::Reverse(it.duration)),
            TraceOrder::Newest => summaries.sort_by_key(|it| std::cmp::Reverse(it.start)),
        }
        Ok(summaries)
    }

    /// A trace: each of its segments once, by when it began.
    pub fn trace(&self, trace_id: &str) -> Result<Vec<SegmentView>, KeepError> {
        let mut segments = Vec::new();
        for record in self.trace_records(trace_id)? {
            // What could not be read had no trace id.
            let of_record = SegmentView::of(record.kind, &record.body).unwrap_or_default();
            segments.extend(of_record.into_iter().filter(|it| it.trace_id == trace_id));
        }
        // Zipkin's ids of 64 bits are kept as the 128 that everybody else has.
        if segments.is_empty() && trace_id.len() == 16 {
            return self.trace(&format!("{trace_id:0>32}"));
        }
        segments.sort_by_key(|segment| segment.start_ms);
        Ok(segments)
    }

    /// The records that a trace is in, each once, with what was attached to its spans. Those of
    /// OpenTelemetry may hold other traces besides.
    pub fn trace_records(&self, trace_id: &str) -> Result<Vec<Record>, KeepError> {
        let digest = facts::trace(trace_id);
        let floor = self.parts.floor();
        let mut seen = HashSet::new();
        let mut found = Vec::new();
        let mut records = Records::default();
        'parts: for part in self.parts.newest_first() {
            for row in present(part.of_trace(digest))?.unwrap_or_default() {
                let twice = row.has(DUPLICATE) || (row.id != 0 && !seen.insert(row.id));
                if twice || row.end() < floor || !TRACES.iter().any(|kind| row.is(*kind)) {
                    continue;
                }
                let Some(record) = records.record(&part, row.at)? else { continue };
                found.push((row.start, record));
                if found.len() >= MOST_SEGMENTS {
                    break 'parts;
                }
            }
        }
        found.sort_by_key(|(start, _)| *start);
        Ok(found.into_iter().map(|(_, record)| record).collect())
    }
}

impl TraceQuery {
    fn wanted(&self) -> Wanted<'_> {
        let milliseconds = |duration: Duration| u32::try_from(duration.as_millis());
        let least = self.min_duration.map_or(0, |it| milliseconds(it).unwrap_or(u32::MAX));
        let most = self.max_duration.map_or(u32::MAX, |it| milliseconds(it).unwrap_or(u32::MAX));
        Wanted {
            kinds: &TRACES[..2],
            service: self.service.as_deref(),
            instance: self.instance.as_deref(),
            subject: self.endpoint.as_deref(),
            trace: self.trace_id.as_ref().map(|id| facts::trace(id)),
            from: self.from,
            to: self.to,
            duration: Some((least, most)),
            errors_only: self.errors_only,
            tags: self.tags.iter().map(|(key, value)| facts::tag(key, value)).collect(),
        }
    }
}

/// A segment that is wanted, for its trace.
#[derive(Clone, Copy, Debug)]
struct Match {
    key: i64,
    trace: u64,
    base: u64,
    row: Row,
}

/// The traces with the largest keys, each once, without remembering all.
struct Best {
    limit: usize,
    matches: HashMap<u64, Match>,
    worst: Option<i64>,
}

impl Best {
    fn new(limit: usize) -> Self {
        Self { limit, matches: HashMap::new(), worst: None }
    }

    fn offer(&mut self, new: Match) {
        if self.worst.is_some_and(|worst| new.key < worst) {
            return;
        }
        let old = self.matches.entry(new.trace).or_insert(new);
        if new.key > old.key {
            *old = new;
        }
        if self.matches.len() >= 4 * self.limit + 64 {
            self.prune();
        }
    }

    /// A key below which nothing is wanted any more.
    fn worst(&mut self) -> Option<i64> {
        if self.matches.len() >= self.limit {
            self.prune();
        }
        self.worst
    }

    fn prune(&mut self) {
        let mut keys: Vec<i64> = self.matches.values().map(|it| it.key).collect();
        let Some(last) = self.limit.min(keys.len()).checked_sub(1) else { return };
        let (_, worst, _) = keys.select_nth_unstable_by_key(last, |key| std::cmp::Reverse(*key));
        let worst = *worst;
        self.matches.retain(|_, it| it.key >= worst);
        self.worst = Some(worst);
    }

    fn sorted(self) -> Vec<Match> {
        let mut matches: Vec<Match> = self.matches.into_values().collect();
        matches.sort_by_key(|it| (std::cmp::Reverse(it.key), it.trace));
        matches.truncate(self.limit);
        matches
    }
}

/// What is said of a trace in a list: from the rows of its segments, and one record for its id.
fn summary(
    query: &TraceQuery,
    found: &Match,
    parts: &[Arc<Part>],
    records: &mut Records,
) -> Result<Option<TraceSummary>, KeepError> {
    let Some(own) = parts.iter().find(|part| part.base() == found.base) else { return Ok(None) };
    let Some(record) = records.record(own, found.row.at)? else { return Ok(None) };
    let Some(trace_id) = id_in(&record, found.trace, &query.tags) else { return Ok(None) };
    if query.trace_id.as_ref().is_some_and(|wanted| *wanted != trace_id) {
        return Ok(None);
    }
    let mut seen = HashSet::new();
    let mut services = BTreeSet::new();
    let mut first: Option<(bool, i64, String, String)> = None;
    let (mut start, mut end) = (i64::MAX, i64::MIN);
    let (mut segments, mut spans, mut errors, mut whole) = (0, 0, 0, false);
    for part in parts.iter().filter(|part| near(part, &found.row)) {
        let rows = present(part.of_trace(found.trace))?.unwrap_or_default();
        if rows.is_empty() {
            continue;
        }
        present(part.with_summaries(|names, _| {
            for row in rows {
                let twice = row.has(DUPLICATE) || (row.id != 0 && !seen.insert(row.id));
                if twice || !TRACES[..2].iter().any(|kind| row.is(*kind)) {
                    continue;
                }
                segments += 1;
                spans += usize::from(row.spans);
                errors += usize::from(row.has(ERROR));
                whole |= row.has(ROOT);
                (start, end) = (start.min(row.start), end.max(row.end()));
                let service = names.at(row.service);
                services.insert(service.to_owned());
                // Where it began; else what is known to be the earliest.
                let order = (!row.has(ROOT), row.start);
                if first.as_ref().is_none_or(|(later, at, ..)| order < (*later, *at)) {
                    let endpoint = names.at(row.subject).to_owned();
                    first = Some((order.0, order.1, service.to_owned(), endpoint));
                }
            }
        }))?;
    }
    let Some((.., service, endpoint)) = first else { return Ok(None) };
    Ok(Some(TraceSummary {
        duration: Duration::from_millis(end.saturating_sub(start).max(0).cast_unsigned()),
        endpoint,
        errors,
        segments,
        service,
        services: services.into_iter().collect(),
        spans,
        start: time(start),
        trace_id,
        whole,
    }))
}

/// Whether more of a trace may be in a part. For a list it is enough to look a day around.
fn near(part: &Part, row: &Row) -> bool {
    let times = part.times();
    times.first_start <= row.end().saturating_add(DAY)
        && times.last_end >= row.start.saturating_sub(DAY)
}

/// The trace id with this digest in a record, if it has the tags, and not only others with their digests.
fn id_in(record: &Record, digest: u64, tags: &[(String, String)]) -> Option<String> {
    let segments = SegmentView::of(record.kind, &record.body).ok()?;
    let segment = segments.into_iter().find(|it| facts::trace(&it.trace_id) == digest)?;
    let has = |(key, value): &(String, String)| {
        segment.tags().any(|tag| tag.key == *key && tag.value == *value)
    };
    tags.iter().all(has).then_some(segment.trace_id)
}

/// What makes a trace, and what else belongs to it.
const TRACES: [RecordKind; 3] =
    [RecordKind::Segment, RecordKind::OtlpTraces, RecordKind::SpanAttachedEvent];

/// Traces in a list if nobody says how many.
const USUAL: usize = 20;

/// Segments of a trace that are read; who uses one id for everything gets no more.
const MOST_SEGMENTS: usize = 10_000;

const DAY: i64 = 24 * 3_600_000;
