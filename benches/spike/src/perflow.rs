//! Transport (c): a TLS connection for every flow, as HAProxy does, on the event loop of `lean`.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::{ClientConfig, ServerConfig};
use slab::Slab;

use crate::link::{Link, Opened, Pool, READ, Session};
use crate::settings::Settings;
use crate::socket::{both, listen, would_block};

const ALPN: &[u8] = b"spike/1";
const LISTENER: Token = Token(0);
const TURNS: usize = 4;

pub fn run(settings: Settings) {
    let client = settings.client_config(ALPN);
    let server = settings.server_config(ALPN);
    let threads: Vec<_> = (0..settings.threads)
        .map(|_| {
            let (s, c, v) = (settings.clone(), Arc::clone(&client), Arc::clone(&server));
            std::thread::spawn(move || Worker::new(s, c, v).serve())
        })
        .collect();
    for thread in threads {
        thread.join().expect("a worker stopped");
    }
}

/// One flow: the plain socket and the TLS connection that belongs to it.
struct Pair {
    plain: TcpStream,
    link: Link,
    readable: bool,
    hang_up: bool,
    plain_ended: bool,
    close_sent: bool,
    unsent: Vec<u8>,
    unsent_at: usize,
    shut: bool,
}

struct Worker {
    settings: Settings,
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    poll: Poll,
    listener: TcpListener,
    pairs: Slab<Pair>,
    pool: Pool,
    opened: Opened,
    staging: Vec<u8>,
    again: Vec<usize>,
}

