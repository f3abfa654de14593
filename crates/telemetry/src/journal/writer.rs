//! The thread that writes: everything that waits in one buffer, one write, one flush.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::chunk::{self, CHUNK, Chunk, HEADER};
use super::repair::OpenChunk;
use super::state::State;
use super::{AppendError, JournalError, JournalSettings, Position, WhenFull, frame};
use crate::Record;

/// Records that wait for the disk together.
pub(super) struct Batch {
    pub(super) records: Vec<Record>,
    pub(super) bytes: u64,
    /// The room they take in memory, given back when they are done with.
    pub(super) room: OwnedSemaphorePermit,
    pub(super) then: Option<Box<dyn FnOnce(Placed) + Send>>,
    pub(super) done: oneshot::Sender<Result<Position, AppendError>>,
}

/// Where the records of a batch lie: one behind the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed {
    /// In which chunk, as it was when it began.
    pub(crate) chunk: Chunk,
    /// How far from its beginning the first of them is.
    pub(crate) at: u64,
    /// Where the oldest chunk that is left begins.
    pub(crate) oldest: u64,
}

/// The way to the thread. It ends, with everything written, when this is dropped.
#[derive(Debug)]
pub(super) struct Writer {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(
        settings: JournalSettings,
        state: Arc<State>,
        open: Option<OpenChunk>,
        free: u64,
        lock: File,
    ) -> Result<Self, JournalError> {
        let queue = Arc::new(Queue::default());
        let directory = state.directory().to_owned();
        let mut writing = Writing {
            settings,
            state,
            open,
            free,
            refusing: false,
            buffer: Vec::new(),
            group: Vec::new(),
            queue: Arc::clone(&queue),
        };
        let thread = std::thread::Builder::new().name("handfast-journal".to_owned());
        let thread = thread.spawn(move || {
            while let Some(batches) = writing.queue.take() {
                writing.write(batches);
            }
            drop(writing);
            // Closing would not do: a child that is being started at this moment has a copy of it.
            let _ = lock.unlock();
        });
        let thread = thread.map_err(|source| JournalError::Thread { directory, source })?;
        Ok(Self { queue, thread: Some(thread) })
    }

    pub(super) fn queue(&self, batch: Batch) -> Result<(), AppendError> {
        let mut waiting = self.queue.lock();
        if waiting.closed {
            return Err(AppendError::Closed);
        }
        waiting.batches.push(batch);
        drop(waiting);
        self.queue.arrived.notify_one();
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue.close();
        let Some(thread) = self.thread.take() else { return };
        // What a batch does on the thread may hold the last handle; it cannot wait for itself.
        if thread.thread().id() != std::thread::current().id() {
            let _ = thread.join();
        }
    }
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

#[derive(Default)]
struct Waiting {
    batches: Vec<Batch>,
    closed: bool,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("batches", &self.lock().batches.len()).finish()
    }
}

