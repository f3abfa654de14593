//! One file of a journal: its name, its header, and how it is read from front to back.
//!
//! The header lies there twice, each with its own checksum: without the salt in it nothing of the chunk could
//! be read.

use std::collections::hash_map::RandomState;
use std::fs::{File, OpenOptions, TryLockError};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::JournalError;
use super::frame::{self, Frame};
use crate::Record;

/// What is known of a chunk without reading it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Chunk {
    /// The position at which it begins.
    pub(crate) base: u64,
    /// How many records were ever appended before its first one.
    pub(crate) first_record: u64,
    /// How far it may be read.
    pub(crate) length: u64,
    /// Part of every checksum in it.
    pub(crate) salt: u64,
}

impl Chunk {
    /// The position behind it.
    pub(crate) fn end(&self) -> u64 {
        self.base + self.length
    }

    /// Makes the file of a new chunk, durably.
    pub(super) fn create(
        directory: &Path,
        base: u64,
        first_record: u64,
    ) -> io::Result<(Self, File)> {
        // Nobody's secret: only so that the same bytes in two chunks are not the same record.
        let salt = RandomState::new().build_hasher().finish();
        let chunk = Self { base, first_record, length: HEADER as u64, salt };
        let path = path(directory, base, CHUNK);
        let write = || {
            let mut file = make_private().read(true).create_new(true).open(&path)?;
            file.write_all(&chunk.header())?;
            file.sync_data()?;
            File::open(directory)?.sync_all()?;
            Ok(file)
        };
        let file = write().inspect_err(|_: &io::Error| {
            // A header without records would be taken away when the journal is opened next; now is better.
            let _ = std::fs::remove_file(&path);
        })?;
        Ok((chunk, file))
    }

    /// Reads what the header of a file says; `None` if it is not there whole, or neither copy is as it was.
    pub(crate) fn read(file: &File, base: u64) -> io::Result<Option<Self>> {
        let length = file.metadata()?.len();
        let mut header = [0; HEADER];
        if read_up_to(file, &mut header, 0)? < HEADER {
            return Ok(None);
        }
        Ok(header.chunks_exact(COPY).find_map(|copy| {
            let word = |at: usize| copy[at..].first_chunk().map(|word| u64::from_le_bytes(*word));
            let check = copy[CHECKED..].first_chunk().map(|word| u32::from_le_bytes(*word))?;
            let whole = copy[..8] == *MAGIC
                && check == crc32fast::hash(&copy[..CHECKED])
                && word(8)? == base;
            whole.then_some(Self { base, first_record: word(16)?, length, salt: word(24)? })
        }))
    }

    fn header(&self) -> [u8; HEADER] {
        let mut copy = [0; COPY];
        copy[..8].copy_from_slice(MAGIC);
        copy[8..16].copy_from_slice(&self.base.to_le_bytes());
        copy[16..24].copy_from_slice(&self.first_record.to_le_bytes());
        copy[24..32].copy_from_slice(&self.salt.to_le_bytes());
        let check = crc32fast::hash(&copy[..CHECKED]);
        copy[CHECKED..CHECKED + 4].copy_from_slice(&check.to_le_bytes());
        let mut header = [0; HEADER];
        header[..COPY].copy_from_slice(&copy);
        header[COPY..].copy_from_slice(&copy);
        header
    }
}

/// Reads a chunk from a place on, a large piece at a time.
#[derive(Debug)]
pub(crate) struct Steps {
    chunk: Chunk,
    file: File,
    at: u64,
    buffer: Bytes,
    buffer_at: u64,
}

/// What the next bytes of a chunk are.
#[derive(Debug)]
pub(crate) enum Step {
    /// Bytes that cannot be read as anything.
    Lost { bytes: u64 },
    /// A record, and where in the chunk it begins.
    Record { at: u64, record: Record },
    /// A record of a kind that this version does not know.
    Unknown,
}

impl Steps {
    /// Opens the file of a chunk.
    pub(crate) fn open(directory: &Path, chunk: Chunk, at: u64) -> io::Result<Self> {
        Ok(Self::new(File::open(path(directory, chunk.base, CHUNK))?, chunk, at))
    }

    /// Reads a file that is open.
    pub(crate) fn new(file: File, chunk: Chunk, at: u64) -> Self {
        let at = at.max(HEADER as u64);
        Self { chunk, file, at, buffer: Bytes::new(), buffer_at: at }
    }

    /// Where in the chunk the next step begins.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// Which chunk it reads.
    pub(crate) fn chunk(&self) -> &Chunk {
        &self.chunk
    }

