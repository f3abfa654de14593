//! The kind Link: an outgoing link to another site.

use std::collections::BTreeMap;

use handfast_pki::{Host, Name};
use serde::{Deserialize, Serialize};

use super::field::{parsed, parsed_option, port_text, positive};
use super::settings::RevocationPolicy;
use super::{Invalid, settings};

/// `spec` of a Link.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Link {
    /// Where the other site is reached, one endpoint per role.
    pub endpoints: Vec<Endpoint>,
    /// The client credential; the one named like the link when absent.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "parsed_option")]
    pub tls_credentials: Option<Name>,
    /// Dearer links are used later. At least 1, which is the default.
    #[serde(default = "one", with = "positive")]
    pub cost: u32,
    /// `revocation` is `warn` or `require`; `proxy-configuration` is Skupper's, read without effect yet.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
}

impl Link {
    /// The endpoint for links between sites: the one of role `inter-router`, or the only one.
    pub fn endpoint(&self) -> Option<&Endpoint> {
        let named = self
            .endpoints
            .iter()
            .find(|endpoint| endpoint.name.as_deref().is_some_and(|name| name == "inter-router"));
        match self.endpoints.as_slice() {
            [only] if only.name.is_none() => Some(only),
            _ => named,
        }
    }

    /// What is done where it cannot be told whether the other side's certificate is revoked.
    pub fn revocation(&self) -> RevocationPolicy {
        settings::parsed(&self.settings, "revocation").ok().flatten().unwrap_or_default()
    }

    pub(super) fn problems(&self) -> Vec<Invalid> {
        let known = ["proxy-configuration", "revocation"];
        let mut problems = settings::unknown(&self.settings, &known);
        if let Err(invalid) = settings::parsed::<RevocationPolicy>(&self.settings, "revocation") {
            problems.push(invalid);
        }
        if self.settings.contains_key("proxy-configuration") {
            problems.push(Invalid::warning(
                "proxy-configuration",
                "links through an HTTP proxy are not carried yet; the link is dialled directly",
                "remove the setting if the other site can be reached without the proxy",
            ));
        }
        if self.endpoint().is_none() {
            problems.push(Invalid::error(
                "endpoints",
                "no endpoint of role `inter-router`",
                "add one: `- name: inter-router`, with `host` and `port`",
            ));
        }
        problems
    }
}

/// One of `spec.endpoints`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// The role it serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The host; the other site's certificate must name it.
    #[serde(with = "parsed")]
    pub host: Host,
    /// The port, which Skupper writes as text.
    #[serde(with = "port_text")]
    pub port: u16,
    /// Which of the other site's routers this is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

/// The default cost.
pub(super) fn one() -> u32 {
    1
}
