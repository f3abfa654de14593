//! The names under which a site keeps its own credentials.

use handfast_pki::{Name, NameError};

/// The names of design section 5, all with one prefix.
///
/// The prefix is `handfast`; with `skupper` a site takes over the credentials of a Skupper site
/// under the names they have there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CredentialNames {
    prefix: String,
    /// The trust domain's root.
    pub root: Name,
    /// Signs the site's server and link certificates.
    pub site_ca: Name,
    /// Presented to incoming links.
    pub site_server: Name,
    /// Signs what the parts of a site show each other.
    pub local_ca: Name,
    /// Presented by the site's own servers to its own parts.
    pub local_server: Name,
    /// Presented by the site's own parts to its own servers.
    pub local_client: Name,
    /// Signs what applications and the site show each other.
    pub service_ca: Name,
    /// Presented to applications that want to know their router.
    pub service_client: Name,
}

impl CredentialNames {
    /// The names with `prefix` in front.
    ///
    /// # Errors
    ///
    /// A prefix that makes no valid credential name.
    pub fn with_prefix(prefix: &str) -> Result<Self, NameError> {
        let name = |suffix: &str| format!("{prefix}-{suffix}").parse::<Name>();
        Ok(Self {
            prefix: prefix.to_owned(),
            root: name("root")?,
            site_ca: name("site-ca")?,
            site_server: name("site-server")?,
            local_ca: name("local-ca")?,
            local_server: name("local-server")?,
            local_client: name("local-client")?,
            service_ca: name("service-ca")?,
            service_client: name("service-client")?,
        })
    }

    /// The name of the certificate made for a service: `handfast-tls-<service>`.
    ///
    /// # Errors
    ///
    /// A service name so long that no valid credential name comes of it.
    pub fn service(&self, service: &Name) -> Result<Name, NameError> {
        format!("{}-tls-{service}", self.prefix).parse()
    }

    /// The name of the server certificate of a collector: `handfast-collector-<name>`.
    ///
    /// # Errors
    ///
    /// A name so long that no valid credential name comes of it.
    pub fn collector(&self, collector: &Name) -> Result<Name, NameError> {
        format!("{}-collector-{collector}", self.prefix).parse()
    }

    /// The name of the client certificate of a relay: `handfast-relay-<name>`.
    ///
    /// # Errors
    ///
    /// A name so long that no valid credential name comes of it.
    pub fn relay(&self, relay: &Name) -> Result<Name, NameError> {
        format!("{}-relay-{relay}", self.prefix).parse()
    }
}

impl Default for CredentialNames {
    fn default() -> Self {
        Self::with_prefix("handfast").expect("`handfast-…` are valid names")
    }
}
