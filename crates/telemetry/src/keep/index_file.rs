//! The index of a sealed chunk in a file beside it. It holds nothing that the chunk does not say: one that is
//! missing or damaged is made again.
//!
//! ```text
//! header       magic, which chunk, how many of what, from when to when, checksums
//! summaries    what services, instances and endpoints there are
//! names        where each ends, then their text
//! rows         one for each record
//! tags         digests, found from the rows
//! traces       digest and row, sorted
//! filter       which ids are not there
//! ```

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::filter::Filter;
use super::gathered::{Gathered, Times};
use super::index::{Index, Names, SUMMARY, Summary};
use super::row::{ROW, Row};
use crate::journal::chunk::{self, Chunk, make_private, read_up_to};

/// An index in a file, of which only the header was read.
#[derive(Clone, Debug)]
pub(super) struct IndexFile {
    path: PathBuf,
    pub(super) times: Times,
    sizes: [u64; SECTIONS],
    check: u32,
}

impl IndexFile {
    /// Writes the index of a chunk, durably and at once.
    pub(super) fn write(directory: &Path, chunk: &Chunk, of: &Gathered) -> io::Result<Self> {
        let Index { names, rows, tags } = of.index();
        let mut summaries = Vec::new();
        for summary in of.summaries() {
            summary.write(&mut summaries);
        }
        let mut traces = Vec::new();
        for (trace, row) in of.sorted_traces() {
            traces.extend_from_slice(&trace.to_le_bytes());
            traces.extend_from_slice(&row.to_le_bytes());
        }
        let mut filter = Vec::new();
        let ids: Vec<u128> = of.index().rows().map(|row| row.id).filter(|id| *id != 0).collect();
        Filter::of(&ids).write(&mut filter);
        let sections: [&[u8]; SECTIONS] =
            [&summaries, names.ends, names.text, rows, tags, &traces, &filter];
        let mut check = crc32fast::Hasher::new();
        for section in sections {
            check.update(section);
        }
        let index = Self {
            path: chunk::path(directory, chunk.base, ENDING),
            times: of.times,
            sizes: sections.map(|section| section.len() as u64),
            check: check.finalize(),
        };
        let temporary = chunk::path(directory, chunk.base, UNFINISHED);
        let file = make_private().create(true).truncate(true).open(&temporary)?;
        let mut at = HEADER as u64;
        for section in sections {
            file.write_all_at(section, at)?;
            at += section.len() as u64;
        }
        file.write_all_at(&index.header(chunk), 0)?;
        file.sync_all()?;
        std::fs::rename(&temporary, &index.path)?;
        File::open(directory)?.sync_all()?;
        Ok(index)
    }

    /// Reads the header of the index of a chunk; `None` if there is no whole one of just this chunk.
    pub(super) fn open(directory: &Path, chunk: &Chunk) -> Option<Self> {
        let path = chunk::path(directory, chunk.base, ENDING);
        let file = File::open(&path).ok()?;
        let mut header = [0; HEADER];
        if read_up_to(&file, &mut header, 0).ok()? < HEADER || header[..8] != *MAGIC {
            return None;
        }
        let word =
            |at: usize| header[8 + 8 * at..].first_chunk().map(|word| u64::from_le_bytes(*word));
        let check = u32::from_le_bytes(*header[HEADER - 8..].first_chunk()?);
        let header_check = u32::from_le_bytes(*header[HEADER - 4..].first_chunk()?);
        if header_check != crc32fast::hash(&header[..HEADER - 4])
            || (word(0)?, word(1)?, word(2)?) != (chunk.base, chunk.salt, chunk.length)
        {
            return None;
        }
        let times = Times {
            first_start: word(3)?.cast_signed(),
            last_end: word(4)?.cast_signed(),
            last_received: word(5)?.cast_signed(),
        };
        let mut sizes = [0; SECTIONS];
        for (size, at) in sizes.iter_mut().zip(6..) {
            *size = word(at)?;
        }
        let whole = file.metadata().ok()?.len() == HEADER as u64 + sizes.iter().sum::<u64>();
        whole.then_some(Self { path, times, sizes, check })
    }

    /// Whether the file is what was written.
    pub(super) fn verify(&self) -> io::Result<bool> {
        let file = File::open(&self.path)?;
        let mut check = crc32fast::Hasher::new();
        let mut at = HEADER as u64;
        let mut piece = vec![0; PIECE];
        loop {
            let got = read_up_to(&file, &mut piece, at)?;
            check.update(&piece[..got]);
            at += got as u64;
            if got < PIECE {
                return Ok(check.finalize() == self.check);
            }
        }
    }

