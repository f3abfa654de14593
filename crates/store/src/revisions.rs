//! The revisions of one managed credential in one directory, in the shape Kubernetes gives mounted
//! Secrets, so that every reader of such mounts can read ours:
//!
//! ```text
//! <name>/tls.crt -> ..data/tls.crt      never changes
//! <name>/..data  -> ..rev-7             one rename switches all files
//! <name>/..rev-6/ ..rev-7/ ..rev-8/     previous, current, staged: complete as soon as visible
//! <name>/..old-3/                       laid aside: none of them any more, and kept until it is discarded
//! <name>/..tmp-9/                       being written or being deleted: swept after a crash
//! ```
//!
//! Who may write, and in which order, is decided in `directory.rs`.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use handfast_pki::CredentialPem;
use zeroize::Zeroizing;

use crate::atomic::{
    FILE_MODE, make_private_directory, read_bounded, sweep_temporaries, sync_directory,
    write_atomic, write_new,
};
use crate::credential::RawPem;
use crate::error::FileError;

/// The directory of one managed credential.
pub(crate) struct Revisions {
    directory: PathBuf,
}

impl Revisions {
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The revision that `..data` shows.
    pub(crate) fn current(&self) -> Result<Option<u64>, FileError> {
        let data = self.directory.join(DATA);
        match fs::read_link(&data) {
            Ok(target) => Ok(target.to_str().and_then(revision_number)),
            // Not there, not ours, or not a link: then there is no current revision of ours.
            Err(error) if is_absent(&error) || error.kind() == io::ErrorKind::InvalidInput => {
                Ok(None)
            }
            Err(source) => Err(FileError::new("read", &data, source)),
        }
    }

    /// All complete revisions, in order.
    pub(crate) fn all(&self) -> Result<Vec<u64>, FileError> {
        let mut found: Vec<u64> =
            self.entries()?.iter().filter_map(|name| revision_number(name)).collect();
        found.sort_unstable();
        Ok(found)
    }

    /// The newest revision after the current one.
    pub(crate) fn staged(&self) -> Result<Option<u64>, FileError> {
        let current = self.current()?;
        Ok(self.all()?.into_iter().rfind(|found| Some(*found) > current))
    }

    /// The newest revision before the current one.
    pub(crate) fn previous(&self) -> Result<Option<u64>, FileError> {
        let current = self.current()?;
        Ok(self.all()?.into_iter().rfind(|found| Some(*found) < current))
    }

    /// Reads the files of a revision; `None` if it is gone.
    pub(crate) fn read(&self, revision: u64) -> Result<Option<RawPem>, FileError> {
        let pem = read_files(&self.of(revision))?;
        // A revision is never incomplete; one that looks so is being deleted.
        let complete = pem.tls_crt.is_some() && pem.tls_key.is_some() && pem.ca_crt.is_some();
        Ok(complete.then_some(pem))
    }

    /// Writes a complete revision, durable, without making it current.
    pub(crate) fn write(&self, revision: u64, pem: &CredentialPem) -> Result<(), FileError> {
        make_private_directory(&self.directory)?;
        let temporary = self.temporary(revision);
        remove_tree(&temporary)?;
        let written = self.write_through(&temporary, revision, pem);
        if written.is_err() {
            // Already failing for a better reason; what is left is swept when the home is opened.
            drop(remove_tree(&temporary));
        }
        written
    }

    fn write_through(
        &self,
        temporary: &Path,
        revision: u64,
        pem: &CredentialPem,
    ) -> Result<(), FileError> {
        make_private_directory(temporary)?;
        for (file, text) in FILES.into_iter().zip([&pem.tls_crt, &*pem.tls_key, &pem.ca_crt]) {
            let path = temporary.join(file);
            write_new(&path, text.as_bytes(), FILE_MODE)
                .map_err(|source| FileError::new("write", &path, source))?;
        }
        sync_directory(temporary)?;
        rename(temporary, &self.of(revision))?;
        sync_directory(&self.directory)
    }

    /// Makes a complete revision the current one.
    pub(crate) fn switch(&self, revision: u64) -> Result<(), FileError> {
        for file in FILES {
            self.link(file, &format!("{DATA}/{file}"))?;
        }
        self.link(DATA, &format!("{REVISION}{revision}"))?;
        sync_directory(&self.directory)
    }

    /// Replaces the key file of a revision, also of one that was laid aside; nothing if it is not there.
    pub(crate) fn rewrite_key(&self, revision: u64, tls_key: &str) -> Result<(), FileError> {
        let [_, file, _] = FILES;
        let places = [self.of(revision), self.old(revision)];
        let Some(directory) = places.iter().find(|place| place.is_dir()) else { return Ok(()) };
        write_atomic(&directory.join(file), tls_key.as_bytes(), FILE_MODE)
    }

