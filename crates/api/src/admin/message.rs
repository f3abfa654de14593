//! Bodies of the admin API's calls, and the one shape of every failure.

use axum::http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::access::{About, Target};
use crate::secret::Secret;
use crate::status::{CredentialStatus, FaultView};

/// `POST /v1/tokens`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct IssueToken {
    /// Name of the token and its grant; one is made when it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How many sites may redeem it; 1 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redemptions_allowed: Option<u32>,
    /// How long it may be redeemed, such as `15m`, which is the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expiration_window: Option<String>,
    /// Cost of the link that it makes; 1 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<u32>,
    /// The only site that may redeem it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// The identity, a SPIFFE ID, of the telemetry agents that may redeem it: it links no site then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
}

/// The answer to [`IssueToken`]: all that a token file holds.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct IssuedToken {
    /// Name of the token and its grant.
    pub name: String,
    /// Where it is redeemed.
    pub url: String,
    /// What is presented there. Nobody can be told again: only its hash is kept.
    pub code: Secret,
    /// PEM of what the server there chains to.
    pub ca: String,
    /// Cost of the link that it makes.
    pub link_cost: u32,
    /// How many sites may redeem it.
    pub redemptions_allowed: u32,
    /// Until when.
    pub expiration_time: Timestamp,
    /// The service whose agents it enrols, if it is for agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
}

/// `POST /v1/redemptions`: the content of a token file.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RedeemToken {
    /// Name of the token, for the link that it makes.
    pub name: String,
    /// Where it is redeemed.
    pub url: String,
    /// What is presented there.
    pub code: Secret,
    /// PEM of what the server there must chain to.
    pub ca: String,
    /// Cost of the link that it makes.
    pub link_cost: u32,
}

/// The answer to [`RedeemToken`].
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RedeemedToken {
    /// Names of the links that were declared.
    pub links: Vec<String>,
    /// The site that issued the token.
    pub remote_site: String,
    /// Its trust domain, of which this site is now a part.
    pub trust_domain: String,
    /// This site's identity there.
    pub identity: String,
    /// End of validity of the certificate, which is renewed over the link before that.
    pub not_after: Timestamp,
    /// Whether the answer was had before, from an attempt that was cut short.
    pub repeated: bool,
}

/// `POST /v1/renewals`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Renew {
    /// Which credentials.
    pub names: Vec<String>,
    /// Every managed credential; excludes `names`.
    pub all: bool,
}

/// The answer to [`Renew`], in the order in which they were renewed.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Renewals {
    /// One for each credential that was asked for.
    pub renewals: Vec<Renewal>,
}

/// What became of one credential.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Renewal {
    /// The credential.
    pub name: String,
    /// What became of it.
    pub outcome: RenewalOutcome,
    /// Serial number before.
    pub old_serial: Option<String>,
    /// How it is now.
    pub credential: Option<CredentialStatus>,
    /// Why it was not renewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What became of one credential.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum RenewalOutcome {
    /// The old one is in use still.
    Failed,
    /// The new one is in use.
    Renewed,
    /// It is supplied, so it is not ours to renew.
    Skipped,
}

impl About for IssueToken {
    /// Who is given a token for agents can become them.
    fn about(&self) -> Vec<Target> {
        let agent = self.agent.iter().cloned().map(Target::Identity);
        std::iter::once(Target::Site).chain(agent).collect()
    }
}

impl About for RedeemToken {
    fn about(&self) -> Vec<Target> {
        vec![Target::Site]
    }
}

impl About for Renew {
    fn about(&self) -> Vec<Target> {
        if self.names.is_empty() {
            return vec![Target::Site];
        }
        self.names.iter().cloned().map(Target::Credential).collect()
    }
}

/// Why a call was not done. The body of every answer that is not a success.
#[derive(Clone, Debug, Deserialize, Eq, Error, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[error("{message}; {remedy}")]
pub struct Refusal {
    /// Stable code.
    pub code: RefusalCode,
    /// What is wrong, and where.
    pub message: String,
    /// What to do.
    pub remedy: String,
    /// The fault behind it, where a connection or a certificate is the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Box<FaultView>>,
}

impl Refusal {
    /// A refusal without a fault.
    pub fn new(code: RefusalCode, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { code, message: message.into(), remedy: remedy.into(), fault: None }
    }

    /// The same with the fault behind it.
    #[must_use]
    pub fn with_fault(mut self, fault: FaultView) -> Self {
        self.fault = Some(Box::new(fault));
        self
    }
}

/// Why a call was not done, for programs.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RefusalCode {
    /// It stands in the way of something that exists.
    Conflict,
    /// Something of this node failed.
    Internal,
    /// The request cannot be meant.
    Invalid,
    /// The caller may not.
    NotAllowed,
    /// It is against the rules, whoever asks.
    NotGranted,
    /// No such thing.
    NotFound,
    /// The node cannot do it now: no site, no link access, draining.
    NotReady,
    /// The other site refused: a spent or expired token, a failed handshake.
    RefusedByPeer,
    /// It took too long.
    TimedOut,
    /// The request is larger than is accepted.
    TooLarge,
    /// The other site could not be reached.
    Unreachable,
}

impl RefusalCode {
    /// The HTTP status that carries it.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Conflict => StatusCode::CONFLICT,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Invalid => StatusCode::BAD_REQUEST,
            Self::NotAllowed => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::NotGranted => StatusCode::UNPROCESSABLE_ENTITY,
            Self::NotReady => StatusCode::SERVICE_UNAVAILABLE,
            // Nothing failed on the way: 502 would say so.
            Self::RefusedByPeer => StatusCode::FAILED_DEPENDENCY,
            Self::Unreachable => StatusCode::BAD_GATEWAY,
            Self::TimedOut => StatusCode::GATEWAY_TIMEOUT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        }
    }
}
