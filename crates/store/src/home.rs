//! The home directory of a node: where everything lies, who may look, and that only one process
//! uses it. What the files mean is for others.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::atomic::{make_private, make_private_directory, sweep_temporaries};
use crate::credential::Kind;
use crate::error::FileError;
use crate::lock::{HomeLock, LockError};

/// A home that this process, and no other, is using. Dropping it lets another process in.
#[derive(Debug)]
pub struct Home {
    paths: HomePaths,
    _lock: HomeLock,
}

impl Home {
    /// Opens a home, making what is missing, and locks it.
    ///
    /// Directories are made with mode 0700; those below `runtime/` that others could enter are made
    /// private again. `input/` is the user's: its directories are made if they are missing (not on a
    /// read-only file system) and never changed.
    pub fn open(root: impl AsRef<Path>) -> Result<Self, HomeError> {
        let paths = Self::paths(root);
        make_private_directory(&paths.root)?;
        for directory in paths.input_directories() {
            match make_private_directory(directory) {
                Err(error) if error.source.kind() == io::ErrorKind::ReadOnlyFilesystem => {}
                made => made?,
            }
            check_readable(directory)?;
        }
        for directory in paths.runtime_directories() {
            make_private_directory(directory)?;
            check_readable(directory)?;
        }

        let lock = HomeLock::acquire(&paths.lock).map_err(|error| match error {
            LockError::Busy(pid) => HomeError::Busy { path: paths.root.clone(), pid },
            LockError::File(error) => HomeError::File(error),
        })?;

        // Ours alone from here on: repair what others must not see, sweep what a crash left.
        for directory in paths.runtime_directories() {
            make_private(directory)?;
        }
        sweep_temporaries(&paths.runtime)?;
        sweep_temporaries(&paths.runtime_resources)?;
        Ok(Self { paths, _lock: lock })
    }

    /// Where things lie in a home, without touching or locking anything.
    pub fn paths(root: impl AsRef<Path>) -> HomePaths {
        let root = root.as_ref().to_owned();
        let input = root.join("input");
        let runtime = root.join("runtime");
        HomePaths {
            input_resources: input.join("resources"),
            input_certs: input.join("certs"),
            input_issuers: input.join("issuers"),
            input_policies: input.join("policies"),
            runtime_certs: runtime.join("certs"),
            runtime_issuers: runtime.join("issuers"),
            runtime_resources: runtime.join("resources"),
            runtime_telemetry: runtime.join("telemetry"),
            state_db: runtime.join("state.db"),
            in_force: runtime.join("in-force.json"),
            admin_sock: runtime.join("admin.sock"),
            lock: runtime.join("lock"),
            input,
            runtime,
            root,
        }
    }

    /// Where things lie in this home.
    pub fn layout(&self) -> &HomePaths {
        &self.paths
    }
}

/// Where things lie in a home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HomePaths {
    /// The home itself.
    pub root: PathBuf,
    /// What the user gives: never written by a node.
    pub input: PathBuf,
    /// Resources the user declares, `*.yaml`.
    pub input_resources: PathBuf,
    /// Supplied credentials, a directory each.
    pub input_certs: PathBuf,
    /// Supplied signing authorities, a directory each.
    pub input_issuers: PathBuf,
    /// Policies about who may do what, `*.cedar`.
    pub input_policies: PathBuf,
    /// What the node keeps.
    pub runtime: PathBuf,
    /// Managed credentials, a directory each.
    pub runtime_certs: PathBuf,
    /// Managed signing authorities, a directory each.
    pub runtime_issuers: PathBuf,
    /// Resources the node made, such as links from redeemed tokens.
    pub runtime_resources: PathBuf,
    /// What collectors keep and relays spool, a directory each.
    pub runtime_telemetry: PathBuf,
    /// The ledger.
    pub state_db: PathBuf,
    /// Digests of the configuration that was in force last.
    pub in_force: PathBuf,
    /// The socket of the admin API.
    pub admin_sock: PathBuf,
    /// The lock, and in it the process id of the node.
    pub lock: PathBuf,
}

impl HomePaths {
    /// Where supplied credentials of a kind lie.
    pub fn supplied(&self, kind: Kind) -> &Path {
        match kind {
            Kind::Certificate => &self.input_certs,
            Kind::Issuer => &self.input_issuers,
        }
    }

    /// Where managed credentials of a kind lie.
    pub fn managed(&self, kind: Kind) -> &Path {
        match kind {
            Kind::Certificate => &self.runtime_certs,
            Kind::Issuer => &self.runtime_issuers,
        }
    }

    fn input_directories(&self) -> [&Path; 5] {
        [
            &self.input,
            &self.input_resources,
            &self.input_certs,
            &self.input_issuers,
            &self.input_policies,
        ]
    }

    fn runtime_directories(&self) -> [&Path; 5] {
        [
            &self.runtime,
            &self.runtime_certs,
            &self.runtime_issuers,
            &self.runtime_resources,
            &self.runtime_telemetry,
        ]
    }
}

/// Why a home cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HomeError {
    /// Another process is using it.
    #[error(
        "the home `{}` is in use by {}; stop that process, or choose another home with --home",
        path.display(),
        pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
    )]
    Busy {
        /// The home.
        path: PathBuf,
        /// The process, if it is known.
        pid: Option<u32>,
    },
    /// A directory or file of it cannot be made, read or locked.
    #[error(transparent)]
    File(#[from] FileError),
}

/// A directory that we cannot list would look like an empty one later on.
fn check_readable(directory: &Path) -> Result<(), FileError> {
    match fs::read_dir(directory) {
        // Only possible where a read-only file system kept us from making it: nothing is supplied.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(FileError::new("read", directory, source)),
        Ok(_) => Ok(()),
    }
}
