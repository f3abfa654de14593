//! Asking for CRLs and OCSP answers where a certificate says they are: over plain HTTP, since whoever looks up a
//! revocation cannot first look up that of a server. Bounded in size and time; follows no redirects.

use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Request, header};
use thiserror::Error;
use tokio::net::TcpStream;

use crate::exchange::exchange;

/// Reads what is at `url`; with `question`, asks it there as an OCSP request (RFC 6960 appendix A). At most
/// `limit` octets within `within`.
pub async fn lookup(
    url: &str,
    question: Option<Vec<u8>>,
    limit: usize,
    within: Duration,
) -> Result<Vec<u8>, LookupError> {
    let failed = |why: String| LookupError::Failed { url: url.to_owned(), why };
    let place = Place::of(url).ok_or_else(|| LookupError::Url { url: url.to_owned() })?;
    let request = match question {
        None => Request::get(&place.path).body(Full::new(Bytes::new())),
        Some(question) => Request::post(&place.path)
            .header(header::CONTENT_TYPE, "application/ocsp-request")
            .body(Full::new(Bytes::from(question))),
    };
    let mut request = request.map_err(|error| failed(error.to_string()))?;
    let host = place.authority.parse().map_err(|_| LookupError::Url { url: url.to_owned() })?;
    request.headers_mut().insert(header::HOST, host);
    let asked = async {
        let stream = TcpStream::connect((place.host.as_str(), place.port))
            .await
            .map_err(|error| failed(error.to_string()))?;
        exchange(stream, request, limit).await.map_err(|error| failed(error.to_string()))
    };
    let answered = tokio::time::timeout(within, asked).await;
    let (status, bytes) = answered
        .map_err(|_| LookupError::TimedOut { url: url.to_owned(), seconds: within.as_secs() })??;
    if !status.is_success() {
        return Err(failed(format!("it answered with HTTP status {status}")));
    }
    Ok(bytes.to_vec())
}

/// The parts of an `http` URL.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    authority: String,
    host: String,
    port: u16,
    path: String,
}

impl Place {
    fn of(url: &str) -> Option<Self> {
        let rest = url.strip_prefix("http://")?;
        if !rest.bytes().all(|octet| octet.is_ascii_graphic()) {
            return None;
        }
        let (authority, path) = match rest.split_once('/') {
            Some((authority, path)) => (authority, format!("/{path}")),
            None => (rest, "/".to_owned()),
        };
        if authority.contains('@') {
            return None;
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
            _ => (authority, 80),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        (!host.is_empty()).then(|| Self {
            authority: authority.to_owned(),
            host: host.to_owned(),
            port,
            path: path.split('#').next().unwrap_or_default().to_owned(),
        })
    }
}

/// Why nothing was learnt.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LookupError {
    /// No answer, or one that says no.
    #[error("{url} cannot be asked: {why}")]
    Failed {
        /// Where.
        url: String,
        /// Why.
        why: String,
    },
    /// No answer in time.
    #[error("{url} did not answer within {seconds} s")]
    TimedOut {
        /// Where.
        url: String,
        /// The bound, in seconds.
        seconds: u64,
    },
    /// Not an `http` URL.
    #[error("{url:?} is not asked: only http URLs are, as certificates name them")]
    Url {
        /// What it is.
        url: String,
    },
}

#[cfg(test)]
mod tests {
    use super::Place;

    #[test]
    fn only_plain_http_is_asked() {
        let place = Place::of("http://ca.example:8080/a.crl").expect("a URL");
        assert_eq!(
            (place.host.as_str(), place.port, place.path.as_str()),
            ("ca.example", 8080, "/a.crl")
        );
        assert_eq!(
            Place::of("http://[::1]/").map(|place| (place.host, place.port)),
            Some(("::1".into(), 80))
        );
        assert_eq!(Place::of("http://ca.example").map(|place| place.path), Some("/".into()));
        for bad in [
            "https://ca.example/",
            "ldap://x/",
            "http://",
            "http://a@b/",
            "http://a b/",
            "http://a:x/",
            "file:///etc",
        ] {
            assert_eq!(Place::of(bad), None, "{bad}");
        }
    }
}
