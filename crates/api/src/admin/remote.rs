//! Reaching a node's admin port: mutual TLS 1.3 with an operator's credential, to the host that was
//! typed and to nobody else.

use std::error::Error;
use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use handfast_pki::{Credential, Host};
use handfast_tls::{Attempt, ClientOptions, Fault, client_config, fault_of_io, timed_out};
use jiff::Timestamp;
use thiserror::Error as ThisError;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;

use super::client::ClientError;
use super::port::ADMIN_ALPN;
use crate::exchange::ExchangeError;

/// A node's admin port, and what is shown there.
#[derive(Clone)]
pub struct Remote {
    pub(super) node: NodeUrl,
    config: Arc<ClientConfig>,
    now: Timestamp,
}

impl Remote {
    /// The node at `node`, to be called with `credential`, whose trust anchors the node's certificate has
    /// to chain to. `now` is for faults.
    ///
    /// # Errors
    ///
    /// A fault of the credential: not for clients, or unusable.
    pub fn new(node: NodeUrl, credential: &Credential, now: Timestamp) -> Result<Self, Fault> {
        let options = ClientOptions { alpn: vec![ADMIN_ALPN.to_vec()], ..ClientOptions::default() };
        let config = client_config(Some(credential), credential.anchors(), &options)?;
        Ok(Self { node, config, now })
    }

    pub(super) async fn connect(
        &self,
        bound: Duration,
    ) -> Result<TlsStream<TcpStream>, ClientError> {
        let attempt = self.attempt();
        let failed = |fault: Fault| ClientError::Tls(Box::new(fault));
        let connecting = async {
            match &self.node.host {
                Host::Ip(address) => TcpStream::connect((*address, self.node.port)).await,
                Host::Dns(name) => TcpStream::connect((name.as_str(), self.node.port)).await,
            }
        };
        let half = bound / 2;
        let stream = match timeout(half, connecting).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(failed(fault_of_io(&error, &attempt))),
            Err(_) => return Err(failed(timed_out(half, &attempt))),
        };
        let name = self.node.host.to_string();
        handfast_tls::connect(stream, Arc::clone(&self.config), &name, attempt, bound)
            .await
            .map_err(failed)
    }

    /// The fault behind an exchange that broke, if TLS is behind it.
    pub(super) fn fault_of(&self, error: &ExchangeError) -> Option<Fault> {
        let mut cause: Option<&(dyn Error + 'static)> = Some(error);
        while let Some(this) = cause {
            if let Some(error) = this.downcast_ref::<io::Error>() {
                return Some(fault_of_io(error, &self.attempt()));
            }
            cause = this.source();
        }
        None
    }

    fn attempt(&self) -> Attempt {
        Attempt::client(self.node.host.to_string(), self.now)
            .with_alpn(&[ADMIN_ALPN])
            .with_subject(format!("the admin port of {}", self.node.authority()))
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("node", &self.node).finish_non_exhaustive()
    }
}

/// Where an admin port is: `https://HOST:PORT`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NodeUrl {
    host: Host,
    port: u16,
}

impl NodeUrl {
    pub(super) fn authority(&self) -> String {
        match &self.host {
            Host::Ip(address) if address.is_ipv6() => format!("[{address}]:{}", self.port),
            host => format!("{host}:{}", self.port),
        }
    }
}

impl fmt::Display for NodeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.authority())
    }
}

impl FromStr for NodeUrl {
    type Err = NodeUrlError;

    fn from_str(text: &str) -> Result<Self, NodeUrlError> {
        let wrong = || NodeUrlError { text: text.chars().take(200).collect() };
        let rest = text.strip_prefix("https://").ok_or_else(wrong)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = rest.rsplit_once(':').ok_or_else(wrong)?;
        let host = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host);
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
        Ok(Self { host: host.parse().map_err(|_| wrong())?, port })
    }
}

/// A text that is no address of an admin port.
#[derive(Clone, Debug, Eq, PartialEq, ThisError)]
#[error("{text:?} is no admin port; write it like https://west.example:8443")]
pub struct NodeUrlError {
    /// The text, shortened to 200 characters.
    pub text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_written_as_they_are_read() {
        for text in
            ["https://west.example:8443", "https://192.0.2.1:8443", "https://[2001:db8::1]:8443"]
        {
            assert_eq!(text.parse::<NodeUrl>().expect(text).to_string(), text);
        }
        for text in [
            "",
            "west.example:8443",
            "http://west.example:8443",
            "https://west.example",
            "https://west.example:0",
            "https://west.example:8443/v1",
            "https://user@west.example:8443",
        ] {
            assert!(text.parse::<NodeUrl>().is_err(), "{text}");
        }
    }
}
