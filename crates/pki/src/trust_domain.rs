//! The name of a trust domain: everything under one root of trust (design section 2).

use std::fmt;
use std::str::FromStr;

/// A trust domain name, for example `shop.example`: dot-separated labels of lower-case letters,
/// digits, `-` and `_`, at most 255 octets (SPIFFE ID, section 2.1).
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TrustDomain(String);

impl TrustDomain {
    /// The longest trust domain name, in octets.
    pub const MAX_LEN: usize = 255;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TrustDomain {
    type Err = TrustDomainError;

    fn from_str(text: &str) -> Result<Self, TrustDomainError> {
        if text.is_empty() {
            return Err(TrustDomainError::Empty);
        }
        if text.len() > Self::MAX_LEN {
            return Err(TrustDomainError::TooLong { length: text.len() });
        }
        let given = || text.to_owned();
        if let Some(character) =
            text.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-' | '.' | '_'))
        {
            return Err(TrustDomainError::Character { name: given(), character });
        }
        // SPIFFE allows empty labels; nothing that calls itself a domain has them, and they only
        // serve to make two names look alike.
        if text.split('.').any(str::is_empty) {
            return Err(TrustDomainError::EmptyLabel { name: given() });
        }
        Ok(Self(given()))
    }
}

impl TryFrom<&str> for TrustDomain {
    type Error = TrustDomainError;

    fn try_from(text: &str) -> Result<Self, TrustDomainError> {
        text.parse()
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl AsRef<str> for TrustDomain {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// Why a text is not a [`TrustDomain`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TrustDomainError {
    /// A character that no trust domain may hold.
    #[error(
        "trust domain {name:?} holds {character:?}: use lower-case letters, digits, '-', '_' and '.' only, as in shop.example"
    )]
    Character {
        /// The text as given.
        name: String,
        /// The first character that is not allowed.
        character: char,
    },
    /// Nothing at all.
    #[error("the trust domain is empty: give a name such as shop.example")]
    Empty,
    /// Two dots in a row, or a dot at an end.
    #[error("trust domain {name:?} has an empty part: remove the leading, trailing or double dot")]
    EmptyLabel {
        /// The text as given.
        name: String,
    },
    /// More than [`TrustDomain::MAX_LEN`] octets.
    #[error("a trust domain of {length} characters is too long: 255 at most")]
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
    fn accepts_and_refuses() {
        for good in ["a", "demo.example", "a_b.c-d", &"a".repeat(255)] {
            assert_eq!(good.parse::<TrustDomain>().unwrap().to_string(), good);
        }
        for bad in
            ["", "Demo.example", "a..b", ".a", "a.", "a:1", "u@a", "a%2e", "é", &"a".repeat(256)]
        {
            assert!(bad.parse::<TrustDomain>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_comes_back_unchanged(text in any::<String>()) {
            if let Ok(domain) = text.parse::<TrustDomain>() {
                prop_assert_eq!(domain.to_string(), text);
            }
        }
    }
}
