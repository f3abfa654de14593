//! Taking over from the ledger that a restored one replaces what must not be forgotten.
//!
//! If the replaced ledger is the restored one grown older (its audit log goes on where the other's
//! ends), everything it has recorded is kept: what happened has happened, and the audit log goes on
//! without a gap. If it is of another history, only what protects is taken: revocations, ended
//! enrolments, used grants, numbers that only go up.

use std::path::Path;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::failure::Failure;
use super::{connect, tree};
use crate::audit::head::SignedHead;
use crate::error::StoreError;
use crate::journal::{self, Entry};

/// What was kept of the ledger and the journal that were replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Audit rows.
    pub(crate) rows: u64,
    /// Certificates.
    pub(crate) issued: u64,
    /// Revocations.
    pub(crate) revocations: u64,
    /// Ended enrolments.
    pub(crate) lineages: u64,
    /// Grants that may not be used any more.
    pub(crate) grants: u64,
    /// Whether the audit log goes on from the replaced one's end.
    pub(crate) continued: bool,
}

/// Copies a ledger, as it is at this moment and whoever is writing it, to a file that is not there yet.
pub(crate) fn snapshot(ledger: &Path, to: &Path) -> Result<(), StoreError> {
    let copy = || {
        let connection = super::connect_reader(ledger)?;
        connection.pragma_update(None, "query_only", false)?;
        let Some(to) = to.to_str() else {
            return Err(Failure::Damaged("the path of the copy is not text".to_owned()));
        };
        connection.execute("VACUUM INTO ?1", [to])?;
        Ok(())
    };
    copy().map_err(|failure: Failure| failure.into_error(ledger))
}

/// The newest head in a ledger.
pub(crate) fn head_of(ledger: &Path) -> Result<Option<SignedHead>, StoreError> {
    let read = || tree::newest(&super::connect_reader(ledger)?);
    read().map_err(|failure: Failure| failure.into_error(ledger))
}

/// Brings what `replaced` and the journal know, and `ledger` does not, into `ledger`.
pub(crate) fn merge(
    ledger: &Path,
    replaced: Option<&Path>,
    journal: &Path,
) -> Result<Kept, StoreError> {
    let merge = || {
        if let Some(replaced) = replaced {
            // Of an older release it may be: then its tables are brought up to date first.
            drop(connect(replaced)?);
        }
        let connection = connect(ledger)?;
        if let Some(replaced) = replaced {
            let path = replaced.to_str().unwrap_or_default();
            connection.execute("ATTACH DATABASE ?1 AS old", [path])?;
        }
        connection.execute_batch("BEGIN IMMEDIATE")?;
        let kept = take_over(&connection, replaced.is_some(), journal)?;
        connection.execute_batch("COMMIT")?;
        Ok(kept)
    };
    merge().map_err(|failure: Failure| failure.into_error(ledger))
}

fn take_over(connection: &Connection, old: bool, journal: &Path) -> Result<Kept, Failure> {
    let mut kept = Kept::default();
    // Whoever asked asks again: it may have been approved, or have run out, since the backup.
    connection.execute("DELETE FROM waiting", [])?;
    if old {
        kept.continued = continues(connection)?;
        if kept.continued {
            take_records(connection, &mut kept)?;
        } else {
            kept.grants += count(connection, END_USED_GRANTS)?;
        }
        kept.revocations += count(connection, TAKE_REVOCATIONS)?;
        kept.lineages += count(connection, TAKE_LINEAGES)?;
        connection.execute_batch(TAKE_STATEMENTS)?;
        connection.execute_batch(TAKE_NUMBERS)?;
    }
    let mut failed = None;
    journal::read(journal, |entry| {
        if failed.is_none()
            && let Err(failure) = take_entry(connection, &entry, &mut kept)
        {
            failed = Some(failure);
        }
    })?;
    failed.map_or(Ok(kept), Err)
}

/// Whether the other ledger's audit log begins with all of this one's.
fn continues(connection: &Connection) -> Result<bool, Failure> {
    let (mine, _) = tree::read(connection)?;
    if mine.size() == 0 {
        return Ok(true);
    }
    // One root over the same rows, and the rows are the same; one leaf would say nothing of the rest.
    let theirs: Option<Vec<u8>> = connection
        .query_row(
            "SELECT root FROM old.audit_head WHERE size = ?1",
            [i64::try_from(mine.size()).unwrap_or(i64::MAX)],
            |row| row.get(0),
        )
        .optional()?;
    Ok(theirs.is_some_and(|root| root == mine.root()))
}

