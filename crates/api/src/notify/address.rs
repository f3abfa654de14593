//! Where notices go. Encrypted and verified, or not off this machine: there is no third way.

use std::str::FromStr;

use handfast_pki::Host;
use hyper::Uri;
use thiserror::Error;

/// The URL of a web hook. Many carry a secret in path or query, so it never prints more than its host.
#[derive(Clone, Eq, PartialEq)]
pub struct HookAddress {
    host: Host,
    port: u16,
    target: String,
    is_encrypted: bool,
}

impl HookAddress {
    /// The host to dial, which the receiver's certificate must name.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port to dial.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Path and query.
    pub(super) fn target(&self) -> &str {
        &self.target
    }

    /// `https`; otherwise it is an address of this machine.
    pub fn is_encrypted(&self) -> bool {
        self.is_encrypted
    }

    /// `host:port`, with brackets around an IPv6 address.
    pub fn authority(&self) -> String {
        match self.host {
            Host::Ip(address) if address.is_ipv6() => format!("[{address}]:{}", self.port),
            _ => format!("{}:{}", self.host, self.port),
        }
    }
}

impl std::fmt::Debug for HookAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/<redacted>", self.authority())
    }
}

impl FromStr for HookAddress {
    type Err = HookAddressError;

    fn from_str(text: &str) -> Result<Self, HookAddressError> {
        if text.len() > LONGEST || text.contains(['#', '@']) {
            return Err(HookAddressError::Malformed);
        }
        let uri: Uri = text.parse().map_err(|_| HookAddressError::Malformed)?;
        let is_encrypted = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(_) => return Err(HookAddressError::Scheme),
            None => return Err(HookAddressError::Malformed),
        };
        // `Uri::port` says "none" of a port that is no number, so the text is looked at.
        let authority = uri.authority().ok_or(HookAddressError::Malformed)?;
        let host: Host = authority.host().parse().map_err(|_| HookAddressError::Host)?;
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") if is_encrypted => 443,
            Some("") => 80,
            Some(rest) => rest
                .strip_prefix(':')
                .and_then(|port| port.parse().ok())
                .filter(|port| *port != 0)
                .ok_or(HookAddressError::Malformed)?,
            None => return Err(HookAddressError::Malformed),
        };
        if !is_encrypted && !matches!(host, Host::Ip(address) if address.is_loopback()) {
            return Err(HookAddressError::Plain);
        }
        let target = uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        Ok(Self { host, port, target, is_encrypted })
    }
}

/// Why a text is no address for notices. Never quotes it.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum HookAddressError {
    /// The host is no DNS name and no IP address.
    #[error("its host is neither a DNS name nor an IP address")]
    Host,
    /// It is no absolute URL.
    #[error("it is not an absolute URL such as `https://alerts.example/hooks/handfast`")]
    Malformed,
    /// It would cross a network in the clear.
    #[error("plain `http` is only for 127.0.0.1 and [::1]; everything else takes `https`")]
    Plain,
    /// Neither `http` nor `https`.
    #[error("it begins with neither `https://` nor `http://`")]
    Scheme,
}

const LONGEST: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_encrypted_or_of_this_machine() {
        for (text, authority, encrypted) in [
            ("https://alerts.example/hook?key=abc", "alerts.example:443", true),
            ("https://192.0.2.1:8443/", "192.0.2.1:8443", true),
            ("http://127.0.0.1:9/x", "127.0.0.1:9", false),
            ("http://[::1]:9/x", "[::1]:9", false),
        ] {
            let address: HookAddress = text.parse().expect(text);
            assert_eq!(
                (address.authority().as_str(), address.is_encrypted()),
                (authority, encrypted)
            );
            let shown = format!("{address:?}");
            assert!(!shown.contains("abc") && !shown.contains("hook"), "{shown}");
        }
        for (text, error) in [
            ("http://alerts.example/x", HookAddressError::Plain),
            ("http://localhost/x", HookAddressError::Plain),
            ("http://192.0.2.1/x", HookAddressError::Plain),
            ("ftp://127.0.0.1/x", HookAddressError::Scheme),
            ("alerts.example/x", HookAddressError::Malformed),
            ("https://user:pw@alerts.example/x", HookAddressError::Malformed),
            ("https://alerts.example:0/x", HookAddressError::Malformed),
            ("https://al_erts!/x", HookAddressError::Host),
            ("", HookAddressError::Malformed),
        ] {
            assert_eq!(text.parse::<HookAddress>().unwrap_err(), error, "{text}");
        }
    }
}
