//! What must not be forgotten even if the ledger is: revocations, ended enrolments, used and withdrawn
//! grants, and counters that only go up, as lines of text in a file beside it.
//!
//! `handfast restore` reads it, so that a backup from yesterday does not bring back what was revoked
//! today. One line to a fact; the last word is the beginning of the SHA-256 of the line before it:
//!
//! ```text
//! revoked 7 <issuer key id> <serial> key-compromise 2026-11-21T03:34:02Z <expires> <identity> <lineage> 9a0b1c2d
//! ended 2026-11-21T03:34:02Z <lineage> 51c30aef
//! spent <grant> 2026-11-21T03:34:02Z 00c1d2e3
//! bundle <trust domain> 4 7f21aa03
//! crl <issuer key id> 12 be5501f9
//! ```
//!
//! Words that are not known are `-`. A last line cut short by a power cut is passed over.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use handfast_pki::{Name, TrustDomain};
use jiff::Timestamp;

use crate::atomic::FILE_MODE;
use crate::error::FileError;
use crate::hex;
use crate::issued::Lineage;
use crate::revocation::{RecordedRevocation, Revocation};

/// A fact in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// The bundle of a trust domain has this number.
    Bundle(TrustDomain, u64),
    /// A revocation list of this issuer had this number.
    Crl([u8; 32], u64),
    /// An enrolment ended.
    Ended(Lineage, Timestamp),
    /// A certificate was revoked.
    Revoked(RecordedRevocation),
    /// A grant was redeemed, or withdrawn: it is not to be redeemed again.
    Spent(Name, Timestamp),
}

impl Entry {
    /// The line, without its line break.
    fn line(&self) -> String {
        let mut line = match self {
            Self::Bundle(domain, number) => format!("bundle {domain} {number}"),
            Self::Crl(issuer, number) => format!("crl {} {number}", hex::encode(issuer)),
            Self::Ended(lineage, at) => format!("ended {at} {lineage}"),
            Self::Revoked(recorded) => {
                let Revocation { issuer_key_id, serial, reason, at, .. } = &recorded.revocation;
                format!(
                    "revoked {} {} {serial} {reason} {at} {} {} {}",
                    recorded.sequence,
                    hex::encode(issuer_key_id),
                    known(recorded.revocation.not_after.as_ref()),
                    known(recorded.revocation.identity.as_ref()),
                    known(recorded.revocation.lineage.as_ref()),
                )
            }
            Self::Spent(grant, at) => format!("spent {grant} {at}"),
        };
        let check = check(&line);
        line.push(' ');
        line.push_str(&check);
        line
    }

    /// Reads a line; `None` if it is not whole.
    fn read(line: &str) -> Option<Self> {
        let (text, found) = line.rsplit_once(' ')?;
        if check(text) != found {
            return None;
        }
        let words: Vec<&str> = text.split(' ').collect();
        Some(match words.as_slice() {
            ["bundle", domain, number] => Self::Bundle(domain.parse().ok()?, number.parse().ok()?),
            ["crl", issuer, number] => Self::Crl(hex::decode(issuer)?, number.parse().ok()?),
            ["ended", at, lineage] => Self::Ended(lineage.parse().ok()?, at.parse().ok()?),
            ["revoked", sequence, issuer, serial, reason, at, not_after, identity, lineage] => {
                Self::Revoked(RecordedRevocation {
                    sequence: sequence.parse().ok()?,
                    revocation: Revocation {
                        issuer_key_id: hex::decode(issuer)?,
                        serial: serial.parse().ok()?,
                        reason: reason.parse().ok()?,
                        at: at.parse().ok()?,
                        not_after: unknown(not_after).ok()?,
                        identity: unknown(identity).ok()?,
                        lineage: unknown(lineage).ok()?,
                    },
                })
            }
            ["spent", grant, at] => Self::Spent(grant.parse().ok()?, at.parse().ok()?),
            _ => return None,
        })
    }

    /// Whether it is of the kind that must not wait to be on disk.
    fn is_urgent(&self) -> bool {
        matches!(self, Self::Ended(..) | Self::Revoked(_))
    }
}

/// The file, open for adding to it.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    synced: Option<Instant>,
}

impl Journal {
    /// Opens the journal, or makes it, and takes away a last line that was never finished.
    pub(crate) fn open(path: &Path) -> Result<Self, FileError> {
        let open = || {
            let mut file = OpenOptions::new()
                .read(true)
                .append(true)
                .create(true)
                .mode(FILE_MODE)
                .open(path)?;
            cut_unfinished(&mut file)?;
            Ok(Self { file, synced: None })
        };
        open().map_err(|source| FileError::new("open", path, source))
    }

    /// Adds facts. Revocations are synced at once, in a storm of them once in [`SYNC`]: the ledger has
    /// them already, and what a power cut takes from here is added again when it is opened.
    pub(crate) fn add(&mut self, entries: &[Entry]) -> io::Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut text = String::new();
        for entry in entries {
            text.push_str(&entry.line());
            text.push('\n');
        }
        self.file.write_all(text.as_bytes())?;
        let due = self.synced.is_none_or(|synced| synced.elapsed() >= SYNC);
        if due && entries.iter().any(Entry::is_urgent) {
            self.file.sync_data()?;
            self.synced = Some(Instant::now());
        }
        Ok(())
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // What fails here is made up for when the ledger is opened.
        drop(self.file.sync_data());
    }
}

