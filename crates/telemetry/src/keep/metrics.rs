//! Metrics: which there are, and their values over time. What a runtime reports of itself has the names that
//! Prometheus' clients give it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::KeepError;
use super::measured::{Measured, measured, runtime_names};
use super::reader::{KeepReader, Records};
use super::scan::{Wanted, time};
use crate::protocol::view::{MeterValue, Tag};
use crate::{Record, RecordKind};

/// Which values are wanted.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct MetricQuery {
    /// Not before.
    pub from: Option<Timestamp>,
    /// Of this instance.
    pub instance: Option<String>,
    /// How many points together; 0 is 1,000. The newest are taken.
    pub limit: usize,
    /// Of this metric.
    pub name: Option<String>,
    /// Of this service.
    pub service: Option<String>,
    /// Not after.
    pub to: Option<Timestamp>,
}

/// A metric that somebody reports.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MetricName {
    /// By how many instances.
    pub instances: usize,
    /// When its newest value is from.
    pub last_seen: Timestamp,
    /// What it is called.
    pub name: String,
}

/// The values of one metric of one instance, with one set of labels.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricSeries {
    /// Of which instance.
    pub instance: String,
    /// Its labels.
    pub labels: Vec<Tag>,
    /// What it is called.
    pub name: String,
    /// Its values, the oldest first.
    pub points: Vec<(Timestamp, f64)>,
    /// Of which service.
    pub service: String,
}

impl MetricSeries {
    /// Its newest value.
    pub fn latest(&self) -> Option<(Timestamp, f64)> {
        self.points.last().copied()
    }
}

impl KeepReader {
    /// The metrics that a service reports, by name.
    pub fn metric_names(&self, service: &str) -> Result<Vec<MetricName>, KeepError> {
        let mut names: BTreeMap<String, (i64, BTreeSet<String>)> = BTreeMap::new();
        self.summaries(|_, of, summary| {
            if of.at(summary.group.service) != service {
                return;
            }
            let own = [of.at(summary.group.subject)];
            let kind = RecordKind::try_from(summary.group.kind);
            let told: &[&str] = match kind {
                Ok(RecordKind::Meter | RecordKind::OtlpMetrics) => &own,
                Ok(kind) => runtime_names(kind),
                Err(_) => return,
            };
            for name in told {
                let (last, instances) = names.entry((*name).to_owned()).or_default();
                *last = summary.last.max(*last);
                instances.insert(of.at(summary.group.instance).to_owned());
            }
        })?;
        let names = names.into_iter().map(|(name, (last, instances))| MetricName {
            instances: instances.len(),
            last_seen: time(last),
            name,
        });
        Ok(names.collect())
    }

    /// The values that are wanted, by service, instance, name and labels.
    pub fn metrics(&self, query: &MetricQuery) -> Result<Vec<MetricSeries>, KeepError> {
        let limit = if query.limit == 0 { USUAL } else { query.limit.min(MOST) };
        let mut records = Records::default();
        let mut points: Vec<Point> = Vec::new();
        for part in self.parts.newest_first() {
            let oldest = points.last().filter(|_| points.len() >= limit).map(|it| it.time);
            if oldest.is_some_and(|oldest| time(part.times().last_end) < oldest) {
                continue;
            }
            let mut rows = Vec::new();
            for wanted in query.wanted() {
                wanted.each(&self.parts, &part, |_, row| rows.push((row.end(), row.at)))?;
            }
            rows.sort_unstable_by_key(|row| std::cmp::Reverse(*row));
            rows.dedup_by_key(|(_, at)| *at);
            // Each record has a point at least, unless it is of another name.
            for (end, at) in rows {
                if points.len() >= limit.saturating_mul(2) {
                    newest(&mut points, limit);
                }
                if points.len() >= limit && points.last().is_some_and(|it| time(end) < it.time) {
                    break;
                }
                let Some(record) = records.record(&part, at)? else { continue };
                read(&record, &mut |point| {
                    if query.takes(&point) {
                        points.push(point);
                    }
                });
            }
            newest(&mut points, limit);
        }
        let mut series: BTreeMap<_, Vec<(Timestamp, f64)>> = BTreeMap::new();
        for Point { service, instance, name, labels, time, value } in points.into_iter().rev() {
            series.entry((service, instance, name, labels)).or_default().push((time, value));
        }
        let series = series.into_iter().map(|((service, instance, name, labels), points)| {
            MetricSeries { instance, labels, name, points, service }
        });
        Ok(series.collect())
    }
}

