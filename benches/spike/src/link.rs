//! One mTLS connection on a non-blocking socket, sans event loop: handshake, records, buffers.
//! Buffers come from a pool and go back to it when they are empty, so an idle link owns none.

use std::io::{self, ErrorKind, Read, Write};
use std::ops::Range;

use mio::net::TcpStream;
use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};

use crate::record::Records;

/// Bytes asked for in one read: four full records' worth.
pub const READ: usize = 64 * 1024;
const BUFFER: usize = READ + 18 * 1024;

#[derive(Default)]
pub struct Pool(Vec<Vec<u8>>);

impl Pool {
    pub fn take(&mut self) -> Vec<u8> {
        self.0.pop().unwrap_or_else(|| vec![0; BUFFER])
    }
    pub fn give(&mut self, buffer: Vec<u8>) {
        if buffer.len() == BUFFER && self.0.len() < 64 {
            self.0.push(buffer);
        }
    }
}

pub enum Session {
    Client(Box<UnbufferedClientConnection>),
    Own(Box<Records>),
    Server(Box<UnbufferedServerConnection>),
    Switching,
}

/// Plaintext that one `receive` brought: places in the link's buffer or, from rustls, in `copied`.
#[derive(Default)]
pub struct Opened {
    pub copied: Vec<u8>,
    pub pieces: Vec<Piece>,
}

#[derive(Clone)]
pub struct Piece {
    pub in_place: bool,
    pub range: Range<usize>,
}

impl Opened {
    fn push_copy(&mut self, payload: &[u8]) {
        let start = self.copied.len();
        self.copied.extend_from_slice(payload);
        let end = self.copied.len();
        match self.pieces.last_mut() {
            Some(last) if !last.in_place && last.range.end == start => last.range.end = end,
            _ => self.pieces.push(Piece { in_place: false, range: start..end }),
        }
    }
}

pub struct Link {
    pub socket: TcpStream,
    session: Session,
    own_records: bool,
    /// The handshake is done in both directions.
    pub ready: bool,
    pub readable: bool,
    /// The socket said that the peer has closed: only then is a short read followed by another.
    pub hang_up: bool,
    pub peer_closed: bool,
    inbound: Vec<u8>,
    filled: usize,
    used: usize,
    outbound: Vec<u8>,
    sent: usize,
    queued: usize,
}

impl Link {
    pub fn new(socket: TcpStream, session: Session, own_records: bool) -> Self {
        Self {
            socket,
            session,
            own_records,
            ready: false,
            readable: false,
            hang_up: false,
            peer_closed: false,
            inbound: Vec::new(),
            filled: 0,
            used: 0,
            outbound: Vec::new(),
            sent: 0,
            queued: 0,
        }
    }

    /// Whether nothing may be sealed now: the last batch waits for the socket, or no keys yet.
    pub fn blocked(&self) -> bool {
        !self.ready || self.sent < self.queued
    }

