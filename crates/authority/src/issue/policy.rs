//! What is issued on request, and what never is. Pure: names and times in, a verdict out.

use std::net::IpAddr;
use std::time::Duration;

use handfast_pki::{IdentityKind, Name, Profile, SpiffeId, Subject};

use super::{IssueFor, IssueRefusal};
use crate::declared::Declared;
use crate::lifetimes::text;

/// A rule of the house that a request breaks.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyViolation {
    /// An address that nobody can be reached at.
    #[error("{address} is no address of a host: name the addresses that clients dial")]
    Address {
        /// The address.
        address: IpAddr,
    },
    /// The identity belongs to another trust domain.
    #[error(
        "the identity {identity} is not of this site's trust domain {ours}: ask the site that holds the root of its domain"
    )]
    ForeignDomain {
        /// The identity asked for.
        identity: String,
        /// Our trust domain.
        ours: String,
    },
    /// Nothing says who the certificate is for.
    #[error(
        "nothing says who a certificate of profile {profile} is for: name it with --name or --identity"
    )]
    NoIdentity {
        /// The profile.
        profile: Profile,
    },
    /// The profile is not for users.
    #[error(
        "certificates of profile {profile} are not issued on request: {}",
        instead(*profile)
    )]
    Profile {
        /// The profile.
        profile: Profile,
    },
    /// The identity of a site.
    #[error(
        "the identity {identity} is a site's: sites enrol with a token (`handfast token issue`), so that their links can be ended"
    )]
    SiteIdentity {
        /// The identity asked for.
        identity: String,
    },
    /// Longer than anything is issued for.
    #[error("a life of {} is too long: a year is the most, days are usual", text(*asked))]
    TtlTooLong {
        /// What was asked for.
        asked: Duration,
    },
    /// Shorter than anybody could use.
    #[error("a life of {asked:?} is too short to be of use: ten seconds is the least")]
    TtlTooShort {
        /// What was asked for.
        asked: Duration,
    },
}

impl PolicyViolation {
    /// A stable word for programs, metrics and the audit log.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Address { .. } => "bad-address",
            Self::ForeignDomain { .. } => "foreign-domain",
            Self::NoIdentity { .. } => "no-identity",
            Self::Profile { .. } => "profile",
            Self::SiteIdentity { .. } => "site-identity",
            Self::TtlTooLong { .. } => "life-too-long",
            Self::TtlTooShort { .. } => "life-too-short",
        }
    }
}

fn instead(profile: Profile) -> &'static str {
    match profile {
        Profile::Root | Profile::SiteCa => {
            "authorities are made by the site itself, and by `handfast ca`"
        }
        Profile::LinkClient => "a site gets its own with a token (`handfast token issue`)",
        _ => "the site makes its own",
    }
}

/// Only what is for applications and people; what the sites show each other comes about in other ways.
pub(super) fn profile(profile: Profile) -> Result<(), PolicyViolation> {
    match profile {
        Profile::Agent
        | Profile::Component
        | Profile::Operator
        | Profile::ServiceClient
        | Profile::ServiceServer => Ok(()),
        _ => Err(PolicyViolation::Profile { profile }),
    }
}

/// The names as a whole.
pub(super) fn subject(subject: &Subject, declared: &Declared) -> Result<(), PolicyViolation> {
    if let Some(identity) = &subject.identity {
        let ours = declared.effective_trust_domain();
        if ours.as_ref() != Some(identity.trust_domain()) {
            return Err(PolicyViolation::ForeignDomain {
                identity: identity.to_string(),
                ours: ours.map(|domain| domain.to_string()).unwrap_or_default(),
            });
        }
        if identity.kind() == Some(IdentityKind::Site) {
            return Err(PolicyViolation::SiteIdentity { identity: identity.to_string() });
        }
    }
    let nowhere = |address: &&IpAddr| {
        let broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
        address.is_unspecified() || address.is_multicast() || broadcast
    };
    match subject.ips.iter().find(nowhere) {
        Some(address) => Err(PolicyViolation::Address { address: *address }),
        None => Ok(()),
    }
}

/// A life that somebody asked for; that of the issuer bounds it further.
pub(super) fn ttl(asked: Duration) -> Result<Duration, PolicyViolation> {
    if asked < MIN_TTL {
        Err(PolicyViolation::TtlTooShort { asked })
    } else if asked > MAX_TTL {
        Err(PolicyViolation::TtlTooLong { asked })
    } else {
        Ok(asked)
    }
}

/// The identity for a profile that needs one, made of the common name; servers need none.
pub(super) fn identity_of(
    request: &IssueFor,
    asked: &Subject,
    declared: &Declared,
) -> Result<Option<SpiffeId>, IssueRefusal> {
    let kind = match request.profile {
        Profile::Agent => IdentityKind::Agent,
        Profile::Operator => IdentityKind::Operator,
        Profile::ServiceServer => return Ok(None),
        _ => IdentityKind::Component,
    };
    let text = request.common_name.as_deref().unwrap_or(&asked.common_name);
    let profile = request.profile;
    if text.is_empty() {
        return Err(PolicyViolation::NoIdentity { profile }.into());
    }
    let name: Name =
        text.parse().map_err(|source| IssueRefusal::Name { name: text.to_owned(), source })?;
    let Some(domain) = declared.effective_trust_domain() else {
        return Err(PolicyViolation::NoIdentity { profile }.into());
    };
    Ok(Some(SpiffeId::new(domain, kind, &name)))
}

const MIN_TTL: Duration = Duration::from_secs(10);
const MAX_TTL: Duration = Duration::from_secs(366 * 86_400);
