//! Where to, and how: what an upstream is told.

use std::fmt;
use std::sync::Arc;

use rustls::ClientConfig;

use super::{Authentication, Backend};

/// How a backend is spoken to.
#[derive(Clone)]
pub enum Security {
    /// In the clear: only where that was asked for.
    Plaintext,
    /// TLS, with a certificate of ours or without one; the configuration says.
    Tls {
        /// Made by `handfast-tls`.
        config: Arc<ClientConfig>,
        /// The name to verify instead of the dialled one: behind a link, a backend is dialled at a
        /// listener of the site.
        server_name: Option<String>,
    },
}

impl fmt::Debug for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plaintext => f.write_str("Plaintext"),
            Self::Tls { server_name, .. } => {
                f.debug_struct("Tls").field("server_name", server_name).finish_non_exhaustive()
            }
        }
    }
}

/// Where to, and how.
#[derive(Clone)]
pub struct UpstreamPlan {
    /// What every call brings along, if the backend asks for a token.
    pub authentication: Option<Authentication>,
    /// In the order of preference.
    pub backends: Vec<Backend>,
    /// How they are spoken to; `None` while there is no good credential: then nothing is sent.
    pub security: Option<Security>,
}

impl UpstreamPlan {
    /// Whether it is the same, with the very same configuration of TLS.
    pub(super) fn is(&self, other: &Self) -> bool {
        let same_security = match (&self.security, &other.security) {
            (None, None) | (Some(Security::Plaintext), Some(Security::Plaintext)) => true,
            (
                Some(Security::Tls { config, server_name }),
                Some(Security::Tls { config: other, server_name: name }),
            ) => Arc::ptr_eq(config, other) && server_name == name,
            _ => false,
        };
        same_security
            && self.backends == other.backends
            && self.authentication == other.authentication
    }
}

impl fmt::Debug for UpstreamPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamPlan")
            .field("authentication", &self.authentication)
            .field("backends", &self.backends)
            .field("security", &self.security)
            .finish()
    }
}
