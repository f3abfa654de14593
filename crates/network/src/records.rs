//! One TLS connection without a runtime: records in, plaintext out, and back.
//!
//! Over rustls' unbuffered interface: received bytes lie in our buffer and are decrypted from
//! there, plaintext is encrypted straight into the send buffer. Knows nothing of frames or of what
//! a socket is for.

use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, UnbufferedConnectionCommon, UnbufferedStatus,
    WriteTraffic,
};
use rustls::{ClientConfig, CommonState, ServerConfig};
use rustls_pki_types::ServerName;

use crate::frame::RECORD;

/// Bytes read from the socket at once: several records, and small enough to stay in the cache.
const INPUT: usize = 64 * 1024 + RECORD_WIRE;
/// Bytes of ciphertext that may wait for the socket.
const OUTPUT: usize = 320 * 1024;
/// Bytes of either buffer during a handshake: a whole record, and few enough that many strangers
/// together hold little.
const HANDSHAKE: usize = RECORD_WIRE + 4 * 1024;
/// A full record on the wire with its header and tag (RFC 8446 section 5.2), rounded up.
const RECORD_WIRE: usize = RECORD + 256;

/// A TLS connection and its buffers.
pub(crate) struct Records {
    side: Side,
    input: Box<[u8]>,
    filled: usize,
    output: Box<[u8]>,
    head: usize,
    tail: usize,
    peer_closed: bool,
    close_sent: bool,
}

enum Side {
    Client(Box<UnbufferedClientConnection>),
    Server(Box<UnbufferedServerConnection>),
}

/// How far [`Records::process`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// More bytes are needed to finish the handshake.
    Handshaking,
    /// The handshake is done; application data flows.
    Established,
    /// The peer said that it will send no more.
    PeerClosed,
}

/// What one read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Bytes came, and there may be more.
    More,
    /// Bytes came, and the socket is empty for now; an end of stream may stand behind them.
    Short,
    /// Nothing came.
    Nothing,
    /// End of stream.
    End,
}

/// The local side of TLS failed in a way that no peer can cause; the connection is closed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordsError {
    #[error("the send buffer is too small for {0} more bytes")]
    NoRoom(usize),
    #[error("the connection's keys are used up")]
    Exhausted,
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    #[error("TLS is not ready to send")]
    NotReady,
}

