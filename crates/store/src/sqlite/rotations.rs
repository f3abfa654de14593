//! The records of rotations in the tables: texts that the authority makes and reads.

use handfast_pki::Name;
use rusqlite::{OptionalExtension, Transaction, params};

use super::failure::Failure;

pub(super) fn find(
    transaction: &Transaction<'_>,
    authority: &Name,
) -> Result<Option<String>, Failure> {
    Ok(transaction
        .prepare_cached("SELECT record FROM rotation WHERE authority = ?1")?
        .query_row([authority.as_str()], |row| row.get(0))
        .optional()?)
}

pub(super) fn keep(
    transaction: &Transaction<'_>,
    authority: &Name,
    record: Option<&str>,
) -> Result<(), Failure> {
    match record {
        Some(record) => transaction
            .prepare_cached(
                "INSERT INTO rotation (authority, record) VALUES (?1, ?2)
                 ON CONFLICT (authority) DO UPDATE SET record = excluded.record",
            )?
            .execute(params![authority.as_str(), record])?,
        None => transaction
            .prepare_cached("DELETE FROM rotation WHERE authority = ?1")?
            .execute([authority.as_str()])?,
    };
    Ok(())
}
