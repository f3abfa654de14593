//! Questions between sites: what another site asks of our node, and how it is answered.

use std::sync::mpsc::SyncSender;

use handfast_pki::Name;
use handfast_proto::link::v1::Refusal;
use handfast_proto::link::v1::control::Body;
use handfast_tls::Peer;

use crate::control::Input;
use crate::worker::ConnectionId;

/// Something that another site asks or tells.
#[derive(Debug)]
pub struct PeerRequest {
    /// Who asks: proven by the handshake of the connection that the question came over.
    pub peer: Peer,
    /// The link that we dialled and it came over; none where the other site dialled.
    pub link: Option<Name>,
    /// The question, or the notice.
    pub body: Body,
    /// Where the answer goes.
    pub responder: Responder,
}

/// Takes the answer to one question. Dropped without one, the asker times out; a notice needs none.
#[derive(Debug)]
pub struct Responder {
    inputs: SyncSender<Input>,
    connection: ConnectionId,
    request_id: u64,
}

impl Responder {
    pub(crate) fn new(
        inputs: SyncSender<Input>,
        connection: ConnectionId,
        request_id: u64,
    ) -> Self {
        Self { inputs, connection, request_id }
    }

    /// Sends the answer. If the connection is gone meanwhile, the asker asks again.
    pub fn answer(self, body: Body) {
        let reply = Input::Reply { connection: self.connection, request_id: self.request_id, body };
        // From the control thread itself this must not wait for the control thread.
        if let Err(error) = self.inputs.try_send(reply) {
            tracing::warn!(%error, "an answer to another site was dropped");
        }
    }

    /// Says no, with the reason.
    pub fn refuse(self, refusal: Refusal) {
        self.answer(Body::Refusal(refusal));
    }
}

/// Why a question to another site has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// No connection of the link is up.
    #[error("the link is down; it is dialled again by itself, see `handfast link status`")]
    LinkDown,
    /// The other site did not answer within ten seconds.
    #[error("the other site did not answer in time")]
    NoAnswer,
    /// The network is winding down.
    #[error("the node is stopping")]
    Stopping,
}
