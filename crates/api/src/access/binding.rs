//! Who has which role: a resource of the kind Policy, with its names resolved.

use std::fmt;
use std::str::FromStr;

use handfast_pki::{Name, SpiffeId};

use super::Role;

/// Operators and their role.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Binding {
    /// The resource's name; verdicts name it as `Policy/<name>`.
    pub name: Name,
    /// Who.
    pub operators: Vec<SpiffeId>,
    /// The role they have.
    pub role: Role,
    /// For [`Role::Issuer`]: the identities that it is bounded to. None means that nothing may be
    /// issued.
    pub identities: Vec<Pattern>,
}

/// A text with `*` for any text, also an empty one.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Pattern(String);

impl Pattern {
    /// The longest pattern, in bytes: that of an identity (SPIFFE ID, section 2.3).
    pub const MAX_LEN: usize = SpiffeId::MAX_LEN;

    /// The texts between the wildcards: one more than there are wildcards.
    pub(super) fn literals(&self) -> impl Iterator<Item = &str> {
        self.0.split('*')
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
        if text.is_empty() || text.len() > Self::MAX_LEN || !text.bytes().all(plain) {
            return Err(PatternError);
        }
        Ok(Self(text.to_owned()))
    }
}

/// A text that is no pattern of identities.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "an identity or DNS name with * for any text, such as spiffe://shop.example/component/web-*"
)]
pub struct PatternError;
