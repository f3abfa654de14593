//! The name under which a service is known in the network.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A routing key: 1 to 253 visible ASCII characters without spaces.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RoutingKey(String);

impl RoutingKey {
    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for RoutingKey {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RoutingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RoutingKey {
    type Err = RoutingKeyError;

    fn from_str(text: &str) -> Result<Self, RoutingKeyError> {
        let fits =
            (1..=253).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        if fits { Ok(Self(text.to_owned())) } else { Err(RoutingKeyError) }
    }
}

/// The text cannot be a routing key.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("a routing key of 1 to 253 visible ASCII characters without spaces")]
pub struct RoutingKeyError;
