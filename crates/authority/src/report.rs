//! What a reconciliation found and did, for status pages, `cert list` and logs.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use handfast_pki::{Certificate, Credential, Name, TrustAnchors};
use handfast_store::{Kind, Source};
use jiff::Timestamp;

use crate::bundle::Bundle;
use crate::decide::{Failure, Reason};
use crate::declared::ResourceRef;
use crate::keyring::KeyPlace;
use crate::skew::Skew;

/// The outcome of one reconciliation.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was made current.
    pub changed: Vec<Change>,
    /// Requests that other sites have yet to answer.
    pub waiting: Vec<CsrRequest>,
    /// What is not as it should be, worst first where one causes another.
    pub problems: Vec<Problem>,
    /// Every credential that is wanted or there, by name.
    pub credentials: Vec<CredentialFacts>,
    /// The good credential of each name that is wanted: the last good one where what is on disk is
    /// broken now. The same `Arc` as in the report before, if nothing changed.
    pub live: BTreeMap<Name, Arc<Credential>>,
    /// The certificate of each issuer that is used by its name ([`Declared::used`](crate::Declared::used)): the last
    /// good one.
    pub issuers: BTreeMap<Name, Certificate>,
    /// What the sites that link here are to trust; nothing while this site cannot sign.
    pub bundle: Option<Bundle>,
    /// The anchors under which telemetry agents prove who they are; nothing while there are none.
    pub agents: Option<TrustAnchors>,
    /// When to reconcile again if nothing changes before.
    pub next_wake: Timestamp,
    /// The clock's fault, where what was issued shows one.
    pub skew: Option<Skew>,
}

/// A credential that was made current.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    /// Which sort.
    pub kind: Kind,
    /// Its name.
    pub name: Name,
    /// Why a new one was made; absent for one that was missing, or that was staged before.
    pub reason: Option<Reason>,
}

/// A request that goes to another site over the link, and waits for its answer.
///
/// The key is made and on disk. The same request is sent again after a crash or a lost answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CsrRequest {
    /// The link to send it over; for a first enrolment, the link to be.
    pub link: Name,
    /// The credential it is for.
    pub credential: Name,
    /// The request, PEM (RFC 2986).
    pub csr_pem: String,
    /// SHA-256 of the requested key's SubjectPublicKeyInfo.
    pub key_id: [u8; 32],
    /// Not to be sent before this moment, because it failed lately.
    pub send_at: Timestamp,
}

/// Something that is not as it should be, said so that an operator can act on it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// What sort of problem.
    pub code: ProblemCode,
    /// The credential.
    pub name: Name,
    /// The resource that needs it; the site's own needs have none.
    pub resource: Option<ResourceRef>,
    /// What is wrong, and where.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(resource) = &self.resource {
            write!(f, "{resource}: ")?;
        }
        write!(f, "{}. {}", self.what, self.remedy)
    }
}

/// The sorts of problems, each with a stable text for programs.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum ProblemCode {
    /// A CA that only a key elsewhere can renew is past half of its life.
    CeremonyDue,
    /// The same, and less than a sixth of its life is left.
    CeremonyOverdue,
    /// What is on disk cannot be used.
    CredentialBroken,
    /// It has expired.
    CredentialExpired,
    /// It expires soon and is not ours to renew, or renewal fails.
    CredentialExpiring,
    /// It is not there, and we cannot make it.
    CredentialMissing,
    /// It was revoked, and we cannot make another.
    CredentialRevoked,
    /// A supplied credential works, with something to be said about it.
    CredentialWarning,
    /// The clock disagrees with what we issued.
    ClockSkew,
    /// Making or proving one failed.
    IssuanceFailed,
    /// Its key is encrypted and cannot be opened, or is in a token that does not answer.
    KeyLocked,
    /// Its key lies open, though the node was given a secret to encrypt it with.
    KeyUnprotected,
    /// Two purposes claim one name.
    NameConflict,
    /// The other site has not renewed it.
    RenewalUnanswered,
}

impl ProblemCode {
    /// The stable text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CeremonyDue => "ceremony-due",
            Self::CeremonyOverdue => "ceremony-overdue",
            Self::CredentialBroken => "credential-broken",
            Self::CredentialExpired => "credential-expired",
            Self::CredentialExpiring => "credential-expiring",
            Self::CredentialMissing => "credential-missing",
            Self::CredentialRevoked => "credential-revoked",
            Self::CredentialWarning => "credential-warning",
            Self::ClockSkew => "clock-skew",
            Self::IssuanceFailed => "issuance-failed",
            Self::KeyLocked => "key-locked",
            Self::KeyUnprotected => "key-unprotected",
            Self::NameConflict => "name-conflict",
            Self::RenewalUnanswered => "renewal-unanswered",
        }
    }
}

impl fmt::Display for ProblemCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What there is to know of one credential, for `cert list`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CredentialFacts {
    /// Which sort.
    pub kind: Kind,
    /// Its name.
    pub name: Name,
    /// The identity it proves, or its common name where it has none.
    pub identity: Option<String>,
    /// Its serial number, in hex.
    pub serial: Option<String>,
    /// Its issuer's name.
    pub issuer: Option<String>,
    /// Valid from.
    pub not_before: Option<Timestamp>,
    /// Valid until.
    pub not_after: Option<Timestamp>,
    /// When it is renewed; absent for a supplied one.
    pub renew_at: Option<Timestamp>,
    /// Whose it is; managed for one that is still to be made.
    pub source: Source,
    /// How it is.
    pub state: CredentialState,
    /// SHA-256 of the leaf, in hex with colons.
    pub fingerprint: Option<String>,
    /// Where its key is and how it lies there, as far as it is known.
    pub key: Option<KeyPlace>,
    /// The failures in a row to make or renew it, up to now.
    pub failure: Option<Failure>,
    /// What was done for it since the start.
    pub tally: Tally,
}

/// What was done for a credential since the process started.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    /// How often a new one was put into use, the first one included.
    pub renewed: u64,
    /// How often making, proving or asking for one failed.
    pub failed: u64,
}

/// How a credential is.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum CredentialState {
    /// There, but unusable.
    Broken,
    /// Past its end.
    Expired,
    /// Past its time of renewal without a successor, or supplied and near its end.
    Expiring,
    /// Not there, and making it failed.
    Failed,
    /// There, but its key cannot be had now.
    Locked,
    /// Not there yet.
    Pending,
    /// Good.
    Ready,
    /// Good, with a successor on its way.
    Renewing,
    /// Revoked by its issuer.
    Revoked,
}

impl CredentialState {
    /// The stable text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Broken => "broken",
            Self::Expired => "expired",
            Self::Expiring => "expiring",
            Self::Failed => "failed",
            Self::Locked => "locked",
            Self::Pending => "pending",
            Self::Ready => "ready",
            Self::Renewing => "renewing",
            Self::Revoked => "revoked",
        }
    }
}

impl fmt::Display for CredentialState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
