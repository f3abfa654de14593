//! Putting a backup back, without forgetting what was revoked since.
//!
//! A whole new `runtime/` is put together beside the one that is there, and the two change places in
//! one step; what was there stays beside it under another name. Files go back to what they were.
//! The ledger does not: see `sqlite/merge.rs` for what it keeps of the one it replaces. A bare
//! ledger file is taken as a backup of nothing else.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use zeroize::Zeroizing;

use super::archive::{self, Unpacked};
use super::collect::{self, Content};
use super::{BackupError, sealed};
use crate::atomic::{
    FILE_MODE, make_private_directory, read_bounded, sync_directory, write_atomic,
};
use crate::audit::head::SignedHead;
use crate::audit::verify::{RESTORE, says_left_behind};
use crate::audit::{AuditRow, head_file};
use crate::error::{FileError, StoreError};
use crate::home::{Home, HomePaths};
use crate::ledger::Ledger;
use crate::lock::HomeLock;
use crate::sqlite::SqliteLedger;
use crate::sqlite::merge::{self, Kept};

/// What a restore did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// When the backup was made; unknown for a bare ledger.
    pub made: Option<Timestamp>,
    /// The row of the audit log that says so.
    pub audit_row: u64,
    /// Audit rows kept of the ledger that was replaced.
    pub rows_kept: u64,
    /// Certificates kept of it.
    pub issued_kept: u64,
    /// Revocations kept of it and of the journal.
    pub revocations_kept: u64,
    /// Ended enrolments kept.
    pub lineages_kept: u64,
    /// Grants that stay used or withdrawn.
    pub grants_kept: u64,
    /// The history that ended with the restore: what was recorded in it after the backup is lost.
    pub left_behind: Option<SignedHead>,
    /// Files with private keys that were not in the backup, and are not in the home.
    pub without_keys: Vec<String>,
    /// Where what was there before is now.
    pub before: Vec<PathBuf>,
}

/// What is restored, for whom.
#[derive(Clone, Debug)]
pub struct RestoreRequest<'a> {
    /// The backup, or a bare ledger file.
    pub from: &'a Path,
    /// What opens the private keys in it.
    pub passphrase: Option<&'a Zeroizing<Vec<u8>>>,
    /// Who asks, for the audit log.
    pub actor: &'a str,
    /// Why, for the audit log.
    pub why: &'a str,
    /// The time.
    pub now: Timestamp,
}

/// Puts a backup into a home, which nobody else uses meanwhile.
///
/// # Errors
///
/// [`BackupError`]; the home is as it was then.
pub fn restore(home: &Home, request: &RestoreRequest<'_>) -> Result<Restored, BackupError> {
    let paths = home.layout();
    let staging = paths.root.join(STAGING);
    remove_tree(&staging)?;
    make_private_directory(&staging)?;
    let restored = put_together(paths, request, &staging);
    if restored.is_err() {
        drop(fs::remove_dir_all(&staging));
    }
    restored
}

fn put_together(
    paths: &HomePaths,
    request: &RestoreRequest<'_>,
    staging: &Path,
) -> Result<Restored, BackupError> {
    let new = Home::paths(staging);
    let unpacked = unpack(request, &new)?;
    let mut without_keys = Vec::new();
    if let Some(unpacked) = &unpacked {
        for path in &unpacked.left_out {
            if !keep_present(paths, staging, path)? {
                without_keys.push(path.clone());
            }
        }
        if let Some(sealed) = &unpacked.sealed {
            open_secrets(request, sealed, staging)?;
        }
    }
    // Everything else that the node keeps, where the backup has nothing of its own.
    let whole = unpacked.is_none();
    keep_rest(paths, &new, whole)?;

    let restored = merge_ledgers(paths, &new, request, unpacked.as_ref().map(|it| it.made))?;
    let lock = HomeLock::acquire(&new.lock).map_err(|_| {
        let busy = io::Error::from(io::ErrorKind::WouldBlock);
        FileError::new("lock", &new.lock, busy)
    })?;
    let mut before = Vec::new();
    if unpacked.is_some() {
        make_private_directory(&new.input)?;
        before.push(exchange(&new.input, &paths.input, request.now)?);
    }
    before.push(exchange(&new.runtime, &paths.runtime, request.now)?);
    drop(lock);
    remove_tree(staging)?;
    Ok(Restored { without_keys, before, ..restored })
}

