//! The embedded store: what was reported, kept for a while, and found again by trace, service, time or tag.
//!
//! The records lie in a [`journal`](crate::journal), whose chunks are the store's data. Of each record
//! the index knows one row of 64 bytes; the index of the chunk that is being written is in memory, and
//! when the chunk is full it goes into a file beside it. Nothing else is on disk, so nothing else can
//! disagree: an index that is missing or damaged is made again from its chunk.
//!
//! A segment that comes twice is acknowledged and kept once. What is old, or too much, goes chunk by
//! chunk.
//!
//! ```
//! use handfast_proto::skywalking::v3::{SegmentObject, SpanObject};
//! use handfast_telemetry::keep::{Keep, KeepSettings, TraceQuery};
//! use handfast_telemetry::{Record, RecordKind};
//! use prost::Message;
//!
//! # let directory = tempfile::tempdir()?;
//! # let now: jiff::Timestamp = "2026-11-25T12:00:00Z".parse()?;
//! # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
//! # runtime.block_on(async {
//! let keep = Keep::open(directory.path(), KeepSettings::default(), now)?;
//! let segment = SegmentObject {
//!     trace_id: "t1".into(),
//!     trace_segment_id: "s1".into(),
//!     service: "shop".into(),
//!     spans: vec![SpanObject { operation_name: "/pay".into(), ..SpanObject::default() }],
//!     ..SegmentObject::default()
//! };
//! let record = Record {
//!     body: segment.encode_to_vec().into(),
//!     kind: RecordKind::Segment,
//!     received: now,
//!     reporter: bytes::Bytes::new(),
//! };
//! let taken = keep.take(vec![record.clone(), record]).await?.durable().await?;
//! assert_eq!((taken.kept, taken.duplicates), (1, 1));
//!
//! let query = TraceQuery { service: Some("shop".into()), ..TraceQuery::default() };
//! assert_eq!(keep.reader().traces(&query)?[0].trace_id, "t1");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod digest;
mod error;
mod events;
mod facts;
mod filter;
mod gathered;
mod index;
mod index_file;
mod logs;
mod measured;
mod metrics;
mod newest;
mod opening;
mod part;
mod reader;
mod row;
mod scan;
mod services;
mod settle;
mod sorting;
mod traces;
mod window;

use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

pub use self::error::KeepError;
pub use self::events::EventQuery;
use self::facts::Facts;
pub use self::logs::LogQuery;
pub use self::measured::Measured;
pub use self::metrics::{MetricName, MetricQuery, MetricSeries};
use self::newest::Newest;
pub use self::newest::{MOST_OF_SERVICE, MOST_SERIES, NewestQuery, STALE_AFTER, SeriesCounts};
use self::part::{Part, gather};
pub use self::reader::KeepReader;
use self::reader::Parts;
pub use self::services::{KeptEndpoint, KeptInstance, KeptService};
use self::settle::{Settling, Unsettled};
use self::sorting::Sorted;
pub use self::traces::{TraceOrder, TraceQuery, TraceSummary};
use self::window::Window;
use crate::Record;
use crate::journal::{
    AppendError, Appended, Journal, JournalSettings, JournalStatus, Placed, Position, Repair,
    WhenFull,
};
use crate::sink::Notice;
use crate::workshop::{HEAVY, apart};

/// How much is kept, and for how long.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeepSettings {
    /// What is given back at once when it is old, and indexed together.
    pub chunk_bytes: u64,
    /// What the records may take on the disk; the oldest go for newer ones. Their indexes come on top, about a
    /// tenth.
    pub limit_bytes: u64,
    /// What may wait in memory for the disk; who brings more, waits.
    pub queue_bytes: u32,
    /// How many of the segments that came last are known again at once when they come twice; those before are looked
    /// for.
    pub recent_segments: usize,
    /// How long records are kept.
    pub retention: Duration,
}

