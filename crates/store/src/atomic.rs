//! Files that are there whole or not at all, and directories only their owner can read.
//! Knows nothing of what is in the files.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::FileError;

/// Replaces a file, or makes it: readers see the old bytes or the new ones, never a mixture, and a
/// power cut leaves one of the two.
///
/// The bytes go to a temporary file beside it (its name starts with a dot), are synced, renamed over
/// `path`, and the directory is synced. `mode` is applied as given, whatever the umask. If `path` is
/// a symbolic link, the link is replaced, not its target. On an error the old file is untouched.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let failed = |source| FileError::new("write", path, source);
    let (Some(directory), Some(file_name)) = (parent_of(path), path.file_name()) else {
        return Err(failed(io::Error::from(io::ErrorKind::InvalidFilename)));
    };
    let (temporary, file) = create_temporary(&directory, file_name, mode).map_err(failed)?;
    let written = fill(file, bytes, mode).and_then(|()| fs::rename(&temporary, path));
    if let Err(source) = written {
        // Already failing for a better reason; a file left behind is swept when the home is opened.
        drop(fs::remove_file(&temporary));
        return Err(failed(source));
    }
    sync_directory(&directory)
}

/// Reads a regular file of at most `limit` bytes; `None` if it is not there.
///
/// Devices, pipes and sockets are refused without being opened: they could block for ever.
pub fn read_bounded(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, FileError> {
    let failed = |source| FileError::new("read", path, source);
    let refuse = |why: String| failed(io::Error::new(io::ErrorKind::InvalidInput, why));
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if !metadata.is_file() {
        return Err(refuse("it is not a regular file".to_owned()));
    }
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    // All the room at once: growing would leave copies of a key behind in freed memory.
    let expected = metadata.len().min(limit).saturating_add(1);
    let mut bytes = Vec::with_capacity(usize::try_from(expected).unwrap_or_default());
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(refuse(format!("it is larger than {limit} bytes")));
    }
    Ok(Some(bytes))
}

/// Writes a file that must not exist yet and syncs it; the directory is the caller's to sync.
pub(crate) fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    fill(create_new(path, mode)?, bytes, mode)
}

/// Makes the names in a directory durable.
pub(crate) fn sync_directory(directory: &Path) -> Result<(), FileError> {
    File::open(directory)
        .and_then(|opened| opened.sync_all())
        .map_err(|source| FileError::new("sync", directory, source))
}

/// Makes a directory that only its owner can enter, and its missing parents.
pub(crate) fn make_private_directory(directory: &Path) -> Result<(), FileError> {
    if directory.is_dir() {
        return Ok(());
    }
    let parent = parent_of(directory);
    if let Some(parent) = &parent {
        make_private_directory(parent)?;
    }
    match DirBuilder::new().mode(DIRECTORY_MODE).create(directory) {
        // Another process was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => {}
        made => made.map_err(|source| FileError::new("create", directory, source))?,
    }
    parent.map_or(Ok(()), |parent| sync_directory(&parent))
}

/// Takes away what others may do with a directory of ours.
pub(crate) fn make_private(directory: &Path) -> Result<(), FileError> {
    let failed = |source| FileError::new("restrict", directory, source);
    let mode = fs::metadata(directory).map_err(failed)?.permissions().mode();
    let for_others = mode & 0o077;
    if for_others == 0 {
        return Ok(());
    }
    tracing::warn!(
        directory = %directory.display(),
        mode = format!("{:o}", mode & 0o7777),
        "others could enter a directory that holds keys; it is private now"
    );
    fs::set_permissions(directory, Permissions::from_mode(DIRECTORY_MODE)).map_err(failed)
}

/// Removes the temporary files that a killed process left in a directory.
pub(crate) fn sweep_temporaries(directory: &Path) -> Result<(), FileError> {
    let failed = |source| FileError::new("read", directory, source);
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with('.') && name.contains(TEMPORARY)) {
            let path = entry.path();
            fs::remove_file(&path).map_err(|source| FileError::new("remove", &path, source))?;
        }
    }
    Ok(())
}

