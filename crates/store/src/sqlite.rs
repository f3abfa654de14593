//! The ledger in an SQLite file: opening it safely, one writer at a time, and what its failures mean.
//! The tables are in `sqlite/schema.rs`; what is written and read, in the other files beside it.

mod audit;
mod failure;
mod grants;
mod issued;
mod redeem;
mod revocations;
mod rotations;
mod schema;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use handfast_pki::{Name, Serial, TrustDomain};
use jiff::Timestamp;
use rusqlite::config::DbConfig;
use rusqlite::{
    Connection, MAIN_DB, OpenFlags, OptionalExtension, Transaction, TransactionBehavior,
};

use crate::atomic::{FILE_MODE, sync_directory, write_new};
use crate::audit::{AuditRange, AuditRow, RecordedAudit};
use crate::error::{FileError, StoreError};
use crate::grant::{
    Grant, GrantRecord, IssuedBundle, RedeemOutcome, RedeemedRecord, Redemption, RefusalReason,
};
use crate::issued::{Issued, IssuedFilter, Lineage, RecordedIssued};
use crate::ledger::Ledger;
use crate::revocation::{RecordedRevocation, Revocation};
use failure::Failure;

/// A [`Ledger`] in one SQLite file, with its write-ahead log beside it.
///
/// Every commit is synced to disk (`journal_mode=WAL`, `synchronous=FULL`). Uses one connection;
/// several ledgers may be open on one file, and wait for each other up to five seconds.
#[derive(Debug)]
pub struct SqliteLedger {
    path: PathBuf,
    connection: Mutex<Connection>,
}

