//! Audit rows in the tables.

use jiff::Timestamp;
use rusqlite::{Transaction, params};

use super::failure::Failure;
use crate::audit::{AuditRange, AuditRow, RecordedAudit};

/// Adds a row and returns its number.
pub(super) fn insert(transaction: &Transaction<'_>, row: &AuditRow) -> Result<u64, Failure> {
    transaction
        .prepare_cached(
            "INSERT INTO audit (at, actor, action, subject, outcome, detail, why)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            row.at.as_microsecond(),
            row.actor,
            row.action,
            row.subject,
            row.outcome,
            row.detail,
            row.why
        ])?;
    Ok(transaction.last_insert_rowid().unsigned_abs())
}

pub(super) fn select(
    transaction: &Transaction<'_>,
    range: &AuditRange,
) -> Result<Vec<RecordedAudit>, Failure> {
    let mut statement = transaction.prepare_cached(
        "SELECT sequence, at, actor, action, subject, outcome, detail, why FROM audit
         WHERE sequence BETWEEN ?1 AND ?2 ORDER BY sequence LIMIT ?3",
    )?;
    let bound = |sequence: &u64| i64::try_from(*sequence).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![
        bound(range.sequence.start()),
        bound(range.sequence.end()),
        range.limit
    ])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(RecordedAudit {
            sequence: row.get::<_, i64>("sequence")?.unsigned_abs(),
            row: AuditRow {
                at: time(row.get("at")?)?,
                actor: row.get("actor")?,
                action: row.get("action")?,
                subject: row.get("subject")?,
                outcome: row.get("outcome")?,
                detail: row.get("detail")?,
                why: row.get("why")?,
            },
        });
    }
    Ok(found)
}

/// A stored time.
pub(super) fn time(microseconds: i64) -> Result<Timestamp, Failure> {
    Timestamp::from_microsecond(microseconds).map_err(|error| Failure::unreadable("time", error))
}
