//! The tree of the audit log in the tables: where it stands, its signed heads, the keys that signed.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::audit::time;
use super::failure::Failure;
use crate::audit::head::{AuditPublicKey, SignedHead, TreeHead};
use crate::audit::merkle::{Frontier, Hash};

/// The tree as it stands, and the time of its newest row.
pub(super) fn read(connection: &Connection) -> Result<(Frontier, Timestamp), Failure> {
    let (size, at, peaks) = connection
        .prepare_cached("SELECT size, at, peaks FROM audit_tree WHERE id = 1")?
        .query_row([], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, Vec<u8>>(2)?))
        })?;
    let (peaks, rest) = peaks.as_chunks::<32>();
    let tree = Frontier::new(size.unsigned_abs(), peaks.to_vec())
        .filter(|_| rest.is_empty() && size >= 0)
        .ok_or_else(|| Failure::Damaged("the audit log's tree cannot be read".to_owned()))?;
    Ok((tree, time(at)?))
}

/// Keeps the tree and a head over it.
pub(super) fn keep(
    connection: &Connection,
    tree: &Frontier,
    head: &SignedHead,
    key: i64,
) -> Result<(), Failure> {
    connection
        .prepare_cached("UPDATE audit_tree SET size = ?1, at = ?2, peaks = ?3 WHERE id = 1")?
        .execute(params![
            signed(tree.size()),
            head.head.at.as_microsecond(),
            tree.peaks().as_flattened()
        ])?;
    connection
        .prepare_cached(
            "INSERT INTO audit_head (size, root, at, key, signature) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            signed(head.head.size),
            head.head.root,
            head.head.at.as_microsecond(),
            key,
            head.signature,
        ])?;
    Ok(())
}

/// The newest head.
pub(super) fn newest(connection: &Connection) -> Result<Option<SignedHead>, Failure> {
    let mut statement =
        connection.prepare_cached(&format!("{HEADS} ORDER BY size DESC LIMIT 1"))?;
    let mut rows = statement.query([])?;
    rows.next()?.map(read_head).transpose()
}

/// The root over the first `size` rows, if a head was signed just there.
pub(super) fn root_at(connection: &Connection, size: u64) -> Result<Option<Hash>, Failure> {
    Ok(connection
        .prepare_cached("SELECT root FROM audit_head WHERE size = ?1")?
        .query_row([signed(size)], |row| row.get(0))
        .optional()?)
}

/// Hands all heads over, the oldest first.
pub(super) fn each_head(
    connection: &Connection,
    from: u64,
    limit: u32,
) -> Result<Vec<SignedHead>, Failure> {
    let mut statement =
        connection.prepare_cached(&format!("{HEADS} WHERE size > ?1 ORDER BY size LIMIT ?2"))?;
    let mut rows = statement.query(params![signed(from), limit])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read_head(row)?);
    }
    Ok(found)
}

/// The number of a key; it gets one if it has none.
pub(super) fn key_number(connection: &Connection, key: &AuditPublicKey) -> Result<i64, Failure> {
    let known = connection
        .prepare_cached("SELECT number FROM audit_key WHERE public_key = ?1")?
        .query_row([key.spki()], |row| row.get(0))
        .optional()?;
    if let Some(number) = known {
        return Ok(number);
    }
    connection
        .prepare_cached("INSERT INTO audit_key (public_key) VALUES (?1)")?
        .execute([key.spki()])?;
    Ok(connection.last_insert_rowid())
}

/// The keys that signed heads of this log, the oldest first.
pub(super) fn keys(connection: &Connection) -> Result<Vec<AuditPublicKey>, Failure> {
    let mut statement =
        connection.prepare_cached("SELECT public_key FROM audit_key ORDER BY number")?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read_key(&row.get::<_, Vec<u8>>(0)?)?);
    }
    Ok(found)
}

fn read_head(row: &Row<'_>) -> Result<SignedHead, Failure> {
    let key = read_key(&row.get::<_, Vec<u8>>("public_key")?)?;
    let head = TreeHead {
        size: row.get::<_, i64>("size")?.unsigned_abs(),
        root: row.get("root")?,
        at: time(row.get("at")?)?,
    };
    Ok(SignedHead::new(head, &key, row.get("signature")?))
}

fn read_key(spki: &[u8]) -> Result<AuditPublicKey, Failure> {
    AuditPublicKey::from_spki(spki)
        .ok_or_else(|| Failure::Damaged("a key of the audit log cannot be read".to_owned()))
}

fn signed(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

const HEADS: &str = "SELECT size, root, at, signature, public_key
                     FROM audit_head JOIN audit_key ON number = key";
