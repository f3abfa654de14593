//! The kind Site: this node's place in the network.

use std::collections::BTreeMap;

use handfast_authority::Lifetimes;
use handfast_pki::{Name, TrustDomain};
use serde::{Deserialize, Serialize};

use super::field::{is_false, parsed_option};
use super::{Invalid, settings};

/// `spec` of a Site.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Site {
    /// Whether and how other sites may link to this one. Anything but `none` opens the link port of
    /// a default RouterAccess when no RouterAccess is declared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_access: Option<LinkAccess>,
    /// Name of the signing credential; `handfast-site-ca` when absent.
    #[serde(skip_serializing_if = "Option::is_none", with = "parsed_option")]
    pub default_issuer: Option<Name>,
    /// An edge site links but is never linked through.
    #[serde(skip_serializing_if = "is_false")]
    pub edge: bool,
    /// Two routers. Has no effect outside Kubernetes.
    #[serde(skip_serializing_if = "is_false")]
    pub ha: bool,
    /// Kubernetes service account. Has no effect outside Kubernetes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
    /// `trust-domain`, `leaf-ttl` and `ca-ttl` are ours; Skupper's are accepted without effect.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
}

impl Site {
    /// The settings as types.
    pub fn settings(&self) -> Result<SiteSettings, Invalid> {
        Ok(SiteSettings {
            trust_domain: settings::parsed(&self.settings, "trust-domain")?,
            lifetimes: self.lifetimes()?,
        })
    }

    fn lifetimes(&self) -> Result<Lifetimes, Invalid> {
        let text = |key: &str| self.settings.get(key).map(String::as_str);
        Lifetimes::parse(text("leaf-ttl"), text("ca-ttl")).map_err(|error| {
            let field = if text("leaf-ttl").is_some() { "leaf-ttl" } else { "ca-ttl" };
            Invalid::error(field, error.to_string(), "the site keeps no credentials until then")
        })
    }

    pub(super) fn problems(&self) -> Vec<Invalid> {
        let mut problems = settings::unknown(&self.settings, &KNOWN_SETTINGS);
        problems.extend(self.settings().err());
        if self.edge {
            problems.push(Invalid::warning(
                "edge",
                "edge sites are not told apart yet: this site links like any other",
                "remove `edge` to be rid of this warning",
            ));
        }
        if self.edge && self.ha {
            problems.push(Invalid::error(
                "ha",
                "`edge` and `ha` exclude each other",
                "remove one of the two",
            ));
        }
        problems
    }
}

/// `spec.linkAccess`, with Skupper's values.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(
    missing_docs,
    reason = "Skupper's ways of exposing a port; outside Kubernetes all but `None` mean the same"
)]
pub enum LinkAccess {
    ContourHttpProxy,
    Default,
    Gateway,
    Ingress,
    IngressNginx,
    Loadbalancer,
    Local,
    None,
    Nodeport,
    Route,
}

/// The settings of a site that have an effect here.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SiteSettings {
    /// The trust domain this site is the root of; absent for a standalone site.
    pub trust_domain: Option<TrustDomain>,
    /// How long its credentials live.
    pub lifetimes: Lifetimes,
}

/// Ours first, then what Skupper documents or its code reads.
const KNOWN_SETTINGS: [&str; 11] = [
    "trust-domain",
    "leaf-ttl",
    "ca-ttl",
    "router-logging",
    "routerLogging",
    "router-data-connection-count",
    "routerDataConnections",
    "disable-anti-affinity",
    "size",
    "tls-prior-valid-revisions",
    "ingressClassName",
];
