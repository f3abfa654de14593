//! Whether a large ledger is damaged, told from a part of it: a bounded number of pages, wherever the
//! damage of real life shows (a file cut short, overwritten, of zeros, put together from two).

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params};

use super::failure::Failure;

/// Reads both ends of everything, and records from all over through their indices.
pub(super) fn check(connection: &Connection) -> Result<(), Failure> {
    for (table, index) in names(connection)? {
        for direction in ["ASC", "DESC"] {
            read_end(connection, &table, index.as_deref(), direction)?;
        }
    }
    sample(
        connection,
        "issued",
        "number",
        "SELECT count(*) FROM issued AS a JOIN issued AS b
           ON b.issuer_key_id = a.issuer_key_id AND b.serial = a.serial
         WHERE a.number = ?1 AND b.number = ?1 AND length(a.pem) > 0
           AND EXISTS (SELECT 1 FROM issued AS c INDEXED BY issued_by_fingerprint
                       WHERE c.fingerprint = a.fingerprint AND c.number = ?1)",
    )?;
    sample(
        connection,
        "audit",
        "sequence",
        "SELECT count(*) FROM audit AS a
         WHERE a.sequence = ?1 AND length(a.detail) >= 0 AND length(a.leaf) = 32
           AND EXISTS (SELECT 1 FROM audit AS b INDEXED BY audit_by_subject
                       WHERE b.subject = a.subject AND b.sequence = ?1)",
    )
}

/// Every table, and every index with its table.
fn names(connection: &Connection) -> Result<Vec<(String, Option<String>)>, Failure> {
    let mut statement = connection.prepare(
        "SELECT tbl_name, CASE type WHEN 'index' THEN name END FROM sqlite_schema
         WHERE type IN ('table', 'index') AND tbl_name NOT LIKE 'sqlite_%' AND rootpage > 0",
    )?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn read_end(
    connection: &Connection,
    table: &str,
    index: Option<&str>,
    direction: &str,
) -> Result<(), Failure> {
    // The primary key of a table without row numbers is an index of its own: the table.
    let key: Option<String> = match index {
        Some(index) => connection
            .prepare("SELECT name FROM pragma_index_info(?1) ORDER BY seqno LIMIT 1")?
            .query_row([index], |row| row.get(0))
            .optional()?,
        None => connection
            .prepare("SELECT name FROM pragma_table_info(?1) WHERE pk = 1")?
            .query_row([table], |row| row.get(0))
            .optional()?,
    };
    let Some(key) = key else { return Ok(()) };
    // The names are from our own schema; an automatic index cannot be named in a query, but serves
    // this one.
    let named = match index {
        Some(index) if !index.starts_with("sqlite_") => format!(" INDEXED BY \"{index}\""),
        _ => String::new(),
    };
    let mut statement = connection.prepare(&format!(
        "SELECT * FROM \"{table}\"{named} ORDER BY \"{key}\" {direction} LIMIT 1"
    ))?;
    let columns = statement.column_count();
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        for column in 0..columns {
            row.get::<_, Value>(column)?;
        }
    }
    Ok(())
}

/// Looks up records from one end of a table to the other; `query` must find each exactly once.
fn sample(connection: &Connection, table: &str, key: &str, query: &str) -> Result<(), Failure> {
    let last: Option<i64> =
        connection.query_row(&format!("SELECT max({key}) FROM {table}"), [], |row| row.get(0))?;
    let Some(last) = last else { return Ok(()) };
    let mut statement = connection.prepare(query)?;
    for step in 0..SAMPLES {
        // Records are numbered from 1 without gaps.
        let number = 1 + (last - 1) / SAMPLES * step;
        let found: i64 = statement.query_row(params![number], |row| row.get(0))?;
        if found != 1 {
            return Err(Failure::Damaged(format!("{table} {number} is found {found} times")));
        }
    }
    Ok(())
}

const SAMPLES: i64 = 256;