impl Worker {
    fn new(settings: Settings, client: Arc<ClientConfig>, server: Arc<ServerConfig>) -> Self {
        let poll = Poll::new().expect("epoll");
        let mut listener =
            listen(if settings.dials_link { settings.listen } else { settings.link });
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE).expect("register");
        Self {
            settings,
            client,
            server,
            poll,
            listener,
            pairs: Slab::new(),
            pool: Pool::default(),
            opened: Opened::default(),
            staging: vec![0; READ],
            again: Vec::new(),
        }
    }

    fn serve(mut self) {
        let mut events = Events::with_capacity(1024);
        let mut todo = Vec::new();
        loop {
            let timeout = (!self.again.is_empty()).then_some(Duration::ZERO);
            if let Err(error) = self.poll.poll(&mut events, timeout) {
                assert!(error.kind() == ErrorKind::Interrupted, "epoll: {error}");
            }
            std::mem::swap(&mut todo, &mut self.again);
            for event in &events {
                if event.token() == LISTENER {
                    self.accept();
                    continue;
                }
                let index = event.token().0 - 1;
                let Some(pair) = self.pairs.get_mut(index / 2) else { continue };
                let hang_up = event.is_read_closed();
                let readable = event.is_readable() || hang_up || event.is_error();
                if index % 2 == 0 {
                    pair.readable |= readable;
                    pair.hang_up |= hang_up;
                } else {
                    pair.link.readable |= readable;
                    pair.link.hang_up |= hang_up;
                }
                todo.push(index / 2);
            }
            for key in todo.drain(..) {
                if self.pairs.contains(key) && self.turn(key).is_none() {
                    self.pairs.remove(key);
                }
            }
        }
    }

    fn accept(&mut self) {
        while let Ok((socket, _)) = self.listener.accept() {
            let (plain, tls, session) = if self.settings.dials_link {
                let session = UnbufferedClientConnection::new(
                    Arc::clone(&self.client),
                    Settings::server_name(),
                )
                .expect("session");
                let tls = dial(self.settings.link);
                (socket, tls, Session::Client(Box::new(session)))
            } else {
                let session =
                    UnbufferedServerConnection::new(Arc::clone(&self.server)).expect("session");
                let plain = dial(self.settings.target);
                (plain, socket, Session::Server(Box::new(session)))
            };
            let mut link = Link::new(tls, session, self.settings.own_records);
            if self.settings.dials_link {
                link.start(&mut self.pool).expect("first flight");
            }
            let entry = self.pairs.vacant_entry();
            let key = entry.key();
            let pair = entry.insert(Pair {
                plain,
                link,
                readable: false,
                hang_up: false,
                plain_ended: false,
                close_sent: false,
                unsent: Vec::new(),
                unsent_at: 0,
                shut: false,
            });
            let registry = self.poll.registry();
            registry.register(&mut pair.plain, Token(1 + key * 2), both()).expect("register");
            registry.register(&mut pair.link.socket, Token(2 + key * 2), both()).expect("register");
            self.again.push(key);
        }
    }

    /// Moves what can be moved; `None` when the flow is over.
    fn turn(&mut self, key: usize) -> Option<()> {
        let pair = &mut self.pairs[key];
        pair.write_unsent()?;
        pair.link.flush(&mut self.pool).ok()?;
        for turn in 0.. {
            let read_link = pair.link.readable && pair.unsent.is_empty();
            let read_plain = pair.readable && !pair.plain_ended && !pair.link.blocked();
            if !read_link && !read_plain {
                break;
            }
            if turn == TURNS {
                self.again.push(key);
                break;
            }
            if read_link {
                let received = pair.link.receive(&mut self.pool, &mut self.opened);
                let written = pair.write_opened(&self.opened);
                // Before any way out: what this flow leaves behind must not reach the next one.
                pair.link.done(&mut self.pool, &mut self.opened);
                received.ok()?;
                written?;
                pair.link.flush(&mut self.pool).ok()?;
            }
            if pair.readable && !pair.plain_ended && !pair.link.blocked() {
                match pair.plain.read(&mut self.staging) {
                    Ok(0) => pair.plain_ended = true,
                    Ok(read) => {
                        pair.readable = read == self.staging.len() || pair.hang_up;
                        pair.link.seal(&mut self.pool, &self.staging[..read]).ok()?;
                        pair.link.flush(&mut self.pool).ok()?;
                    }
                    Err(error) if would_block(&error) => pair.readable = false,
                    Err(_) => return None,
                }
            }
        }
        if pair.plain_ended && !pair.close_sent && !pair.link.blocked() {
            pair.close_sent = true;
            pair.link.queue_close(&mut self.pool).ok()?;
            pair.link.flush(&mut self.pool).ok()?;
            if !pair.link.blocked() {
                let _ = pair.link.socket.shutdown(Shutdown::Write);
            }
        }
        if pair.link.peer_closed && pair.unsent.is_empty() {
            if pair.plain_ended && !pair.link.blocked() {
                return None;
            }
            if !pair.shut {
                pair.shut = true;
                let _ = pair.plain.shutdown(Shutdown::Write);
            }
        }
        Some(())
    }
}

impl Pair {
    fn write_opened(&mut self, opened: &Opened) -> Option<()> {
        use std::io::IoSlice;
        let pieces = &opened.pieces;
        let mut slices = [IoSlice::new(&[]); 16];
        for part in pieces.chunks(16) {
            for (slice, piece) in slices.iter_mut().zip(part) {
                *slice = IoSlice::new(self.link.bytes(opened, piece));
            }
            let slices = &slices[..part.len()];
            let total: usize = slices.iter().map(|slice| slice.len()).sum();
            let mut written = 0;
            if self.unsent.is_empty() {
                written = match self.plain.write_vectored(slices) {
                    Ok(written) => written,
                    Err(error) if would_block(&error) => 0,
                    Err(_) => return None,
                };
            }
            if written < total {
                for slice in slices {
                    let skip = written.min(slice.len());
                    self.unsent.extend_from_slice(&slice[skip..]);
                    written -= skip;
                }
            }
        }
        Some(())
    }

    fn write_unsent(&mut self) -> Option<()> {
        while self.unsent_at < self.unsent.len() {
            match self.plain.write(&self.unsent[self.unsent_at..]) {
                Ok(written) => self.unsent_at += written,
                Err(error) if would_block(&error) => return Some(()),
                Err(_) => return None,
            }
        }
        self.unsent_at = 0;
        self.unsent = Vec::new();
        Some(())
    }
}

fn dial(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).expect("connect");
    let _ = socket.set_nodelay(true);
    socket
}
