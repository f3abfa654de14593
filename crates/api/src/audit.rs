//! The audit log as JSON: what `handfast audit list` prints, and the lines of an export, which verify
//! anywhere.
//!
//! An export is JSON lines: every row of the log in order, then one line with the signed head over all
//! of them. A row that was not asked for is there too, with its number and hash only, so that the
//! tree can still be computed.
//!
//! ```text
//! {"sequence":1,"at":"2026-11-21T03:34:02Z","actor":"node",...,"leaf":"5d0c..."}
//! {"sequence":2,"leaf":"9f3a..."}
//! {"head":"handfast-audit/9b4a0c51d2e37f86\n2\n...","keys":["-----BEGIN PUBLIC KEY-----\n..."]}
//! ```

use std::io::{self, BufRead};

use handfast_store::merkle::Hash;
use handfast_store::{
    AuditFilter, AuditPublicKey, AuditRow, RecordedAudit, SignedHead, Verification, Verifier,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A row of the audit log.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuditRowView {
    /// Its number.
    pub sequence: u64,
    /// When, to the microsecond.
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// What was done.
    pub action: String,
    /// To what.
    pub subject: String,
    /// The result.
    pub outcome: String,
    /// What else there is to know.
    pub detail: String,
    /// The reason that was given.
    pub why: String,
    /// The row's hash in the tree, in hexadecimal digits.
    pub leaf: String,
}

impl AuditRowView {
    /// The row with the hash that was recorded for it.
    pub fn of(recorded: &RecordedAudit, leaf: &Hash) -> Self {
        let AuditRow { at, actor, action, subject, outcome, detail, why } = recorded.row.clone();
        let sequence = recorded.sequence;
        Self { sequence, at, actor, action, subject, outcome, detail, why, leaf: digits(leaf) }
    }

    fn recorded(self) -> (RecordedAudit, String) {
        let Self { sequence, at, actor, action, subject, outcome, detail, why, leaf } = self;
        let row = AuditRow { at, actor, action, subject, outcome, detail, why };
        (RecordedAudit { sequence, row }, leaf)
    }
}

/// A row of which only the hash is given.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WithheldRow {
    /// Its number.
    pub sequence: u64,
    /// The row's hash in the tree, in hexadecimal digits.
    pub leaf: String,
}

impl WithheldRow {
    /// The number and the recorded hash of a row.
    pub fn of(recorded: &RecordedAudit, leaf: &Hash) -> Self {
        Self { sequence: recorded.sequence, leaf: digits(leaf) }
    }
}

/// A row of an export: all of it if it was asked for, and otherwise its hash.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ExportedRow {
    /// All of it.
    Row(AuditRowView),
    /// Its hash.
    Withheld(WithheldRow),
}

impl ExportedRow {
    /// The row, if it fits.
    pub fn of(recorded: &RecordedAudit, leaf: &Hash, filter: &AuditFilter) -> Self {
        if filter.fits(&recorded.row) {
            Self::Row(AuditRowView::of(recorded, leaf))
        } else {
            Self::Withheld(WithheldRow::of(recorded, leaf))
        }
    }

    /// Its number.
    pub fn sequence(&self) -> u64 {
        match self {
            Self::Row(row) => row.sequence,
            Self::Withheld(row) => row.sequence,
        }
    }
}

/// The last line of an export.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExportEnd {
    /// The signed head over all rows, as a signed note.
    pub head: String,
    /// The keys that signed heads of the log, in PEM, the oldest first.
    pub keys: Vec<String>,
}

/// A line of an export.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Row(AuditRowView),
    Withheld(WithheldRow),
    End(ExportEnd),
}

/// What verification found, as programs read it.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VerificationView {
    /// Whether the log is whole.
    pub whole: bool,
    /// How many rows there are.
    pub rows: u64,
    /// The root over them, in hexadecimal digits.
    pub root: String,
    /// The newest signed head, as a signed note: keep it elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
    /// The names of the keys that signed.
    pub keys: Vec<String>,
    /// What is wrong.
    pub flaws: Vec<FlawView>,
    /// What should be known, and is not wrong.
    pub remarks: Vec<String>,
}

/// Something that is wrong with a log.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FlawView {
    /// A stable word.
    pub code: String,
    /// The first row it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<u64>,
    /// The last row it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<u64>,
    /// One sentence.
    pub message: String,
}

