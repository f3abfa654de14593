//! The kind Certificate: a credential asked for by name.

use std::collections::BTreeMap;

use handfast_pki::{Host, Name};
use serde::{Deserialize, Serialize};

use super::Invalid;
use super::field::{is_false, parsed, parsed_list};

/// `spec` of a Certificate.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Certificate {
    /// The signing credential.
    #[serde(with = "parsed")]
    pub ca: Name,
    /// The common name.
    pub subject: String,
    /// The SANs.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "parsed_list")]
    pub hosts: Vec<Host>,
    /// Whether it may act as a client.
    #[serde(default, skip_serializing_if = "is_false")]
    pub client: bool,
    /// Whether it may act as a server.
    #[serde(default, skip_serializing_if = "is_false")]
    pub server: bool,
    /// Whether it may sign.
    #[serde(default, skip_serializing_if = "is_false")]
    pub signing: bool,
    /// None has an effect here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
}

impl Certificate {
    pub(super) fn problems(&self) -> Vec<Invalid> {
        let mut problems = vec![Invalid::warning(
            "kind",
            "a Certificate is read but not issued yet",
            "name the credential where it is needed (`tlsCredentials`); it is made when it is missing",
        )];
        if self.signing && (self.client || self.server) {
            problems.push(Invalid::error(
                "signing",
                "a certificate that signs cannot also act as a client or a server",
                "declare two Certificates",
            ));
        }
        problems
    }
}
