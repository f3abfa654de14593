//! A worker: one thread with its own event loop, link connections, flows and listening sockets.
//!
//! Nothing on the data path is shared between workers. A flow lives where its client was accepted,
//! or, when no connection of this worker leads to the service, is handed over once, whole, before
//! any byte was read. Within one turn of the loop every ready socket is served a bounded amount,
//! then each link that has something to say writes once.

mod accept;
mod edge;
mod link;
mod streams;

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TryRecvError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use handfast_pki::Name;
use mio::{Events, Poll, Registry, Token, Waker};
use slab::Slab;

use crate::frame::{RECORD, ResetCode};
use crate::gate::Established;
use crate::route::Routes;
use crate::status::Counters;
pub(crate) use accept::listening_sockets;
use accept::{Door, Held};
use edge::Edge;
use link::Link;
pub(crate) use link::push_control;

/// Names one link connection in the whole node.
pub(crate) type ConnectionId = u64;

/// What a worker is told.
pub(crate) enum Command {
    /// Carry flows on a connection whose handshake is done.
    Carry(Box<Established>),
    /// Open nothing new on a connection; close it when its flows have ended.
    Drain(ConnectionId),
    /// Cut a connection and every flow on it, now.
    Cut(ConnectionId),
    /// Send a control message.
    Say(ConnectionId, Vec<u8>),
    /// Accept clients.
    Listen {
        name: Name,
        socket: std::net::TcpListener,
        routing_key: String,
        counters: Arc<Counters>,
    },
    /// Stop accepting clients; their flows go on. What is sent along is let go of when the socket is closed.
    Unlisten(Name, Sender<Infallible>),
    /// Carry on with a client that another worker accepted.
    Adopt(Client),
    /// The routes changed: look again at the clients that wait for one.
    Reroute,
    /// Stop accepting; end when the flows have, or at the deadline.
    Stop(Instant),
}

/// An accepted client that has no way yet.
pub(crate) struct Client {
    pub(crate) socket: mio::net::TcpStream,
    pub(crate) routing_key: Arc<str>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) since: Instant,
}

/// What a worker tells the control thread.
pub(crate) enum Event {
    /// A control message came in.
    Message(ConnectionId, Vec<u8>),
    /// The peer opens nothing new on this connection.
    PeerDrains(ConnectionId),
    /// A connection is gone.
    Lost(ConnectionId, Loss),
    /// A connector's target could not be reached.
    Unreachable { connector: Name, error: io::Error },
    /// The worker has ended; it says nothing more.
    Ended,
    /// A connector's target was reached.
    Reached { connector: Name },
}

/// Why a link connection ended.
#[derive(Debug)]
pub(crate) enum Loss {
    /// The socket failed.
    Io(io::Error),
    /// The peer closed it, or we did after draining.
    Closed,
    /// The peer broke the protocol.
    Protocol(String),
    /// Nothing was heard for too long.
    Silent,
    /// The peer's certificate is not trusted any more.
    Untrusted,
}

/// Where to reach a worker.
#[derive(Clone)]
pub(crate) struct WorkerHandle {
    commands: Sender<Command>,
    waker: Arc<Waker>,
}

impl WorkerHandle {
    pub(crate) fn send(&self, command: Command) {
        // A worker that is gone has stopped with the node.
        if self.commands.send(command).is_ok()
            && let Err(error) = self.waker.wake()
        {
            tracing::error!(%error, "cannot wake a worker");
        }
    }
}

/// For each site, the workers that have a connection to it.
pub(crate) type Presence = HashMap<Name, Vec<usize>>;

/// One turn serves each ready socket at most this many times.
const READS_PER_TURN: usize = 4;
/// Records read from an edge at once.
const RECORDS_PER_READ: usize = 4;
/// How often time-outs, pings and waiting clients are looked at while there are any.
const TICK: Duration = Duration::from_millis(250);
/// Larger gaps between ticks mean that we were not running; nobody else is blamed for them.
const STALLED: Duration = Duration::from_millis(1250);