/// Hands every whole entry of the journal to `take`, the oldest first. No file is an empty one.
pub(crate) fn read(path: &Path, mut take: impl FnMut(Entry)) -> Result<(), FileError> {
    let failed = |source| FileError::new("read", path, source);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    let mut lines = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        line.clear();
        // Longer than any line of ours: not a journal any more, but no reason to fill the memory.
        let length = (&mut lines).take(LONGEST).read_until(b'\n', &mut line).map_err(failed)?;
        if length == 0 {
            return Ok(());
        }
        let text = std::str::from_utf8(&line).ok().and_then(|text| text.strip_suffix('\n'));
        match text.and_then(Entry::read) {
            Some(entry) => take(entry),
            None => {
                tracing::warn!(path = %path.display(), "a line of the journal cannot be read");
            }
        }
    }
}

/// What was being written when the power went is not continued on its own line.
fn cut_unfinished(file: &mut File) -> io::Result<()> {
    let length = file.metadata()?.len();
    let start = length.saturating_sub(LONGEST);
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(start))?;
    file.take(LONGEST).read_to_end(&mut tail)?;
    if tail.last().is_none_or(|last| *last == b'\n') {
        return Ok(());
    }
    let kept = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    file.set_len(start + kept as u64)
}

fn check(line: &str) -> String {
    let hash = digest::digest(&digest::SHA256, line.as_bytes());
    hex::encode(hash.as_ref().get(..4).unwrap_or_default())
}

fn known<T: ToString>(value: Option<&T>) -> String {
    value.map_or_else(|| "-".to_owned(), T::to_string)
}

/// Nothing for `-`; an error for what cannot be read.
fn unknown<T: FromStr>(word: &str) -> Result<Option<T>, T::Err> {
    if word == "-" { Ok(None) } else { word.parse().map(Some) }
}

/// How long a revocation may wait while others are added.
const SYNC: Duration = Duration::from_secs(1);
/// The longest line there can be: a lineage of 255 and an identity of 2048 octets, and the rest.
const LONGEST: u64 = 8192;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entries() -> Vec<Entry> {
        let at = Timestamp::from_microsecond(1_800_000_000_000_007).unwrap();
        let revocation = Revocation {
            issuer_key_id: [0xab; 32],
            serial: "5a01".parse().unwrap(),
            reason: "key-compromise".parse().unwrap(),
            at,
            not_after: None,
            identity: Some("spiffe://demo.example/site/east".parse().unwrap()),
            lineage: Some("grant/east".parse().unwrap()),
        };
        vec![
            Entry::Revoked(RecordedRevocation { sequence: 1, revocation: revocation.clone() }),
            Entry::Revoked(RecordedRevocation {
                sequence: 2,
                revocation: Revocation {
                    not_after: Some(at),
                    identity: None,
                    lineage: None,
                    ..revocation
                },
            }),
            Entry::Ended("own/server".parse().unwrap(), at),
            Entry::Spent("grant-1".parse().unwrap(), at),
            Entry::Bundle("demo.example".parse().unwrap(), 4),
            Entry::Crl([1; 32], 12),
        ]
    }

    fn all(path: &Path) -> Vec<Entry> {
        let mut found = Vec::new();
        read(path, |entry| found.push(entry)).unwrap();
        found
    }

    #[test]
    fn what_is_added_comes_back_whatever_happened_to_the_last_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("revocations.log");
        assert_eq!(all(&path), []);
        Journal::open(&path).unwrap().add(&entries()).unwrap();
        assert_eq!(all(&path), entries());

        let whole = std::fs::read(&path).unwrap();
        for cut in 1..80 {
            std::fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            let found = all(&path);
            assert_eq!(found, entries()[..found.len()]);
            Journal::open(&path).unwrap().add(&entries()[..1]).unwrap();
            assert_eq!(all(&path).last(), Some(&entries()[0]), "cut by {cut}");
            assert_eq!(all(&path).len(), found.len() + 1);
        }
    }

    #[test]
    fn a_line_that_was_changed_is_passed_over() {
        let line = entries()[0].line();
        assert_eq!(Entry::read(&line), Some(entries()[0].clone()));
        assert_eq!(Entry::read(&line.replace("key-compromise", "superseded")), None);
        assert_eq!(Entry::read(&line.replace("revoked 1", "revoked 2")), None);
    }

    proptest! {
        #[test]
        fn no_line_is_too_strange(line in "(revoked|ended|crl|-|[ -~]){0,12}") {
            let with_check = format!("{line} {}", check(&line));
            if let Some(entry) = Entry::read(&with_check) {
                prop_assert_eq!(Entry::read(&entry.line()), Some(entry));
            }
        }
    }
}
