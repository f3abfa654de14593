//! Who a certificate is for: the names that will stand in it.

use std::net::IpAddr;

use crate::{DnsName, Host, SpiffeId};

/// The names of a certificate's holder.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Subject {
    /// The common name: for people to read, and a client's authorisation attribute. 1 to 64
    /// characters. For a CA it must tell the CA from every other CA of the trust domain.
    pub common_name: String,
    /// The SPIFFE ID, written as the only URI subject alternative name.
    pub identity: Option<SpiffeId>,
    /// DNS subject alternative names. Servers only, and no wildcards.
    pub dns: Vec<DnsName>,
    /// IP subject alternative names. Servers only.
    pub ips: Vec<IpAddr>,
}

impl Subject {
    /// The longest common name, in characters (RFC 5280 appendix A.1, ub-common-name).
    pub const MAX_COMMON_NAME: usize = 64;

    /// The most subject alternative names of each kind in one certificate.
    pub const MAX_NAMES: usize = 256;

    /// A subject with a common name and nothing else.
    pub fn new(common_name: impl Into<String>) -> Self {
        Self { common_name: common_name.into(), ..Self::default() }
    }

    /// The same subject with this identity.
    #[must_use]
    pub fn with_identity(mut self, identity: SpiffeId) -> Self {
        self.identity = Some(identity);
        self
    }

    /// The same subject with these hosts added as DNS and IP names, without duplicates.
    #[must_use]
    pub fn with_hosts(mut self, hosts: impl IntoIterator<Item = Host>) -> Self {
        for host in hosts {
            match host {
                Host::Dns(name) if !self.dns.contains(&name) => self.dns.push(name),
                Host::Ip(address) if !self.ips.contains(&address) => self.ips.push(address),
                Host::Dns(_) | Host::Ip(_) => {}
            }
        }
        self
    }

    /// Whether any DNS or IP name is present.
    pub fn has_hosts(&self) -> bool {
        !self.dns.is_empty() || !self.ips.is_empty()
    }

    /// Checks what no profile may break: the common name's length and characters, and the counts.
    pub(crate) fn check(&self) -> Result<(), SubjectError> {
        let length = self.common_name.chars().count();
        if !(1..=Self::MAX_COMMON_NAME).contains(&length) {
            return Err(SubjectError::CommonNameLength { length });
        }
        if self.common_name.chars().any(char::is_control) {
            return Err(SubjectError::CommonNameControl { name: self.common_name.clone() });
        }
        let names = self.dns.len().max(self.ips.len());
        if names > Self::MAX_NAMES {
            return Err(SubjectError::TooManyNames { names });
        }
        Ok(())
    }
}

/// What is wrong with a [`Subject`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SubjectError {
    /// A control character, NUL among them, that would make a name look like another.
    #[error("common name {name:?} holds a control character: remove it")]
    CommonNameControl {
        /// The name as given.
        name: String,
    },
    /// Empty, or over [`Subject::MAX_COMMON_NAME`].
    #[error("a common name of {length} characters cannot stand in a certificate: 1 to 64")]
    CommonNameLength {
        /// Length in characters.
        length: usize,
    },
    /// More than [`Subject::MAX_NAMES`] of one kind.
    #[error("{names} host names are too many for one certificate: 256 at most, use several")]
    TooManyNames {
        /// How many there are.
        names: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_sorted_into_kinds_once_each() {
        let hosts = ["west.example", "127.0.0.1", "WEST.example", "::1", "127.0.0.1"];
        let subject = Subject::new("west").with_hosts(hosts.map(|host| host.parse().unwrap()));
        assert_eq!(subject.dns.len(), 1);
        assert_eq!(subject.ips.len(), 2);
        assert!(subject.has_hosts());
        assert_eq!(subject.check(), Ok(()));
    }

    #[test]
    fn bad_common_names() {
        assert!(Subject::new("").check().is_err());
        assert!(Subject::new("ä".repeat(64)).check().is_ok());
        assert!(Subject::new("a".repeat(65)).check().is_err());
        assert!(Subject::new("good\0evil").check().is_err());
    }
}
