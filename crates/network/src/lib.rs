//! Sites, links, routing, listeners and connectors: the data plane.
//!
//! A client's TCP connection is a *flow*. A flow enters at a listener, crosses a *link* (a few warm
//! mutual-TLS connections to another site) as a stream beside others, and leaves at a connector. It
//! pays no handshake, and a bulk flow fills whole TLS records with one frame each, so it hardly pays
//! for sharing.
//!
//! Threads, none of which waits for another on the data path:
//!
//! - `worker-N`: an event loop each, with its own connections, flows and listening sockets;
//! - `gate`: handshakes; strangers never reach a worker;
//! - `control`: decides from plans and events; owns routing, dialling, status.
//!
//! The crate knows nothing of files, credentials or renewal: it is given [`Plan`]s that hold ready
//! TLS configurations, and reports a [`NetworkStatus`].
//!
//! ```
//! use std::sync::Arc;
//! use handfast_network::{ConnectorPlan, ListenerPlan, Network, Plan, Settings};
//!
//! let clock: handfast_network::Clock = Arc::new(|| jiff::Timestamp::UNIX_EPOCH);
//! let site: handfast_pki::Name = "west".parse()?;
//! let (network, _requests) = Network::start(site.clone(), &Settings::new(clock))?;
//! let mut plan = Plan::empty(site);
//! plan.listeners.push(ListenerPlan {
//!     name: "pay".parse()?, host: "127.0.0.1".into(), port: 0, routing_key: "payments".into(),
//! });
//! plan.connectors.push(ConnectorPlan {
//!     name: "pay".parse()?, host: "127.0.0.1".into(), port: 8080, routing_key: "payments".into(),
//! });
//! network.apply(plan);
//! assert!(network.status()?.listeners[0].has_matching_connector);
//! network.stop(std::time::Duration::ZERO);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod control;
mod exchange;
mod frame;
mod gate;
mod network;
mod plan;
mod records;
mod revocations;
mod route;
mod statement;
mod status;
mod window;
mod worker;

pub use exchange::{PeerRequest, RequestError, Responder};
pub use handfast_proto::link::v1 as wire;
pub use network::{Clock, Network, Settings};
pub use plan::{BundlePlan, ConnectorPlan, LinkAccess, LinkPlan, ListenerPlan, Plan};
pub use revocations::{Position, RevocationFeed, Told};
pub use statement::{
    Believed, STATED, StatedRevocation, StatementError, believe_revocations, decode_statement,
    encode_statement, read_revocations, state_revocations,
};
pub use status::{
    AccessStatus, ConnectorStatus, Direction, HandshakeCounts, LinkState, LinkStatus,
    ListenerStatus, NetworkStatus, Refusal, RevocationStatus, SiteRevocations, SiteStatus, Traffic,
    Unknown,
};

/// For the fuzz targets: what a hostile site could put into one TLS record, parsed as a worker does.
/// Returns how many frames were taken.
#[doc(hidden)]
pub fn parse_record(record: &[u8]) -> usize {
    frame::frames(record).map_while(Result::ok).count()
}
