//! The newest value of each series of metrics: what is offered to whoever scrapes.
//!
//! Nothing of it is done when records are taken. Whoever asks reads what came since somebody asked last, and finds it
//! by the index; so it costs what is measured, and not what is kept. Values are of the time that their agent says: one
//! that comes late, out of a relay's spool, is not taken for one of now.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::KeepError;
use super::digest::wide_digest;
use super::index::Index;
use super::measured::{MEASURED, Measured, measured};
use super::part::Part;
use super::reader::{KeepReader, Parts, Records, present};
use super::row::{DUPLICATE, Row};
use crate::protocol::view::MeterValue;

/// Which newest values are wanted.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NewestQuery {
    /// Not older than this.
    pub from: Option<Timestamp>,
    /// Of this instance.
    pub instance: Option<String>,
    /// Of this metric.
    pub name: Option<String>,
    /// Of this service.
    pub service: Option<String>,
}

/// How many series there are.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SeriesCounts {
    /// Values that were left out because their series was too many or too long, since the store was opened.
    pub left_out: u64,
    /// Series that are fresh; of a histogram each bucket, the sum and the count are one.
    pub series: usize,
}

impl KeepReader {
    /// The newest value of each series that is wanted, by name, service, instance and labels.
    pub fn newest(&self, query: &NewestQuery) -> Result<Vec<Measured>, KeepError> {
        let mut newest = Newest::default();
        let since = query.from.map_or(i64::MIN, Timestamp::as_millisecond);
        newest.read(&self.parts, since.max(self.parts.floor()), query)?;
        Ok(newest.sorted())
    }
}

/// What was found so far.
#[derive(Debug, Default)]
pub(super) struct Newest {
    board: Board,
    /// The part that was read last, and how many of its rows.
    read_to: Option<(u64, usize)>,
}

impl Newest {
    /// Reads what is new; gives what is not stale at this time.
    pub(super) fn fresh(
        &mut self,
        parts: &Parts,
        now: Timestamp,
    ) -> Result<Vec<Measured>, KeepError> {
        let stale = SignedDuration::try_from(STALE_AFTER).unwrap_or(SignedDuration::MAX);
        let since = now.checked_sub(stale).unwrap_or(Timestamp::MIN).as_millisecond();
        self.board.forget_before(since);
        self.read(parts, since, &NewestQuery::default())?;
        Ok(self.sorted())
    }

    pub(super) fn counts(&self) -> SeriesCounts {
        SeriesCounts { left_out: self.board.left_out, series: self.board.series }
    }

    fn sorted(&self) -> Vec<Measured> {
        let mut all: Vec<Measured> = self.board.latest.values().cloned().collect();
        all.sort_by(|a, b| {
            let key = |it: &Measured| (it.name.clone(), it.service.clone(), it.instance.clone());
            key(a).cmp(&key(b)).then_with(|| a.labels.cmp(&b.labels))
        });
        all
    }

    fn read(&mut self, parts: &Parts, since: i64, query: &NewestQuery) -> Result<(), KeepError> {
        let mut found: Vec<(Arc<Part>, Vec<u32>)> = Vec::new();
        let mut read_to = self.read_to;
        for part in parts.all() {
            let begin = match read_to {
                Some((base, _)) if part.base() < base => continue,
                Some((base, rows)) if part.base() == base => rows,
                _ => 0,
            };
            let mut end = begin;
            let mut records = Vec::new();
            if part.times().last_end >= since
                && present(part.holds(&MEASURED, since))?.unwrap_or_default()
            {
                let rows =
                    present(part.with(|index| rows(index, begin, since, query, &mut records)))?;
                end = rows.unwrap_or(begin);
            }
            read_to = Some((part.base(), end));
            found.push((part, records));
        }
        // The newest first: where there is no room for all, they have it; and older ones need not be built anew.
        let (mut files, mut left) = (Records::default(), MOST_READ);
        for (part, records) in found.into_iter().rev() {
            for at in records.into_iter().rev() {
                if left == 0 {
                    break;
                }
                left -= 1;
                let Some(record) = files.record(&part, at)? else { continue };
                let received = record.received;
                measured(&record, &mut |mut value| {
                    // A clock that is ahead does not outlive the others.
                    value.at = value.at.min(received);
                    if value.at.as_millisecond() >= since && query.takes(&value) {
                        self.board.put(value);
                    }
                });
            }
        }
        self.read_to = read_to;
        Ok(())
    }
}