/// The backup's files below the staging home; nothing is unpacked for a bare ledger.
fn unpack(request: &RestoreRequest<'_>, new: &HomePaths) -> Result<Option<Unpacked>, BackupError> {
    make_private_directory(&new.runtime)?;
    if is_ledger(request.from)? {
        merge::snapshot(request.from, &new.state_db)?;
        restrict(&new.state_db)?;
        return Ok(None);
    }
    let unpacked = archive::unpack(request.from, &new.root)?;
    if !new.state_db.exists() {
        let what = "there is no ledger in it".to_owned();
        return Err(BackupError::Damaged { path: request.from.to_owned(), what });
    }
    Ok(Some(unpacked))
}

fn is_ledger(path: &Path) -> Result<bool, FileError> {
    let mut start = [0; 16];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut start));
    match read {
        Ok(()) => Ok(start == *b"SQLite format 3\0"),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(source) => Err(FileError::new("read", path, source)),
    }
}

fn open_secrets(
    request: &RestoreRequest<'_>,
    sealed: &[u8],
    staging: &Path,
) -> Result<(), BackupError> {
    let path = || request.from.to_owned();
    let passphrase =
        request.passphrase.ok_or_else(|| BackupError::PassphraseNeeded { path: path() })?;
    let items = sealed::open(sealed, passphrase)
        .ok_or_else(|| BackupError::WrongPassphrase { path: path() })?;
    for item in items {
        if !collect::stays_below(Path::new(&item.path)) {
            let what = format!("`{}` does not belong into a backup", item.path);
            return Err(BackupError::Damaged { path: path(), what });
        }
        archive::place(staging, &item)?;
    }
    Ok(())
}

/// Takes a file that the backup left out from the home, if the home has it and it still goes with the
/// rest: a key of another certificate would be worse than none.
fn keep_present(paths: &HomePaths, staging: &Path, path: &str) -> Result<bool, BackupError> {
    if !collect::stays_below(Path::new(path)) {
        return Ok(false);
    }
    let Some(bytes) = read_bounded(&paths.root.join(path), archive::LARGEST)? else {
        return Ok(false);
    };
    let certificate = Path::new(path).with_file_name("tls.crt");
    let read = |root: &Path| read_bounded(&root.join(&certificate), archive::LARGEST);
    if read(&paths.root)?.as_deref() != read(staging)?.as_deref() {
        return Ok(false);
    }
    let content = Content::File { bytes: bytes.into(), mode: FILE_MODE };
    archive::place(staging, &collect::Item { path: path.to_owned(), content })?;
    Ok(true)
}

/// Credentials whose keys the backup does not have go on as they are in the home, as does the audit
/// key; for a bare ledger, everything but it.
fn keep_rest(paths: &HomePaths, new: &HomePaths, whole: bool) -> Result<(), BackupError> {
    for kind in [&new.runtime_certs, &new.runtime_issuers] {
        drop_without_keys(kind)?;
    }
    for item in collect::runtime(paths)? {
        let to = new.root.join(&item.path);
        // The log that goes on is signed by the key that signed it last.
        let always = item.path == "runtime/audit.key";
        if always && to.exists() {
            fs::remove_file(&to).map_err(|source| FileError::new("remove", &to, source))?;
        }
        if always || whole || is_of_incomplete_credential(new, &item.path) {
            match &item.content {
                Content::File { .. } if !to.exists() => archive::place(&new.root, &item)?,
                Content::Link(target) if !to.is_symlink() => {
                    if let Some(directory) = to.parent() {
                        make_private_directory(directory)?;
                    }
                    std::os::unix::fs::symlink(target, &to)
                        .map_err(|source| FileError::new("create", &to, source))?;
                }
                _ => {}
            }
        }
    }
    for directory in [&new.runtime_certs, &new.runtime_issuers, &new.runtime_resources] {
        make_private_directory(directory)?;
    }
    Ok(())
}

/// Removes what is no good without the key that was left out: revisions, and credentials whose
/// current revision is one of those.
fn drop_without_keys(kind: &Path) -> Result<(), FileError> {
    for credential in subdirectories(kind)? {
        for revision in subdirectories(&credential)? {
            if !revision.join("tls.key").exists() {
                remove_tree(&revision)?;
            }
        }
        if !credential.join("tls.key").exists() {
            remove_tree(&credential)?;
        }
    }
    Ok(())
}

