//! Issued certificates in the tables.

use handfast_pki::{Fingerprint, Profile, Serial, SpiffeId};
use jiff::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, Row, params, params_from_iter};

use super::audit::time;
use super::failure::Failure;
use crate::issued::{Issued, IssuedFilter, RecordedIssued};

/// Adds a certificate and returns the number of its row.
pub(super) fn insert(connection: &Connection, issued: &Issued) -> Result<i64, Failure> {
    let serial = issued.serial.to_string();
    connection
        .prepare_cached(
            "INSERT INTO issued (issuer_key_id, serial, identity, profile, not_before, not_after,
                                 lineage, fingerprint, pem)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            issued.issuer_key_id,
            serial,
            issued.identity.as_ref().map(SpiffeId::to_string),
            issued.profile.as_str(),
            issued.not_before.as_microsecond(),
            issued.not_after.as_microsecond(),
            issued.lineage.as_str(),
            issued.fingerprint.as_bytes(),
            issued.pem,
        ])
        .map_err(|error| {
            Failure::taken(error, || format!("a certificate of this issuer with serial {serial}"))
        })?;
    let number = connection.last_insert_rowid();
    let mut statement = connection
        .prepare_cached("INSERT INTO issued_name (issued, position, name) VALUES (?1, ?2, ?3)")?;
    for (position, name) in (0_i64..).zip(&issued.names) {
        statement.execute(params![number, position, name])?;
    }
    Ok(number)
}

pub(super) fn select(
    connection: &Connection,
    filter: &IssuedFilter,
) -> Result<Vec<RecordedIssued>, Failure> {
    let mut values: Vec<Value> = Vec::new();
    let mut conditions = String::new();
    let mut require = |condition: &str, value: Value| {
        conditions.push_str(if values.is_empty() { " WHERE " } else { " AND " });
        conditions.push_str(condition);
        values.push(value);
    };
    if let Some(fingerprint) = &filter.fingerprint {
        require("fingerprint = ?", Value::Blob(fingerprint.as_bytes().to_vec()));
    }
    if let Some(identity) = &filter.identity {
        require("identity = ?", Value::Text(identity.to_string()));
    }
    if let Some(issuer) = &filter.issuer_key_id {
        require("issuer_key_id = ?", Value::Blob(issuer.to_vec()));
    }
    if let Some(lineage) = &filter.lineage {
        require("lineage = ?", Value::Text(lineage.to_string()));
    }
    if let Some(name) = &filter.name {
        require(
            "number IN (SELECT issued FROM issued_name WHERE name = ?)",
            Value::Text(name.clone()),
        );
    }
    if let Some(serial) = &filter.serial {
        require("serial = ?", Value::Text(serial.to_string()));
    }
    if let Some(at) = filter.unexpired_at {
        require("not_after > ?", Value::Integer(at.as_microsecond()));
    }
    if let Some(at) = filter.expires_before {
        require("not_after < ?", Value::Integer(at.as_microsecond()));
    }
    if let Some(number) = filter.before_number {
        require("number < ?", Value::Integer(i64::try_from(number).unwrap_or(i64::MAX)));
    }
    values.push(Value::Integer(filter.limit.map_or(-1, i64::from)));

    // Whatever narrows it down to few; by expiry, the numbers come out of the index alone.
    let narrow = filter.identity.is_some()
        || filter.lineage.is_some()
        || filter.serial.is_some()
        || filter.fingerprint.is_some()
        || filter.name.is_some()
        || filter.issuer_key_id.is_some();
    let query = if filter.expires_before.is_some() && !narrow {
        format!(
            "SELECT * FROM issued WHERE number IN
               (SELECT number FROM issued INDEXED BY issued_by_expiry{conditions}
                ORDER BY number DESC LIMIT ?)
             ORDER BY number DESC"
        )
    } else {
        format!("SELECT * FROM issued{conditions} ORDER BY number DESC LIMIT ?")
    };
    let mut statement = connection.prepare_cached(&query)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(RecordedIssued {
            number: row.get::<_, i64>("number")?.unsigned_abs(),
            issued: read(connection, row)?,
        });
    }
    Ok(found)
}

/// When the last leaf of this signer expires, responders for OCSP left out.
pub(super) fn last_leaf_expiry(
    connection: &Connection,
    issuer_key_id: &[u8; 32],
) -> Result<Option<Timestamp>, Failure> {
    let [root, ca, responder] =
        [Profile::Root, Profile::SiteCa, Profile::OcspSigner].map(Profile::as_str);
    let last: Option<i64> = connection
        .prepare_cached(
            "SELECT max(not_after) FROM issued
             WHERE issuer_key_id = ?1 AND profile NOT IN (?2, ?3, ?4)",
        )?
        .query_row(params![issuer_key_id, root, ca, responder], |row| row.get(0))?;
    last.map(time).transpose()
}

/// The certificate in one row of the table.
pub(super) fn by_number(connection: &Connection, number: i64) -> Result<Issued, Failure> {
    let mut statement = connection.prepare_cached("SELECT * FROM issued WHERE number = ?1")?;
    let mut rows = statement.query([number])?;
    let row = rows
        .next()?
        .ok_or_else(|| Failure::Damaged(format!("issued certificate {number} is missing")))?;
    read(connection, row)
}

fn read(connection: &Connection, row: &Row<'_>) -> Result<Issued, Failure> {
    let text = |column| row.get::<_, String>(column);
    let serial: Serial =
        text("serial")?.parse().map_err(|error| Failure::unreadable("serial", error))?;
    let identity = row
        .get::<_, Option<String>>("identity")?
        .map(|identity| identity.parse::<SpiffeId>())
        .transpose()
        .map_err(|error| Failure::unreadable("identity", error))?;
    let names = connection
        .prepare_cached("SELECT name FROM issued_name WHERE issued = ?1 ORDER BY position")?
        .query_map([row.get::<_, i64>("number")?], |name| name.get(0))?
        .collect::<Result<_, _>>()?;
    Ok(Issued {
        issuer_key_id: row.get("issuer_key_id")?,
        serial,
        identity,
        names,
        profile: text("profile")?.parse().map_err(|e| Failure::unreadable("profile", e))?,
        not_before: time(row.get("not_before")?)?,
        not_after: time(row.get("not_after")?)?,
        lineage: text("lineage")?.parse().map_err(|e| Failure::unreadable("lineage", e))?,
        fingerprint: Fingerprint(row.get("fingerprint")?),
        pem: text("pem")?,
    })
}
