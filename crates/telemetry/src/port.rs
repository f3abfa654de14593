//! A port: an address, how connections to it are protected, and what serves the calls that come in.
//!
//! Everything that a stranger can do before it is known who it is happens here, and is bounded here:
//! connections, handshakes, headers, the time that each step may take.

mod connection;
mod handshake;
mod heard;
mod known;
mod paced;
mod register;
mod shares;
mod strangers;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use handfast_pki::TrustAnchors;
use handfast_tls::{Attempt, Fault, Revocations, Side, fault_of_io};
use jiff::Timestamp;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::connection::serve_tcp;
use self::known::Known;
pub use self::register::{Connections, Open};
use self::shares::Share;
use self::strangers::{Arrival, Source, Strangers};
use crate::caller::{OwnDomain, Transport};
use crate::desk::Desk;

/// How connections to a port are protected.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Mode {
    /// TLS, and a certificate of the caller.
    Mtls,
    /// Whatever comes: plaintext, TLS, TLS with a certificate. For the time of a rollout.
    Permissive,
    /// No TLS.
    Plaintext,
    /// TLS; a certificate of the caller is verified if there is one.
    Tls,
}

impl Mode {
    /// The spelling in resources and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mtls => "mtls",
            Self::Permissive => "permissive",
            Self::Plaintext => "plaintext",
            Self::Tls => "tls",
        }
    }

    /// Whether a connection that is protected so may come in.
    pub fn admits(self, transport: Transport) -> bool {
        match self {
            Self::Mtls => transport == Transport::Mtls,
            Self::Permissive => true,
            Self::Plaintext => transport == Transport::Plaintext,
            Self::Tls => transport != Transport::Plaintext,
        }
    }

    /// Whether TLS is spoken at all.
    pub fn speaks_tls(self) -> bool {
        self != Self::Plaintext
    }
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Mode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, UnknownMode> {
        [Self::Mtls, Self::Permissive, Self::Plaintext, Self::Tls]
            .into_iter()
            .find(|mode| mode.as_str() == text)
            .ok_or(UnknownMode)
    }
}

/// Text that is no mode.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("one of plaintext, tls, permissive and mtls")]
pub struct UnknownMode;

/// What is spoken where ALPN does not say.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// HTTP/2, for gRPC.
    Grpc,
    /// HTTP/1.1 or HTTP/2.
    Http,
}

/// Where a port is.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Place {
    /// A TCP address; port 0 lets the system choose.
    Tcp(SocketAddr),
    /// A Unix socket, always without TLS: file permissions say who may connect.
    Unix(PathBuf),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// What TLS needs at a port.
#[derive(Clone, Debug)]
pub struct PortTls {
    /// The configuration, made by `handfast-tls`: it asks for client certificates as the mode wants.
    pub config: Arc<ServerConfig>,
    /// Everything that callers' chains may lead to, to judge open connections again when it changes.
    pub anchors: TrustAnchors,
    /// Our trust domain, whose identities count as our own.
    pub own: Option<OwnDomain>,
}

/// How a port is to be protected from now on.
#[derive(Clone, Debug)]
pub struct Protection {
    /// The mode.
    pub mode: Mode,
    /// `None` keeps a port that speaks TLS closed to it: nothing fails open.
    pub tls: Option<PortTls>,
}

/// An open port.
#[derive(Debug)]
pub struct Port {
    address: Option<SocketAddr>,
    protection: Arc<ArcSwap<Protection>>,
    known: Arc<Known>,
    connections: Connections,
    closing: CancellationToken,
    tasks: TaskTracker,
}

/// What every connection of a port shares.
#[derive(Clone)]
struct Shared {
    name: Arc<str>,
    protocol: Protocol,
    protection: Arc<ArcSwap<Protection>>,
    connections: Connections,
    desk: Arc<Desk>,
    revocations: Revocations,
    known: Arc<Known>,
    /// How many handshakes may compute at the same moment.
    pace: Arc<Semaphore>,
    /// Callers of whom it is not known yet who they are.
    strangers: Arc<Door>,
    closing: CancellationToken,
    tasks: TaskTracker,
}

