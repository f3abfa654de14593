//! Reading the audit log of a ledger that another process may be writing: rows, proofs, verification.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, Transaction, params};

use super::failure::Failure;
use super::sealing::Beside;
use super::{audit, connect_reader, schema, tree};
use crate::atomic::read_bounded;
use crate::audit::head::{AuditKey, AuditPublicKey, SignedHead};
use crate::audit::head_file;
use crate::audit::merkle::{Frontier, Hash, consistency_ranges, inclusion_ranges};
use crate::audit::verify::{Verification, Verifier};
use crate::audit::{AuditFilter, RecordedAudit};
use crate::error::StoreError;

/// The audit log of a home, to be read. Changes nothing, and does not disturb who writes.
#[derive(Debug)]
pub struct AuditLog {
    path: PathBuf,
    connection: Connection,
}

/// Rows that follow each other, and the newest head of the moment they were read at.
#[derive(Clone, Debug)]
pub struct AuditPage {
    /// The rows with their recorded hashes.
    pub rows: Vec<(RecordedAudit, Hash)>,
    /// The head; absent while the log is empty.
    pub head: Option<SignedHead>,
}

impl AuditLog {
    /// Opens the log in the ledger at `path`, which must be of this release's schema.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = path.as_ref().to_owned();
        let open = || {
            let connection = connect_reader(&path)?;
            schema::check_current(&connection)?;
            Ok(connection)
        };
        let connection = open().map_err(|failure: Failure| failure.into_error(&path))?;
        Ok(Self { path, connection })
    }

    /// The newest rows that fit, in the order they were written.
    pub fn rows(&mut self, filter: &AuditFilter) -> Result<Vec<RecordedAudit>, StoreError> {
        self.read(|connection| audit::matching(connection, filter))
    }

    /// The newest head.
    pub fn head(&mut self) -> Result<Option<SignedHead>, StoreError> {
        self.read(|connection| tree::newest(connection))
    }

    /// The keys that signed heads of this log, the oldest first.
    pub fn keys(&mut self) -> Result<Vec<AuditPublicKey>, StoreError> {
        self.read(|connection| tree::keys(connection))
    }

    /// Hands over every row with its recorded hash, up to the newest head, which it returns. All of
    /// it is of one moment, and only a page of it is in memory at a time.
    pub fn export(
        &mut self,
        take: &mut dyn FnMut(RecordedAudit, Hash) -> std::io::Result<()>,
    ) -> Result<Option<SignedHead>, StoreError> {
        let mut stopped = None;
        let head = self.read(|connection| {
            each_row(connection, 0, u64::MAX, &mut |recorded, leaf| match take(recorded, leaf) {
                Ok(()) => true,
                Err(error) => {
                    stopped = Some(error);
                    false
                }
            })?;
            tree::newest(connection)
        })?;
        match stopped {
            Some(source) => {
                Err(StoreError::Ledger { path: self.path.clone(), source: Box::new(source) })
            }
            None => Ok(head),
        }
    }

    /// The rows after number `after` with their recorded hashes, in order, `limit` at most and none that `size` does not cover;
    /// and the newest head of the same moment. So an export can be read in pages: the log only grows, and its first rows are the same
    /// whenever they are read.
    pub fn page(&mut self, after: u64, size: u64, limit: u32) -> Result<AuditPage, StoreError> {
        self.read(|connection| {
            let head = tree::newest(connection)?;
            let last = head.as_ref().map_or(0, |head| head.head.size).min(size);
            let mut rows = Vec::new();
            each_row(connection, after, last, &mut |recorded, leaf| {
                if rows.len() < limit as usize {
                    rows.push((recorded, leaf));
                }
                rows.len() < limit as usize
            })?;
            Ok(AuditPage { rows, head })
        })
    }

    /// Checks the whole log: every row against its hash, every hash against the signed heads, the
    /// heads against the home's key, the file `audit.head`, and `elsewhere`, heads that were kept in
    /// other places (each with a noun phrase that says where).
    pub fn verify(
        &mut self,
        elsewhere: Vec<(String, SignedHead)>,
    ) -> Result<Verification, StoreError> {
        let beside = Beside::of(&self.path);
        // Before the rows: the log may grow meanwhile, and must never look shorter than its head.
        let kept = head_file::read(&beside.head)?;
        let own_key = own_key(&beside);
        self.read(|connection| {
            let mut verifier = Verifier::new(tree::keys(connection)?);
            if let Some(own) = own_key {
                // Whoever replaced the keys in the tables as well does not have this one.
                verifier.require(own);
            }
            match kept {
                Some(kept) => verifier.expect("the file `audit.head`", kept),
                None if tree::newest(connection)?.is_some() => {
                    verifier.without("the file `audit.head`");
                }
                None => {}
            }
            for (source, head) in elsewhere {
                verifier.expect(&source, head);
            }
            feed(connection, &mut verifier)?;
            Ok(verifier.finish())
        })
    }

    /// The hashes that prove row `sequence` to be in the tree over the first `size` rows (RFC 9162
    /// section 2.1.3), the lowest first.
    pub fn inclusion(&mut self, sequence: u64, size: u64) -> Result<Vec<Hash>, StoreError> {
        self.roots(&inclusion_ranges(sequence.saturating_sub(1), size))
    }

    /// The hashes that prove the tree over `old` rows to be the beginning of that over `new` (RFC 9162
    /// section 2.1.4).
    pub fn consistency(&mut self, old: u64, new: u64) -> Result<Vec<Hash>, StoreError> {
        self.roots(&consistency_ranges(old, new))
    }

    fn roots(&mut self, ranges: &[(u64, u64)]) -> Result<Vec<Hash>, StoreError> {
        self.read(|connection| {
            ranges.iter().map(|(start, end)| root_of(connection, *start, *end)).collect()
        })
    }

    fn read<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Failure>,
    ) -> Result<T, StoreError> {
        let connection = &mut self.connection;
        let run = || {
            let transaction = connection.transaction()?;
            work(&transaction)
        };
        run().map_err(|failure: Failure| failure.into_error(&self.path))
    }
}

