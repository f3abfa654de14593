//! Credentials in the directories of a home: the user's under `input/`, ours under `runtime/`.
//! How one of ours lies on disk is in `revisions.rs`, how changes are noticed in `watch.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use handfast_pki::{CredentialPem, Name};
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::atomic::sync_directory;
use crate::credential::{CredentialStore, Kind, RawPem, Revision, Source, Stored};
use crate::error::{FileError, StoreError};
use crate::home::{Home, HomePaths};
use crate::revisions::{Revisions, TEMPORARY, is_absent, remove_tree};
use crate::supplied;
use crate::watch::{ContentWatch, WatchSettings};

/// A [`CredentialStore`] on directories.
///
/// Any process may read at any time; only one that holds the [`Home`] writes.
#[derive(Debug)]
pub struct DirectoryStore {
    paths: HomePaths,
    access: Access,
    /// One writer at a time, and the highest revision ever given to each credential: a number is not
    /// given twice, so that whoever kept an old one cannot promote something else by it.
    highest: Mutex<BTreeMap<(Kind, Name), u64>>,
}

/// A directory where credentials lie, that cannot be one: for telling the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stray {
    /// The directory or file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

#[derive(Debug)]
enum Access {
    ReadOnly(watch::Sender<u64>),
    ReadWrite(ContentWatch),
}

impl DirectoryStore {
    /// Opens the store of a home, cleans up what a crash left, and starts watching.
    ///
    /// Drop the store before the home.
    pub fn open(home: &Home, settings: WatchSettings) -> Result<Self, StoreError> {
        let paths = home.layout().clone();
        for kind in KINDS {
            sweep(paths.managed(kind))?;
        }
        let roots = KINDS
            .iter()
            .flat_map(|kind| [paths.supplied(*kind), paths.managed(*kind)])
            .map(Path::to_owned)
            .collect();
        let access = Access::ReadWrite(ContentWatch::start(roots, settings));
        Ok(Self { paths, access, highest: Mutex::default() })
    }

    /// Reads a home that another process may be using. Everything that writes fails, and
    /// [`changes`](CredentialStore::changes) never moves.
    pub fn read_only(paths: &HomePaths) -> Self {
        let access = Access::ReadOnly(watch::Sender::new(0));
        Self { paths: paths.clone(), access, highest: Mutex::default() }
    }

    /// What lies among the supplied credentials of a kind without being one.
    pub fn strays(&self, kind: Kind) -> Result<Vec<Stray>, StoreError> {
        let root = self.paths.supplied(kind);
        let mut strays = Vec::new();
        for entry in entries(root)? {
            if entry.starts_with('.') {
                continue;
            }
            let path = root.join(&entry);
            let why = match entry.parse::<Name>() {
                Err(error) => error.to_string(),
                Ok(_) if !path.is_dir() => {
                    "it is not a directory; a credential is one, with tls.crt, tls.key and ca.crt in it"
                        .to_owned()
                }
                Ok(_) => continue,
            };
            strays.push(Stray { path, why });
        }
        Ok(strays)
    }

    fn revisions(&self, kind: Kind, name: &Name) -> Revisions {
        Revisions::new(self.paths.managed(kind).join(name.as_str()))
    }

    fn load_supplied(&self, kind: Kind, name: &Name) -> Result<Option<Stored>, StoreError> {
        let directory = self.paths.supplied(kind).join(name.as_str());
        Ok(supplied::read(&directory)?.map(|pem| Stored {
            name: name.clone(),
            kind,
            source: Source::Supplied,
            revision: supplied::revision_of(&pem),
            pem,
            directory,
        }))
    }

    /// The lock of the writers; fails for a process that does not hold the home.
    fn writing(&self) -> Result<Writing<'_>, StoreError> {
        let Access::ReadWrite(watch) = &self.access else {
            return Err(StoreError::NotHeld { path: self.paths.root.clone() });
        };
        // What is guarded is on disk, and whole at every moment: a panic elsewhere broke nothing.
        let highest = self.highest.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Writing { watch, highest })
    }
}

struct Writing<'a> {
    watch: &'a ContentWatch,
    highest: MutexGuard<'a, BTreeMap<(Kind, Name), u64>>,
}

impl Writing<'_> {
    /// The highest revision given to a credential so far, on disk or not any more. To be asked before
    /// a revision is deleted: after a restart the disk is all that remembers.
    fn highest(
        &mut self,
        kind: Kind,
        name: &Name,
        revisions: &Revisions,
    ) -> Result<&mut u64, FileError> {
        let all = [revisions.all()?.last().copied(), revisions.aside()?.last().copied()];
        let on_disk = all.into_iter().flatten().max().unwrap_or(0);
        let highest = self.highest.entry((kind, name.clone())).or_insert(0);
        *highest = (*highest).max(on_disk);
        Ok(highest)
    }
}

