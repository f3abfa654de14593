//! Audit rows: who did what to what, when, why, and with which result. Rows are only ever added, and
//! a tree of hashes over all of them is signed, so that whoever changes one is found out.

pub(crate) mod encoding;
pub(crate) mod head;
pub(crate) mod head_file;
pub mod merkle;
pub(crate) mod verify;

use std::ops::RangeInclusive;

use jiff::Timestamp;

/// What happened, as one row to be written. Holds no secrets: it is read by auditors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRow {
    /// When, to the microsecond.
    pub at: Timestamp,
    /// Who: an identity, `node`, or `uid:<number>` on the admin socket.
    pub actor: String,
    /// What was done, as a stable word: `certificate.issue`, `grant.redeem`.
    pub action: String,
    /// What it was done to: a name, a grant, `issuer/serial`.
    pub subject: String,
    /// The result, as a stable word: `ok`, `refused`, `failed`.
    pub outcome: String,
    /// What else a reader needs, in plain words.
    pub detail: String,
    /// The reason somebody gave for it; empty where nobody was asked.
    pub why: String,
}

/// A row as it was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedAudit {
    /// Its number: rows count upwards from 1 and no number is used twice.
    pub sequence: u64,
    /// The row.
    pub row: AuditRow,
}

/// Which rows to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRange {
    /// The numbers wanted, both ends included.
    pub sequence: RangeInclusive<u64>,
    /// At most so many rows, the oldest first.
    pub limit: u32,
}

impl AuditRange {
    /// The `limit` oldest rows after number `sequence`; `after(0, _)` starts at the beginning.
    pub fn after(sequence: u64, limit: u32) -> Self {
        Self { sequence: sequence.saturating_add(1)..=u64::MAX, limit }
    }
}

/// Which rows to look for. Conditions add up; texts are compared whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditFilter {
    /// Only rows with a smaller number: the next page, going back in time.
    pub before: Option<u64>,
    /// Only rows of this time or later.
    pub since: Option<Timestamp>,
    /// Only rows of this actor.
    pub actor: Option<String>,
    /// Only rows of this action.
    pub action: Option<String>,
    /// Only rows about this subject.
    pub subject: Option<String>,
    /// Only rows with this outcome.
    pub outcome: Option<String>,
    /// At most so many rows, the newest that fit.
    pub limit: u32,
}

impl AuditFilter {
    /// The `limit` newest rows, whatever they say.
    pub fn newest(limit: u32) -> Self {
        Self {
            before: None,
            since: None,
            actor: None,
            action: None,
            subject: None,
            outcome: None,
            limit,
        }
    }

    /// Whether a row fits, the number and the limit aside.
    pub fn fits(&self, row: &AuditRow) -> bool {
        let is = |wanted: &Option<String>, found: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == found)
        };
        self.since.is_none_or(|since| row.at >= since)
            && is(&self.actor, &row.actor)
            && is(&self.action, &row.action)
            && is(&self.subject, &row.subject)
            && is(&self.outcome, &row.outcome)
    }
}
