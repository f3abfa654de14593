//! The kind Notification: whom to tell when something goes wrong.

use std::collections::BTreeMap;

use handfast_pki::TrustAnchors;
use serde::{Deserialize, Serialize};

use super::{Invalid, settings};
use crate::notify::{Condition, HookAddress, Receiver};
use crate::secret::Secret;

/// `spec` of a Notification. Ours; Skupper has nothing like it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Notification {
    /// Where notices are posted: `https://host/path`, or `http://127.0.0.1:port/path`. Kept as a
    /// secret, because many web hooks have one in their path.
    pub url: Secret,
    /// PEM of the certificates that the receiver's certificate must chain to; needed for `https`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// What to be told of; everything when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// None has an effect here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
}

impl Notification {
    /// Who is told; `None` where the specification cannot be used.
    pub fn receiver(&self) -> Option<Receiver> {
        let address = self.url.reveal().parse().ok()?;
        let anchors = match &self.ca {
            Some(pem) => Some(TrustAnchors::from_pem(pem.as_bytes()).ok()?),
            None => None,
        };
        Some(Receiver { address, anchors })
    }

    /// Whether it wants to hear of this.
    pub fn wants(&self, condition: Condition) -> bool {
        self.conditions.is_empty() || self.conditions.contains(&condition)
    }

    pub(super) fn problems(&self) -> Vec<Invalid> {
        let mut problems = settings::unknown(&self.settings, &[]);
        match self.url.reveal().parse::<HookAddress>() {
            Err(error) => problems.push(Invalid::error(
                "url",
                format!("`url` cannot be used: {error}"),
                "write it as https://host/path, or http://127.0.0.1:port/path",
            )),
            Ok(address) if address.is_encrypted() && self.ca.is_none() => {
                problems.push(Invalid::error(
                    "ca",
                    "`ca` is missing, so the receiver could not be verified",
                    "add the PEM of the CA that signed the receiver's certificate",
                ));
            }
            Ok(_) => {}
        }
        if let Some(pem) = &self.ca
            && let Err(error) = TrustAnchors::from_pem(pem.as_bytes())
        {
            problems.push(Invalid::error(
                "ca",
                format!("`ca` holds no usable CA certificate: {error}"),
                "put the PEM of the receiver's CA there",
            ));
        }
        problems
    }
}
