//! Reads a journal in order, as far as it is durable.

use std::io;
use std::sync::Arc;

use super::chunk::{self, CHUNK, Chunk, Step, Steps};
use super::state::State;
use super::{Position, ReadError};
use crate::Record;

/// Reads records in the order in which they were appended. It blocks for as long as the disk takes.
#[derive(Debug)]
pub struct Reader {
    state: Arc<State>,
    position: Position,
    steps: Option<Steps>,
    damaged_bytes: u64,
    unknown_records: u64,
}

impl Reader {
    pub(super) fn new(state: Arc<State>, from: Position) -> Self {
        let position = if from > state.end() { Position::START } else { from };
        Self { state, position, steps: None, damaged_bytes: 0, unknown_records: 0 }
    }

    /// The next records, each with the place at which it begins: as many as have `max_bytes` together,
    /// but one if there is one. None when everything durable has been read.
    ///
    /// What cannot be read is stepped over and counted; what was dropped meanwhile is left out. The content of
    /// the records is a slice of what was read from the disk, a piece of about 1 MiB, which is held as long as any of
    /// them is.
    pub fn next_batch(&mut self, max_bytes: usize) -> Result<Vec<(Position, Record)>, ReadError> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while bytes < max_bytes || batch.is_empty() {
            let Some((position, record)) = self.next_record()? else { break };
            bytes += super::frame::length(&record);
            batch.push((position, record));
        }
        Ok(batch)
    }

    /// Behind the last record that was read: where another reader would go on.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Bytes that could not be read and were stepped over.
    pub fn damaged_bytes(&self) -> u64 {
        self.damaged_bytes
    }

    /// Records that a later version wrote, of a kind that this one does not know.
    pub fn unknown_records(&self) -> u64 {
        self.unknown_records
    }

    fn next_record(&mut self) -> Result<Option<(Position, Record)>, ReadError> {
        loop {
            let Some(chunk) = self.state.chunk_from(self.position) else { return Ok(None) };
            let base = chunk.base;
            let failed = |position| {
                let path = chunk::path(self.state.directory(), base, CHUNK);
                move |source| ReadError { path, position, source }
            };
            let open_here = self.steps.take().filter(|steps| steps.chunk().base == base);
            let opened = open_here.map_or_else(|| self.open(chunk), Ok);
            let mut steps = match opened {
                Ok(steps) => steps,
                // Dropped between the question and the answer, unless it is still listed.
                Err(error)
                    if error.kind() == io::ErrorKind::NotFound
                        && self.state.chunk_from(self.position).map(|now| now.base)
                            != Some(base) =>
                {
                    continue;
                }
                Err(error) => return Err(failed(self.position)(error)),
            };
            let step = steps.next(chunk.length).map_err(failed(self.position))?;
            self.position = Position::new(base + steps.at());
            self.steps = Some(steps);
            match step {
                Some(Step::Lost { bytes }) => self.lost(base, bytes),
                Some(Step::Record { at, record }) => {
                    return Ok(Some((Position::new(base + at), record)));
                }
                Some(Step::Unknown) => self.unknown_records += 1,
                // It is read to its end; there may be another.
                None => {}
            }
        }
    }

    fn open(&self, chunk: Chunk) -> io::Result<Steps> {
        let at = self.position.as_u64().saturating_sub(chunk.base);
        Steps::open(self.state.directory(), chunk, at)
    }

    fn lost(&mut self, base: u64, bytes: u64) {
        self.damaged_bytes += bytes;
        let path = chunk::path(self.state.directory(), base, CHUNK);
        tracing::error!(
            path = %path.display(), bytes, behind = %self.position,
            "damaged bytes in a journal were stepped over: the records in them are lost; check that disk"
        );
    }
}
