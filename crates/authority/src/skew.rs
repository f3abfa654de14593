//! A clock that is wrong, noticed from the dates of what we issued ourselves.
//!
//! Only detection: a wrong clock is reported, never corrected, and never a reason to re-issue.

use std::time::Duration;

use handfast_store::Source;
use jiff::Timestamp;

use crate::observed::{Current, Observed};
use crate::schedule;

/// The clock disagrees with what we issued.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Skew {
    /// By how much the clock is behind the evidence, at least.
    pub behind: Duration,
    /// What shows it.
    pub evidence: String,
}

/// Whether `now` can be true, given what we issued before.
///
/// `last_issued` is the `notBefore` of the certificate that the ledger recorded last. Our issuers
/// date certificates back by a minute, so a clock that only jitters never gets here.
pub fn detect(
    observed: &[Observed],
    last_issued: Option<Timestamp>,
    now: Timestamp,
) -> Option<Skew> {
    let stored = observed.iter().filter_map(|seen| match &seen.current {
        Current::Usable { source: Source::Managed, facts, .. } if facts.not_before > now => {
            let evidence =
                format!("{} `{}` is valid from {}", seen.kind, seen.name, facts.not_before);
            Some((facts.not_before, evidence))
        }
        _ => None,
    });
    let recorded = last_issued.filter(|start| *start > now).map(|start| {
        (start, format!("the newest certificate in the ledger is valid from {start}"))
    });
    let (start, evidence) = stored.chain(recorded).max_by_key(|(start, _)| *start)?;
    Some(Skew { behind: schedule::span(now, start), evidence })
}