/// Why a port cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {place}: {source}; free the address, or choose another for {name}")]
pub struct PortError {
    /// Which port.
    pub name: String,
    /// Where.
    pub place: Place,
    /// Why.
    pub source: io::Error,
}

impl PortError {
    /// The same with the code and the remedy that it has everywhere.
    pub fn fault(&self, now: Timestamp) -> Fault {
        let code = fault_of_io(&self.source, &Attempt::server(now)).code();
        let Self { name, place, source } = self;
        Fault::new(code, Side::Ours, format!("{name}, {place}"))
            .saying(format!("cannot listen on {place}: {source}"))
    }
}

impl Port {
    /// Opens a port in front of `desk`. Connections whose certificates `revocations` names are cut
    /// within [`LOOK`].
    ///
    /// # Errors
    /// The address is taken, or not to be had.
    pub fn open(
        name: &str,
        place: &Place,
        protocol: Protocol,
        protection: Protection,
        desk: Arc<Desk>,
        revocations: Revocations,
    ) -> Result<Self, PortError> {
        let fail = |source| PortError { name: name.to_owned(), place: place.clone(), source };
        let shared = Shared {
            name: name.into(),
            protocol,
            protection: Arc::new(ArcSwap::from_pointee(protection)),
            connections: Connections::default(),
            desk,
            revocations,
            known: Arc::default(),
            pace: Arc::new(Semaphore::new(PACE)),
            strangers: Arc::default(),
            closing: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let address = match place {
            Place::Tcp(address) => {
                let listener = listen(*address).map_err(fail)?;
                let address = listener.local_addr().ok();
                shared.tasks.spawn(shared.clone().accept_tcp(listener));
                address
            }
            Place::Unix(path) => {
                let listener = listen_at(path).map_err(fail)?;
                shared.tasks.spawn(shared.clone().accept_unix(listener));
                None
            }
        };
        shared.tasks.spawn(shared.clone().watch_revocations());
        Ok(Self {
            address,
            protection: shared.protection,
            known: shared.known,
            connections: shared.connections,
            closing: shared.closing,
            tasks: shared.tasks,
        })
    }

    /// Where it listens, over TCP.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// What is open.
    pub fn connections(&self) -> &Connections {
        &self.connections
    }

    /// The mode at the moment.
    pub fn mode(&self) -> Mode {
        self.protection.load().mode
    }

    /// Protects the port so from now on. Open connections that would not be let in any more are ended:
    /// those whose chain is not trusted any more at once, those of another transport by an orderly
    /// end.
    pub fn protect(&self, protection: Protection) {
        let before = self.protection.swap(Arc::new(protection));
        let own = |protection: &Protection| protection.tls.as_ref().map(|tls| tls.own.clone());
        if own(&before) != own(&self.protection.load()) {
            // Whoever counted as ours is asked for anew, also under the same configuration of TLS.
            self.known.forget();
        }
        // After the change, so that whoever is let in by what was before finds it when it looks again.
        self.connections.judge_again(&before, &self.protection.load());
    }

    /// Takes nothing new, lets calls under way finish within `grace`, then cuts.
    pub async fn close(self, grace: Duration) {
        self.closing.cancel();
        self.connections.end_all();
        self.tasks.close();
        if tokio::time::timeout(grace, self.tasks.wait()).await.is_err() {
            self.connections.cut_all();
            self.tasks.wait().await;
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.closing.cancel();
        self.connections.cut_all();
    }
}

impl Shared {
    async fn accept_tcp(self, listener: TcpListener) {
        loop {
            let accepted = tokio::select! {
                () = self.closing.cancelled() => return,
                () = self.strangers.freed.notified() => {
                    self.serve_who_waits();
                    continue;
                }
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, address)) => {
                    let from = Source::of(address.ip());
                    let arrival = self.strangers.lock().arrive(from, (socket, address));
                    match arrival {
                        Arrival::Served(guest, share) => self.serve(guest, share),
                        Arrival::Waits(None) => {}
                        Arrival::Waits(Some(_)) | Arrival::Refused(_) => {
                            self.desk.counts().connection_refused();
                        }
                    }
                }
                Err(error) => self.accept_failed(&error).await,
            }
        }
    }

