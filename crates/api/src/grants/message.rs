//! What is said between the two sites when a token is redeemed.

use std::fmt;
use std::time::Duration;

use axum::http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::secret::Secret;

/// `POST /v1/grants/<id>`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RedemptionBody {
    /// The code of the token.
    pub code: Secret,
    /// Name of the site that wants to link; this or `agent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// The service that a telemetry agent reports as; this or `site`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// PEM of its certificate request (PKCS#10, RFC 2986), which proves possession of the key.
    pub csr: String,
}

/// `POST /v1/renew`, over a connection that an agent's certificate authenticates.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RenewalBody {
    /// PEM of the certificate request (PKCS#10, RFC 2986), which proves possession of the new key.
    pub csr: String,
}

/// The answer to a redemption or renewal that is granted.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RedemptionReply {
    /// PEM of the certificate and its issuers, leaf first.
    pub certificate: String,
    /// PEM of the certificates that the granting site's servers chain to: those that the certificate is for.
    pub ca: String,
    /// PEM of what the grant port itself chains to, where that may be something else: for who renews there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_ca: Option<String>,
    /// Where the granting site can be linked to; nowhere for agents.
    #[serde(default)]
    pub links: Vec<LinkOffer>,
    /// The trust domain of the identity in the certificate.
    pub trust_domain: String,
    /// Name of the granting site.
    pub site: String,
}

/// The answer to `GET /v1/renewal-hint`, asked over a connection that an agent's certificate authenticates: when that certificate
/// should be renewed. After RFC 9773, section 4.2, where a certificate is named in the path; here it is the one that is shown,
/// so that nobody can ask about another's.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HintReply {
    /// When: at a moment of one's own within it, or at once where it is past.
    pub suggested_window: SuggestedWindow,
    /// Why then: for the log, and to be asked about by people.
    pub why: HintWhy,
    /// How long not to ask again, in seconds. `Retry-After` of the answer is the same.
    pub retry_after_seconds: u64,
}

/// From when to when.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct SuggestedWindow {
    /// Its first moment.
    pub start: Timestamp,
    /// Its last.
    pub end: Timestamp,
}

/// Why a certificate should be renewed then.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum HintWhy {
    /// Its life is going by.
    Life,
    /// What it leans on has a successor.
    Rotation,
    /// A key that it leans on is in the wrong hands.
    Taint,
    /// A reason of a later version. (Last, because serde wants it so.)
    #[serde(other, skip_serializing)]
    Unrecognised,
}

impl HintReply {
    /// The answer, if its window is one; else why not, in a sentence.
    pub fn checked(self) -> Result<Self, String> {
        let SuggestedWindow { start, end } = self.suggested_window;
        if end < start {
            return Err(format!(
                "the window to renew in ends at {end}, before it starts at {start}"
            ));
        }
        Ok(self)
    }
}

impl fmt::Display for HintWhy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Life => "its life is going by",
            Self::Rotation => "what it leans on has a successor",
            Self::Taint => "a key that it leans on is in the wrong hands",
            Self::Unrecognised => "the site that gave it says so",
        })
    }
}

/// One way to link to the granting site.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkOffer {
    /// A name for the link; the redeeming site may choose another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where it is dialled.
    pub host: String,
    /// On which port.
    pub port: u16,
    /// `inter-router`.
    pub role: String,
    /// Its cost.
    pub cost: u32,
}

/// The answer to a redemption that is not granted.
#[derive(Clone, Debug, Deserialize, Eq, Error, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[error("{message}; {remedy}")]
pub struct Problem {
    /// Stable code.
    pub error: ProblemCode,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub remedy: String,
    /// How long to wait before trying again, in seconds, where that helps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u64>,
}

impl Problem {
    /// A problem in the words that fit its code.
    pub fn new(error: ProblemCode) -> Self {
        let (message, remedy) = error.words();
        Self {
            error,
            message: message.to_owned(),
            remedy: remedy.to_owned(),
            retry_after_seconds: None,
        }
    }

    /// The same with what is wrong in this case. It is sent to a stranger: no secrets, no paths.
    #[must_use]
    pub fn because(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self
    }

    /// The same with another remedy.
    #[must_use]
    pub fn remedied_by(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }

    /// The same with a time to wait, rounded up to seconds.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after_seconds = Some(wait.as_secs() + u64::from(wait.subsec_nanos() > 0));
        self
    }
}

/// Why a redemption is not granted.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ProblemCode {
    /// The grant's time is over.
    Expired,
    /// Something of the granting site failed; nothing was consumed.
    Internal,
    /// The request cannot be meant: no JSON, no certificate request, no site name.
    Invalid,
    /// The grant is for another site, or the request asks for what is never given.
    Refused,
    /// Redeemed as often as it may be.
    Spent,
    /// The body did not come in time.
    TimedOut,
    /// The body is larger than is accepted.
    TooLarge,
    /// Too many requests from this address.
    TooMany,
    /// The connection shows no certificate that could be renewed.
    Unauthenticated,
    /// The granting site cannot answer now.
    Unavailable,
    /// No such grant.
    Unknown,
    /// The grant exists, and this is not its code.
    WrongCode,
    /// A code of a later version. (Last, because serde wants it so.)
    #[serde(other, skip_serializing)]
    Unrecognised,
}

impl ProblemCode {
    /// The HTTP status that carries it.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Expired => StatusCode::GONE,
            Self::Internal | Self::Unrecognised => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Invalid => StatusCode::BAD_REQUEST,
            Self::Refused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Spent => StatusCode::CONFLICT,
            Self::TimedOut => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unknown => StatusCode::NOT_FOUND,
            Self::WrongCode => StatusCode::FORBIDDEN,
        }
    }

    /// Whether the same token may be accepted later without anybody doing anything.
    pub fn is_passing(self) -> bool {
        matches!(self, Self::Internal | Self::TimedOut | Self::TooMany | Self::Unavailable)
    }

    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Expired => (
                "the token has expired",
                "ask for a new one; `token issue --expiration-window` sets how long it lives",
            ),
            Self::Internal => (
                "the granting site failed while answering; nothing was consumed",
                "try again, and see the log of the granting site",
            ),
            Self::Invalid => (
                "the request is not a redemption",
                "redeem with a handfast of the same version as the granting site",
            ),
            Self::Refused => {
                ("the grant does not allow this", "ask for a token that is meant for this site")
            }
            Self::Spent => (
                "the token has been redeemed as often as it may be",
                "if it was redeemed here and that run was interrupted, type the same command once more, with the same home \
                 or directory: the key lies there, and gets the same answer. Otherwise ask for a new one; \
                 `token issue --redemptions-allowed` allows more",
            ),
            Self::TimedOut => ("the request did not come in time", "try again"),
            Self::TooLarge => ("the request is too large", "send one certificate request only"),
            Self::TooMany => ("too many requests from this address", "wait, then try again"),
            Self::Unauthenticated => (
                "nobody is known by this connection, so nothing can be renewed over it",
                "show the certificate that is to be renewed while it is valid; after that, redeem a new token",
            ),
            Self::Unavailable => ("the granting site cannot answer now", "try again later"),
            Self::Unknown => (
                "no such grant at this site",
                "check that the token was issued by the site it names and not deleted there; ask for a new one",
            ),
            Self::Unrecognised => ("the granting site refused", "update this handfast"),
            Self::WrongCode => (
                "the code is not the one of this grant",
                "check that the token file is complete and unchanged; ask for a new one",
            ),
        }
    }
}