impl MetricQuery {
    /// Meters are found by their name, what a runtime reports is of all its names at once.
    fn wanted(&self) -> [Wanted<'_>; 2] {
        let of = |kinds, subject| Wanted {
            kinds,
            service: self.service.as_deref(),
            instance: self.instance.as_deref(),
            subject,
            from: self.from,
            to: self.to,
            ..Wanted::default()
        };
        let of_runtime = |kind: &RecordKind| {
            self.name.as_deref().is_none_or(|name| runtime_names(*kind).contains(&name))
        };
        // The names of two runtimes differ, so it is all of them, one or none.
        let runtimes = match (of_runtime(&RUNTIMES[0]), of_runtime(&RUNTIMES[1])) {
            (true, true) => &RUNTIMES[..],
            (true, false) => &RUNTIMES[..1],
            (false, true) => &RUNTIMES[1..],
            (false, false) => &[],
        };
        [
            of(&[RecordKind::Meter, RecordKind::OtlpMetrics], self.name.as_deref()),
            of(runtimes, None),
        ]
    }

    fn takes(&self, point: &Point) -> bool {
        fn is(wanted: Option<&String>, name: &str) -> bool {
            wanted.is_none_or(|wanted| wanted == name)
        }
        is(self.service.as_ref(), &point.service)
            && is(self.instance.as_ref(), &point.instance)
            && is(self.name.as_ref(), &point.name)
            && self.from.is_none_or(|from| point.time >= from)
            && self.to.is_none_or(|to| point.time <= to)
    }
}

/// One value.
#[derive(Clone, Debug, PartialEq)]
struct Point {
    service: String,
    instance: String,
    name: String,
    labels: Vec<Tag>,
    time: Timestamp,
    value: f64,
}

/// Calls `found` with each number in a record; a histogram is several.
fn read(record: &Record, found: &mut dyn FnMut(Point)) {
    measured(record, &mut |it| {
        let Measured { at: time, instance, labels, name, service, value, .. } = it;
        let point = Point { service, instance, name, labels, time, value: 0.0 };
        match value {
            MeterValue::Single(value) => found(Point { value, ..point }),
            MeterValue::Histogram { buckets, sum } => {
                for bucket in buckets {
                    let mut labels = point.labels.clone();
                    labels.push(tag("from", &bucket.from.to_string()));
                    found(Point { labels, value: float(bucket.count), ..point.clone() });
                }
                if let Some(value) = sum {
                    let mut labels = point.labels.clone();
                    labels.push(tag("of", "sum"));
                    found(Point { labels, value, ..point });
                }
            }
        }
    });
}

fn tag(key: &str, value: &str) -> Tag {
    Tag { key: key.to_owned(), value: value.to_owned() }
}

#[expect(clippy::cast_precision_loss, reason = "a metric is a float; beyond 2^53 it is rounded")]
fn float(number: u64) -> f64 {
    number as f64
}

/// The newest points, newest first.
fn newest(points: &mut Vec<Point>, limit: usize) {
    points.sort_by_key(|point| std::cmp::Reverse(point.time));
    points.truncate(limit);
}

/// Points if nobody says how many, and at most.
const USUAL: usize = 1000;
const MOST: usize = 1_000_000;

/// The kinds of records in which a runtime tells its state.
const RUNTIMES: [RecordKind; 2] = [RecordKind::JvmMetrics, RecordKind::ClrMetrics];