impl From<&Verification> for VerificationView {
    fn from(verified: &Verification) -> Self {
        let flaws = verified.flaws.iter().map(|flaw| {
            let rows = flaw.rows();
            FlawView {
                code: flaw.code().to_owned(),
                first: rows.map(|(first, _)| first),
                last: rows.map(|(_, last)| last),
                message: flaw.to_string(),
            }
        });
        Self {
            whole: verified.is_whole(),
            rows: verified.rows,
            root: digits(&verified.root),
            head: verified.head.as_ref().map(ToString::to_string),
            keys: verified.keys.clone(),
            flaws: flaws.collect(),
            remarks: verified.remarks.clone(),
        }
    }
}

/// Why an export cannot be verified at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// It ends before its head.
    #[error("the export ends without a signed head: it is not complete")]
    NoEnd,
    /// It cannot be read.
    #[error("the export cannot be read: {0}")]
    Read(#[from] io::Error),
    /// A line is not one of an export.
    #[error("line {line} is not one of an audit export: {what}")]
    Unreadable {
        /// Its number, from 1.
        line: u64,
        /// What is wrong with it.
        what: String,
    },
}

/// Verifies an export, line by line, against its own head, `key` if one is known, and heads that were
/// kept elsewhere.
///
/// Without `key`, a whole export of another log altogether is whole as well: compare the name of the
/// key with the one that the home's log has.
///
/// # Errors
///
/// [`ExportError`] if it is not an export, or not a complete one.
pub fn verify_export(
    mut export: impl BufRead,
    key: Option<AuditPublicKey>,
    elsewhere: Vec<(String, SignedHead)>,
) -> Result<Verification, ExportError> {
    // The keys come last, and are needed for signatures only: those are checked at the end.
    let mut verifier = Verifier::new(Vec::new());
    let mut rows = 0;
    let mut text = Vec::new();
    for number in 1.. {
        let unreadable = |what: String| ExportError::Unreadable { line: number, what };
        text.clear();
        let length = io::Read::take(&mut export, LONGEST_LINE).read_until(b'\n', &mut text)?;
        if length == 0 {
            return Err(ExportError::NoEnd);
        }
        let line: Line =
            serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string()))?;
        match line {
            Line::Row(row) => {
                let (recorded, leaf) = row.recorded();
                let leaf = hash(&leaf).ok_or_else(|| unreadable("its leaf is no hash".into()))?;
                expect_in_time(&mut verifier, &elsewhere, &mut rows);
                verifier.row(&recorded, &leaf);
            }
            Line::Withheld(row) => {
                let leaf =
                    hash(&row.leaf).ok_or_else(|| unreadable("its leaf is no hash".into()))?;
                expect_in_time(&mut verifier, &elsewhere, &mut rows);
                verifier.withheld(row.sequence, &leaf);
            }
            Line::End(end) => {
                expect_in_time(&mut verifier, &elsewhere, &mut rows);
                let head: SignedHead =
                    end.head.parse().map_err(|error| unreadable(format!("{error}")))?;
                let keys = end.keys.iter().map(|pem| AuditPublicKey::from_pem(pem));
                let keys = keys
                    .collect::<Option<Vec<_>>>()
                    .ok_or_else(|| unreadable("a key in it is no audit key".into()))?;
                verifier.signed_by(keys);
                if let Some(key) = key {
                    verifier.require(key);
                }
                verifier.head(&head);
                return Ok(verifier.finish());
            }
        }
    }
    Err(ExportError::NoEnd)
}

/// Heads from elsewhere are said before the first row.
fn expect_in_time(verifier: &mut Verifier, elsewhere: &[(String, SignedHead)], rows: &mut u64) {
    if *rows == 0 {
        for (source, head) in elsewhere {
            verifier.expect(source, head.clone());
        }
    }
    *rows += 1;
}

fn digits(hash: &Hash) -> String {
    let digit = |value: u8| char::from(if value < 10 { b'0' + value } else { b'a' + value - 10 });
    hash.iter().flat_map(|octet| [digit(octet >> 4), digit(octet & 15)]).collect()
}

