//! What can go wrong with files and with the ledger, said so that an operator can act on it.
//! Who is refused a token, and why, is not an error but an outcome: see `grant.rs`.

use std::io;
use std::path::{Path, PathBuf};

use handfast_pki::{KeyError, Name};

use crate::credential::{Kind, Revision};

/// An operation on a file or directory that failed, with the path it failed on.
///
/// Whatever was there before is still there: writes go to a temporary file first.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} `{}`: {source}{}", path.display(), remedy(source))]
pub struct FileError {
    /// What was tried, as a verb: `write`, `create`, `read`.
    pub action: &'static str,
    /// The path it was tried on.
    pub path: PathBuf,
    /// What the system answered.
    #[source]
    pub source: io::Error,
}

impl FileError {
    pub(crate) fn new(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self { action, path: path.to_owned(), source }
    }

    /// Whether the file system (or the quota) has no room left.
    pub fn is_disk_full(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }

    /// Whether the system refused access, or the file system is read-only.
    pub fn is_forbidden(&self) -> bool {
        matches!(
            self.source.kind(),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
        )
    }
}

/// Why a credential store or a ledger could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The record is already there, and such records are never overwritten.
    #[error("{what} is already recorded in `{}`; records are never overwritten", path.display())]
    AlreadyRecorded {
        /// The record, as a noun phrase.
        what: String,
        /// The ledger.
        path: PathBuf,
    },
    /// The key that signs the heads of the audit log cannot be used.
    #[error(
        "the audit key `{}` cannot be used: {source}; put the file back from a backup, or remove it \
         and a new one is made, which the audit log will say",
        path.display()
    )]
    AuditKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: KeyError,
    },
    /// Another process held the ledger for longer than we wait.
    #[error(
        "the ledger `{}` is locked by another process; stop it (only one node may use a home) and \
         try again",
        path.display()
    )]
    Busy {
        /// The ledger.
        path: PathBuf,
    },
    /// The ledger cannot be understood.
    #[error(
        "the ledger `{}` is damaged ({detail}); nothing was changed. Stop the node, keep the file \
         for analysis, and restore `state.db` from a backup",
        path.display()
    )]
    Corrupt {
        /// The ledger.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// There is no room left for the ledger.
    #[error(
        "the disk is full: the ledger `{}` cannot be written, and nothing was changed; free space \
         and try again",
        path.display()
    )]
    DiskFull {
        /// The ledger.
        path: PathBuf,
    },
    /// A credential file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The database failed in a way that has no name of its own here.
    #[error("the ledger `{}` failed: {source}", path.display())]
    Ledger {
        /// The ledger.
        path: PathBuf,
        /// What the database answered.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The store was opened for reading only: this process does not hold the home.
    #[error(
        "the home `{}` is open for reading only; let its node make the change",
        path.display()
    )]
    NotHeld {
        /// The home.
        path: PathBuf,
    },
    /// The file is a database, but not one of ours.
    #[error("`{}` is a database of another program; choose another home", path.display())]
    NotOurs {
        /// The file.
        path: PathBuf,
    },
    /// The ledger can be read, but not written.
    #[error(
        "the ledger `{}` cannot be written; check the owner and permissions of the file and its \
         directory, and whether the file system is mounted read-only",
        path.display()
    )]
    ReadOnly {
        /// The ledger.
        path: PathBuf,
    },
    /// The ledger is an older copy of itself: what was recorded since, revocations among it, is missing.
    #[error(
        "the ledger `{}` was replaced by an older copy: {detail}. Put the newer file back, or take \
         the copy in with `handfast restore {}`, which keeps what was revoked since",
        path.display(),
        path.display()
    )]
    RolledBack {
        /// The ledger.
        path: PathBuf,
        /// How that shows.
        detail: String,
    },
    /// The revision is not the staged one: somebody staged, promoted or discarded in between.
    #[error(
        "revision {revision} of {kind} `{name}` is not staged (staged: {}); stage it again",
        staged.map_or_else(|| "none".to_owned(), |found| found.to_string())
    )]
    Superseded {
        /// Which sort of credential.
        kind: Kind,
        /// Its name.
        name: Name,
        /// The revision that was asked for.
        revision: Revision,
        /// The revision that is staged in truth.
        staged: Option<Revision>,
    },
    /// The ledger was written by a newer release.
    #[error(
        "the ledger `{}` has schema {found}, written by a newer handfast; this one understands up \
         to schema {supported}. Run the newer release, or restore a backup made before the upgrade",
        path.display()
    )]
    TooNew {
        /// The ledger.
        path: PathBuf,
        /// The schema found.
        found: i64,
        /// The newest schema this release understands.
        supported: i64,
    },
    /// The ledger was written by an older release, and is only read here.
    #[error(
        "the ledger `{}` has schema {found} of an older handfast; start its node once with this \
         release, which brings it up to date",
        path.display()
    )]
    TooOld {
        /// The ledger.
        path: PathBuf,
        /// The schema found.
        found: i64,
    },
    /// The grant does not exist.
    #[error("there is no grant `{id}`")]
    UnknownGrant {
        /// The grant asked for.
        id: Name,
    },
}

impl StoreError {
    /// Whether the cause is a full disk: the caller keeps what it has, and tries again later.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::DiskFull { .. } => true,
            Self::File(error) => error.is_disk_full(),
            _ => false,
        }
    }
}

/// What to do about it, for the causes that have an obvious cure.
fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AlreadyExists => "; something else of that name is in the way",
        io::ErrorKind::PermissionDenied => {
            "; check the owner and permissions, and which user runs handfast"
        }
        io::ErrorKind::QuotaExceeded | io::ErrorKind::StorageFull => {
            "; nothing was changed: free space and try again"
        }
        io::ErrorKind::ReadOnlyFilesystem => "; the file system is mounted read-only",
        io::ErrorKind::NotADirectory => "; a part of the path is a file, not a directory",
        _ => "",
    }
}