    /// Takes a revision out of their order, whole and at once.
    pub(crate) fn lay_aside(&self, revision: u64) -> Result<(), FileError> {
        rename(&self.of(revision), &self.old(revision))?;
        sync_directory(&self.directory)
    }

    /// What was laid aside, in order.
    pub(crate) fn aside(&self) -> Result<Vec<u64>, FileError> {
        let entries = self.entries()?;
        let mut found: Vec<u64> = entries.iter().filter_map(|name| numbered(name, ASIDE)).collect();
        found.sort_unstable();
        Ok(found)
    }

    /// Reads what was laid aside; `None` if it is gone.
    pub(crate) fn read_aside(&self, revision: u64) -> Result<Option<RawPem>, FileError> {
        let pem = read_files(&self.old(revision))?;
        let complete = pem.tls_crt.is_some() && pem.tls_key.is_some() && pem.ca_crt.is_some();
        Ok(complete.then_some(pem))
    }

    /// Deletes what was laid aside.
    pub(crate) fn delete_aside(&self, revision: u64) -> Result<(), FileError> {
        self.take_away(&self.old(revision), revision)
    }

    /// Deletes a revision. It disappears whole, so that half of it is never taken for a staged one.
    pub(crate) fn delete(&self, revision: u64) -> Result<(), FileError> {
        self.take_away(&self.of(revision), revision)
    }

    fn take_away(&self, directory: &Path, revision: u64) -> Result<(), FileError> {
        let temporary = self.temporary(revision);
        remove_tree(&temporary)?;
        match fs::rename(directory, &temporary) {
            Err(error) if is_absent(&error) => return Ok(()),
            renamed => renamed.map_err(|source| FileError::new("remove", directory, source))?,
        }
        sync_directory(&self.directory)?;
        remove_tree(&temporary)
    }

    /// Deletes every revision but those given.
    pub(crate) fn keep_only(&self, keep: &[Option<u64>]) -> Result<(), FileError> {
        self.all()?
            .into_iter()
            .filter(|found| !keep.contains(&Some(*found)))
            .try_for_each(|found| self.delete(found))
    }

    /// Cleans up after a crash: half-written and half-deleted revisions, and complete ones that are
    /// neither current nor its neighbours. Returns how many things were removed.
    pub(crate) fn sweep(&self) -> Result<usize, FileError> {
        let before = self.entries()?;
        for name in before.iter().filter(|name| name.starts_with(TEMPORARY)) {
            remove_tree(&self.directory.join(name))?;
        }
        self.keep_only(&[self.previous()?, self.current()?, self.staged()?])?;
        for revision in self.all()? {
            // A key that was being written differently when the process was killed.
            sweep_temporaries(&self.of(revision))?;
        }
        for revision in self.aside()? {
            sweep_temporaries(&self.old(revision))?;
        }
        // Killed before the first revision was complete. Only an empty directory can be removed.
        let emptied = fs::remove_dir(&self.directory).is_ok();
        let after = if emptied { 0 } else { self.entries()?.len() };
        Ok(before.len().saturating_sub(after) + usize::from(emptied))
    }

    /// Points a symbolic link somewhere else in one step.
    fn link(&self, name: &str, target: &str) -> Result<(), FileError> {
        let path = self.directory.join(name);
        if fs::read_link(&path).is_ok_and(|found| found.as_os_str() == target) {
            return Ok(());
        }
        let temporary = self.directory.join(format!("{TEMPORARY}{}", name.trim_matches('.')));
        remove_tree(&temporary)?;
        symlink(target, &temporary).map_err(|source| FileError::new("link", &path, source))?;
        rename(&temporary, &path)
    }

