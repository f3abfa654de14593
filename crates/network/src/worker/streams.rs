//! Frames that come in on a link connection, and what each does.

use std::collections::VecDeque;
use std::time::Instant;

use slab::Slab;

use super::edge::{Edge, Far, abort, connect_target};
use super::link::Mux;
use super::{Context, Event, Task};
use crate::frame::{self, FIN, Frame, Kind, MORE, ResetCode, frames};
use crate::window::{ReceiveWindow, SendWindow};

/// Takes the records of one read. Consecutive frames of one stream are gathered, so that a bulk
/// flow costs one write for several records.
pub(super) struct Inbound<'a> {
    context: &'a mut Context,
    edges: &'a mut Slab<Edge>,
    link: &'a mut Mux,
    link_index: usize,
    gathered: &'a mut Vec<u8>,
    gathering: Option<(u32, usize)>,
    run: &'a mut VecDeque<Task>,
    epoch: Instant,
    violation: Option<Violation>,
}

/// The peer does not keep to the protocol; what it did.
pub(super) struct Violation(pub(super) String);

/// Streams that a peer may have open on one connection.
const STREAMS: usize = 65_536;
/// Bytes of the largest control message.
const CONTROL: usize = 1024 * 1024;
/// Bytes gathered before they are written.
const GATHER: usize = 96 * 1024;

impl<'a> Inbound<'a> {
    pub(super) fn new(
        context: &'a mut Context,
        edges: &'a mut Slab<Edge>,
        link: &'a mut Mux,
        link_index: usize,
        gathered: &'a mut Vec<u8>,
        run: &'a mut VecDeque<Task>,
        epoch: Instant,
    ) -> Self {
        gathered.clear();
        Self {
            context,
            edges,
            link,
            link_index,
            gathered,
            gathering: None,
            run,
            epoch,
            violation: None,
        }
    }

    /// The plaintext of one record.
    pub(super) fn take(&mut self, record: &[u8]) {
        for frame in frames(record) {
            if self.violation.is_some() {
                return;
            }
            match frame {
                Ok(frame) => self.frame(frame),
                Err(error) => self.violation = Some(Violation(error.to_string())),
            }
        }
    }

    /// Writes what is gathered; says what the peer did wrong, if anything.
    pub(super) fn finish(mut self) -> Option<Violation> {
        self.write_gathered();
        self.violation
    }

    fn frame(&mut self, frame: Frame<'_>) {
        if frame.kind != Kind::Data || self.gathering.is_some_and(|(id, _)| id != frame.stream) {
            self.write_gathered();
        }
        match frame.kind {
            Kind::Open => self.open(frame),
            Kind::Data => self.data(frame),
            Kind::Reset => self.reset(frame.stream, frame.payload),
            Kind::Window => self.window(frame),
            Kind::Ping => frame::push(&mut self.link.batch, Kind::Pong, 0, 0, frame.payload),
            Kind::Pong => self.link.pong(frame.payload, self.epoch, self.context.now),
            Kind::Control => self.control(frame),
            Kind::GoAway => {
                self.link.draining = true;
                self.context.tell(Event::PeerDrains(self.link.id));
            }
        }
    }

    fn open(&mut self, frame: Frame<'_>) {
        let id = frame.stream;
        if self.link.streams.contains_key(&id) || !self.link.is_peers(id) {
            self.violation = Some(Violation(format!("stream {id} was opened out of turn")));
            return;
        }
        let Ok(routing_key) = str::from_utf8(frame.payload) else {
            self.violation = Some(Violation("a routing key is not UTF-8".into()));
            return;
        };
        if self.link.streams.len() >= STREAMS {
            return self.refuse(id, ResetCode::Limit);
        }
        let turn = self.context.next_turn();
        let routes = self.context.routes.load_full();
        let Some(target) = routes.target(routing_key, turn) else {
            return self.refuse(id, ResetCode::NoConnector);
        };
        let far = Far::Stream {
            link: self.link_index,
            id,
            send: SendWindow::new(),
            receive: ReceiveWindow::new(),
        };
        match connect_target(self.context, self.edges, target, far) {
            Some(edge) => {
                self.link.streams.insert(id, edge);
                self.link.counters.opened();
            }
            None => self.refuse(id, ResetCode::Unreachable),
        }
    }

