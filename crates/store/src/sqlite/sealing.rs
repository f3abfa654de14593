//! What makes the ledger's history hard to take back: the key that signs the heads of its audit log,
//! and the two files beside it that know what was committed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use handfast_pki::KeyError;
use jiff::Timestamp;
use rusqlite::{Connection, TransactionBehavior};

use super::failure::Failure;
use super::{audit, redeem, revocations, tree};
use crate::atomic::{FILE_MODE, read_bounded, write_atomic};
use crate::audit::AuditRow;
use crate::audit::head::{AuditKey, SignedHead, TreeHead};
use crate::audit::head_file::{self, HeadFile};
use crate::audit::merkle::Frontier;
use crate::journal::{self, Entry, Journal};

/// Where the files beside a ledger lie.
#[derive(Clone, Debug)]
pub(crate) struct Beside {
    /// The key that signs heads.
    pub(crate) key: PathBuf,
    /// The newest head.
    pub(crate) head: PathBuf,
    /// The journal.
    pub(crate) journal: PathBuf,
}

impl Beside {
    pub(crate) fn of(ledger: &Path) -> Self {
        Self {
            key: ledger.with_file_name("audit.key"),
            head: ledger.with_file_name("audit.head"),
            journal: ledger.with_file_name("revocations.log"),
        }
    }
}

/// Signs heads, and keeps the files up to date.
#[derive(Debug)]
pub(super) struct Sealing {
    key: AuditKey,
    key_number: i64,
    head_file: HeadFile,
    journal: Journal,
    complained: bool,
}

impl Sealing {
    /// Opens what lies beside a ledger, makes what is missing, and brings it up to date. Fails if it
    /// knows of more than the ledger does: then the ledger is an older copy.
    pub(super) fn open(connection: &mut Connection, beside: &Beside) -> Result<Self, Failure> {
        // The files first: the ledger may grow meanwhile, and must never look older than they.
        let kept = head_file::read(&beside.head)?;
        let noted = Noted::read(&beside.journal)?;

        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (mut tree, mut at) = tree::read(&transaction)?;
        let newest = tree::newest(&transaction)?;
        if let Some(kept) = &kept {
            not_older(&transaction, &tree, kept)?;
        }
        if noted.newest > revocations::newest(&transaction)? {
            return Err(Failure::RolledBack(format!(
                "it does not know revocation {}, which `revocations.log` has",
                noted.newest
            )));
        }

        let (key, made) = open_key(&beside.key)?;
        let key_number = tree::key_number(&transaction, key.public())?;
        let before = tree.size();
        // What should be there and is not is part of the history.
        if let Some(newest) = &newest {
            if made {
                let detail = format!(
                    "the key that signs heads was missing; {} takes the place of {}",
                    key.public().origin(),
                    newest.origin
                );
                let row = own_row("audit.key", at, detail);
                audit::append(&transaction, &mut tree, &row)?;
            }
            if kept.is_none() {
                let detail = "the file `audit.head` was missing: if the ledger was replaced by an \
                              older copy before this row, that cannot be told from here"
                    .to_owned();
                let row = own_row("audit.head", at, detail);
                audit::append(&transaction, &mut tree, &row)?;
            }
        }
        let head = if tree.size() > before || (newest.is_none() && tree.size() > 0) {
            if newest.is_none() {
                at = audit::newest_time(&transaction)?.unwrap_or(at);
            }
            let head = sign(&key, &tree, at);
            tree::keep(&transaction, &tree, &head, key_number)?;
            Some(head)
        } else {
            newest
        };
        let missing = noted.missing(&transaction)?;
        transaction.commit()?;

        let mut sealing = Self {
            key,
            key_number,
            head_file: HeadFile::open(&beside.head)?,
            journal: Journal::open(&beside.journal)?,
            complained: false,
        };
        sealing.committed(head.filter(|head| Some(head) != kept.as_ref()).as_ref(), &missing);
        Ok(sealing)
    }

    /// The number of the key in the tables.
    pub(super) fn key_number(&self) -> i64 {
        self.key_number
    }

    /// Signs a head over the tree.
    pub(super) fn sign(&self, tree: &Frontier, at: Timestamp) -> SignedHead {
        sign(&self.key, tree, at)
    }

