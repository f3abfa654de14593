//! Bodies of the calls about revocation.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::access::{About, Target};

/// `POST /v1/revocations`: exactly one of `serial`, `identity` and `name`.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Revoke {
    /// One certificate, by its serial number in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Only one that this CA signed: its name, or the SHA-256 of its public key in hex. Goes with `serial`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// The CA signed it elsewhere, and the ledger does not know it. Goes with `serial` and `issuer`; what is known here is refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub not_issued_here: bool,
    /// Everything of an identity, and its enrolment: a SPIFFE ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// Everything of a credential of this home or, if there is none, issued under this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Why, in the words of RFC 5280: `key-compromise`.
    pub reason: String,
    /// Why, for the audit log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl About for Revoke {
    fn about(&self) -> Vec<Target> {
        let serial = self.serial.clone().map(Target::Serial);
        let identity = self.identity.clone().map(Target::Identity);
        let name = self.name.clone().map(Target::Credential);
        // Of what is known, its identity decides; of the rest nothing is known but whose word it is.
        let issuer = self.issuer.clone().filter(|_| self.not_issued_here).map(Target::Authority);
        let targets: Vec<Target> =
            serial.into_iter().chain(issuer).chain(identity).chain(name).collect();
        // Refused later; nobody is asked about nothing.
        if targets.is_empty() { vec![Target::Site] } else { targets }
    }
}

/// The answer to [`Revoke`]: on disk, and enforced on this node.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Revoked {
    /// The certificates, the newest first.
    pub certificates: Vec<RevokedCertificate>,
    /// How many enrolments ended with it: nothing is renewed under them any more.
    pub enrolments_ended: usize,
    /// How many connections of this node were cut.
    pub connections_cut: usize,
    /// The number of the newest revocation of this node.
    pub sequence: u64,
    /// Sites that are linked now, and are being told.
    pub sites_told: Vec<String>,
    /// Why it is not known which connections were cut and which sites are being told. Absent while it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_unknown: Option<String>,
}

/// A certificate that is revoked.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RevokedCertificate {
    /// Serial number in hex.
    pub serial: String,
    /// SHA-256 of the issuer's public key, in hex.
    pub issuer_key_id: String,
    /// The identity it proved, if that is known.
    pub identity: Option<String>,
    /// Why.
    pub reason: String,
    /// Since when.
    pub at: Timestamp,
    /// When it expires, if that is known.
    pub not_after: Option<Timestamp>,
    /// Whether it was revoked before the call; always so in a list.
    pub already: bool,
}
