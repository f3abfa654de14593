//! What can go wrong when the store is asked.

use std::io;

use crate::journal::JournalError;

/// A store that cannot be opened, or a question that cannot be answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeepError {
    /// The journal below it.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// No thread could be started.
    #[error("no thread can be started to write indexes: {0}")]
    Thread(io::Error),
    /// A file of it cannot be read.
    #[error("the store cannot be read: {0}; check the disk that it lies on")]
    Unreadable(#[from] io::Error),
}
