//! What can go wrong with a journal, said to whoever runs the machine.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Position;

/// A journal that cannot be opened, or whose files cannot be moved or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The operating system refused.
    #[error("cannot {doing} `{}`: {source}", path.display())]
    File {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Another process has it open.
    #[error(
        "`{}` is in use by another process: a journal has one writer; stop the other one or give \
         this one a directory of its own",
        directory.display()
    )]
    InUse {
        /// Which journal.
        directory: PathBuf,
    },
    /// No thread could be started.
    #[error("no thread can be started to write `{}`: {source}", directory.display())]
    Thread {
        /// Which journal.
        directory: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

impl JournalError {
    pub(crate) fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { doing, path, source }
    }
}

/// Records that were not accepted. Nothing of the batch was kept; later ones may be.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The journal is closing.
    #[error("the journal is closed: this process is stopping")]
    Closed,
    /// There is no room, and the oldest is not to be dropped.
    #[error(
        "`{}` is full: {bytes} more bytes would go over its limit of {limit}; nothing of this batch was \
         accepted: find out why it is not drained, raise the limit, or let it drop the oldest",
        directory.display()
    )]
    Full {
        /// What was to be added.
        bytes: u64,
        /// Which journal.
        directory: PathBuf,
        /// What it may have.
        limit: u64,
    },
    /// One record is too large to be kept, or says more about its reporter than anybody has to.
    #[error("a record of {bytes} bytes is larger than the {limit} that a journal takes")]
    RecordTooLarge {
        /// How large it is.
        bytes: usize,
        /// How large it may be.
        limit: usize,
    },
    /// The disk refused.
    #[error(
        "cannot write `{}`: {source}; nothing of this batch was accepted, and the file ends where it \
         ended before: make room on that disk or repair it, later batches are tried again",
        path.display()
    )]
    Write {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: Arc<io::Error>,
    },
}

/// A chunk that cannot be read although it is there.
#[derive(Debug, thiserror::Error)]
#[error("cannot read `{}` at position {position}: {source}", path.display())]
pub struct ReadError {
    /// Which file.
    pub path: PathBuf,
    /// Where in the journal.
    pub position: Position,
    /// What the operating system said.
    pub source: io::Error,
}
