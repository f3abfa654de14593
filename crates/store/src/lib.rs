//! Where credentials and the ledger live, and how a change is noticed.
//!
//! A node has one home directory ([`Home`]), a store of named credentials in it
//! ([`CredentialStore`], [`DirectoryStore`]) and a ledger of everything issued, granted and decided
//! ([`Ledger`], [`SqliteLedger`]). What returns without an error is durable: a `kill -9` or a power
//! cut does not undo it.
//!
//! This crate decides nothing about certificates: it does not know what should exist, whether a
//! chain is any good, or who may ask. It never writes below `input/`, and never reads a clock
//! (except to wait): times are parameters.

mod atomic;
mod audit;
mod backup;
mod credential;
mod directory;
mod error;
mod grant;
mod hex;
mod home;
mod issued;
mod journal;
mod ledger;
mod lock;
mod lone;
mod revisions;
mod revocation;
mod scan;
mod sqlite;
mod supplied;
mod watch;

pub use atomic::{read_bounded, write_atomic};
pub use audit::head::{AuditKey, AuditPublicKey, HeadError, SignedHead, TreeHead};
pub use audit::merkle;
pub use audit::verify::{Flaw, Verification, Verifier};
pub use audit::{AuditFilter, AuditRange, AuditRow, RecordedAudit};
pub use backup::{
    BackedUp, BackupError, BackupRequest, RestoreRequest, Restored, back_up, restore,
};
pub use credential::{CredentialStore, Kind, RawPem, Revision, Source, Stored, StoredFault};
pub use directory::{DirectoryStore, Stray};
pub use error::{FileError, StoreError};
pub use grant::{
    Applicant, Audience, Grant, GrantRecord, IssuedBundle, RedeemOutcome, RedeemedRecord,
    Redemption, RefusalReason, hash_code,
};
pub use home::{Home, HomeError, HomePaths};
pub use issued::{Issued, IssuedFilter, Lineage, LineageError, RecordedIssued};
pub use ledger::Ledger;
pub use lone::{LoneCredential, LoneError};
pub use revocation::{RecordedRevocation, RecordedStatement, Revocation};
pub use sqlite::{AuditLog, AuditPage, SqliteLedger};
pub use supplied::revocation_lists;
pub use watch::{ContentWatch, WatchSettings};
