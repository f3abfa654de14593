//! Checking an audit log against its tree, its heads, and heads that were kept elsewhere: a log goes
//! in row by row, what is wrong with it comes out. Reads nothing itself.

use std::collections::BTreeMap;
use std::fmt;

use super::head::{AuditPublicKey, SignedHead};
use super::merkle::{Frontier, Hash};
use super::{AuditRow, RecordedAudit};
use crate::hex;

/// What is wrong with a log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flaw {
    /// A head from elsewhere and the log do not tell the same story.
    Diverged {
        /// How many rows that head covers.
        size: u64,
        /// Where the head is from.
        source: String,
    },
    /// A row is not what was recorded under its number.
    Edited {
        /// The row.
        sequence: u64,
    },
    /// A head was not signed by the key it names, or by a key the log does not know.
    ForgedHead {
        /// How many rows it covers.
        size: u64,
        /// Where the head is from.
        source: String,
    },
    /// Rows are not there.
    Missing {
        /// The first of them.
        first: u64,
        /// The last of them.
        last: u64,
    },
    /// There is no head to compare with, where one should be.
    NoHead {
        /// Where it should be.
        source: String,
    },
    /// Rows fit their own hashes, but not the head that was signed over them.
    Rewritten {
        /// The first row that may have been changed.
        first: u64,
        /// The last.
        last: u64,
    },
    /// Rows at the end are gone: the log was cut short, or replaced by an older copy.
    RolledBack {
        /// The first of them.
        first: u64,
        /// The last of them.
        last: u64,
        /// Which head knows of them.
        source: String,
    },
    /// Rows were added that no head was signed over.
    Unsigned {
        /// The first of them.
        first: u64,
        /// The last of them.
        last: u64,
    },
}

impl Flaw {
    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Diverged { .. } => "diverged",
            Self::Edited { .. } => "edited",
            Self::ForgedHead { .. } => "forged-head",
            Self::Missing { .. } => "missing",
            Self::NoHead { .. } => "no-head",
            Self::Rewritten { .. } => "rewritten",
            Self::RolledBack { .. } => "rolled-back",
            Self::Unsigned { .. } => "unsigned",
        }
    }

    /// The rows it is about, first and last.
    pub fn rows(&self) -> Option<(u64, u64)> {
        match self {
            Self::Edited { sequence } => Some((*sequence, *sequence)),
            Self::Missing { first, last }
            | Self::Rewritten { first, last }
            | Self::RolledBack { first, last, .. }
            | Self::Unsigned { first, last } => Some((*first, *last)),
            Self::Diverged { .. } | Self::ForgedHead { .. } | Self::NoHead { .. } => None,
        }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Diverged { size, source } => write!(
                f,
                "{source}, over {size} rows, is of another history: a row up to {size} was changed \
                 after it was signed, or the log was replaced"
            ),
            Self::Edited { sequence } => {
                write!(f, "row {sequence} was edited, moved or put in: it is not what was recorded")
            }
            Self::ForgedHead { size, source } => {
                write!(f, "{source}, over {size} rows, is not signed by a key of this log")
            }
            Self::Missing { first, last } => write!(f, "{} removed", span(*first, *last)),
            Self::NoHead { source } => write!(
                f,
                "{source} is missing: whether rows at the end were taken back cannot be told"
            ),
            Self::Rewritten { first, last } => write!(
                f,
                "{} rewritten with new hashes: the head signed over them does not fit",
                span(*first, *last)
            ),
            Self::RolledBack { first, last, source } => write!(
                f,
                "{} gone, and {source} knows of them: the log was cut short or replaced by an \
                 older copy",
                span(*first, *last)
            ),
            Self::Unsigned { first, last } => {
                write!(f, "{} added at the end without being signed", span(*first, *last))
            }
        }
    }
}

/// What verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verification {
    /// How many rows there are.
    pub rows: u64,
    /// The root over them.
    pub root: Hash,
    /// The newest head of the log.
    pub head: Option<SignedHead>,
    /// The keys that signed, the oldest first.
    pub keys: Vec<String>,
    /// What is wrong; nothing if the log is whole. The first hundred.
    pub flaws: Vec<Flaw>,
    /// What is not wrong, but should be known: restores, changes of the key.
    pub remarks: Vec<String>,
}

impl Verification {
    /// Whether the log is whole.
    pub fn is_whole(&self) -> bool {
        self.flaws.is_empty()
    }
}