    /// Reads once and opens what came; `false` when the socket had nothing. Call `done` after use.
    pub fn receive(&mut self, pool: &mut Pool, opened: &mut Opened) -> io::Result<bool> {
        if self.inbound.is_empty() {
            self.inbound = pool.take();
        }
        let room = (self.filled + READ).min(self.inbound.len());
        match self.socket.read(&mut self.inbound[self.filled..room]) {
            Ok(0) => {
                self.peer_closed = true;
                self.readable = false;
                return Ok(false);
            }
            Ok(read) => {
                self.readable = self.hang_up || self.filled + read == room;
                self.filled += read;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.readable = false;
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
        self.process(pool, opened)?;
        Ok(true)
    }

    /// Runs the handshake's first step on the dialling side, where nothing was received yet.
    pub fn start(&mut self, pool: &mut Pool) -> io::Result<()> {
        self.process(pool, &mut Opened::default())
    }

    fn process(&mut self, pool: &mut Pool, opened: &mut Opened) -> io::Result<()> {
        if self.outbound.is_empty() && !matches!(self.session, Session::Own(_)) && !self.ready {
            self.outbound = pool.take();
        }
        let mut input = (&mut self.inbound, &mut self.filled);
        let mut output = (&mut self.outbound, &mut self.queued);
        let done = match &mut self.session {
            Session::Client(c) => {
                drive(&mut **c, &mut input, &mut output, opened, &mut self.peer_closed)?
            }
            Session::Server(c) => {
                drive(&mut **c, &mut input, &mut output, opened, &mut self.peer_closed)?
            }
            Session::Own(_) | Session::Switching => true,
        };
        if done && !self.ready {
            self.ready = true;
            if self.own_records {
                self.switch();
            }
        }
        if let Session::Own(records) = &mut self.session {
            let used = self.used;
            let whole = records.open(&mut self.inbound[used..self.filled], |range| {
                let range = used + range.start..used + range.end;
                opened.pieces.push(Piece { in_place: true, range });
            });
            match whole {
                Some(bytes) => self.used += bytes,
                None => self.peer_closed = true,
            }
        }
        Ok(())
    }

    fn switch(&mut self) {
        let secrets = match std::mem::replace(&mut self.session, Session::Switching) {
            Session::Client(c) => c.dangerous_into_kernel_connection().expect("extraction is on").0,
            Session::Server(c) => c.dangerous_into_kernel_connection().expect("extraction is on").0,
            Session::Own(_) | Session::Switching => unreachable!("switched once"),
        };
        self.session = Session::Own(Box::new(Records::new(secrets)));
    }

    pub fn bytes<'l>(&'l self, opened: &'l Opened, piece: &Piece) -> &'l [u8] {
        let source = if piece.in_place { &self.inbound } else { &opened.copied };
        &source[piece.range.clone()]
    }

    /// The opened pieces were used: keeps the unfinished record, or gives the buffer back.
    pub fn done(&mut self, pool: &mut Pool, opened: &mut Opened) {
        opened.pieces.clear();
        opened.copied.clear();
        if self.used > 0 {
            self.inbound.copy_within(self.used..self.filled, 0);
            self.filled -= self.used;
            self.used = 0;
        }
        if self.filled == 0 && !self.inbound.is_empty() {
            pool.give(std::mem::take(&mut self.inbound));
        }
    }

    /// Encrypts `plain` behind what is queued.
    pub fn seal(&mut self, pool: &mut Pool, plain: &[u8]) -> io::Result<()> {
        if self.outbound.is_empty() {
            self.outbound = pool.take();
        }
        let need = self.queued + Records::sealed_len(plain.len()) + 256;
        if self.outbound.len() < need {
            self.outbound.resize(need, 0);
        }
        let out = &mut self.outbound[self.queued..];
        self.queued += match &mut self.session {
            Session::Own(records) => records.seal(plain, out),
            Session::Client(c) => write_traffic(c.process_tls_records(&mut []), plain, out)?,
            Session::Server(c) => write_traffic(c.process_tls_records(&mut []), plain, out)?,
            Session::Switching => unreachable!("never left in this state"),
        };
        Ok(())
    }

    /// Sends close_notify; what follows is only the other direction.
    pub fn queue_close(&mut self, pool: &mut Pool) -> io::Result<()> {
        if self.outbound.is_empty() {
            self.outbound = pool.take();
        }
        let out = &mut self.outbound[self.queued..];
        fn notify<D>(s: UnbufferedStatus<'_, '_, D>, out: &mut [u8]) -> io::Result<usize> {
            match s.state.map_err(io::Error::other)? {
                ConnectionState::WriteTraffic(mut w) => {
                    w.queue_close_notify(out).map_err(io::Error::other)
                }
                _ => Ok(0),
            }
        }
        self.queued += match &mut self.session {
            Session::Client(c) => notify(c.process_tls_records(&mut []), out)?,
            Session::Server(c) => notify(c.process_tls_records(&mut []), out)?,
            Session::Own(_) | Session::Switching => 0,
        };
        Ok(())
    }

    /// Writes what is queued; `true` when all of it is out.
    pub fn flush(&mut self, pool: &mut Pool) -> io::Result<bool> {
        while self.sent < self.queued {
            match self.socket.write(&self.outbound[self.sent..self.queued]) {
                Ok(written) => self.sent += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::NotConnected => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        (self.sent, self.queued) = (0, 0);
        if !self.outbound.is_empty() {
            pool.give(std::mem::take(&mut self.outbound));
        }
        Ok(true)
    }
}

/// rustls' two unbuffered connections have the same method but no trait in common.
trait Unbuffered {
    type Data;
    fn step<'c, 'i>(&'c mut self, bytes: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
}

impl Unbuffered for UnbufferedClientConnection {
    type Data = rustls::client::ClientConnectionData;
    fn step<'c, 'i>(&'c mut self, bytes: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(bytes)
    }
}

impl Unbuffered for UnbufferedServerConnection {
    type Data = rustls::server::ServerConnectionData;
    fn step<'c, 'i>(&'c mut self, bytes: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(bytes)
    }
}

type Buffer<'b> = (&'b mut Vec<u8>, &'b mut usize);

/// Runs rustls over the input until it wants more; `true` when the handshake is done.
fn drive<C: Unbuffered>(
    connection: &mut C,
    (input, filled): &mut Buffer<'_>,
    (output, queued): &mut Buffer<'_>,
    opened: &mut Opened,
    peer_closed: &mut bool,
) -> io::Result<bool> {
    let mut consumed = 0;
    let ready = loop {
        let status = connection.step(&mut input[consumed..**filled]);
        let mut discard = status.discard;
        let verdict = match status.state.map_err(io::Error::other)? {
            ConnectionState::ReadTraffic(mut traffic) => {
                while let Some(record) = traffic.next_record() {
                    let record = record.map_err(io::Error::other)?;
                    discard += record.discard;
                    opened.push_copy(record.payload);
                }
                None
            }
            ConnectionState::EncodeTlsData(mut data) => {
                **queued += data.encode(&mut output[**queued..]).map_err(io::Error::other)?;
                None
            }
            ConnectionState::TransmitTlsData(data) => {
                data.done();
                None
            }
            ConnectionState::PeerClosed => {
                *peer_closed = true;
                None
            }
            ConnectionState::BlockedHandshake => Some(false),
            ConnectionState::Closed => {
                *peer_closed = true;
                Some(true)
            }
            _ => Some(true),
        };
        consumed += discard;
        if let Some(ready) = verdict {
            break ready;
        }
    };
    if consumed > 0 {
        input.copy_within(consumed..**filled, 0);
        **filled -= consumed;
    }
    Ok(ready)
}

fn write_traffic<D>(
    status: UnbufferedStatus<'_, '_, D>,
    plain: &[u8],
    out: &mut [u8],
) -> io::Result<usize> {
    match status.state.map_err(io::Error::other)? {
        ConnectionState::WriteTraffic(mut w) => w.encrypt(plain, out).map_err(io::Error::other),
        _ => Err(io::Error::other("the link is not ready to send")),
    }
}