pub(crate) struct Worker {
    context: Context,
    poll: Poll,
    commands: Receiver<Command>,
    links: Slab<Link>,
    by_site: HashMap<Name, Vec<usize>>,
    by_connection: HashMap<ConnectionId, usize>,
    edges: Slab<Edge>,
    doors: Slab<Door>,
    held: VecDeque<Held>,
    run: VecDeque<Task>,
    dirty: Vec<usize>,
    /// Links whose peer may be waiting for an acknowledgement.
    owing: Vec<usize>,
    /// Records that are read from edges, with room for each frame's header.
    scratch: Box<[u8]>,
    gathered: Vec<u8>,
    last_tick: Instant,
    /// What pings count from.
    epoch: Instant,
    stop: Option<Instant>,
}

/// What every part of a worker may need besides its own state.
pub(crate) struct Context {
    pub(crate) index: usize,
    pub(crate) registry: Registry,
    pub(crate) routes: Arc<ArcSwap<Routes>>,
    pub(crate) presence: Arc<ArcSwap<Presence>>,
    pub(crate) events: SyncSender<crate::control::Input>,
    pub(crate) peers: Arc<std::sync::OnceLock<Vec<WorkerHandle>>>,
    pub(crate) now: Instant,
    pub(crate) turn: usize,
    /// Edges that connect to their server, or did a moment ago.
    pub(crate) connecting: Vec<usize>,
}

impl Context {
    pub(crate) fn tell(&self, event: Event) {
        // The control thread outlives the workers; when it is gone, so is the node.
        let _ = self.events.send(crate::control::Input::Worker(self.index, event)).is_ok();
    }

    pub(crate) fn next_turn(&mut self) -> usize {
        self.turn = self.turn.wrapping_add(1);
        self.turn
    }
}

/// Something that can go on.
#[derive(Clone, Copy)]
enum Task {
    Door(usize),
    Edge(usize),
    Link(usize),
}

const KIND_DOOR: usize = 0;
const KIND_EDGE: usize = 1;
const KIND_LINK: usize = 2;
const WAKE: Token = Token(usize::MAX);

fn token(kind: usize, index: usize) -> Token {
    Token(index << 2 | kind)
}

/// The parts that all workers of a node share.
pub(crate) struct Shared {
    pub(crate) routes: Arc<ArcSwap<Routes>>,
    pub(crate) presence: Arc<ArcSwap<Presence>>,
    pub(crate) events: SyncSender<crate::control::Input>,
    pub(crate) peers: Arc<std::sync::OnceLock<Vec<WorkerHandle>>>,
}

