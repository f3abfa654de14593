//! OCSP (RFC 6960, and the lightweight profile of RFC 9919): requests read, answers signed, answers of
//! responders checked. Messages as values: who answers what over HTTP is the business of `handfast-api`.
//!
//! What is ours follows the lightweight profile: one certificate to a request, SHA-1 or SHA-256 to name its
//! issuer, nextUpdate always, the responder named by its key, the nonce (RFC 9654) echoed exactly.

mod cert_id;
mod error;
mod request;
mod response;
mod signer;

pub use cert_id::{CertId, IdHash};
pub use error::OcspError;
pub use request::OcspRequest;
pub use response::{OcspResponse, SingleAnswer};
pub use signer::{AnswerTimes, CertStatus, OcspSigner, Refusal};

/// id-pkix-ocsp-nonce.
const NONCE: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 48, 1, 2];

/// id-pkix-ocsp-basic.
const BASIC: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 48, 1, 1];

/// id-pkix-ocsp-nocheck: the certificate of a responder that need not be looked up itself.
pub(crate) const NO_CHECK: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 48, 1, 5];
