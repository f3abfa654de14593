//! Finding rows: what every question has in common.

use jiff::Timestamp;

use super::KeepError;
use super::index::Names;
use super::part::Part;
use super::reader::{Parts, present};
use super::row::{DUPLICATE, ERROR, Row};
use crate::RecordKind;

/// Which rows are wanted.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted<'a> {
    pub(super) kinds: &'a [RecordKind],
    pub(super) service: Option<&'a str>,
    pub(super) instance: Option<&'a str>,
    pub(super) subject: Option<&'a str>,
    /// The digest of a trace id.
    pub(super) trace: Option<u64>,
    pub(super) from: Option<Timestamp>,
    pub(super) to: Option<Timestamp>,
    /// Milliseconds.
    pub(super) duration: Option<(u32, u32)>,
    pub(super) errors_only: bool,
    /// Digests, each of which it has to have.
    pub(super) tags: Vec<u32>,
}

impl Wanted<'_> {
    /// Calls `found` with each row of a part that is wanted.
    pub(super) fn each(
        &self,
        parts: &Parts,
        part: &Part,
        mut found: impl FnMut(&Names<'_>, &Row),
    ) -> Result<(), KeepError> {
        let from = self.from.map_or(i64::MIN, Timestamp::as_millisecond).max(parts.floor());
        let to = self.to.map_or(i64::MAX, Timestamp::as_millisecond);
        let times = part.times();
        if times.first_start > to || times.last_end < from {
            return Ok(());
        }
        let in_time = |row: &Row| row.start <= to && row.end() >= from;
        if let Some(trace) = self.trace
            && self.tags.is_empty()
        {
            let Some(rows) = present(part.of_trace(trace))? else { return Ok(()) };
            if rows.is_empty() {
                return Ok(());
            }
            present(part.with_summaries(|names, _| {
                let Some(names_wanted) = self.numbers(names) else { return };
                for row in rows.iter().filter(|row| in_time(row) && self.suits(names_wanted, row)) {
                    found(names, row);
                }
            }))?;
            return Ok(());
        }
        present(part.with(|index| {
            let Some(names_wanted) = self.numbers(&index.names) else { return };
            for row in index.rows() {
                if in_time(&row)
                    && self.suits(names_wanted, &row)
                    && index.has_tags(&row, &self.tags)
                {
                    found(&index.names, &row);
                }
            }
        }))?;
        Ok(())
    }

    /// The numbers that the wanted names have there; `None` if one of them is not there at all.
    fn numbers(&self, names: &Names<'_>) -> Option<[Option<u32>; 3]> {
        let mut numbers = [None; 3];
        for (number, name) in numbers.iter_mut().zip([self.service, self.instance, self.subject]) {
            if let Some(name) = name {
                *number = Some(names.find(name)?);
            }
        }
        Some(numbers)
    }

    fn suits(&self, [service, instance, subject]: [Option<u32>; 3], row: &Row) -> bool {
        let is = |wanted: Option<u32>, number| wanted.is_none_or(|wanted| wanted == number);
        !row.has(DUPLICATE)
            && is(service, row.service)
            && self.kinds.iter().any(|kind| row.is(*kind))
            && self.trace.is_none_or(|trace| trace == row.trace)
            && is(instance, row.instance)
            && is(subject, row.subject)
            && (!self.errors_only || row.has(ERROR))
            && self.duration.is_none_or(|(least, most)| (least..=most).contains(&row.duration))
    }
}

/// Milliseconds since 1970 as a time.
pub(super) fn time(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}
