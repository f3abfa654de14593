//! The user's policies as they lie in `input/policies`: which files are read, and within which bounds.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::PolicyFault;

/// Most policy files that are read.
pub const MAX_POLICY_FILES: usize = 256;

/// Longest policy file that is read, in bytes.
pub const MAX_POLICY_BYTES: u64 = 256 * 1024;

/// One file of policies.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PolicyFile {
    /// Its name, by which its policies and faults are named.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// Reads every `*.cedar` file of `directory`, by name. Hidden files are not read, symbolic links are
/// followed, and a directory that does not exist holds no policies.
///
/// # Errors
///
/// Everything that cannot be read: a policy that is not seen may be the one that forbids, so nothing of
/// the rest is to be used either.
pub fn read_files(directory: &Path) -> Result<Vec<PolicyFile>, Vec<PolicyFault>> {
    let mut paths = match list(directory) {
        Ok(paths) => paths,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(vec![unreadable(directory, &error)]),
    };
    paths.sort();
    if paths.len() > MAX_POLICY_FILES {
        return Err(vec![PolicyFault::of(
            directory,
            format!("{} policy files; at most {MAX_POLICY_FILES} are read", paths.len()),
            "put several policies into one file",
        )]);
    }
    let mut files = Vec::new();
    let mut faults = Vec::new();
    for path in paths {
        match read(&path) {
            Ok(text) => files.push(PolicyFile { name: name_of(&path), text }),
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() { Ok(files) } else { Err(faults) }
}

fn list(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let cedar = path.extension().is_some_and(|extension| extension == "cedar");
        if cedar && !name_of(&path).starts_with('.') {
            paths.push(path);
        }
    }
    Ok(paths)
}

fn read(path: &Path) -> Result<String, PolicyFault> {
    let failed = |error: io::Error| unreadable(path, &error);
    if !fs::metadata(path).map_err(failed)?.is_file() {
        // Opening a FIFO would wait for a writer.
        return Err(PolicyFault::of(path, "not a regular file", "remove it, or rename it"));
    }
    let mut bytes = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(MAX_POLICY_BYTES + 1).read_to_end(&mut bytes))
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_POLICY_BYTES {
        let what = format!("larger than {} KiB", MAX_POLICY_BYTES / 1024);
        return Err(PolicyFault::of(path, what, "split it into several files"));
    }
    String::from_utf8(bytes)
        .map_err(|_| PolicyFault::of(path, "not UTF-8 text", "save it as UTF-8"))
}

fn unreadable(path: &Path, error: &io::Error) -> PolicyFault {
    PolicyFault::of(
        path,
        format!("cannot be read: {error}"),
        "check that it exists and who may read it",
    )
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_visible_cedar_files_are_read_by_name() {
        let home = tempfile::tempdir().expect("a directory");
        assert_eq!(read_files(&home.path().join("nowhere")), Ok(Vec::new()));
        for (name, text) in [("b.cedar", "2"), ("a.cedar", "1"), (".c.cedar", "3"), ("d.txt", "4")]
        {
            fs::write(home.path().join(name), text).expect("written");
        }
        let files = read_files(home.path()).expect("read");
        let read: Vec<_> =
            files.iter().map(|file| (file.name.as_str(), file.text.as_str())).collect();
        assert_eq!(read, [("a.cedar", "1"), ("b.cedar", "2")]);
    }

    #[test]
    fn one_unreadable_file_makes_the_whole_directory_unusable() {
        let home = tempfile::tempdir().expect("a directory");
        fs::write(home.path().join("a.cedar"), "permit(principal, action, resource);")
            .expect("written");
        fs::write(home.path().join("b.cedar"), [0xff, 0xfe]).expect("written");
        fs::create_dir(home.path().join("c.cedar")).expect("made");
        fs::write(home.path().join("d.cedar"), vec![b' '; 300 * 1024]).expect("written");
        let faults = read_files(home.path()).expect_err("broken");
        let what: Vec<_> = faults.iter().map(|fault| fault.what.as_str()).collect();
        assert_eq!(what, ["not UTF-8 text", "not a regular file", "larger than 256 KiB"]);
    }
}