impl SqliteLedger {
    /// Opens a ledger, or makes it (readable by its owner only), brings its tables up to date and
    /// checks that it is intact.
    ///
    /// Says apart what is damaged ([`StoreError::Corrupt`]), not writable
    /// ([`StoreError::ReadOnly`]), made by a newer release ([`StoreError::TooNew`]) or by another
    /// program ([`StoreError::NotOurs`]); none of these is changed.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = path.as_ref().to_owned();
        create_private(&path)?;
        let connection = connect(&path).map_err(|failure| failure.into_error(&path))?;
        Ok(Self { path, connection: Mutex::new(connection) })
    }

    /// Runs a piece of work that writes: all of it is durable afterwards, or nothing has happened.
    fn write<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Failure>,
    ) -> Result<T, StoreError> {
        let mut connection = self.connection();
        let run = || {
            // Immediate: two writers never find out at the end that they read the same state.
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let done = work(&transaction)?;
            transaction.commit()?;
            Ok(done)
        };
        run().map_err(|failure: Failure| failure.into_error(&self.path))
    }

    /// Runs a piece of work that only reads, on one state of the ledger.
    fn read<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Failure>,
    ) -> Result<T, StoreError> {
        let mut connection = self.connection();
        let run = || work(&connection.transaction()?);
        run().map_err(|failure: Failure| failure.into_error(&self.path))
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        // A panic rolls its transaction back; the connection is good.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger for SqliteLedger {
    fn record_issued(&self, record: &Issued, row: &AuditRow) -> Result<(), StoreError> {
        self.write(|transaction| {
            issued::insert(transaction, record)?;
            audit::insert(transaction, row)?;
            Ok(())
        })
    }

    fn recorded_issued(&self, filter: &IssuedFilter) -> Result<Vec<RecordedIssued>, StoreError> {
        self.read(|transaction| issued::select(transaction, filter))
    }

    fn create_grant(&self, grant: &Grant, row: &AuditRow) -> Result<(), StoreError> {
        self.write(|transaction| {
            grants::insert(transaction, grant)?;
            audit::insert(transaction, row)?;
            Ok(())
        })
    }

    fn grant(&self, id: &Name) -> Result<Option<GrantRecord>, StoreError> {
        self.read(|transaction| grants::select_one(transaction, id))
    }

    fn grants(&self) -> Result<Vec<GrantRecord>, StoreError> {
        self.read(grants::select)
    }

    fn withdraw_grant(&self, id: &Name, at: Timestamp, row: &AuditRow) -> Result<(), StoreError> {
        self.write(|transaction| {
            grants::withdraw(transaction, id, at)?;
            audit::insert(transaction, row)?;
            Ok(())
        })
    }

    fn redeem(
        &self,
        redemption: &Redemption,
        issue: &mut dyn FnMut(&Grant) -> Result<IssuedBundle, RefusalReason>,
    ) -> Result<RedeemOutcome, StoreError> {
        self.write(|transaction| redeem::redeem(transaction, redemption, issue))
    }

    fn redemptions(&self, grant: &Name) -> Result<Vec<RedeemedRecord>, StoreError> {
        self.read(|transaction| redeem::select(transaction, grant))
    }

    fn bundle_sequence(&self, trust_domain: &TrustDomain) -> Result<u64, StoreError> {
        self.read(|transaction| {
            let found: Option<i64> = transaction
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
        self.write(|transaction| {
            let next: i64 = transaction
                .prepare_cached(
                    "INSERT INTO bundle (trust_domain, sequence) VALUES (?1, 1)
                     ON CONFLICT (trust_domain) DO UPDATE SET sequence = sequence + 1
                     RETURNING sequence",
                )?
                .query_row([trust_domain.as_str()], |row| row.get(0))?;
            audit::insert(transaction, row)?;
            Ok(next.unsigned_abs())
        })
    }

    fn revoke(
        &self,
        certificates: &[Revocation],
        lineages: &[Lineage],
        row: &AuditRow,
    ) -> Result<u64, StoreError> {
        self.write(|transaction| {
            for revocation in certificates {
                revocations::insert(transaction, revocation)?;
            }
            for lineage in lineages {
                revocations::end_lineage(transaction, lineage, row.at)?;
            }
            audit::insert(transaction, row)?;
            revocations::newest(transaction)
        })
    }

    fn revocation(
        &self,
        issuer_key_id: &[u8; 32],
        serial: &Serial,
    ) -> Result<Option<RecordedRevocation>, StoreError> {
        self.read(|transaction| revocations::find(transaction, issuer_key_id, serial))
    }

    fn revocations_after(
        &self,
        sequence: u64,
        limit: u32,
    ) -> Result<Vec<RecordedRevocation>, StoreError> {
        self.read(|transaction| revocations::after(transaction, sequence, limit))
    }

    fn lineage_ended(&self, lineage: &Lineage) -> Result<Option<Timestamp>, StoreError> {
        self.read(|transaction| revocations::ended(transaction, lineage))
    }

    fn next_crl_number(&self, issuer_key_id: &[u8; 32]) -> Result<u64, StoreError> {
        self.write(|transaction| revocations::next_crl_number(transaction, issuer_key_id))
    }

    fn rotation(&self, authority: &Name) -> Result<Option<String>, StoreError> {
        self.read(|transaction| rotations::find(transaction, authority))
    }

    fn keep_rotation(
        &self,
        authority: &Name,
        record: Option<&str>,
        row: &AuditRow,
    ) -> Result<(), StoreError> {
        self.write(|transaction| {
            rotations::keep(transaction, authority, record)?;
            audit::insert(transaction, row)?;
            Ok(())
        })
    }

    fn audit(&self, row: &AuditRow) -> Result<u64, StoreError> {
        self.write(|transaction| audit::insert(transaction, row))
    }

    fn audit_rows(&self, range: &AuditRange) -> Result<Vec<RecordedAudit>, StoreError> {
        self.read(|transaction| audit::select(transaction, range))
    }
}

/// SQLite would make the file with the umask's permissions; its log takes those of the file.
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
    schema::check_intact(&connection)?;
    schema::migrate(&mut connection)?;
    Ok(connection)
}

/// Longer than any transaction of ours by far.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