impl Worker {
    /// Makes a worker and the handle to it; [`Worker::run`] is its thread.
    pub(crate) fn new(index: usize, shared: &Shared) -> io::Result<(Self, WorkerHandle)> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        let (commands, receiver) = std::sync::mpsc::channel();
        let context = Context {
            index,
            registry: poll.registry().try_clone()?,
            routes: Arc::clone(&shared.routes),
            presence: Arc::clone(&shared.presence),
            events: shared.events.clone(),
            peers: Arc::clone(&shared.peers),
            now: Instant::now(),
            turn: index,
            connecting: Vec::new(),
        };
        let worker = Self {
            last_tick: context.now,
            epoch: context.now,
            context,
            poll,
            commands: receiver,
            links: Slab::new(),
            by_site: HashMap::new(),
            by_connection: HashMap::new(),
            edges: Slab::new(),
            doors: Slab::new(),
            held: VecDeque::new(),
            run: VecDeque::new(),
            dirty: Vec::new(),
            owing: Vec::new(),
            scratch: vec![0; RECORD * RECORDS_PER_READ].into_boxed_slice(),
            gathered: Vec::new(),
            stop: None,
        };
        Ok((worker, WorkerHandle { commands, waker }))
    }

    /// The event loop; returns when the worker was stopped.
    pub(crate) fn run(mut self) {
        self.turns();
        self.context.tell(Event::Ended);
    }

    fn turns(&mut self) {
        let mut events = Events::with_capacity(1024);
        loop {
            let timeout = if !self.run.is_empty() {
                Some(Duration::ZERO)
            } else if self.needs_ticks() {
                Some((self.last_tick + TICK).saturating_duration_since(Instant::now()))
            } else {
                None
            };
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    tracing::error!(%error, "the event queue failed; this worker ends");
                    return;
                }
            }
            self.context.now = Instant::now();
            for event in &events {
                self.note(event);
            }
            if !self.take_commands() {
                return;
            }
            for _ in 0..self.run.len() {
                match self.run.pop_front() {
                    Some(Task::Door(index)) => self.accept(index),
                    Some(Task::Edge(index)) => self.serve_edge(index),
                    Some(Task::Link(index)) => self.serve_link(index),
                    None => break,
                }
            }
            self.flush_links();
            self.acknowledge();
            if self.context.now.saturating_duration_since(self.last_tick) >= TICK {
                self.tick();
            }
            if let Some(deadline) = self.stop
                && (self.edges.is_empty() || self.context.now >= deadline)
            {
                self.close_everything();
                return;
            }
        }
    }

    fn needs_ticks(&self) -> bool {
        !self.links.is_empty()
            || !self.held.is_empty()
            || self.stop.is_some()
            || self.doors.iter().any(|(_, door)| door.is_pausing())
            || !self.context.connecting.is_empty()
    }

    fn note(&mut self, event: &mio::event::Event) {
        let Token(token) = event.token();
        if event.token() == WAKE {
            return;
        }
        let index = token >> 2;
        match token & 3 {
            KIND_DOOR => self.run.push_back(Task::Door(index)),
            KIND_EDGE => {
                if let Some(edge) = self.edges.get_mut(index) {
                    edge.readable |= event.is_readable() || event.is_read_closed();
                    edge.ending |= event.is_read_closed();
                    edge.writable |= event.is_writable() || event.is_write_closed();
                    self.schedule_edge(index);
                }
            }
            _ => {
                if let Some(link) = self.links.get_mut(index) {
                    link.readable |= event.is_readable() || event.is_read_closed();
                    link.ending |= event.is_read_closed();
                    link.writable |= event.is_writable();
                    self.schedule_link(index);
                }
            }
        }
    }

    fn schedule_edge(&mut self, index: usize) {
        if let Some(edge) = self.edges.get_mut(index)
            && !std::mem::replace(&mut edge.scheduled, true)
        {
            self.run.push_back(Task::Edge(index));
        }
    }

    fn schedule_link(&mut self, index: usize) {
        if let Some(link) = self.links.get_mut(index)
            && !std::mem::replace(&mut link.scheduled, true)
        {
            self.run.push_back(Task::Link(index));
        }
    }

    fn touch_link(&mut self, index: usize) {
        if let Some(link) = self.links.get_mut(index)
            && !std::mem::replace(&mut link.dirty, true)
        {
            self.dirty.push(index);
        }
    }

    /// False when the node has gone.
    fn take_commands(&mut self) -> bool {
        loop {
            match self.commands.try_recv() {
                Ok(command) => self.obey(command),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Carry(established) => self.carry(*established),
            Command::Cut(id) => self.cut(id),
            Command::Drain(id) => self.drain(id),
            Command::Say(id, message) => self.say(id, &message),
            Command::Listen { name, socket, routing_key, counters } => {
                self.listen(name, socket, &routing_key, counters);
            }
            Command::Unlisten(name, closed) => {
                self.unlisten(&name);
                drop(closed);
            }
            Command::Adopt(client) => self.adopt(client),
            Command::Reroute => self.retry_held(),
            Command::Stop(deadline) => {
                self.doors.clear();
                self.held.clear();
                let ids: Vec<_> = self.by_connection.keys().copied().collect();
                for id in ids {
                    self.drain(id);
                }
                self.stop = Some(deadline);
            }
        }
    }

    fn tick(&mut self) {
        let gap = self.context.now.saturating_duration_since(self.last_tick);
        self.last_tick = self.context.now;
        self.tick_links(gap > STALLED);
        self.tick_edges();
        self.retry_held();
        let paused: Vec<_> =
            self.doors.iter().filter(|(_, door)| door.is_pausing()).map(|(i, _)| i).collect();
        self.run.extend(paused.into_iter().map(Task::Door));
        self.flush_links();
    }

    fn close_everything(&mut self) {
        let open: Vec<_> = self.edges.iter().map(|(index, _)| index).collect();
        for index in open {
            self.reset_edge(index, ResetCode::Broken);
        }
        for index in self.links.iter().map(|(index, _)| index).collect::<Vec<_>>() {
            self.close_link(index, Loss::Closed);
        }
    }
}