/// Where the records lie in which something was measured, from a row on; says how many rows there are.
fn rows(
    index: &Index<'_>,
    begin: usize,
    since: i64,
    query: &NewestQuery,
    records: &mut Vec<u32>,
) -> usize {
    let number = |name: &Option<String>| name.as_ref().map(|name| index.names.find(name));
    let (service, instance) = (number(&query.service), number(&query.instance));
    let is = |wanted: Option<Option<u32>>, number: u32| {
        wanted.is_none_or(|wanted| wanted == Some(number))
    };
    let mut end = begin;
    for row in index.rows().skip(begin) {
        end += 1;
        if is_measured(&row)
            && row.end() >= since
            && is(service, row.service)
            && is(instance, row.instance)
            && records.last() != Some(&row.at)
        {
            records.push(row.at);
        }
    }
    end
}

fn is_measured(row: &Row) -> bool {
    !row.has(DUPLICATE) && MEASURED.iter().any(|kind| row.is(*kind))
}

impl NewestQuery {
    fn takes(&self, value: &Measured) -> bool {
        fn is(wanted: Option<&String>, name: &str) -> bool {
            wanted.is_none_or(|wanted| wanted == name)
        }
        is(self.service.as_ref(), &value.service)
            && is(self.instance.as_ref(), &value.instance)
            && is(self.name.as_ref(), &value.name)
    }
}

/// The newest values, as many as there may be.
#[derive(Debug, Default)]
struct Board {
    latest: HashMap<u128, Measured>,
    of_service: HashMap<String, usize>,
    series: usize,
    left_out: u64,
}

impl Board {
    fn put(&mut self, value: Measured) {
        let (key, new) = (key(&value), series(&value));
        let service = self.of_service.get(&value.service).copied().unwrap_or_default();
        let entry = self.latest.entry(key);
        let old = match &entry {
            Entry::Occupied(known) if known.get().at >= value.at => return,
            Entry::Occupied(known) => series(known.get()),
            Entry::Vacant(_) => 0,
        };
        let more = |count: usize| count.saturating_sub(old) + new;
        if more(self.series) > MOST_SERIES
            || more(service) > MOST_OF_SERVICE
            || length(&value) > LONGEST_SERIES
        {
            self.left_out += 1;
            return;
        }
        self.series = more(self.series);
        self.of_service.insert(value.service.clone(), more(service));
        match entry {
            Entry::Occupied(mut known) => drop(known.insert(value)),
            Entry::Vacant(place) => drop(place.insert(value)),
        }
    }

    fn forget_before(&mut self, since: i64) {
        self.latest.retain(|_, value| value.at.as_millisecond() >= since);
        self.series = 0;
        self.of_service.clear();
        for value in self.latest.values() {
            self.series += series(value);
            *self.of_service.entry(value.service.clone()).or_default() += series(value);
        }
    }
}

/// What tells a series from all others.
fn key(value: &Measured) -> u128 {
    let mut labels: Vec<_> = value.labels.iter().collect();
    labels.sort();
    let mut parts =
        vec![value.name.as_bytes(), value.service.as_bytes(), value.instance.as_bytes()];
    parts.extend(labels.into_iter().flat_map(|it| [it.key.as_bytes(), it.value.as_bytes()]));
    wide_digest(&parts)
}

/// How many series a value makes.
fn series(value: &Measured) -> usize {
    match &value.value {
        MeterValue::Histogram { buckets, .. } => buckets.len() + 2,
        MeterValue::Single(_) => 1,
    }
}

/// The bytes of its texts.
fn length(value: &Measured) -> usize {
    let Measured { description, instance, labels, name, service, unit, .. } = value;
    let labels: usize = labels.iter().map(|it| it.key.len() + it.value.len()).sum();
    [description, instance, name, service, unit].into_iter().map(String::len).sum::<usize>()
        + labels
}

/// A series of which there was no value for so long is not offered any more: as long as Prometheus itself looks back.
pub const STALE_AFTER: std::time::Duration = std::time::Duration::from_secs(5 * 60);

/// Series of one store.
pub const MOST_SERIES: usize = 50_000;

/// Series of one service: what one makes too many leaves room for the others.
pub const MOST_OF_SERVICE: usize = 10_000;

/// The bytes of one series' texts together.
const LONGEST_SERIES: usize = 2048;

/// Records that are read for one question, the newest of them.
const MOST_READ: usize = 500_000;
