//! Clients come in: listening sockets, and where each new flow goes.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use handfast_pki::Name;
use mio::Interest;
use mio::net::{TcpListener, TcpStream};

use super::edge::{Edge, Far};
use super::{Client, Command, KIND_DOOR, KIND_EDGE, Task, Worker, token};
use crate::frame::{self, Kind};
use crate::route::{Choice, Routes, Target};
use crate::status::Counters;
use crate::window::{ReceiveWindow, SendWindow};

/// A listening socket of this worker.
pub(crate) struct Door {
    name: Name,
    socket: TcpListener,
    routing_key: Arc<str>,
    counters: Arc<Counters>,
    /// Accepting failed (no file descriptors, say); tried again at the next tick.
    pausing: bool,
}

impl Door {
    pub(crate) fn is_pausing(&self) -> bool {
        self.pausing
    }
}

/// A client that waits for a way.
pub(crate) struct Held {
    client: Client,
}

/// New clients taken from one listening socket in one turn.
const ACCEPTS_PER_TURN: usize = 64;
/// How long a client waits for a link that is being dialled again.
const HOLD: Duration = Duration::from_secs(5);
/// Clients that may wait at once on one worker.
const HELD_AT_MOST: usize = 4096;

enum Route {
    Local(Target),
    Link(usize),
    Other(usize),
    Wait,
    Nowhere,
}

impl Worker {
    pub(super) fn listen(
        &mut self,
        name: Name,
        socket: std::net::TcpListener,
        routing_key: &str,
        counters: Arc<Counters>,
    ) {
        let entry = self.doors.vacant_entry();
        let mut socket = TcpListener::from_std(socket);
        let token = token(KIND_DOOR, entry.key());
        if let Err(error) = self.context.registry.register(&mut socket, token, Interest::READABLE) {
            tracing::error!(listener = %name, %error, "cannot watch the listening socket");
            return;
        }
        entry.insert(Door {
            name,
            socket,
            routing_key: routing_key.into(),
            counters,
            pausing: false,
        });
    }

    pub(super) fn unlisten(&mut self, name: &Name) {
        self.doors.retain(|_, door| door.name != *name);
    }

