//! The file of a backup: a tar archive that begins with a list of what is in it.
//!
//! ```text
//! handfast-backup 1
//! made 2026-11-21T03:34:02Z
//! file <mode, octal> <octets> <SHA-256> <path>
//! left-out <path>
//! end <SHA-256 of all lines before>
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use jiff::Timestamp;
use tar::{Archive, EntryType, Header};
use zeroize::Zeroizing;

use super::BackupError;
use super::collect::{Content, Item, stays_below};
use crate::atomic::{FILE_MODE, make_private_directory};
use crate::error::FileError;
use crate::hex;

/// The sealed private keys.
pub(super) const SECRETS: &str = "secrets.sealed";
/// The ledger.
pub(super) const LEDGER: &str = "runtime/state.db";
/// The largest file other than the ledger.
pub(super) const LARGEST: u64 = 64 * 1024 * 1024;

/// Writes a backup.
pub(super) struct Writer {
    path: PathBuf,
    file: File,
    manifest: String,
}

impl Writer {
    pub(super) fn create(path: &Path, made: Timestamp) -> Result<Self, FileError> {
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(FILE_MODE)
            .open(path)
            .map_err(|source| FileError::new("create", path, source))?;
        let manifest = format!("{MAGIC}\nmade {made}\n");
        Ok(Self { path: path.to_owned(), file, manifest })
    }

    /// Lists a file that will be written.
    pub(super) fn announce(&mut self, path: &str, mode: u32, bytes: &[u8]) {
        let hash = digest::digest(&digest::SHA256, bytes);
        self.list(path, mode, bytes.len() as u64, hash.as_ref());
    }

    /// Lists the file at `from` under `path`.
    pub(super) fn announce_file(&mut self, path: &str, from: &Path) -> Result<(), FileError> {
        let mut context = digest::Context::new(&digest::SHA256);
        let length = copy(from, &mut Hashing(&mut context))?;
        self.list(path, FILE_MODE, length, context.finish().as_ref());
        Ok(())
    }

    /// Lists a file that is not in the backup because it has a private key.
    pub(super) fn leave_out(&mut self, path: &str) {
        self.line(&["left-out", path]);
    }

    /// Writes everything, to the disk, and says how much it was.
    pub(super) fn write(
        mut self,
        items: &[Item],
        ledger: &Path,
        sealed: Option<&[u8]>,
    ) -> Result<u64, FileError> {
        let end = digest::digest(&digest::SHA256, self.manifest.as_bytes());
        self.line(&["end", &hex::encode(end.as_ref())]);
        let write = || {
            let mut archive = tar::Builder::new(BufWriter::new(&self.file));
            append(&mut archive, MANIFEST, FILE_MODE, self.manifest.as_bytes())?;
            if let Some(sealed) = sealed {
                append(&mut archive, SECRETS, FILE_MODE, sealed)?;
            }
            for item in items {
                match &item.content {
                    Content::File { bytes, mode } => {
                        append(&mut archive, &item.path, *mode, bytes)?;
                    }
                    Content::Link(target) => {
                        let mut header = Header::new_gnu();
                        header.set_entry_type(EntryType::Symlink);
                        header.set_size(0);
                        header.set_mode(0o777);
                        archive.append_link(&mut header, &item.path, target)?;
                    }
                }
            }
            let mut copy = File::open(ledger)?;
            let mut header = header(FILE_MODE, copy.metadata()?.len());
            archive.append_data(&mut header, LEDGER, &mut copy)?;
            archive.into_inner()?.flush()?;
            self.file.sync_all()?;
            Ok(self.file.metadata()?.len())
        };
        write().map_err(|source| FileError::new("write", &self.path, source))
    }

    fn list(&mut self, path: &str, mode: u32, length: u64, hash: &[u8]) {
        let (mode, length) = (format!("{mode:o}"), length.to_string());
        self.line(&["file", &mode, &length, &hex::encode(hash), path]);
    }

    fn line(&mut self, words: &[&str]) {
        self.manifest.push_str(&words.join(" "));
        self.manifest.push('\n');
    }
}

/// What was in a backup, once it is unpacked.
pub(super) struct Unpacked {
    pub(super) made: Timestamp,
    /// The files that were left out, by their path in the home.
    pub(super) left_out: Vec<String>,
    /// The sealed private keys.
    pub(super) sealed: Option<Vec<u8>>,
}

