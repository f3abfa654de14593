//! What writer, readers and whoever asks share: which chunks there are and how far they may be read.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::chunk::{self, CHUNK, Chunk};
use super::{JournalError, Position};

/// Sizes and counts of a journal, for metrics and for people.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct JournalStatus {
    /// What lies on the disk.
    pub bytes: u64,
    /// In how many chunks.
    pub chunks: usize,
    /// Bytes of chunks that were dropped because the journal was full, since it was opened.
    pub dropped_bytes: u64,
    /// The records in them, read or not.
    pub dropped_records: u64,
    /// Behind the newest record.
    pub end: Position,
    /// Where the oldest chunk begins.
    pub oldest: Position,
    /// Records ever appended.
    pub records: u64,
    /// Batches that were refused because of the limit or the disk, since it was opened.
    pub refused_batches: u64,
}

impl JournalStatus {
    /// The bytes that a consumer who is done up to a place has before it. Headers of chunks, and gaps
    /// where damaged ends were cut, count as if they were records.
    pub fn lag(&self, done: Position) -> u64 {
        self.end.since(done.max(self.oldest))
    }
}

#[derive(Debug)]
pub(crate) struct State {
    directory: PathBuf,
    chunks: Mutex<Chunks>,
    end: watch::Sender<End>,
}

/// How far a journal goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    pub(crate) closed: bool,
    pub(crate) position: Position,
}

#[derive(Debug, Default)]
struct Chunks {
    list: VecDeque<Chunk>,
    /// What lies before it nobody needs any more, as far as that was said.
    done: Position,
    records: u64,
    dropped_bytes: u64,
    dropped_records: u64,
    refused_batches: u64,
}

impl State {
    pub(super) fn new(directory: &Path, list: Vec<Chunk>, records: u64, end: Position) -> Self {
        Self {
            directory: directory.to_owned(),
            chunks: Mutex::new(Chunks { list: list.into(), records, ..Chunks::default() }),
            end: watch::Sender::new(End { closed: false, position: end }),
        }
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn end(&self) -> Position {
        self.end.borrow().position
    }

    pub(super) fn watch(&self) -> watch::Receiver<End> {
        self.end.subscribe()
    }

    /// The chunk in which a position lies, or else the first one behind it.
    pub(super) fn chunk_from(&self, position: Position) -> Option<Chunk> {
        let chunks = self.chunks();
        let first = chunks.list.partition_point(|chunk| chunk.end() <= position.as_u64());
        chunks.list.get(first).copied()
    }

    /// All chunks, oldest first.
    pub(super) fn list(&self) -> Vec<Chunk> {
        self.chunks().list.iter().copied().collect()
    }

    /// Where the oldest chunk begins.
    pub(super) fn oldest(&self) -> u64 {
        self.chunks().list.front().map_or(0, |chunk| chunk.base)
    }

    pub(super) fn status(&self) -> JournalStatus {
        let chunks = self.chunks();
        let end = self.end();
        JournalStatus {
            bytes: chunks.bytes(),
            chunks: chunks.list.len(),
            dropped_bytes: chunks.dropped_bytes,
            dropped_records: chunks.dropped_records,
            end,
            oldest: chunks.list.front().map_or(end, |chunk| Position::new(chunk.base)),
            records: chunks.records,
            refused_batches: chunks.refused_batches,
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.chunks().bytes()
    }

    pub(super) fn records(&self) -> u64 {
        self.chunks().records
    }

    pub(super) fn refused(&self) {
        self.chunks().refused_batches += 1;
    }

    /// A chunk has begun.
    pub(super) fn begin(&self, chunk: Chunk) {
        self.chunks().list.push_back(chunk);
    }

    /// The newest chunk has grown, durably.
    pub(super) fn grow(&self, length: u64, records: u64) {
        let position = {
            let mut chunks = self.chunks();
            chunks.records += records;
            let Some(open) = chunks.list.back_mut() else { return };
            open.length = length;
            Position::new(open.end())
        };
        self.end.send_modify(|end| end.position = position);
    }

    pub(super) fn close(&self) {
        self.end.send_modify(|end| end.closed = true);
    }

    /// Removes the oldest chunk, unless it is the newest; whether there was one.
    pub(super) fn drop_oldest(&self) -> Result<bool, JournalError> {
        let mut chunks = self.chunks();
        let (Some(oldest), Some(next)) = (chunks.list.front().copied(), chunks.list.get(1)) else {
            return Ok(false);
        };
        let records = next.first_record - oldest.first_record;
        self.remove(&oldest)?;
        chunks.list.pop_front();
        chunks.dropped_bytes += oldest.length;
        chunks.dropped_records += records;
        tracing::warn!(
            directory = %self.directory.display(), records, bytes = oldest.length,
            "the journal is full: its oldest chunk was dropped"
        );
        Ok(true)
    }

    /// Whether there is one chunk and no more.
    pub(super) fn is_one(&self) -> bool {
        self.chunks().list.len() == 1
    }

    /// Whether nobody needs anything of what is there.
    pub(super) fn is_done(&self) -> bool {
        let chunks = self.chunks();
        chunks.list.back().is_none_or(|newest| newest.end() <= chunks.done.as_u64())
    }

    /// Removes what nobody needed before and could not go then, because it was the newest.
    pub(super) fn release_done(&self) -> Result<u64, JournalError> {
        let done = self.chunks().done;
        self.release(done)
    }

    pub(super) fn release(&self, before: Position) -> Result<u64, JournalError> {
        let mut released = 0;
        {
            let mut chunks = self.chunks();
            chunks.done = chunks.done.max(before);
        }
        loop {
            let mut chunks = self.chunks();
            let oldest = chunks.list.front().filter(|chunk| chunk.end() <= before.as_u64());
            let Some(oldest) = oldest.copied().filter(|_| chunks.list.len() > 1) else {
                return Ok(released);
            };
            self.remove(&oldest)?;
            chunks.list.pop_front();
            released += oldest.length;
        }
    }

    fn remove(&self, chunk: &Chunk) -> Result<(), JournalError> {
        let path = chunk::path(&self.directory, chunk.base, CHUNK);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(JournalError::file("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }

    fn chunks(&self) -> MutexGuard<'_, Chunks> {
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Chunks {
    fn bytes(&self) -> u64 {
        self.list.iter().map(|chunk| chunk.length).sum()
    }
}
