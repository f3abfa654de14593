//! The tables of the ledger, how they came to be, and how a file is recognised as ours.
//!
//! Times are microseconds since 1970, whole numbers. What the tables must never lose they refuse to
//! lose themselves: triggers hold whatever the code does.

use rusqlite::{Connection, TransactionBehavior};

use super::audit;
use super::failure::Failure;
use super::sampling;

/// Fails unless the file is empty or a ledger that this release understands. Writes nothing.
pub(super) fn check_owner(connection: &Connection) -> Result<(), Failure> {
    let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let owner = number("application_id")?;
    let version = number("user_version")?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if owner != APPLICATION_ID && (owner, version, tables) != (0, 0, 0) {
        return Err(Failure::NotOurs);
    }
    if version > supported() {
        return Err(Failure::TooNew { found: version, supported: supported() });
    }
    Ok(())
}

/// Fails unless the tables are the ones this release writes. Writes nothing.
pub(super) fn check_current(connection: &Connection) -> Result<(), Failure> {
    let version =
        connection.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))?;
    if version == supported() { Ok(()) } else { Err(Failure::TooOld { found: version }) }
}

/// Fails if the file is damaged, as far as can be told in a bounded time: a small file is read whole,
/// of a large one the root of every tree, both ends of every table and index, and records from all
/// over. [`check_whole`] reads everything.
pub(super) fn check_intact(connection: &Connection) -> Result<(), Failure> {
    let pages: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
    if pages <= SMALL { check_whole(connection) } else { sampling::check(connection) }
}

/// Reads the whole file once and fails at the first thing that does not fit.
pub(super) fn check_whole(connection: &Connection) -> Result<(), Failure> {
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict == "ok" { Ok(()) } else { Err(Failure::Damaged(verdict)) }
}

/// In pages of 4 KiB: 16 MiB, which takes some 50 ms.
const SMALL: i64 = 4096;

/// Brings the tables up to date, one step to a transaction.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), Failure> {
    loop {
        let step = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Read inside the transaction: another process may have done the step just now.
        let version = step.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))?;
        let next = usize::try_from(version).ok().and_then(|version| MIGRATIONS.get(version));
        let Some(migration) = next else {
            return if version == supported() {
                Ok(())
            } else {
                Err(Failure::TooNew { found: version, supported: supported() })
            };
        };
        step.execute_batch(migration)?;
        if version == 1 {
            audit::take_in(&step)?;
            step.execute_batch(AUDIT_STAYS)?;
        }
        step.pragma_update(None, "application_id", APPLICATION_ID)?;
        step.pragma_update(None, "user_version", version + 1)?;
        step.commit()?;
        tracing::info!(from = version, to = version + 1, "ledger schema brought up to date");
    }
}

/// Made again once the rows of schema 1 have their hashes.
const AUDIT_STAYS: &str = "CREATE TRIGGER audit_stays BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'audit rows are never changed'); END;";

/// The tables of schema 1, for the test that brings them up to date.
#[cfg(test)]
pub(super) fn first() -> &'static str {
    MIGRATIONS.first().copied().unwrap_or_default()
}

/// The schema this release writes.
pub(super) fn supported() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// "hfst" in ASCII, in the header of the file: `file(1)` and we can tell it from other databases.
pub(super) const APPLICATION_ID: i64 = 0x6866_7374;