fn subdirectories(path: &Path) -> Result<Vec<PathBuf>, FileError> {
    let failed = |source| FileError::new("read", path, source);
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Whether a file is of a credential that the staging home does not have, or has without its key.
fn is_of_incomplete_credential(new: &HomePaths, path: &str) -> bool {
    let mut parts = path.split('/');
    let (Some("runtime"), Some("certs" | "issuers"), Some(_)) =
        (parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let credential: PathBuf = path.split('/').take(3).collect();
    !new.root.join(credential).join("tls.key").exists()
}

fn merge_ledgers(
    paths: &HomePaths,
    new: &HomePaths,
    request: &RestoreRequest<'_>,
    made: Option<Timestamp>,
) -> Result<Restored, BackupError> {
    let rows_before = merge::head_of(&new.state_db);
    let backup_rows = match rows_before {
        Ok(head) => head.map_or(0, |head| head.head.size),
        // Of schema 1: it has no heads yet.
        Err(_) => 0,
    };
    let old_head = head_file::read(&paths.runtime.join("audit.head"))?;
    let old = paths.state_db.is_file().then_some(paths.state_db.as_path());
    let journal = paths.runtime.join("revocations.log");
    let (kept, lost) = match merge::merge(&new.state_db, old, &journal) {
        Ok(kept) => (kept, None),
        // What cannot be read cannot be kept; the journal can.
        Err(StoreError::Corrupt { detail, .. }) if old.is_some() => {
            (merge::merge(&new.state_db, None, &journal)?, Some(detail))
        }
        Err(error) => return Err(error.into()),
    };
    // The staging ledger's own newest head, so that it is known for the one it is.
    let head = merge::head_of(&new.state_db)?;
    if let Some(head) = &head {
        write_atomic(&new.runtime.join("audit.head"), head.to_string().as_bytes(), FILE_MODE)?;
    }
    let size = head.as_ref().map_or(0, |head| head.head.size);
    let left_behind = old_head.filter(|old| !kept.continued || old.head.size > size);

    let ledger = SqliteLedger::open(&new.state_db)?;
    let detail = describe(backup_rows, &kept, lost.as_deref(), left_behind.as_ref(), made);
    let audit_row = ledger.audit(&AuditRow {
        at: request.now,
        actor: request.actor.to_owned(),
        action: RESTORE.to_owned(),
        subject: request.from.display().to_string(),
        outcome: "ok".to_owned(),
        detail,
        why: request.why.to_owned(),
    })?;
    drop(ledger);
    Ok(Restored {
        made,
        audit_row,
        rows_kept: kept.rows,
        issued_kept: kept.issued,
        revocations_kept: kept.revocations,
        lineages_kept: kept.lineages,
        grants_kept: kept.grants,
        left_behind,
        without_keys: Vec::new(),
        before: Vec::new(),
    })
}

fn describe(
    rows: u64,
    kept: &Kept,
    lost: Option<&str>,
    left_behind: Option<&SignedHead>,
    made: Option<Timestamp>,
) -> String {
    let of = made.map_or_else(|| "a bare ledger".to_owned(), |made| format!("backup of {made}"));
    let mut parts = vec![format!(
        "{of} with {rows} rows; kept since: {} rows, {} certificates, {} revocations, {} ended \
         enrolments, {} used grants",
        kept.rows, kept.issued, kept.revocations, kept.lineages, kept.grants
    )];
    parts.extend(lost.map(|lost| format!("the replaced ledger could not be read ({lost})")));
    parts.extend(left_behind.map(says_left_behind));
    parts.join("; ")
}

/// Puts a new directory into the place of another in one step, and says where the other is now.
fn exchange(new: &Path, old: &Path, now: Timestamp) -> Result<PathBuf, FileError> {
    let failed = |source: io::Error| FileError::new("replace", old, source);
    renameat_with(CWD, new, CWD, old, RenameFlags::EXCHANGE)
        .map_err(|error| failed(error.into()))?;
    let mut aside = old.as_os_str().to_owned();
    aside.push(format!(".before-restore-{}", now.as_second()));
    let mut aside = PathBuf::from(aside);
    let mut number = 1;
    while aside.exists() {
        number += 1;
        aside.set_extension(format!("before-restore-{}-{number}", now.as_second()));
    }
    fs::rename(new, &aside).map_err(failed)?;
    if let Some(home) = old.parent() {
        sync_directory(home)?;
    }
    Ok(aside)
}

fn restrict(path: &Path) -> Result<(), FileError> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(FILE_MODE))
        .map_err(|source| FileError::new("restrict", path, source))
}

fn remove_tree(path: &Path) -> Result<(), FileError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(FileError::new("remove", path, error))
        }
        _ => Ok(()),
    }
}

/// Where a home is put together before it takes its place; what a crash leaves of it is swept by the
/// next restore.
const STAGING: &str = ".restore";
