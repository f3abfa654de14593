//! Edges: the sockets of clients and servers, one at each end of a flow.
//!
//! An edge reads only what it can pass on at once (into a link's send buffer, or to the other socket
//! of a local flow), so it needs no receive buffer. What its own socket does not take waits in a
//! queue that the stream's window bounds.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use handfast_pki::Name;
use mio::net::TcpStream;

use super::link::Link;
use super::{Context, Event, RECORDS_PER_READ, Task, Worker};
use crate::frame::{self, FIN, HEADER, Kind, MAX_PAYLOAD, RECORD, ResetCode};
use crate::route::Target;
use crate::status::Counters;
use crate::window::{ReceiveWindow, SendWindow};

/// One socket of a flow.
pub(crate) struct Edge {
    pub(super) socket: TcpStream,
    pub(super) far: Far,
    pub(super) counters: Arc<Counters>,
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// The socket's user ended its half: what a short read leaves is the end of the stream.
    pub(super) ending: bool,
    pub(super) scheduled: bool,
    /// In its link's line for room in the send buffer.
    pub(super) waiting: bool,
    /// Set until the connection to a server stands.
    connecting: Option<Box<Connecting>>,
    /// Bytes for the socket that it did not take yet.
    queue: VecDeque<u8>,
    /// The socket said that it will send no more, and the far end knows.
    read_done: bool,
    /// The far end will send no more; the socket is told when the queue is empty.
    far_done: bool,
    /// The socket was told.
    write_done: bool,
}

/// The other end of a flow.
pub(super) enum Far {
    /// Not known yet.
    Nothing,
    /// Another socket of this worker: listener and connector at the same site.
    Edge(usize),
    /// A stream on a link.
    Stream { link: usize, id: u32, send: SendWindow, receive: ReceiveWindow },
}

struct Connecting {
    connector: Name,
    since: Instant,
    rest: VecDeque<SocketAddr>,
}

/// How long a server may take to accept.
const CONNECT: Duration = Duration::from_secs(10);
/// Up to here a read is copied into the link's next record with what others have to say; above it
/// gets records of its own, without the copy.
const SMALL: usize = 4096;
/// Ciphertext waiting on a link above which edges stop reading for it.
const LINK_HIGH: usize = 192 * 1024;

impl Edge {
    pub(super) fn new(socket: TcpStream, far: Far, counters: Arc<Counters>) -> Self {
        Self {
            socket,
            far,
            counters,
            readable: false,
            writable: true,
            ending: false,
            scheduled: false,
            waiting: false,
            connecting: None,
            queue: VecDeque::new(),
            read_done: false,
            far_done: false,
            write_done: false,
        }
    }

