//! Links, listeners and connectors as the admin API shows them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::FaultView;

/// One link, in either direction.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct LinkStatus {
    /// Name of the Link, or of the other site for an incoming one.
    pub name: String,
    /// Who dialled.
    pub direction: LinkDirection,
    /// How it is.
    pub state: LinkState,
    /// `host:port` that is dialled, or the address that an incoming one came from.
    pub endpoint: String,
    /// Name of the site at the other end, once it has proven its identity.
    pub remote_site: Option<String>,
    /// Its cost.
    pub cost: u32,
    /// When it came to be in this state.
    pub since: Option<Timestamp>,
    /// Who is at the other end.
    pub peer: Option<PeerView>,
    /// What was negotiated.
    pub session: Option<SessionView>,
    /// TLS connections that carry it now.
    pub connections: u64,
    /// Bytes received over it.
    pub bytes_in: u64,
    /// Bytes sent over it.
    pub bytes_out: u64,
    /// Why it is down, or why its last attempt failed.
    pub fault: Option<FaultView>,
}

/// Who dialled.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum LinkDirection {
    /// The other site.
    Incoming,
    /// This one.
    Outgoing,
}

/// How a link is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum LinkState {
    /// Being dialled.
    Connecting,
    /// Not connected; the next attempt is due.
    Down,
    /// Cannot be dialled, because its credential is missing or broken.
    NotReady,
    /// Connected.
    Up,
}

/// The certificate of the other end.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct PeerView {
    /// SPIFFE ID.
    pub identity: Option<String>,
    /// Common name, for people to read.
    pub common_name: Option<String>,
    /// Serial number, lower-case hexadecimal.
    pub serial: String,
    /// SHA-256 of the certificate.
    pub fingerprint: String,
    /// End of validity.
    pub not_after: Option<Timestamp>,
    /// Who signed it.
    pub issuer: String,
}

/// What a handshake negotiated.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct SessionView {
    /// `TLSv1.3`.
    pub version: String,
    /// Cipher suite.
    pub cipher: String,
    /// Key-exchange group, such as `X25519MLKEM768`.
    pub group: String,
    /// Application protocol.
    pub alpn: Option<String>,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
}

/// How a listener, connector or access is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum EdgeState {
    /// It does not work; see its fault.
    Failed,
    /// It works.
    Ready,
    /// It waits for something: a credential, a matching connector or listener.
    Waiting,
}

/// One listener.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ListenerStatus {
    /// Name of the Listener.
    pub name: String,
    /// The service.
    pub routing_key: String,
    /// The declared host.
    pub host: String,
    /// The declared port.
    pub port: u16,
    /// The address as bound.
    pub bind: Option<String>,
    /// How it is.
    pub state: EdgeState,
    /// Whether the network offers the service.
    pub has_matching_connector: bool,
    /// Client connections now.
    pub connections_open: u64,
    /// Client connections since the start.
    pub connections_total: u64,
    /// Bytes received from clients.
    pub bytes_in: u64,
    /// Bytes sent to clients.
    pub bytes_out: u64,
    /// Why it does not work.
    pub fault: Option<FaultView>,
}

/// One connector.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ConnectorStatus {
    /// Name of the Connector.
    pub name: String,
    /// The service.
    pub routing_key: String,
    /// Where it is.
    pub host: String,
    /// On which port.
    pub port: u16,
    /// How it is.
    pub state: EdgeState,
    /// Whether somebody in the network listens for it.
    pub has_matching_listener: bool,
    /// Connections to the service now.
    pub connections_open: u64,
    /// Connections to the service since the start.
    pub connections_total: u64,
    /// Bytes received from the service.
    pub bytes_in: u64,
    /// Bytes sent to the service.
    pub bytes_out: u64,
    /// Why it does not work.
    pub fault: Option<FaultView>,
}
