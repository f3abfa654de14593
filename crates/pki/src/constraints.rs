//! Name constraints (RFC 5280 section 4.2.1.10): which host names a CA may certify. We write DNS and
//! IP constraints, and our own issuance obeys whatever stands in the issuer's chain.
//!
//! URI constraints are not written: verifiers of today (webpki among them) refuse every certificate
//! with a URI name below one. Trust domains are kept apart by the identity rule of `handfast-tls`
//! instead.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use x509_parser::extensions::{GeneralName, NameConstraints as ParsedConstraints};

use crate::{DnsName, Subject};

/// Constraints for a CA to be issued: names must fall under a permitted subtree of their kind (if
/// there is one) and under no excluded one. Written as a critical extension.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NameConstraints {
    /// Where names may lie.
    pub permitted: Subtrees,
    /// Where names may not lie.
    pub excluded: Subtrees,
}

/// DNS and IP subtrees. `shop.example` covers itself and everything below it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Subtrees {
    /// DNS subtrees.
    pub dns: Vec<DnsName>,
    /// IP subtrees.
    pub ips: Vec<IpNet>,
}

impl NameConstraints {
    /// Whether nothing is constrained.
    pub fn is_empty(&self) -> bool {
        let Self { permitted, excluded } = self;
        [permitted, excluded].iter().all(|trees| trees.dns.is_empty() && trees.ips.is_empty())
    }

    /// As rcgen writes them.
    pub(crate) fn to_rcgen(&self) -> rcgen::NameConstraints {
        let subtrees = |trees: &Subtrees| {
            let dns = trees.dns.iter().map(|n| rcgen::GeneralSubtree::DnsName(n.to_string()));
            let ips = trees.ips.iter().map(|net| {
                let subnet = rcgen::CidrSubnet::from_addr_prefix(net.address, net.prefix);
                rcgen::GeneralSubtree::IpAddress(subnet)
            });
            dns.chain(ips).collect()
        };
        rcgen::NameConstraints {
            permitted_subtrees: subtrees(&self.permitted),
            excluded_subtrees: subtrees(&self.excluded),
        }
    }
}

/// A block of addresses, for example `10.1.0.0/16`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct IpNet {
    address: IpAddr,
    prefix: u8,
}

impl IpNet {
    /// The block of `prefix` leading bits of `address`; all bits after them must be zero.
    pub fn new(address: IpAddr, prefix: u8) -> Result<Self, IpNetError> {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        if prefix > bits {
            return Err(IpNetError::Prefix { prefix, bits });
        }
        let first = masked(address, prefix);
        if first != address {
            return Err(IpNetError::HostBits { address, prefix, first });
        }
        Ok(Self { address, prefix })
    }

    /// Whether the address lies in the block.
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4() && masked(address, self.prefix) == self.address
    }
}

fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4((u32::from(v4) & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6((u128::from(v6) & mask).into())
        }
    }
}

impl FromStr for IpNet {
    type Err = IpNetError;

    fn from_str(text: &str) -> Result<Self, IpNetError> {
        let malformed = || IpNetError::Malformed { text: text.chars().take(64).collect() };
        let (address, prefix) = text.split_once('/').ok_or_else(malformed)?;
        let address = address.parse().map_err(|_| malformed())?;
        Self::new(address, prefix.parse().map_err(|_| malformed())?)
    }
}

impl fmt::Display for IpNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// Why a text is not an [`IpNet`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum IpNetError {
    /// Bits after the prefix are set.
    #[error("{address}/{prefix} has address bits after its prefix: write {first}/{prefix}")]
    HostBits {
        /// The address as given.
        address: IpAddr,
        /// The prefix as given.
        prefix: u8,
        /// The first address of the block.
        first: IpAddr,
    },
    /// Not `address/prefix`.
    #[error("{text:?} is no block of addresses: write it as 10.1.0.0/16 or 2001:db8::/32")]
    Malformed {
        /// The text, shortened to 64 characters.
        text: String,
    },
    /// Longer than the address.
    #[error("a prefix of {prefix} bits is longer than the address: {bits} at most")]
    Prefix {
        /// The prefix as given.
        prefix: u8,
        /// Bits of the address.
        bits: u8,
    },
}

