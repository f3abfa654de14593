//! The newest head, kept beside the ledger: what tells that an older copy of the ledger was put back.
//!
//! The file has two places that are written in turn, so that one whole head is always there. It is
//! written after every commit, and synced now and then only: a killed process loses nothing of it; a
//! power cut may lose the heads of the last [`SYNC`] (of the last half minute, when the system flushes
//! by itself, if nothing was written since). The head that is left then is an older one, which is no
//! worse than that: whatever it covers cannot be taken back unnoticed.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::head::SignedHead;
use crate::atomic::{FILE_MODE, read_bounded, sync_directory};
use crate::error::FileError;

/// The file, open for writing.
#[derive(Debug)]
pub(crate) struct HeadFile {
    path: PathBuf,
    file: File,
    next_place: u64,
    synced: Option<Instant>,
    complained: bool,
}

impl HeadFile {
    /// Opens the file, or makes it.
    pub(crate) fn open(path: &Path) -> Result<Self, FileError> {
        let failed = |source| FileError::new("open", path, source);
        let newest = places(path)?;
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(path)
            .map_err(failed)?;
        if let Some(directory) = path.parent() {
            sync_directory(directory)?;
        }
        let next_place = newest.map_or(0, |(place, _)| 1 - place);
        Ok(Self { path: path.to_owned(), file, next_place, synced: None, complained: false })
    }

    /// Puts a head into the file. The ledger has it already, so that a failure is only logged.
    pub(crate) fn keep(&mut self, head: &SignedHead) {
        match self.write(head) {
            Ok(()) => self.complained = false,
            Err(error) if !self.complained => {
                self.complained = true;
                tracing::error!(
                    path = %self.path.display(), %error,
                    "the newest head of the audit log cannot be kept outside the ledger; until that \
                     works again, an older copy of the ledger would not be noticed"
                );
            }
            Err(_) => {}
        }
    }

    /// Makes what was written last for ever.
    pub(crate) fn sync(&mut self) {
        // The next one may have more luck; see the module's documentation for what is at stake.
        drop(self.file.sync_data());
        self.synced = Some(Instant::now());
    }

    fn write(&mut self, head: &SignedHead) -> io::Result<()> {
        let mut text = head.to_string();
        // Filled up with line breaks, so that nothing of the text before is left.
        while text.len() < PLACE {
            text.push('\n');
        }
        self.file.write_all_at(text.as_bytes(), self.next_place * PLACE as u64)?;
        self.next_place = 1 - self.next_place;
        if self.synced.is_none_or(|synced| synced.elapsed() >= SYNC) {
            self.sync();
        }
        Ok(())
    }
}

impl Drop for HeadFile {
    fn drop(&mut self) {
        self.sync();
    }
}

/// The newest head in the file; `None` if there is no file, or no head in it.
pub(crate) fn read(path: &Path) -> Result<Option<SignedHead>, FileError> {
    Ok(places(path)?.map(|(_, head)| head))
}

fn places(path: &Path) -> Result<Option<(u64, SignedHead)>, FileError> {
    let Some(bytes) = read_bounded(path, 64 * 1024)? else { return Ok(None) };
    let mut newest: Option<(u64, SignedHead)> = None;
    for (place, bytes) in (0..2).zip(bytes.chunks(PLACE)) {
        let Ok(text) = std::str::from_utf8(bytes) else { continue };
        let Ok(head) = format!("{}\n", text.trim_end()).parse::<SignedHead>() else { continue };
        if newest.as_ref().is_none_or(|(_, found)| found.head.size < head.head.size) {
            newest = Some((place, head));
        }
    }
    Ok(newest)
}

/// Half a page: a place never lies across two.
const PLACE: usize = 512;
/// How long a head may wait to be synced while others are written.
const SYNC: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::head::{AuditKey, TreeHead};

    #[test]
    fn the_newest_whole_head_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.head");
        assert_eq!(read(&path).unwrap(), None);
        let key = AuditKey::generate().unwrap();
        let head =
            |size: u64| key.sign(TreeHead { size, root: [5; 32], at: jiff::Timestamp::UNIX_EPOCH });
        for sizes in [[1, 2, 3], [1000, 1001, 1002]] {
            let mut file = HeadFile::open(&path).unwrap();
            for size in sizes {
                file.keep(&head(size));
                assert_eq!(read(&path).unwrap(), Some(head(size)));
            }
        }
        // Power went away in the middle of a write: the one before is still there.
        let mut bytes = std::fs::read(&path).unwrap();
        let place =
            if bytes.windows(4).position(|w| w == b"1002").unwrap() < 512 { 0 } else { 512 };
        bytes[place + 100..place + 400].fill(b'x');
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(read(&path).unwrap(), Some(head(1001)));
        HeadFile::open(&path).unwrap().keep(&head(1003));
        assert_eq!(read(&path).unwrap(), Some(head(1003)));
    }
}