/// Unpacks a backup below `to`, and checks every file of it.
pub(super) fn unpack(from: &Path, to: &Path) -> Result<Unpacked, BackupError> {
    let damaged = |what: String| BackupError::Damaged { path: from.to_owned(), what };
    let broken = |error: io::Error| damaged(format!("it is not a whole tar archive ({error})"));
    let file = File::open(from).map_err(|source| FileError::new("open", from, source))?;
    let mut archive = Archive::new(io::BufReader::new(file));
    let entries = archive.entries().map_err(broken)?;
    let mut listed: Option<Manifest> = None;
    let mut sealed = None;
    for entry in entries {
        let mut entry = entry.map_err(broken)?;
        let path = entry.path().map_err(broken)?.into_owned();
        let Some(path) = path.to_str().map(str::to_owned) else {
            return Err(damaged("a path in it is not text".to_owned()));
        };
        let Some(manifest) = &mut listed else {
            if path != MANIFEST {
                return Err(damaged("it is not a backup: it has no MANIFEST".to_owned()));
            }
            let text = read_small(&mut entry).map_err(broken)?;
            let manifest = std::str::from_utf8(&text).ok().and_then(Manifest::read);
            let what = "its MANIFEST is damaged, or of another release";
            listed = Some(manifest.ok_or_else(|| damaged(what.to_owned()))?);
            continue;
        };
        let inside = path.starts_with("runtime/") || path.starts_with("input/");
        if path != SECRETS && !(inside && stays_below(Path::new(&path))) {
            return Err(damaged(format!("`{path}` does not belong into a backup")));
        }
        if entry.header().entry_type() == EntryType::Symlink {
            let target = entry.link_name().map_err(broken)?.map(std::borrow::Cow::into_owned);
            let target = target.filter(|target| stays_below(target));
            let target = target.ok_or_else(|| damaged(format!("`{path}` leads out of it")))?;
            link(&to.join(&path), &target)?;
            continue;
        }
        let expected = manifest.files.remove(&path);
        let wrong = || damaged(format!("`{path}` is not what its MANIFEST says"));
        let expected = expected.ok_or_else(wrong)?;
        let mut context = digest::Context::new(&digest::SHA256);
        if path == SECRETS {
            let bytes = read_small(&mut entry).map_err(broken)?;
            context.update(&bytes);
            sealed = Some(bytes.to_vec());
        } else {
            let mut file = create(&to.join(&path), expected.mode)?;
            let mut both = Both(&mut file, Hashing(&mut context));
            io::copy(&mut entry, &mut both)
                .and_then(|_| file.sync_all())
                .map_err(|source| FileError::new("write", &to.join(&path), source))?;
        }
        if hex::encode(context.finish().as_ref()) != expected.hash {
            return Err(wrong());
        }
    }
    let manifest = listed.ok_or_else(|| damaged("it is empty".to_owned()))?;
    if let Some(missing) = manifest.files.into_keys().next() {
        return Err(damaged(format!("`{missing}` is missing from it")));
    }
    Ok(Unpacked { made: manifest.made, left_out: manifest.left_out, sealed })
}

/// Writes one file of a backup into its place.
pub(super) fn place(to: &Path, item: &Item) -> Result<(), FileError> {
    let path = to.join(&item.path);
    let Content::File { bytes, mode } = &item.content else { return Ok(()) };
    let mut file = create(&path, *mode)?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(|source| FileError::new("write", &path, source))
}

fn create(path: &Path, mode: u32) -> Result<File, FileError> {
    if let Some(directory) = path.parent() {
        make_private_directory(directory)?;
    }
    File::options()
        .write(true)
        .create_new(true)
        .mode(mode & 0o777)
        .open(path)
        .map_err(|source| FileError::new("create", path, source))
}

fn link(path: &Path, target: &Path) -> Result<(), FileError> {
    if let Some(directory) = path.parent() {
        make_private_directory(directory)?;
    }
    std::os::unix::fs::symlink(target, path)
        .map_err(|source| FileError::new("create", path, source))
}

struct Manifest {
    made: Timestamp,
    files: BTreeMap<String, Listed>,
    left_out: Vec<String>,
}

struct Listed {
    mode: u32,
    hash: String,
}

impl Manifest {
    fn read(text: &str) -> Option<Self> {
        let (lines, end) = text.strip_suffix('\n')?.rsplit_once('\n')?;
        let lines = format!("{lines}\n");
        let hash = digest::digest(&digest::SHA256, lines.as_bytes());
        if end.strip_prefix("end ")? != hex::encode(hash.as_ref()) {
            return None;
        }
        let mut lines = lines.lines();
        if lines.next()? != MAGIC {
            return None;
        }
        let made = lines.next()?.strip_prefix("made ")?.parse().ok()?;
        let (mut files, mut left_out) = (BTreeMap::new(), Vec::new());
        for line in lines {
            if let Some(path) = line.strip_prefix("left-out ") {
                left_out.push(path.to_owned());
                continue;
            }
            let mut words = line.strip_prefix("file ")?.splitn(4, ' ');
            let mode = u32::from_str_radix(words.next()?, 8).ok()?;
            let (_length, hash, path) = (words.next()?, words.next()?, words.next()?);
            files.insert(path.to_owned(), Listed { mode, hash: hash.to_owned() });
        }
        Some(Self { made, files, left_out })
    }
}

fn append(
    archive: &mut tar::Builder<impl Write>,
    path: &str,
    mode: u32,
    bytes: &[u8],
) -> io::Result<()> {
    archive.append_data(&mut header(mode, bytes.len() as u64), path, bytes)
}

fn header(mode: u32, length: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(mode);
    header.set_size(length);
    header
}

fn read_small(entry: &mut impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    entry.take(LARGEST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn copy(from: &Path, to: &mut impl Write) -> Result<u64, FileError> {
    File::open(from)
        .and_then(|mut file| io::copy(&mut file, to))
        .map_err(|source| FileError::new("read", from, source))
}

/// Takes the hash of what is written to it.
struct Hashing<'a>(&'a mut digest::Context);

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes to a file and a hash.
struct Both<'a>(&'a mut File, Hashing<'a>);

impl Write for Both<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.0.write(bytes)?;
        self.1.write_all(bytes.get(..written).unwrap_or_default())?;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

const MAGIC: &str = "handfast-backup 1";
const MANIFEST: &str = "MANIFEST";