/// Constraints found in a certificate, ours or another's.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReadConstraints {
    permitted: ReadSubtrees,
    excluded: ReadSubtrees,
}

#[derive(Clone, Debug, Default)]
struct ReadSubtrees {
    dns: Vec<String>,
    /// Address and mask, each of 4 or 16 octets, concatenated.
    ips: Vec<Vec<u8>>,
    uri: bool,
    directory: bool,
    /// Malformed or of a kind that we cannot evaluate.
    unknown: bool,
}

impl ReadConstraints {
    pub(crate) fn from_extension(parsed: &ParsedConstraints<'_>) -> Self {
        let read = |subtrees: &Option<Vec<x509_parser::extensions::GeneralSubtree<'_>>>| {
            let mut read = ReadSubtrees::default();
            for subtree in subtrees.iter().flatten() {
                match &subtree.base {
                    GeneralName::DNSName(name) => read.dns.push(name.to_ascii_lowercase()),
                    GeneralName::DirectoryName(_) => read.directory = true,
                    GeneralName::IPAddress(octets) => read.ips.push(octets.to_vec()),
                    GeneralName::RFC822Name(_) => {} // We never certify mail addresses.
                    GeneralName::URI(_) => read.uri = true,
                    _ => read.unknown = true,
                }
            }
            read
        };
        Self {
            permitted: read(&parsed.permitted_subtrees),
            excluded: read(&parsed.excluded_subtrees),
        }
    }

    /// Whether a leaf with these names may stand below `ca`, which carries the constraints.
    pub(crate) fn check(&self, subject: &Subject, ca: &str) -> Result<(), ConstraintViolation> {
        let violated = |name: String| ConstraintViolation::Name { name, ca: ca.to_owned() };
        for name in &subject.dns {
            let permitted = self.permitted.dns.is_empty()
                || self.permitted.dns.iter().any(|base| dns_under(name.as_str(), base));
            if !permitted || self.excluded.dns.iter().any(|base| dns_touches(name, base)) {
                return Err(violated(name.to_string()));
            }
        }
        for ip in &subject.ips {
            let permitted = self.permitted.ips.is_empty()
                || self.permitted.ips.iter().any(|block| ip_under(*ip, block));
            if !permitted || self.excluded.ips.iter().any(|block| ip_under(*ip, block)) {
                return Err(violated(ip.to_string()));
            }
        }
        let kinds = [
            ("URI", (self.permitted.uri || self.excluded.uri) && subject.identity.is_some()),
            ("directory name", self.permitted.directory || self.excluded.directory),
            ("rare", self.permitted.unknown || self.excluded.unknown),
        ];
        match kinds.into_iter().find(|(_, touched)| *touched) {
            Some((kind, _)) => Err(ConstraintViolation::Kind { kind, ca: ca.to_owned() }),
            None => Ok(()),
        }
    }
}

/// Whether `name` is `base` or below it. An empty base covers everything; a leading dot, which RFC
/// 5280 does not know but OpenSSL writes, covers only what is below.
fn dns_under(name: &str, base: &str) -> bool {
    if base.is_empty() {
        return true;
    }
    let bare = base.strip_prefix('.').unwrap_or(base);
    let below = name.strip_suffix(bare).is_some_and(|head| head.len() > 1 && head.ends_with('.'));
    below || name == base
}

/// Whether `name`, or one of the names a wildcard stands for, lies under an excluded `base`.
fn dns_touches(name: &DnsName, base: &str) -> bool {
    let wildcard = name.as_str().strip_prefix("*.");
    dns_under(name.as_str(), base)
        || wildcard.is_some_and(|parent| dns_under(base.trim_start_matches('.'), parent))
}

