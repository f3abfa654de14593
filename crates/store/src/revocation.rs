//! What the ledger remembers of a revocation. Whom it reaches, and how, is for others.

use handfast_pki::{RevocationReason, Serial, SpiffeId};
use jiff::Timestamp;

use crate::issued::Lineage;

/// A certificate that is no longer to be believed, whatever its dates say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// The key that signed it: SHA-256 of the issuer's SubjectPublicKeyInfo.
    pub issuer_key_id: [u8; 32],
    /// Its serial number. With the issuer's key, the key of the record.
    pub serial: Serial,
    /// Why (RFC 5280 section 5.3.1).
    pub reason: RevocationReason,
    /// Since when, to the microsecond.
    pub at: Timestamp,
    /// When the certificate expires, if that is known: later nobody has to be told of it any more.
    pub not_after: Option<Timestamp>,
    /// The identity it proved, if that is known.
    pub identity: Option<SpiffeId>,
    /// The enrolment it descends from, if that is known.
    pub lineage: Option<Lineage>,
}

/// A revocation as it was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedRevocation {
    /// Its number: they count upwards from 1 and no number is used twice.
    pub sequence: u64,
    /// The revocation.
    pub revocation: Revocation,
}

/// Another authority's statement as it was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedStatement {
    /// Its number: they count upwards from 1 and no number is used twice.
    pub number: u64,
    /// The statement, as it was given.
    pub statement: Vec<u8>,
}
