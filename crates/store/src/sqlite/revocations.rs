//! Revocations, ended enrolments and the numbers of revocation lists in the tables.

use handfast_pki::{Serial, SpiffeId};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::audit::time;
use super::failure::Failure;
use crate::issued::Lineage;
use crate::revocation::{RecordedRevocation, RecordedStatement, Revocation};

/// Adds a revocation and returns its number, or nothing if the certificate is revoked already: the
/// first time and reason stay.
pub(super) fn insert(
    connection: &Connection,
    revocation: &Revocation,
) -> Result<Option<u64>, Failure> {
    let added = connection
        .prepare_cached(
            "INSERT INTO revocation (issuer_key_id, serial, reason, at, not_after, identity,
                                     lineage)
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7
             WHERE NOT EXISTS (SELECT 1 FROM revocation
                               WHERE issuer_key_id = ?1 AND serial = ?2)",
        )?
        .execute(params![
            revocation.issuer_key_id,
            revocation.serial.to_string(),
            revocation.reason.to_string(),
            revocation.at.as_microsecond(),
            revocation.not_after.map(Timestamp::as_microsecond),
            revocation.identity.as_ref().map(SpiffeId::to_string),
            revocation.lineage.as_ref().map(Lineage::as_str),
        ])?;
    Ok((added > 0).then(|| connection.last_insert_rowid().unsigned_abs()))
}

/// Ends an enrolment, unless it ended before.
pub(super) fn end_lineage(
    connection: &Connection,
    lineage: &Lineage,
    at: Timestamp,
) -> Result<bool, Failure> {
    let added = connection
        .prepare_cached(
            "INSERT INTO ended_lineage (lineage, at) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
        )?
        .execute(params![lineage.as_str(), at.as_microsecond()])?;
    Ok(added > 0)
}

/// The number of the newest revocation; 0 before the first.
pub(super) fn newest(connection: &Connection) -> Result<u64, Failure> {
    let newest: Option<i64> = connection
        .prepare_cached("SELECT max(sequence) FROM revocation")?
        .query_row([], |row| row.get(0))?;
    Ok(newest.unwrap_or(0).unsigned_abs())
}

pub(super) fn find(
    connection: &Connection,
    issuer: &[u8; 32],
    serial: &Serial,
) -> Result<Option<RecordedRevocation>, Failure> {
    let mut statement = connection
        .prepare_cached("SELECT * FROM revocation WHERE issuer_key_id = ?1 AND serial = ?2")?;
    let mut rows = statement.query(params![issuer, serial.to_string()])?;
    rows.next()?.map(read).transpose()
}

pub(super) fn after(
    connection: &Connection,
    sequence: u64,
    limit: u32,
) -> Result<Vec<RecordedRevocation>, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT * FROM revocation WHERE sequence > ?1 ORDER BY sequence LIMIT ?2",
    )?;
    let mut rows = statement.query(params![i64::try_from(sequence).unwrap_or(i64::MAX), limit])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok(found)
}

/// Since when an enrolment is ended, if it is.
pub(super) fn ended(
    connection: &Connection,
    lineage: &Lineage,
) -> Result<Option<Timestamp>, Failure> {
    let at: Option<i64> = connection
        .prepare_cached("SELECT at FROM ended_lineage WHERE lineage = ?1")?
        .query_row([lineage.as_str()], |row| row.get(0))
        .optional()?;
    at.map(time).transpose()
}

/// All enrolments that ended, and since when.
pub(super) fn all_ended(connection: &Connection) -> Result<Vec<(Lineage, Timestamp)>, Failure> {
    let mut statement = connection.prepare_cached("SELECT lineage, at FROM ended_lineage")?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let lineage: String = row.get(0)?;
        let lineage = lineage.parse().map_err(|e| Failure::unreadable("lineage", e))?;
        found.push((lineage, time(row.get(1)?)?));
    }
    Ok(found)
}

/// Adds another authority's statement, unless it is there.
pub(super) fn keep_statement(connection: &Connection, statement: &[u8]) -> Result<(), Failure> {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, statement);
    connection
        .prepare_cached(
            "INSERT INTO revocation_statement (digest, statement) VALUES (?1, ?2)
             ON CONFLICT (digest) DO NOTHING",
        )?
        .execute(params![digest.as_ref(), statement])?;
    Ok(())
}

pub(super) fn statements_after(
    connection: &Connection,
    number: u64,
    limit: u32,
) -> Result<Vec<RecordedStatement>, Failure> {
    let number = i64::try_from(number).unwrap_or(i64::MAX);
    let found = connection
        .prepare_cached(
            "SELECT number, statement FROM revocation_statement WHERE number > ?1
             ORDER BY number LIMIT ?2",
        )?
        .query_map(params![number, limit], |row| {
            Ok(RecordedStatement {
                number: row.get::<_, i64>(0)?.unsigned_abs(),
                statement: row.get(1)?,
            })
        })?
        .collect::<Result<_, _>>()?;
    Ok(found)
}

/// Takes the next number for a revocation list of this issuer.
pub(super) fn next_crl_number(connection: &Connection, issuer: &[u8; 32]) -> Result<u64, Failure> {
    let next: i64 = connection
        .prepare_cached(
            "INSERT INTO crl_number (issuer_key_id, number) VALUES (?1, 1)
             ON CONFLICT (issuer_key_id) DO UPDATE SET number = number + 1
             RETURNING number",
        )?
        .query_row([issuer], |row| row.get(0))?;
    Ok(next.unsigned_abs())
}

/// The newest number of every issuer's revocation lists.
pub(super) fn crl_numbers(connection: &Connection) -> Result<Vec<([u8; 32], u64)>, Failure> {
    let mut statement =
        connection.prepare_cached("SELECT issuer_key_id, number FROM crl_number")?;
    let rows =
        statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs())))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn read(row: &Row<'_>) -> Result<RecordedRevocation, Failure> {
    let text = |column| row.get::<_, String>(column);
    let optional = |column| row.get::<_, Option<String>>(column);
    Ok(RecordedRevocation {
        sequence: row.get::<_, i64>("sequence")?.unsigned_abs(),
        revocation: Revocation {
            issuer_key_id: row.get("issuer_key_id")?,
            serial: text("serial")?.parse().map_err(|e| Failure::unreadable("serial", e))?,
            reason: text("reason")?.parse().map_err(|e| Failure::unreadable("reason", e))?,
            at: time(row.get("at")?)?,
            not_after: row.get::<_, Option<i64>>("not_after")?.map(time).transpose()?,
            identity: optional("identity")?
                .map(|text| text.parse())
                .transpose()
                .map_err(|e| Failure::unreadable("identity", e))?,
            lineage: optional("lineage")?
                .map(|text| text.parse())
                .transpose()
                .map_err(|e| Failure::unreadable("lineage", e))?,
        },
    })
}
