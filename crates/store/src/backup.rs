//! Backups: one file with everything a home needs to go on elsewhere, made while its node runs.
//!
//! The file is a tar archive: a `MANIFEST` with the SHA-256 of every file, `runtime/` with a copy of
//! the ledger as of one moment, `input/`, and, if asked for, `secrets.sealed` with the private keys,
//! encrypted under a passphrase. Putting a backup back is in `backup/restore.rs`.

mod archive;
mod collect;
mod restore;
mod sealed;

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::atomic::{make_private_directory, sync_directory};
use crate::audit::AuditRow;
use crate::error::{FileError, StoreError};
use crate::home::HomePaths;
use crate::ledger::Ledger;
use crate::sqlite::{SqliteLedger, merge};
use archive::Writer;
use collect::Content;
pub use restore::{RestoreRequest, Restored, restore};

/// What a backup is made with.
#[derive(Clone, Debug)]
pub struct BackupRequest<'a> {
    /// The file to make; it must not be there yet.
    pub to: &'a Path,
    /// With the private keys, under this passphrase; without them otherwise.
    pub passphrase: Option<&'a Zeroizing<Vec<u8>>>,
    /// Who asks, for the audit log.
    pub actor: &'a str,
    /// Why, for the audit log.
    pub why: &'a str,
    /// The time.
    pub now: Timestamp,
}

/// What is in a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackedUp {
    /// How many files, the ledger among them.
    pub files: u64,
    /// How many files with private keys were sealed.
    pub sealed: u64,
    /// How many files with private keys were left out.
    pub left_out: u64,
    /// How many audit rows the ledger has.
    pub audit_rows: u64,
    /// How large the file is, in octets.
    pub size: u64,
}

/// Why a backup was not made, or not put back. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The file is not a backup, or not a whole one.
    #[error("`{}` cannot be restored: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A file of the home or of the backup cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The backup has private keys, and no passphrase was given.
    #[error(
        "`{}` has private keys: give the passphrase that it was made with (--passphrase-file)",
        path.display()
    )]
    PassphraseNeeded {
        /// The file.
        path: PathBuf,
    },
    /// The ledger cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The passphrase is not the one that the backup was made with.
    #[error("the passphrase is not the one that `{}` was made with", path.display())]
    WrongPassphrase {
        /// The file.
        path: PathBuf,
    },
}

/// Makes a backup of a home, whether its node runs or not. The audit log says that it was made, and
/// by whom, before anything is copied.
///
/// # Errors
///
/// [`BackupError`]; there is no file then.
pub fn back_up(home: &HomePaths, request: &BackupRequest<'_>) -> Result<BackedUp, BackupError> {
    let taken = || {
        let source = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
        FileError::new("create", request.to, source)
    };
    if request.to.exists() {
        return Err(taken().into());
    }
    SqliteLedger::open(&home.state_db)?.audit(&audit_row(request))?;

    // Beside the file: there is room for it if there is room for the copy.
    let mut scratch = request.to.as_os_str().to_owned();
    scratch.push(".tmp");
    let scratch = PathBuf::from(scratch);
    make_private_directory(&scratch)?;
    let made = assemble(home, request, &scratch);
    let removed = fs::remove_dir_all(&scratch);
    let (backed_up, finished) = made?;
    removed.map_err(|source| FileError::new("remove", &scratch, source))?;
    // Not by a rename: that would replace what somebody has put there meanwhile.
    let placed = fs::hard_link(&finished, request.to);
    drop(fs::remove_file(&finished));
    placed.map_err(|source| FileError::new("create", request.to, source))?;
    if let Some(directory) = request.to.parent().filter(|path| !path.as_os_str().is_empty()) {
        sync_directory(directory)?;
    }
    Ok(backed_up)
}

fn assemble(
    home: &HomePaths,
    request: &BackupRequest<'_>,
    scratch: &Path,
) -> Result<(BackedUp, PathBuf), BackupError> {
    let copy = scratch.join("state.db");
    merge::snapshot(&home.state_db, &copy)?;
    let head = merge::head_of(&copy)?;
    let audit_rows = head.as_ref().map_or(0, |head| head.head.size);

    let mut files = collect::runtime(home)?;
    if let Some(head) = &head {
        let text = head.to_string().into_bytes();
        files.push(collect::Item::plain("runtime/audit.head", text));
    }
    files.extend(collect::input(home)?);
    let (secret, plain): (Vec<_>, Vec<_>) = files.into_iter().partition(collect::Item::is_secret);

    let mut finished = request.to.as_os_str().to_owned();
    finished.push(".part");
    let finished = PathBuf::from(finished);
    let mut writer = Writer::create(&finished, request.now)?;
    for item in &plain {
        if let Content::File { bytes, mode } = &item.content {
            writer.announce(&item.path, *mode, bytes);
        }
    }
    writer.announce_file("runtime/state.db", &copy)?;
    let sealed = match request.passphrase {
        Some(passphrase) if !secret.is_empty() => Some(sealed::seal(&secret, passphrase)),
        _ => None,
    };
    match &sealed {
        Some(sealed) => writer.announce(archive::SECRETS, 0o600, sealed),
        None => secret.iter().for_each(|item| writer.leave_out(&item.path)),
    }
    let size = writer.write(&plain, &copy, sealed.as_deref())?;

    let count = |number: usize| number as u64;
    let backed_up = BackedUp {
        files: count(plain.len()) + 1,
        sealed: if sealed.is_some() { count(secret.len()) } else { 0 },
        left_out: if sealed.is_some() { 0 } else { count(secret.len()) },
        audit_rows,
        size,
    };
    Ok((backed_up, finished))
}

fn audit_row(request: &BackupRequest<'_>) -> AuditRow {
    let keys = if request.passphrase.is_some() {
        "with private keys, under a passphrase"
    } else {
        "without private keys"
    };
    AuditRow {
        at: request.now,
        actor: request.actor.to_owned(),
        action: "backup.make".to_owned(),
        subject: request.to.display().to_string(),
        outcome: "ok".to_owned(),
        detail: keys.to_owned(),
        why: request.why.to_owned(),
    }
}
