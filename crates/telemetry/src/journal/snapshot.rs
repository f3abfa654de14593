//! A journal as it lies there at a moment, to be read only: nothing is locked, repaired or written, so that it may be
//! another process's, which goes on.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::chunk::{self, CHUNK, Chunk, HEADER, Step, Steps};
use super::reader::Reader;
use super::state::State;
use super::{JournalError, Position};

/// What could be read at that moment.
#[derive(Debug)]
pub(crate) struct Snapshot {
    state: Arc<State>,
}

impl Snapshot {
    /// Looks at the journal in a directory. Blocks while its newest chunk is read.
    pub(crate) fn take(directory: &Path) -> Result<Self, JournalError> {
        let mut chunks: Vec<Chunk> = Vec::new();
        let mut newest = None;
        for base in chunk::list(directory).map_err(JournalError::file("list", directory))? {
            let path = chunk::path(directory, base, CHUNK);
            let file = match File::open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                file => file.map_err(JournalError::file("open", &path))?,
            };
            let read = Chunk::read(&file, base).map_err(JournalError::file("read", &path))?;
            // One without a header is being made, or is what the next start puts aside.
            let Some(chunk) = read else { continue };
            if let Some(before) = chunks.last_mut() {
                // What a failed write left behind its end is nobody's.
                before.length = before.length.min(base.saturating_sub(before.base));
            }
            chunks.push(chunk);
            newest = Some((file, path));
        }
        if let (Some(last), Some((file, path))) = (chunks.last_mut(), newest) {
            last.length = whole(file, *last).map_err(JournalError::file("read", &path))?;
        }
        let end = chunks.last().map_or(0, Chunk::end);
        let state = State::new(directory, chunks, 0, Position::new(end));
        Ok(Self { state: Arc::new(state) })
    }

    /// Reads from a place on.
    pub(crate) fn reader(&self, from: Position) -> Reader {
        Reader::new(Arc::clone(&self.state), from)
    }

    /// Behind the last record that is whole.
    pub(crate) fn end(&self) -> Position {
        self.state.end()
    }

    /// Its chunks, oldest first.
    pub(crate) fn chunks(&self) -> Vec<Chunk> {
        self.state.list()
    }
}

/// How far a chunk may be read: behind it somebody may just be writing.
fn whole(file: File, chunk: Chunk) -> io::Result<u64> {
    let mut steps = Steps::new(file, chunk, 0);
    let mut whole = HEADER as u64;
    while let Some(step) = steps.next(chunk.length)? {
        if !matches!(step, Step::Lost { .. }) {
            whole = steps.at();
        }
    }
    Ok(whole)
}
