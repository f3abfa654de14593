//! Which records that lie aside have been dealt with: stretches of the journal, in a file that is replaced whole.
//!
//! A line for each stretch: the salt of its chunk, where it begins, where it ends, how many records it has. What names a
//! chunk that is not there any more, or is another one, means nothing; a file that cannot be read is empty, so that
//! what was dealt with lies there again rather than that anything is lost.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::journal::JournalError;
use crate::journal::chunk::{Chunk, make_private, sync_directory};

/// A place in the journal with a record, and the chunk that it lies in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Spot {
    pub(super) begin: u64,
    pub(super) end: u64,
    pub(super) salt: u64,
}

#[derive(Debug)]
pub(super) struct Taken {
    /// By where they begin; no two of one chunk touch.
    stretches: BTreeMap<u64, Stretch>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Stretch {
    end: u64,
    records: u64,
    salt: u64,
}

impl Taken {
    /// What the file of a journal says of the chunks that are there.
    pub(super) fn open(journal: &Path, chunks: &[Chunk]) -> Self {
        let path = file(journal);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                let path = path.display();
                tracing::warn!(%path, %error, "it is not known what was dealt with; all of it lies aside again");
            }
            String::new()
        });
        let mut stretches = BTreeMap::new();
        for line in text.lines() {
            let Some((begin, stretch)) = read_line(line) else { continue };
            let holds = |chunk: &&Chunk| {
                chunk.salt == stretch.salt && chunk.base <= begin && stretch.end <= chunk.end()
            };
            if begin < stretch.end && chunks.iter().any(|chunk| holds(&chunk)) {
                stretches.insert(begin, stretch);
            }
        }
        Self { stretches }
    }

    pub(super) fn has(&self, at: u64) -> bool {
        self.stretches.range(..=at).next_back().is_some_and(|(_, stretch)| at < stretch.end)
    }

    /// How many there are.
    pub(super) fn records(&self) -> u64 {
        self.stretches.values().map(|stretch| stretch.records).sum()
    }

    /// Whether all of a chunk, of which the first record lies at `begin`, was dealt with.
    pub(super) fn covers(&self, begin: u64, end: u64) -> bool {
        self.stretches.get(&begin).is_some_and(|stretch| stretch.end >= end)
    }

    pub(super) fn add(&mut self, spot: Spot) {
        let Spot { mut begin, mut end, salt } = spot;
        if self.has(begin) {
            return;
        }
        let mut records = 1;
        let before = self.stretches.range(..begin).next_back().map(|(at, it)| (*at, *it));
        if let Some((at, stretch)) = before
            && (stretch.end, stretch.salt) == (begin, salt)
        {
            records += stretch.records;
            begin = at;
        }
        if let Some(stretch) = self.stretches.get(&end).copied()
            && stretch.salt == salt
        {
            self.stretches.remove(&end);
            records += stretch.records;
            end = stretch.end;
        }
        self.stretches.insert(begin, Stretch { end, records, salt });
    }

    /// Forgets what lies before a place, which is not there any more; says how many records that was.
    pub(super) fn forget_before(&mut self, place: u64) -> u64 {
        let kept = self.stretches.split_off(&place);
        let gone = std::mem::replace(&mut self.stretches, kept);
        gone.values().map(|stretch| stretch.records).sum()
    }

    /// What the file is to say.
    pub(super) fn text(&self) -> String {
        let lines = self.stretches.iter().map(|(begin, stretch)| {
            let Stretch { end, records, salt } = stretch;
            format!("{salt:016x} {begin} {end} {records}\n")
        });
        lines.collect()
    }
}

/// Has the file of a journal say this. Durable when it returns.
pub(super) fn write(journal: &Path, text: &str) -> Result<(), JournalError> {
    let path = file(journal);
    let unfinished = path.with_extension("unfinished");
    let write = || {
        let mut file = make_private().create(true).truncate(true).open(&unfinished)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&unfinished, &path)
    };
    write().map_err(JournalError::file("write", &path))?;
    sync_directory(journal)
}

/// Within the journal: whoever empties that takes this along.
fn file(journal: &Path) -> PathBuf {
    journal.join("taken")
}

fn read_line(line: &str) -> Option<(u64, Stretch)> {
    let mut words = line.split(' ');
    let salt = u64::from_str_radix(words.next()?, 16).ok()?;
    let mut number = || words.next()?.parse::<u64>().ok();
    let (begin, end, records) = (number()?, number()?, number()?);
    words.next().is_none().then_some((begin, Stretch { end, records, salt }))
}
#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Two chunks with ten records of ten bytes each.
    const CHUNKS: [Chunk; 2] = [
        Chunk { base: 0, first_record: 0, length: 100, salt: 7 },
        Chunk { base: 100, first_record: 10, length: 100, salt: 8 },
    ];

    fn spot(record: u64) -> Spot {
        let begin = record * 10;
        Spot { begin, end: begin + 10, salt: 7 + record / 10 }
    }

    proptest! {
        #[test]
        fn what_was_taken_is_known_again(
            records in prop::collection::vec(0_u64..20, 0..40), oldest in prop::sample::select(vec![0_u64, 100]),
        ) {
            let directory = tempfile::tempdir().unwrap();
            let mut taken = Taken::open(directory.path(), &CHUNKS);
            for record in &records {
                taken.add(spot(*record));
            }
            write(directory.path(), &taken.text()).unwrap();
            let mut wanted: BTreeSet<u64> = records.iter().copied().collect();
            let mut again = Taken::open(directory.path(), &CHUNKS);
            prop_assert_eq!(&again.stretches, &taken.stretches);
            prop_assert_eq!(again.records(), wanted.len() as u64);
            for record in 0..20 {
                prop_assert_eq!(again.has(record * 10), wanted.contains(&record));
            }
            prop_assert_eq!(again.covers(0, 100), (0..10).all(|record| wanted.contains(&record)));
            let before = wanted.len();
            wanted.retain(|record| record * 10 >= oldest);
            prop_assert_eq!(again.forget_before(oldest), (before - wanted.len()) as u64);
            // Another chunk at the same place is not what was meant.
            let other = [CHUNKS[0], Chunk { salt: 99, ..CHUNKS[1] }];
            let found = Taken::open(directory.path(), &other);
            prop_assert!((10..20).all(|record| !found.has(record * 10)));
        }

        #[test]
        fn a_file_of_anything_is_read(bytes: Vec<u8>, line in "[0-9a-f]{1,17} [0-9]{1,21} [0-9]{1,21} [0-9]{1,3}") {
            let directory = tempfile::tempdir().unwrap();
            for content in [bytes, line.into_bytes()] {
                std::fs::write(file(directory.path()), content).unwrap();
                prop_assert_eq!(Taken::open(directory.path(), &CHUNKS).records(), 0);
            }
        }
    }
}
