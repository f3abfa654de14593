//! What SQLite answers, turned into what an operator can act on.

use std::path::{Path, PathBuf};

use handfast_pki::{KeyError, Name};
use rusqlite::ErrorCode;
use rusqlite::ffi::{SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_CONSTRAINT_UNIQUE, SQLITE_IOERR_SHMSIZE};

use crate::error::{FileError, StoreError};

/// A failure inside the ledger, before the path of the file is added.
#[derive(Debug)]
pub(super) enum Failure {
    /// A record of the same key is there; the text says which, as a noun phrase.
    AlreadyRecorded(String),
    /// Something is stored that we would never have written.
    Damaged(String),
    /// A file beside the ledger.
    File(FileError),
    /// The work shared a transaction that was given up.
    Interrupted,
    /// The audit key cannot be used.
    Key {
        path: PathBuf,
        error: KeyError,
    },
    /// The file system cannot carry the write-ahead log; the text is the mode it fell back to.
    NoWriteAheadLog(String),
    NotOurs,
    ReadOnly,
    /// The ledger is older than what is known of it; the text says how that shows.
    RolledBack(String),
    Sql(rusqlite::Error),
    TooNew {
        found: i64,
        supported: i64,
    },
    TooOld {
        found: i64,
    },
    UnknownGrant(Name),
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl Failure {
    /// A stored text that does not parse.
    pub(super) fn unreadable(column: &str, error: impl std::fmt::Display) -> Self {
        Self::Damaged(format!("column {column}: {error}"))
    }

    /// Names the record if the failure is that its key is taken.
    pub(super) fn taken(error: rusqlite::Error, what: impl FnOnce() -> String) -> Self {
        match error.sqlite_error() {
            Some(found)
                if [SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_CONSTRAINT_UNIQUE]
                    .contains(&found.extended_code) =>
            {
                Self::AlreadyRecorded(what())
            }
            _ => Self::Sql(error),
        }
    }

    /// The same failure, for somebody else whose work went down with it.
    pub(super) fn again(&self) -> Self {
        match self {
            Self::Damaged(detail) => Self::Damaged(detail.clone()),
            Self::ReadOnly => Self::ReadOnly,
            Self::Sql(error) => match error.sqlite_error() {
                Some(found) => {
                    Self::Sql(rusqlite::Error::SqliteFailure(*found, Some(error.to_string())))
                }
                None => Self::Interrupted,
            },
            _ => Self::Interrupted,
        }
    }

    pub(super) fn into_error(self, path: &Path) -> StoreError {
        let path = path.to_owned();
        match self {
            Self::AlreadyRecorded(what) => StoreError::AlreadyRecorded { what, path },
            Self::Damaged(detail) => StoreError::Corrupt { path, detail },
            Self::File(error) => StoreError::File(error),
            Self::Interrupted => StoreError::Ledger {
                path,
                source: "the transaction was given up, nothing was written; try again".into(),
            },
            Self::Key { path, error } => StoreError::AuditKey { path, source: error },
            Self::NoWriteAheadLog(mode) => StoreError::Ledger {
                path,
                source: format!(
                    "the file system does not support a write-ahead log (journal mode `{mode}`); \
                     put the home on a local disk"
                )
                .into(),
            },
            Self::NotOurs => StoreError::NotOurs { path },
            Self::ReadOnly => StoreError::ReadOnly { path },
            Self::RolledBack(detail) => StoreError::RolledBack { path, detail },
            Self::Sql(error) => match error.sqlite_error() {
                Some(found) if found.extended_code == SQLITE_IOERR_SHMSIZE => {
                    StoreError::DiskFull { path }
                }
                Some(found) => match found.code {
                    ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => {
                        StoreError::Busy { path }
                    }
                    ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => {
                        StoreError::Corrupt { path, detail: error.to_string() }
                    }
                    ErrorCode::DiskFull => StoreError::DiskFull { path },
                    ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly => {
                        StoreError::ReadOnly { path }
                    }
                    _ => StoreError::Ledger { path, source: Box::new(error) },
                },
                None => match error {
                    rusqlite::Error::FromSqlConversionFailure(..)
                    | rusqlite::Error::IntegralValueOutOfRange(..)
                    | rusqlite::Error::InvalidColumnType(..)
                    | rusqlite::Error::Utf8Error(..) => {
                        StoreError::Corrupt { path, detail: error.to_string() }
                    }
                    other => StoreError::Ledger { path, source: Box::new(other) },
                },
            },
            Self::TooNew { found, supported } => StoreError::TooNew { path, found, supported },
            Self::TooOld { found } => StoreError::TooOld { path, found },
            Self::UnknownGrant(id) => StoreError::UnknownGrant { id },
        }
    }
}