/// Takes a log in and finds out what is wrong with it.
#[derive(Debug)]
pub struct Verifier {
    keys: Vec<AuditPublicKey>,
    /// Who must have signed the newest head.
    own: Option<AuditPublicKey>,
    tree: Frontier,
    /// Heads from elsewhere, by the number of rows they cover.
    elsewhere: BTreeMap<u64, Vec<(String, SignedHead)>>,
    /// The ones of them that were compared, their signatures aside.
    unchecked: Vec<(String, SignedHead)>,
    /// Histories that a restore left behind: their size and root.
    abandoned: Vec<(u64, Hash, u64)>,
    newest: Option<SignedHead>,
    /// Rows are missing: no root can be right any more.
    broken: bool,
    /// A head was wrong already: the ones after it are for the same reason.
    rewritten: bool,
    /// Up to where a head was right.
    good: u64,
    found: Verification,
}

impl Verifier {
    /// A verifier for a log whose heads these keys sign.
    pub fn new(keys: Vec<AuditPublicKey>) -> Self {
        let found = Verification {
            keys: keys.iter().map(AuditPublicKey::origin).collect(),
            ..Verification::default()
        };
        Self {
            keys,
            own: None,
            tree: Frontier::default(),
            elsewhere: BTreeMap::new(),
            unchecked: Vec::new(),
            abandoned: Vec::new(),
            newest: None,
            broken: false,
            rewritten: false,
            good: 0,
            found,
        }
    }

    /// Says which keys sign heads of this log, where that is only known later: of an export, at its
    /// end. Before the first head, and before [`Verifier::finish`].
    pub fn signed_by(&mut self, keys: Vec<AuditPublicKey>) {
        self.found.keys = keys.iter().map(AuditPublicKey::origin).collect();
        self.keys = keys;
    }

    /// Says which key must have signed the newest head.
    pub fn require(&mut self, key: AuditPublicKey) {
        self.own = Some(key);
    }

    /// Says of a head that was kept elsewhere; before the first row. `source` is a noun phrase.
    pub fn expect(&mut self, source: &str, head: SignedHead) {
        let of_size = self.elsewhere.entry(head.head.size).or_default();
        of_size.push((source.to_owned(), head));
    }

    /// Says that a head which should be there is not.
    pub fn without(&mut self, source: &str) {
        self.flaw(Flaw::NoHead { source: source.to_owned() });
    }

    /// The next row, with the hash that was recorded for it.
    pub fn row(&mut self, recorded: &RecordedAudit, leaf: &Hash) {
        if !self.follows(recorded.sequence) {
            return;
        }
        if recorded.leaf() != *leaf {
            self.flaw(Flaw::Edited { sequence: recorded.sequence });
        }
        self.remark_on(recorded);
        self.push(leaf);
    }

    /// The next row, of which only the hash is known (an export need not contain every row).
    pub fn withheld(&mut self, sequence: u64, leaf: &Hash) {
        if self.follows(sequence) {
            self.push(leaf);
        }
    }

    /// The head over the rows so far, or over rows that are missing.
    pub fn head(&mut self, head: &SignedHead) {
        self.newest = Some(head.clone());
        let size = head.head.size;
        if self.broken || size != self.tree.size() {
            return;
        }
        if head.head.root == self.tree.root() {
            self.good = size;
        } else if !self.rewritten {
            self.rewritten = true;
            if !self.names_an_edit_after(self.good) {
                self.flaw(Flaw::Rewritten { first: self.good + 1, last: size });
            }
        }
    }

    /// How many rows there were so far.
    pub fn size(&self) -> u64 {
        self.tree.size()
    }

    /// What was found.
    pub fn finish(mut self) -> Verification {
        let rows = self.tree.size();
        match self.newest.take() {
            Some(head) => {
                let size = head.head.size;
                let source = "the newest head in the log";
                match &self.own {
                    Some(own) if !head.is_signed_by(own) => {
                        self.flaw(Flaw::ForgedHead { size, source: source.to_owned() });
                    }
                    _ => self.check_signature(source, &head),
                }
                if size < rows {
                    self.flaw(Flaw::Unsigned { first: size + 1, last: rows });
                } else if size > rows {
                    let source = "the newest head in the log".to_owned();
                    self.flaw(Flaw::RolledBack { first: rows + 1, last: size, source });
                }
                self.found.head = Some(head);
            }
            None if rows > 0 => {
                self.flaw(Flaw::NoHead { source: "a head in the log".to_owned() });
            }
            None => {}
        }
        for (source, head) in std::mem::take(&mut self.unchecked) {
            self.check_signature(&source, &head);
        }
        for (source, head) in std::mem::take(&mut self.elsewhere).into_values().flatten() {
            self.check_signature(&source, &head);
            let size = head.head.size;
            if size > rows && !self.was_abandoned(&source, &head) {
                self.flaw(Flaw::RolledBack { first: rows + 1, last: size, source });
            }
        }
        self.found.rows = rows;
        self.found.root = self.tree.root();
        self.found
    }