/// Rows and heads, in the order they came to be.
fn feed(connection: &Connection, verifier: &mut Verifier) -> Result<(), Failure> {
    let mut heads = Vec::<SignedHead>::new().into_iter().peekable();
    let mut last_head = 0;
    let mut failed = None;
    each_row(connection, 0, u64::MAX, &mut |recorded, leaf| {
        verifier.row(&recorded, &leaf);
        if heads.peek().is_none() {
            match tree::each_head(connection, last_head, PAGE) {
                Ok(page) => heads = page.into_iter().peekable(),
                Err(failure) => failed = Some(failure),
            }
        }
        while let Some(head) = heads.next_if(|head| head.head.size <= recorded.sequence) {
            last_head = head.head.size;
            verifier.head(&head);
        }
        failed.is_none()
    })?;
    if let Some(failure) = failed {
        return Err(failure);
    }
    // Heads over rows that are not there any more.
    if let Some(newest) = tree::newest(connection)?
        && newest.head.size > last_head
    {
        verifier.head(&newest);
    }
    Ok(())
}

/// Hands rows over, in order, until told to stop.
fn each_row(
    connection: &Connection,
    after: u64,
    last: u64,
    take: &mut dyn FnMut(RecordedAudit, Hash) -> bool,
) -> Result<(), Failure> {
    let bound = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(
        "SELECT * FROM audit WHERE sequence > ?1 AND sequence <= ?2 ORDER BY sequence",
    )?;
    let mut rows = statement.query(params![bound(after), bound(last)])?;
    while let Some(row) = rows.next()? {
        if !take(audit::read(row)?, audit::recorded_leaf(row)?) {
            break;
        }
    }
    Ok(())
}

/// The root over leaves `start` to `end` (from 0, the end not included).
fn root_of(connection: &Connection, start: u64, end: u64) -> Result<Hash, Failure> {
    let mut tree = Frontier::default();
    let mut statement = connection.prepare_cached(
        "SELECT leaf FROM audit WHERE sequence > ?1 AND sequence <= ?2 ORDER BY sequence",
    )?;
    let bound = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![bound(start), bound(end)])?;
    while let Some(row) = rows.next()? {
        tree.push(row.get(0)?);
    }
    Ok(tree.root())
}

/// The key in the home, if there is one that can be read.
fn own_key(beside: &Beside) -> Option<AuditPublicKey> {
    let pem = zeroize::Zeroizing::new(read_bounded(&beside.key, 64 * 1024).ok()??);
    Some(AuditKey::from_pem(&pem).ok()?.public().clone())
}

const PAGE: u32 = 1000;