    fn data(&mut self, frame: Frame<'_>) {
        // A stream that we have reset may still get what was under way.
        let Some(&index) = self.link.streams.get(&frame.stream) else { return };
        self.link.counters.came_in(frame.payload.len());
        let Some(edge) = self.edges.get_mut(index) else { return };
        if let Far::Stream { receive, .. } = &mut edge.far
            && receive.received(frame.payload.len()).is_err()
        {
            self.refuse(frame.stream, ResetCode::Limit);
            return self.drop_stream(frame.stream);
        }
        if !frame.payload.is_empty() {
            if self.gathering.is_none() && frame.flags & FIN == 0 && frame.payload.len() < 4096 {
                return self.deliver(frame.stream, index, frame.payload);
            }
            self.gathering = Some((frame.stream, index));
            self.gathered.extend_from_slice(frame.payload);
            if self.gathered.len() >= GATHER {
                self.write_gathered();
            }
        }
        if frame.flags & FIN != 0 {
            self.write_gathered();
            let Some(edge) = self.edges.get_mut(index) else { return };
            if edge.end_of_far().is_err() {
                self.refuse(frame.stream, ResetCode::Broken);
                return self.drop_stream(frame.stream);
            }
            // Closing needs the whole worker; the edge's own turn does it.
            self.schedule(index);
        }
    }

    fn write_gathered(&mut self) {
        let Some((id, index)) = self.gathering.take() else { return };
        let bytes = std::mem::take(self.gathered);
        self.deliver(id, index, &bytes);
        *self.gathered = bytes;
        self.gathered.clear();
    }

    fn deliver(&mut self, id: u32, index: usize, bytes: &[u8]) {
        let Some(edge) = self.edges.get_mut(index) else { return };
        let Ok(taken) = edge.deliver(bytes) else {
            self.refuse(id, ResetCode::Broken);
            return self.drop_stream(id);
        };
        if let Far::Stream { receive, .. } = &mut edge.far
            && let Some(grant) = receive.consumed(taken, self.context.now, self.link.rtt)
        {
            frame::push(&mut self.link.batch, Kind::Window, 0, id, &grant.to_be_bytes());
        }
    }

    fn reset(&mut self, id: u32, payload: &[u8]) {
        let code = ResetCode::from_byte(payload.first().copied().unwrap_or_default());
        tracing::debug!(stream = id, ?code, "the other site reset a flow");
        if let Some(&index) = self.link.streams.get(&id)
            && let Some(edge) = self.edges.get(index)
            && code != ResetCode::Broken
        {
            edge.counters.failed();
        }
        self.drop_stream(id);
    }

    fn window(&mut self, frame: Frame<'_>) {
        let Ok(grant) = <[u8; 4]>::try_from(frame.payload) else {
            self.violation = Some(Violation("a window grant is not four bytes".into()));
            return;
        };
        let Some(&index) = self.link.streams.get(&frame.stream) else { return };
        let Some(edge) = self.edges.get_mut(index) else { return };
        if let Far::Stream { send, .. } = &mut edge.far {
            let was_empty = send.available() == 0;
            send.grant(u32::from_be_bytes(grant));
            if was_empty {
                self.schedule(index);
            }
        }
    }

    fn control(&mut self, frame: Frame<'_>) {
        if self.link.control.len() + frame.payload.len() > CONTROL {
            self.violation = Some(Violation("a control message is larger than 1 MiB".into()));
            return;
        }
        self.link.control.extend_from_slice(frame.payload);
        if frame.flags & MORE == 0 {
            let message = std::mem::take(&mut self.link.control);
            self.context.tell(Event::Message(self.link.id, message));
        }
    }

    fn refuse(&mut self, id: u32, code: ResetCode) {
        frame::push(&mut self.link.batch, Kind::Reset, 0, id, &[code as u8]);
    }

    /// Forgets the stream and resets its socket.
    fn drop_stream(&mut self, id: u32) {
        let Some(index) = self.link.streams.remove(&id) else { return };
        self.link.counters.closed();
        if self.gathering.is_some_and(|(gathering, _)| gathering == id) {
            self.gathering = None;
            self.gathered.clear();
        }
        if let Some(mut edge) = self.edges.try_remove(index) {
            edge.far = Far::Nothing;
            abort(edge);
        }
    }

    fn schedule(&mut self, index: usize) {
        if let Some(edge) = self.edges.get_mut(index)
            && !std::mem::replace(&mut edge.scheduled, true)
        {
            self.run.push_back(Task::Edge(index));
        }
    }
}
