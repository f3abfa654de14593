//! `POST /v1/certificates`: a certificate for whoever holds the key of a request.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::access::{About, Target};

/// What is asked for. The names that the certificate will carry are all here: a request that asks for
/// others is refused, so that who may have what can be decided without opening it.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct IssueCertificate {
    /// What it is for: `agent`, `component`, `operator`, `service-client` or `service-server`.
    pub profile: String,
    /// The certificate request, in PEM.
    pub csr: String,
    /// The identity that it is to prove, a SPIFFE ID; a server may do without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// The DNS names and IP addresses of a server.
    pub hosts: Vec<String>,
    /// The name for people; that of the identity when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub common_name: Option<String>,
    /// How long it is to live, such as `24h`; as long as the site's leaves when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
    /// Which issuer of the site signs; the one meant for the profile when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Why, for the audit log.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
}

/// The answer to [`IssueCertificate`]; the certificate is in the ledger.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct IssuedCertificate {
    /// The certificate and what signed it, in PEM, leaf first.
    pub certificate: String,
    /// The anchors that it leads up to, in PEM.
    pub ca: String,
    /// What it is for.
    pub profile: String,
    /// The identity that it proves.
    pub identity: Option<String>,
    /// The DNS names and IP addresses in it.
    pub hosts: Vec<String>,
    /// Serial number, lower-case hexadecimal.
    pub serial: String,
    /// The name of the issuer in the site's home.
    pub issuer: String,
    /// The enrolment, under which it can be revoked with all others for the same key.
    pub lineage: String,
    /// Start of validity.
    pub not_before: Timestamp,
    /// End of validity.
    pub not_after: Timestamp,
}

impl About for IssueCertificate {
    /// Everybody who could be taken for its holder: the identity and every host.
    fn about(&self) -> Vec<Target> {
        let mut named: Vec<Target> =
            self.identity.iter().chain(&self.hosts).cloned().map(Target::Identity).collect();
        if named.is_empty() {
            named.extend(self.common_name.iter().cloned().map(Target::Identity));
        }
        if named.is_empty() { vec![Target::Site] } else { named }
    }
}
