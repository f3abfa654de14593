//! What belongs into a backup, read from a home that may be at work.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path};

use zeroize::Zeroizing;

use crate::atomic::{FILE_MODE, read_bounded};
use crate::error::FileError;
use crate::home::HomePaths;

/// A file or link, by its path in the home.
#[derive(Clone)]
pub(super) struct Item {
    pub(super) path: String,
    pub(super) content: Content,
}

#[derive(Clone)]
pub(super) enum Content {
    File { bytes: Zeroizing<Vec<u8>>, mode: u32 },
    Link(String),
}

impl Item {
    pub(super) fn plain(path: &str, bytes: Vec<u8>) -> Self {
        let content = Content::File { bytes: bytes.into(), mode: FILE_MODE };
        Self { path: path.to_owned(), content }
    }

    /// Whether it holds a private key, by its name or by what it says of itself.
    pub(super) fn is_secret(&self) -> bool {
        match &self.content {
            Content::Link(_) => false,
            Content::File { bytes, .. } => {
                let named = Path::new(&self.path).extension().is_some_and(|end| {
                    ["key", "p12", "pfx", "jks"]
                        .iter()
                        .any(|secret| end.eq_ignore_ascii_case(secret))
                });
                named || contains(bytes, b"PRIVATE KEY-----")
            }
        }
    }
}

/// What the node keeps, the ledger and what only means something here and now aside.
pub(super) fn runtime(home: &HomePaths) -> Result<Vec<Item>, FileError> {
    let mut found = Vec::new();
    walk(&home.runtime, "runtime", &mut found)?;
    found.retain(|item| {
        let name = item.path.strip_prefix("runtime/").unwrap_or_default();
        let about_the_ledger = matches!(name, "audit.head" | "revocations.log");
        !(name.starts_with("state.db") || about_the_ledger || matches!(name, "lock" | "admin.sock"))
    });
    Ok(found)
}

/// What the user gives.
pub(super) fn input(home: &HomePaths) -> Result<Vec<Item>, FileError> {
    let mut found = Vec::new();
    walk(&home.input, "input", &mut found)?;
    Ok(found)
}

/// Reads a directory, and again if the credential in it was switched meanwhile.
fn walk(directory: &Path, path: &str, found: &mut Vec<Item>) -> Result<(), FileError> {
    let data = directory.join("..data");
    for _ in 0..ATTEMPTS {
        let before = fs::read_link(&data).ok();
        let mut items = Vec::new();
        let read = read_directory(directory, path, &mut items);
        if fs::read_link(&data).ok() == before {
            read?;
            found.append(&mut items);
            return Ok(());
        }
    }
    let changed = io::Error::other("it changed on every attempt to read it");
    Err(FileError::new("read", directory, changed))
}

fn read_directory(directory: &Path, path: &str, found: &mut Vec<Item>) -> Result<(), FileError> {
    let failed = |source| FileError::new("read", directory, source);
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        // A name that is not text is none of ours, and none that a setting could name.
        names.extend(entry.map_err(failed)?.file_name().into_string().ok());
    }
    names.sort();
    for name in names {
        let is_temporary = name.starts_with("..tmp-")
            || (name.starts_with('.') && name.contains(".tmp-"))
            || name.contains('\n');
        if !is_temporary {
            read_entry(&directory.join(&name), &format!("{path}/{name}"), found)?;
        }
    }
    Ok(())
}

fn read_entry(file: &Path, path: &str, found: &mut Vec<Item>) -> Result<(), FileError> {
    let failed = |source| FileError::new("read", file, source);
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let kind = match fs::symlink_metadata(file) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if gone(&error) => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    if kind.is_dir() {
        return walk(file, path, found);
    }
    if kind.is_symlink() {
        let target = fs::read_link(file).map_err(failed)?;
        if let Some(target) = target.to_str().filter(|_| stays_below(&target)) {
            let content = Content::Link(target.to_owned());
            found.push(Item { path: path.to_owned(), content });
            return Ok(());
        }
        // A link to somewhere else would lead nowhere on another machine.
    }
    let metadata = match fs::metadata(file) {
        Ok(metadata) => metadata,
        Err(error) if gone(&error) => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    if !metadata.is_file() {
        return Ok(());
    }
    if let Some(bytes) = read_bounded(file, super::archive::LARGEST)? {
        let mode = metadata.permissions().mode() & 0o777;
        let content = Content::File { bytes: bytes.into(), mode };
        found.push(Item { path: path.to_owned(), content });
    }
    Ok(())
}

/// Whether a path leads nowhere but down.
pub(super) fn stays_below(path: &Path) -> bool {
    path.components().next().is_some()
        && path.components().all(|part| matches!(part, Component::Normal(_)))
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|part| part == wanted)
}

/// Credentials are switched minutes apart.
const ATTEMPTS: usize = 8;
