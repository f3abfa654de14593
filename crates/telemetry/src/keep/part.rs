//! One chunk with its index: growing in memory, or in a file beside it. Whoever asks sees no difference,
//! and an index that turns out to be damaged is made again from the chunk.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::facts::Facts;
use super::filter::Filter;
use super::gathered::{Gathered, Times};
use super::index::{Group, Index, Names, Summary};
use super::index_file::{ENDING, IndexFile};
use super::row::{DUPLICATE, Row};
use super::window::Window;
use crate::journal::chunk::{self, CHUNK, Chunk, Step, Steps};
use crate::{Record, RecordKind};

/// A chunk and what is known of the records in it.
#[derive(Debug)]
pub(super) struct Part {
    directory: PathBuf,
    /// As it was when it was opened; its length is that of a sealed one only.
    chunk: Chunk,
    sealed: AtomicBool,
    content: RwLock<Content>,
    /// Which ids the file does not have; read when somebody asks first. Nothing where it cannot be read.
    filter: OnceLock<Option<Filter>>,
    /// Whether a file that turns out to be damaged may be written again.
    writable: bool,
}

#[derive(Debug)]
enum Content {
    File { index: IndexFile, verified: bool },
    Memory(Gathered),
}

impl Part {
    /// The part of a chunk that has just begun.
    pub(super) fn begin(directory: &Path, chunk: Chunk) -> Self {
        Self::of(directory, chunk, Content::Memory(Gathered::new()), true)
    }

    /// The part of a chunk that is complete, with the index in its file, if there is one.
    pub(super) fn sealed(directory: &Path, chunk: Chunk, writable: bool) -> Option<Self> {
        let index = IndexFile::open(directory, &chunk)?;
        let content = Content::File { index, verified: false };
        let part = Self::of(directory, chunk, content, writable);
        part.seal();
        Some(part)
    }

    /// The part of a chunk that is read for it. With a window, what was seen before is a duplicate.
    pub(super) fn read(
        directory: &Path,
        chunk: Chunk,
        window: &mut Window,
        writable: bool,
    ) -> io::Result<Self> {
        let gathered = read_through(directory, chunk, window)?;
        Ok(Self::of(directory, chunk, Content::Memory(gathered), writable))
    }

    fn of(directory: &Path, chunk: Chunk, content: Content, writable: bool) -> Self {
        Self {
            directory: directory.to_owned(),
            chunk,
            sealed: AtomicBool::new(false),
            content: RwLock::new(content),
            filter: OnceLock::new(),
            writable,
        }
    }

    pub(super) fn base(&self) -> u64 {
        self.chunk.base
    }

    /// Nothing more will be added.
    pub(super) fn seal(&self) {
        self.sealed.store(true, Ordering::Release);
    }

    /// Adds what is known of records, while the part is open.
    pub(super) fn add<T>(&self, add: impl FnOnce(&mut Gathered) -> T) -> Option<T> {
        match &mut *self.write() {
            Content::Memory(gathered) => Some(add(gathered)),
            Content::File { .. } => None,
        }
    }

    /// Writes the index of a sealed part to its file, and forgets it; nothing if that was done.
    pub(super) fn settle(&self) -> io::Result<()> {
        if !self.sealed.load(Ordering::Acquire) || !self.writable {
            return Ok(());
        }
        let chunk = Chunk { length: self.length()?, ..self.chunk };
        let index = match &*self.content() {
            Content::Memory(gathered) => IndexFile::write(&self.directory, &chunk, gathered)?,
            Content::File { .. } => return Ok(()),
        };
        *self.write() = Content::File { index, verified: true };
        Ok(())
    }

    pub(super) fn times(&self) -> Times {
        match &*self.content() {
            Content::File { index, .. } => index.times,
            Content::Memory(gathered) => gathered.times,
        }
    }

