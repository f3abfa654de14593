//! Where accepted records lie until nobody needs them: appended, flushed together, repaired after a
//! crash. A spool and a store are made of the same thing.
//!
//! A journal is a directory of **chunks**, files that are only ever appended to:
//!
//! ```text
//! 00000000000000000000.chunk     named by the position at which it begins
//! 00000000000067108910.chunk     the newest one is open, the others are sealed
//! 00000000000067108910-4711.damaged   what a crash left half written, kept aside
//! lock
//! ```
//!
//! One thread writes. It takes everything that waits, frames it into one buffer, writes once and
//! flushes once for all of them; nothing can be read, and nobody is told, before that. Whoever appends
//! waits for room first, so that what waits in memory is bounded.
//!
//! A [`Position`] counts bytes since the journal began. It never goes back: where a torn end was cut,
//! the next chunk begins behind what was cut, so that a place somebody remembers never means another
//! record.
//!
//! ```
//! use bytes::Bytes;
//! use handfast_telemetry::journal::{Journal, JournalSettings, Position};
//! use handfast_telemetry::{Record, RecordKind};
//!
//! # let directory = tempfile::tempdir()?;
//! # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
//! # runtime.block_on(async {
//! let (journal, repair) = Journal::open(directory.path(), JournalSettings::default())?;
//! assert!(repair.is_clean());
//! let record = Record {
//!     body: Bytes::from_static(b"a segment"),
//!     kind: RecordKind::Segment,
//!     received: jiff::Timestamp::UNIX_EPOCH,
//!     reporter: Bytes::new(),
//! };
//! let end = journal.append(vec![record.clone()]).await?.durable().await?;
//! let mut reader = journal.reader(Position::START);
//! assert_eq!(reader.next_batch(1 << 20)?[0].1, record);
//! assert_eq!(reader.position(), end);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub(crate) mod chunk;
mod cursor;
mod error;
pub mod frame;
mod reader;
mod repair;
mod snapshot;
mod state;
mod writer;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::{Semaphore, oneshot, watch};

pub use self::cursor::Cursor;
pub use self::error::{AppendError, JournalError, ReadError};
pub use self::reader::Reader;
use self::repair::Found;
pub use self::repair::Repair;
pub(crate) use self::snapshot::Snapshot;
pub use self::state::JournalStatus;
use self::state::State;
pub(crate) use self::writer::Placed;
use self::writer::{Batch, Writer};
use crate::Record;

/// How much of a journal may be where.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct JournalSettings {
    /// When a chunk is full and the next one begins: what is not needed is given back in such
    /// pieces. Never more than a quarter of `limit_bytes`.
    pub chunk_bytes: u64,
    /// What may lie on the disk, together.
    pub limit_bytes: u64,
    /// What may wait in memory for the disk; who appends more, waits.
    pub queue_bytes: u32,
    /// What happens when `limit_bytes` are there.
    pub when_full: WhenFull,
}

impl Default for JournalSettings {
    fn default() -> Self {
        Self {
            chunk_bytes: 64 << 20,
            limit_bytes: 10 << 30,
            queue_bytes: 32 << 20,
            when_full: WhenFull::Refuse,
        }
    }
}

/// What happens when a journal has as many bytes as it may have.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum WhenFull {
    /// The oldest chunk goes, read or not, and what was in it is counted as dropped.
    DropOldest,
    /// Nothing more is taken, until there is room.
    #[default]
    Refuse,
}

/// A place between records, in bytes since the journal began.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Position(u64);

impl Position {
    /// Before the first record.
    pub const START: Self = Self(0);

    /// The place after that many bytes.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The bytes before it.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// How many bytes lie between an earlier place and this one.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An open journal. Clones are the same journal; it closes with the last of them.
#[derive(Clone, Debug)]
pub struct Journal {
    writer: Arc<Writer>,
    state: Arc<State>,
    room: Arc<Semaphore>,
    queue_bytes: u32,
}

impl Journal {
    /// Opens the journal in a directory, which is made if it is missing, and repairs its end.
    ///
    /// Blocks while the newest chunk is read.
    pub fn open(
        directory: impl AsRef<Path>,
        settings: JournalSettings,
    ) -> Result<(Self, Repair), JournalError> {
        let settings = settings.sane();
        let lock = chunk::lock(directory.as_ref())?;
        let Found { state, open, free, repair } = repair::repair(directory.as_ref())?;
        let state = Arc::new(state);
        let queue_bytes = settings.queue_bytes;
        let writer = Writer::start(settings, Arc::clone(&state), open, free, lock)?;
        let room = Arc::new(Semaphore::new(queue_bytes as usize));
        Ok((Self { writer: Arc::new(writer), state, room, queue_bytes }, repair))
    }

