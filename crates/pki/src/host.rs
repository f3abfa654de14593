//! Host names and addresses as they stand in subject alternative names and link addresses.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A DNS name: lower-case letter-digit-hyphen labels, at most 253 octets; a single label is
/// allowed, and `*` as the whole left-most label (RFC 9525 section 6.3). Upper case is folded.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct DnsName(String);

impl DnsName {
    /// The longest name, in octets (RFC 1035 section 2.3.4, without the root's dot).
    pub const MAX_LEN: usize = 253;

    /// The name as text, in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the left-most label is `*`.
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with("*.")
    }
}

impl FromStr for DnsName {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        let given = || text.chars().take(300).collect::<String>();
        if text.is_empty() {
            return Err(HostError::Empty);
        }
        if text.len() > Self::MAX_LEN {
            return Err(HostError::TooLong { length: text.len() });
        }
        let plain = text.strip_prefix("*.").unwrap_or(text);
        for label in plain.split('.') {
            if let Some(character) =
                label.chars().find(|c| !(c.is_ascii_alphanumeric() || *c == '-'))
            {
                return Err(HostError::Character { host: given(), character });
            }
            if label.is_empty()
                || label.len() > 63
                || label.starts_with('-')
                || label.ends_with('-')
            {
                return Err(HostError::Label { host: given(), label: label.to_owned() });
            }
        }
        // "127.0.0.1" and "127.1" would be names that every resolver takes for addresses.
        if plain.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit())) {
            return Err(HostError::Numeric { host: given() });
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

impl TryFrom<&str> for DnsName {
    type Error = HostError;

    fn try_from(text: &str) -> Result<Self, HostError> {
        text.parse()
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl AsRef<str> for DnsName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// Where a server is reached: a DNS name or an IP address. `FromStr` takes IPv6 addresses with
/// or without brackets.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Host {
    /// A DNS name.
    Dns(DnsName),
    /// An address.
    Ip(IpAddr),
}

impl FromStr for Host {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        match bare.parse::<IpAddr>() {
            Ok(address) => Ok(Self::Ip(address)),
            Err(_) => text.parse().map(Self::Dns),
        }
    }
}

impl From<IpAddr> for Host {
    fn from(address: IpAddr) -> Self {
        Self::Ip(address)
    }
}

impl From<DnsName> for Host {
    fn from(name: DnsName) -> Self {
        Self::Dns(name)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => name.fmt(f),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

/// Why a text is not a host name.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// A character that no host name may hold.
    #[error(
        "host {host:?} holds {character:?}: use letters, digits, '-' and '.', and the xn-- form for other alphabets"
    )]
    Character {
        /// The text, shortened to 300 characters.
        host: String,
        /// The first character that is not allowed.
        character: char,
    },
    /// Nothing at all.
    #[error("a host is empty: give a DNS name or an IP address")]
    Empty,
    /// A label that is empty, over 63 octets, or has a hyphen at an end.
    #[error(
        "host {host:?} has the part {label:?}: each part between dots needs 1 to 63 characters and no '-' at its ends"
    )]
    Label {
        /// The text, shortened to 300 characters.
        host: String,
        /// The label at fault.
        label: String,
    },
    /// Looks like an address that is none.
    #[error("host {host:?} ends in a number but is no IP address: correct the address")]
    Numeric {
        /// The text, shortened to 300 characters.
        host: String,
    },
    /// More than [`DnsName::MAX_LEN`] octets.
    #[error("a host name of {length} characters is too long: 253 at most")]
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
    fn names_and_addresses() {
        for (text, shown) in [
            ("localhost", "localhost"),
            ("West.Example", "west.example"),
            ("*.shop.example", "*.shop.example"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("127.0.0.1", "127.0.0.1"),
            ("[::1]", "::1"),
            ("2001:db8::1", "2001:db8::1"),
        ] {
            assert_eq!(text.parse::<Host>().unwrap().to_string(), shown);
        }
        assert!(matches!("::1".parse(), Ok(Host::Ip(_))));
        assert!("*.a.example".parse::<DnsName>().unwrap().is_wildcard());
    }

    #[test]
    fn refusals() {
        for bad in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "-a",
            "a-",
            "a_b",
            "*",
            "a.*.b",
            "b*.c",
            "127.0.0.256",
            "127.1",
            "bücher.example",
            "a b",
            "a\0b",
            "[west]",
            "a:1",
            &"a".repeat(64),
            &"a.".repeat(127),
        ] {
            assert!(bad.parse::<Host>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_stable(text in any::<String>()) {
            if let Ok(host) = text.parse::<Host>() {
                prop_assert_eq!(host.to_string().parse::<Host>().unwrap(), host);
            }
        }

        #[test]
        fn near_names_are_stable(text in "[a-zA-Z0-9.*\\[\\]:-]{0,80}") {
            if let Ok(host) = text.parse::<Host>() {
                prop_assert_eq!(host.to_string().parse::<Host>().unwrap(), host);
            }
        }
    }
}
