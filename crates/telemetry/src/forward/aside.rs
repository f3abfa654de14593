//! What a backend will never take, beside the spool: put there, looked at, and put back into the spool or
//! thrown away by whoever is responsible for it.
//!
//! Putting back is appending to the spool, and only when that is durable noting that it is not here any more: whatever
//! moment the process ends in, a record is here, there or at both.

mod directory;
mod note;
mod taken;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use jiff::Timestamp;
use tokio::time::sleep;

pub use self::directory::{AsideDirectory, AsideDirectoryError};
use self::note::Note;
use self::taken::{Spot, Taken};
use super::lock;
use super::shipment::service;
use crate::journal::chunk::{Chunk, HEADER};
use crate::journal::{
    AppendError, Journal, JournalError, JournalSettings, Position, ReadError, Reader, WhenFull,
    frame,
};
use crate::record::{Record, RecordKind};
use crate::upstream::{Dice, pause};

/// What is known of a record that lies aside.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SetAside {
    /// Names it: no other ever lay at this place.
    pub id: u64,
    /// Since when it lies here.
    pub at: Option<Timestamp>,
    /// What the backend said of it.
    pub reason: String,
    /// The first service that it names.
    pub service: String,
    /// Which message it is.
    pub kind: RecordKind,
    /// Bytes of the message.
    pub bytes: u64,
    /// When it was accepted.
    pub received: Timestamp,
    /// From whom.
    pub reporter: String,
}

/// Which of what lies aside is meant; all of it, if nothing is said.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Chosen {
    /// Only these.
    pub ids: Vec<u64>,
    /// Only of these kinds.
    pub kinds: Vec<RecordKind>,
    /// Only of these services.
    pub services: Vec<String>,
}

/// How many records were dealt with.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Dealt {
    /// Records.
    pub records: u64,
    /// Bytes of their messages.
    pub bytes: u64,
}

/// Why not everything that was chosen was dealt with. What was is not here any more; the rest is as it was.
#[derive(Debug, thiserror::Error)]
#[error("{why}; {} of the records that were meant were dealt with before", dealt.records)]
pub struct AsideError {
    /// What was dealt with.
    pub dealt: Dealt,
    /// What happened then.
    #[source]
    pub why: AsideFault,
}

/// What keeps records where they are.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AsideFault {
    /// They cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The spool does not take them.
    #[error("the spool takes nothing more: {0}")]
    Spool(#[from] AppendError),
    /// It cannot be noted that they are gone: the last of them will lie here again after a restart.
    #[error(
        "it cannot be noted what was dealt with, which will lie here again after a restart: {0}"
    )]
    Unnoted(#[from] JournalError),
}

/// How much lies aside.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct AsideStatus {
    /// Records that lie there.
    pub(super) records: u64,
    /// Records that went because there was no room, since it was opened; nobody has them.
    pub(super) dropped: u64,
    /// Records that were set aside since it was opened.
    pub(super) count: u64,
}

pub(super) struct Aside {
    journal: Journal,
    gone: Mutex<Gone>,
    /// One at a time deals with what lies here.
    hands: tokio::sync::Mutex<()>,
    count: AtomicU64,
}

/// What is not here any more.
struct Gone {
    taken: Taken,
    /// Records that had been dealt with when their chunk was dropped.
    dealt_before: u64,
}

impl Aside {
    pub(super) fn open(directory: &Path, limit_bytes: u64) -> Result<Self, JournalError> {
        let settings = JournalSettings {
            chunk_bytes: CHUNK_BYTES,
            limit_bytes,
            when_full: WhenFull::DropOldest,
            ..JournalSettings::default()
        };
        let (journal, _) = Journal::open(directory, settings)?;
        let taken = Taken::open(directory, &journal.chunks());
        Ok(Self {
            journal,
            gone: Mutex::new(Gone { taken, dealt_before: 0 }),
            hands: tokio::sync::Mutex::default(),
            count: AtomicU64::new(0),
        })
    }

    pub(super) fn status(&self) -> AsideStatus {
        let mut gone = lock(&self.gone);
        let chunks = self.journal.chunks();
        let status = self.journal.status();
        let first = chunks.first().copied();
        let oldest = first.map_or(status.end.as_u64(), |chunk| chunk.base);
        // What was given back was forgotten when that was done: this went with a chunk that was dropped.
        gone.dealt_before += gone.taken.forget_before(oldest);
        let there = first.map_or(0, |chunk| status.records - chunk.first_record);
        AsideStatus {
            records: there.saturating_sub(gone.taken.records()),
            dropped: status.dropped_records.saturating_sub(gone.dealt_before),
            count: self.count.load(Ordering::Relaxed),
        }
    }

