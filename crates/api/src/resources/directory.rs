//! The files of a resource directory: which are read, in which order, within which bounds.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::{
    MAX_FILE_BYTES, MAX_FILES, MAX_TOTAL_BYTES, ResourceFault, Resources, Severity, reader,
};

/// See [`Resources::load`].
pub(super) fn load(directory: &Path) -> (Resources, Vec<ResourceFault>) {
    let mut resources = Resources::default();
    let mut faults = Vec::new();
    let mut files = match list(directory) {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return (resources, faults),
        Err(error) => {
            faults.push(unreadable(directory, &error));
            return (resources, faults);
        }
    };
    // By name, so that "the first one is used" means the same on every start.
    files.sort();
    if files.len() > MAX_FILES {
        faults.push(fault(
            directory,
            format!("{} resource files; at most {MAX_FILES} are read", files.len()),
            "put several documents into one file, separated by `---`",
        ));
        files.truncate(MAX_FILES);
    }
    let mut total = 0;
    for file in files {
        if total > MAX_TOTAL_BYTES {
            faults.push(fault(
                &file,
                format!("not read: the files before it hold more than {MAX_TOTAL_BYTES} bytes"),
                "remove what is not needed",
            ));
            break;
        }
        match read_bounded(&file) {
            Ok(Some(text)) => {
                total += text.len() as u64;
                reader::read(&file, &text, &mut resources, &mut faults);
            }
            Ok(None) => {}
            Err(fault) => faults.push(*fault),
        }
    }
    (resources, faults)
}

/// Files that may hold resources. Hidden ones are skipped: they are temporary files, editors' copies
/// and the `..data` links of mounted volumes.
fn list(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let extension = Path::new(name).extension().and_then(|extension| extension.to_str());
        if !name.starts_with('.') && matches!(extension, Some("json" | "yaml" | "yml")) {
            files.push(entry.path());
        }
    }
    Ok(files)
}

/// The file's text; `None` where there is no file any more.
fn read_bounded(file: &Path) -> Result<Option<String>, Box<ResourceFault>> {
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let failed = |error: io::Error| Box::new(unreadable(file, &error));
    let metadata = match fs::metadata(file) {
        Ok(metadata) => metadata,
        // A dangling link is worth a word; a file deleted meanwhile is not.
        Err(error) if gone(&error) && fs::symlink_metadata(file).is_err() => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if !metadata.is_file() {
        // Opening a FIFO would wait for a writer.
        return Err(Box::new(fault(
            file,
            "not a regular file".to_owned(),
            "remove it, or give it a name that does not end in .yaml, .yml or .json",
        )));
    }
    let mut bytes = Vec::new();
    fs::File::open(file)
        .and_then(|opened| opened.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(Box::new(fault(
            file,
            format!("larger than {} KiB", MAX_FILE_BYTES / 1024),
            "split it into several files",
        )));
    }
    String::from_utf8(bytes).map(Some).map_err(|error| {
        Box::new(fault(
            file,
            format!("not UTF-8 text (byte {})", error.utf8_error().valid_up_to()),
            "save it as UTF-8",
        ))
    })
}

fn unreadable(path: &Path, error: &io::Error) -> ResourceFault {
    fault(path, format!("cannot be read: {error}"), "check that it exists and who may read it")
}

fn fault(file: &Path, what: String, remedy: &str) -> ResourceFault {
    ResourceFault {
        file: file.to_owned(),
        line: None,
        kind: None,
        name: None,
        field: None,
        severity: Severity::Error,
        what,
        remedy: remedy.to_owned(),
    }
}
