//! Transport (b): streams in a framing of our own over a few warm links, an event loop per thread.
//!
//! A thread owns its links and every stream on them; nothing crosses threads after a link was
//! handed out. Client bytes are read behind an eight-byte frame header into the link's staging
//! buffer, which is encrypted as a whole when it is full or when the wake-up ends.

use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice, Read};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use slab::Slab;

use crate::flow::{Flow, wants_read};
use crate::frame::{DATA, FIN, FRAME, OPEN, Parser, RESET, WINDOW, frame, slot_of};
use crate::link::{Link, Opened, Piece, Pool, READ, Session};
use crate::settings::Settings;
use crate::socket::{both, listen};

const ALPN: &[u8] = b"spike/1";
const LISTENER: Token = Token(0);
const NEW_LINK: Token = Token(1);
/// Reads in a row before the others get their turn.
const TURNS: usize = 4;
const STAGING: usize = READ;

pub fn run(settings: Settings) {
    let mut threads = Vec::new();
    let mut doors = Vec::new();
    for _ in 0..settings.threads {
        let poll = Poll::new().expect("epoll");
        let (send, receive) = mpsc::sync_channel(16);
        let waker = Waker::new(poll.registry(), NEW_LINK).expect("waker");
        doors.push((send, waker));
        let settings = settings.clone();
        threads.push(std::thread::spawn(move || Worker::new(poll, receive, settings).serve()));
    }
    if !settings.dials_link {
        let config = settings.server_config(ALPN);
        let listener = std::net::TcpListener::bind(settings.link).expect("bind the link address");
        for (turn, socket) in listener.incoming().enumerate() {
            let Ok(socket) = socket else { continue };
            let session = UnbufferedServerConnection::new(Arc::clone(&config)).expect("session");
            let (send, waker) = &doors[turn % doors.len()];
            send.send((socket, Session::Server(Box::new(session)))).expect("the worker lives");
            waker.wake().expect("waker");
        }
    }
    for thread in threads {
        thread.join().expect("a worker stopped");
    }
}

struct LinkState {
    link: Link,
    staging: Vec<u8>,
    staged: usize,
    /// Flow for each stream slot, plus one; 0 is free.
    streams: Vec<u32>,
    /// Flows that have bytes to read but found the link blocked.
    waiting: VecDeque<usize>,
    parser: Parser,
    dirty: bool,
}

struct Worker {
    settings: Settings,
    poll: Poll,
    listener: Option<TcpListener>,
    new_links: mpsc::Receiver<(std::net::TcpStream, Session)>,
    links: Slab<LinkState>,
    flows: Slab<Flow>,
    pool: Pool,
    opened: Opened,
    generation: u32,
    next_link: usize,
    /// Flows and links with more to read than one turn took.
    again: Vec<Token>,
    dirty: Vec<usize>,
}

impl Worker {
    fn new(
        poll: Poll,
        new_links: mpsc::Receiver<(std::net::TcpStream, Session)>,
        settings: Settings,
    ) -> Self {
        let mut worker = Self {
            settings,
            poll,
            listener: None,
            new_links,
            links: Slab::new(),
            flows: Slab::new(),
            pool: Pool::default(),
            opened: Opened::default(),
            generation: 0,
            next_link: 0,
            again: Vec::new(),
            dirty: Vec::new(),
        };
        if worker.settings.dials_link {
            worker.dial_links();
            let mut listener = listen(worker.settings.listen);
            worker
                .poll
                .registry()
                .register(&mut listener, LISTENER, Interest::READABLE)
                .expect("register");
            worker.listener = Some(listener);
        }
        worker
    }

    fn dial_links(&mut self) {
        let config = self.settings.client_config(ALPN);
        for _ in 0..self.settings.links {
            let socket = loop {
                match std::net::TcpStream::connect(self.settings.link) {
                    Ok(socket) => break socket,
                    Err(_) => std::thread::sleep(Duration::from_millis(50)),
                }
            };
            let session =
                UnbufferedClientConnection::new(Arc::clone(&config), Settings::server_name());
            self.add_link(socket, Session::Client(Box::new(session.expect("session"))));
        }
    }

