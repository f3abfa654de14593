//! Link connections: many flows on one TLS connection, and how its life ends.

use std::collections::{HashMap, VecDeque};

use std::sync::Arc;
use std::time::{Duration, Instant};

use handfast_pki::Name;
use mio::Interest;
use mio::net::TcpStream;

use super::streams::{Inbound, Violation};
use super::{ConnectionId, Event, KIND_LINK, Loss, Worker, token};
use crate::frame::{self, Kind, MAX_PAYLOAD, MORE};
use crate::gate::Established;
use crate::records::{Progress, Records, RecordsError, Taken};
use crate::status::Counters;

/// A connection to another site.
pub(crate) struct Link {
    site: Name,
    socket: TcpStream,
    pub(super) records: Records,
    pub(super) mux: Mux,
    /// Edges that wait for room in the send buffer, first come first served.
    pub(super) waiting: VecDeque<usize>,
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// The peer ended its half: what a short read leaves is the end of the stream.
    pub(super) ending: bool,
    pub(super) scheduled: bool,
    /// Has something to send.
    pub(super) dirty: bool,
    /// Something came in, and nothing has gone out since that could carry its acknowledgement.
    owing: bool,
    heard: Instant,
    asked: Instant,
}

/// What the frames of a connection need, apart from its records: the streams and what they say.
pub(crate) struct Mux {
    pub(super) id: ConnectionId,
    /// Whole frames that go into the next records.
    pub(super) batch: Vec<u8>,
    /// The edge of each open stream.
    pub(super) streams: HashMap<u32, usize>,
    pub(super) counters: Arc<Counters>,
    /// Opens no new streams; closed when the last has ended.
    pub(super) draining: bool,
    /// Smoothed round-trip time.
    pub(super) rtt: Duration,
    /// The control message that is coming in.
    pub(super) control: Vec<u8>,
    next_stream: u32,
}

/// Pings go out this often.
const PING: Duration = Duration::from_millis(750);
/// A connection from which nothing came for so long is lost.
const SILENCE: Duration = Duration::from_millis(2500);
/// A send buffer emptied to here takes more from its edges.
const LINK_LOW: usize = 64 * 1024;
/// Round-trip time assumed before the first measurement.
const FIRST_RTT: Duration = Duration::from_millis(1);

impl Link {
    /// Encrypts what is batched, as far as there is room.
    pub(super) fn seal_batch(&mut self) -> Result<(), RecordsError> {
        let mut sealed = 0;
        while sealed < self.mux.batch.len() {
            let n = frame::fit_record(&self.mux.batch[sealed..]);
            if self.records.room() < n {
                break;
            }
            self.records.seal(&self.mux.batch[sealed..sealed + n])?;
            sealed += n;
        }
        self.mux.batch.drain(..sealed);
        Ok(())
    }
}

impl Mux {
    /// An identifier that no open stream has. The dialling side counts odd ones, the other even.
    pub(super) fn next_stream(&mut self) -> u32 {
        loop {
            let id = self.next_stream;
            self.next_stream = self.next_stream.checked_add(2).unwrap_or(1 + (id + 1) % 2);
            if !self.streams.contains_key(&id) {
                return id;
            }
        }
    }

    /// Whether a stream of this number is for the peer to open.
    pub(super) fn is_peers(&self, id: u32) -> bool {
        id != 0 && id % 2 != self.next_stream % 2
    }

    pub(super) fn pong(&mut self, payload: &[u8], epoch: Instant, now: Instant) {
        let Ok(sent) = <[u8; 8]>::try_from(payload) else { return };
        let sent = epoch + Duration::from_micros(u64::from_be_bytes(sent) & 0xff_ffff_ffff);
        let sample = now.saturating_duration_since(sent);
        self.rtt = if self.rtt == FIRST_RTT { sample } else { (self.rtt * 7 + sample) / 8 };
    }
}