/// Each turns schema n into schema n + 1. Released ones are never edited: add another.
const MIGRATIONS: &[&str] = &[
    "
CREATE TABLE issued (
    number        INTEGER PRIMARY KEY AUTOINCREMENT,
    issuer_key_id BLOB    NOT NULL CHECK (length(issuer_key_id) = 32),
    serial        TEXT    NOT NULL,
    identity      TEXT,
    profile       TEXT    NOT NULL,
    not_before    INTEGER NOT NULL,
    not_after     INTEGER NOT NULL,
    lineage       TEXT    NOT NULL,
    fingerprint   BLOB    NOT NULL CHECK (length(fingerprint) = 32),
    pem           TEXT    NOT NULL,
    UNIQUE (issuer_key_id, serial)
) STRICT;
CREATE INDEX issued_by_fingerprint ON issued (fingerprint);
CREATE INDEX issued_by_identity ON issued (identity);
CREATE INDEX issued_by_lineage ON issued (lineage);
CREATE INDEX issued_by_expiry ON issued (not_after);

CREATE TABLE issued_name (
    issued   INTEGER NOT NULL REFERENCES issued (number),
    position INTEGER NOT NULL,
    name     TEXT    NOT NULL,
    PRIMARY KEY (issued, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX issued_name_by_name ON issued_name (name);

CREATE TABLE access_grant (
    number              INTEGER PRIMARY KEY AUTOINCREMENT,
    id                  TEXT    NOT NULL UNIQUE,
    code_hash           BLOB    NOT NULL CHECK (length(code_hash) = 32),
    salt                BLOB    NOT NULL CHECK (length(salt) = 16),
    redemptions_allowed INTEGER NOT NULL CHECK (redemptions_allowed >= 0),
    expires             INTEGER NOT NULL,
    cost                INTEGER NOT NULL CHECK (cost >= 0),
    site                TEXT,
    created             INTEGER NOT NULL,
    free_rows           INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE redemption (
    number      INTEGER PRIMARY KEY AUTOINCREMENT,
    grant_id    TEXT    NOT NULL REFERENCES access_grant (id),
    request_key BLOB    NOT NULL CHECK (length(request_key) = 32),
    site        TEXT    NOT NULL,
    at          INTEGER NOT NULL,
    issued      INTEGER NOT NULL UNIQUE REFERENCES issued (number),
    chain_pem   TEXT    NOT NULL,
    anchors_pem TEXT    NOT NULL,
    context     TEXT    NOT NULL,
    UNIQUE (grant_id, request_key)
) STRICT;

CREATE TABLE bundle (
    trust_domain TEXT    NOT NULL PRIMARY KEY,
    sequence     INTEGER NOT NULL CHECK (sequence > 0)
) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    at       INTEGER NOT NULL,
    actor    TEXT    NOT NULL,
    action   TEXT    NOT NULL,
    subject  TEXT    NOT NULL,
    outcome  TEXT    NOT NULL,
    detail   TEXT    NOT NULL
) STRICT;
CREATE INDEX audit_by_subject ON audit (subject);

CREATE TRIGGER audit_keeps BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'audit rows are never removed'); END;
CREATE TRIGGER audit_stays BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'audit rows are never changed'); END;
CREATE TRIGGER audit_grows BEFORE INSERT ON audit
WHEN EXISTS (SELECT 1 FROM audit WHERE sequence = NEW.sequence)
BEGIN SELECT RAISE(ABORT, 'audit rows are never replaced'); END;

CREATE TRIGGER issued_keeps BEFORE DELETE ON issued
BEGIN SELECT RAISE(ABORT, 'issued certificates are never removed'); END;
CREATE TRIGGER issued_stays BEFORE UPDATE ON issued
BEGIN SELECT RAISE(ABORT, 'issued certificates are never changed'); END;
CREATE TRIGGER issued_name_keeps BEFORE DELETE ON issued_name
BEGIN SELECT RAISE(ABORT, 'issued certificates are never changed'); END;
CREATE TRIGGER issued_name_stays BEFORE UPDATE ON issued_name
BEGIN SELECT RAISE(ABORT, 'issued certificates are never changed'); END;

CREATE TRIGGER redemption_keeps BEFORE DELETE ON redemption
BEGIN SELECT RAISE(ABORT, 'redemptions are never removed'); END;
CREATE TRIGGER redemption_stays BEFORE UPDATE ON redemption
BEGIN SELECT RAISE(ABORT, 'redemptions are never changed'); END;
CREATE TRIGGER redemption_counts BEFORE INSERT ON redemption
WHEN (SELECT count(*) FROM redemption WHERE grant_id = NEW.grant_id)
  >= (SELECT redemptions_allowed FROM access_grant WHERE id = NEW.grant_id)
BEGIN SELECT RAISE(ABORT, 'the grant is spent'); END;

CREATE TRIGGER access_grant_keeps BEFORE DELETE ON access_grant
BEGIN SELECT RAISE(ABORT, 'grants are never removed'); END;
CREATE TRIGGER access_grant_stays
BEFORE UPDATE OF id, code_hash, salt, redemptions_allowed, cost, site, created ON access_grant
BEGIN SELECT RAISE(ABORT, 'grants are never changed'); END;
CREATE TRIGGER access_grant_ends BEFORE UPDATE OF expires ON access_grant
WHEN NEW.expires > OLD.expires
BEGIN SELECT RAISE(ABORT, 'grants are never extended'); END;

CREATE TRIGGER bundle_keeps BEFORE DELETE ON bundle
BEGIN SELECT RAISE(ABORT, 'bundle sequences are never removed'); END;
CREATE TRIGGER bundle_counts BEFORE UPDATE ON bundle
WHEN NEW.sequence <= OLD.sequence OR NEW.trust_domain <> OLD.trust_domain
BEGIN SELECT RAISE(ABORT, 'bundle sequences only go up'); END;
",
    "
ALTER TABLE audit ADD COLUMN why TEXT NOT NULL DEFAULT '';
ALTER TABLE audit ADD COLUMN leaf BLOB NOT NULL DEFAULT x'';
DROP TRIGGER audit_stays;

CREATE TABLE audit_key (
    number     INTEGER PRIMARY KEY AUTOINCREMENT,
    public_key BLOB    NOT NULL UNIQUE
) STRICT;
CREATE TABLE audit_head (
    size      INTEGER PRIMARY KEY,
    root      BLOB    NOT NULL CHECK (length(root) = 32),
    at        INTEGER NOT NULL,
    key       INTEGER NOT NULL REFERENCES audit_key (number),
    signature BLOB    NOT NULL CHECK (length(signature) = 64)
) STRICT;
CREATE TABLE audit_tree (
    id    INTEGER PRIMARY KEY CHECK (id = 1),
    size  INTEGER NOT NULL,
    at    INTEGER NOT NULL,
    peaks BLOB    NOT NULL
) STRICT;
CREATE TRIGGER audit_head_keeps BEFORE DELETE ON audit_head
BEGIN SELECT RAISE(ABORT, 'heads are never removed'); END;
CREATE TRIGGER audit_head_stays BEFORE UPDATE ON audit_head
BEGIN SELECT RAISE(ABORT, 'heads are never changed'); END;
CREATE TRIGGER audit_tree_keeps BEFORE DELETE ON audit_tree
BEGIN SELECT RAISE(ABORT, 'the tree is never removed'); END;
CREATE TRIGGER audit_tree_grows BEFORE UPDATE ON audit_tree
WHEN NEW.size < OLD.size
BEGIN SELECT RAISE(ABORT, 'the tree never shrinks'); END;

CREATE TABLE revocation (
    sequence      INTEGER PRIMARY KEY AUTOINCREMENT,
    issuer_key_id BLOB    NOT NULL CHECK (length(issuer_key_id) = 32),
    serial        TEXT    NOT NULL,
    reason        TEXT    NOT NULL,
    at            INTEGER NOT NULL,
    not_after     INTEGER,
    identity      TEXT,
    lineage       TEXT,
    UNIQUE (issuer_key_id, serial)
) STRICT;

CREATE TABLE ended_lineage (
    lineage TEXT    NOT NULL PRIMARY KEY,
    at      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE crl_number (
    issuer_key_id BLOB    NOT NULL PRIMARY KEY CHECK (length(issuer_key_id) = 32),
    number        INTEGER NOT NULL CHECK (number > 0)
) STRICT, WITHOUT ROWID;

CREATE TABLE rotation (
    authority TEXT NOT NULL PRIMARY KEY,
    record    TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX issued_by_serial ON issued (serial);

CREATE TRIGGER revocation_keeps BEFORE DELETE ON revocation
BEGIN SELECT RAISE(ABORT, 'revocations are never removed'); END;
CREATE TRIGGER revocation_stays BEFORE UPDATE ON revocation
BEGIN SELECT RAISE(ABORT, 'revocations are never changed'); END;
CREATE TRIGGER revocation_grows BEFORE INSERT ON revocation
WHEN EXISTS (SELECT 1 FROM revocation WHERE sequence = NEW.sequence
             OR (issuer_key_id = NEW.issuer_key_id AND serial = NEW.serial))
BEGIN SELECT RAISE(ABORT, 'revocations are never replaced'); END;
CREATE TRIGGER ended_lineage_keeps BEFORE DELETE ON ended_lineage
BEGIN SELECT RAISE(ABORT, 'ended enrolments are never removed'); END;
CREATE TRIGGER ended_lineage_stays BEFORE UPDATE ON ended_lineage
BEGIN SELECT RAISE(ABORT, 'ended enrolments are never changed'); END;
CREATE TRIGGER crl_number_keeps BEFORE DELETE ON crl_number
BEGIN SELECT RAISE(ABORT, 'CRL numbers are never removed'); END;
CREATE TRIGGER crl_number_counts BEFORE UPDATE ON crl_number
WHEN NEW.number <= OLD.number OR NEW.issuer_key_id <> OLD.issuer_key_id
BEGIN SELECT RAISE(ABORT, 'CRL numbers only go up'); END;
",
    "
CREATE TABLE revocation_statement (
    number    INTEGER PRIMARY KEY AUTOINCREMENT,
    digest    BLOB NOT NULL UNIQUE CHECK (length(digest) = 32),
    statement BLOB NOT NULL
) STRICT;

CREATE TRIGGER revocation_statement_keeps BEFORE DELETE ON revocation_statement
BEGIN SELECT RAISE(ABORT, 'statements of revocation are never removed'); END;
CREATE TRIGGER revocation_statement_stays BEFORE UPDATE ON revocation_statement
BEGIN SELECT RAISE(ABORT, 'statements of revocation are never changed'); END;
",
    "
ALTER TABLE access_grant ADD COLUMN agent TEXT CHECK (agent IS NULL OR site IS NULL);

CREATE TRIGGER access_grant_audience_stays BEFORE UPDATE OF agent ON access_grant
BEGIN SELECT RAISE(ABORT, 'grants are never changed'); END;
",
    "
CREATE TABLE waiting (
    id     TEXT NOT NULL PRIMARY KEY,
    record TEXT NOT NULL
) STRICT, WITHOUT ROWID;
",
];