    fn add_link(&mut self, socket: std::net::TcpStream, session: Session) {
        socket.set_nonblocking(true).expect("non-blocking");
        socket.set_nodelay(true).expect("nodelay");
        let mut link = Link::new(TcpStream::from_std(socket), session, self.settings.own_records);
        let entry = self.links.vacant_entry();
        self.poll
            .registry()
            .register(&mut link.socket, link_token(entry.key()), both())
            .expect("register");
        link.start(&mut self.pool).expect("first flight");
        link.flush(&mut self.pool).expect("first flight");
        entry.insert(LinkState {
            link,
            staging: vec![0; STAGING],
            staged: 0,
            streams: Vec::new(),
            waiting: VecDeque::new(),
            parser: Parser::default(),
            dirty: false,
        });
    }

    fn serve(mut self) {
        let mut events = Events::with_capacity(1024);
        let mut todo: Vec<Token> = Vec::new();
        loop {
            let timeout = (!self.again.is_empty()).then_some(Duration::ZERO);
            if let Err(error) = self.poll.poll(&mut events, timeout) {
                assert!(error.kind() == ErrorKind::Interrupted, "epoll: {error}");
            }
            std::mem::swap(&mut todo, &mut self.again);
            for event in &events {
                match event.token() {
                    LISTENER => self.accept(),
                    NEW_LINK => {
                        while let Ok((socket, session)) = self.new_links.try_recv() {
                            self.add_link(socket, session);
                        }
                    }
                    token => {
                        let hang_up = event.is_read_closed();
                        let readable = event.is_readable() || hang_up || event.is_error();
                        match self.who(token) {
                            Who::Flow(key) => {
                                let Some(flow) = self.flows.get_mut(key) else { continue };
                                flow.readable |= readable;
                                flow.hang_up |= hang_up;
                            }
                            Who::Link(key) => {
                                let Some(state) = self.links.get_mut(key) else { continue };
                                state.link.readable |= readable;
                                state.link.hang_up |= hang_up;
                            }
                        }
                        todo.push(token);
                    }
                }
            }
            for token in todo.drain(..) {
                match self.who(token) {
                    Who::Flow(key) => self.flow_turn(key),
                    Who::Link(key) => self.link_turn(key),
                }
            }
            self.flush_dirty();
        }
    }

    fn who(&self, token: Token) -> Who {
        let index = token.0 - 2;
        if index % 2 == 0 { Who::Link(index / 2) } else { Who::Flow(index / 2) }
    }

    fn accept(&mut self) {
        loop {
            let accepted = self.listener.as_ref().expect("side a").accept();
            let socket = match accepted {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => continue,
            };
            let link = self.next_link % self.links.len();
            self.next_link += 1;
            self.generation = self.generation.wrapping_add(1);
            let slot = u32::try_from(self.flows.vacant_key()).expect("few flows");
            let id = slot | self.generation << 20;
            self.add_flow(socket, link, id);
            self.stage_control(link, OPEN, id, 0);
        }
    }

    fn add_flow(&mut self, socket: TcpStream, link: usize, id: u32) -> usize {
        let entry = self.flows.vacant_entry();
        let key = entry.key();
        let flow = entry.insert(Flow {
            socket,
            link,
            id,
            readable: false,
            hang_up: false,
            credit: self.settings.window,
            owed: 0,
            unsent: Vec::new(),
            unsent_at: 0,
            fin_received: false,
            fin_sent: false,
            shut: false,
            waiting: false,
        });
        let registered = self.poll.registry().register(&mut flow.socket, flow_token(key), both());
        registered.expect("register");
        let streams = &mut self.links[link].streams;
        if streams.len() <= slot_of(id) {
            streams.resize(slot_of(id) + 1, 0);
        }
        streams[slot_of(id)] = u32::try_from(key).expect("few flows") + 1;
        key
    }

    fn drop_flow(&mut self, key: usize) {
        let flow = self.flows.remove(key);
        self.links[flow.link].streams[slot_of(flow.id)] = 0;
    }

    fn reset_flow(&mut self, key: usize) {
        let (link, id) = (self.flows[key].link, self.flows[key].id);
        self.stage_control(link, RESET, id, 0);
        self.drop_flow(key);
    }