    fn entries(&self) -> Result<Vec<String>, FileError> {
        let failed = |source| FileError::new("read", &self.directory, source);
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if is_absent(&error) => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        let mut names = Vec::new();
        for entry in entries {
            names.extend(entry.map_err(failed)?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn of(&self, revision: u64) -> PathBuf {
        self.directory.join(format!("{REVISION}{revision}"))
    }

    fn old(&self, revision: u64) -> PathBuf {
        self.directory.join(format!("{ASIDE}{revision}"))
    }

    fn temporary(&self, revision: u64) -> PathBuf {
        self.directory.join(format!("{TEMPORARY}{revision}"))
    }
}

/// Reads the files of a credential from one directory, each if it is there.
pub(crate) fn read_files(directory: &Path) -> Result<RawPem, FileError> {
    let [tls_crt, tls_key, ca_crt] = FILES;
    let read = |file| match read_bounded(&directory.join(file), FILE_LIMIT) {
        Err(error) if is_absent(&error.source) => Ok(None),
        read => read,
    };
    Ok(RawPem {
        tls_crt: read(tls_crt)?,
        tls_key: read(tls_key)?.map(Zeroizing::new),
        ca_crt: read(ca_crt)?,
        pkcs11_uri: read(PKCS11_URI)?,
    })
}

/// Removes a file, link or directory, whatever is there.
pub(crate) fn remove_tree(path: &Path) -> Result<(), FileError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if is_absent(&error) => Ok(()),
        removed => removed.map_err(|source| FileError::new("remove", path, source)),
    }
}

fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    fs::rename(from, to).map_err(|source| FileError::new("write", to, source))
}

/// `..rev-7` is revision 7. Only what we would write ourselves counts.
fn revision_number(name: &str) -> Option<u64> {
    numbered(name, REVISION)
}

fn numbered(name: &str, prefix: &str) -> Option<u64> {
    let digits = name.strip_prefix(prefix)?;
    let number = digits.parse().ok()?;
    (number > 0 && format!("{number}") == digits).then_some(number)
}

/// Nothing there, or nothing that could have anything in it.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The files of a credential, in the order of [`RawPem`].
pub(crate) const FILES: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];
/// Where the key of a supplied issuer is, if it is in a token.
const PKCS11_URI: &str = "pkcs11.uri";
/// The link that decides which revision is current.
pub(crate) const DATA: &str = "..data";
/// What marks something unfinished. Not a prefix of any name a credential can have.
pub(crate) const TEMPORARY: &str = "..tmp-";
const REVISION: &str = "..rev-";
const ASIDE: &str = "..old-";
/// No credential file is near a megabyte; a larger one is a mistake, or meant to hurt.
const FILE_LIMIT: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn pem(text: &str) -> CredentialPem {
        CredentialPem {
            tls_crt: format!("crt {text}"),
            tls_key: Zeroizing::new(format!("key {text}")),
            ca_crt: format!("ca {text}"),
        }
    }

    #[test]
    fn revision_names_are_exact() {
        assert_eq!(revision_number("..rev-12"), Some(12));
        for other in ["..rev-", "..rev-0", "..rev-01", "..rev-+1", "rev-1", "..tmp-1", "..rev-1x"] {
            assert_eq!(revision_number(other), None, "{other}");
        }
    }

    #[test]
    fn what_a_crash_leaves_is_swept_and_what_counts_is_kept() {
        let home = tempfile::tempdir().unwrap();
        let revisions = Revisions::new(home.path().join("east"));
        for revision in 1..=4 {
            revisions.write(revision, &pem(&revision.to_string())).unwrap();
        }
        revisions.switch(3).unwrap();
        let directory = revisions.directory().to_owned();
        fs::create_dir(directory.join("..tmp-5")).unwrap();
        fs::write(directory.join("..tmp-5/tls.crt"), b"half").unwrap();
        symlink("..rev-4", directory.join("..tmp-data")).unwrap();

        assert_eq!(revisions.sweep().unwrap(), 3, "the two unfinished things, and revision 1");
        assert_eq!(revisions.all().unwrap(), [2, 3, 4]);
        assert_eq!(
            (revisions.previous().unwrap(), revisions.current().unwrap()),
            (Some(2), Some(3))
        );
        assert_eq!(revisions.staged().unwrap(), Some(4));
        assert_eq!(fs::read(directory.join("tls.key")).unwrap(), b"key 3");
        assert_eq!(revisions.sweep().unwrap(), 0);
    }

    #[test]
    fn a_directory_without_a_revision_goes() {
        let home = tempfile::tempdir().unwrap();
        let revisions = Revisions::new(home.path().join("east"));
        fs::create_dir_all(revisions.directory().join("..tmp-1")).unwrap();
        assert_eq!(revisions.sweep().unwrap(), 2);
        assert!(!revisions.directory().exists());
    }

    #[test]
    fn files_of_others_are_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let revisions = Revisions::new(home.path().join("east"));
        fs::create_dir(revisions.directory()).unwrap();
        fs::write(revisions.directory().join("notes"), b"mine").unwrap();
        assert_eq!(revisions.sweep().unwrap(), 0);
        assert_eq!(fs::read(revisions.directory().join("notes")).unwrap(), b"mine");
        assert_eq!(revisions.current().unwrap(), None);
    }
}