    /// Reads what a search goes through.
    pub(super) fn with<T>(&self, ask: impl FnOnce(&Index<'_>) -> T) -> io::Result<T> {
        let bytes = self.read(ENDS..TRACES)?;
        let (ends, rest) = self.cut(&bytes, ENDS);
        let (text, rest) = self.cut(rest, TEXT);
        let (rows, tags) = self.cut(rest, ROWS);
        Ok(ask(&Index { names: Names { ends, text }, rows, tags }))
    }

    /// Reads only names and summaries.
    pub(super) fn with_summaries<T>(
        &self,
        ask: impl FnOnce(&Names<'_>, &[Summary]) -> T,
    ) -> io::Result<T> {
        let bytes = self.read(SUMMARIES..ROWS)?;
        let (summaries, rest) = self.cut(&bytes, SUMMARIES);
        let (ends, text) = self.cut(rest, ENDS);
        let summaries: Vec<Summary> =
            summaries.as_chunks::<SUMMARY>().0.iter().map(Summary::read).collect();
        Ok(ask(&Names { ends, text }, &summaries))
    }

    /// The rows of a trace, by its digest; what the file has to be read for is little.
    pub(super) fn of_trace(&self, trace: u64) -> io::Result<Vec<Row>> {
        let file = File::open(&self.path)?;
        let (traces, rows) = (self.begin(TRACES), self.begin(ROWS));
        let count = self.sizes[TRACES] / TRACE as u64;
        let entry = |number: u64| -> io::Result<(u64, u32)> {
            let mut bytes = [0; TRACE];
            file.read_exact_at(&mut bytes, traces + number * TRACE as u64)?;
            let (mut digest, mut row) = ([0; 8], [0; 4]);
            digest.copy_from_slice(&bytes[..8]);
            row.copy_from_slice(&bytes[8..]);
            Ok((u64::from_le_bytes(digest), u32::from_le_bytes(row)))
        };
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = u64::midpoint(low, high);
            if entry(middle)?.0 < trace {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let mut found = Vec::new();
        while low < count {
            let (digest, row) = entry(low)?;
            if digest != trace {
                break;
            }
            let mut bytes = [0; ROW];
            file.read_exact_at(&mut bytes, rows + u64::from(row) * ROW as u64)?;
            found.push(Row::read(&bytes));
            low += 1;
        }
        Ok(found)
    }

    /// Which ids are not there; it has a checksum of its own, so nothing else is read for it. `None` if it cannot be
    /// read, and it has to be looked for in the rows.
    pub(super) fn filter(&self) -> Option<Filter> {
        Filter::read(&self.read(FILTER..SECTIONS).ok()?)
    }

    fn header(&self, chunk: &Chunk) -> [u8; HEADER] {
        let Times { first_start, last_end, last_received } = self.times;
        let numbers = [
            chunk.base,
            chunk.salt,
            chunk.length,
            first_start.cast_unsigned(),
            last_end.cast_unsigned(),
            last_received.cast_unsigned(),
        ];
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(MAGIC);
        for (number, at) in numbers.iter().chain(&self.sizes).zip((8..).step_by(8)) {
            header[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        header[HEADER - 8..HEADER - 4].copy_from_slice(&self.check.to_le_bytes());
        let check = crc32fast::hash(&header[..HEADER - 4]);
        header[HEADER - 4..].copy_from_slice(&check.to_le_bytes());
        header
    }

    fn begin(&self, section: usize) -> u64 {
        HEADER as u64 + self.sizes[..section].iter().sum::<u64>()
    }

    fn read(&self, sections: std::ops::Range<usize>) -> io::Result<Vec<u8>> {
        let length = self.sizes[sections.clone()].iter().sum::<u64>();
        let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        File::open(&self.path)?.read_exact_at(&mut bytes, self.begin(sections.start))?;
        Ok(bytes)
    }

    fn cut<'a>(&self, bytes: &'a [u8], section: usize) -> (&'a [u8], &'a [u8]) {
        let length = usize::try_from(self.sizes[section]).unwrap_or(usize::MAX);
        bytes.split_at(length.min(bytes.len()))
    }
}

/// What the file's name ends with.
pub(super) const ENDING: &str = "index";

/// What it ends with before it is whole.
pub(super) const UNFINISHED: &str = "index-new";

const SUMMARIES: usize = 0;
const ENDS: usize = 1;
const TEXT: usize = 2;
const ROWS: usize = 3;
const TRACES: usize = 5;
const FILTER: usize = 6;
const SECTIONS: usize = 7;

/// Magic, six numbers, a size for each section, two checksums.
const HEADER: usize = 8 + 8 * (6 + SECTIONS) + 8;
const MAGIC: &[u8; 8] = b"hfindex\x02";

/// A digest and the number of a row.
const TRACE: usize = 12;

const PIECE: usize = 1 << 20;