impl Worker {
    pub(super) fn carry(&mut self, established: Established) {
        let Established { id, site, mut socket, mut records, early, dialled, counters } =
            established;
        let entry = self.links.vacant_entry();
        let index = entry.key();
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) =
            self.context.registry.register(&mut socket, token(KIND_LINK, index), interest)
        {
            self.context.tell(Event::Lost(id, Loss::Io(error)));
            return;
        }
        records.grow();
        let now = self.context.now;
        entry.insert(Link {
            site: site.clone(),
            socket,
            records,
            mux: Mux {
                id,
                batch: Vec::new(),
                streams: HashMap::new(),
                counters,
                draining: self.stop.is_some(),
                rtt: FIRST_RTT,
                control: Vec::new(),
                next_stream: if dialled { 1 } else { 2 },
            },
            waiting: VecDeque::new(),
            readable: true,
            writable: true,
            ending: false,
            scheduled: false,
            dirty: false,
            owing: false,
            heard: now,
            asked: now,
        });
        self.by_site.entry(site).or_default().push(index);
        self.by_connection.insert(id, index);
        self.process_frames(index, &early);
        self.schedule_link(index);
        self.touch_link(index);
        self.retry_held();
    }

    pub(super) fn drain(&mut self, id: ConnectionId) {
        let Some(&index) = self.by_connection.get(&id) else { return };
        let Some(link) = self.links.get_mut(index) else { return };
        if !std::mem::replace(&mut link.mux.draining, true) {
            frame::push(&mut link.mux.batch, Kind::GoAway, 0, 0, &[]);
        }
        self.touch_link(index);
        self.close_if_drained(index);
    }

    pub(super) fn cut(&mut self, id: ConnectionId) {
        if let Some(&index) = self.by_connection.get(&id) {
            self.close_link(index, Loss::Untrusted);
        }
    }

    pub(super) fn say(&mut self, id: ConnectionId, message: &[u8]) {
        let Some(&index) = self.by_connection.get(&id) else { return };
        let Some(link) = self.links.get_mut(index) else { return };
        push_control(&mut link.mux.batch, message);
        self.touch_link(index);
    }

    pub(super) fn serve_link(&mut self, index: usize) {
        let Some(link) = self.links.get_mut(index) else { return };
        link.scheduled = false;
        if link.writable && link.records.pending() + link.mux.batch.len() > 0 {
            self.touch_link(index);
        }
        for _ in 0..super::READS_PER_TURN {
            let Some(link) = self.links.get_mut(index) else { return };
            if !link.readable {
                return;
            }
            let taken = match link.records.read_from(&mut link.socket) {
                Ok(taken) => taken,
                Err(error) => return self.close_link(index, Loss::Io(error)),
            };
            link.heard = self.context.now;
            if !std::mem::replace(&mut link.owing, true) {
                self.owing.push(index);
            }
            link.readable = taken == Taken::More || (taken == Taken::Short && link.ending);
            match self.process_records(index) {
                Ok(Progress::Established) if taken != Taken::End => {}
                Ok(_) => return self.close_link(index, Loss::Closed),
                Err(loss) => return self.close_link(index, loss),
            }
        }
        self.schedule_link(index);
    }

    fn process_records(&mut self, index: usize) -> Result<Progress, Loss> {
        let Some(link) = self.links.get_mut(index) else { return Ok(Progress::Established) };
        let mut inbound = Inbound::new(
            &mut self.context,
            &mut self.edges,
            &mut link.mux,
            index,
            &mut self.gathered,
            &mut self.run,
            self.epoch,
        );
        let progress = link.records.process(|record| inbound.take(record));
        let violation = inbound.finish();
        let stuck = link.records.is_stuck();
        self.after_frames(index);
        match (progress, violation) {
            (Err(error), _) => Err(Loss::Protocol(error.to_string())),
            (_, Some(Violation(what))) => Err(Loss::Protocol(what)),
            (Ok(_), None) if stuck => Err(Loss::Protocol("a TLS record is too large".into())),
            (Ok(progress), None) => Ok(progress),
        }
    }

    /// Frames that came with the handshake.
    fn process_frames(&mut self, index: usize, early: &[u8]) {
        let Some(link) = self.links.get_mut(index) else { return };
        let mut inbound = Inbound::new(
            &mut self.context,
            &mut self.edges,
            &mut link.mux,
            index,
            &mut self.gathered,
            &mut self.run,
            self.epoch,
        );
        inbound.take(early);
        let violation = inbound.finish();
        self.after_frames(index);
        if let Some(Violation(what)) = violation {
            self.close_link(index, Loss::Protocol(what));
        }
    }

    fn after_frames(&mut self, index: usize) {
        if self.links.get(index).is_some_and(|link| !link.mux.batch.is_empty()) {
            self.touch_link(index);
        }
        self.close_if_drained(index);
    }

    /// Sends what every touched link has to say, in one write each.
    pub(super) fn flush_links(&mut self) {
        while let Some(index) = self.dirty.pop() {
            let Some(link) = self.links.get_mut(index) else { continue };
            link.dirty = false;
            if let Err(error) = link.seal_batch() {
                self.lose_link(index, &error);
                continue;
            }
            if !link.writable {
                continue;
            }
            if link.records.pending() > 0 {
                link.owing = false;
            }
            match link.records.write_to(&mut link.socket) {
                Ok(true) => {}
                Ok(false) => link.writable = false,
                Err(error) => {
                    self.close_link(index, Loss::Io(error));
                    continue;
                }
            }
            if link.records.pending() <= LINK_LOW {
                if !link.mux.batch.is_empty() {
                    self.touch_link(index);
                }
                self.resume_waiting(index);
            }
        }
    }

    /// Has the kernel acknowledge at once what nothing that we say acknowledges.
    ///
    /// It would wait up to 40 ms for an answer to put the acknowledgement on. Many flows share this
    /// connection, and where congestion control counts packets a few small ones fill its window: with
    /// both sides waiting for each other's acknowledgement, every flow stands still so long.
    pub(super) fn acknowledge(&mut self) {
        while let Some(index) = self.owing.pop() {
            let Some(link) = self.links.get_mut(index) else { continue };
            if std::mem::take(&mut link.owing) {
                // Where it cannot be set, it is only slower.
                let _ = socket2::SockRef::from(&link.socket).set_tcp_quickack(true).is_ok();
            }
        }
    }

    pub(super) fn tick_links(&mut self, stalled: bool) {
        let now = self.context.now;
        let mut lost = Vec::new();
        let mut asked = Vec::new();
        for (index, link) in &mut self.links {
            if stalled {
                link.heard = now;
            }
            if now.saturating_duration_since(link.heard) > SILENCE {
                lost.push(index);
            } else if now.saturating_duration_since(link.asked) >= PING {
                link.asked = now;
                let micros = now.saturating_duration_since(self.epoch).as_micros();
                let payload = u64::try_from(micros).unwrap_or(0).to_be_bytes();
                frame::push(&mut link.mux.batch, Kind::Ping, 0, 0, &payload);
                asked.push(index);
            }
        }
        for index in lost {
            self.close_link(index, Loss::Silent);
        }
        for index in asked {
            self.touch_link(index);
            self.close_if_drained(index);
        }
    }

    pub(super) fn forget_stream(&mut self, link_index: usize, id: u32) {
        let Some(link) = self.links.get_mut(link_index) else { return };
        if link.mux.streams.remove(&id).is_some() {
            link.mux.counters.closed();
        }
        self.close_if_drained(link_index);
    }

    pub(super) fn close_if_drained(&mut self, index: usize) {
        let Some(link) = self.links.get(index) else { return };
        if link.mux.draining && link.mux.streams.is_empty() && self.stop.is_none() {
            // What was batched (the last FIN, say) still has to go out.
            if link.mux.batch.is_empty() && link.records.pending() == 0 {
                self.close_link(index, Loss::Closed);
            } else {
                self.touch_link(index);
            }
        }
    }

    pub(super) fn lose_link(&mut self, index: usize, error: &RecordsError) {
        self.close_link(index, Loss::Protocol(error.to_string()));
    }

    pub(super) fn close_link(&mut self, index: usize, loss: Loss) {
        let Some(mut link) = self.links.try_remove(index) else { return };
        if !matches!(loss, Loss::Io(_)) {
            let _ = link.seal_batch().is_ok();
            link.records.close();
            // Best effort: the peer may be gone.
            let _ = link.records.write_to(&mut link.socket).is_ok();
        }
        self.by_connection.remove(&link.mux.id);
        if let Some(links) = self.by_site.get_mut(&link.site) {
            links.retain(|&other| other != index);
        }
        for (_, edge) in link.mux.streams.drain() {
            link.mux.counters.closed();
            self.detach_and_abort(edge);
        }
        self.context.tell(Event::Lost(link.mux.id, loss));
    }

    fn detach_and_abort(&mut self, edge: usize) {
        if let Some(edge) = self.edges.get_mut(edge) {
            edge.far = super::edge::Far::Nothing;
        }
        self.abort_edge(edge);
    }
}

/// Appends a control message, cut into frames.
pub(crate) fn push_control(batch: &mut Vec<u8>, message: &[u8]) {
    let mut pieces = message.chunks(MAX_PAYLOAD).peekable();
    if pieces.peek().is_none() {
        frame::push(batch, Kind::Control, 0, 0, &[]);
    }
    while let Some(piece) = pieces.next() {
        let flags = if pieces.peek().is_some() { MORE } else { 0 };
        frame::push(batch, Kind::Control, flags, 0, piece);
    }
}
