//! Why a CRL cannot be read, trusted, merged or made.

use crate::pem::PemError;
use crate::{CrlNumber, SignError, SignatureError};

/// What is wrong with a CRL.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CrlError {
    /// A delta that was made for a newer full list than the one at hand.
    #[error(
        "the delta CRL {delta} of {issuer:?} continues the full CRL {needed} or a later one, but the one at hand is {found}: fetch the full CRL again"
    )]
    BaseTooOld {
        /// The issuer of both.
        issuer: String,
        /// The delta's number.
        delta: CrlNumber,
        /// The number that the full list must have at least.
        needed: CrlNumber,
        /// The number of the full list at hand.
        found: CrlNumber,
    },
    /// A full list was expected.
    #[error(
        "the CRL {number} of {issuer:?} is a delta, which says only what changed: supply the full CRL beside it"
    )]
    DeltaOnly {
        /// The issuer.
        issuer: String,
        /// The delta's number.
        number: CrlNumber,
    },
    /// An indirect CRL, or an entry in the name of another issuer.
    #[error(
        "the CRL of {issuer:?} is indirect (it lists certificates of other issuers), which is not supported: supply the CRL of each issuer"
    )]
    Indirect {
        /// The issuer.
        issuer: String,
    },
    /// The CRL names another key than the issuer's.
    #[error(
        "the CRL of {issuer:?} was signed with another key than that of the CA at hand (key identifiers differ): supply the CRL of the CA in use, or the CA certificate that belongs to the CRL"
    )]
    KeyId {
        /// The issuer.
        issuer: String,
    },
    /// Not a CRL, or damaged.
    #[error(
        "the CRL is malformed ({what}): it is not an X.509 CRL, or it was damaged in copying; take it again from its source"
    )]
    Malformed {
        /// Which part of it.
        what: &'static str,
    },
    /// The issuer's key usage lacks cRLSign.
    #[error("{subject:?} may not sign CRLs (its key usage lacks cRLSign)")]
    MayNotSign {
        /// The issuer's subject.
        subject: String,
    },
    /// Two lists that do not belong together.
    #[error(
        "the delta CRL is of {delta:?}, or of another part of its certificates, and the full CRL of {full:?}: they cannot be merged"
    )]
    NotTogether {
        /// The issuer of the delta.
        delta: String,
        /// The issuer of the full list.
        full: String,
    },
    /// No nextUpdate: nobody could tell when it is out of date.
    #[error(
        "the CRL of {issuer:?} does not say when the next one comes (nextUpdate), so nobody can tell whether it is out of date: have it made with one"
    )]
    NoNextUpdate {
        /// The issuer.
        issuer: String,
    },
    /// The PEM text is faulty.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// A list of attribute certificates, or for some reasons only.
    #[error(
        "the CRL of {issuer:?} covers {what} only, which is not supported: supply a complete one"
    )]
    Scope {
        /// The issuer.
        issuer: String,
        /// What it covers.
        what: &'static str,
    },
    /// More than one CRL where one was expected.
    #[error("the file holds {count} CRLs where one is expected: give them one by one")]
    Several {
        /// How many.
        count: usize,
    },
    /// The signature does not hold.
    #[error("the CRL of {issuer:?} cannot be trusted: {source}")]
    Signature {
        /// The issuer.
        issuer: String,
        /// Why.
        source: SignatureError,
    },
    /// The key could not sign.
    #[error("the CRL could not be signed: {0}")]
    Signing(#[from] SignError),
    /// Over [`crate::Crl::MAX_DER`].
    #[error("{octets} octets are too many for a CRL: 64 MiB at most")]
    TooLarge {
        /// Size of the input.
        octets: usize,
    },
    /// A critical extension that must be understood and is not.
    #[error(
        "the CRL of {issuer:?} carries the critical extension {extension}, which is not understood: it must not be used"
    )]
    UnknownCriticalExtension {
        /// The issuer.
        issuer: String,
        /// The extension.
        extension: String,
    },
    /// Issued by somebody else.
    #[error("the CRL was issued by {crl_issuer:?}, not by {subject:?}: supply the CRL of that CA")]
    WrongIssuer {
        /// Who issued it.
        crl_issuer: String,
        /// Whose list was wanted.
        subject: String,
    },
}
