//! Why an OCSP message cannot be read, made or trusted.

use jiff::Timestamp;

use crate::{Serial, SignError, SignatureError};

/// What is wrong with an OCSP request or response.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OcspError {
    /// Not base64, or not percent-encoded rightly.
    #[error("the OCSP request in the URL is not base64: it was damaged on its way")]
    Base64,
    /// The certificate cannot answer for this issuer.
    #[error("{subject:?} cannot sign OCSP answers for {issuer:?}: {why}")]
    BadSigner {
        /// The signer's subject.
        subject: String,
        /// The issuer it would answer for.
        issuer: String,
        /// What it lacks.
        why: &'static str,
    },
    /// Not OCSP, or damaged.
    #[error("the OCSP message is malformed ({what})")]
    Malformed {
        /// Which part of it.
        what: &'static str,
    },
    /// A nonce of a length that RFC 9654 does not allow.
    #[error("the OCSP nonce has {octets} octets: 1 to 128 are allowed")]
    Nonce {
        /// How long it is.
        octets: usize,
    },
    /// The response speaks of other certificates.
    #[error("the OCSP response does not speak of the certificate asked about (serial {serial})")]
    NotAnswered {
        /// The serial asked about.
        serial: Serial,
    },
    /// The answer is dated in the future.
    #[error(
        "the OCSP response is valid only from {this_update}, and it is now {now}: a clock is wrong here or at the responder"
    )]
    NotYetValid {
        /// Its thisUpdate.
        this_update: Timestamp,
        /// The time of the check.
        now: Timestamp,
    },
    /// The responder answered without an answer.
    #[error("the OCSP responder refused to answer: {status}")]
    Refused {
        /// The response status.
        status: super::Refusal,
    },
    /// More than one certificate in one request.
    #[error("the OCSP request asks about {count} certificates: ask about one at a time (RFC 9919)")]
    Several {
        /// How many.
        count: usize,
    },
    /// The signature does not hold.
    #[error("the OCSP response cannot be trusted: {source}")]
    Signature {
        /// Why.
        source: SignatureError,
    },
    /// The key could not sign.
    #[error("the OCSP response could not be signed: {0}")]
    Signing(#[from] SignError),
    /// Past its nextUpdate, or without one.
    #[error(
        "the OCSP response is out of date: it said to ask again by {next_update}, and it is now {now}"
    )]
    Stale {
        /// Its nextUpdate.
        next_update: Timestamp,
        /// The time of the check.
        now: Timestamp,
    },
    /// Over the limit.
    #[error("{octets} octets are too many for an OCSP message: {limit} at most")]
    TooLarge {
        /// Size of the input.
        octets: usize,
        /// The limit.
        limit: usize,
    },
    /// A critical extension that must be understood and is not.
    #[error("the OCSP message carries the critical extension {extension}, which is not understood")]
    UnknownCriticalExtension {
        /// The extension.
        extension: String,
    },
    /// A hash other than SHA-1 and SHA-256.
    #[error(
        "the OCSP request names its certificate by a hash that is not supported: use SHA-256 or SHA-1"
    )]
    UnknownHash,
    /// Signed by nobody who may.
    #[error(
        "the OCSP response is not signed by the issuer, nor by a responder that the issuer appointed: {why}"
    )]
    UnknownSigner {
        /// What is missing.
        why: &'static str,
    },
    /// The answer repeats another nonce than the one sent, or none.
    #[error("the OCSP response does not repeat the nonce that was sent: it may be an old one")]
    WrongNonce,
}
