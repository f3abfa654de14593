//! Audit rows: who did what to what, when, and with which result. Rows are only ever added.

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