    /// Sets records aside. While the disk does not take them they wait, and what is behind them waits
    /// too: they were accepted.
    pub(super) async fn put(&self, records: Vec<Record>, reason: &str, at: Timestamp, dice: &Dice) {
        let count = records.len() as u64;
        let note = Note { at, reason: reason.to_owned() };
        let records: Vec<Record> = records.into_iter().map(|record| note.on(record)).collect();
        let mut failures = 0;
        while let Err(error) = self.append(records.clone()).await {
            if matches!(error, AppendError::Closed | AppendError::RecordTooLarge { .. }) {
                tracing::error!(%error, records = count, "what was to be set aside is lost");
                break;
            }
            if failures == 0 {
                tracing::error!(%error, records = count, "nothing can be set aside; trying again");
            }
            sleep(pause(failures, dice.throw())).await;
            failures = failures.saturating_add(1);
        }
        self.count.fetch_add(count, Ordering::Relaxed);
    }

    async fn append(&self, records: Vec<Record>) -> Result<(), AppendError> {
        self.journal.append(records).await?.durable().await.map(drop)
    }

    /// Deals with what was chosen of what lies here now: puts it into a spool, or nowhere.
    pub(super) async fn deal(
        self: &Arc<Self>,
        chosen: &Chosen,
        spool: Option<&Journal>,
    ) -> Result<Dealt, AsideError> {
        let _hands = self.hands.lock().await;
        let mut dealt = Dealt::default();
        let mut pass = self.pass();
        loop {
            let (aside, meant) = (Arc::clone(self), chosen.clone());
            let reading = blocking(move || {
                let found = pass.next(&*aside, &meant);
                (pass, found)
            });
            let (back, found) = reading.await;
            pass = back;
            let found = found.map_err(|why| AsideError { dealt, why: why.into() })?;
            let Some(found) = found else { return Ok(dealt) };
            let spots: Vec<Spot> = found.iter().map(|one| one.spot).collect();
            let bytes: u64 = found.iter().map(|one| one.record.body.len() as u64).sum();
            if let Some(spool) = spool {
                let records = found.into_iter().map(|one| one.record).collect();
                let back = put_back(spool, records).await;
                back.map_err(|why| AsideError { dealt, why: why.into() })?;
            }
            dealt.records += spots.len() as u64;
            dealt.bytes += bytes;
            let aside = Arc::clone(self);
            let noted = blocking(move || aside.gone(&spots)).await;
            noted.map_err(|why| AsideError { dealt, why: why.into() })?;
        }
    }

    /// Notes that these are gone, and gives back the chunks of which all is.
    fn gone(&self, spots: &[Spot]) -> Result<(), JournalError> {
        let chunks = self.journal.chunks();
        let (text, whole) = {
            let mut gone = lock(&self.gone);
            for spot in spots {
                gone.taken.add(*spot);
            }
            let covered =
                |chunk: &&Chunk| gone.taken.covers(chunk.base + HEADER as u64, chunk.end());
            (gone.taken.text(), chunks.iter().take_while(covered).last().map(Chunk::end))
        };
        // Only one at a time is here.
        taken::write(&self.journal.directory(), &text)?;
        let Some(end) = whole else { return Ok(()) };
        if self.journal.release(Position::new(end))? > 0 {
            let oldest = self.journal.chunks().first().map_or(end, |chunk| chunk.base);
            lock(&self.gone).taken.forget_before(oldest);
        }
        Ok(())
    }
}

/// Where records lie aside: in a journal that is ours, or in one that is only looked at.
pub(super) trait Shelf {
    /// The journal's chunks as they are now.
    fn chunks(&self) -> Vec<Chunk>;

    /// Leaves out of what was read what was dealt with.
    fn leave_out_gone(&self, batch: &mut Vec<(Position, Record)>);

    /// Once through it.
    fn pass(&self) -> Pass;

    /// What of the chosen lies here, the oldest first: at most so many, behind a place if one is named.
    fn list(
        &self,
        chosen: &Chosen,
        behind: Option<u64>,
        most: usize,
    ) -> Result<Vec<SetAside>, ReadError> {
        let mut pass = self.pass();
        let mut list = Vec::new();
        while list.len() < most
            && let Some(found) = pass.next(self, chosen)?
        {
            let wanted = found.iter().filter(|one| behind.is_none_or(|behind| one.at > behind));
            list.extend(wanted.take(most - list.len()).map(Found::facts));
        }
        Ok(list)
    }

