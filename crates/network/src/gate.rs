//! The gate: handshakes of link connections, both dialled and accepted, on a thread of their own.
//!
//! A stranger costs the data path nothing: only a connection whose peer has proven to be a site of
//! our trust domain, and has said hello, is passed on to a worker. Everything before that is bounded
//! in number, bytes and time.

mod pending;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TryRecvError};
use std::time::{Duration, Instant};

use handfast_pki::{Chain, Name};
use handfast_tls::{Attempt, Fault, LINK_ALPN, Peer, Session, fault_of_io, timed_out};
use jiff::Timestamp;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::ServerName;
use slab::Slab;

use crate::Clock;
use crate::control::Input;
use crate::records::Records;
use crate::status::{Counters, Refusal};
use crate::worker::ConnectionId;
use pending::{Order, Outcome, Pending};

/// A connection whose peer is known; what a worker carries.
pub(crate) struct Established {
    pub(crate) id: ConnectionId,
    pub(crate) site: Name,
    pub(crate) socket: TcpStream,
    pub(crate) records: Records,
    /// Whole frames that came behind the hello.
    pub(crate) early: Vec<u8>,
    pub(crate) dialled: bool,
    pub(crate) counters: Arc<Counters>,
}

/// What the control thread has to know of it.
pub(crate) struct Introduction {
    pub(crate) id: ConnectionId,
    pub(crate) site: Name,
    /// The link that we dialled; none for an accepted connection.
    pub(crate) link: Option<Name>,
    pub(crate) group: Vec<u8>,
    pub(crate) index: usize,
    pub(crate) cost: u32,
    pub(crate) address: SocketAddr,
    pub(crate) peer: Peer,
    /// What the peer presented, for judging it again.
    pub(crate) chain: Chain,
    pub(crate) session: Session,
    pub(crate) counters: Arc<Counters>,
}

/// What the gate reports.
pub(crate) enum News {
    /// A connection is ready to carry flows.
    Established(Box<Introduction>, Box<Established>),
    /// A connection that we dialled did not come to be.
    NotDialled { link: Name, group: Vec<u8>, fault: Fault },
    /// Somebody was refused at the link port.
    Refused(Refusal),
    /// The link port listens, or why it does not.
    Access(SocketAddr, Option<Fault>),
}

/// What the gate is told.
pub(crate) enum GateCommand {
    /// Accept links here, with this; or nowhere.
    Access { site: Name, access: Option<(SocketAddr, Arc<ServerConfig>)> },
    /// Dial one connection of a link.
    Dial(Box<Dial>),
    /// End.
    Stop,
}

/// One connection to dial.
pub(crate) struct Dial {
    pub(crate) site: Name,
    pub(crate) link: Name,
    pub(crate) address: SocketAddr,
    pub(crate) host: String,
    pub(crate) name: ServerName<'static>,
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) group: Vec<u8>,
    pub(crate) index: usize,
    pub(crate) connections: usize,
    pub(crate) cost: u32,
}

/// Where to reach the gate.
#[derive(Clone)]
pub(crate) struct GateHandle {
    commands: Sender<GateCommand>,
    waker: Arc<Waker>,
}

impl GateHandle {
    pub(crate) fn send(&self, command: GateCommand) {
        if self.commands.send(command).is_ok()
            && let Err(error) = self.waker.wake()
        {
            tracing::error!(%error, "cannot wake the gate");
        }
    }
}

pub(crate) struct Gate {
    poll: Poll,
    commands: Receiver<GateCommand>,
    news: SyncSender<Input>,
    clock: Clock,
    site: Option<Name>,
    access: Option<Access>,
    /// Accepting failed (no file descriptors, say); tried again at the next tick.
    pausing: bool,
    pending: Slab<Pending>,
    by_source: HashMap<IpAddr, usize>,
    next_id: ConnectionId,
    /// Held so that it outlives the control thread's: a waker that is dropped before its wake-up was
    /// seen takes the wake-up with it, and the gate would never hear that it is to end.
    _waker: Arc<Waker>,
}

struct Access {
    bind: SocketAddr,
    socket: Option<TcpListener>,
    tls: Arc<ServerConfig>,
}

/// From connect or accept to the peer's hello.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Accepted connections that may be in their handshake at once; the oldest from where most are makes room.
const PENDING: usize = 256;
/// The same from one address, or one network of IPv6; the oldest of them makes room.
const PENDING_FROM_ONE: usize = 64;
/// Accepted in one turn.
const ACCEPTS_PER_TURN: usize = 16;

const ACCESS: Token = Token(usize::MAX - 1);
const WAKE: Token = Token(usize::MAX);
const TICK: Duration = Duration::from_millis(250);

