//! One managed credential in a directory of its own, for a process that has no home: the files lie as in a home (the shape of
//! a mounted Kubernetes Secret), with the same two phases, and one process at a time may write them.

use std::fs;
use std::path::{Path, PathBuf};

use handfast_pki::CredentialPem;

use crate::atomic::make_private_directory;
use crate::credential::{RawPem, Revision};
use crate::error::FileError;
use crate::lock::{HomeLock, LockError};
use crate::revisions::{DATA, FILES, Revisions};

/// A directory with `tls.crt`, `tls.key` and `ca.crt` that are ours to write.
pub struct LoneCredential {
    revisions: Revisions,
    _lock: HomeLock,
}

impl LoneCredential {
    /// Takes the directory for this process, makes it if it is not there (mode 0700), and cleans up after a crash.
    ///
    /// # Errors
    /// Another process has it; it holds such files that are the user's; it cannot be written.
    pub fn open(directory: &Path) -> Result<Self, LoneError> {
        make_private_directory(directory)?;
        let lock = HomeLock::acquire(&directory.join(LOCK)).map_err(|error| match error {
            LockError::Busy(pid) => LoneError::Busy { directory: directory.to_owned(), pid },
            LockError::File(error) => LoneError::File(error),
        })?;
        for file in FILES {
            let path = directory.join(file);
            let theirs = path.symlink_metadata().is_ok()
                && !fs::read_link(&path).is_ok_and(|target| target.starts_with(DATA));
            if theirs {
                return Err(LoneError::Supplied { path });
            }
        }
        let revisions = Revisions::new(directory.to_owned());
        revisions.sweep()?;
        Ok(Self { revisions, _lock: lock })
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        self.revisions.directory()
    }

    /// What is in use.
    ///
    /// # Errors
    /// The files cannot be read.
    pub fn current(&self) -> Result<Option<RawPem>, FileError> {
        match self.revisions.current()? {
            Some(revision) => self.revisions.read(revision),
            None => Ok(None),
        }
    }

    /// What was staged last and is not in use yet.
    ///
    /// # Errors
    /// The files cannot be read.
    pub fn staged(&self) -> Result<Option<(Revision, RawPem)>, FileError> {
        let Some(revision) = self.revisions.staged()? else { return Ok(None) };
        Ok(self.revisions.read(revision)?.map(|pem| (Revision(revision), pem)))
    }

    /// Writes files beside those in use, durable; anything that was staged before is dropped.
    ///
    /// # Errors
    /// They cannot be written; nothing is staged then but what was.
    pub fn stage(&self, pem: &CredentialPem) -> Result<Revision, FileError> {
        let (previous, current) = (self.revisions.previous()?, self.revisions.current()?);
        let next = self.revisions.all()?.last().copied().max(current).unwrap_or(0) + 1;
        self.revisions.write(next, pem)?;
        self.revisions.keep_only(&[previous, current, Some(next)])?;
        Ok(Revision(next))
    }

    /// Drops whatever is staged.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn unstage(&self) -> Result<(), FileError> {
        self.revisions.keep_only(&[self.revisions.previous()?, self.revisions.current()?])
    }

    /// Puts what was staged into use, by one rename. What was in use stays on disk as the previous.
    ///
    /// # Errors
    /// It is gone, or the directory cannot be written.
    pub fn promote(&self, revision: Revision) -> Result<(), FileError> {
        self.revisions.switch(revision.0)?;
        self.revisions.keep_only(&[self.revisions.previous()?, Some(revision.0)])
    }
}

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoneError {
    /// Another process writes there.
    #[error(
        "another process{} keeps the credential in {}: end it, or name another directory",
        pid.map(|pid| format!(" ({pid})")).unwrap_or_default(),
        directory.display()
    )]
    Busy {
        /// The directory.
        directory: PathBuf,
        /// The other process.
        pid: Option<u32>,
    },
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The user's own files are in the way.
    #[error(
        "{} is not ours: what the user supplied is never written over. Name another directory, or move it away",
        path.display()
    )]
    Supplied {
        /// The file.
        path: PathBuf,
    },
}

const LOCK: &str = "..lock";

#[cfg(test)]
mod tests {
    use super::*;

    fn pem(text: &str) -> CredentialPem {
        CredentialPem {
            tls_crt: format!("crt {text}"),
            tls_key: zeroize::Zeroizing::new(format!("key {text}")),
            ca_crt: format!("ca {text}"),
        }
    }

    #[test]
    fn what_is_staged_is_used_when_it_is_promoted_and_not_before() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("agent");
        let lone = LoneCredential::open(&directory).unwrap();
        assert!(lone.current().unwrap().is_none() && lone.staged().unwrap().is_none());
        let first = lone.stage(&pem("1")).unwrap();
        assert!(lone.current().unwrap().is_none());
        lone.promote(first).unwrap();
        assert_eq!(fs::read(directory.join("tls.key")).unwrap(), b"key 1");
        lone.stage(&pem("2")).unwrap();
        let third = lone.stage(&pem("3")).unwrap();
        assert_eq!(fs::read(directory.join("tls.crt")).unwrap(), b"crt 1");
        // After a crash both are found again.
        drop(lone);
        let lone = LoneCredential::open(&directory).unwrap();
        assert_eq!(lone.staged().unwrap().unwrap().0, third);
        lone.promote(third).unwrap();
        assert_eq!(lone.current().unwrap().unwrap().tls_crt.unwrap(), b"crt 3");
        assert!(lone.staged().unwrap().is_none());
        lone.stage(&pem("4")).unwrap();
        lone.unstage().unwrap();
        assert!(lone.staged().unwrap().is_none());
        assert_eq!(lone.current().unwrap().unwrap().tls_crt.unwrap(), b"crt 3");
    }

    #[test]
    fn a_directory_has_one_writer_and_the_users_files_are_left_alone() {
        let place = tempfile::tempdir().unwrap();
        let lone = LoneCredential::open(place.path()).unwrap();
        let busy = LoneCredential::open(place.path()).err().unwrap();
        assert!(matches!(busy, LoneError::Busy { .. }), "{busy}");
        drop(lone);
        fs::write(place.path().join("tls.key"), "mine").unwrap();
        let theirs = LoneCredential::open(place.path()).err().unwrap();
        assert!(theirs.to_string().contains("tls.key"), "{theirs}");
        assert_eq!(fs::read(place.path().join("tls.key")).unwrap(), b"mine");
    }
}
