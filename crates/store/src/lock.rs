//! One process to a home: a lock that the kernel holds for us, and drops with us, `kill -9` included.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::atomic::FILE_MODE;
use crate::error::FileError;

/// The lock on a home, held until dropped.
#[derive(Debug)]
pub(crate) struct HomeLock {
    file: File,
}

/// Why there is no lock.
pub(crate) enum LockError {
    /// Another process has it: its number, if the file tells.
    Busy(Option<u32>),
    /// The lock file itself cannot be used.
    File(FileError),
}

impl HomeLock {
    /// Takes the lock (`flock`, exclusive, without waiting) and writes our process id into the file.
    ///
    /// The file stays when the lock goes: removing it would let two processes lock two files.
    pub(crate) fn acquire(path: &Path) -> Result<Self, LockError> {
        let failed = |source| LockError::File(FileError::new("lock", path, source));
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LockError::Busy(read_pid(&mut file))),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        write_pid(&mut file).map_err(failed)?;
        Ok(Self { file })
    }
}

impl Drop for HomeLock {
    fn drop(&mut self) {
        // Only so that nobody reads a stale process id.
        drop(self.file.set_len(0));
        // Closing would do, were it not for processes that we are just starting: until they have
        // become another program they hold every file of ours, and with it the lock.
        drop(self.file.unlock());
    }
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
