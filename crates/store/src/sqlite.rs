//! The ledger in an SQLite file: opening it safely, one writer at a time, and what its failures mean.
//! The tables are in `sqlite/schema.rs`; what is written and read, in the other files beside it.

mod audit;
mod failure;
mod grants;
mod group;
mod issued;
mod log;
pub(crate) mod merge;
mod redeem;
mod revocations;
mod rotations;
mod sampling;
mod schema;
mod sealing;
mod tree;
mod waiting;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use handfast_pki::{Name, Serial, TrustDomain};
use jiff::Timestamp;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, MAIN_DB, OpenFlags, OptionalExtension};

use crate::atomic::{FILE_MODE, sync_directory, write_new};
use crate::audit::head::SignedHead;
use crate::audit::{AuditFilter, AuditRange, AuditRow, RecordedAudit};
use crate::error::{FileError, StoreError};
use crate::grant::{
    Grant, GrantRecord, IssuedBundle, RedeemOutcome, RedeemedRecord, Redemption, RefusalReason,
};
use crate::issued::{Issued, IssuedFilter, Lineage, RecordedIssued};
use crate::journal::Entry;
use crate::ledger::Ledger;
use crate::revocation::{RecordedRevocation, RecordedStatement, Revocation};
use failure::Failure;
use group::{Group, Writing};
pub use log::{AuditLog, AuditPage};
use sealing::{Beside, Sealing};

/// A [`Ledger`] in one SQLite file, with its write-ahead log beside it.
///
/// Every commit is synced to disk (`journal_mode=WAL`, `synchronous=FULL`); what is written at the
/// same time shares one. Beside the file lie the key that signs the heads of the audit log
/// (`audit.key`), the newest head (`audit.head`) and the journal of what must not be forgotten
/// (`revocations.log`). Several ledgers may be open on one file, and wait for each other up to five
/// seconds.
#[derive(Debug)]
pub struct SqliteLedger {
    path: PathBuf,
    group: Group,
    reader: Mutex<Connection>,
}

impl SqliteLedger {
    /// Opens a ledger, or makes it (readable by its owner only), brings its tables up to date and
    /// checks, in a bounded time, that it is intact.
    ///
    /// Says apart what is damaged ([`StoreError::Corrupt`]), not writable
    /// ([`StoreError::ReadOnly`]), made by a newer release ([`StoreError::TooNew`]) or by another
    /// program ([`StoreError::NotOurs`]), and what is an older copy of itself
    /// ([`StoreError::RolledBack`]); none of these is changed.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = path.as_ref().to_owned();
        create_private(&path)?;
        let open = || {
            let mut connection = connect(&path)?;
            let sealing = Sealing::open(&mut connection, &Beside::of(&path))?;
            Ok((Group::new(connection, sealing), connect_reader(&path)?))
        };
        let (group, reader) = open().map_err(|failure: Failure| failure.into_error(&path))?;
        Ok(Self { path, group, reader: Mutex::new(reader) })
    }

    /// Reads audit rows that fit, the newest of them, in the order they were written.
    pub fn audit_matching(&self, filter: &AuditFilter) -> Result<Vec<RecordedAudit>, StoreError> {
        self.read(|connection| audit::matching(connection, filter))
    }

    /// Runs a piece of work that writes: all of it is durable afterwards, or nothing has happened.
    fn write<T>(
        &self,
        work: impl FnOnce(&mut Writing<'_>) -> Result<T, Failure>,
    ) -> Result<T, StoreError> {
        self.group.write(work).map_err(|failure| failure.into_error(&self.path))
    }

    /// Runs a piece of work that only reads, on one state of the ledger.
    fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Failure>,
    ) -> Result<T, StoreError> {
        // A panic rolls its transaction back; the connection is good.
        let mut connection = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let run = || {
            let transaction = connection.transaction()?;
            work(&transaction)
        };
        run().map_err(|failure: Failure| failure.into_error(&self.path))
    }
}

impl Ledger for SqliteLedger {
    fn record_issued(&self, record: &Issued, row: &AuditRow) -> Result<(), StoreError> {
        self.write(|writing| {
            issued::insert(writing, record)?;
            audit::insert(writing, row)?;
            Ok(())
        })
    }

    fn recorded_issued(&self, filter: &IssuedFilter) -> Result<Vec<RecordedIssued>, StoreError> {
        self.read(|connection| issued::select(connection, filter))
    }

    fn create_grant(&self, grant: &Grant, row: &AuditRow) -> Result<(), StoreError> {
        self.write(|writing| {
            grants::insert(writing, grant)?;
            audit::insert(writing, row)?;
            Ok(())
        })
    }