impl Gate {
    pub(crate) fn new(news: SyncSender<Input>, clock: Clock) -> io::Result<(Self, GateHandle)> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        let (commands, receiver) = std::sync::mpsc::channel();
        let gate = Self {
            poll,
            commands: receiver,
            news,
            clock,
            site: None,
            access: None,
            pausing: false,
            pending: Slab::new(),
            by_source: HashMap::new(),
            next_id: 1,
            _waker: Arc::clone(&waker),
        };
        Ok((gate, GateHandle { commands, waker }))
    }

    /// The event loop; returns when the gate was stopped.
    pub(crate) fn run(mut self) {
        let mut events = Events::with_capacity(256);
        let mut accept_again = false;
        loop {
            let timeout = match (accept_again, self.pending.is_empty() && !self.pausing) {
                (true, _) => Some(Duration::ZERO),
                (false, false) => Some(TICK),
                (false, true) => None,
            };
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    tracing::error!(%error, "the event queue failed; no link can be made any more");
                    return;
                }
            }
            loop {
                match self.commands.try_recv() {
                    Ok(GateCommand::Stop) | Err(TryRecvError::Disconnected) => return,
                    Ok(command) => accept_again |= self.obey(command),
                    Err(TryRecvError::Empty) => break,
                }
            }
            for event in &events {
                match event.token() {
                    WAKE => {}
                    ACCESS => accept_again = true,
                    Token(index) => self.serve(index),
                }
            }
            if accept_again || self.pausing {
                accept_again = self.accept();
            }
            self.expire();
        }
    }

    /// True when the link port was opened.
    fn obey(&mut self, command: GateCommand) -> bool {
        match command {
            GateCommand::Access { site, access } => {
                self.site = Some(site);
                self.open(access)
            }
            GateCommand::Dial(dial) => {
                self.dial(*dial);
                false
            }
            GateCommand::Stop => false,
        }
    }

    fn open(&mut self, wish: Option<(SocketAddr, Arc<ServerConfig>)>) -> bool {
        let Some((bind, tls)) = wish else {
            self.access = None;
            return false;
        };
        if let Some(access) = &mut self.access
            && access.bind == bind
            && access.socket.is_some()
        {
            // The next handshake uses it.
            access.tls = tls;
            return false;
        }
        self.access = None;
        let listener = std::net::TcpListener::bind(bind).and_then(|socket| {
            socket.set_nonblocking(true).map(|()| TcpListener::from_std(socket))
        });
        let (socket, fault, bound) = match listener {
            Ok(mut socket) => {
                let bound = socket.local_addr().unwrap_or(bind);
                match self.poll.registry().register(&mut socket, ACCESS, Interest::READABLE) {
                    Ok(()) => (Some(socket), None, bound),
                    Err(error) => (None, Some(error), bind),
                }
            }
            Err(error) => (None, Some(error), bind),
        };
        let fault = fault.map(|error| {
            let attempt = Attempt::server(self.now()).with_subject(format!("link port {bind}"));
            fault_of_io(&error, &attempt)
        });
        let opened = socket.is_some();
        self.access = Some(Access { bind, socket, tls });
        self.tell(News::Access(bound, fault));
        opened
    }

    /// True when there may be more to accept.
    fn accept(&mut self) -> bool {
        self.pausing = false;
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(access) = &self.access else { return false };
            let Some(socket) = &access.socket else { return false };
            match socket.accept() {
                Ok((socket, address)) => {
                    let tls = Arc::clone(&access.tls);
                    self.greet(socket, address, tls);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted
                    ) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept at the link port; trying again shortly");
                    self.pausing = true;
                    return false;
                }
            }
        }
        true
    }

    fn greet(&mut self, socket: TcpStream, address: SocketAddr, tls: Arc<ServerConfig>) {
        let Some(site) = self.site.clone() else { return };
        let from = source_of(address.ip());
        if self.by_source.get(&from).is_some_and(|count| *count >= PENDING_FROM_ONE) {
            self.evict(from);
        } else if self.by_source.values().sum::<usize>() >= PENDING
            && let Some(fullest) = self.fullest()
        {
            self.evict(fullest);
        }
        *self.by_source.entry(from).or_default() += 1;
        let records = match Records::server(tls) {
            Ok(records) => records,
            Err(error) => {
                tracing::error!(%error, "the link port's TLS configuration is unusable");
                self.forget_source(address.ip());
                return;
            }
        };
        let deadline = Instant::now() + HANDSHAKE;
        self.watch(Pending::new(socket, address, records, Order::Accepted, site, deadline));
    }

    fn dial(&mut self, dial: Dial) {
        let attempt = Attempt::client(dial.host.clone(), self.now())
            .with_peer_addr(dial.address)
            .with_alpn(&[LINK_ALPN])
            .with_subject(format!("link {}", dial.link));
        let started = Records::client(Arc::clone(&dial.tls), dial.name.clone())
            .map_err(|error| handfast_tls::fault_of(&error, &attempt, None))
            .and_then(|records| match TcpStream::connect(dial.address) {
                Ok(socket) => Ok((socket, records)),
                Err(error) => Err(fault_of_io(&error, &attempt)),
            });
        match started {
            Ok((socket, records)) => {
                let (address, site) = (dial.address, dial.site.clone());
                let deadline = Instant::now() + HANDSHAKE;
                let order = Order::Dialled(Box::new(dial));
                self.watch(Pending::new(socket, address, records, order, site, deadline));
            }
            Err(fault) => {
                self.tell(News::NotDialled { link: dial.link, group: dial.group, fault });
            }
        }
    }

    fn watch(&mut self, mut pending: Pending) {
        let entry = self.pending.vacant_entry();
        let index = entry.key();
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) =
            self.poll.registry().register(pending.socket_mut(), Token(index), interest)
        {
            tracing::warn!(%error, "cannot watch a link connection");
            if !pending.is_dialled() {
                self.forget_source(pending.address().ip());
            }
            return;
        }
        entry.insert(pending);
        self.serve(index);
    }

    fn serve(&mut self, index: usize) {
        let now = self.now();
        let Some(pending) = self.pending.get_mut(index) else { return };
        match pending.advance(now) {
            Outcome::Waiting => {}
            Outcome::Over => self.drop_pending(index),
            Outcome::Failed(fault) => {
                let failed = pending.failed_at();
                self.report(failed, fault);
                if self.pending.get(index).is_none_or(|p| !p.is_lingering()) {
                    self.drop_pending(index);
                }
            }
            Outcome::Ready => self.hand_over(index),
        }
    }

    fn hand_over(&mut self, index: usize) {
        let pending = self.pending.remove(index);
        if !pending.is_dialled() {
            self.forget_source(pending.address().ip());
        }
        let id = self.next_id;
        self.next_id += 1;
        match pending.into_established(id, self.poll.registry()) {
            Ok((introduction, established)) => {
                self.tell(News::Established(Box::new(introduction), Box::new(established)));
            }
            Err(error) => tracing::warn!(%error, "cannot pass a link connection on"),
        }
    }

    fn report(&mut self, failed: Failed, fault: Fault) {
        match failed {
            Failed::Dial { link, group } => self.tell(News::NotDialled { link, group, fault }),
            Failed::Accept(peer) => {
                self.tell(News::Refused(Refusal { at: self.now(), peer, fault }));
            }
        }
    }

    fn expire(&mut self) {
        let now = Instant::now();
        let late: Vec<_> =
            self.pending.iter().filter(|(_, p)| p.is_late(now)).map(|(index, _)| index).collect();
        for index in late {
            let timestamp = self.now();
            if let Some(pending) = self.pending.get(index)
                && !pending.is_lingering()
            {
                let fault = timed_out(HANDSHAKE, &pending.attempt(timestamp));
                let failed = pending.failed_at();
                self.report(failed, fault);
            }
            self.drop_pending(index);
        }
    }

    /// Where most of the accepted connections come from.
    fn fullest(&self) -> Option<IpAddr> {
        self.by_source.iter().max_by_key(|(_, count)| **count).map(|(source, _)| *source)
    }

    /// Makes room by giving up on the connection accepted from there that has been at it longest: a good one is
    /// done in a moment, so a flood of bad ones from the same address does not keep it out.
    fn evict(&mut self, from: IpAddr) {
        let oldest = self
            .pending
            .iter()
            .filter(|(_, p)| !p.is_dialled() && source_of(p.address().ip()) == from)
            .min_by_key(|(_, p)| p.deadline())
            .map(|(index, _)| index);
        if let Some(index) = oldest {
            self.drop_pending(index);
        }
    }

    fn drop_pending(&mut self, index: usize) {
        if let Some(pending) = self.pending.try_remove(index)
            && !pending.is_dialled()
        {
            self.forget_source(pending.address().ip());
        }
    }

    fn forget_source(&mut self, address: IpAddr) {
        let source = source_of(address);
        if let Some(count) = self.by_source.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.by_source.remove(&source);
            }
        }
    }

    fn tell(&self, news: News) {
        // The control thread outlives the gate; when it is gone, so is the node.
        let _ = self.news.send(Input::Gate(news)).is_ok();
    }

    fn now(&self) -> Timestamp {
        (self.clock)()
    }
}

/// Where a stranger comes from: an address, or the half of one of IPv6 that is not his to choose.
fn source_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        v4 @ IpAddr::V4(_) => v4,
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (!0 << 64))),
    }
}

/// Whose attempt failed.
pub(crate) enum Failed {
    Accept(SocketAddr),
    Dial { link: Name, group: Vec<u8> },
}
