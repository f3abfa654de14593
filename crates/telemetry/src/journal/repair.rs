//! What is done when a journal is opened: the newest chunk is read, and an end that was never finished is
//! cut and kept aside.
//!
//! Only the newest chunk can have such an end: the next one is begun when everything before it is
//! durable. Damage elsewhere is left where it is, and whoever reads steps over it.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::chunk::{self, CHUNK, Chunk, HEADER, Step, Steps, make_private, sync_directory};
use super::state::State;
use super::{JournalError, Position};

/// What was found, and done, when a journal was opened.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Repair {
    /// Bytes at the end that were no whole record: never answered for, and cut.
    pub cut_bytes: u64,
    /// Bytes before the end that cannot be read: the disk lost them.
    pub damaged_bytes: u64,
    /// Chunks whose header cannot be read.
    pub damaged_chunks: usize,
    /// The files that what was cut, or could not be read at all, was kept in.
    pub set_aside: Vec<PathBuf>,
}

impl Repair {
    /// Whether there was nothing to repair.
    pub fn is_clean(&self) -> bool {
        *self == Self::default()
    }
}

/// The chunk that is appended to.
#[derive(Debug)]
pub(super) struct OpenChunk {
    pub(super) chunk: Chunk,
    pub(super) file: File,
}

/// A journal as it was found, and made good.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) state: State,
    /// The chunk to append to, if there is one that is whole.
    pub(super) open: Option<OpenChunk>,
    /// Where the next chunk may begin at the earliest: behind all that ever was.
    pub(super) free: u64,
    pub(super) repair: Repair,
}

pub(super) fn repair(directory: &Path) -> Result<Found, JournalError> {
    let mut repair = Repair::default();
    let mut chunks: Vec<Chunk> = Vec::new();
    let mut open = None;
    let mut free = 0;
    let mut records = 0;
    for base in chunk::list(directory).map_err(JournalError::file("list", directory))? {
        let path = chunk::path(directory, base, CHUNK);
        let file = File::options().read(true).write(true).open(&path);
        let file = file.map_err(JournalError::file("open", &path))?;
        let chunk = Chunk::read(&file, base).map_err(JournalError::file("read", &path))?;
        if let Some(before) = chunks.last_mut() {
            // What a failed write left behind its end is nobody's.
            before.length = before.length.min(base.saturating_sub(before.base));
        }
        if let Some(chunk) = chunk {
            free = chunk.end().max(free);
            records = chunk.first_record.max(records);
            chunks.push(chunk);
            open = Some(OpenChunk { chunk, file });
        } else {
            let length = file.metadata().map_err(JournalError::file("read", &path))?.len();
            free = (base + length).max(free);
            set_chunk_aside(directory, base, length, &mut repair)?;
            open = None;
        }
    }
    let mut end = free;
    if let (Some(last), Some(opened)) = (chunks.last_mut(), open.as_mut()) {
        let whole = read_through(opened, &mut repair)
            .map_err(JournalError::file("read", &chunk::path(directory, last.base, CHUNK)))?;
        records += whole.records;
        // Whoever was killed between writing and flushing left records that are whole and not on the disk yet. From now on
        // they are read, and what comes again is known by them: they have to be durable.
        opened
            .file
            .sync_all()
            .map_err(JournalError::file("flush", &chunk::path(directory, last.base, CHUNK)))?;
        if whole.end < last.length {
            cut(directory, opened, whole.end, &mut repair)?;
            last.length = whole.end;
            end = last.end();
            open = None;
        }
    }
    for path in &repair.set_aside {
        tracing::warn!(path = %path.display(), "what could not be read was kept aside");
    }
    let state = State::new(directory, chunks, records, Position::new(end));
    Ok(Found { state, open, free, repair })
}

/// What of a chunk is whole.
struct Whole {
    end: u64,
    records: u64,
}

fn read_through(open: &OpenChunk, repair: &mut Repair) -> io::Result<Whole> {
    let length = open.chunk.length;
    let mut steps = Steps::new(open.file.try_clone()?, open.chunk, 0);
    let mut whole = Whole { end: HEADER as u64, records: 0 };
    let mut lost = 0;
    while let Some(step) = steps.next(length)? {
        match step {
            Step::Lost { bytes } => lost += bytes,
            Step::Record { .. } | Step::Unknown => {
                repair.damaged_bytes += lost;
                lost = 0;
                whole.end = steps.at();
                whole.records += 1;
            }
        }
    }
    Ok(whole)
}

fn cut(
    directory: &Path,
    open: &mut OpenChunk,
    end: u64,
    repair: &mut Repair,
) -> Result<(), JournalError> {
    let Chunk { base, length, .. } = open.chunk;
    let aside = directory.join(format!("{base:020}-{end}.damaged"));
    // What is cut was never answered for; that it cannot be kept aside must not keep the journal closed.
    match keep_aside(&mut open.file, end, &aside) {
        Ok(()) => repair.set_aside.push(aside),
        Err(error) => {
            tracing::warn!(path = %aside.display(), %error, "what was cut could not be kept aside");
            let _ = std::fs::remove_file(&aside);
        }
    }
    let cut = open.file.set_len(end).and_then(|()| open.file.sync_all());
    cut.map_err(JournalError::file("cut", &chunk::path(directory, base, CHUNK)))?;
    repair.cut_bytes += length - end;
    forget_oldest_damaged(directory);
    Ok(())
}

fn keep_aside(file: &mut File, from: u64, aside: &Path) -> io::Result<()> {
    file.seek(SeekFrom::Start(from))?;
    let mut copy = make_private().create(true).truncate(true).open(aside)?;
    io::copy(&mut file.take(u64::MAX), &mut copy)?;
    copy.sync_all()
}

fn set_chunk_aside(
    directory: &Path,
    base: u64,
    length: u64,
    repair: &mut Repair,
) -> Result<(), JournalError> {
    let path = chunk::path(directory, base, CHUNK);
    if length <= HEADER as u64 {
        // It was being made when the process ended: there is nothing in it.
        std::fs::remove_file(&path).map_err(JournalError::file("remove", &path))?;
    } else {
        let aside = directory.join(format!("{base:020}-0.damaged"));
        std::fs::rename(&path, &aside).map_err(JournalError::file("move aside", &path))?;
        repair.damaged_chunks += 1;
        repair.damaged_bytes += length;
        repair.set_aside.push(aside);
        forget_oldest_damaged(directory);
    }
    sync_directory(directory)
}

/// A process that is killed again and again must not fill the disk with what it left.
fn forget_oldest_damaged(directory: &Path) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    let mut damaged: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|ending| ending == "damaged"))
        .collect();
    damaged.sort_unstable();
    let surplus = damaged.len().saturating_sub(DAMAGED_KEPT);
    for path in damaged.drain(..surplus) {
        let _ = std::fs::remove_file(path);
    }
}

/// Enough to see what happened.
const DAMAGED_KEPT: usize = 8;
