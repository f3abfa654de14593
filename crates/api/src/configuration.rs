//! What changed in a configuration: a pure function from what was in force and what is to be.
//!
//! Only digests are compared and kept, so no value of a field, and no secret, can come into a row of the
//! audit log through here. What is on disk has one digest for each part; which fields changed is known
//! for as long as the process runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

/// A configuration, as far as it matters whether it changed.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct InForce {
    /// What is in force, by what it is called: `Listener/web`, `policies/own.cedar`, `certs/shop`.
    pub parts: BTreeMap<String, Part>,
    /// What was given and is not in force, by its digest.
    pub refused: BTreeMap<String, Refused>,
}

/// One resource, file of policies or supplied credential.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Part {
    /// SHA-256 of all of it, in hexadecimal digits.
    pub sha256: String,
    /// Where it comes from.
    #[serde(flatten)]
    pub place: Place,
    /// The digest of each of its fields; nothing for what was read back.
    #[serde(skip)]
    fields: BTreeMap<String, String>,
}

/// A place in a file.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// The file, or the directory of a credential.
    pub file: PathBuf,
    /// The line, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
}

/// Something that was given and cannot be used.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Refused {
    /// What it is called.
    pub subject: String,
    /// Where it is.
    #[serde(flatten)]
    pub place: Place,
    /// Why it is not used.
    pub why: String,
}

/// One difference between two configurations.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    /// What it is about.
    pub subject: String,
    /// What happened to it.
    pub what: What,
    /// Where.
    pub place: Place,
}

/// What happened to a part of a configuration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum What {
    /// It is new.
    Added,
    /// It is not what it was. Nothing for fields that are not known, because the node did not run.
    Changed(BTreeSet<String>),
    /// It is gone.
    Removed,
    /// It was given and is not used.
    Refused(String),
}

impl InForce {
    /// Adds something that cannot be used.
    pub fn refuse(&mut self, subject: &str, file: &Path, line: Option<u64>, why: &str) {
        let refused = Refused {
            subject: printable(subject),
            place: Place { file: file.to_owned(), line },
            why: printable(why),
        };
        // Not the line: the same fault a line further down is no news.
        let file = file.to_string_lossy();
        let key = [&refused.subject, file.as_ref(), &refused.why].map(hex_digest).concat();
        self.refused.insert(hex_digest(&key), refused);
    }

    /// Leaves the parts whose names begin with `prefix` as they are in `other`.
    pub fn leave(&mut self, prefix: &str, other: &Self) {
        self.parts.retain(|name, _| !name.starts_with(prefix));
        let others = other.parts.iter().filter(|(name, _)| name.starts_with(prefix));
        self.parts.extend(others.map(|(name, part)| (name.clone(), part.clone())));
    }

    /// What is different in `now`, in the order of names, refusals last.
    pub fn changes(&self, now: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        let names: BTreeSet<_> = self.parts.keys().chain(now.parts.keys()).collect();
        for name in names {
            let (what, place) = match (self.parts.get(name), now.parts.get(name)) {
                (None, Some(part)) => (What::Added, &part.place),
                (Some(part), None) => (What::Removed, &part.place),
                (Some(before), Some(part)) if before.sha256 != part.sha256 => {
                    (What::Changed(before.differences(part)), &part.place)
                }
                _ => continue,
            };
            changes.push(Change { subject: printable(name), what, place: place.clone() });
        }
        let news = now.refused.iter().filter(|(key, _)| !self.refused.contains_key(*key));
        changes.extend(news.map(|(_, refused)| Change {
            subject: refused.subject.clone(),
            what: What::Refused(refused.why.clone()),
            place: refused.place.clone(),
        }));
        changes
    }
}

impl Part {
    /// A part without fields.
    pub fn new(file: &Path, line: Option<u64>) -> Self {
        let place = Place { file: file.to_owned(), line };
        Self { sha256: hex_digest(""), place, fields: BTreeMap::new() }
    }

    /// The same with one more field, whatever it holds.
    #[must_use]
    pub fn with(mut self, field: &str, value: &[u8]) -> Self {
        self.fields.insert(field.to_owned(), hex_digest(value));
        // Digests have one length, so the fields cannot run into each other.
        let all: Vec<_> =
            self.fields.iter().map(|(name, value)| hex_digest(name) + value).collect();
        self.sha256 = hex_digest(all.concat());
        self
    }

    fn differences(&self, other: &Self) -> BTreeSet<String> {
        if self.fields.is_empty() {
            return BTreeSet::new();
        }
        let names = self.fields.keys().chain(other.fields.keys());
        let differs = |name: &&String| self.fields.get(*name) != other.fields.get(*name);
        names.filter(differs).map(|name| printable(name)).collect()
    }
}

impl Change {
    /// Whether what was given is in force.
    pub fn is_refusal(&self) -> bool {
        matches!(self.what, What::Refused(_))
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added => f.write_str("added"),
            Self::Removed => f.write_str("removed"),
            Self::Refused(why) => write!(f, "not in force: {why}"),
            Self::Changed(fields) if fields.is_empty() => {
                f.write_str("changed while the node did not run")
            }
            Self::Changed(fields) => {
                let fields: Vec<_> = fields.iter().map(String::as_str).collect();
                write!(f, "changed: {}", fields.join(", "))
            }
        }
    }
}

/// Of bounded length, and nothing that moves a terminal's cursor.
fn printable(text: &str) -> String {
    text.chars().filter(|one| !one.is_control()).take(LONGEST_TEXT).collect()
}

fn hex_digest(octets: impl AsRef<[u8]>) -> String {
    let digits =
        |octet: &u8| [octet >> 4, octet & 15].map(|digit| char::from(DIGITS[usize::from(digit)]));
    digest(&SHA256, octets.as_ref()).as_ref().iter().flat_map(digits).collect()
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";
/// Most characters of a name or a reason.
const LONGEST_TEXT: usize = 500;

#[cfg(test)]
mod tests;
