//! How far a consumer is, durably: a file of two slots that are written in turn. Whatever moment the
//! process ends in, one of them is whole.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::chunk::{make_private, sync_directory};
use super::{JournalError, Position};

/// A durable place up to which a consumer is done.
#[derive(Debug)]
pub struct Cursor {
    file: File,
    path: PathBuf,
    turn: u64,
    position: Position,
}

impl Cursor {
    /// Opens a cursor; one that is not there, or of which no slot is whole, is at the start: what was done is
    /// then done again rather than left out.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, JournalError> {
        let path = path.as_ref();
        let file = make_private().read(true).create(true).truncate(false).open(path);
        let file = file.map_err(JournalError::file("open", path))?;
        sync_directory(path.parent().unwrap_or(Path::new(".")))?;
        // Its room is taken while there is some: who empties a spool on a full disk has to note how far. Where
        // there is none already, it may be found at the first commit.
        let _ = take_room(&file);
        let (turn, position) = (0..SLOTS)
            .filter_map(|slot| read_slot(&file, slot))
            .max_by_key(|(turn, _)| *turn)
            .unwrap_or((0, Position::START));
        Ok(Self { file, path: path.to_owned(), turn, position })
    }

    /// The place that was committed last.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Everything before this place is done. Durable when it returns; it blocks for as long as that takes.
    pub fn commit(&mut self, position: Position) -> Result<(), JournalError> {
        if position == self.position && self.turn > 0 {
            return Ok(());
        }
        let turn = self.turn + 1;
        self.write_slot(turn, position).map_err(JournalError::file("write", &self.path))?;
        self.turn = turn;
        self.position = position;
        Ok(())
    }

    fn write_slot(&self, turn: u64, position: Position) -> io::Result<()> {
        let mut slot = [0; SLOT];
        slot[..8].copy_from_slice(&turn.to_le_bytes());
        slot[8..16].copy_from_slice(&position.as_u64().to_le_bytes());
        let check = crc32fast::hash(&slot[..16]) ^ MASK;
        slot[16..].copy_from_slice(&check.to_le_bytes());
        self.file.write_all_at(&slot, turn % SLOTS * APART)?;
        self.file.sync_data()
    }
}

/// Has the file its full length, in blocks that are its own. What is in it stays.
fn take_room(file: &File) -> io::Result<()> {
    let (has, needs) = (file.metadata()?.len(), APART * (SLOTS - 1) + SLOT as u64);
    let missing = usize::try_from(needs.saturating_sub(has)).unwrap_or_default();
    file.write_all_at(&vec![0; missing], has)
}

fn read_slot(file: &File, slot: u64) -> Option<(u64, Position)> {
    let mut bytes = [0; SLOT];
    file.read_exact_at(&mut bytes, slot * APART).ok()?;
    let number = |at: usize| bytes[at..].first_chunk().map(|word| u64::from_le_bytes(*word));
    let check = bytes[16..].first_chunk().map(|word| u32::from_le_bytes(*word))?;
    let whole = check == crc32fast::hash(&bytes[..16]) ^ MASK;
    whole.then_some((number(0)?, Position::new(number(8)?)))
}

/// Turn, position, checksum.
const SLOT: usize = 20;
const SLOTS: u64 = 2;

/// The slots never share a block of the disk: one that tears does not take the other with it.
const APART: u64 = 4096;

/// So that a slot of zeros is not whole.
const MASK: u32 = 0x6a_f5_6a_f5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_slot_leaves_the_one_before() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cursor");
        let mut cursor = Cursor::open(&path).unwrap();
        assert_eq!(cursor.position(), Position::START);
        cursor.commit(Position::new(100)).unwrap();
        cursor.commit(Position::new(200)).unwrap();
        assert_eq!(Cursor::open(&path).unwrap().position(), Position::new(200));

        let whole = std::fs::read(&path).unwrap();
        for byte in 0..SLOT {
            let mut torn = whole.clone();
            torn[byte] ^= 0xff;
            std::fs::write(&path, &torn).unwrap();
            assert_eq!(Cursor::open(&path).unwrap().position(), Position::new(100), "byte {byte}");
        }
        let mut again = Cursor::open(&path).unwrap();
        again.commit(Position::new(300)).unwrap();
        assert_eq!(Cursor::open(&path).unwrap().position(), Position::new(300));
    }

    #[test]
    fn a_file_of_anything_is_the_start() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cursor");
        for content in [vec![], vec![0; 9000], vec![0xff; 100], b"cursor".to_vec()] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(Cursor::open(&path).unwrap().position(), Position::START);
        }
    }
}