    /// One of those that lie here, with its message.
    fn find(&self, id: u64) -> Result<Option<(SetAside, Bytes)>, ReadError> {
        let chosen = Chosen { ids: vec![id], ..Chosen::default() };
        let found = self.pass().next(self, &chosen)?.and_then(|mut found| found.pop());
        Ok(found.map(|one| (one.facts(), one.record.body)))
    }
}

impl Shelf for Aside {
    fn chunks(&self) -> Vec<Chunk> {
        self.journal.chunks()
    }

    fn leave_out_gone(&self, batch: &mut Vec<(Position, Record)>) {
        let gone = lock(&self.gone);
        batch.retain(|(at, _)| !gone.taken.has(at.as_u64()));
    }

    fn pass(&self) -> Pass {
        let (reader, end) = (self.journal.reader(Position::START), self.journal.end());
        Pass { reader, end }
    }
}

/// Once through what lies here, up to what was the end when it began.
pub(super) struct Pass {
    reader: Reader,
    end: Position,
}

/// One of the chosen.
struct Found {
    at: u64,
    note: Option<Note>,
    /// As it was accepted.
    record: Record,
    service: String,
    spot: Spot,
}

impl Pass {
    /// The next of the chosen, at least one; none at the end.
    fn next<S: Shelf + ?Sized>(
        &mut self,
        shelf: &S,
        chosen: &Chosen,
    ) -> Result<Option<Vec<Found>>, ReadError> {
        while self.reader.position() < self.end {
            let mut batch = self.reader.next_batch(BATCH_BYTES)?;
            if batch.is_empty() {
                break;
            }
            batch.retain(|(at, _)| *at < self.end);
            shelf.leave_out_gone(&mut batch);
            let chunks = shelf.chunks();
            let chosen =
                |(at, record): (Position, Record)| chosen.found(at.as_u64(), record, &chunks);
            let found: Vec<Found> = batch.into_iter().filter_map(chosen).collect();
            if !found.is_empty() {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

impl Chosen {
    fn found(&self, at: u64, record: Record, chunks: &[Chunk]) -> Option<Found> {
        if !allows(&self.ids, &at) || !allows(&self.kinds, &record.kind) {
            return None;
        }
        let service = service(&record);
        if !allows(&self.services, &service) {
            return None;
        }
        // One that was dropped since it was read is gone.
        let salt = chunks.iter().rev().find(|chunk| chunk.base <= at)?.salt;
        let spot = Spot { begin: at, end: at + frame::length(&record) as u64, salt };
        let (record, note) = Note::off(record);
        Some(Found { at, note, record, service, spot })
    }
}

fn allows<T: PartialEq>(wanted: &[T], one: &T) -> bool {
    wanted.is_empty() || wanted.contains(one)
}

impl Found {
    fn facts(&self) -> SetAside {
        let Self { at, note, record, service, .. } = self;
        SetAside {
            id: *at,
            at: note.as_ref().map(|note| note.at),
            reason: note.as_ref().map(|note| note.reason.clone()).unwrap_or_default(),
            service: service.clone(),
            kind: record.kind,
            bytes: record.body.len() as u64,
            received: record.received,
            reporter: String::from_utf8_lossy(&record.reporter).into_owned(),
        }
    }
}

/// Together, or one by one where the spool is too small for that.
async fn put_back(spool: &Journal, records: Vec<Record>) -> Result<(), AppendError> {
    match append(spool, records.clone()).await {
        Err(AppendError::Full { .. }) if records.len() > 1 => {
            for record in records {
                append(spool, vec![record]).await?;
            }
            Ok(())
        }
        outcome => outcome,
    }
}

async fn append(journal: &Journal, records: Vec<Record>) -> Result<(), AppendError> {
    journal.append(records).await?.durable().await.map(drop)
}

/// On a thread that may wait for the disk.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    super::deliver::finished(tokio::task::spawn_blocking(work).await).await
}

/// What was set aside may have so much room; then the oldest of it goes.
pub(super) const ASIDE_BYTES: u64 = 256 << 20;

/// It goes, and is given back, in pieces of this size.
const CHUNK_BYTES: u64 = 8 << 20;

/// What is put back at a time: a spool takes it whole or not at all.
const BATCH_BYTES: usize = 256 << 10;

#[cfg(test)]
#[path = "aside_tests.rs"]
mod tests;
