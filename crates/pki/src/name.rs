//! The short names of sites, services and credentials. A name is safe as one path component, as a
//! SPIFFE path segment and as a Kubernetes object name; it is not a host name (see [`crate::DnsName`]).

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

/// A name: `[a-z0-9]([-a-z0-9.]*[a-z0-9])?`, 1 to 63 octets.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Name(String);

impl Name {
    /// The longest name, in octets.
    pub const MAX_LEN: usize = 63;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > Self::MAX_LEN {
            return Err(NameError::TooLong { length: text.len() });
        }
        if let Some(character) =
            text.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-' | '.'))
        {
            return Err(NameError::Character { name: text.to_owned(), character });
        }
        let edge = |c: Option<char>| c.is_some_and(|c| c == '-' || c == '.');
        if edge(text.chars().next()) || edge(text.chars().next_back()) {
            return Err(NameError::Edge { name: text.to_owned() });
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<&str> for Name {
    type Error = NameError;

    fn try_from(text: &str) -> Result<Self, NameError> {
        text.parse()
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

/// Why a text is not a [`Name`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// A character that no name may hold.
    #[error("name {name:?} holds {character:?}: use lower-case letters, digits, '-' and '.' only")]
    Character {
        /// The text as given.
        name: String,
        /// The first character that is not allowed.
        character: char,
    },
    /// Begins or ends with `-` or `.`.
    #[error("name {name:?} must begin and end with a lower-case letter or a digit")]
    Edge {
        /// The text as given.
        name: String,
    },
    /// Nothing at all.
    #[error("a name is empty: give 1 to 63 lower-case letters, digits, '-' or '.'")]
    Empty,
    /// More than [`Name::MAX_LEN`] octets.
    #[error("a name of {length} characters is too long: 63 at most")]
    TooLong {
        /// Length in octets.
        length: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn accepts_what_kubernetes_would() {
        for good in ["a", "west", "west-2", "0x", "handfast-site-ca", "a.b-c", &"a".repeat(63)] {
            assert_eq!(good.parse::<Name>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn refuses_with_the_reason() {
        assert_eq!("".parse::<Name>(), Err(NameError::Empty));
        assert!(matches!("West".parse::<Name>(), Err(NameError::Character { character: 'W', .. })));
        assert!(matches!("a/b".parse::<Name>(), Err(NameError::Character { character: '/', .. })));
        assert!(matches!("a\0".parse::<Name>(), Err(NameError::Character { .. })));
        for edge in ["-a", "a-", ".", "..", "a.", ".a"] {
            assert!(matches!(edge.parse::<Name>(), Err(NameError::Edge { .. })), "{edge}");
        }
        assert_eq!("a".repeat(64).parse::<Name>(), Err(NameError::TooLong { length: 64 }));
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_comes_back_unchanged(text in any::<String>()) {
            if let Ok(name) = text.parse::<Name>() {
                prop_assert_eq!(name.to_string(), text);
            }
        }

        #[test]
        fn every_good_name_is_accepted(text in "[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?") {
            prop_assert!(text.parse::<Name>().is_ok());
        }
    }
}
