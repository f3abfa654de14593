//! Access grants and their redemption, as the ledger sees them: what is kept, what is asked, and
//! the possible answers. How a certificate comes about is the authority's; this is the counting.

use std::fmt;

use aws_lc_rs::hmac;
use handfast_pki::Name;
use jiff::Timestamp;

use crate::issued::Issued;

/// The leave, given once, to obtain certificates by a code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Its name, as in the URL of the token.
    pub id: Name,
    /// [`hash_code`] of the code; the code itself is never kept.
    pub code_hash: [u8; 32],
    /// What the code was hashed with: random, and different for each grant.
    pub salt: [u8; 16],
    /// How many different requests may be served.
    pub redemptions_allowed: u32,
    /// From this moment on nothing is served any more.
    pub expires: Timestamp,
    /// The cost of the link that a redemption sets up.
    pub cost: u32,
    /// Who may redeem it.
    pub audience: Audience,
    /// When it was made.
    pub created: Timestamp,
}

/// Whom a grant is for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Audience {
    /// Telemetry agents that report as this service.
    Agent(Name),
    /// Any site that wants to link.
    #[default]
    AnySite,
    /// The site of this name, and no other.
    Site(Name),
}

impl Audience {
    /// Whether a grant for this audience may be redeemed by `applicant`.
    pub fn admits(&self, applicant: &Applicant) -> bool {
        match (self, applicant) {
            (Self::Agent(service), Applicant::Agent(name)) => service == name,
            (Self::AnySite, Applicant::Site(_)) => true,
            (Self::Site(site), Applicant::Site(name)) => site == name,
            (Self::Agent(_), Applicant::Site(_))
            | (Self::AnySite | Self::Site(_), Applicant::Agent(_)) => false,
        }
    }
}

/// Who redeems a grant, by its own word.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Applicant {
    /// A telemetry agent, by the service that it reports as.
    Agent(Name),
    /// A site that wants to link.
    Site(Name),
}

impl Applicant {
    /// The name, of whichever kind.
    pub fn name(&self) -> &Name {
        match self {
            Self::Agent(name) | Self::Site(name) => name,
        }
    }
}

impl fmt::Display for Applicant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(name) => write!(f, "agent of {name}"),
            Self::Site(name) => write!(f, "site {name}"),
        }
    }
}

/// A grant with what has become of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantRecord {
    /// The grant.
    pub grant: Grant,
    /// How often it was redeemed.
    pub redemptions: u32,
}

/// A code is checked by comparing these: HMAC-SHA-256 of the code under the salt.
///
/// The codes are long random ones of our own making (128 bits and more), so nothing slower is needed.
pub fn hash_code(salt: &[u8; 16], code: &[u8]) -> [u8; 32] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, salt), code);
    let mut hash = [0; 32];
    hash.copy_from_slice(tag.as_ref());
    hash
}

/// Somebody presents a code and wants a certificate.
#[derive(Clone)]
pub struct Redemption {
    /// The grant named in the URL.
    pub grant_id: Name,
    /// The code as presented, not yet checked.
    pub code: Vec<u8>,
    /// SHA-256 of the SubjectPublicKeyInfo in the request: whoever asks again with the same key
    /// gets the same answer.
    pub request_key: [u8; 32],
    /// Who asks.
    pub applicant: Applicant,
    /// Where the request came from, for the audit row.
    pub origin: String,
    /// The time of the request.
    pub now: Timestamp,
}

/// What a redemption hands out, kept so that the answer can be repeated word for word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedBundle {
    /// The record of the certificate.
    pub issued: Issued,
    /// The chain, leaf first, in PEM.
    pub chain_pem: String,
    /// The trust anchors, in PEM.
    pub anchors_pem: String,
    /// The rest of the answer, in a form of the caller's own: stored and returned as it is.
    pub context: String,
}

/// Why the authority would not sign, although the code was good. Nothing is consumed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RefusalReason {
    /// A stable word for programs, such as `name-not-allowed`.
    pub code: String,
    /// What is wrong and what to do, for the one who asked.
    pub message: String,
}

/// What became of a redemption.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedeemOutcome {
    /// The code is right, but the grant has expired.
    Expired,
    /// Served: one redemption is used, the certificate is recorded.
    Redeemed(IssuedBundle),
    /// The code is right, but the request is not one to be served.
    Refused(RefusalReason),
    /// The same request was served before: the same answer, and nothing used.
    Repeated(IssuedBundle),
    /// The code is right, but all redemptions are used.
    Spent,
    /// There is no such grant.
    Unknown,
    /// There is such a grant, but this is not its code.
    WrongCode,
}

/// A redemption that was served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedeemedRecord {
    /// The grant.
    pub grant_id: Name,
    /// The key of the request.
    pub request_key: [u8; 32],
    /// Who asked.
    pub applicant: Applicant,
    /// When.
    pub at: Timestamp,
    /// What it was given.
    pub bundle: IssuedBundle,
}