    pub(super) fn accept(&mut self, index: usize) {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(door) = self.doors.get_mut(index) else { return };
            door.pausing = false;
            match door.socket.accept() {
                Ok((socket, _)) => {
                    let client = Client {
                        socket,
                        routing_key: Arc::clone(&door.routing_key),
                        counters: Arc::clone(&door.counters),
                        since: self.context.now,
                    };
                    client.counters.opened();
                    self.start(client, true);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted
                    ) => {}
                Err(error) => {
                    tracing::warn!(listener = %door.name, %error, "cannot accept; trying again shortly");
                    door.pausing = true;
                    return;
                }
            }
        }
        self.run.push_back(Task::Door(index));
    }

    /// A client that another worker accepted because only we have a way.
    pub(super) fn adopt(&mut self, client: Client) {
        self.start(client, false);
    }

    fn start(&mut self, client: Client, may_hand_over: bool) {
        let turn = self.context.next_turn();
        let routes = self.context.routes.load_full();
        match self.route(&routes, &client.routing_key, turn) {
            Route::Local(target) => self.start_local(client, &target),
            Route::Link(link) => self.start_remote(client, link),
            Route::Other(_) if !may_hand_over => self.hold(client),
            Route::Other(worker) => match self.context.peers.get().and_then(|p| p.get(worker)) {
                Some(peer) => peer.send(Command::Adopt(client)),
                None => self.hold(client),
            },
            Route::Wait => self.hold(client),
            Route::Nowhere => refuse(client),
        }
    }

    fn route(&self, routes: &Routes, routing_key: &str, turn: usize) -> Route {
        match routes.choose(routing_key, turn) {
            Choice::Local(target) => Route::Local(target.clone()),
            Choice::Remote(ways) => {
                let presence = self.context.presence.load();
                for way in ways {
                    let open = self.by_site.get(&way.site).into_iter().flatten();
                    let least = open
                        .filter(|&&link| self.links.get(link).is_some_and(|l| !l.mux.draining))
                        .min_by_key(|&&link| {
                            self.links.get(link).map_or(usize::MAX, |l| l.mux.streams.len())
                        });
                    if let Some(&link) = least {
                        return Route::Link(link);
                    }
                    let elsewhere = presence.get(&way.site).into_iter().flatten();
                    let others: Vec<_> =
                        elsewhere.copied().filter(|&w| w != self.context.index).collect();
                    if let Some(&worker) = others.get(turn % others.len().max(1)) {
                        return Route::Other(worker);
                    }
                }
                Route::Wait
            }
            Choice::Hold => Route::Wait,
            Choice::None => Route::Nowhere,
        }
    }

    fn start_local(&mut self, client: Client, target: &Target) {
        let Some(near) = self.add_edge(client.socket, Far::Nothing, client.counters) else {
            return;
        };
        match self.connect_target(target, Far::Edge(near)) {
            Some(far) => {
                if let Some(edge) = self.edges.get_mut(near) {
                    edge.far = Far::Edge(far);
                }
            }
            None => self.abort_edge(near),
        }
    }

    fn start_remote(&mut self, client: Client, link_index: usize) {
        let routing_key = Arc::clone(&client.routing_key);
        if !self.links.contains(link_index) {
            return self.hold(client);
        }
        let Some(edge) = self.add_edge(client.socket, Far::Nothing, client.counters) else {
            return;
        };
        let Some(link) = self.links.get_mut(link_index) else { return };
        let id = link.mux.next_stream();
        link.mux.streams.insert(id, edge);
        link.mux.counters.opened();
        frame::push(&mut link.mux.batch, Kind::Open, 0, id, routing_key.as_bytes());
        if let Some(edge) = self.edges.get_mut(edge) {
            edge.far = Far::Stream {
                link: link_index,
                id,
                send: SendWindow::new(),
                receive: ReceiveWindow::new(),
            };
        }
        self.touch_link(link_index);
    }

    fn hold(&mut self, client: Client) {
        let waited = self.context.now.saturating_duration_since(client.since);
        if waited >= HOLD || self.held.len() >= HELD_AT_MOST || self.stop.is_some() {
            refuse(client);
        } else {
            self.held.push_back(Held { client });
        }
    }

    pub(super) fn retry_held(&mut self) {
        for held in std::mem::take(&mut self.held) {
            self.start(held.client, true);
        }
    }

    /// Watches a socket; none when the system refuses.
    pub(super) fn add_edge(
        &mut self,
        mut socket: TcpStream,
        far: Far,
        counters: Arc<Counters>,
    ) -> Option<usize> {
        let entry = self.edges.vacant_entry();
        let index = entry.key();
        let interest = Interest::READABLE | Interest::WRITABLE;
        match self.context.registry.register(&mut socket, token(KIND_EDGE, index), interest) {
            Ok(()) => {
                entry.insert(Edge::new(socket, far, counters));
                Some(index)
            }
            Err(error) => {
                tracing::warn!(%error, "cannot watch a client's socket");
                counters.failed();
                counters.closed();
                None
            }
        }
    }
}

fn refuse(client: Client) {
    client.counters.failed();
    client.counters.closed();
    // A reset says "no such service" where a plain close would look like an empty answer.
    let _ = socket2::SockRef::from(&client.socket).set_linger(Some(Duration::ZERO)).is_ok();
}

/// Sockets that listen at the same place, one for each worker; the kernel spreads clients over them.
pub(crate) fn listening_sockets(
    address: std::net::SocketAddr,
    count: usize,
) -> io::Result<(std::net::SocketAddr, VecDeque<std::net::TcpListener>)> {
    use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
    let open = |address: std::net::SocketAddr, shared: bool| -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(shared)?;
        // Accepted sockets inherit these on Linux, which saves three calls for each client.
        socket.set_tcp_nodelay(true)?;
        socket.set_keepalive(true)?;
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(Duration::from_secs(60)))?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        Ok(socket)
    };
    // Without sharing first: another process on the same port has to be noticed, not joined.
    let alone = open(address, false)?;
    let bound = alone.local_addr()?.as_socket().unwrap_or(address);
    drop(alone);
    let mut sockets = VecDeque::new();
    for _ in 0..count {
        let socket = open(bound, true)?;
        socket.listen(4096)?;
        sockets.push_back(socket.into());
    }
    Ok((bound, sockets))
}