impl Records {
    pub(crate) fn client(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, rustls::Error> {
        Ok(Self::new(Side::Client(Box::new(UnbufferedClientConnection::new(config, name)?))))
    }

    pub(crate) fn server(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        Ok(Self::new(Side::Server(Box::new(UnbufferedServerConnection::new(config)?))))
    }

    fn new(side: Side) -> Self {
        Self {
            side,
            input: vec![0; HANDSHAKE].into_boxed_slice(),
            filled: 0,
            output: vec![0; HANDSHAKE].into_boxed_slice(),
            head: 0,
            tail: 0,
            peer_closed: false,
            close_sent: false,
        }
    }

    /// Takes the buffers that carry traffic, once the peer is known.
    pub(crate) fn grow(&mut self) {
        for (buffer, size) in [(&mut self.input, INPUT), (&mut self.output, OUTPUT)] {
            let mut larger = vec![0; size].into_boxed_slice();
            larger[..buffer.len()].copy_from_slice(buffer);
            *buffer = larger;
        }
    }

    /// Whether the receive buffer is full although everything processable was processed: the peer
    /// sends something larger than any message we take.
    pub(crate) fn is_stuck(&self) -> bool {
        self.filled == self.input.len()
    }

    /// What was negotiated and who the peer is.
    pub(crate) fn state(&self) -> &CommonState {
        match &self.side {
            Side::Client(conn) => conn,
            Side::Server(conn) => conn,
        }
    }

    /// The first bytes received and not yet processed: what a peer that does not speak TLS says.
    pub(crate) fn unprocessed(&self) -> &[u8] {
        &self.input[..self.filled]
    }

    /// One read from the socket. Full buffers count as [`Taken::More`].
    pub(crate) fn read_from(&mut self, socket: &mut impl Read) -> io::Result<Taken> {
        let space = &mut self.input[self.filled..];
        if space.is_empty() {
            return Ok(Taken::More);
        }
        let room = space.len();
        loop {
            return match socket.read(space) {
                Ok(0) => Ok(Taken::End),
                Ok(n) => {
                    self.filled += n;
                    Ok(if n < room { Taken::Short } else { Taken::More })
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(Taken::Nothing),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => Err(e),
            };
        }
    }

    /// Runs TLS over what was read; `sink` gets the plaintext of each record.
    pub(crate) fn process(
        &mut self,
        mut sink: impl FnMut(&[u8]),
    ) -> Result<Progress, RecordsError> {
        let mut at = 0;
        let result = loop {
            let input = &mut self.input[at..self.filled];
            let step = match &mut self.side {
                Side::Client(conn) => {
                    step(&mut ***conn, input, &mut self.output, &mut self.tail, &mut sink)
                }
                Side::Server(conn) => {
                    step(&mut ***conn, input, &mut self.output, &mut self.tail, &mut sink)
                }
            };
            at += step.discard;
            match step.next {
                Ok(Next::Again) => {}
                Ok(Next::PeerClosed) => self.peer_closed = true,
                Ok(Next::Wait(_)) if self.peer_closed => break Ok(Progress::PeerClosed),
                Ok(Next::Wait(progress)) => break Ok(progress),
                Err(error) => break Err(error),
            }
        };
        if at > 0 {
            self.input.copy_within(at..self.filled, 0);
            self.filled -= at;
        }
        if let Err(RecordsError::Tls(error)) = &result
            && !matches!(error, rustls::Error::AlertReceived(_))
        {
            self.encode_alert();
        }
        result
    }

    /// After an error of ours rustls has an alert for the peer, behind what it had not sent yet; all of
    /// it goes into the send buffer. One call more would look at the input again, which an error
    /// leaves in no state to be looked at.
    fn encode_alert(&mut self) {
        let input = &mut self.input[..self.filled];
        let (output, tail) = (&mut self.output, &mut self.tail);
        match &mut self.side {
            Side::Client(conn) => {
                while conn.wants_write()
                    && step(&mut ***conn, input, output, tail, &mut |_| {}).next.is_ok()
                {
                }
            }
            Side::Server(conn) => {
                while conn.wants_write()
                    && step(&mut ***conn, input, output, tail, &mut |_| {}).next.is_ok()
                {
                }
            }
        }
    }

    /// Plaintext bytes that [`Records::seal`] takes now.
    pub(crate) fn room(&self) -> usize {
        let space = self.output.len() - (self.tail - self.head);
        // Leave a record's worth for alerts, grants and pongs.
        let records = (space / RECORD_WIRE).saturating_sub(1);
        records * RECORD
    }

    /// Ciphertext bytes that wait for the socket.
    pub(crate) fn pending(&self) -> usize {
        self.tail - self.head
    }

    /// Encrypts `plain`, which fits in [`Records::room`], cut into records every 16 KiB.
    pub(crate) fn seal(&mut self, plain: &[u8]) -> Result<(), RecordsError> {
        let need = plain.len() + plain.len().div_ceil(RECORD) * 256;
        if self.output.len() - self.tail < need {
            self.output.copy_within(self.head..self.tail, 0);
            self.tail -= self.head;
            self.head = 0;
            if self.output.len() - self.tail < need {
                return Err(RecordsError::NoRoom(need));
            }
        }
        let input = &mut self.input[..self.filled];
        match &mut self.side {
            Side::Client(conn) => write_traffic(
                conn.process_tls_records(input),
                plain,
                &mut self.output,
                &mut self.tail,
            ),
            Side::Server(conn) => write_traffic(
                conn.process_tls_records(input),
                plain,
                &mut self.output,
                &mut self.tail,
            ),
        }
    }

    /// Says to the peer that no more will come; once.
    pub(crate) fn close(&mut self) {
        if std::mem::replace(&mut self.close_sent, true) {
            return;
        }
        let input = &mut self.input[..self.filled];
        let space = &mut self.output[self.tail..];
        let written = match &mut self.side {
            Side::Client(conn) => close_notify(conn.process_tls_records(input), space),
            Side::Server(conn) => close_notify(conn.process_tls_records(input), space),
        };
        self.tail += written;
    }

    /// Writes what waits; true when all of it is out.
    pub(crate) fn write_to(&mut self, socket: &mut impl Write) -> io::Result<bool> {
        while self.head < self.tail {
            match socket.write(&self.output[self.head..self.tail]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => self.head += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        self.head = 0;
        self.tail = 0;
        Ok(true)
    }
}

enum Next {
    Again,
    PeerClosed,
    Wait(Progress),
}

struct Step {
    discard: usize,
    next: Result<Next, RecordsError>,
}

/// rustls has no common trait over its two sides' `process_tls_records`.
trait Process {
    type Data;
    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
}

impl Process for UnbufferedConnectionCommon<ClientConnectionData> {
    type Data = ClientConnectionData;
    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(input)
    }
}

impl Process for UnbufferedConnectionCommon<ServerConnectionData> {
    type Data = ServerConnectionData;
    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(input)
    }
}

fn step<P: Process>(
    conn: &mut P,
    input: &mut [u8],
    output: &mut [u8],
    tail: &mut usize,
    sink: &mut impl FnMut(&[u8]),
) -> Step {
    let UnbufferedStatus { mut discard, state, .. } = conn.process(input);
    let next = match state {
        Err(error) => Err(error.into()),
        Ok(ConnectionState::ReadTraffic(mut traffic)) => {
            let mut next = Ok(Next::Again);
            while let Some(record) = traffic.next_record() {
                match record {
                    Ok(record) => {
                        discard += record.discard;
                        sink(record.payload);
                    }
                    Err(error) => {
                        next = Err(error.into());
                        break;
                    }
                }
            }
            next
        }
        Ok(ConnectionState::EncodeTlsData(mut data)) => match data.encode(&mut output[*tail..]) {
            Ok(n) => {
                *tail += n;
                Ok(Next::Again)
            }
            Err(EncodeError::InsufficientSize(e)) => Err(RecordsError::NoRoom(e.required_size)),
            Err(EncodeError::AlreadyEncoded) => Err(RecordsError::NotReady),
        },
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            Ok(Next::Again)
        }
        Ok(ConnectionState::PeerClosed) => Ok(Next::PeerClosed),
        Ok(ConnectionState::WriteTraffic(_)) => Ok(Next::Wait(Progress::Established)),
        Ok(ConnectionState::BlockedHandshake) => Ok(Next::Wait(Progress::Handshaking)),
        // `Closed`, and early data, which no configuration of ours accepts.
        Ok(_) => Ok(Next::Wait(Progress::PeerClosed)),
    };
    Step { discard, next }
}

fn write_traffic<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    plain: &[u8],
    output: &mut [u8],
    tail: &mut usize,
) -> Result<(), RecordsError> {
    let UnbufferedStatus { discard, state, .. } = status;
    // `process` always runs until only a partial record is left, so nothing is consumed here.
    debug_assert_eq!(discard, 0);
    let mut encrypt =
        |mut traffic: WriteTraffic<'_, Data>| match traffic.encrypt(plain, &mut output[*tail..]) {
            Ok(n) => {
                *tail += n;
                Ok(())
            }
            Err(EncryptError::InsufficientSize(e)) => Err(RecordsError::NoRoom(e.required_size)),
            Err(EncryptError::EncryptExhausted) => Err(RecordsError::Exhausted),
        };
    match state? {
        ConnectionState::WriteTraffic(traffic) => encrypt(traffic),
        ConnectionState::TransmitTlsData(mut data) => match data.may_encrypt_app_data() {
            Some(traffic) => encrypt(traffic),
            None => Err(RecordsError::NotReady),
        },
        _ => Err(RecordsError::NotReady),
    }
}

fn close_notify<Data>(status: UnbufferedStatus<'_, '_, Data>, space: &mut [u8]) -> usize {
    match status.state {
        Ok(ConnectionState::WriteTraffic(mut traffic)) => {
            traffic.queue_close_notify(space).unwrap_or(0)
        }
        _ => 0,
    }
}
