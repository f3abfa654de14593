//! The certificate profiles: what each kind of certificate may do, and for how long by default.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::{Eku, IdentityKind};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// What a certificate is for. Each profile fixes basic constraints, key usage and extended key
/// usage; a requester has no say in them.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Profile {
    /// A telemetry agent: client authentication, identity `/agent/<service>`.
    Agent,
    /// An application's client identity: client authentication, identity `/component/<name>`.
    Component,
    /// One outgoing link: client authentication, identity `/site/<linking site>`.
    LinkClient,
    /// Answers OCSP requests for the CA that issued it: OCSP signing, and nothing else.
    OcspSigner,
    /// A person or tool that administers: client authentication, identity `/operator/<name>`.
    Operator,
    /// The root of a trust domain: signs site CAs, and cross-certifies the next root (path length 2).
    Root,
    /// A router towards a service, or a part of a site towards another: client authentication.
    ServiceClient,
    /// A listener's or component's server certificate: server authentication.
    ServiceServer,
    /// A site's CA: signs leaves only (path length 0).
    SiteCa,
    /// A site's incoming links: server authentication.
    SiteServer,
}

impl Profile {
    /// Every profile, in the order of their names.
    pub const ALL: [Self; 10] = [
        Self::Agent,
        Self::Component,
        Self::LinkClient,
        Self::OcspSigner,
        Self::Operator,
        Self::Root,
        Self::ServiceClient,
        Self::ServiceServer,
        Self::SiteCa,
        Self::SiteServer,
    ];

    /// How long a certificate of this profile lives unless asked otherwise (design section 5.5):
    /// leaves 24 hours, site CAs 90 days, roots 10 years.
    pub fn default_ttl(self) -> Duration {
        match self {
            Self::Root => 3650 * DAY,
            Self::SiteCa => 90 * DAY,
            _ => 24 * HOUR,
        }
    }

    /// Whether it signs certificates.
    pub fn is_ca(self) -> bool {
        matches!(self, Self::Root | Self::SiteCa)
    }

    /// Whether it authenticates a server, and nothing else.
    pub fn is_server(self) -> bool {
        matches!(self, Self::ServiceServer | Self::SiteServer)
    }

    /// Whether it authenticates a client, and nothing else.
    pub fn is_client(self) -> bool {
        !self.is_ca() && !self.is_server() && self != Self::OcspSigner
    }

    /// The one extended key usage of a leaf; `None` for a CA.
    pub fn eku(self) -> Option<Eku> {
        match self {
            _ if self.is_server() => Some(Eku::ServerAuth),
            _ if self.is_client() => Some(Eku::ClientAuth),
            Self::OcspSigner => Some(Eku::OcspSigning),
            _ => None,
        }
    }

    /// The path length constraint of a CA; `None` for a leaf.
    pub fn path_len(self) -> Option<u8> {
        match self {
            // A site CA, and for the time of a root rotation the next root between the two.
            Self::Root => Some(2),
            Self::SiteCa => Some(0),
            _ => None,
        }
    }

    /// The kinds of identity a certificate of this profile may carry; empty for a CA.
    pub fn identity_kinds(self) -> &'static [IdentityKind] {
        match self {
            Self::Agent => &[IdentityKind::Agent],
            Self::Component => &[IdentityKind::Component],
            Self::LinkClient | Self::SiteServer => &[IdentityKind::Site],
            Self::Operator => &[IdentityKind::Operator],
            Self::OcspSigner | Self::Root | Self::SiteCa => &[],
            Self::ServiceClient | Self::ServiceServer => {
                &[IdentityKind::Component, IdentityKind::Site]
            }
        }
    }

    /// The name used in settings, logs and the ledger, for example `link-client`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Component => "component",
            Self::LinkClient => "link-client",
            Self::OcspSigner => "ocsp-signer",
            Self::Operator => "operator",
            Self::Root => "root",
            Self::ServiceClient => "service-client",
            Self::ServiceServer => "service-server",
            Self::SiteCa => "site-ca",
            Self::SiteServer => "site-server",
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Profile {
    type Err = UnknownProfile;

    fn from_str(text: &str) -> Result<Self, UnknownProfile> {
        Self::ALL
            .into_iter()
            .find(|known| known.as_str() == text)
            .ok_or_else(|| UnknownProfile { text: text.to_owned() })
    }
}

/// A text that names none of the profiles.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "unknown certificate profile {text:?}: use agent, component, link-client, ocsp-signer, operator, root, service-client, service-server, site-ca or site-server"
)]
pub struct UnknownProfile {
    /// The text as given.
    pub text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_has_exactly_one_role() {
        for profile in Profile::ALL {
            let ocsp = profile == Profile::OcspSigner;
            let roles = [profile.is_ca(), profile.is_server(), profile.is_client(), ocsp];
            assert_eq!(roles.iter().filter(|role| **role).count(), 1, "{profile}");
            assert_eq!(profile.path_len().is_some(), profile.is_ca());
            assert_eq!(profile.eku().is_none(), profile.is_ca());
            assert_eq!(profile.to_string().parse(), Ok(profile));
        }
    }
}