impl CredentialStore for DirectoryStore {
    fn list(&self, kind: Kind) -> Result<Vec<Name>, StoreError> {
        let mut names = BTreeSet::new();
        for name in names_in(self.paths.supplied(kind))? {
            // An unreadable one is there; that is for `load` to say.
            if !matches!(self.load_supplied(kind, &name), Ok(None)) {
                names.insert(name);
            }
        }
        for name in names_in(self.paths.managed(kind))? {
            if self.revisions(kind, &name).current()?.is_some() {
                names.insert(name);
            }
        }
        Ok(names.into_iter().collect())
    }

    fn load(&self, kind: Kind, name: &Name) -> Result<Option<Stored>, StoreError> {
        match self.load_supplied(kind, name)? {
            None => self.load_managed(kind, name),
            supplied => Ok(supplied),
        }
    }

    fn load_managed(&self, kind: Kind, name: &Name) -> Result<Option<Stored>, StoreError> {
        let revisions = self.revisions(kind, name);
        let mut tried = None;
        while let Some(current) = revisions.current()? {
            if let Some(stored) = read_revision(&revisions, kind, name, current)? {
                return Ok(Some(stored));
            }
            // Promoted twice while we were reading: look again. If it is the same one, files of the
            // current revision have been taken away by hand, and it has to be made anew.
            if tried == Some(current) {
                tracing::warn!(
                    directory = %revisions.directory().display(),
                    revision = current,
                    "files of the current revision are missing"
                );
                break;
            }
            tried = Some(current);
        }
        Ok(None)
    }

    fn stage(&self, kind: Kind, name: &Name, pem: &CredentialPem) -> Result<Revision, StoreError> {
        let mut writing = self.writing()?;
        let revisions = self.revisions(kind, name);
        let highest = writing.highest(kind, name, &revisions)?;
        *highest += 1;
        let given = *highest;
        revisions.write(given, pem)?;
        let (previous, current) = (revisions.previous()?, revisions.current()?);
        revisions.keep_only(&[previous, current, Some(given)])?;
        Ok(Revision(given))
    }

    fn promote(&self, kind: Kind, name: &Name, revision: Revision) -> Result<(), StoreError> {
        let writing = self.writing()?;
        let revisions = self.revisions(kind, name);
        let current = revisions.current()?;
        if current == Some(revision.0) {
            // Perhaps switched by an attempt that failed to make it durable.
            return Ok(sync_directory(revisions.directory())?);
        }
        let staged = revisions.staged()?;
        if staged != Some(revision.0) {
            return Err(StoreError::Superseded {
                kind,
                name: name.clone(),
                revision,
                staged: staged.map(Revision),
            });
        }
        revisions.switch(revision.0)?;
        // The switch is done and cannot be taken back by failing now; the next sweep gets the rest.
        if let Err(error) = revisions.keep_only(&[current, staged]) {
            tracing::warn!(%error, %kind, %name, "an old revision could not be removed");
        }
        writing.watch.poke();
        Ok(())
    }

    fn discard(&self, kind: Kind, name: &Name, revision: Revision) -> Result<(), StoreError> {
        let mut writing = self.writing()?;
        let revisions = self.revisions(kind, name);
        writing.highest(kind, name, &revisions)?;
        if revisions.staged()? == Some(revision.0) {
            revisions.delete(revision.0)?;
        }
        Ok(())
    }

    fn staged(&self, kind: Kind, name: &Name) -> Result<Option<(Revision, Stored)>, StoreError> {
        let revisions = self.revisions(kind, name);
        let Some(staged) = revisions.staged()? else { return Ok(None) };
        Ok(read_revision(&revisions, kind, name, staged)?.map(|stored| (stored.revision, stored)))
    }

    fn previous(&self, kind: Kind, name: &Name) -> Result<Option<Stored>, StoreError> {
        let revisions = self.revisions(kind, name);
        let Some(previous) = revisions.previous()? else { return Ok(None) };
        read_revision(&revisions, kind, name, previous)
    }

    fn discard_previous(&self, kind: Kind, name: &Name) -> Result<(), StoreError> {
        let _writing = self.writing()?;
        let revisions = self.revisions(kind, name);
        // Without a current revision nothing is previous: what is there is staged.
        Ok(revisions.previous()?.map_or(Ok(()), |previous| revisions.delete(previous))?)
    }