    fn serve_who_waits(&self) {
        loop {
            let next = self.strangers.lock().next();
            let Some((guest, share)) = next else { return };
            self.serve(guest, share);
        }
    }

    fn serve(&self, (socket, address): Guest, share: Share<Source>) {
        let place = Stranger { door: Arc::clone(&self.strangers), share };
        self.tasks.spawn(serve_tcp(self.clone(), socket, address, place));
    }

    async fn accept_unix(self, listener: UnixListener) {
        loop {
            let accepted = tokio::select! {
                () = self.closing.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, _)) => {
                    self.tasks.spawn(connection::serve_unix(self.clone(), socket));
                }
                Err(error) => self.accept_failed(&error).await,
            }
        }
    }

    /// Out of descriptors, most often: trying again at once would turn a shortage into a busy loop.
    async fn accept_failed(&self, error: &io::Error) {
        self.desk.not_accepted(&self.name, error);
        tokio::time::sleep(ACCEPT_AGAIN).await;
    }

    async fn watch_revocations(self) {
        let mut seen = self.revocations.generation();
        let mut look = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                () = self.closing.cancelled() => return,
                _ = look.tick() => {}
            }
            let now = self.revocations.generation();
            if now != seen {
                seen = now;
                let cut = self.connections.cut_revoked(&self.revocations, &self.name);
                self.desk.counts().cut(cut);
            }
        }
    }

    fn now(&self) -> Timestamp {
        self.desk.now()
    }
}

/// Where strangers come in.
struct Door {
    strangers: Mutex<Strangers<Guest>>,
    /// Told when one is known, or given up.
    freed: Notify,
}

/// Somebody who waits: a socket, and where it comes from.
type Guest = (TcpStream, SocketAddr);

/// The place of a stranger who is served; it is given back when this is dropped.
struct Stranger {
    door: Arc<Door>,
    share: Share<Source>,
}

impl Stranger {
    /// Resolves when the place is somebody else's.
    async fn lost(&self) {
        self.share.lost.cancelled().await;
    }
}

impl Default for Door {
    fn default() -> Self {
        Self { strangers: Mutex::new(Strangers::new(UNKNOWN, WAITING)), freed: Notify::new() }
    }
}

impl Door {
    fn lock(&self) -> MutexGuard<'_, Strangers<Guest>> {
        self.strangers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.door.lock().leave(&self.share);
        self.door.freed.notify_one();
    }
}

/// Binds with room for many to come at once: all agents reconnect in the same second.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Binds a Unix socket, also where a process that was killed has left one: whoever still listens there keeps it.
fn listen_at(path: &std::path::Path) -> io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            match std::os::unix::net::UnixStream::connect(path) {
                Err(refused) if refused.kind() == io::ErrorKind::ConnectionRefused => {
                    std::fs::remove_file(path)?;
                    UnixListener::bind(path)
                }
                _ => Err(error),
            }
        }
        bound => bound,
    }
}

/// Most connections of one port. When they are all taken, whoever has few gets one of whoever has the most.
pub const CONNECTIONS: usize = 20_000;

/// So often it is looked whether something was revoked.
pub const LOOK: Duration = Duration::from_millis(100);

/// Handshakes that compute at the same moment.
const PACE: usize = 2;

/// Callers who are served although it is not known yet who they are.
pub const UNKNOWN: usize = 2048;

/// Callers who wait for that, as sockets that nothing is read from.
pub const WAITING: usize = 4096;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 4096;

const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
