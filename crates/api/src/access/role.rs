//! The five roles, as Policy resources name them. What each may do is in the built-in policies.

use std::fmt;
use std::str::FromStr;

/// A role that an operator can be given.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Role {
    /// Reads everything without secrets, and the audit log.
    Auditor,
    /// Has certificates signed and revokes them, for identities within bounds.
    Issuer,
    /// Keeps the network going: tokens, links, renewals.
    Operator,
    /// Everything.
    SecurityAdmin,
    /// Reads everything without secrets, the audit log excepted.
    Viewer,
}

impl Role {
    /// Every role, in the order of their names.
    pub const ALL: [Self; 5] =
        [Self::Auditor, Self::Issuer, Self::Operator, Self::SecurityAdmin, Self::Viewer];

    /// As written in resources and policies.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auditor => "auditor",
            Self::Issuer => "issuer",
            Self::Operator => "operator",
            Self::SecurityAdmin => "security-admin",
            Self::Viewer => "viewer",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(UnknownRole)
    }
}

/// A text that names no role.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("one of auditor, issuer, operator, security-admin, viewer")]
pub struct UnknownRole;
