//! The kind RouterAccess: where other sites may link to this one.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::str::FromStr;

use handfast_pki::{Host, Name};
use serde::{Deserialize, Serialize};

use super::field::{is_false, parsed, parsed_list, parsed_option, port_option};
use super::settings::RevocationPolicy;
use super::{Invalid, settings};

/// `spec` of a RouterAccess.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RouterAccess {
    /// How the port is exposed. Has no effect outside Kubernetes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_type: Option<String>,
    /// What is offered on which port.
    pub roles: Vec<Role>,
    /// The server credential; usually `handfast-site-server`.
    #[serde(with = "parsed")]
    pub tls_credentials: Name,
    /// Whether the credential is made when it is missing. We always make it; accepted as it is.
    #[serde(default, skip_serializing_if = "is_false")]
    pub generate_tls_credentials: bool,
    /// The signing credential; the site's default issuer when absent.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "parsed_option")]
    pub issuer: Option<Name>,
    /// The address to listen on; all addresses when absent.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "parsed_option")]
    pub bind_host: Option<Host>,
    /// The names under which other sites reach this one: the SANs of the server certificate.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "parsed_list")]
    pub subject_alternative_names: Vec<Host>,
    /// `grant-port`, `revocation-port` and `revocation-url` are ours.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
}

impl RouterAccess {
    /// The port for links between sites, if that role is offered.
    pub fn link_port(&self) -> Option<u16> {
        self.roles.iter().find(|role| role.name == RoleName::InterRouter).map(Role::port)
    }

    /// The port on which access tokens are redeemed: the `grant-port` setting, else the one after
    /// the link port. `None` where there is no link port, or no port after it.
    pub fn grant_port(&self) -> Option<u16> {
        match self.settings() {
            Ok(AccessSettings { grant_port: Some(port), .. }) => Some(port),
            _ => self.link_port().and_then(|port| port.checked_add(1)),
        }
    }

    /// The settings as types.
    pub fn settings(&self) -> Result<AccessSettings, Invalid> {
        let port = |key: &'static str| match settings::parsed(&self.settings, key)? {
            Some(0) => Err(Invalid::error(
                key,
                format!("setting `{key}` is 0"),
                "use a port between 1 and 65535",
            )),
            port => Ok(port),
        };
        Ok(AccessSettings {
            grant_port: port("grant-port")?,
            revocation: settings::parsed(&self.settings, "revocation")?.unwrap_or_default(),
            revocation_port: port("revocation-port")?,
            revocation_url: settings::parsed(&self.settings, "revocation-url")?,
        })
    }

    /// The base URL under which revocation is handed out, for the pointers in certificates: the
    /// `revocation-url` setting, else the first host of this access with the `revocation-port`. `None` where
    /// nothing is handed out.
    pub fn distribution(&self) -> Option<String> {
        let AccessSettings { revocation_port, revocation_url, .. } = self.settings().ok()?;
        let port = revocation_port?;
        if let Some(DistributionUrl(url)) = revocation_url {
            return Some(url);
        }
        let host = match self.hosts().into_iter().next()? {
            Host::Ip(IpAddr::V6(address)) => format!("[{address}]"),
            host => host.to_string(),
        };
        Some(format!("http://{host}:{port}"))
    }

    fn revocation_problem(&self) -> Option<Invalid> {
        let AccessSettings { revocation_port, revocation_url, .. } = self.settings().ok()?;
        let Some(port) = revocation_port else {
            return revocation_url.map(|_| {
                Invalid::warning(
                    "revocation-url",
                    "setting `revocation-url` has no effect without `revocation-port`",
                    "set `revocation-port` to the port where CRLs and OCSP are to be served",
                )
            });
        };
        let taken = Some(port) == self.link_port() || Some(port) == self.grant_port();
        taken.then(|| {
            Invalid::error(
                "revocation-port",
                "setting `revocation-port` is the link port or the grant port",
                "choose another port",
            )
        })
    }

    pub(super) fn problems(&self) -> Vec<Invalid> {
        let mut problems = settings::unknown(&self.settings, &KNOWN_SETTINGS);
        if let Err(invalid) = self.settings() {
            problems.push(invalid);
        } else if self.link_port().is_some() && self.grant_port() == self.link_port() {
            problems.push(Invalid::error(
                "grant-port",
                "setting `grant-port` is the link port itself",
                "choose another port",
            ));
        } else if self.link_port().is_some() && self.grant_port().is_none() {
            problems.push(Invalid::error(
                "port",
                "there is no port after 65535 for redeeming tokens",
                "set `settings.grant-port`, or choose a lower link port",
            ));
        }
        problems.extend(self.revocation_problem());
        if self.roles.is_empty() {
            problems.push(Invalid::error(
                "roles",
                "`roles` is empty",
                "add `- name: inter-router`",
            ));
        }
        for name in [RoleName::Edge, RoleName::InterRouter] {
            if self.roles.iter().filter(|role| role.name == name).count() > 1 {
                problems.push(Invalid::error(
                    "roles",
                    format!("role `{}` is listed more than once", name.as_str()),
                    "keep one of them",
                ));
            }
        }
        problems
    }
}

/// One of `spec.roles`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// What is offered.
    pub name: RoleName,
    /// On which port; [`Role::port`] knows the default.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "port_option")]
    pub port: Option<u16>,
}

impl Role {
    /// The port, or Skupper's default for this role.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(match self.name {
            RoleName::Edge => 45_671,
            RoleName::InterRouter => 55_671,
        })
    }
}

/// The roles of `spec.roles[].name`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RoleName {
    /// Links of sites that are never linked through. Read, not offered yet.
    Edge,
    /// Links between sites.
    InterRouter,
}

impl RoleName {
    /// As written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::InterRouter => "inter-router",
        }
    }
}

/// The settings of a RouterAccess that have an effect here.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AccessSettings {
    /// The port on which access tokens are redeemed.
    pub grant_port: Option<u16>,
    /// What is done where it cannot be told whether a linking site's certificate is revoked.
    pub revocation: RevocationPolicy,
    /// The port on which CRLs and OCSP are served; absent where they are not.
    pub revocation_port: Option<u16>,
    /// Where others reach that port, if not under this access's own first host.
    pub revocation_url: Option<DistributionUrl>,
}

/// A base URL for pointers in certificates: `http://host[:port][/path]`, without a slash at its end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DistributionUrl(String);

impl FromStr for DistributionUrl {
    type Err = DistributionUrlError;

    fn from_str(text: &str) -> Result<Self, DistributionUrlError> {
        let url = text.strip_suffix('/').unwrap_or(text);
        let rest = url.strip_prefix("http://").unwrap_or_default();
        let plain =
            url.bytes().all(|octet| octet.is_ascii_graphic() && !b"?#\"<>".contains(&octet));
        if rest.is_empty() || rest.starts_with('/') || url.len() > 512 || !plain {
            return Err(DistributionUrlError);
        }
        Ok(Self(url.to_owned()))
    }
}

/// The text is no such URL.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "it is no plain http:// URL such as http://pki.example:8889 (https is of no use here: what is handed out is signed, and must be readable before any certificate can be checked)"
)]
pub struct DistributionUrlError;

const KNOWN_SETTINGS: [&str; 4] = ["grant-port", "revocation", "revocation-port", "revocation-url"];
