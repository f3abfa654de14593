//! Grants in the tables. Redeeming them is in `redeem.rs`.

use handfast_pki::Name;
use jiff::Timestamp;
use rusqlite::{Connection, Row, params};

use super::audit::time;
use super::failure::Failure;
use crate::grant::{Audience, Grant, GrantRecord};

pub(super) fn insert(connection: &Connection, grant: &Grant) -> Result<(), Failure> {
    let (site, agent) = match &grant.audience {
        Audience::Agent(service) => (None, Some(service)),
        Audience::AnySite => (None, None),
        Audience::Site(site) => (Some(site), None),
    };
    connection
        .prepare_cached(
            "INSERT INTO access_grant (id, code_hash, salt, redemptions_allowed, expires, cost,
                                       site, agent, created)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            grant.id.as_str(),
            grant.code_hash,
            grant.salt,
            grant.redemptions_allowed,
            grant.expires.as_microsecond(),
            grant.cost,
            site.map(Name::as_str),
            agent.map(Name::as_str),
            grant.created.as_microsecond(),
        ])
        .map_err(|error| Failure::taken(error, || format!("a grant named `{}`", grant.id)))?;
    Ok(())
}

pub(super) fn select(connection: &Connection) -> Result<Vec<GrantRecord>, Failure> {
    let mut statement = connection.prepare_cached(&format!("{SELECT} ORDER BY number"))?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok(found)
}

pub(super) fn select_one(
    connection: &Connection,
    id: &Name,
) -> Result<Option<GrantRecord>, Failure> {
    let mut statement = connection.prepare_cached(&format!("{SELECT} WHERE id = ?1"))?;
    let mut rows = statement.query([id.as_str()])?;
    rows.next()?.map(read).transpose()
}

/// Brings the expiry forward.
pub(super) fn withdraw(connection: &Connection, id: &Name, at: Timestamp) -> Result<(), Failure> {
    let changed = connection
        .prepare_cached("UPDATE access_grant SET expires = min(expires, ?2) WHERE id = ?1")?
        .execute(params![id.as_str(), at.as_microsecond()])?;
    if changed == 0 { Err(Failure::UnknownGrant(id.clone())) } else { Ok(()) }
}

fn read(row: &Row<'_>) -> Result<GrantRecord, Failure> {
    let name = |text: String| {
        text.parse::<Name>().map_err(|error| Failure::unreadable("grant or site", error))
    };
    let optional = |column| -> Result<Option<Name>, Failure> {
        row.get::<_, Option<String>>(column)?.map(name).transpose()
    };
    let audience = match (optional("agent")?, optional("site")?) {
        (Some(service), _) => Audience::Agent(service),
        (None, Some(site)) => Audience::Site(site),
        (None, None) => Audience::AnySite,
    };
    Ok(GrantRecord {
        grant: Grant {
            id: name(row.get("id")?)?,
            code_hash: row.get("code_hash")?,
            salt: row.get("salt")?,
            redemptions_allowed: row.get("redemptions_allowed")?,
            expires: time(row.get("expires")?)?,
            cost: row.get("cost")?,
            audience,
            created: time(row.get("created")?)?,
        },
        redemptions: row.get("redemptions")?,
    })
}

/// The count is taken from the redemptions themselves: there is no second place to disagree.
const SELECT: &str =
    "SELECT *, (SELECT count(*) FROM redemption WHERE grant_id = id) AS redemptions
     FROM access_grant";