    /// Takes note of what was committed. The ledger has it: a failure here is made up for when the
    /// ledger is opened again.
    pub(super) fn committed(&mut self, head: Option<&SignedHead>, facts: &[Entry]) {
        if let Some(head) = head {
            self.head_file.keep(head);
        }
        match self.journal.add(facts) {
            Ok(()) => self.complained = false,
            Err(error) if !self.complained => {
                self.complained = true;
                tracing::error!(
                    %error,
                    "`revocations.log` cannot be written: what is revoked now is in the ledger only"
                );
            }
            Err(_) => {}
        }
    }
}

/// What the journal knows.
#[derive(Default)]
struct Noted {
    /// Whether there is anything in it.
    anything: bool,
    /// The number of the newest revocation.
    newest: u64,
    ended: BTreeSet<String>,
    bundles: BTreeMap<String, u64>,
    lists: BTreeMap<[u8; 32], u64>,
}

impl Noted {
    fn read(path: &Path) -> Result<Self, Failure> {
        let mut noted = Self::default();
        journal::read(path, |entry| {
            noted.anything = true;
            match entry {
                Entry::Bundle(domain, number) => {
                    noted.bundles.insert(domain.to_string(), number);
                }
                Entry::Crl(issuer, number) => {
                    noted.lists.insert(issuer, number);
                }
                Entry::Ended(lineage, _) => {
                    noted.ended.insert(lineage.to_string());
                }
                Entry::Revoked(recorded) => noted.newest = noted.newest.max(recorded.sequence),
                Entry::Spent(..) => {}
            }
        })?;
        Ok(noted)
    }

    /// What the ledger knows and the journal does not: a process was killed in between, or the
    /// journal is new.
    fn missing(&self, connection: &Connection) -> Result<Vec<Entry>, Failure> {
        let mut missing: Vec<Entry> = revocations::after(connection, self.newest, u32::MAX)?
            .into_iter()
            .map(Entry::Revoked)
            .collect();
        for (lineage, at) in revocations::all_ended(connection)? {
            if !self.ended.contains(lineage.as_str()) {
                missing.push(Entry::Ended(lineage, at));
            }
        }
        for (domain, number) in super::bundles(connection)? {
            if self.bundles.get(domain.as_str()).is_none_or(|noted| *noted < number) {
                missing.push(Entry::Bundle(domain, number));
            }
        }
        for (issuer, number) in revocations::crl_numbers(connection)? {
            if self.lists.get(&issuer).is_none_or(|noted| *noted < number) {
                missing.push(Entry::Crl(issuer, number));
            }
        }
        if !self.anything {
            missing.extend(
                redeem::all_spent(connection)?.into_iter().map(|(id, at)| Entry::Spent(id, at)),
            );
        }
        Ok(missing)
    }
}

/// A ledger that goes on where the kept head was, or fails.
fn not_older(connection: &Connection, tree: &Frontier, kept: &SignedHead) -> Result<(), Failure> {
    let size = kept.head.size;
    if size > tree.size() {
        return Err(Failure::RolledBack(format!(
            "its audit log has {} rows, and `audit.head` knows of {size}",
            tree.size()
        )));
    }
    if tree::root_at(connection, size)? != Some(kept.head.root) {
        return Err(Failure::RolledBack(format!(
            "its audit log is not the one that `audit.head` knows, at row {size}"
        )));
    }
    Ok(())
}

/// The key, and whether it was made just now.
fn open_key(path: &Path) -> Result<(AuditKey, bool), Failure> {
    let unusable = |error: KeyError| Failure::Key { path: path.to_owned(), error };
    if let Some(pem) = read_bounded(path, 64 * 1024)? {
        let pem = zeroize::Zeroizing::new(pem);
        return Ok((AuditKey::from_pem(&pem).map_err(unusable)?, false));
    }
    let key = AuditKey::generate().map_err(unusable)?;
    write_atomic(path, key.to_pem().as_bytes(), FILE_MODE)?;
    Ok((key, true))
}

fn sign(key: &AuditKey, tree: &Frontier, at: Timestamp) -> SignedHead {
    // As precise as it will be read back: the text is signed.
    let at = Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at);
    key.sign(TreeHead { size: tree.size(), root: tree.root(), at })
}

fn own_row(action: &str, at: Timestamp, detail: String) -> AuditRow {
    AuditRow {
        at,
        actor: "node".to_owned(),
        action: action.to_owned(),
        subject: "audit log".to_owned(),
        outcome: "failed".to_owned(),
        detail,
        why: String::new(),
    }
}