    /// Hands records to the writer, as soon as there is room for them. They lie together, in this
    /// order, in one chunk; all of them are accepted or none.
    ///
    /// Nothing was handed over if this is dropped before it is done.
    pub async fn append(&self, records: Vec<Record>) -> Result<Appended, AppendError> {
        self.append_then(records, None).await
    }

    /// The same, with something to do on the writer's thread in the moment between the records being
    /// durable and anybody being told: in the order in which they lie.
    pub(crate) async fn append_then(
        &self,
        records: Vec<Record>,
        then: Option<Box<dyn FnOnce(Placed) + Send>>,
    ) -> Result<Appended, AppendError> {
        let bytes = frame::batch_length(&records)?;
        let share = u32::try_from(bytes).unwrap_or(u32::MAX).clamp(1, self.queue_bytes);
        let room = Arc::clone(&self.room).acquire_many_owned(share).await;
        let room = room.map_err(|_| AppendError::Closed)?;
        let (done, durable) = oneshot::channel();
        self.writer.queue(Batch { records, bytes, room, then, done })?;
        Ok(Appended { durable })
    }

    /// Reads from a place on. A place that this journal never reached, because somebody emptied its
    /// directory, is taken for the beginning: twice is better than never.
    pub fn reader(&self, from: Position) -> Reader {
        Reader::new(Arc::clone(&self.state), from)
    }

    /// Where the next record will lie, or after it: everything before is durable.
    pub fn end(&self) -> Position {
        self.state.end()
    }

    /// Waits until there is something durable beyond a place. `false` when the journal has closed and
    /// there will not be.
    pub async fn grown(&self, beyond: Position) -> bool {
        grown(self.state.watch(), beyond).await
    }

    /// Removes the chunks in which everything lies before a place; says how many bytes that gave back. The newest stays,
    /// until there is another and its room is needed. Blocks while files are removed.
    pub fn release(&self, before: Position) -> Result<u64, JournalError> {
        self.state.release(before)
    }

    /// Its sizes and counts.
    pub fn status(&self) -> JournalStatus {
        self.state.status()
    }

    /// Its chunks, oldest first.
    pub(crate) fn chunks(&self) -> Vec<chunk::Chunk> {
        self.state.list()
    }

    /// Where it lies.
    pub fn directory(&self) -> PathBuf {
        self.state.directory().to_owned()
    }
}

/// Records that were handed over and will be durable.
#[derive(Debug)]
#[must_use = "they are accepted when they are durable, not before"]
pub struct Appended {
    durable: oneshot::Receiver<Result<Position, AppendError>>,
}

impl Appended {
    /// Waits until they are written and flushed; says where they end.
    pub async fn durable(self) -> Result<Position, AppendError> {
        self.durable.await.unwrap_or(Err(AppendError::Closed))
    }
}

impl JournalSettings {
    /// The same, with chunks small enough to be given back one by one, and never none at all.
    fn sane(mut self) -> Self {
        self.limit_bytes = self.limit_bytes.max(SMALLEST_CHUNK * CHUNKS_IN_LIMIT);
        self.chunk_bytes =
            self.chunk_bytes.clamp(SMALLEST_CHUNK, self.limit_bytes / CHUNKS_IN_LIMIT);
        self.queue_bytes = self.queue_bytes.clamp(1, MOST_QUEUED);
        self
    }
}

async fn grown(mut end: watch::Receiver<state::End>, beyond: Position) -> bool {
    let seen = end.wait_for(|end| end.position > beyond || end.closed).await;
    seen.is_ok_and(|end| end.position > beyond)
}

/// Dropping the oldest chunk shall never mean dropping most of what there is.
const CHUNKS_IN_LIMIT: u64 = 4;

/// Smaller ones would be mostly header.
const SMALLEST_CHUNK: u64 = 4096;

/// What a semaphore and a machine can carry.
const MOST_QUEUED: u32 = 1 << 30;