fn take_records(connection: &Connection, kept: &mut Kept) -> Result<(), Failure> {
    kept.issued = count(connection, TAKE_ISSUED)?;
    connection.execute_batch(TAKE_NAMES)?;
    connection.execute_batch(TAKE_GRANTS)?;
    kept.grants += count(connection, TAKE_REDEMPTIONS)?;
    kept.rows = count(connection, TAKE_AUDIT)?;
    if kept.rows > 0 {
        connection.execute_batch(TAKE_TREE)?;
    }
    Ok(())
}

fn take_entry(connection: &Connection, entry: &Entry, kept: &mut Kept) -> Result<(), Failure> {
    match entry {
        Entry::Bundle(domain, number) => {
            let number = i64::try_from(*number).unwrap_or(i64::MAX);
            connection.prepare_cached(RAISE_BUNDLE)?.execute(params![domain.as_str(), number])?;
        }
        Entry::Crl(issuer, number) => {
            let number = i64::try_from(*number).unwrap_or(i64::MAX);
            connection.prepare_cached(RAISE_CRL)?.execute(params![issuer, number])?;
        }
        Entry::Ended(lineage, at) => {
            if super::revocations::end_lineage(connection, lineage, *at)? {
                kept.lineages += 1;
            }
        }
        Entry::Revoked(recorded) => {
            if super::revocations::insert(connection, &recorded.revocation)?.is_some() {
                kept.revocations += 1;
            }
        }
        Entry::Spent(grant, at) => {
            let known = micros(*at);
            let ended = connection
                .prepare_cached(
                    "UPDATE access_grant SET expires = ?2 WHERE id = ?1 AND expires > ?2
                     AND NOT EXISTS (SELECT 1 FROM redemption WHERE grant_id = ?1 AND at = ?2)",
                )?
                .execute(params![grant.as_str(), known])?;
            kept.grants += ended as u64;
        }
    }
    Ok(())
}

fn count(connection: &Connection, statement: &str) -> Result<u64, Failure> {
    Ok(connection.execute(statement, [])? as u64)
}

fn micros(at: Timestamp) -> i64 {
    at.as_microsecond()
}

const TAKE_ISSUED: &str = "
INSERT INTO issued (issuer_key_id, serial, identity, profile, not_before, not_after, lineage,
                    fingerprint, pem)
SELECT issuer_key_id, serial, identity, profile, not_before, not_after, lineage, fingerprint, pem
FROM old.issued AS theirs
WHERE NOT EXISTS (SELECT 1 FROM main.issued AS mine
                  WHERE mine.issuer_key_id = theirs.issuer_key_id AND mine.serial = theirs.serial)
ORDER BY number";

const TAKE_NAMES: &str = "
INSERT INTO issued_name (issued, position, name)
SELECT mine.number, names.position, names.name
FROM old.issued_name AS names
JOIN old.issued AS theirs ON theirs.number = names.issued
JOIN main.issued AS mine
  ON mine.issuer_key_id = theirs.issuer_key_id AND mine.serial = theirs.serial
WHERE NOT EXISTS (SELECT 1 FROM main.issued_name AS known
                  WHERE known.issued = mine.number AND known.position = names.position)";

const TAKE_GRANTS: &str = "
INSERT INTO access_grant (id, code_hash, salt, redemptions_allowed, expires, cost, site, agent,
                          created, free_rows)
SELECT id, code_hash, salt, redemptions_allowed, expires, cost, site, agent, created, free_rows
FROM old.access_grant AS theirs
WHERE NOT EXISTS (SELECT 1 FROM main.access_grant AS mine WHERE mine.id = theirs.id)
ORDER BY number;
UPDATE access_grant SET expires = theirs.expires, free_rows = theirs.free_rows
FROM old.access_grant AS theirs
WHERE theirs.id = access_grant.id AND theirs.expires <= access_grant.expires;";

const TAKE_REDEMPTIONS: &str = "
INSERT INTO redemption (grant_id, request_key, site, at, issued, chain_pem, anchors_pem, context)
SELECT theirs.grant_id, theirs.request_key, theirs.site, theirs.at, mine.number, theirs.chain_pem,
       theirs.anchors_pem, theirs.context
