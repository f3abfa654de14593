//! The kind Site: this node's place in the network.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use handfast_authority::Lifetimes;
use handfast_pki::{Host, Name, TrustDomain};
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
    /// `trust-domain`, `leaf-ttl`, `ca-ttl`, `renewal-grace`, `two-person` and `admin-port`, `-host`, `-names` are ours; Skupper's are accepted without effect.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
}

impl Site {
    /// The settings as types.
    pub fn settings(&self) -> Result<SiteSettings, Invalid> {
        Ok(SiteSettings {
            trust_domain: settings::parsed(&self.settings, "trust-domain")?,
            lifetimes: self.lifetimes()?,
            two_person: settings::parsed::<TwoPerson>(&self.settings, "two-person")?
                .unwrap_or_default(),
            admin: self.admin()?,
        })
    }

    /// Where the admin API is served to operators elsewhere; nowhere unless a port is given.
    fn admin(&self) -> Result<Option<AdminAccess>, Invalid> {
        let host: Option<IpAddr> = settings::parsed(&self.settings, "admin-host")?;
        let names = match self.settings.get("admin-names") {
            None => Vec::new(),
            Some(list) => list
                .split(',')
                .map(|name| name.trim().parse::<Host>())
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| {
                    Invalid::error(
                        "admin-names",
                        format!("setting `admin-names`: {error}"),
                        "list host names and addresses, separated by commas",
                    )
                })?,
        };
        let Some(port) = settings::parsed::<u16>(&self.settings, "admin-port")? else {
            return Ok(None);
        };
        if port == 0 {
            return Err(Invalid::error(
                "admin-port",
                "setting `admin-port` is 0",
                "use a port between 1 and 65535",
            ));
        }
        let host = host.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        Ok(Some(AdminAccess { bind: SocketAddr::new(host, port), names }))
    }

    fn lifetimes(&self) -> Result<Lifetimes, Invalid> {
        let text = |key: &str| self.settings.get(key).map(String::as_str);
        let parsed = Lifetimes::parse(text("leaf-ttl"), text("ca-ttl"), text("renewal-grace"));
        parsed.map_err(|error| {
            let given = ["leaf-ttl", "renewal-grace"].into_iter().find(|key| text(key).is_some());
            let field = given.unwrap_or("ca-ttl");
            Invalid::error(field, error.to_string(), "the site keeps no credentials until then")
        })
    }

    pub(super) fn problems(&self) -> Vec<Invalid> {
        let mut problems = settings::unknown(&self.settings, &KNOWN_SETTINGS);
        problems.extend(self.settings().err());
        if !self.settings.contains_key("admin-port")
            && let Some(key) = ["admin-host", "admin-names"]
                .into_iter()
                .find(|key| self.settings.contains_key(*key))
        {
            problems.push(Invalid::warning(
                "settings",
                format!("setting `{key}` has no effect without `admin-port`"),
                "add `admin-port`, or remove it",
            ));
        }
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
    /// What two persons have to want.
    pub two_person: TwoPerson,
    /// Where the admin API is served to operators elsewhere; nowhere when absent.
    pub admin: Option<AdminAccess>,
}

/// What the two-person rule is about.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum TwoPerson {
    /// Nothing.
    #[default]
    None,
    /// Whatever moves the root of trust: rotating, revoking, replacing it.
    Root,
}

impl FromStr for TwoPerson {
    type Err = UnknownTwoPerson;

    fn from_str(text: &str) -> Result<Self, UnknownTwoPerson> {
        match text {
            "none" => Ok(Self::None),
            "root" => Ok(Self::Root),
            _ => Err(UnknownTwoPerson),
        }
    }
}

/// A text that says nothing about the two-person rule.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`root` or `none`")]
pub struct UnknownTwoPerson;

/// Where the admin API is served to operators elsewhere.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AdminAccess {
    /// Where to listen; on loopback unless told otherwise.
    pub bind: SocketAddr,
    /// Further names and addresses for the server's certificate, which has those of loopback anyway.
    pub names: Vec<Host>,
}

impl AdminAccess {
    /// What the server's certificate has to name, besides loopback.
    pub fn hosts(&self) -> Vec<Host> {
        let mut hosts = self.names.clone();
        let ip = self.bind.ip();
        if !ip.is_unspecified() && !ip.is_loopback() && !hosts.contains(&Host::Ip(ip)) {
            hosts.push(Host::Ip(ip));
        }
        hosts
    }
}

/// Ours first, then what Skupper documents or its code reads.
const KNOWN_SETTINGS: [&str; 16] = [
    "trust-domain",
    "leaf-ttl",
    "ca-ttl",
    "renewal-grace",
    "two-person",
    "admin-port",
    "admin-host",
    "admin-names",
    "router-logging",
    "routerLogging",
    "router-data-connection-count",
    "routerDataConnections",
    "disable-anti-affinity",
    "size",
    "tls-prior-valid-revisions",
    "ingressClassName",
];
