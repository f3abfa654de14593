//! Where a token is redeemed: an `https` URL with a host, a port and the path of one grant.

use std::fmt;
use std::str::FromStr;

use handfast_pki::{Host, Name};
use hyper::Uri;
use thiserror::Error;

/// The URL in an access token. Only `https`, no user, no query, no fragment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GrantUrl {
    host: Host,
    port: u16,
    path: String,
}

impl GrantUrl {
    /// The URL of grant `id` at a site that is reached at `host`.
    pub fn new(host: Host, port: u16, id: &Name) -> Self {
        Self { host, port, path: format!("{PATH_PREFIX}{id}") }
    }

    /// The host to dial, which the server's certificate must name.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port to dial.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The path to ask for.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// `host:port`, with brackets around an IPv6 address.
    pub fn authority(&self) -> String {
        match self.host {
            Host::Ip(address) if address.is_ipv6() => format!("[{address}]:{}", self.port),
            _ => format!("{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for GrantUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}{}", self.authority(), self.path)
    }
}

impl FromStr for GrantUrl {
    type Err = GrantUrlError;

    fn from_str(text: &str) -> Result<Self, GrantUrlError> {
        if text.len() > LONGEST || text.contains(['#', '@']) {
            return Err(GrantUrlError::Malformed);
        }
        let uri: Uri = text.parse().map_err(|_| GrantUrlError::Malformed)?;
        match uri.scheme_str() {
            Some("https") => {}
            Some(_) => return Err(GrantUrlError::NotHttps),
            None => return Err(GrantUrlError::Malformed),
        }
        // `Uri::port` says "none" of a port that is no number, so the text is looked at.
        let authority = uri.authority().ok_or(GrantUrlError::Malformed)?;
        let host: Host = authority.host().parse().map_err(|_| GrantUrlError::Host)?;
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") => HTTPS_PORT,
            Some(rest) => rest
                .strip_prefix(':')
                .and_then(|port| port.parse().ok())
                .filter(|port| *port != 0)
                .ok_or(GrantUrlError::Malformed)?,
            None => return Err(GrantUrlError::Malformed),
        };
        if uri.query().is_some() || uri.path() == "/" {
            return Err(GrantUrlError::Path);
        }
        Ok(Self { host, port, path: uri.path().to_owned() })
    }
}

/// Why a text is no URL of a grant.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum GrantUrlError {
    /// The host is no DNS name and no IP address.
    #[error("its host is neither a DNS name nor an IP address")]
    Host,
    /// It is no absolute URL.
    #[error("it is not an absolute URL such as `https://west.example:55672/v1/grants/...`")]
    Malformed,
    /// It would not be encrypted.
    #[error("it does not begin with `https://`")]
    NotHttps,
    /// It names no grant.
    #[error("its path does not name a grant")]
    Path,
}

/// Where grants live at our own servers.
pub(super) const PATH_PREFIX: &str = "/v1/grants/";

/// Where agents renew at our own servers.
pub(super) const RENEWAL_PATH: &str = "/v1/renew";

/// Where agents ask when to renew.
pub(super) const HINT_PATH: &str = "/v1/renewal-hint";

/// RFC 9110 section 4.2.2.
const HTTPS_PORT: u16 = 443;

const LONGEST: usize = 2048;

#[cfg(test)]
mod tests {
    use super::{GrantUrl, GrantUrlError};

    #[test]
    fn urls_read_and_write() {
        for (text, authority) in [
            ("https://127.0.0.1:55672/v1/grants/abc", "127.0.0.1:55672"),
            ("https://[::1]:55672/v1/grants/abc", "[::1]:55672"),
            ("https://west.example:1/some-uid", "west.example:1"),
        ] {
            let url: GrantUrl = text.parse().expect(text);
            assert_eq!(url.authority(), authority);
            assert_eq!(url.to_string(), text);
        }
        let url: GrantUrl = "https://West.example/g".parse().expect("default port");
        assert_eq!(url.to_string(), "https://west.example:443/g");
    }

    #[test]
    fn anything_else_is_refused() {
        for (text, error) in [
            ("http://west.example/g", GrantUrlError::NotHttps),
            ("west.example/g", GrantUrlError::Malformed),
            ("/g", GrantUrlError::Malformed),
            ("", GrantUrlError::Malformed),
            ("https://user:pw@west.example/g", GrantUrlError::Malformed),
            ("https://west.example:70000/g", GrantUrlError::Malformed),
            ("https://west.example:0/g", GrantUrlError::Malformed),
            ("https://west.example/", GrantUrlError::Path),
            ("https://west.example/g?x=1", GrantUrlError::Path),
            ("https://we_st!/g", GrantUrlError::Host),
        ] {
            assert_eq!(text.parse::<GrantUrl>(), Err(error), "{text}");
        }
    }
}