fn ip_under(ip: IpAddr, block: &[u8]) -> bool {
    let octets = match ip {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let Some((base, mask)) = block.split_at_checked(octets.len()) else {
        return false;
    };
    mask.len() == octets.len()
        && octets
            .iter()
            .zip(base)
            .zip(mask)
            .all(|((octet, base), mask)| octet & mask == base & mask)
}

/// A name that the issuer's chain does not allow.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConstraintViolation {
    /// A constraint of a kind that cannot be evaluated, so nobody would accept the certificate.
    #[error(
        "the CA {ca:?} carries {kind} name constraints, which verifiers refuse below it: use a CA with DNS and IP constraints only"
    )]
    Kind {
        /// The kind of constraint.
        kind: &'static str,
        /// The CA's subject.
        ca: String,
    },
    /// A name outside what is permitted, or inside what is excluded.
    #[error(
        "the name {name} lies outside the name constraints of the CA {ca:?}: use another name, or a CA that may certify it"
    )]
    Name {
        /// The name asked for.
        name: String,
        /// The CA's subject.
        ca: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn constraints(permitted: &[&str], excluded: &[&str]) -> ReadConstraints {
        let read = |bases: &[&str]| ReadSubtrees {
            dns: bases.iter().map(|base| (*base).to_owned()).collect(),
            ..ReadSubtrees::default()
        };
        ReadConstraints { permitted: read(permitted), excluded: read(excluded) }
    }

    fn allows(constraints: &ReadConstraints, host: &str) -> bool {
        let subject = Subject::new("x").with_hosts([host.parse().unwrap()]);
        constraints.check(&subject, "CN=ca").is_ok()
    }

    #[test]
    fn dns_subtrees() {
        let permitted = constraints(&["shop.example"], &[]);
        for (host, allowed) in [
            ("shop.example", true),
            ("a.b.shop.example", true),
            ("*.shop.example", true),
            ("workshop.example", false),
            ("example", false),
            ("10.0.0.1", true),
        ] {
            assert_eq!(allows(&permitted, host), allowed, "{host}");
        }
        let excluded = constraints(&[], &["secret.shop.example"]);
        for (host, allowed) in [
            ("shop.example", true),
            ("secret.shop.example", false),
            ("a.secret.shop.example", false),
            ("*.shop.example", false),
            ("*.other.example", true),
        ] {
            assert_eq!(allows(&excluded, host), allowed, "{host}");
        }
        assert!(!allows(&constraints(&[], &[""]), "a.example"));
        assert!(!allows(&constraints(&[".a.example"], &[]), "a.example"));
        assert!(allows(&constraints(&[".a.example"], &[]), "b.a.example"));
    }

    #[test]
    fn ip_blocks() {
        let block = [10, 1, 0, 0, 255, 255, 0, 0];
        assert!(ip_under("10.1.2.3".parse().unwrap(), &block));
        assert!(!ip_under("10.2.2.3".parse().unwrap(), &block));
        assert!(!ip_under("::1".parse().unwrap(), &block));
        let net: IpNet = "10.1.0.0/16".parse().unwrap();
        assert!(net.contains("10.1.255.255".parse().unwrap()));
        assert!(!net.contains("10.2.0.0".parse().unwrap()));
        assert!("0.0.0.0/0".parse::<IpNet>().unwrap().contains("9.9.9.9".parse().unwrap()));
        assert!("::/0".parse::<IpNet>().unwrap().contains("::1".parse().unwrap()));
        assert!(matches!("10.1.2.0/16".parse::<IpNet>(), Err(IpNetError::HostBits { .. })));
        assert!(matches!("10.1.0.0/33".parse::<IpNet>(), Err(IpNetError::Prefix { .. })));
        assert!(matches!("10.1.0.0".parse::<IpNet>(), Err(IpNetError::Malformed { .. })));
    }

    proptest! {
        #[test]
        fn blocks_round_trip(address in any::<u128>(), prefix in 0_u8..=128) {
            let address = masked(IpAddr::V6(address.into()), prefix);
            let net = IpNet::new(address, prefix).unwrap();
            prop_assert!(net.contains(address));
            prop_assert_eq!(net.to_string().parse::<IpNet>().unwrap(), net);
        }

        #[test]
        fn any_text_is_read_or_refused(text in any::<String>()) {
            let _: Result<IpNet, _> = text.parse();
        }
    }
}
