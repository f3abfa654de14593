//! What is wrong with a resource: where, what, and what to do about it.

use std::fmt;
use std::path::PathBuf;

use super::Kind;

/// A document that cannot be used, or can be used only in part.
///
/// `Display` is one line: `file:line: Kind/name: what; remedy`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ResourceFault {
    /// The file, as it was found.
    pub file: PathBuf,
    /// Line in the file, counted from 1, where that is known.
    pub line: Option<u64>,
    /// The kind, where the document got that far.
    pub kind: Option<Kind>,
    /// The name as written, where the document got that far.
    pub name: Option<String>,
    /// The field at fault, where there is one.
    pub field: Option<String>,
    /// Whether the document is left out.
    pub severity: Severity,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for ResourceFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        f.write_str(": ")?;
        if let Some(kind) = self.kind {
            match &self.name {
                Some(name) => write!(f, "{kind}/{name}: ")?,
                None => write!(f, "{kind}: ")?,
            }
        }
        write!(f, "{}; {}", self.what, self.remedy)
    }
}

impl std::error::Error for ResourceFault {}

/// How much a fault takes away.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Severity {
    /// The document is left out.
    Error,
    /// The document is used; a part of it has no effect.
    Warning,
}

/// A specification that reads well but cannot be meant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Invalid {
    /// The field to look at, by its last name (`host`, `leaf-ttl`).
    pub field: &'static str,
    /// Whether the resource is left out.
    pub severity: Severity,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

impl Invalid {
    /// Something that keeps the resource from being used.
    pub fn error(field: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { field, severity: Severity::Error, what: what.into(), remedy: remedy.into() }
    }

    /// Something without effect.
    pub fn warning(
        field: &'static str,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { field, severity: Severity::Warning, what: what.into(), remedy: remedy.into() }
    }
}
