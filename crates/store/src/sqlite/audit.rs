//! Audit rows in the tables, each with its hash in the tree.

use jiff::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use super::failure::Failure;
use super::group::Writing;
use crate::audit::encoding::encode;
use crate::audit::merkle::{Frontier, Hash, leaf_hash};
use crate::audit::{AuditFilter, AuditRange, AuditRow, RecordedAudit};

/// Adds a row and returns its number.
pub(super) fn insert(writing: &mut Writing<'_>, row: &AuditRow) -> Result<u64, Failure> {
    let mut tree = writing.tree.clone();
    let sequence = append(writing, &mut tree, row)?;
    writing.tree = tree;
    writing.at = row.at;
    Ok(sequence)
}

/// Adds a row as the next leaf of the tree, and returns its number.
pub(super) fn append(
    connection: &Connection,
    tree: &mut Frontier,
    row: &AuditRow,
) -> Result<u64, Failure> {
    // What is read back has microseconds; the rest would not be in the hash twice the same.
    let sequence = tree.size() + 1;
    let leaf = leaf_hash(&encode(sequence, row));
    connection
        .prepare_cached(
            "INSERT INTO audit (sequence, at, actor, action, subject, outcome, detail, why, leaf)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            i64::try_from(sequence).unwrap_or(i64::MAX),
            row.at.as_microsecond(),
            row.actor,
            row.action,
            row.subject,
            row.outcome,
            row.detail,
            row.why,
            leaf,
        ])?;
    tree.push(leaf);
    Ok(sequence)
}

/// Gives the rows of schema 1 their hashes, and makes the tree over them.
pub(super) fn take_in(connection: &Connection) -> Result<(), Failure> {
    let mut tree = Frontier::default();
    let mut at = Timestamp::UNIX_EPOCH;
    loop {
        let page = select(connection, &AuditRange::after(tree.size(), PAGE))?;
        if page.is_empty() {
            break;
        }
        let mut update =
            connection.prepare_cached("UPDATE audit SET leaf = ?2 WHERE sequence = ?1")?;
        for recorded in page {
            if recorded.sequence != tree.size() + 1 {
                return Err(Failure::Damaged(format!("audit row {} is missing", tree.size() + 1)));
            }
            let leaf = recorded.leaf();
            update.execute(params![i64::try_from(recorded.sequence).unwrap_or(i64::MAX), leaf])?;
            tree.push(leaf);
            at = recorded.row.at;
        }
    }
    connection.execute(
        "INSERT INTO audit_tree (id, size, at, peaks) VALUES (1, ?1, ?2, ?3)",
        params![
            i64::try_from(tree.size()).unwrap_or(i64::MAX),
            at.as_microsecond(),
            tree.peaks().as_flattened()
        ],
    )?;
    Ok(())
}

pub(super) fn select(
    connection: &Connection,
    range: &AuditRange,
) -> Result<Vec<RecordedAudit>, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT * FROM audit WHERE sequence BETWEEN ?1 AND ?2 ORDER BY sequence LIMIT ?3",
    )?;
    let bound = |sequence: &u64| i64::try_from(*sequence).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![
        bound(range.sequence.start()),
        bound(range.sequence.end()),
        range.limit
    ])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok(found)
}

/// The newest rows that fit, the oldest of them first.
pub(super) fn matching(
    connection: &Connection,
    filter: &AuditFilter,
) -> Result<Vec<RecordedAudit>, Failure> {
    let mut values: Vec<Value> = Vec::new();
    let mut conditions = String::new();
    let mut require = |condition: &str, value: Value| {
        conditions.push_str(if values.is_empty() { " WHERE " } else { " AND " });
        conditions.push_str(condition);
        values.push(value);
    };
    if let Some(before) = filter.before {
        require("sequence < ?", Value::Integer(i64::try_from(before).unwrap_or(i64::MAX)));
    }
    if let Some(since) = filter.since {
        require("at >= ?", Value::Integer(since.as_microsecond()));
    }
    let texts = [
        ("actor = ?", &filter.actor),
        ("action = ?", &filter.action),
        ("subject = ?", &filter.subject),
        ("outcome = ?", &filter.outcome),
    ];
    for (condition, text) in texts {
        if let Some(text) = text {
            require(condition, Value::Text(text.clone()));
        }
    }
    values.push(Value::Integer(i64::from(filter.limit)));
    let mut statement = connection.prepare_cached(&format!(
        "SELECT * FROM audit{conditions} ORDER BY sequence DESC LIMIT ?"
    ))?;
    let mut rows = statement.query(params_from_iter(values))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    found.reverse();
    Ok(found)
}

/// The time of the newest row.
pub(super) fn newest_time(connection: &Connection) -> Result<Option<Timestamp>, Failure> {
    let newest: Option<i64> = connection
        .prepare_cached("SELECT at FROM audit ORDER BY sequence DESC LIMIT 1")?
        .query_row([], |row| row.get(0))
        .optional()?;
    newest.map(time).transpose()
}

pub(super) fn read(row: &Row<'_>) -> Result<RecordedAudit, Failure> {
    Ok(RecordedAudit {
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
    })
}

/// The hash that was recorded with a row.
pub(super) fn recorded_leaf(row: &Row<'_>) -> Result<Hash, Failure> {
    Ok(row.get("leaf")?)
}

/// A stored time.
pub(super) fn time(microseconds: i64) -> Result<Timestamp, Failure> {
    Timestamp::from_microsecond(microseconds).map_err(|error| Failure::unreadable("time", error))
}

const PAGE: u32 = 1000;
