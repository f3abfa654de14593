//! Bodies of the calls about the keys of authorities: how they lie on disk, and certificates that are
//! signed elsewhere.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::access::{About, Target};

/// `POST /v1/authorities/protection`: have the keys on disk encrypted, or not any more.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ProtectKeys {
    /// Which keys are to be encrypted.
    pub keys: ProtectedKeys,
}

/// Which keys are to be encrypted.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ProtectedKeys {
    /// Those of authorities and of certificates.
    Everything,
    /// Those of authorities.
    Issuers,
    /// None.
    Off,
}

/// The answer to [`ProtectKeys`].
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct KeysProtected {
    /// The credentials whose key files were rewritten.
    pub changed: Vec<String>,
    /// How many key files were as they should be.
    pub unchanged: usize,
}

/// `POST /v1/authorities/requests`: make requests for certificates that are signed elsewhere.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct RequestAuthorities {
    /// Which authorities, such as `handfast-site-ca`; all that only a key elsewhere can sign, if empty.
    pub names: Vec<String>,
}

/// The answer to [`RequestAuthorities`].
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RequestedAuthorities {
    /// One for each authority.
    pub requests: Vec<RequestedAuthority>,
}

/// A request for the certificate of an authority.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RequestedAuthority {
    /// The authority.
    pub name: String,
    /// The name it asks for.
    pub common_name: String,
    /// The request, PEM.
    pub csr: String,
    /// SHA-256 of its public key, hexadecimal: to be compared by another way than the file.
    pub key_id: String,
}

/// `POST /v1/authorities/certificates`: put certificates to use that were signed elsewhere.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct InstallAuthorities {
    /// The certificates and what is above them, PEM.
    pub certificates: String,
}

/// The answer to [`InstallAuthorities`].
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct InstalledAuthorities {
    /// One for each authority.
    pub installed: Vec<InstalledAuthority>,
}

/// A certificate that is in use.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct InstalledAuthority {
    /// The authority.
    pub name: String,
    /// Serial number, hexadecimal.
    pub serial: String,
    /// Who signed it.
    pub issuer: String,
    /// End of validity.
    pub not_after: Timestamp,
    /// Whether it was in use before.
    pub was_there: bool,
}

impl About for ProtectKeys {
    fn about(&self) -> Vec<Target> {
        vec![Target::Site]
    }
}

impl About for RequestAuthorities {
    fn about(&self) -> Vec<Target> {
        if self.names.is_empty() {
            return vec![Target::Site];
        }
        self.names.iter().cloned().map(Target::Authority).collect()
    }
}

impl About for InstallAuthorities {
    fn about(&self) -> Vec<Target> {
        vec![Target::Site]
    }
}
