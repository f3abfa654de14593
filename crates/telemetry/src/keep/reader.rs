//! The parts of a store, and how they are asked: the newest first, passing over what was dropped
//! meanwhile.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use jiff::Timestamp;

use super::KeepError;
use super::part::Part;
use super::window::Window;
use crate::Record;
use crate::journal::JournalError;
use crate::journal::chunk::{self, CHUNK, Chunk};

/// A store to look into. Everything here blocks for as long as the disk takes, also while the store is
/// written.
#[derive(Clone, Debug)]
pub struct KeepReader {
    pub(super) parts: Arc<Parts>,
}

#[derive(Debug)]
pub(super) struct Parts {
    directory: PathBuf,
    /// By where their chunks begin.
    list: RwLock<BTreeMap<u64, Arc<Part>>>,
    /// What is older than this, in milliseconds since 1970, is not shown any more.
    floor: AtomicI64,
}

impl KeepReader {
    /// Opens a store that another process may be writing, to look at it as it is now. What is written later is
    /// seen by whoever opens it later.
    pub fn open(directory: impl AsRef<Path>) -> Result<Self, KeepError> {
        let directory = directory.as_ref();
        let parts = Parts::new(directory);
        let bases = chunk::list(directory).map_err(JournalError::file("list", directory))?;
        let mut window = Window::new(super::window::HALF);
        for base in bases {
            let Some(file) = present(File::open(chunk::path(directory, base, CHUNK)))? else {
                continue;
            };
            let Some(chunk) = Chunk::read(&file, base)? else { continue };
            let part = match Part::sealed(directory, chunk, false) {
                Some(part) => Some(part),
                None => present(Part::read(directory, chunk, &mut window, false))?,
            };
            if let Some(part) = part {
                parts.put(part);
            }
        }
        Ok(Self { parts: Arc::new(parts) })
    }
}

impl Parts {
    pub(super) fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            list: RwLock::new(BTreeMap::new()),
            floor: AtomicI64::new(i64::MIN),
        }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn put(&self, part: Part) -> Arc<Part> {
        let part = Arc::new(part);
        self.write().insert(part.base(), Arc::clone(&part));
        part
    }

    /// Forgets the parts whose chunks begin before a place, with the files of their indexes.
    pub(super) fn forget_before(&self, oldest: u64) {
        let gone = {
            let mut list = self.write();
            let kept = list.split_off(&oldest);
            std::mem::replace(&mut *list, kept)
        };
        for part in gone.values() {
            part.remove_index();
        }
    }

    pub(super) fn all(&self) -> Vec<Arc<Part>> {
        self.read().values().map(Arc::clone).collect()
    }

    /// Newest first; without those in which everything is too old to be shown.
    pub(super) fn newest_first(&self) -> Vec<Arc<Part>> {
        let floor = self.floor();
        let mut parts = self.all();
        parts.reverse();
        parts.retain(|part| part.times().last_end >= floor);
        parts
    }

    pub(super) fn floor(&self) -> i64 {
        self.floor.load(Ordering::Relaxed)
    }

    pub(super) fn raise_floor(&self, to: Timestamp) {
        self.floor.fetch_max(to.as_millisecond(), Ordering::Relaxed);
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<u64, Arc<Part>>> {
        self.list.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<u64, Arc<Part>>> {
        self.list.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Records of parts, whose files are opened once.
#[derive(Debug, Default)]
pub(super) struct Records {
    open: BTreeMap<u64, Option<File>>,
}

impl Records {
    /// The record that begins there, if it can still be read.
    pub(super) fn record(&mut self, part: &Part, at: u32) -> Result<Option<Record>, KeepError> {
        let file = match self.open.entry(part.base()) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(present(part.open())?)
            }
        };
        let Some(file) = file else { return Ok(None) };
        Ok(part.record(file, at)?)
    }
}

/// `None` for what is not there any more: the oldest may be dropped at any moment.
pub(super) fn present<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
