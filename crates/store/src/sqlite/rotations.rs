//! The records of rotations in the tables: texts that the authority makes and reads.

use handfast_pki::Name;
use rusqlite::{Connection, OptionalExtension, params};

use super::failure::Failure;

pub(super) fn find(connection: &Connection, authority: &Name) -> Result<Option<String>, Failure> {
    Ok(connection
        .prepare_cached("SELECT record FROM rotation WHERE authority = ?1")?
        .query_row([authority.as_str()], |row| row.get(0))
        .optional()?)
}

pub(super) fn keep(
    connection: &Connection,
    authority: &Name,
    record: Option<&str>,
) -> Result<(), Failure> {
    match record {
        Some(record) => connection
            .prepare_cached(
                "INSERT INTO rotation (authority, record) VALUES (?1, ?2)
                 ON CONFLICT (authority) DO UPDATE SET record = excluded.record",
            )?
            .execute(params![authority.as_str(), record])?,
        None => connection
            .prepare_cached("DELETE FROM rotation WHERE authority = ?1")?
            .execute([authority.as_str()])?,
    };
    Ok(())
}