    fn kept(&self, kind: Kind, name: &Name) -> Result<Vec<Stored>, StoreError> {
        let revisions = self.revisions(kind, name);
        let mut found = Vec::new();
        let kept = [revisions.previous()?, revisions.current()?, revisions.staged()?];
        for revision in kept.into_iter().flatten() {
            found.extend(read_revision(&revisions, kind, name, revision)?);
        }
        found.extend(self.aside(kind, name)?);
        Ok(found)
    }

    fn lay_aside(&self, kind: Kind, name: &Name) -> Result<(), StoreError> {
        let _writing = self.writing()?;
        let revisions = self.revisions(kind, name);
        Ok(revisions.previous()?.map_or(Ok(()), |previous| revisions.lay_aside(previous))?)
    }

    fn aside(&self, kind: Kind, name: &Name) -> Result<Vec<Stored>, StoreError> {
        let revisions = self.revisions(kind, name);
        let mut found = Vec::new();
        for revision in revisions.aside()? {
            let pem = revisions.read_aside(revision)?;
            found.extend(pem.map(|pem| stored(&revisions, kind, name, revision, pem)));
        }
        Ok(found)
    }

    fn discard_aside(&self, kind: Kind, name: &Name, revision: Revision) -> Result<(), StoreError> {
        let mut writing = self.writing()?;
        let revisions = self.revisions(kind, name);
        writing.highest(kind, name, &revisions)?;
        Ok(revisions.delete_aside(revision.0)?)
    }

    fn rewrite_key(
        &self,
        kind: Kind,
        name: &Name,
        revision: Revision,
        tls_key: &Zeroizing<String>,
    ) -> Result<(), StoreError> {
        let writing = self.writing()?;
        self.revisions(kind, name).rewrite_key(revision.0, tls_key)?;
        writing.watch.poke();
        Ok(())
    }

    fn remove(&self, kind: Kind, name: &Name) -> Result<(), StoreError> {
        let mut writing = self.writing()?;
        let revisions = self.revisions(kind, name);
        let directory = revisions.directory();
        writing.highest(kind, name, &revisions)?;
        let root = self.paths.managed(kind);
        let temporary = root.join(format!("{TEMPORARY}{name}"));
        remove_tree(&temporary)?;
        match fs::rename(directory, &temporary) {
            Err(error) if is_absent(&error) => return Ok(()),
            renamed => renamed.map_err(|source| FileError::new("remove", directory, source))?,
        }
        sync_directory(root)?;
        remove_tree(&temporary)?;
        writing.watch.poke();
        Ok(())
    }

    fn changes(&self) -> watch::Receiver<u64> {
        match &self.access {
            Access::ReadOnly(never) => never.subscribe(),
            Access::ReadWrite(watch) => watch.changes(),
        }
    }
}

fn read_revision(
    revisions: &Revisions,
    kind: Kind,
    name: &Name,
    revision: u64,
) -> Result<Option<Stored>, StoreError> {
    Ok(revisions.read(revision)?.map(|pem| stored(revisions, kind, name, revision, pem)))
}

fn stored(revisions: &Revisions, kind: Kind, name: &Name, revision: u64, pem: RawPem) -> Stored {
    Stored {
        name: name.clone(),
        kind,
        source: Source::Managed,
        pem,
        revision: Revision(revision),
        directory: revisions.directory().to_owned(),
    }
}

/// Removes what a killed process left half-done below a directory of ours.
fn sweep(root: &Path) -> Result<(), StoreError> {
    let mut removed = 0;
    for entry in entries(root)? {
        if entry.starts_with(TEMPORARY) {
            remove_tree(&root.join(&entry))?;
            removed += 1;
        } else if entry.parse::<Name>().is_ok() {
            removed += Revisions::new(root.join(&entry)).sweep()?;
        }
    }
    if removed > 0 {
        tracing::info!(directory = %root.display(), removed, "cleaned up after an unclean stop");
    }
    Ok(())
}

/// The directories below `root` that have the name of a credential.
fn names_in(root: &Path) -> Result<Vec<Name>, FileError> {
    let mut names = Vec::new();
    for entry in entries(root)? {
        if let Ok(name) = entry.parse::<Name>()
            && root.join(name.as_str()).is_dir()
        {
            names.push(name);
        }
    }
    Ok(names)
}

/// The names below a directory, as far as they are text; none if the directory is not there.
fn entries(root: &Path) -> Result<BTreeSet<String>, FileError> {
    let failed = |source| FileError::new("read", root, source);
    let entries = match fs::read_dir(root) {
        Err(error) if is_absent(&error) => return Ok(BTreeSet::new()),
        entries => entries.map_err(failed)?,
    };
    let mut names = BTreeSet::new();
    for entry in entries {
        names.insert(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

const KINDS: [Kind; 2] = [Kind::Certificate, Kind::Issuer];
