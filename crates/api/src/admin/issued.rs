//! What the site has issued, over the admin API: whose a serial number is, what an identity holds, what ends soon.

use handfast_pki::{CertificateId, Chain};
use handfast_store::{IssuedFilter, RecordedIssued, Revocation};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::client::{Client, ClientError};
use super::listing;
use super::message::{Refusal, RefusalCode};
use crate::access::{About, Target};

/// `GET /v1/certificates`: what fits, the newest first. Conditions add up.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct FindIssued {
    /// Only this serial number, in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Only what proves this identity: a SPIFFE ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// Only what has exactly this among its names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Only what ends before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_before: Option<Timestamp>,
    /// Also what has expired; not when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expired: Option<bool>,
    /// Only what was issued before the one of this number: the next page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// At most so many, and never more than 1000; 50 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

impl FindIssued {
    /// The most certificates of one answer.
    pub const MOST: u32 = listing::MOST;

    /// The same in the words of the ledger.
    ///
    /// # Errors
    /// A refusal, if the serial or the identity is none.
    pub fn filter(&self, now: Timestamp) -> Result<IssuedFilter, Refusal> {
        Ok(IssuedFilter {
            serial: self.serial.as_deref().map(|text| parsed("serial", text)).transpose()?,
            identity: self.identity.as_deref().map(|text| parsed("identity", text)).transpose()?,
            name: self.name.clone(),
            expires_before: self.expires_before,
            unexpired_at: (self.expired != Some(true)).then_some(now),
            before_number: self.before,
            limit: Some(listing::answered(self.limit)),
            ..IssuedFilter::default()
        })
    }
}

impl About for FindIssued {
    fn about(&self) -> Vec<Target> {
        vec![Target::Site]
    }
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(
    what: &str,
    text: &str,
) -> Result<T, Refusal> {
    text.parse().map_err(|error| {
        Refusal::new(
            RefusalCode::Invalid,
            format!("the {what} to look for is none: {error}"),
            "see `handfast cert list --help`",
        )
    })
}

/// A certificate that the site has issued.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IssuedView {
    /// Its number in the ledger.
    pub number: u64,
    /// Serial number in hex.
    pub serial: String,
    /// The name of its issuer, as the certificate has it.
    pub issuer: Option<String>,
    /// SHA-256 of the issuer's public key, in hex.
    pub issuer_key_id: String,
    /// The identity it proves.
    pub identity: Option<String>,
    /// Its common name, DNS names and addresses.
    pub names: Vec<String>,
    /// What it was made for.
    pub profile: String,
    /// Valid from.
    pub not_before: Timestamp,
    /// Valid until.
    pub not_after: Timestamp,
    /// The enrolment it descends from: what is revoked together.
    pub enrolment: String,
    /// Whether that was ended: nothing is renewed under it.
    pub enrolment_ended: bool,
    /// SHA-256 of the certificate, in hex.
    pub fingerprint: String,
    /// Since when it is revoked, if it is.
    pub revoked_at: Option<Timestamp>,
    /// Why it is revoked, if it is.
    pub revocation_reason: Option<String>,
}

impl IssuedView {
    /// The record, with what became of it.
    pub fn of(
        recorded: &RecordedIssued,
        revocation: Option<&Revocation>,
        enrolment_ended: bool,
    ) -> Self {
        let issued = &recorded.issued;
        let chain = Chain::from_pem(issued.pem.as_bytes()).ok();
        let id =
            CertificateId { issuer_key_id: issued.issuer_key_id, serial: issued.serial.clone() };
        Self {
            number: recorded.number,
            serial: issued.serial.to_string(),
            issuer: chain.map(|chain| chain.leaf().issuer().to_owned()),
            issuer_key_id: id.issuer_hex(),
            identity: issued.identity.as_ref().map(ToString::to_string),
            names: issued.names.clone(),
            profile: issued.profile.to_string(),
            not_before: issued.not_before,
            not_after: issued.not_after,
            enrolment: issued.lineage.to_string(),
            enrolment_ended,
            fingerprint: issued.fingerprint.to_string(),
            revoked_at: revocation.map(|revocation| revocation.at),
            revocation_reason: revocation.map(|revocation| revocation.reason.to_string()),
        }
    }
}

impl Client {
    /// What the site has issued.
    pub async fn issued(&self, search: &FindIssued) -> Result<Vec<IssuedView>, ClientError> {
        self.find("/v1/certificates", search).await
    }
}
