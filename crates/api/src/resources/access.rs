//! The kinds AccessGrant (an invitation this site offers) and AccessToken (an invitation of another
//! site, to be redeemed here).

use std::collections::BTreeMap;

use handfast_pki::{Name, TrustAnchors};
use handfast_store::Audience;
use serde::{Deserialize, Serialize};

use super::field::{parsed_option, positive};
use super::link::one;
use super::{Invalid, Span, settings};
use crate::grants::GrantUrl;
use crate::secret::Secret;

/// `spec` of an AccessGrant.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AccessGrant {
    /// How many sites may redeem it. At least 1, which is the default.
    #[serde(default = "one", with = "positive")]
    pub redemptions_allowed: u32,
    /// How long it may be redeemed; 15 minutes when absent.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "parsed_option")]
    pub expiration_window: Option<Span>,
    /// The code to be presented. One is made when it is absent, which is better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Secret>,
    /// The signing credential; the site's default issuer when absent.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "parsed_option")]
    pub issuer: Option<Name>,
    /// `site` and `agent` are ours: only a site of this name, or only telemetry agents of this service, may redeem.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
}

impl AccessGrant {
    /// Whom it is for, by its settings.
    pub fn audience(&self) -> Result<Audience, Invalid> {
        let site = settings::parsed(&self.settings, "site")?;
        let agent = settings::parsed(&self.settings, "agent")?;
        match (site, agent) {
            (None, None) => Ok(Audience::AnySite),
            (Some(site), None) => Ok(Audience::Site(site)),
            (None, Some(service)) => Ok(Audience::Agent(service)),
            (Some(_), Some(_)) => Err(Invalid::error(
                "settings",
                "settings `site` and `agent` are both given, and a grant is for one of them",
                "declare two AccessGrants",
            )),
        }
    }

    pub(super) fn problems(&self) -> Vec<Invalid> {
        let mut problems = settings::unknown(&self.settings, &["agent", "site"]);
        problems.extend(self.audience().err());
        if self.code.as_ref().is_some_and(|code| code.reveal().len() < 16) {
            problems.push(Invalid::error(
                "code",
                "`code` is shorter than 16 characters and could be guessed",
                "remove it: a random one is made",
            ));
        }
        problems
    }
}

impl Default for AccessGrant {
    fn default() -> Self {
        Self {
            redemptions_allowed: one(),
            expiration_window: None,
            code: None,
            issuer: None,
            settings: BTreeMap::new(),
        }
    }
}

/// `spec` of an AccessToken.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AccessToken {
    /// Where it is redeemed: `https://host:port/...`.
    pub url: String,
    /// What is presented there.
    pub code: Secret,
    /// PEM of the certificates that the issuing site's server must chain to.
    pub ca: String,
    /// Cost of the link that it makes. At least 1, which is the default.
    #[serde(default = "one", with = "positive")]
    pub link_cost: u32,
    /// `agent` is ours: it links nothing, but enrols telemetry agents of this service.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
}

impl AccessToken {
    /// The service whose agents it enrols, if it is for agents.
    pub fn agent(&self) -> Result<Option<Name>, Invalid> {
        settings::parsed(&self.settings, "agent")
    }

    pub(super) fn problems(&self) -> Vec<Invalid> {
        let mut problems = settings::unknown(&self.settings, &["agent"]);
        problems.extend(self.agent().err());
        if let Err(error) = self.url.parse::<GrantUrl>() {
            problems.push(Invalid::error(
                "url",
                format!("`url` is {:?}: {error}", self.url),
                "ask the other site for a new token",
            ));
        }
        if self.code.is_empty() {
            problems.push(Invalid::error(
                "code",
                "`code` is empty",
                "ask the other site for a new token",
            ));
        }
        if let Err(error) = TrustAnchors::from_pem(self.ca.as_bytes()) {
            problems.push(Invalid::error(
                "ca",
                format!("`ca` holds no usable CA certificate: {error}"),
                "ask the other site for a new token",
            ));
        }
        problems
    }
}
