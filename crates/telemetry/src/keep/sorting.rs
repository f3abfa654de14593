//! Which records are new. Most are found in the window of those that came last, or are too young to have come before
//! it; only what is older than the window is looked for in the chunks, by their filters.

use std::sync::{Arc, PoisonError};

use super::facts::Facts;
use super::part::Part;
use super::reader::present;
use super::row::SKEWED;
use super::window::Window;
use super::{KeepError, Shared};
use crate::journal::frame;
use crate::sink::{Notice, Oddity};
use crate::{Record, RecordKind};

/// Records, with what is known of them.
#[derive(Debug)]
pub(super) struct Sorting {
    records: Vec<Record>,
    facts: Vec<Facts>,
    /// For each record, how many facts are its own and whether it came before.
    verdicts: Vec<(usize, Verdict)>,
    noticed: Vec<Notice>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Verdict {
    Known,
    New,
    /// It is older than the window: it may have come before what is known there.
    Unsure,
}

/// What is to be kept.
#[derive(Debug)]
pub(super) struct Sorted {
    pub(super) records: Vec<Record>,
    /// With how far behind the first record theirs begins.
    pub(super) rows: Vec<(u64, Facts)>,
    pub(super) duplicates: usize,
    pub(super) noticed: Vec<Notice>,
}

impl Shared {
    /// Asks the window.
    pub(super) fn sort(&self, records: Vec<Record>) -> Sorting {
        let mut facts = Vec::with_capacity(records.len());
        let mut noticed = Vec::new();
        let counts: Vec<usize> = records
            .iter()
            .map(|record| {
                let before = facts.len();
                Facts::of(record, &mut facts);
                notice(record.kind, &facts[before..], &mut noticed);
                facts.len() - before
            })
            .collect();
        let taking = self.taking();
        let mut rest = facts.as_slice();
        let verdicts = counts.into_iter().map(|count| {
            let (own, others) = rest.split_at(count);
            rest = others;
            (count, of_window(&taking.window, own))
        });
        let verdicts = verdicts.collect();
        drop(taking);
        Sorting { records, facts, verdicts, noticed }
    }

    /// Looks for the rest in the chunks; blocks for as long as the disk takes.
    pub(super) fn look_back(&self, sorting: &mut Sorting) {
        let mut parts = self.parts.all();
        parts.reverse();
        let mut rest = sorting.facts.as_slice();
        for (count, verdict) in &mut sorting.verdicts {
            let (own, others) = rest.split_at(*count);
            rest = others;
            if *verdict == Verdict::Unsure {
                let known = |facts: &Facts| {
                    self.is_in(&parts, facts).unwrap_or_else(|error| {
                        // Twice is better than never.
                        tracing::warn!(%error, "whether a segment came before cannot be found out");
                        false
                    })
                };
                *verdict = if own.iter().all(known) { Verdict::Known } else { Verdict::New };
            }
        }
    }

    fn is_in(&self, parts: &[Arc<Part>], facts: &Facts) -> Result<bool, KeepError> {
        let Some(id) = facts.id else { return Ok(false) };
        if self.taking.lock().unwrap_or_else(PoisonError::into_inner).window.contains(id) {
            return Ok(true);
        }
        let skewed = facts.flags & SKEWED != 0;
        for part in parts {
            let times = part.times();
            // The first of two that are the same was of the same time, if it was believed.
            let may_be =
                skewed || (times.first_start <= facts.start && times.last_end >= facts.end());
            if may_be && present(part.knows(id, facts.trace))?.unwrap_or_default() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Adds what is strange about a record.
fn notice(kind: RecordKind, own: &[Facts], noticed: &mut Vec<Notice>) {
    let strange = [
        (Oddity::ClockSkewed, own.iter().any(|facts| facts.flags & SKEWED != 0)),
        (Oddity::Cut, own.iter().any(|facts| facts.is_cut)),
    ];
    for (oddity, _) in strange.into_iter().filter(|(_, is)| *is) {
        match noticed.iter_mut().find(|known| known.kind == kind && known.oddity == oddity) {
            Some(known) => known.records += 1,
            None => noticed.push(Notice { kind, oddity, records: 1 }),
        }
    }
}

fn of_window(window: &Window, own: &[Facts]) -> Verdict {
    let is_known = |facts: &Facts| facts.id.is_some_and(|id| window.contains(id));
    if own.iter().all(is_known) {
        return Verdict::Known;
    }
    let forgotten = window.forgotten_until().saturating_add(AHEAD);
    let is_old = |facts: &Facts| facts.flags & SKEWED != 0 || facts.end() <= forgotten;
    // What has no id cannot come twice.
    let may_be = forgotten > i64::MIN.saturating_add(AHEAD)
        && own.iter().all(|facts| facts.id.is_some() && (is_known(facts) || is_old(facts)));
    if may_be { Verdict::Unsure } else { Verdict::New }
}

impl Sorting {
    /// Whether [`Shared::look_back`] has something to do.
    pub(super) fn is_unsure(&self) -> bool {
        self.verdicts.iter().any(|(_, verdict)| *verdict == Verdict::Unsure)
    }

    /// Leaves out what is known.
    pub(super) fn done(self) -> Sorted {
        let mut sorted = Sorted {
            records: Vec::with_capacity(self.records.len()),
            rows: Vec::with_capacity(self.facts.len()),
            duplicates: 0,
            noticed: self.noticed,
        };
        let mut offset = 0;
        let mut facts = self.facts.into_iter();
        for (record, (count, verdict)) in self.records.into_iter().zip(self.verdicts) {
            if verdict == Verdict::Known {
                facts.by_ref().take(count).for_each(drop);
                sorted.duplicates += 1;
            } else {
                sorted.rows.extend(facts.by_ref().take(count).map(|facts| (offset, facts)));
                offset += frame::length(&record) as u64;
                sorted.records.push(record);
            }
        }
        sorted
    }
}

/// A segment is over before it is received. How far the clock of whoever reports it may be ahead for that to hold, in
/// milliseconds.
const AHEAD: i64 = 5_000;
