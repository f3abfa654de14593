//! The circumstances of a handshake: what the caller knew before it failed. Pure data; nothing
//! here reads a clock or a socket.

use std::net::SocketAddr;

use jiff::Timestamp;

use crate::first_bytes::FirstBytes;

/// Our part in a handshake.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Role {
    /// We dialled.
    Client,
    /// We accepted.
    Server,
}

/// What is known about a connection attempt, to turn an error into a [`Fault`](crate::Fault).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Attempt {
    /// Application protocols we offered or accept, most wanted first.
    pub alpn: Vec<Vec<u8>>,
    /// The host name or IP address the server's certificate has to be for; clients only.
    pub expected_name: Option<String>,
    /// What the first bytes from the peer looked like, if the caller kept them
    /// (see [`sniff`](crate::sniff)).
    pub first_bytes: Option<FirstBytes>,
    /// When it happened, by the node's clock.
    pub now: Timestamp,
    /// The address at the other end.
    pub peer_addr: Option<SocketAddr>,
    /// Who we were in it.
    pub role: Role,
    /// What it was for, in the user's words: `link west`, `listener payments`, `0.0.0.0:55671`.
    pub subject: Option<String>,
}

impl Attempt {
    /// We dialled `expected_name`.
    pub fn client(expected_name: impl Into<String>, now: Timestamp) -> Self {
        Self { expected_name: Some(expected_name.into()), ..Self::new(Role::Client, now) }
    }

    /// We accepted a connection.
    pub fn server(now: Timestamp) -> Self {
        Self::new(Role::Server, now)
    }

    /// With the address at the other end.
    #[must_use]
    pub fn with_peer_addr(mut self, addr: SocketAddr) -> Self {
        self.peer_addr = Some(addr);
        self
    }

    /// With the application protocols of the configuration.
    #[must_use]
    pub fn with_alpn(mut self, alpn: &[&[u8]]) -> Self {
        self.alpn = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        self
    }

    /// With what the peer's first bytes looked like.
    #[must_use]
    pub fn with_first_bytes(mut self, first: FirstBytes) -> Self {
        self.first_bytes = Some(first);
        self
    }

    /// With what the connection was for, such as `link west`.
    #[must_use]
    pub fn with_subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    fn new(role: Role, now: Timestamp) -> Self {
        Self {
            alpn: Vec::new(),
            expected_name: None,
            first_bytes: None,
            now,
            peer_addr: None,
            role,
            subject: None,
        }
    }

    /// Where it happened, for the first line of a fault.
    pub(crate) fn place(&self) -> String {
        let way = match (self.role, self.peer_addr, self.expected_name.as_deref()) {
            (Role::Client, Some(addr), Some(name)) if addr.ip().to_string() == name => {
                format!("connecting to {addr}")
            }
            (Role::Client, Some(addr), Some(name)) => format!("connecting to {name} ({addr})"),
            (Role::Client, Some(addr), None) => format!("connecting to {addr}"),
            (Role::Client, None, Some(name)) => format!("connecting to {name}"),
            (Role::Client, None, None) => "connecting".to_owned(),
            (Role::Server, Some(addr), _) => format!("accepting from {addr}"),
            (Role::Server, None, _) => "accepting".to_owned(),
        };
        match &self.subject {
            Some(subject) => format!("{subject}, {way}"),
            None => way,
        }
    }
}