    // ---- flow -> link ----

    fn flow_turn(&mut self, key: usize) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        if !flow.unsent.is_empty() && flow.write_unsent().is_err() {
            return self.reset_flow(key);
        }
        self.after_write(key);
        let Some(flow) = self.flows.get_mut(key) else { return };
        let link = flow.link;
        let mut turns = TURNS;
        while wants_read(&self.flows[key]) {
            if self.links[link].link.blocked() {
                let flow = &mut self.flows[key];
                if !flow.waiting {
                    flow.waiting = true;
                    self.links[link].waiting.push_back(key);
                }
                return;
            }
            if turns == 0 {
                return self.again.push(flow_token(key));
            }
            turns -= 1;
            if !self.read_flow(key) {
                return;
            }
        }
    }

    /// One read into the staging buffer; `false` when the flow is gone.
    fn read_flow(&mut self, key: usize) -> bool {
        let flow = &mut self.flows[key];
        let state = &mut self.links[flow.link];
        if STAGING - state.staged.min(STAGING) < 16 * 1024 {
            let link = flow.link;
            self.send_staged(link);
            return true;
        }
        let start = state.staged + FRAME;
        let room = (STAGING - start).min(flow.credit as usize);
        match flow.socket.read(&mut state.staging[start..start + room]) {
            Ok(0) => {
                flow.fin_sent = true;
                let (link, id) = (flow.link, flow.id);
                self.stage_control(link, FIN, id, 0);
                self.after_write(key);
                self.flows.contains(key)
            }
            Ok(read) => {
                flow.readable = read == room || flow.hang_up;
                flow.credit -= u32::try_from(read).expect("a read");
                let header = frame(DATA, flow.id, read);
                state.staging[start - FRAME..start].copy_from_slice(&header);
                state.staged = start + read;
                let link = flow.link;
                if state.staged == STAGING {
                    self.send_staged(link)
                } else {
                    self.mark(link)
                }
                true
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                flow.readable = false;
                true
            }
            Err(_) => {
                self.reset_flow(key);
                false
            }
        }
    }

    fn stage_control(&mut self, link: usize, kind: u8, id: u32, value: usize) {
        let state = &mut self.links[link];
        if state.staging.len() < state.staged + FRAME {
            state.staging.resize(state.staged + FRAME + STAGING / 4, 0);
        }
        state.staging[state.staged..state.staged + FRAME].copy_from_slice(&frame(kind, id, value));
        state.staged += FRAME;
        self.mark(link);
    }

    fn mark(&mut self, link: usize) {
        let state = &mut self.links[link];
        if !state.dirty {
            state.dirty = true;
            self.dirty.push(link);
        }
    }

    fn flush_dirty(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for link in dirty.drain(..) {
            self.links[link].dirty = false;
            self.send_staged(link);
        }
        self.dirty = dirty;
    }

    fn send_staged(&mut self, link: usize) {
        let state = &mut self.links[link];
        if state.link.blocked() || state.staged == 0 {
            return;
        }
        state.link.seal(&mut self.pool, &state.staging[..state.staged]).expect("seal");
        state.staged = 0;
        state.staging.truncate(STAGING);
        state.link.flush(&mut self.pool).expect("the link broke");
    }

    // ---- link -> flow ----

    fn link_turn(&mut self, key: usize) {
        let Some(state) = self.links.get_mut(key) else { return };
        let was_blocked = state.link.blocked();
        state.link.flush(&mut self.pool).expect("the link broke");
        let mut opened = std::mem::take(&mut self.opened);
        for turn in 0.. {
            let state = &mut self.links[key];
            if !state.link.readable {
                break;
            }
            if turn == TURNS {
                self.again.push(link_token(key));
                break;
            }
            if state.link.receive(&mut self.pool, &mut opened).expect("the link broke") {
                state.link.flush(&mut self.pool).expect("the link broke");
                self.take_frames(key, &opened);
                self.links[key].link.done(&mut self.pool, &mut opened);
            }
            assert!(!self.links[key].link.peer_closed, "the link was closed");
        }
        self.opened = opened;
        if was_blocked && !self.links[key].link.blocked() {
            self.mark(key);
            self.send_staged(key);
            let waiting = std::mem::take(&mut self.links[key].waiting);
            for flow in waiting {
                if let Some(f) = self.flows.get_mut(flow) {
                    f.waiting = false;
                    self.flow_turn(flow);
                }
            }
        }
    }

    fn take_frames(&mut self, key: usize, opened: &Opened) {
        // The pieces of one stream that follow each other go out in one vectored write.
        let mut run: Vec<Piece> = Vec::with_capacity(8);
        let mut run_id = u32::MAX;
        let mut parser = std::mem::take(&mut self.links[key].parser);
        for piece in &opened.pieces {
            let mut at = piece.range.start;
            while at < piece.range.end {
                let piece = Piece { in_place: piece.in_place, range: at..piece.range.end };
                let bytes = self.links[key].link.bytes(opened, &piece);
                if parser.body > 0 {
                    let len = parser.body.min(bytes.len());
                    if parser.id != run_id {
                        self.deliver(key, run_id, &mut run, opened);
                        run_id = parser.id;
                    }
                    run.push(Piece { in_place: piece.in_place, range: at..at + len });
                    parser.body -= len;
                    at += len;
                    continue;
                }
                at += parser.fill(bytes);
                if let Some((kind, id, value)) = parser.header() {
                    if kind == DATA {
                        (parser.body, parser.id) = (value, id);
                    } else {
                        self.deliver(key, run_id, &mut run, opened);
                        run_id = u32::MAX;
                        self.control(key, kind, id, value);
                    }
                }
            }
        }
        self.deliver(key, run_id, &mut run, opened);
        self.links[key].parser = parser;
    }

    fn flow_of(&self, link: usize, id: u32) -> Option<usize> {
        let key = *self.links[link].streams.get(slot_of(id))?;
        let key = (key as usize).checked_sub(1)?;
        (self.flows[key].id == id).then_some(key)
    }

    fn control(&mut self, link: usize, kind: u8, id: u32, value: usize) {
        if kind == OPEN {
            let socket = TcpStream::connect(self.settings.target).expect("connect");
            let _ = socket.set_nodelay(true);
            self.add_flow(socket, link, id);
            return;
        }
        let Some(key) = self.flow_of(link, id) else { return };
        match kind {
            FIN => {
                self.flows[key].fin_received = true;
                self.after_write(key);
            }
            RESET => self.drop_flow(key),
            WINDOW => {
                self.flows[key].credit += u32::try_from(value).expect("24 bits");
                self.flow_turn(key);
            }
            other => panic!("frame kind {other}"),
        }
    }

    fn deliver(&mut self, link: usize, id: u32, run: &mut Vec<Piece>, opened: &Opened) {
        if run.is_empty() {
            return;
        }
        if let Some(key) = self.flow_of(link, id) {
            let flow = &mut self.flows[key];
            let link = &self.links[link].link;
            let mut slices = [IoSlice::new(&[]); 16];
            for part in run.chunks(16) {
                for (slice, piece) in slices.iter_mut().zip(part) {
                    *slice = IoSlice::new(link.bytes(opened, piece));
                }
                if flow.write(&slices[..part.len()]).is_err() {
                    self.reset_flow(key);
                    run.clear();
                    return;
                }
            }
            self.after_write(key);
        }
        run.clear();
    }

    /// Grants what was written, passes on the end of the stream, drops the flow when both ended.
    fn after_write(&mut self, key: usize) {
        let flow = &mut self.flows[key];
        let (link, id, owed) = (flow.link, flow.id, flow.owed);
        if owed >= self.settings.window / 2 && !flow.fin_received {
            flow.owed = 0;
            self.stage_control(link, WINDOW, id, owed as usize);
        }
        let flow = &mut self.flows[key];
        if flow.fin_received && flow.unsent.is_empty() {
            if flow.fin_sent {
                return self.drop_flow(key);
            }
            if !flow.shut {
                flow.shut = true;
                let _ = flow.socket.shutdown(Shutdown::Write);
            }
        }
    }
}

enum Who {
    Flow(usize),
    Link(usize),
}

fn link_token(key: usize) -> Token {
    Token(2 + key * 2)
}

fn flow_token(key: usize) -> Token {
    Token(3 + key * 2)
}
