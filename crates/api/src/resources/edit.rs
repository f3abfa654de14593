//! Writing and deleting single resources, for the command line: one file per resource, replaced
//! atomically, with a comment saying which command made it. A file that holds several documents is
//! the user's own arrangement and is not rewritten.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use handfast_pki::Name;
use handfast_store::{FileError, write_atomic};
use thiserror::Error;

use super::envelope::Document;
use super::kind::Kind;
use super::{Resource, ResourceFault, Resources, Severity, Spec};

/// What to do when a resource of this kind and name is already declared.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Existing {
    /// Answer [`EditError::Exists`].
    Keep,
    /// Write the new one in its place.
    Replace,
}

/// What was done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Written {
    /// The file that now declares the resource.
    pub file: PathBuf,
    /// Whether it took the place of an earlier declaration.
    pub replaced: bool,
}

/// Writes `resource` into `directory` (`input/resources`), mode 0600, which is made when it is
/// missing. `made_by` is the command line, for the comment at the top; it must not hold secrets.
pub fn write<S: Spec>(
    directory: &Path,
    resource: &Resource<S>,
    made_by: &str,
    existing: Existing,
) -> Result<Written, EditError> {
    let (declared, _faults) = Resources::load(directory);
    let other_site =
        declared.site.as_ref().filter(|site| S::KIND == Kind::Site && site.name != resource.name);
    if let Some(site) = other_site {
        return Err(EditError::OtherSite {
            name: site.name.clone(),
            file: site.origin.file.clone(),
        });
    }
    let earlier = declared.origin(S::KIND, &resource.name).cloned();
    let file = match &earlier {
        Some(origin) if existing == Existing::Keep => {
            return Err(EditError::Exists {
                kind: S::KIND,
                name: resource.name.clone(),
                file: origin.file.clone(),
            });
        }
        Some(origin) if origin.shared => {
            return Err(EditError::Shared {
                kind: S::KIND,
                name: resource.name.clone(),
                file: origin.file.clone(),
                line: origin.line,
            });
        }
        Some(origin) => origin.file.clone(),
        None => {
            let file = directory.join(format!("{}.yaml", resource.reference().replace('/', "-")));
            // A broken document of that name is not replaced unseen.
            if existing == Existing::Keep && fs::symlink_metadata(&file).is_ok() {
                return Err(EditError::Exists { kind: S::KIND, name: resource.name.clone(), file });
            }
            file
        }
    };
    if !directory.is_dir() {
        make_private_directory(directory)?;
    }
    let text = to_yaml(resource, made_by)?;
    write_atomic(&file, text.as_bytes(), 0o600).map_err(EditError::Write)?;
    Ok(Written { file, replaced: earlier.is_some() })
}

/// Deletes the file that declares the resource, and says which it was.
pub fn delete(directory: &Path, kind: Kind, name: &Name) -> Result<PathBuf, EditError> {
    let (declared, faults) = Resources::load(directory);
    let Some(origin) = declared.origin(kind, name) else {
        // Not usable is not the same as not there: a broken one can be deleted too, if it is alone.
        let broken = faults
            .iter()
            .find(|fault| fault.kind == Some(kind) && fault.name.as_deref() == Some(name.as_ref()));
        return match broken {
            Some(fault) if is_alone(&fault.file) => remove(&fault.file),
            Some(fault) => Err(EditError::Shared {
                kind,
                name: name.clone(),
                file: fault.file.clone(),
                line: fault.line.unwrap_or(1),
            }),
            None => {
                Err(EditError::Absent { kind, name: name.clone(), directory: directory.to_owned() })
            }
        };
    };
    if origin.shared {
        return Err(EditError::Shared {
            kind,
            name: name.clone(),
            file: origin.file.clone(),
            line: origin.line,
        });
    }
    remove(&origin.file)
}

/// The document as [`write()`] writes it: stable, so that the same resource gives the same bytes.
pub fn to_yaml<S: Spec>(resource: &Resource<S>, made_by: &str) -> Result<String, EditError> {
    let comment: String = made_by
        .chars()
        .map(|character| if character.is_control() { ' ' } else { character })
        .collect();
    let body = serde_saphyr::to_string(&Document::of(resource)).map_err(|error| {
        EditError::Encode { resource: resource.reference(), reason: error.to_string() }
    })?;
    Ok(format!("# Made by `{comment}`. Edit freely: changes take effect at once.\n{body}"))
}

/// What keeps `resource` from being used once it stands in `file`: it is written and read again, in memory. Empty when
/// nothing does.
pub fn faults_of<S: Spec>(
    resource: &Resource<S>,
    file: &Path,
) -> Result<Vec<ResourceFault>, EditError> {
    let text = to_yaml(resource, "handfast")?;
    let mut faults = Vec::new();
    super::reader::read(file, &text, &mut Resources::default(), &mut faults);
    faults.retain(|fault| fault.severity == Severity::Error);
    Ok(faults)
}

fn is_alone(file: &Path) -> bool {
    fs::read_to_string(file).is_ok_and(|text| super::reader::split(&text).len() <= 1)
}

fn remove(file: &Path) -> Result<PathBuf, EditError> {
    fs::remove_file(file).map_err(|source| EditError::Delete { file: file.to_owned(), source })?;
    Ok(file.to_owned())
}

fn make_private_directory(directory: &Path) -> Result<(), EditError> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|source| EditError::Directory { directory: directory.to_owned(), source })
}

/// Why a resource was not written or deleted. Nothing has changed then.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EditError {
    /// No such resource.
    #[error("{kind}/{name} is not declared in {directory}; nothing was deleted")]
    Absent {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: Name,
        /// Where it was looked for.
        directory: PathBuf,
    },
    /// The file could not be removed.
    #[error("cannot delete {file}: {source}; check who may write to its directory")]
    Delete {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The directory could not be made.
    #[error("cannot make {directory}: {source}; check who may write to its parent")]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The resource has no YAML form.
    #[error("cannot write {resource} as YAML: {reason}; please report this")]
    Encode {
        /// The resource.
        resource: String,
        /// Why.
        reason: String,
    },
    /// It is already declared, or its file is in use.
    #[error(
        "{kind}/{name} already exists in {file}; choose another name, delete it first, or edit that file"
    )]
    Exists {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: Name,
        /// The file that declares it.
        file: PathBuf,
    },
    /// Another site is declared in this home.
    #[error(
        "this home already declares Site/{name} in {file}; use another --home, or delete that site first"
    )]
    OtherSite {
        /// The other site.
        name: Name,
        /// The file that declares it.
        file: PathBuf,
    },
    /// The file holds other documents too.
    #[error(
        "{kind}/{name} is one of several documents in {file} (line {line}); edit that file by hand"
    )]
    Shared {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: Name,
        /// The file.
        file: PathBuf,
        /// Where in it.
        line: u64,
    },
    /// The file could not be written.
    #[error("{0}")]
    Write(#[source] FileError),
}
