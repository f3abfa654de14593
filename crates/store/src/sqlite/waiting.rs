//! What waits for a second person, in the tables: texts that the node makes and reads.

use rusqlite::{Connection, params};

use super::failure::Failure;

pub(super) fn all(connection: &Connection) -> Result<Vec<(String, String)>, Failure> {
    let mut statement = connection.prepare_cached("SELECT id, record FROM waiting ORDER BY id")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn keep(connection: &Connection, id: &str, record: Option<&str>) -> Result<(), Failure> {
    match record {
        Some(record) => connection
            .prepare_cached(
                "INSERT INTO waiting (id, record) VALUES (?1, ?2)
                 ON CONFLICT (id) DO UPDATE SET record = excluded.record",
            )?
            .execute(params![id, record])?,
        None => connection.prepare_cached("DELETE FROM waiting WHERE id = ?1")?.execute([id])?,
    };
    Ok(())
}