    fn grant(&self, id: &Name) -> Result<Option<GrantRecord>, StoreError> {
        self.read(|connection| grants::select_one(connection, id))
    }

    fn grants(&self) -> Result<Vec<GrantRecord>, StoreError> {
        self.read(grants::select)
    }

    fn withdraw_grant(&self, id: &Name, at: Timestamp, row: &AuditRow) -> Result<(), StoreError> {
        self.write(|writing| {
            grants::withdraw(writing, id, at)?;
            writing.facts.push(Entry::Spent(id.clone(), at));
            audit::insert(writing, row)?;
            Ok(())
        })
    }

    fn redeem(
        &self,
        redemption: &Redemption,
        issue: &mut dyn FnMut(&Grant) -> Result<IssuedBundle, RefusalReason>,
    ) -> Result<RedeemOutcome, StoreError> {
        self.write(|writing| redeem::redeem(writing, redemption, issue))
    }

    fn redemptions(&self, grant: &Name) -> Result<Vec<RedeemedRecord>, StoreError> {
        self.read(|connection| redeem::select(connection, grant))
    }

    fn last_leaf_expiry(&self, issuer_key_id: &[u8; 32]) -> Result<Option<Timestamp>, StoreError> {
        self.read(|connection| issued::last_leaf_expiry(connection, issuer_key_id))
    }

    fn bundle_sequence(&self, trust_domain: &TrustDomain) -> Result<u64, StoreError> {
        self.read(|connection| {
            let found: Option<i64> = connection
                .prepare_cached("SELECT sequence FROM bundle WHERE trust_domain = ?1")?
                .query_row([trust_domain.as_str()], |row| row.get(0))
                .optional()?;
            Ok(found.unwrap_or(0).unsigned_abs())
        })
    }

    fn next_bundle_sequence(
        &self,
        trust_domain: &TrustDomain,
        row: &AuditRow,
    ) -> Result<u64, StoreError> {
        self.write(|writing| {
            let next: i64 = writing
                .prepare_cached(
                    "INSERT INTO bundle (trust_domain, sequence) VALUES (?1, 1)
                     ON CONFLICT (trust_domain) DO UPDATE SET sequence = sequence + 1
                     RETURNING sequence",
                )?
                .query_row([trust_domain.as_str()], |row| row.get(0))?;
            writing.facts.push(Entry::Bundle(trust_domain.clone(), next.unsigned_abs()));
            audit::insert(writing, row)?;
            Ok(next.unsigned_abs())
        })
    }

    fn revoke(
        &self,
        certificates: &[Revocation],
        lineages: &[Lineage],
        row: &AuditRow,
    ) -> Result<u64, StoreError> {
        self.write(|writing| revoke(writing, certificates, lineages, row))
    }

    fn keep_statement(
        &self,
        statement: &[u8],
        certificates: &[Revocation],
        lineages: &[Lineage],
        row: &AuditRow,
    ) -> Result<u64, StoreError> {
        self.write(|writing| {
            revocations::keep_statement(writing, statement)?;
            revoke(writing, certificates, lineages, row)
        })
    }

    fn statements_after(
        &self,
        number: u64,
        limit: u32,
    ) -> Result<Vec<RecordedStatement>, StoreError> {
        self.read(|transaction| revocations::statements_after(transaction, number, limit))
    }

    fn revocation(
        &self,
        issuer_key_id: &[u8; 32],
        serial: &Serial,
    ) -> Result<Option<RecordedRevocation>, StoreError> {
        self.read(|connection| revocations::find(connection, issuer_key_id, serial))
    }

    fn revocations_after(
        &self,
        sequence: u64,
        limit: u32,
    ) -> Result<Vec<RecordedRevocation>, StoreError> {
        self.read(|connection| revocations::after(connection, sequence, limit))
    }

    fn lineage_ended(&self, lineage: &Lineage) -> Result<Option<Timestamp>, StoreError> {
        self.read(|connection| revocations::ended(connection, lineage))
    }

    fn next_crl_number(&self, issuer_key_id: &[u8; 32]) -> Result<u64, StoreError> {
        self.write(|writing| {
            let number = revocations::next_crl_number(writing, issuer_key_id)?;
            writing.facts.push(Entry::Crl(*issuer_key_id, number));
            Ok(number)
        })
    }

    fn rotation(&self, authority: &Name) -> Result<Option<String>, StoreError> {
        self.read(|connection| rotations::find(connection, authority))
    }