    /// Whether a row is the next one; takes note of what is missing before it.
    fn follows(&mut self, sequence: u64) -> bool {
        let expected = self.tree.size() + 1;
        if sequence > expected {
            self.flaw(Flaw::Missing { first: expected, last: sequence - 1 });
            self.broken = true;
            // The numbers go on; the hashes of what is missing nobody knows.
            while self.tree.size() + 1 < sequence && sequence - self.tree.size() < LONGEST_GAP {
                self.tree.push([0; 32]);
            }
            return self.tree.size() + 1 == sequence;
        }
        if sequence < expected {
            self.flaw(Flaw::Edited { sequence });
        }
        sequence == expected
    }

    fn push(&mut self, leaf: &Hash) {
        self.tree.push(*leaf);
        let size = self.tree.size();
        let Some(heads) = self.elsewhere.remove(&size) else { return };
        for (source, head) in heads {
            if head.head.root != self.tree.root() && !self.was_abandoned(&source, &head) {
                self.flaw(Flaw::Diverged { size, source: source.clone() });
            }
            self.unchecked.push((source, head));
        }
    }

    fn check_signature(&mut self, source: &str, head: &SignedHead) {
        if !self.keys.iter().any(|key| head.is_signed_by(key)) {
            self.flaw(Flaw::ForgedHead { size: head.head.size, source: source.to_owned() });
        }
    }

    /// Whether a restore that the log records left the history of this head behind.
    fn was_abandoned(&mut self, source: &str, head: &SignedHead) -> bool {
        let same = |(size, root, _): &&(u64, Hash, u64)| {
            *size == head.head.size && *root == head.head.root
        };
        let Some((_, _, restored)) = self.abandoned.iter().find(same) else { return false };
        self.found.remarks.push(format!(
            "{source} is from before the restore that row {restored} records; that history ended with it"
        ));
        true
    }

    fn remark_on(&mut self, recorded: &RecordedAudit) {
        let RecordedAudit { sequence, row } = recorded;
        if row.action == RESTORE {
            if let Some((size, root)) = left_behind(row) {
                self.abandoned.push((size, root, *sequence));
            }
            self.found.remarks.push(format!(
                "row {sequence}: restored by {} at {}: {}",
                row.actor, row.at, row.detail
            ));
        } else if matches!(row.action.as_str(), "audit.key" | "audit.head") {
            self.found.remarks.push(format!("row {sequence}: {}", row.detail));
        }
    }

    fn names_an_edit_after(&self, row: u64) -> bool {
        self.found
            .flaws
            .iter()
            .any(|flaw| matches!(flaw, Flaw::Edited { sequence } if *sequence > row))
    }

    fn flaw(&mut self, flaw: Flaw) {
        if self.found.flaws.len() < MOST_FLAWS && !self.found.flaws.contains(&flaw) {
            self.found.flaws.push(flaw);
        }
    }
}

/// What a restore's row says of the history that it left behind, for [`Verifier`] to find.
pub(crate) fn says_left_behind(head: &SignedHead) -> String {
    format!("{LEFT_BEHIND}{} {}", head.head.size, hex::encode(&head.head.root))
}

fn left_behind(row: &AuditRow) -> Option<(u64, Hash)> {
    let (_, said) = row.detail.split_once(LEFT_BEHIND)?;
    let mut words = said.split_ascii_whitespace();
    let size = words.next()?.parse().ok()?;
    Some((size, hex::decode(words.next()?.trim_end_matches([';', '.', ',']))?))
}

fn span(first: u64, last: u64) -> String {
    if first == last { format!("row {first} was") } else { format!("rows {first} to {last} were") }
}

/// The action of the row that a restore writes.
pub(crate) const RESTORE: &str = "backup.restore";
const LEFT_BEHIND: &str = "history left behind: rows and root ";
/// More than a reader reads.
const MOST_FLAWS: usize = 100;
/// A number from nowhere must not keep us counting.
const LONGEST_GAP: u64 = 100_000_000;
