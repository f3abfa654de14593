//! SPIFFE IDs: who a peer is. Parsed strictly (SPIFFE ID, section 2): no percent-encoding, no
//! query, no fragment, no port, no empty or dot segments. Any valid SPIFFE ID is read; the four
//! path shapes of our own (`/agent/x`, `/component/x`, `/operator/x`, `/site/x`) have a
//! [kind](SpiffeId::kind) and a [name](SpiffeId::name).

use std::fmt;
use std::str::FromStr;

use crate::{Name, TrustDomain, TrustDomainError};

/// What an identity stands for: the first segment of its SPIFFE path.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum IdentityKind {
    /// A telemetry agent: `/agent/<service>`.
    Agent,
    /// An application of the user's: `/component/<name>`.
    Component,
    /// A person or tool that administers: `/operator/<name>`.
    Operator,
    /// A site: `/site/<name>`.
    Site,
}

impl IdentityKind {
    /// Every kind, in the order of their names.
    pub const ALL: [Self; 4] = [Self::Agent, Self::Component, Self::Operator, Self::Site];

    /// The path segment, for example `site`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Component => "component",
            Self::Operator => "operator",
            Self::Site => "site",
        }
    }
}

impl fmt::Display for IdentityKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A SPIFFE ID, for example `spiffe://shop.example/site/west`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SpiffeId {
    trust_domain: TrustDomain,
    /// Without the leading slash; empty for the ID of a trust domain itself.
    path: String,
}

impl SpiffeId {
    /// The longest SPIFFE ID, in octets (SPIFFE ID, section 2.3).
    pub const MAX_LEN: usize = 2048;

    /// The identity of `name` in `trust_domain`.
    pub fn new(trust_domain: TrustDomain, kind: IdentityKind, name: &Name) -> Self {
        Self { trust_domain, path: format!("{kind}/{name}") }
    }

    /// The trust domain this identity belongs to.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// What the identity stands for, if it has the shape `/<kind>/<name>`; `None` for a trust
    /// domain itself and for identities of other systems.
    pub fn kind(&self) -> Option<IdentityKind> {
        self.parts().map(|(kind, _)| kind)
    }

    /// The name after the kind, if the identity has the shape `/<kind>/<name>`.
    pub fn name(&self) -> Option<Name> {
        self.parts().map(|(_, name)| name)
    }

    /// The path without its leading slash, for example `site/west`; empty for a trust domain.
    pub fn path(&self) -> &str {
        &self.path
    }

    fn parts(&self) -> Option<(IdentityKind, Name)> {
        let (kind, name) = self.path.split_once('/')?;
        let kind = IdentityKind::ALL.into_iter().find(|known| known.as_str() == kind)?;
        Some((kind, name.parse().ok()?))
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeError;

    fn from_str(text: &str) -> Result<Self, SpiffeError> {
        let shown = || text.chars().take(200).collect::<String>();
        if text.len() > Self::MAX_LEN {
            return Err(SpiffeError::TooLong { length: text.len() });
        }
        let Some(rest) = text.strip_prefix("spiffe://") else {
            return Err(SpiffeError::Scheme { id: shown() });
        };
        let (domain, path) = match rest.split_once('/') {
            Some((domain, path)) => (domain, Some(path)),
            None => (rest, None),
        };
        let trust_domain =
            domain.parse().map_err(|source| SpiffeError::TrustDomain { id: shown(), source })?;
        if let Some(path) = path {
            for segment in path.split('/') {
                if segment.is_empty() || segment == "." || segment == ".." {
                    return Err(SpiffeError::Segment { id: shown() });
                }
                if let Some(character) =
                    segment.chars().find(|c| !(c.is_ascii_alphanumeric() || "-._".contains(*c)))
                {
                    return Err(SpiffeError::Character { id: shown(), character });
                }
            }
        }
        Ok(Self { trust_domain, path: path.unwrap_or_default().to_owned() })
    }
}

impl TryFrom<&str> for SpiffeId {
    type Error = SpiffeError;

    fn try_from(text: &str) -> Result<Self, SpiffeError> {
        text.parse()
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}", self.trust_domain)?;
        if !self.path.is_empty() {
            write!(f, "/{}", self.path)?;
        }
        Ok(())
    }
}

