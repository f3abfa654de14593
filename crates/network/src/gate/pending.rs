//! One link connection on its way: connect, handshake, hello.

use std::io::{self, Read};
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use handfast_pki::{Certificate, Chain, IdentityKind, Name};
use handfast_proto::link::v1::{Control, Hello, control::Body};
use handfast_tls::{
    Attempt, Fault, FaultCode, FirstBytes, LINK_ALPN, Peer, Session, Side, fault_of, fault_of_io,
    sniff, watched,
};
use jiff::Timestamp;
use mio::Registry;
use mio::net::TcpStream;
use prost::Message;

use super::{Dial, Established, Failed, Introduction};
use crate::frame::{Kind, MORE, frames};
use crate::records::{Progress, Records, RecordsError, Taken};
use crate::status::Counters;
use crate::worker::{ConnectionId, push_control};

/// A connection that no worker carries yet.
pub(super) struct Pending {
    socket: TcpStream,
    address: SocketAddr,
    records: Records,
    order: Order,
    site: Name,
    deadline: Instant,
    phase: Phase,
    first: Option<FirstBytes>,
    /// Plaintext received: the peer's hello and what is behind it.
    plain: Vec<u8>,
    peer: Option<(Name, Peer, Session)>,
    hello: Option<Hello>,
}

/// Why the connection is made.
pub(super) enum Order {
    Accepted,
    Dialled(Box<Dial>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connecting,
    Handshaking,
    Greeting,
    /// Refused; the alert goes out, and what the peer still sends is read so that it arrives.
    Lingering,
}

/// What one step came to.
pub(super) enum Outcome {
    Waiting,
    Ready,
    Failed(Fault),
    Over,
}

/// Version of the link protocol.
const VERSION: u32 = 1;
/// Bytes that a peer may send before and with its hello.
const PLAIN: usize = 64 * 1024;
/// How long a refused peer may take to read the alert.
const LINGER: Duration = Duration::from_secs(1);

impl Pending {
    pub(super) fn new(
        socket: TcpStream,
        address: SocketAddr,
        records: Records,
        order: Order,
        site: Name,
        deadline: Instant,
    ) -> Self {
        let phase = match order {
            Order::Accepted => Phase::Handshaking,
            Order::Dialled(_) => Phase::Connecting,
        };
        Self {
            socket,
            address,
            records,
            order,
            site,
            deadline,
            phase,
            first: None,
            plain: Vec::new(),
            peer: None,
            hello: None,
        }
    }