impl Queue {
    /// Everything that waits; `None` when nothing does and nothing will.
    fn take(&self) -> Option<Vec<Batch>> {
        let mut waiting = self.lock();
        loop {
            if !waiting.batches.is_empty() {
                return Some(std::mem::take(&mut waiting.batches));
            }
            if waiting.closed {
                return None;
            }
            waiting = self.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_one();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the thread has.
struct Writing {
    settings: JournalSettings,
    state: Arc<State>,
    queue: Arc<Queue>,
    open: Option<OpenChunk>,
    /// Before this no chunk may begin.
    free: u64,
    /// Whether the last batch was refused: that is said once, not for each.
    refusing: bool,
    /// What will be written next, and the batches in it with where each begins and ends in the chunk.
    buffer: Vec<u8>,
    group: Vec<(Batch, u64, u64)>,
}

impl Writing {
    fn write(&mut self, batches: Vec<Batch>) {
        for batch in batches {
            match self.room_for(batch.bytes) {
                Ok((salt, begin)) => {
                    let mut at = begin;
                    for record in &batch.records {
                        frame::encode(record, salt, at, &mut self.buffer);
                        at += frame::length(record) as u64;
                    }
                    self.group.push((batch, begin, at));
                }
                Err(error) => self.refuse(batch, error),
            }
        }
        self.flush();
        if self.buffer.capacity() > BUFFER_KEPT {
            self.buffer = Vec::new();
        }
    }

    /// The salt of the open chunk, and where in it the next batch goes; the chunk is begun if need be.
    fn room_for(&mut self, bytes: u64) -> Result<(u64, u64), AppendError> {
        let waiting = self.buffer.len() as u64;
        if let Some(open) = &self.open {
            let length = open.chunk.length + waiting;
            if length + bytes > self.settings.chunk_bytes && length > HEADER as u64 {
                self.flush();
                self.open = None;
            }
        }
        self.stay_within_limit(bytes)?;
        if self.open.is_none() {
            self.begin_chunk()?;
        }
        let waiting = self.buffer.len() as u64;
        self.open
            .as_ref()
            .map(|open| (open.chunk.salt, open.chunk.length + waiting))
            .ok_or(AppendError::Closed)
    }

    fn stay_within_limit(&mut self, bytes: u64) -> Result<(), AppendError> {
        let limit = self.settings.limit_bytes;
        let wanted = self.buffer.len() as u64 + bytes + HEADER as u64;
        while self.state.bytes() + wanted > limit {
            // Whatever goes, what is too large by itself has no room beside the beginning of a chunk.
            if HEADER as u64 + wanted > limit || !self.make_room()? {
                let directory = self.state.directory().to_owned();
                return Err(AppendError::Full { bytes, directory, limit });
            }
        }
        Ok(())
    }

    /// Gives the room of the oldest chunk back, if it may go; whether it did.
    fn make_room(&mut self) -> Result<bool, AppendError> {
        let drops = self.settings.when_full == WhenFull::DropOldest;
        // One that is full may be all there is, and larger than what may be there now. The newest says where the
        // journal ends, so another has to begin before it can go.
        if self.open.is_none() && self.state.is_one() && (drops || self.state.is_done()) {
            self.begin_chunk()?;
        }
        let made = match self.state.release_done() {
            Ok(0) if drops => self.state.drop_oldest(),
            released => released.map(|bytes| bytes > 0),
        };
        Ok(made.unwrap_or_else(|error| {
            tracing::error!(%error, "the oldest chunk of a full journal cannot be given back");
            false
        }))
    }

    fn begin_chunk(&mut self) -> Result<(), AppendError> {
        let base = self.state.end().as_u64().max(self.free);
        let directory = self.state.directory();
        let (chunk, file) = Chunk::create(directory, base, self.state.records())
            .map_err(|error| refusal(chunk::path(directory, base, CHUNK), error))?;
        self.state.begin(chunk);
        self.open = Some(OpenChunk { chunk, file });
        Ok(())
    }

    /// Makes what is in the buffer durable and tells everybody; or nothing of it, and tells everybody.
    fn flush(&mut self) {
        let group = std::mem::take(&mut self.group);
        let Some(open) = self.open.as_mut().filter(|_| !group.is_empty()) else { return };
        let chunk = open.chunk;
        let written = write_and_sync(open, &self.buffer);
        self.buffer.clear();
        match written {
            Ok(()) => {
                let records = group.iter().map(|(batch, ..)| batch.records.len() as u64).sum();
                if std::mem::take(&mut self.refusing) {
                    tracing::info!(directory = %self.state.directory().display(), "batches are accepted again");
                }
                self.state.grow(open.chunk.length, records);
                let oldest = self.state.oldest();
                for (batch, begin, end) in group {
                    let Batch { records, room, then, done, .. } = batch;
                    drop((records, room));
                    if let Some(then) = then {
                        then(Placed { chunk, at: begin, oldest });
                    }
                    // Whoever asked may have gone.
                    let _ = done.send(Ok(Position::new(chunk.base + end)));
                }
            }
            Err((error, usable)) => {
                let path = chunk::path(self.state.directory(), chunk.base, CHUNK);
                let error = refusal(path, error);
                if !usable {
                    self.open = None;
                }
                for (batch, ..) in group {
                    self.refuse(batch, error.clone());
                }
            }
        }
    }

    fn refuse(&mut self, batch: Batch, error: AppendError) {
        self.state.refused();
        if !std::mem::replace(&mut self.refusing, true) {
            tracing::error!(%error, "batches are refused");
        }
        let _ = batch.done.send(Err(error));
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        // However the thread ends: nobody may wait for it any more.
        self.queue.close();
        self.queue.lock().batches.clear();
        self.state.close();
    }
}

/// On failure the file ends where it ended before; the second value says whether it may be used further.
fn write_and_sync(open: &mut OpenChunk, buffer: &[u8]) -> Result<(), (io::Error, bool)> {
    let length = open.chunk.length;
    let written = open.file.write_all_at(buffer, length).map_err(|error| (error, true));
    // After a failed flush nobody knows which pages reached the disk: that file is done with.
    let synced = written.and_then(|()| open.file.sync_data().map_err(|error| (error, false)));
    match synced {
        Ok(()) => {
            open.chunk.length += buffer.len() as u64;
            Ok(())
        }
        Err((error, usable)) => {
            let cut = open.file.set_len(length).and_then(|()| open.file.sync_data());
            Err((error, usable && cut.is_ok()))
        }
    }
}

fn refusal(path: PathBuf, error: io::Error) -> AppendError {
    AppendError::Write { path, source: Arc::new(error) }
}

/// What a burst needed is given back.
const BUFFER_KEPT: usize = 8 << 20;
