//! What lies aside in the directory of a forwarder that is another process, or none at the moment. Looking locks
//! nothing, so it goes on meanwhile; changing takes its place, and is refused while it runs.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::super::{ASIDE, CURSOR, SPOOL};
use super::{
    ASIDE_BYTES, Aside, AsideError, CHUNK_BYTES, Chosen, Dealt, Pass, SetAside, Shelf, Taken,
};
use crate::journal::chunk::Chunk;
use crate::journal::{
    Cursor, Journal, JournalError, JournalSettings, Position, ReadError, Snapshot,
};
use crate::record::Record;

/// The directory that a forwarder was given.
#[derive(Clone, Debug)]
pub struct AsideDirectory {
    directory: PathBuf,
}

/// Why what lies aside there cannot be looked at or dealt with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AsideDirectoryError {
    /// Not everything that was chosen was dealt with.
    #[error(transparent)]
    Deal(#[from] AsideError),
    /// It cannot be opened; [`JournalError::InUse`] while a forwarder runs there.
    #[error(transparent)]
    Open(#[from] JournalError),
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl AsideDirectory {
    /// What was given to [`Forwarder::start`](crate::forward::Forwarder::start); nothing if that never ran there.
    pub fn find(directory: impl AsRef<Path>) -> Option<Self> {
        let directory = directory.as_ref().to_owned();
        directory.join(ASIDE).is_dir().then_some(Self { directory })
    }

    /// Where it lies.
    pub fn path(&self) -> PathBuf {
        self.directory.join(ASIDE)
    }

    /// What of the chosen lies there now, the oldest first: at most so many, behind `behind` if that is named. Blocks
    /// while the disk is read.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn list(
        &self,
        chosen: &Chosen,
        behind: Option<u64>,
        most: usize,
    ) -> Result<Vec<SetAside>, AsideDirectoryError> {
        self.look(|seen| seen.list(chosen, behind, most))
    }

    /// One of the records that lie there, with its message. Blocks while the disk is read.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn one(&self, id: u64) -> Result<Option<(SetAside, Bytes)>, AsideDirectoryError> {
        self.look(|seen| seen.find(id))
    }

    /// Puts what was chosen back into the spool, which may have `limit_bytes`: whoever forwards from there next sends
    /// it. At whatever moment the process ends, each record is in the spool, aside, or both. Blocks while both are opened.
    ///
    /// # Errors
    /// A forwarder runs there, the spool has no room, or the disk refuses; what was not put back lies aside as before.
    pub async fn retry(
        &self,
        chosen: &Chosen,
        limit_bytes: u64,
    ) -> Result<Dealt, AsideDirectoryError> {
        // In small pieces: the last one of a spool is never given back, and its owner may have little room.
        let settings =
            JournalSettings { chunk_bytes: CHUNK_BYTES, limit_bytes, ..JournalSettings::default() };
        let (spool, _) = Journal::open(self.directory.join(SPOOL), settings)?;
        let mut cursor = Cursor::open(self.directory.join(CURSOR))?;
        if cursor.position() > spool.end() {
            // Somebody emptied the spool. It begins anew, and what is put there must not lie before the cursor.
            cursor.commit(Position::START)?;
        }
        let aside = Arc::new(Aside::open(&self.path(), ASIDE_BYTES)?);
        Ok(aside.deal(chosen, Some(&spool)).await?)
    }

    /// Throws away what was chosen. Blocks while it is opened.
    ///
    /// # Errors
    /// A forwarder runs there, or the disk refuses; what was not thrown away lies aside as before.
    pub async fn discard(&self, chosen: &Chosen) -> Result<Dealt, AsideDirectoryError> {
        let aside = Arc::new(Aside::open(&self.path(), ASIDE_BYTES)?);
        Ok(aside.deal(chosen, None).await?)
    }

    /// Looks at it as it is now. Where a chunk goes while it is looked at, that is done again.
    fn look<T>(
        &self,
        look: impl Fn(&Seen) -> Result<T, ReadError>,
    ) -> Result<T, AsideDirectoryError> {
        let mut looks = 1;
        loop {
            match look(&Seen::now(&self.path())?) {
                Err(error) if gone(&error) && looks < LOOKS => looks += 1,
                seen => return Ok(seen?),
            }
        }
    }
}

/// What lay there at a moment.
struct Seen {
    journal: Snapshot,
    taken: Taken,
}

impl Seen {
    fn now(path: &Path) -> Result<Self, JournalError> {
        let journal = Snapshot::take(path)?;
        // After the chunks: what is dealt with meanwhile is gone, and not there again.
        let taken = Taken::open(path, &journal.chunks());
        Ok(Self { journal, taken })
    }
}

impl Shelf for Seen {
    fn chunks(&self) -> Vec<Chunk> {
        self.journal.chunks()
    }

    fn leave_out_gone(&self, batch: &mut Vec<(Position, Record)>) {
        batch.retain(|(at, _)| !self.taken.has(at.as_u64()));
    }

    fn pass(&self) -> Pass {
        Pass { reader: self.journal.reader(Position::START), end: self.journal.end() }
    }
}

fn gone(error: &ReadError) -> bool {
    error.source.kind() == io::ErrorKind::NotFound
}

/// A chunk is given back when 8 MiB were dealt with: that happens once while somebody looks, if at all.
const LOOKS: usize = 5;

#[cfg(test)]
#[path = "directory_tests.rs"]
mod tests;
