//! The address of a backend, as agents write it: `host:port`, several separated by commas.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// One backend.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Backend {
    /// A DNS name or an IP address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Backend {
    /// A list as `SW_AGENT_COLLECTOR_BACKEND_SERVICES` holds it.
    ///
    /// # Errors
    /// The first entry that is none.
    pub fn list(text: &str) -> Result<Vec<Self>, BadBackend> {
        text.split(',').map(str::trim).filter(|entry| !entry.is_empty()).map(str::parse).collect()
    }

    /// The same port at another name.
    pub(super) fn renamed(&self, host: &str) -> String {
        Self { host: host.to_owned(), port: self.port }.to_string()
    }
}

impl FromStr for Backend {
    type Err = BadBackend;

    fn from_str(text: &str) -> Result<Self, BadBackend> {
        let bad = || BadBackend(text.chars().take(200).collect());
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let port: u16 = port.parse().map_err(|_| bad())?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(address) => {
                address.parse::<std::net::Ipv6Addr>().map_err(|_| bad())?;
                address
            }
            None => host,
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        let fits = host.parse::<IpAddr>().is_ok() || host.bytes().all(plain);
        if port == 0 || host.is_empty() || host.len() > 253 || !fits {
            return Err(bad());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Text that is no backend.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "`{0}` is no backend: write `host:port`, several separated by commas, IPv6 addresses in brackets"
)]
pub struct BadBackend(pub String);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_agents_write_is_read() {
        let read = |text: &str| {
            Backend::list(text).map(|l| l.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(read("oap:11800").unwrap(), ["oap:11800"]);
        assert_eq!(
            read("a.b:1, [::1]:2 ,10.0.0.1:3,").unwrap(),
            ["a.b:1", "[::1]:2", "10.0.0.1:3"]
        );
        for bad in ["oap", "oap:", "oap:0", "oap:70000", ":1", "http://oap:1", "[x]:1", "a b:1"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_the_same(text in "[ -~]{0,40}") {
            if let Ok(backend) = text.parse::<Backend>() {
                prop_assert_eq!(backend.to_string().parse::<Backend>(), Ok(backend));
            }
        }
    }
}