/// A new file beside the final one. The name is tried until it is free: a process that was killed
/// may have left one behind, and in a container every process has the same number.
fn create_temporary(directory: &Path, file_name: &OsStr, mode: u32) -> io::Result<(PathBuf, File)> {
    loop {
        let mut name = OsString::from(".");
        name.push(file_name);
        let count = NEXT_TEMPORARY.fetch_add(1, Ordering::Relaxed);
        name.push(format!("{TEMPORARY}{}-{count}", std::process::id()));
        let path = directory.join(name);
        match create_new(&path, mode) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            created => return created.map(|file| (path, file)),
        }
    }
}

fn create_new(path: &Path, mode: u32) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path)
}

fn fill(mut file: File, bytes: &[u8], mode: u32) -> io::Result<()> {
    // The umask may have taken bits away.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// The directory a path lies in; `.` for a bare name.
fn parent_of(path: &Path) -> Option<PathBuf> {
    let parent = path.parent()?;
    Some(if parent.as_os_str().is_empty() { PathBuf::from(".") } else { parent.to_owned() })
}

/// Directories: only the owner.
pub(crate) const DIRECTORY_MODE: u32 = 0o700;
/// Files: only the owner.
pub(crate) const FILE_MODE: u32 = 0o600;
/// What marks a temporary file, after a dot and the final name.
const TEMPORARY: &str = ".tmp-";

static NEXT_TEMPORARY: AtomicU64 = AtomicU64::new(0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_with_the_mode_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("site.yaml");
        write_atomic(&path, b"old", 0o644).unwrap();
        write_atomic(&path, b"new", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no temporary stays");
    }

    #[test]
    fn a_failure_names_the_path_and_leaves_no_temporary() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("taken");
        fs::create_dir(&path).unwrap();
        let error = write_atomic(&path, b"x", 0o600).unwrap_err();
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);

        let error = write_atomic(&directory.path().join("no/file"), b"x", 0o600).unwrap_err();
        assert!(error.to_string().contains("no/file"), "{error}");
        assert!(write_atomic(Path::new("/"), b"x", 0o600).is_err());
    }

    #[test]
    fn a_temporary_left_behind_is_not_in_the_way() {
        let directory = tempfile::tempdir().unwrap();
        let next = NEXT_TEMPORARY.load(Ordering::Relaxed);
        for count in next..next + 50 {
            let left = format!(".file{TEMPORARY}{}-{count}", std::process::id());
            fs::write(directory.path().join(left), b"half").unwrap();
        }
        let path = directory.path().join("file");
        write_atomic(&path, b"whole", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
    }

    #[test]
    fn a_full_disk_is_recognised() {
        let Ok(mut full) = OpenOptions::new().write(true).open("/dev/full") else {
            println!("skipped: no /dev/full here");
            return;
        };
        let error = full.write_all(b"x").unwrap_err();
        let error = FileError::new("write", Path::new("/home/tls.crt"), error);
        assert!(error.is_disk_full());
        let text = error.to_string();
        assert!(text.contains("`/home/tls.crt`") && text.contains("free space"), "{text}");
    }

    #[test]
    fn reading_is_bounded_and_never_blocks() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        assert_eq!(read_bounded(&path, 4).unwrap(), None);
        fs::write(&path, b"1234").unwrap();
        assert_eq!(read_bounded(&path, 4).unwrap().as_deref(), Some(&b"1234"[..]));
        assert!(read_bounded(&path, 3).unwrap_err().to_string().contains("larger than 3 bytes"));
        assert!(read_bounded(directory.path(), 4).is_err());
        assert!(read_bounded(Path::new("/dev/zero"), 4).is_err());
    }

    #[test]
    fn only_our_own_temporaries_are_swept() {
        let directory = tempfile::tempdir().unwrap();
        for name in [".site.yaml.tmp-17-0", "site.yaml", ".hidden", "a.tmp-1"] {
            fs::write(directory.path().join(name), b"").unwrap();
        }
        sweep_temporaries(directory.path()).unwrap();
        let mut left: Vec<_> = fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, [".hidden", "a.tmp-1", "site.yaml"]);
    }
}
