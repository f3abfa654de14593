//! Credentials as `handfast cert list` and `GET /v1/credentials` show them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One credential. The field names are a promise to scripts: name, identity, serial, issuer,
/// notBefore, notAfter, renewAt, source, state, key, failures, lastError. What cannot be known (the
/// certificate is missing or unreadable) is `null`; no field is ever left out.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct CredentialStatus {
    /// Its name.
    pub name: String,
    /// The SPIFFE ID, or the common name where there is none.
    pub identity: Option<String>,
    /// Serial number, lower-case hexadecimal.
    pub serial: Option<String>,
    /// Who signed it, as a distinguished name (RFC 4514).
    pub issuer: Option<String>,
    /// Start of validity.
    pub not_before: Option<Timestamp>,
    /// End of validity.
    pub not_after: Option<Timestamp>,
    /// When it will be renewed; `null` for supplied ones, which are never renewed by us.
    pub renew_at: Option<Timestamp>,
    /// Who looks after it.
    pub source: CredentialSource,
    /// How it is.
    pub state: CredentialState,
    /// Failures in a row to make or renew it.
    #[serde(default)]
    pub failures: u32,
    /// The last of them, in words.
    #[serde(default)]
    pub last_error: Option<String>,
    /// Where its key is and how it lies there; `null` where that cannot be known.
    #[serde(default)]
    pub key: Option<KeyPlace>,
}

/// Where a private key is, and how it lies there.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum KeyPlace {
    /// Not in this home: an issuer that is trusted here and signs elsewhere.
    Absent,
    /// In a file, encrypted.
    Encrypted,
    /// In the memory of the node only: made anew when it starts.
    Memory,
    /// In a file, readable for whoever may read the file.
    Plain,
    /// In a PKCS#11 token.
    Token,
}

/// Who looks after a credential.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum CredentialSource {
    /// We do: issued and renewed.
    Managed,
    /// We do, in the memory of the node only: the certificates of OCSP responders, which are in no file
    /// and made anew when the node starts.
    Memory,
    /// The user does; never written by us.
    Supplied,
}

/// How a credential is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum CredentialState {
    /// Present and unusable: unreadable, key does not match, wrong usage.
    Broken,
    /// Its validity is over.
    Expired,
    /// Its key is encrypted and cannot be opened, or is in a token that does not answer.
    Locked,
    /// Wanted and not there.
    Missing,
    /// Its validity has not begun.
    NotYetValid,
    /// A new one is staged and not yet proven.
    Renewing,
    /// Valid, and past the time to renew it.
    RenewalDue,
    /// Revoked by its issuer.
    Revoked,
    /// In use.
    Valid,
}

/// Credentials in figures.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct CredentialSummary {
    /// How many there are.
    pub total: usize,
    /// How many are in any state but valid or renewing.
    pub unhealthy: usize,
    /// The earliest end of validity.
    pub first_expiry: Option<Timestamp>,
    /// The next renewal.
    pub next_renewal: Option<Timestamp>,
}

impl CredentialSummary {
    /// The figures of `all`.
    pub fn of(all: &[CredentialStatus]) -> Self {
        let healthy = [CredentialState::Renewing, CredentialState::Valid];
        Self {
            total: all.len(),
            unhealthy: all.iter().filter(|one| !healthy.contains(&one.state)).count(),
            first_expiry: all.iter().filter_map(|one| one.not_after).min(),
            next_renewal: all.iter().filter_map(|one| one.renew_at).min(),
        }
    }
}