FROM old.redemption AS theirs
JOIN old.issued AS certificate ON certificate.number = theirs.issued
JOIN main.issued AS mine
  ON mine.issuer_key_id = certificate.issuer_key_id AND mine.serial = certificate.serial
WHERE NOT EXISTS (SELECT 1 FROM main.redemption AS known
                  WHERE known.grant_id = theirs.grant_id
                    AND known.request_key = theirs.request_key)
ORDER BY theirs.number";

/// Of another history: whatever was used there, or ended there, is not to be used here.
const END_USED_GRANTS: &str = "
UPDATE main.access_grant SET expires = min(main.access_grant.expires, theirs.created)
FROM old.access_grant AS theirs
WHERE theirs.id = main.access_grant.id AND theirs.code_hash = main.access_grant.code_hash
  AND main.access_grant.expires > theirs.created
  AND (theirs.expires < main.access_grant.expires
       OR (SELECT count(*) FROM old.redemption WHERE grant_id = theirs.id)
        > (SELECT count(*) FROM main.redemption WHERE grant_id = theirs.id))";

const TAKE_REVOCATIONS: &str = "
INSERT INTO revocation (issuer_key_id, serial, reason, at, not_after, identity, lineage)
SELECT issuer_key_id, serial, reason, at, not_after, identity, lineage
FROM old.revocation AS theirs
WHERE NOT EXISTS (SELECT 1 FROM main.revocation AS mine
                  WHERE mine.issuer_key_id = theirs.issuer_key_id AND mine.serial = theirs.serial)
ORDER BY sequence";

const TAKE_LINEAGES: &str = "
INSERT INTO ended_lineage (lineage, at) SELECT lineage, at FROM old.ended_lineage
WHERE true ON CONFLICT DO NOTHING";

const TAKE_STATEMENTS: &str = "
INSERT INTO revocation_statement (digest, statement)
SELECT digest, statement FROM old.revocation_statement AS theirs
WHERE NOT EXISTS (SELECT 1 FROM main.revocation_statement AS mine
                  WHERE mine.digest = theirs.digest) ORDER BY number";

const TAKE_NUMBERS: &str = "
INSERT INTO bundle (trust_domain, sequence) SELECT trust_domain, sequence FROM old.bundle
WHERE true ON CONFLICT (trust_domain) DO UPDATE SET sequence = excluded.sequence
WHERE excluded.sequence > sequence;
INSERT INTO crl_number (issuer_key_id, number) SELECT issuer_key_id, number FROM old.crl_number
WHERE true ON CONFLICT (issuer_key_id) DO UPDATE SET number = excluded.number
WHERE excluded.number > number;";

const RAISE_BUNDLE: &str = "
INSERT INTO bundle (trust_domain, sequence) VALUES (?1, ?2)
ON CONFLICT (trust_domain) DO UPDATE SET sequence = excluded.sequence
WHERE excluded.sequence > sequence";

const RAISE_CRL: &str = "
INSERT INTO crl_number (issuer_key_id, number) VALUES (?1, ?2)
ON CONFLICT (issuer_key_id) DO UPDATE SET number = excluded.number
WHERE excluded.number > number";

const TAKE_AUDIT: &str = "
INSERT INTO audit (sequence, at, actor, action, subject, outcome, detail, why, leaf)
SELECT sequence, at, actor, action, subject, outcome, detail, why, leaf FROM old.audit
WHERE sequence > (SELECT size FROM main.audit_tree) ORDER BY sequence";

const TAKE_TREE: &str = "
INSERT INTO audit_key (public_key) SELECT public_key FROM old.audit_key AS theirs
WHERE NOT EXISTS (SELECT 1 FROM main.audit_key AS mine
                  WHERE mine.public_key = theirs.public_key) ORDER BY number;
INSERT INTO audit_head (size, root, at, key, signature)
SELECT size, root, at, mine.number, signature
FROM old.audit_head
JOIN old.audit_key AS theirs ON theirs.number = key
JOIN main.audit_key AS mine ON mine.public_key = theirs.public_key
WHERE size > (SELECT size FROM main.audit_tree) ORDER BY size;
UPDATE main.audit_tree SET
  size = (SELECT size FROM old.audit_tree),
  at = (SELECT at FROM old.audit_tree),
  peaks = (SELECT peaks FROM old.audit_tree);";
