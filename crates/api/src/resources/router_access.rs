//! The kind RouterAccess: where other sites may link to this one.

use std::collections::BTreeMap;

use handfast_pki::{Host, Name};
use serde::{Deserialize, Serialize};

use super::field::{is_false, parsed, parsed_list, parsed_option, port_option};
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
    /// `grant-port` is ours.
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
            Ok(AccessSettings { grant_port: Some(port) }) => Some(port),
            _ => self.link_port().and_then(|port| port.checked_add(1)),
        }
    }

    /// The settings as types.
    pub fn settings(&self) -> Result<AccessSettings, Invalid> {
        let grant_port: Option<u16> = settings::parsed(&self.settings, "grant-port")?;
        if grant_port == Some(0) {
            return Err(Invalid::error(
                "grant-port",
                "setting `grant-port` is 0",
                "use a port between 1 and 65535",
            ));
        }
        Ok(AccessSettings { grant_port })
    }

    pub(super) fn problems(&self) -> Vec<Invalid> {
        let mut problems = settings::unknown(&self.settings, &["grant-port"]);
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
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct AccessSettings {
    /// The port on which access tokens are redeemed.
    pub grant_port: Option<u16>,
}