impl Default for KeepSettings {
    fn default() -> Self {
        Self {
            chunk_bytes: 64 << 20,
            limit_bytes: 10 << 30,
            queue_bytes: 32 << 20,
            recent_segments: window::HALF,
            retention: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

/// An open store. Clones are the same store; it closes with the last of them.
#[derive(Clone, Debug)]
pub struct Keep {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    // In this order: no record comes any more when the last indexes are written.
    journal: Journal,
    _settling: Settling,
    shared: Arc<Shared>,
    retention: Duration,
    reader: KeepReader,
    newest: Mutex<Newest>,
    /// As of when somebody asked last.
    series: Mutex<SeriesCounts>,
    repair: Repair,
}

/// What the thread that writes shares with those who bring and ask.
#[derive(Debug)]
struct Shared {
    parts: Arc<Parts>,
    taking: Mutex<Taking>,
    unsettled: Unsettled,
    kept: AtomicU64,
    duplicates: AtomicU64,
}

#[derive(Debug)]
struct Taking {
    window: Window,
    open: Option<Arc<Part>>,
}

/// Sizes and counts of a store.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct KeepStatus {
    /// Segments that came again and were not kept twice, since it was opened.
    pub duplicates: u64,
    /// The journal below it.
    pub journal: JournalStatus,
    /// Records that were kept, since it was opened.
    pub kept: u64,
    /// Series of metrics, as of when somebody asked last.
    pub series: SeriesCounts,
}

impl Keep {
    /// Opens the store in a directory, which is made if it is missing, and repairs it. Blocks while
    /// what is not indexed is read: the newest chunk, mostly.
    pub fn open(
        directory: impl AsRef<Path>,
        settings: KeepSettings,
        now: Timestamp,
    ) -> Result<Self, KeepError> {
        let directory = directory.as_ref();
        let below = JournalSettings {
            chunk_bytes: settings.chunk_bytes,
            limit_bytes: settings.limit_bytes,
            queue_bytes: settings.queue_bytes,
            when_full: WhenFull::DropOldest,
        };
        let (journal, repair) = Journal::open(directory, below)?;
        let (parts, taking) = opening::open(directory, &journal.chunks(), &settings)?;
        let shared = Arc::new(Shared {
            parts: Arc::clone(&parts),
            taking: Mutex::new(taking),
            unsettled: Unsettled::default(),
            kept: AtomicU64::new(0),
            duplicates: AtomicU64::new(0),
        });
        let settling = Settling::start(Arc::clone(&shared)).map_err(KeepError::Thread)?;
        let inner = Inner {
            journal,
            _settling: settling,
            shared,
            retention: settings.retention,
            reader: KeepReader { parts },
            newest: Mutex::default(),
            series: Mutex::default(),
            repair,
        };
        let keep = Self { inner: Arc::new(inner) };
        keep.sweep(now)?;
        Ok(keep)
    }

    /// Takes records, in order: resolves as soon as there was room for them. Segments that are known
    /// already are not kept again; they are acknowledged like the others.
    pub async fn take(&self, records: Vec<Record>) -> Result<Taken, AppendError> {
        let shared = &self.inner.shared;
        let bytes: usize = records.iter().map(|record| record.body.len()).sum();
        let mut sorting = if bytes < HEAVY {
            shared.sort(records)
        } else {
            let shared = Arc::clone(shared);
            apart(move |_| shared.sort(records)).await.map_err(|_| AppendError::Closed)?
        };
        if sorting.is_unsure() {
            let shared = Arc::clone(shared);
            let looking = tokio::task::spawn_blocking(move || {
                shared.look_back(&mut sorting);
                sorting
            });
            // It is cut short only where the runtime ends.
            sorting = looking.await.map_err(|_| AppendError::Closed)?;
        }
        let Sorted { records, rows, duplicates, noticed } = sorting.done();
        let kept = records.len();
        shared.duplicates.fetch_add(duplicates as u64, Ordering::Relaxed);
        let late = Arc::new(AtomicUsize::new(0));
        let appended = if records.is_empty() {
            // What is known is durable.
            None
        } else {
            let (shared, late) = (Arc::clone(shared), Arc::clone(&late));
            let then = Box::new(move |placed: Placed| {
                late.store(shared.index(placed, rows), Ordering::Release);
            });
            Some(self.inner.journal.append_then(records, Some(then)).await?)
        };
        Ok(Taken { noticed, appended, kept, duplicates, late })
    }

    /// Everything that can be asked.
    pub fn reader(&self) -> &KeepReader {
        &self.inner.reader
    }

    /// Gives back what is older than it has to be kept; says how many bytes that were. Records that are too
    /// old but lie beside younger ones are not shown any more.
    pub fn sweep(&self, now: Timestamp) -> Result<u64, KeepError> {
        let Inner { journal, shared, retention, .. } = &*self.inner;
        let retention = SignedDuration::try_from(*retention).unwrap_or(SignedDuration::MAX);
        let floor = now.checked_sub(retention).unwrap_or(Timestamp::MIN);
        shared.parts.raise_floor(floor);
        let floor = floor.as_millisecond();
        let parts = shared.parts.all();
        let young = parts.iter().find(|part| {
            let times = part.times();
            times.last_received >= floor || times.last_end >= floor
        });
        let before = young.or(parts.last()).map_or(0, |part| part.base());
        let released = journal.release(Position::new(before))?;
        shared.parts.forget_before(journal.status().oldest.as_u64());
        // Where a disk was full, there may be room now.
        shared.unsettled.wake();
        Ok(released)
    }

    /// Its sizes and counts.
    pub fn status(&self) -> KeepStatus {
        let Inner { journal, shared, .. } = &*self.inner;
        KeepStatus {
            duplicates: shared.duplicates.load(Ordering::Relaxed),
            journal: journal.status(),
            kept: shared.kept.load(Ordering::Relaxed),
            series: *self.inner.series.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// The newest value of each series that had one in the last [`STALE_AFTER`]: by name, service, instance and labels.
    /// Blocks for as long as the disk takes.
    pub fn newest(&self, now: Timestamp) -> Result<Vec<Measured>, KeepError> {
        let mut newest = self.inner.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = newest.fresh(&self.inner.shared.parts, now);
        *self.inner.series.lock().unwrap_or_else(PoisonError::into_inner) = newest.counts();
        fresh
    }

    /// What was repaired when it was opened.
    pub fn repair(&self) -> &Repair {
        &self.inner.repair
    }

    /// The records below it, in the order in which they came.
    pub fn journal(&self) -> &Journal {
        &self.inner.journal
    }
}

/// Records that were taken and will be durable.
#[derive(Debug)]
#[must_use = "they are accepted when they are durable, not before"]
pub struct Taken {
    /// What was strange about them.
    pub noticed: Vec<Notice>,
    appended: Option<Appended>,
    kept: usize,
    duplicates: usize,
    /// Of the kept, those that came twice at the same time.
    late: Arc<AtomicUsize>,
}

/// What became of the records that were taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Kept {
    /// Segments that were known already.
    pub duplicates: usize,
    /// Records that are new.
    pub kept: usize,
}

impl Taken {
    /// Waits until they are durable, and found by whoever asks.
    pub async fn durable(self) -> Result<Kept, AppendError> {
        if let Some(appended) = self.appended {
            appended.durable().await?;
        }
        let late = self.late.load(Ordering::Acquire);
        Ok(Kept { duplicates: self.duplicates + late, kept: self.kept - late })
    }
}

impl Shared {
    /// Adds the rows of records that have just become durable; says how many records were there already.
    fn index(&self, placed: Placed, rows: Vec<(u64, Facts)>) -> usize {
        let mut taking = self.taking();
        let Taking { window, open } = &mut *taking;
        let part = match open {
            Some(part) if part.base() == placed.chunk.base => part,
            _ => {
                if let Some(full) = open.take() {
                    full.seal();
                    self.parts.forget_before(placed.oldest);
                    self.unsettled.wake();
                }
                let begun = Part::begin(self.parts.directory(), placed.chunk);
                open.insert(self.parts.put(begun))
            }
        };
        let (mut kept, mut late) = (0, 0);
        part.add(|gathered| {
            for record in rows.chunk_by(|one, other| one.0 == other.0) {
                let mut new = false;
                for (offset, facts) in record {
                    new |= gather(gathered, window, placed.at + offset, facts);
                }
                if new {
                    kept += 1;
                } else {
                    late += 1;
                }
            }
        });
        self.kept.fetch_add(kept, Ordering::Relaxed);
        self.duplicates.fetch_add(late as u64, Ordering::Relaxed);
        late
    }

    fn taking(&self) -> MutexGuard<'_, Taking> {
        self.taking.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Traces, lines of log and events in one list, at most.
pub const MOST_LISTED: usize = 10_000;
