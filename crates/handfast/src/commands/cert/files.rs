//! Credentials as files where the user wants them: never over something else without being told to, keys
//! readable to their owner only.

use std::path::{Path, PathBuf};

use handfast_store::write_atomic;

use crate::exit::Exit;
use crate::failure::Failure;

/// A file to be written.
pub(in crate::commands) struct NewFile<'a> {
    pub(in crate::commands) path: PathBuf,
    pub(in crate::commands) content: &'a [u8],
    /// Whether it holds a private key.
    pub(in crate::commands) secret: bool,
}

/// Writes all of them, or none if one is in the way.
pub(in crate::commands) fn write_all(
    files: &[NewFile<'_>],
    force: bool,
) -> anyhow::Result<Vec<PathBuf>> {
    free(files.iter().map(|file| file.path.as_path()), force)?;
    for file in files {
        if let Some(parent) = file.path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            make_directory(parent)?;
        }
        write_atomic(&file.path, file.content, if file.secret { 0o600 } else { 0o644 })?;
    }
    Ok(files.iter().map(|file| file.path.clone()).collect())
}

/// Refuses if one of the files is there already.
pub(in crate::commands) fn free<'a>(
    paths: impl IntoIterator<Item = &'a Path>,
    force: bool,
) -> anyhow::Result<()> {
    match paths.into_iter().find(|path| !force && path.symlink_metadata().is_ok()) {
        None => Ok(()),
        Some(path) => Err(Failure::new(Exit::Failed, "a file is in the way")
            .at(path.display())
            .because("it exists already, and may be in use")
            .remedy("name another place, or replace it with --force")
            .into()),
    }
}

fn make_directory(directory: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|error| {
        Failure::new(Exit::Home, "the directory cannot be made")
            .at(directory.display())
            .because(error)
            .into()
    })
}