fn hash(text: &str) -> Option<Hash> {
    let digits = text.as_bytes();
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut hash = [0; 32];
    for (octet, pair) in hash.iter_mut().zip(digits.chunks(2)) {
        *octet = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(hash)
}

/// No row of ours comes near it.
const LONGEST_LINE: u64 = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use handfast_store::{AuditKey, Flaw, TreeHead, merkle};

    use super::*;

    fn row(sequence: u64) -> RecordedAudit {
        let row = AuditRow {
            at: Timestamp::from_microsecond(1_800_000_000_000_001).unwrap(),
            actor: "node".to_owned(),
            action: "certificate.issue".to_owned(),
            subject: "\"quoted\"\n\u{e4}".to_owned(),
            outcome: "ok".to_owned(),
            detail: String::new(),
            why: "w".to_owned(),
        };
        RecordedAudit { sequence, row }
    }

    /// Four rows, the third withheld.
    fn export(key: &AuditKey) -> (Vec<String>, SignedHead) {
        let mut tree = merkle::Frontier::default();
        let mut lines = Vec::new();
        for sequence in 1..=4 {
            let row = row(sequence);
            let leaf = row.leaf();
            tree.push(leaf);
            lines.push(if sequence == 3 {
                serde_json::to_string(&WithheldRow::of(&row, &leaf)).unwrap()
            } else {
                serde_json::to_string(&AuditRowView::of(&row, &leaf)).unwrap()
            });
        }
        let head = key.sign(TreeHead { size: 4, root: tree.root(), at: row(4).row.at });
        let end = ExportEnd { head: head.to_string(), keys: vec![key.public().to_pem()] };
        lines.push(serde_json::to_string(&end).unwrap());
        (lines, head)
    }

    fn verify(lines: &[String], key: Option<&AuditKey>) -> Result<Verification, ExportError> {
        let text = lines.join("\n");
        verify_export(text.as_bytes(), key.map(|key| key.public().clone()), Vec::new())
    }

    #[test]
    fn an_export_is_whole_until_somebody_touches_it() {
        let key = AuditKey::generate().unwrap();
        let (lines, head) = export(&key);
        let verified = verify(&lines, Some(&key)).unwrap();
        assert_eq!((verified.flaws, verified.rows), (Vec::new(), 4));
        assert_eq!(verified.head, Some(head.clone()));
        assert_eq!(verified.keys, [key.public().origin()]);

        let touched = |change: &dyn Fn(&mut Vec<String>)| {
            let mut lines = lines.clone();
            change(&mut lines);
            verify(&lines, Some(&key)).unwrap().flaws
        };
        let edited = touched(&|lines| lines[1] = lines[1].replace("node", "nobody"));
        assert_eq!(edited, [Flaw::Edited { sequence: 2 }]);
        let removed = touched(&|lines| drop(lines.remove(1)));
        assert_eq!(removed, [Flaw::Missing { first: 2, last: 2 }]);
        let short = touched(&|lines| drop(lines.remove(3)));
        assert!(matches!(&short[..], [Flaw::RolledBack { first: 4, last: 4, .. }]), "{short:?}");
        let hashes = touched(&|lines| {
            let other = "00".repeat(32);
            lines[2] = format!("{{\"sequence\":3,\"leaf\":\"{other}\"}}");
        });
        assert_eq!(hashes, [Flaw::Rewritten { first: 1, last: 4 }]);

        let other = AuditKey::generate().unwrap();
        let stranger = verify(&export(&other).0, Some(&key)).unwrap().flaws;
        assert!(matches!(&stranger[..], [Flaw::ForgedHead { size: 4, .. }]), "{stranger:?}");
        let kept = vec![("the head of yesterday".to_owned(), head)];
        let text = export(&other).0.join("\n");
        let against = verify_export(text.as_bytes(), None, kept).unwrap().flaws;
        assert!(!against.is_empty());
    }

    #[test]
    fn what_is_no_export_is_said() {
        let key = AuditKey::generate().unwrap();
        let lines = export(&key).0;
        assert!(matches!(verify(&lines[..4], None), Err(ExportError::NoEnd)));
        assert!(matches!(verify(&[], None), Err(ExportError::NoEnd)));
        for line in ["{}", "no", "{\"sequence\":1,\"leaf\":\"12\"}", "{\"head\":\"x\",\"keys\":[]}"]
        {
            let result = verify(&[line.to_owned()], None);
            assert!(matches!(result, Err(ExportError::Unreadable { line: 1, .. })), "{line}");
        }
    }
}