/// Why a text is not a [`SpiffeId`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SpiffeError {
    /// A character that no path may hold; percent-encoding, queries and fragments among them.
    #[error(
        "identity {id:?} holds {character:?} in its path: SPIFFE allows letters, digits, '-', '.' and '_' only"
    )]
    Character {
        /// The text, shortened to 200 characters.
        id: String,
        /// The first character that is not allowed.
        character: char,
    },
    /// Another scheme, or none.
    #[error("identity {id:?} does not begin with spiffe:// (in lower case)")]
    Scheme {
        /// The text, shortened to 200 characters.
        id: String,
    },
    /// An empty segment, `.` or `..`.
    #[error(
        "identity {id:?} has an empty, '.' or '..' segment: write it as spiffe://domain/kind/name"
    )]
    Segment {
        /// The text, shortened to 200 characters.
        id: String,
    },
    /// More than [`SpiffeId::MAX_LEN`] octets.
    #[error("an identity of {length} octets is too long: 2048 at most")]
    TooLong {
        /// Length in octets.
        length: usize,
    },
    /// The trust domain is malformed.
    #[error("identity {id:?} names no valid trust domain: {source}")]
    TrustDomain {
        /// The text, shortened to 200 characters.
        id: String,
        /// What is wrong with it.
        source: TrustDomainError,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(text: &str) -> Result<SpiffeId, SpiffeError> {
        text.parse()
    }

    #[test]
    fn our_shapes_have_kind_and_name() {
        for kind in IdentityKind::ALL {
            let name: Name = "west-2".parse().unwrap();
            let made = SpiffeId::new("demo.example".parse().unwrap(), kind, &name);
            assert_eq!(made.to_string(), format!("spiffe://demo.example/{kind}/west-2"));
            let read = id(&made.to_string()).unwrap();
            assert_eq!(read, made);
            assert_eq!(read.kind(), Some(kind));
            assert_eq!(read.name(), Some(name));
            assert_eq!(read.trust_domain().as_str(), "demo.example");
        }
    }

    #[test]
    fn foreign_shapes_are_read_without_a_kind() {
        for foreign in [
            "spiffe://demo.example",
            "spiffe://cluster.local/ns/default/sa/web",
            "spiffe://demo.example/site",
            "spiffe://demo.example/site/west/more",
            "spiffe://demo.example/site/West",
            "spiffe://demo.example/Site/west",
        ] {
            let read = id(foreign).unwrap();
            assert_eq!((read.kind(), read.name()), (None, None), "{foreign}");
            assert_eq!(read.to_string(), foreign);
        }
    }

    #[test]
    fn refuses_what_spiffe_refuses() {
        for bad in [
            "",
            "spiffe:/demo.example/a",
            "SPIFFE://demo.example/a",
            "https://demo.example/a",
            "spiffe://",
            "spiffe:///a",
            "spiffe://Demo.example/a",
            "spiffe://demo.example:443/a",
            "spiffe://user@demo.example/a",
            "spiffe://demo.example/",
            "spiffe://demo.example/a/",
            "spiffe://demo.example//a",
            "spiffe://demo.example/./a",
            "spiffe://demo.example/../a",
            "spiffe://demo.example/a%20b",
            "spiffe://demo.example/a?b",
            "spiffe://demo.example/a#b",
            "spiffe://demo.example/a\0",
            "spiffe://demo.example/\u{430}",
            " spiffe://demo.example/a",
        ] {
            assert!(id(bad).is_err(), "{bad}");
        }
        let long = format!("spiffe://demo.example/{}", "a".repeat(2048));
        assert!(matches!(id(&long), Err(SpiffeError::TooLong { .. })));
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_comes_back_unchanged(text in any::<String>()) {
            if let Ok(read) = id(&text) {
                prop_assert_eq!(read.to_string(), text);
            }
        }

        #[test]
        fn near_misses_never_panic(text in "spiffe://[a-zA-Z0-9:@%./?#_-]{0,60}") {
            if let Ok(read) = id(&text) {
                prop_assert_eq!(read.to_string(), text);
                prop_assert_eq!(read.kind().is_some(), read.name().is_some());
            }
        }
    }
}