    fn keep_rotation(
        &self,
        authority: &Name,
        record: Option<&str>,
        row: &AuditRow,
    ) -> Result<(), StoreError> {
        self.write(|writing| {
            rotations::keep(writing, authority, record)?;
            audit::insert(writing, row)?;
            Ok(())
        })
    }

    fn waiting(&self) -> Result<Vec<(String, String)>, StoreError> {
        self.read(waiting::all)
    }

    fn keep_waiting(
        &self,
        id: &str,
        record: Option<&str>,
        row: &AuditRow,
    ) -> Result<(), StoreError> {
        self.write(|writing| {
            waiting::keep(writing, id, record)?;
            audit::insert(writing, row)?;
            Ok(())
        })
    }

    fn audit(&self, row: &AuditRow) -> Result<u64, StoreError> {
        self.write(|writing| audit::insert(writing, row))
    }

    fn audit_all(&self, rows: &[AuditRow]) -> Result<(), StoreError> {
        self.write(|writing| rows.iter().try_for_each(|row| audit::insert(writing, row).map(drop)))
    }

    fn audit_rows(&self, range: &AuditRange) -> Result<Vec<RecordedAudit>, StoreError> {
        self.read(|connection| audit::select(connection, range))
    }

    fn audit_head(&self) -> Result<Option<SignedHead>, StoreError> {
        self.read(tree::newest)
    }
}

/// The newest bundle number of every trust domain.
fn bundles(connection: &Connection) -> Result<Vec<(TrustDomain, u64)>, Failure> {
    let mut statement = connection.prepare_cached("SELECT trust_domain, sequence FROM bundle")?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let domain: String = row.get(0)?;
        let domain = domain.parse().map_err(|e| Failure::unreadable("trust_domain", e))?;
        found.push((domain, row.get::<_, i64>(1)?.unsigned_abs()));
    }
    Ok(found)
}

/// SQLite would make the file with the umask's permissions; its log takes those of the file.
/// Revokes, and leaves for the journal what was news.
fn revoke(
    writing: &mut Writing<'_>,
    certificates: &[Revocation],
    lineages: &[Lineage],
    row: &AuditRow,
) -> Result<u64, Failure> {
    for revocation in certificates {
        if let Some(sequence) = revocations::insert(writing, revocation)? {
            let recorded = RecordedRevocation { sequence, revocation: revocation.clone() };
            writing.facts.push(Entry::Revoked(recorded));
        }
    }
    for lineage in lineages {
        if revocations::end_lineage(writing, lineage, row.at)? {
            writing.facts.push(Entry::Ended(lineage.clone(), row.at));
        }
    }
    audit::insert(writing, row)?;
    revocations::newest(writing)
}

fn create_private(path: &Path) -> Result<(), FileError> {
    match write_new(path, b"", FILE_MODE) {
        Ok(()) => path.parent().map_or(Ok(()), sync_directory),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // A directory or a device would give an error that explains nothing.
            let found = fs::metadata(path).map_err(|e| FileError::new("open", path, e))?;
            if found.is_file() { Ok(()) } else { Err(FileError::new("open", path, error)) }
        }
        Err(source) => Err(FileError::new("create", path, source)),
    }
}

fn connect(path: &Path) -> Result<Connection, Failure> {
    // Guarded by our own mutex; no URI file names.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.pragma_update(None, "cell_size_check", true)?;

    // Look before touching: nothing is written to a file that is not ours, or not to be understood.
    schema::check_owner(&connection)?;
    if connection.is_readonly(MAIN_DB)? {
        return Err(Failure::ReadOnly);
    }
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if !mode.eq_ignore_ascii_case("wal") {
        return Err(Failure::NoWriteAheadLog(mode));
    }
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "recursive_triggers", true)?;
    connection.pragma_update(None, "cache_size", -CACHE)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT)?;
    schema::check_intact(&connection)?;
    schema::migrate(&mut connection)?;
    Ok(connection)
}

/// A connection that reads while the other one writes and waits for the disk.
fn connect_reader(path: &Path) -> Result<Connection, Failure> {
    // Not opened read-only: without a writer around, such a connection could not read the log.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "query_only", true)?;
    schema::check_owner(&connection)?;
    Ok(connection)
}

/// In KiB, of memory at most: what a million certificates' indices need of it at a time.
const CACHE: i64 = 16 * 1024;
/// In pages of 4 KiB: how long the write-ahead log gets before it is worked off.
const CHECKPOINT: i64 = 4000;

/// Longer than any transaction of ours by far.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod grant_tests;
#[cfg(test)]
mod group_tests;
#[cfg(test)]
mod tests;