    /// Goes through names and rows.
    pub(super) fn with<T>(&self, ask: impl FnOnce(&Index<'_>) -> T) -> io::Result<T> {
        match &*self.good()? {
            Content::File { index, .. } => index.with(ask).map_err(|error| self.named(error)),
            Content::Memory(gathered) => Ok(ask(&gathered.index())),
        }
    }

    /// Whether there may be a record of one of these kinds that is not older, in milliseconds since 1970.
    pub(super) fn holds(&self, kinds: &[RecordKind], since: i64) -> io::Result<bool> {
        let is = |it: &Summary| {
            it.last >= since && kinds.iter().any(|kind| it.group.kind == *kind as u8)
        };
        match &*self.good()? {
            Content::File { index, .. } => index
                .with_summaries(|_, summaries| summaries.iter().any(is))
                .map_err(|error| self.named(error)),
            Content::Memory(gathered) => Ok(gathered.summaries().any(is)),
        }
    }

    /// Goes through names and summaries.
    pub(super) fn with_summaries<T>(
        &self,
        ask: impl FnOnce(&Names<'_>, &[Summary]) -> T,
    ) -> io::Result<T> {
        match &*self.good()? {
            Content::File { index, .. } => {
                index.with_summaries(ask).map_err(|error| self.named(error))
            }
            Content::Memory(gathered) => {
                let summaries: Vec<Summary> = gathered.summaries().copied().collect();
                Ok(ask(&gathered.index().names, &summaries))
            }
        }
    }

    /// The same of what is not over before a time, in milliseconds since 1970: in a part that is partly older, what is
    /// not shown is not counted.
    pub(super) fn with_summaries_since<T>(
        &self,
        floor: i64,
        ask: impl FnOnce(&Names<'_>, &[Summary]) -> T,
    ) -> io::Result<T> {
        if self.times().first_start >= floor {
            return self.with_summaries(ask);
        }
        self.with(|index| {
            let mut summaries: HashMap<Group, Summary> = HashMap::new();
            for row in index.rows().filter(|row| !row.has(DUPLICATE) && row.end() >= floor) {
                let new = Summary::of(&row);
                summaries.entry(new.group).or_insert(new).add(&row);
            }
            let summaries: Vec<Summary> = summaries.into_values().collect();
            ask(&index.names, &summaries)
        })
    }

    /// The rows of a trace.
    pub(super) fn of_trace(&self, trace: u64) -> io::Result<Vec<Row>> {
        match &*self.good()? {
            Content::File { index, .. } => index.of_trace(trace).map_err(|error| self.named(error)),
            Content::Memory(gathered) => Ok(gathered.of_trace(trace)),
        }
    }

    /// Whether a row with this id is in it, of a trace.
    pub(super) fn knows(&self, id: u128, trace: u64) -> io::Result<bool> {
        if let Content::File { index, .. } = &*self.content()
            && let Some(filter) = self.filter.get_or_init(|| index.filter())
            && !filter.may_hold(id)
        {
            return Ok(false);
        }
        Ok(self.of_trace(trace)?.iter().any(|row| row.id == id))
    }

    /// A record, by where in the chunk it begins. `None` if it cannot be read any more.
    pub(super) fn record(&self, file: &File, at: u32) -> io::Result<Option<Record>> {
        chunk::read_one(file, &self.chunk, u64::from(at)).map_err(|error| self.named(error))
    }

    /// The chunk's file, to read records from.
    pub(super) fn open(&self) -> io::Result<File> {
        let path = chunk::path(&self.directory, self.base(), CHUNK);
        File::open(path).map_err(|error| self.named(error))
    }

    /// Removes the file of the index, with the chunk that it was of.
    pub(super) fn remove_index(&self) {
        let _ = std::fs::remove_file(chunk::path(&self.directory, self.base(), ENDING));
    }

    /// The content, with its file looked through once.
    fn good(&self) -> io::Result<RwLockReadGuard<'_, Content>> {
        let content = self.content();
        let Content::File { index, verified: false } = &*content else { return Ok(content) };
        let whole = index.verify().map_err(|error| self.named(error))?;
        drop(content);
        let mut content = self.write();
        if whole {
            if let Content::File { verified, .. } = &mut *content {
                *verified = true;
            }
        } else {
            tracing::warn!(
                directory = %self.directory.display(), chunk = self.base(),
                "the index of a chunk is damaged: it is made again from the chunk"
            );
            let again = read_through(&self.directory, self.chunk, &mut Window::new(usize::MAX))?;
            *content = Content::Memory(again);
        }
        drop(content);
        if !whole && let Err(error) = self.settle() {
            tracing::warn!(%error, "the index of a chunk stays in memory");
        }
        Ok(self.content())
    }

    /// The same failure, with the file that it was of.
    fn named(&self, error: io::Error) -> io::Error {
        let path = chunk::path(&self.directory, self.base(), CHUNK);
        io::Error::new(error.kind(), format!("`{}` or its index: {error}", path.display()))
    }

    fn length(&self) -> io::Result<u64> {
        Ok(std::fs::metadata(chunk::path(&self.directory, self.base(), CHUNK))?.len())
    }

    fn content(&self) -> RwLockReadGuard<'_, Content> {
        self.content.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Content> {
        self.content.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read_through(directory: &Path, chunk: Chunk, window: &mut Window) -> io::Result<Gathered> {
    let mut gathered = Gathered::new();
    let mut steps = Steps::open(directory, chunk, 0)?;
    let mut rows = Vec::new();
    while let Some(step) = steps.next(chunk.length)? {
        if let Step::Record { at, record } = step {
            Facts::of(&record, &mut rows);
            for facts in rows.drain(..) {
                gather(&mut gathered, window, at, &facts);
            }
        }
    }
    Ok(gathered)
}

/// Adds one row; whether it was new.
pub(super) fn gather(gathered: &mut Gathered, window: &mut Window, at: u64, facts: &Facts) -> bool {
    let new = facts.id.is_none_or(|id| window.insert(id, facts.received));
    gathered.push(at, facts, !new);
    new
}