    /// One step, in what lies before `end`.
    pub(crate) fn next(&mut self, end: u64) -> io::Result<Option<Step>> {
        loop {
            let left = end.saturating_sub(self.at);
            if left == 0 {
                return Ok(None);
            }
            let in_buffer = usize::try_from(self.at - self.buffer_at).unwrap_or(usize::MAX);
            match frame::decode(&self.buffer, in_buffer, self.chunk.salt, self.buffer_at) {
                Frame::Damaged(length) => return Ok(Some(self.lost(length as u64))),
                Frame::Record(record, length) => {
                    let at = self.at;
                    self.at += length as u64;
                    return Ok(Some(Step::Record { at, record }));
                }
                Frame::Short(needed) if needed as u64 > left => return Ok(Some(self.lost(left))),
                Frame::Short(needed) => {
                    if self.fill(needed, left)? < needed {
                        return Ok(Some(self.lost(left)));
                    }
                }
                Frame::Unknown(length) => {
                    self.at += length as u64;
                    return Ok(Some(Step::Unknown));
                }
            }
        }
    }

    fn lost(&mut self, bytes: u64) -> Step {
        self.at += bytes;
        Step::Lost { bytes }
    }

    fn fill(&mut self, needed: usize, left: u64) -> io::Result<usize> {
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(needed.max(PIECE));
        let mut bytes = vec![0; wanted];
        let got = read_up_to(&self.file, &mut bytes, self.at)?;
        bytes.truncate(got);
        self.buffer = bytes.into();
        self.buffer_at = self.at;
        Ok(got)
    }
}

/// The record that begins at a place of a chunk.
pub(crate) fn read_one(file: &File, chunk: &Chunk, at: u64) -> io::Result<Option<Record>> {
    let mut wanted = ONE;
    loop {
        let mut bytes = vec![0; wanted];
        let got = read_up_to(file, &mut bytes, at)?;
        bytes.truncate(got);
        match frame::decode(&bytes.into(), 0, chunk.salt, at) {
            Frame::Record(record, _) => return Ok(Some(record)),
            Frame::Short(needed) if needed > wanted => wanted = needed,
            _ => return Ok(None),
        }
    }
}

/// The chunks in a directory, by where they begin.
pub(crate) fn list(directory: &Path) -> io::Result<Vec<u64>> {
    let mut bases = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name();
        let base = name.to_str().and_then(|name| name.strip_suffix(".chunk"));
        let base = base.filter(|base| base.len() == DIGITS);
        bases.extend(base.and_then(|base| base.parse::<u64>().ok()));
    }
    bases.sort_unstable();
    Ok(bases)
}

/// Where a file that belongs to the chunk at `base` lies.
pub(crate) fn path(directory: &Path, base: u64, ending: &str) -> PathBuf {
    directory.join(format!("{base:0DIGITS$}.{ending}"))
}

/// Makes the directory if need be, and takes it for this process.
pub(super) fn lock(directory: &Path) -> Result<File, JournalError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(JournalError::file("make the directory", directory))?;
    let path = directory.join("lock");
    let file = make_private().create(true).truncate(false).open(&path);
    let file = file.map_err(JournalError::file("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(JournalError::InUse { directory: directory.to_owned() })
        }
        Err(TryLockError::Error(source)) => Err(JournalError::file("lock", &path)(source)),
    }
}

/// How files of a journal are opened for writing.
pub(crate) fn make_private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

/// Makes the names in a directory durable.
pub(crate) fn sync_directory(directory: &Path) -> Result<(), JournalError> {
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(JournalError::file("flush the directory", directory))
}

/// Fills as much of `bytes` as the file has from a place on.
pub(crate) fn read_up_to(file: &File, bytes: &mut [u8], at: u64) -> io::Result<usize> {
    let mut got = 0;
    while got < bytes.len() {
        match file.read_at(&mut bytes[got..], at + got as u64) {
            Ok(0) => break,
            Ok(more) => got += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

/// What a chunk's file name ends with.
pub(crate) const CHUNK: &str = "chunk";

/// Where the first record of a chunk lies.
pub(crate) const HEADER: usize = 2 * COPY;

const COPY: usize = 40;
const CHECKED: usize = 32;
const MAGIC: &[u8; 8] = b"hfjourn\x01";
const DIGITS: usize = 20;

/// Large enough that the system call does not count, small enough to be held for one record.
const PIECE: usize = 1 << 20;

/// Most records are smaller.
const ONE: usize = 8 << 10;