    pub(super) fn socket_mut(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(super) fn is_late(&self, now: Instant) -> bool {
        now >= self.deadline
    }

    pub(super) fn is_dialled(&self) -> bool {
        matches!(self.order, Order::Dialled(_))
    }

    pub(super) fn is_lingering(&self) -> bool {
        self.phase == Phase::Lingering
    }

    pub(super) fn failed_at(&self) -> Failed {
        match &self.order {
            Order::Accepted => Failed::Accept(self.address),
            Order::Dialled(dial) => {
                Failed::Dial { link: dial.link.clone(), group: dial.group.clone() }
            }
        }
    }

    pub(super) fn attempt(&self, now: Timestamp) -> Attempt {
        let attempt =
            match &self.order {
                Order::Accepted => Attempt::server(now).with_subject("link port"),
                Order::Dialled(dial) => Attempt::client(dial.host.clone(), now).with_subject(
                    format!("link {} to {}:{}", dial.link, dial.host, dial.address.port()),
                ),
            };
        let attempt = attempt.with_peer_addr(self.address).with_alpn(&[LINK_ALPN]);
        match self.first {
            Some(first) => attempt.with_first_bytes(first),
            None => attempt,
        }
    }

    /// Goes as far as the socket allows.
    pub(super) fn advance(&mut self, now: Timestamp) -> Outcome {
        if self.phase == Phase::Lingering {
            return self.linger();
        }
        match self.step(now) {
            Ok(outcome) => outcome,
            Err(fault) => {
                let _ = self.records.write_to(&mut self.socket).is_ok();
                if self.socket.shutdown(Shutdown::Write).is_ok() && !self.is_dialled() {
                    self.phase = Phase::Lingering;
                    self.deadline = Instant::now() + LINGER;
                }
                Outcome::Failed(*fault)
            }
        }
    }

    fn step(&mut self, now: Timestamp) -> Result<Outcome, Box<Fault>> {
        if self.phase == Phase::Connecting {
            match self.connected() {
                Ok(true) => self.phase = Phase::Handshaking,
                Ok(false) => return Ok(Outcome::Waiting),
                Err(error) => return Err(Box::new(fault_of_io(&error, &self.attempt(now)))),
            }
        }
        loop {
            self.process(now)?;
            if let Err(error) = self.records.write_to(&mut self.socket) {
                return Err(Box::new(fault_of_io(&error, &self.attempt(now))));
            }
            if self.hello.is_some() {
                return Ok(Outcome::Ready);
            }
            if self.records.is_stuck() {
                return Err(
                    self.fault(FaultCode::ProtocolViolation, "a message larger than any we take")
                );
            }
            let taken = self.records.read_from(&mut self.socket);
            if self.first.is_none() && !self.records.unprocessed().is_empty() {
                self.first = Some(sniff(self.records.unprocessed()));
            }
            match taken {
                Ok(Taken::More | Taken::Short) => {}
                Ok(Taken::Nothing) => {
                    // What came with this read still has to be looked at.
                    self.process(now)?;
                    if let Err(error) = self.records.write_to(&mut self.socket) {
                        return Err(Box::new(fault_of_io(&error, &self.attempt(now))));
                    }
                    return Ok(if self.hello.is_some() {
                        Outcome::Ready
                    } else {
                        Outcome::Waiting
                    });
                }
                Ok(Taken::End) => {
                    self.process(now)?;
                    let error = io::Error::from(io::ErrorKind::UnexpectedEof);
                    return Err(Box::new(fault_of_io(&error, &self.attempt(now))));
                }
                Err(error) => {
                    // An alert may have come before the reset.
                    self.process(now)?;
                    return Err(Box::new(fault_of_io(&error, &self.attempt(now))));
                }
            }
        }
    }

    fn connected(&self) -> io::Result<bool> {
        if let Some(error) = self.socket.take_error()? {
            return Err(error);
        }
        match self.socket.peer_addr() {
            Ok(_) => {
                self.socket.set_nodelay(true)?;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Runs TLS over what was read, and the hello when the peer is known.
    fn process(&mut self, now: Timestamp) -> Result<(), Box<Fault>> {
        let plain = &mut self.plain;
        let records = &mut self.records;
        let (progress, refusal) = watched(|| {
            records.process(|record| {
                if plain.len() < PLAIN {
                    plain.extend_from_slice(record);
                }
            })
        });
        let progress = match progress {
            Ok(progress) => progress,
            Err(RecordsError::Tls(error)) => {
                let error = refusal.map_or(error, rustls::Error::from);
                let presented = self.records.state().peer_certificates();
                return Err(Box::new(fault_of(&error, &self.attempt(now), presented)));
            }
            Err(error) => {
                return Err(self.fault(FaultCode::ProtocolViolation, &error.to_string()));
            }
        };
        if progress == Progress::Handshaking {
            return Ok(());
        }
        if self.phase == Phase::Handshaking {
            self.introduce(now)?;
            self.phase = Phase::Greeting;
            if self.is_dialled() {
                self.say_hello()?;
            }
        }
        self.hear_hello()?;
        if progress == Progress::PeerClosed && self.hello.is_none() {
            let error = io::Error::from(io::ErrorKind::UnexpectedEof);
            return Err(Box::new(fault_of_io(&error, &self.attempt(now))));
        }
        Ok(())
    }

    /// Rule 1: who the peer is comes from the certificate that it proved, and from nothing else.
    fn introduce(&mut self, now: Timestamp) -> Result<(), Box<Fault>> {
        let attempt = self.attempt(now);
        let state = self.records.state();
        let session = Session::of(state)
            .ok_or_else(|| self.fault(FaultCode::HandshakeFailed, "nothing was negotiated"))?;
        session.require_alpn(LINK_ALPN, &attempt).map_err(Box::new)?;
        let peer = Peer::of(state).ok_or_else(|| {
            self.fault(FaultCode::NoCertificate, "the peer showed no certificate")
        })?;
        // A site's server certificate names hosts; its identity rides along as a URI SAN.
        let named = peer.identity.as_ref().filter(|id| id.kind() == Some(IdentityKind::Site));
        let Some(site) = named.and_then(handfast_pki::SpiffeId::name) else {
            return Err(self.fault(FaultCode::NoIdentity, "the certificate is not a site's"));
        };
        if site == self.site {
            return Err(self
                .fault(FaultCode::WrongIdentity, "the peer has this site's own name")
                .remedied_by("give one of the two sites another name, or remove the link to itself")
                .into());
        }
        self.peer = Some((site, peer, session));
        Ok(())
    }

    fn say_hello(&mut self) -> Result<(), Box<Fault>> {
        let mut hello = Hello {
            version: VERSION,
            site: self.site.to_string(),
            software: concat!("handfast/", env!("CARGO_PKG_VERSION")).to_owned(),
            ..Hello::default()
        };
        if let Order::Dialled(dial) = &self.order {
            hello.group.clone_from(&dial.group);
            hello.index = u32::try_from(dial.index).unwrap_or(u32::MAX);
            hello.connections = u32::try_from(dial.connections).unwrap_or(u32::MAX);
            hello.cost = dial.cost;
        }
        let control = Control { request_id: 0, body: Some(Body::Hello(hello)) };
        let mut frames = Vec::new();
        push_control(&mut frames, &control.encode_to_vec());
        self.records
            .seal(&frames)
            .map_err(|error| self.fault(FaultCode::HandshakeFailed, &error.to_string()))
    }

    fn hear_hello(&mut self) -> Result<(), Box<Fault>> {
        if self.hello.is_some() || self.plain.is_empty() {
            return Ok(());
        }
        let violation = |what: &str| self.fault(FaultCode::ProtocolViolation, what);
        let first = match frames(&self.plain).next() {
            Some(Ok(frame)) if frame.kind == Kind::Control && frame.flags & MORE == 0 => frame,
            Some(Ok(_)) => return Err(violation("the peer's first frame is not a hello")),
            Some(Err(error)) => return Err(violation(&error.to_string())),
            None => return Ok(()),
        };
        let Ok(Control { body: Some(Body::Hello(hello)), .. }) = Control::decode(first.payload)
        else {
            return Err(violation("the peer's first message is not a hello"));
        };
        if hello.version != VERSION {
            let what =
                format!("the peer speaks link protocol {}, we speak {VERSION}", hello.version);
            return Err(self.fault(FaultCode::ProtocolMismatch, &what));
        }
        if hello.group.len() > 64 {
            return Err(violation("the peer's hello is malformed"));
        }
        let taken = crate::frame::HEADER + first.payload.len();
        self.plain.drain(..taken);
        if !self.is_dialled() {
            self.say_hello()?;
        }
        self.hello = Some(hello);
        Ok(())
    }

    fn linger(&mut self) -> Outcome {
        let mut waste = [0; 4096];
        let _ = self.records.write_to(&mut self.socket).is_ok();
        for _ in 0..16 {
            match self.socket.read(&mut waste) {
                Ok(0) => return Outcome::Over,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Outcome::Waiting,
                Err(_) => return Outcome::Over,
            }
        }
        Outcome::Over
    }

    #[expect(clippy::unnecessary_box_returns, reason = "all errors of a step are boxed faults")]
    fn fault(&self, code: FaultCode, what: &str) -> Box<Fault> {
        let place = match &self.order {
            Order::Accepted => "link port".to_owned(),
            Order::Dialled(dial) => {
                format!("link {} to {}:{}", dial.link, dial.host, dial.address.port())
            }
        };
        let fault = Fault::new(code, Side::Peer, place).saying(what);
        Box::new(fault.with("peer-address", self.address.to_string()))
    }

    /// The connection for a worker and what the control thread has to know of it.
    pub(super) fn into_established(
        mut self,
        id: ConnectionId,
        registry: &Registry,
    ) -> io::Result<(Introduction, Established)> {
        registry.deregister(&mut self.socket)?;
        let (Some((site, peer, session)), Some(hello)) = (self.peer, self.hello) else {
            return Err(io::Error::other("the handshake is not finished"));
        };
        let chain = presented(&self.records)?;
        let counters = Counters::shared();
        let (link, group, index, cost) = match self.order {
            Order::Accepted => {
                (None, hello.group, usize::try_from(hello.index).unwrap_or(0), hello.cost.max(1))
            }
            Order::Dialled(dial) => (Some(dial.link), dial.group, dial.index, dial.cost),
        };
        let dialled = link.is_some();
        let introduction = Introduction {
            id,
            site: site.clone(),
            link,
            group,
            index,
            cost,
            address: self.address,
            peer,
            chain,
            session,
            counters: counters.clone(),
        };
        let (socket, records, early) = (self.socket, self.records, self.plain);
        Ok((introduction, Established { id, site, socket, records, early, dialled, counters }))
    }
}

fn presented(records: &Records) -> io::Result<Chain> {
    let mut certificates = Vec::new();
    for certificate in records.state().peer_certificates().unwrap_or_default() {
        certificates.push(Certificate::from_der(certificate.to_vec()).map_err(io::Error::other)?);
    }
    if certificates.is_empty() {
        return Err(io::Error::other("the peer showed no certificate"));
    }
    let leaf = certificates.remove(0);
    Ok(Chain::new(leaf, certificates))
}
