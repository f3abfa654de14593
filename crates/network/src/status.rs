//! What the data plane reports: values for people and programs to read, and the counters behind.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use handfast_pki::{Chain, Name};
use handfast_tls::{Fault, Peer, Session};
use jiff::Timestamp;

/// A snapshot of the whole data plane.
#[derive(Clone, Debug, Default)]
pub struct NetworkStatus {
    /// Where the link port listens, once it does.
    pub access: Option<AccessStatus>,
    /// Links dialled by us first, then those that other sites dialled, each sorted by name.
    pub links: Vec<LinkStatus>,
    /// Sorted by name.
    pub listeners: Vec<ListenerStatus>,
    /// Sorted by name.
    pub connectors: Vec<ConnectorStatus>,
    /// Every site that has linked here since the start, sorted by name.
    pub sites: Vec<SiteStatus>,
    /// The latest refused or failed handshakes on the link port, newest last.
    pub refusals: Vec<Refusal>,
    /// Handshakes on the link port and of our links, since start.
    pub handshakes: HandshakeCounts,
    /// What was done about revocations.
    pub revocations: RevocationStatus,
}

/// Why it is not known how the data plane is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Unknown {
    /// Its threads have ended, or are about to.
    #[error("the data plane has ended: this process is stopping")]
    Ended,
    /// It did not answer within [`Unknown::PATIENCE`].
    #[error("the data plane has not answered for {} s", Self::PATIENCE.as_secs())]
    Silent,
}

impl Unknown {
    /// For how long an answer is waited for.
    pub const PATIENCE: Duration = Duration::from_secs(5);
}

/// What was done about revocations.
#[derive(Clone, Debug, Default)]
pub struct RevocationStatus {
    /// Link connections cut because of one, since start.
    pub cut: u64,
    /// Up to where this node counts what it tells other sites.
    pub newest: u64,
    /// Every linked site, sorted by name.
    pub sites: Vec<SiteRevocations>,
}

/// How far a linked site and this one have heard each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteRevocations {
    /// The site.
    pub site: Name,
    /// What it has acknowledged of this node's count; nothing if it has not said where it stands.
    pub acknowledged: Option<u64>,
    /// What of its own count is recorded here.
    pub heard: u64,
}

/// The link port.
#[derive(Clone, Debug)]
pub struct AccessStatus {
    /// Where it is or should be.
    pub bind: SocketAddr,
    /// Why it does not listen.
    pub fault: Option<Fault>,
}

/// Which side dialled a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// We did.
    Outgoing,
    /// The other site did.
    Incoming,
}

/// How a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// Not connected; dialled again after a pause. The fault says why.
    Down,
    /// Being dialled.
    Dialling,
    /// Carries flows.
    Up,
}

/// One link.
#[derive(Clone, Debug)]
pub struct LinkStatus {
    /// The link's name; for an incoming one the remote site's.
    pub name: Name,
    /// Which side dialled.
    pub direction: Direction,
    /// How it is.
    pub state: LinkState,
    /// Cost of using it.
    pub cost: u32,
    /// Where it was dialled to, `host:port`, or where it came from.
    pub endpoint: String,
    /// The site at the other end, from its certificate.
    pub remote_site: Option<Name>,
    /// Who the peer proved to be.
    pub peer: Option<Peer>,
    /// What was negotiated.
    pub session: Option<Session>,
    /// When it last came up.
    pub since: Option<Timestamp>,
    /// TLS connections that carry it, without those that only finish old flows.
    pub connections: usize,
    /// Connections that only finish old flows.
    pub draining: usize,
    /// Flows open now.
    pub flows: u64,
    /// Payload bytes received over it.
    pub bytes_in: u64,
    /// Payload bytes sent over it.
    pub bytes_out: u64,
    /// Routing keys that the other site offers.
    pub offers: Vec<String>,
    /// Why it is down, or what went wrong last.
    pub fault: Option<Fault>,
}

/// A site that links, or has linked, to this one.
#[derive(Clone, Debug)]
pub struct SiteStatus {
    /// The site.
    pub site: Name,
    /// Whether a connection of it takes new flows now.
    pub linked: bool,
    /// When it was last linked; absent while it is.
    pub lost_at: Option<Timestamp>,
    /// What it presented on its newest connection, while it is linked.
    pub chain: Option<Chain>,
    /// The newest trust bundle it verifies by, and since when that is known.
    pub acknowledged: Option<(u64, Timestamp)>,
}

/// One listener.
#[derive(Clone, Debug)]
pub struct ListenerStatus {
    /// Its name.
    pub name: Name,
    /// Its routing key.
    pub routing_key: String,
    /// Where it listens, or should.
    pub bind: String,
    /// The port bound, when it is.
    pub bound: Option<SocketAddr>,
    /// Whether anything can serve its routing key now.
    pub has_matching_connector: bool,
    /// What clients did.
    pub traffic: Traffic,
    /// Why it does not listen.
    pub fault: Option<Fault>,
}

/// One connector.
#[derive(Clone, Debug)]
pub struct ConnectorStatus {
    /// Its name.
    pub name: Name,
    /// Its routing key.
    pub routing_key: String,
    /// `host:port`.
    pub target: String,
    /// What went to the server.
    pub traffic: Traffic,
    /// Why the server could not be reached last, until it can be again.
    pub fault: Option<Fault>,
}

/// Counts of one listener or connector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Flows open now.
    pub open: u64,
    /// Flows since start.
    pub total: u64,
    /// Flows that did not reach a server, or were reset.
    pub failed: u64,
    /// Bytes read from the edge's sockets.
    pub bytes_in: u64,
    /// Bytes written to the edge's sockets.
    pub bytes_out: u64,
}

/// A handshake that did not end in a link.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// When.
    pub at: Timestamp,
    /// Who tried.
    pub peer: SocketAddr,
    /// Why not.
    pub fault: Fault,
}

/// Handshakes since start.
#[derive(Clone, Debug, Default)]
pub struct HandshakeCounts {
    /// That became link connections.
    pub accepted: u64,
    /// By fault code.
    pub refused: Vec<(String, u64)>,
}

/// The live counters behind a [`Traffic`]; written by the workers, read by anyone.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) open: AtomicU64,
    pub(crate) total: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
    /// Of a connector: its server could not be reached last.
    pub(crate) down: AtomicBool,
}

impl Counters {
    pub(crate) fn shared() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn opened(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.total.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn closed(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn came_in(&self, n: usize) {
        self.bytes_in.fetch_add(n as u64, Ordering::Relaxed);
    }

    pub(crate) fn went_out(&self, n: usize) {
        self.bytes_out.fetch_add(n as u64, Ordering::Relaxed);
    }

    /// The server could not be reached; true when that is news.
    pub(crate) fn went_down(&self) -> bool {
        !self.down.swap(true, Ordering::Relaxed)
    }

    /// The server was reached; true when that is news.
    pub(crate) fn recovered(&self) -> bool {
        self.down.load(Ordering::Relaxed) && self.down.swap(false, Ordering::Relaxed)
    }

    pub(crate) fn traffic(&self) -> Traffic {
        Traffic {
            open: self.open.load(Ordering::Relaxed),
            total: self.total.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
        }
    }
}
