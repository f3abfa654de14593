//! What the ledger remembers of a certificate that was issued, and how to ask for it.

use std::fmt;
use std::str::FromStr;

use handfast_pki::{Fingerprint, Profile, Serial, SpiffeId};
use jiff::Timestamp;

/// A certificate as it was issued. Never changed or removed afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The key that signed it: SHA-256 of the issuer's SubjectPublicKeyInfo. With the serial, the
    /// key of the record: names of issuers repeat when a CA is renewed, keys do not.
    pub issuer_key_id: [u8; 32],
    /// Its serial number.
    pub serial: Serial,
    /// The identity it proves, where it has one.
    pub identity: Option<SpiffeId>,
    /// The common name, and the DNS names and IP addresses in text, for people to search.
    pub names: Vec<String>,
    /// What it was made for.
    pub profile: Profile,
    /// Valid from, to the second.
    pub not_before: Timestamp,
    /// Valid until, to the second.
    pub not_after: Timestamp,
    /// The enrolment it descends from.
    pub lineage: Lineage,
    /// SHA-256 of the certificate.
    pub fingerprint: Fingerprint,
    /// The certificate itself, in PEM.
    pub pem: String,
}

/// An enrolment and everything renewed from it: what is revoked together.
///
/// 1 to 255 visible ASCII characters, such as `grant/east/5f3c...` or `own/handfast-site-server`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lineage(String);

impl Lineage {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Lineage {
    type Err = LineageError;

    fn from_str(text: &str) -> Result<Self, LineageError> {
        if text.is_empty() || text.len() > 255 || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(LineageError);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text is not a lineage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a lineage is 1 to 255 visible ASCII characters")]
pub struct LineageError;

/// A certificate with the number of its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedIssued {
    /// Its number: records count upwards from 1, in the order of issue.
    pub number: u64,
    /// The certificate.
    pub issued: Issued,
}

/// Which issued certificates to read; the default is all of them. Conditions add up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IssuedFilter {
    /// Only records with a smaller number: the next page, after the last record of the page before.
    pub before_number: Option<u64>,
    /// Only those that expire before this time.
    pub expires_before: Option<Timestamp>,
    /// Only this certificate.
    pub fingerprint: Option<Fingerprint>,
    /// Only those that prove this identity.
    pub identity: Option<SpiffeId>,
    /// Only those signed by this key.
    pub issuer_key_id: Option<[u8; 32]>,
    /// Only those of this enrolment.
    pub lineage: Option<Lineage>,
    /// Only those with exactly this among their names.
    pub name: Option<String>,
    /// Only those with this serial number, whichever key signed them.
    pub serial: Option<Serial>,
    /// Only those not yet expired at this time.
    pub unexpired_at: Option<Timestamp>,
    /// At most so many, the newest first.
    pub limit: Option<u32>,
}