    /// Gives `bytes` to the socket; what it does not take waits. Says how many it took.
    pub(super) fn deliver(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut taken = 0;
        if self.queue.is_empty() && self.writable && self.connecting.is_none() {
            while taken < bytes.len() {
                match self.socket.write(&bytes[taken..]) {
                    Ok(n) => taken += n,
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                        self.writable = false;
                        break;
                    }
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(e),
                }
            }
            self.counters.went_out(taken);
        }
        if taken < bytes.len() {
            self.queue.extend(&bytes[taken..]);
        }
        Ok(taken)
    }

    /// Writes what waits; says how many bytes went, and closes the writing half when it is time.
    fn flush(&mut self) -> io::Result<usize> {
        let mut taken = 0;
        while !self.queue.is_empty() && self.writable && self.connecting.is_none() {
            let (first, second) = self.queue.as_slices();
            match self.socket.write_vectored(&[IoSlice::new(first), IoSlice::new(second)]) {
                Ok(n) => {
                    self.queue.drain(..n);
                    taken += n;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        if taken > 0 {
            self.counters.went_out(taken);
            if self.queue.is_empty() {
                // An idle flow holds no memory.
                self.queue = VecDeque::new();
            }
        }
        if self.far_done && !self.write_done && self.queue.is_empty() && self.connecting.is_none() {
            self.write_done = true;
            match self.socket.shutdown(Shutdown::Write) {
                Err(e) if e.kind() != io::ErrorKind::NotConnected => return Err(e),
                _ => {}
            }
        }
        Ok(taken)
    }

    /// The far end will send no more.
    pub(super) fn end_of_far(&mut self) -> io::Result<()> {
        self.far_done = true;
        self.flush().map(drop)
    }

    fn is_over(&self) -> bool {
        self.read_done && self.write_done
    }
}

impl Worker {
    pub(super) fn serve_edge(&mut self, index: usize) {
        let Some(edge) = self.edges.get_mut(index) else { return };
        edge.scheduled = false;
        if edge.connecting.is_some() && !self.finish_connecting(index) {
            return;
        }
        if !self.flush_edge(index) {
            return;
        }
        let Some(edge) = self.edges.get_mut(index) else { return };
        if !edge.readable || edge.read_done {
            return;
        }
        match edge.far {
            Far::Nothing => {}
            Far::Edge(other) => self.read_to_edge(index, other),
            Far::Stream { link, .. } => self.read_to_link(index, link),
        }
    }

    /// False when the edge is gone.
    fn flush_edge(&mut self, index: usize) -> bool {
        let Some(edge) = self.edges.get_mut(index) else { return false };
        if edge.queue.is_empty() && (!edge.far_done || edge.write_done) {
            return !self.close_if_over(index);
        }
        match edge.flush() {
            Ok(0) => {}
            Ok(taken) => match &mut edge.far {
                Far::Stream { link, id, receive, .. } => {
                    let (link_index, id) = (*link, *id);
                    if let Some(link) = self.links.get_mut(link_index)
                        && let Some(grant) = receive.consumed(taken, self.context.now, link.mux.rtt)
                    {
                        frame::push(&mut link.mux.batch, Kind::Window, 0, id, &grant.to_be_bytes());
                        self.touch_link(link_index);
                    }
                }
                // The other socket stopped reading while we had something queued.
                Far::Edge(other) => {
                    let other = *other;
                    self.schedule_edge(other);
                }
                Far::Nothing => {}
            },
            Err(_) => {
                self.reset_edge(index, ResetCode::Broken);
                return false;
            }
        }
        !self.close_if_over(index)
    }

    fn read_to_link(&mut self, index: usize, link_index: usize) {
        let Some(edge) = self.edges.get_mut(index) else { return };
        let Some(link) = self.links.get_mut(link_index) else { return };
        let Far::Stream { id, send, .. } = &mut edge.far else { return };
        if send.available() == 0 {
            return; // a grant schedules us again
        }
        if link.records.pending() + link.mux.batch.len() > LINK_HIGH {
            if !std::mem::replace(&mut edge.waiting, true) {
                link.waiting.push_back(index);
            }
            return;
        }
        let limit = send.available().min(RECORDS_PER_READ * MAX_PAYLOAD);
        match read_framed(&mut edge.socket, &mut self.scratch, limit) {
            Ok(0) => {
                edge.read_done = true;
                frame::push(&mut link.mux.batch, Kind::Data, FIN, *id, &[]);
                self.touch_link(link_index);
                self.close_if_over(index);
            }
            Ok(n) => {
                send.spend(n);
                edge.readable = n == limit || edge.ending;
                edge.counters.came_in(n);
                link.mux.counters.went_out(n);
                let sealed = pass_on(link, &mut self.scratch, *id, n);
                let again = edge.readable;
                self.touch_link(link_index);
                if let Err(error) = sealed {
                    self.lose_link(link_index, &error);
                } else if again {
                    self.schedule_edge(index);
                }
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => edge.readable = false,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => self.schedule_edge(index),
            Err(_) => self.reset_edge(index, ResetCode::Broken),
        }
    }

    fn read_to_edge(&mut self, index: usize, other_index: usize) {
        let Some((edge, other)) = self.edges.get2_mut(index, other_index) else { return };
        if !other.queue.is_empty() || other.connecting.is_some() {
            return; // scheduled again when the queue has gone
        }
        match edge.socket.read(&mut self.scratch) {
            Ok(0) => {
                edge.read_done = true;
                let broken = other.end_of_far().is_err();
                if broken {
                    self.reset_edge(index, ResetCode::Broken);
                } else if !self.close_if_over(index) {
                    self.close_if_over(other_index);
                }
            }
            Ok(n) => {
                edge.readable = n == self.scratch.len() || edge.ending;
                edge.counters.came_in(n);
                if other.deliver(&self.scratch[..n]).is_err() {
                    self.reset_edge(index, ResetCode::Broken);
                } else if edge.readable {
                    self.schedule_edge(index);
                }
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => edge.readable = false,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => self.schedule_edge(index),
            Err(_) => self.reset_edge(index, ResetCode::Broken),
        }
    }

    /// Removes the edge when both directions have ended; true when it is gone.
    pub(super) fn close_if_over(&mut self, index: usize) -> bool {
        let Some(edge) = self.edges.get(index) else { return true };
        if !edge.is_over() {
            return false;
        }
        let edge = self.edges.remove(index);
        edge.counters.closed();
        match edge.far {
            Far::Stream { link, id, .. } => self.forget_stream(link, id),
            // The partner ends by itself when what it holds has gone.
            Far::Edge(other) => {
                if let Some(partner) = self.edges.get_mut(other) {
                    partner.far = Far::Nothing;
                    self.schedule_edge(other);
                }
            }
            Far::Nothing => {}
        }
        true
    }

    /// The edge's socket failed: the far end is told, the socket is reset.
    pub(super) fn reset_edge(&mut self, index: usize, code: ResetCode) {
        if let Some(edge) = self.edges.get_mut(index) {
            match std::mem::replace(&mut edge.far, Far::Nothing) {
                Far::Stream { link, id, .. } => {
                    if let Some(far) = self.links.get_mut(link) {
                        frame::push(&mut far.mux.batch, Kind::Reset, 0, id, &[code as u8]);
                        self.touch_link(link);
                    }
                    self.forget_stream(link, id);
                }
                Far::Edge(other) => {
                    if let Some(partner) = self.edges.get_mut(other) {
                        partner.far = Far::Nothing;
                    }
                    self.abort_edge(other);
                }
                Far::Nothing => {}
            }
        }
        self.abort_edge(index);
    }

    /// The far end is gone: the socket is reset, so that its user does not take what came for whole.
    pub(super) fn abort_edge(&mut self, index: usize) {
        let Some(edge) = self.edges.try_remove(index) else { return };
        abort(edge);
    }

    /// Starts the connection to a connector's server; none when nothing could be tried.
    pub(super) fn connect_target(&mut self, target: &Target, far: Far) -> Option<usize> {
        connect_target(&mut self.context, &mut self.edges, target, far)
    }

    /// True when the connection stands; false while it does not, or when the edge is gone.
    fn finish_connecting(&mut self, index: usize) -> bool {
        let Some(edge) = self.edges.get_mut(index) else { return false };
        if !edge.writable {
            return false;
        }
        let outcome = match edge.socket.take_error() {
            Ok(Some(error)) | Err(error) => Err(error),
            Ok(None) => edge.socket.peer_addr().map(drop),
        };
        match outcome {
            Ok(()) => {
                if let Some(connecting) = edge.connecting.take() {
                    // Connected sockets inherit nothing.
                    let _ = edge.socket.set_nodelay(true).is_ok();
                    if edge.counters.recovered() {
                        self.context.tell(Event::Reached { connector: connecting.connector });
                    }
                }
                if let Far::Edge(other) = edge.far {
                    self.schedule_edge(other);
                }
                true
            }
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                edge.writable = false;
                false
            }
            Err(error) => {
                self.connect_next(index, error);
                false
            }
        }
    }

    fn connect_next(&mut self, index: usize, error: io::Error) {
        let Some(edge) = self.edges.get_mut(index) else { return };
        let Some(connecting) = edge.connecting.as_mut() else { return };
        let registry = &self.context.registry;
        while let Some(address) = connecting.rest.pop_front() {
            let Ok(mut socket) = TcpStream::connect(address) else { continue };
            let interest = mio::Interest::READABLE | mio::Interest::WRITABLE;
            let token = super::token(super::KIND_EDGE, index);
            if registry.register(&mut socket, token, interest).is_ok() {
                edge.socket = socket;
                edge.readable = false;
                edge.writable = false;
                edge.ending = false;
                connecting.since = self.context.now;
                return;
            }
        }
        if edge.counters.went_down() {
            let connector = connecting.connector.clone();
            self.context.tell(Event::Unreachable { connector, error });
        }
        edge.counters.failed();
        self.reset_edge(index, ResetCode::Unreachable);
    }

    pub(super) fn tick_edges(&mut self) {
        let now = self.context.now;
        let mut late = Vec::new();
        let edges = &self.edges;
        self.context.connecting.retain(|&index| {
            let connecting = edges.get(index).and_then(|edge| edge.connecting.as_ref());
            if connecting.is_some_and(|c| now.saturating_duration_since(c.since) > CONNECT) {
                late.push(index);
            }
            connecting.is_some()
        });
        for index in late {
            self.connect_next(index, io::ErrorKind::TimedOut.into());
        }
    }

    /// After room was made in a link's send buffer.
    pub(super) fn resume_waiting(&mut self, link_index: usize) {
        let Some(link) = self.links.get_mut(link_index) else { return };
        for index in std::mem::take(&mut link.waiting) {
            if let Some(edge) = self.edges.get_mut(index) {
                edge.waiting = false;
                if !std::mem::replace(&mut edge.scheduled, true) {
                    self.run.push_back(Task::Edge(index));
                }
            }
        }
    }
}

/// Closes a socket so that its user sees a reset, not an end.
pub(super) fn abort(edge: Edge) {
    let _ = socket2::SockRef::from(&edge.socket).set_linger(Some(Duration::ZERO)).is_ok();
    edge.counters.closed();
}

/// See [`Worker::connect_target`]; free of the worker so that frames can open streams.
pub(super) fn connect_target(
    context: &mut Context,
    edges: &mut slab::Slab<Edge>,
    target: &Target,
    far: Far,
) -> Option<usize> {
    target.counters.opened();
    let mut rest: VecDeque<_> = target.addresses.iter().copied().collect();
    let mut error = io::Error::other("its host name does not resolve");
    while let Some(address) = rest.pop_front() {
        match TcpStream::connect(address) {
            Ok(mut socket) => {
                let entry = edges.vacant_entry();
                let index = entry.key();
                let interest = mio::Interest::READABLE | mio::Interest::WRITABLE;
                let token = super::token(super::KIND_EDGE, index);
                if let Err(e) = context.registry.register(&mut socket, token, interest) {
                    error = e;
                    continue;
                }
                let mut edge = Edge::new(socket, far, Arc::clone(&target.counters));
                edge.writable = false;
                let connector = target.connector.clone();
                edge.connecting =
                    Some(Box::new(Connecting { connector, since: context.now, rest }));
                entry.insert(edge);
                context.connecting.push(index);
                return Some(index);
            }
            Err(e) => error = e,
        }
    }
    target.counters.failed();
    target.counters.closed();
    if target.counters.went_down() {
        context.tell(Event::Unreachable { connector: target.connector.clone(), error });
    }
    None
}

/// Reads up to `limit` bytes into the payload places of consecutive frames.
fn read_framed(socket: &mut TcpStream, scratch: &mut [u8], limit: usize) -> io::Result<usize> {
    let mut left = limit;
    let mut places = scratch.chunks_exact_mut(RECORD).map(|record| {
        let size = left.min(MAX_PAYLOAD);
        left -= size;
        IoSliceMut::new(&mut record[HEADER..HEADER + size])
    });
    let mut places: [IoSliceMut<'_>; RECORDS_PER_READ] =
        std::array::from_fn(|_| places.next().unwrap_or_else(|| IoSliceMut::new(&mut [])));
    socket.read_vectored(&mut places)
}

/// Puts `n` bytes that [`read_framed`] read on their way.
fn pass_on(
    link: &mut Link,
    scratch: &mut [u8],
    id: u32,
    n: usize,
) -> Result<(), crate::records::RecordsError> {
    if n <= SMALL {
        frame::push(&mut link.mux.batch, Kind::Data, 0, id, &scratch[HEADER..HEADER + n]);
        return Ok(());
    }
    // What was said before has to go before.
    link.seal_batch()?;
    let crowded = !link.mux.batch.is_empty();
    let mut left = n;
    let mut end = 0;
    while left > 0 {
        let size = left.min(MAX_PAYLOAD);
        scratch[end..end + HEADER].copy_from_slice(&frame::header(Kind::Data, 0, size, id));
        end += HEADER + size;
        left -= size;
    }
    if crowded {
        link.mux.batch.extend_from_slice(&scratch[..end]);
        return Ok(());
    }
    link.records.seal(&scratch[..end])
}
