//! Control messages: what sites tell and ask each other over a link.

use std::time::{Duration, Instant};

use handfast_pki::Name;
use handfast_proto::link::v1::control::Body;
use handfast_proto::link::v1::{Advertisement, Control as Message, Refusal, Service};
use prost::Message as _;

use super::{Asked, Control, Offers};
use crate::exchange::{PeerRequest, RequestError, Responder};
use crate::worker::{Command, ConnectionId};

/// Routing keys that one site may offer.
const SERVICES: usize = 10_000;
/// How long another site may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

impl Control {
    pub(super) fn say(&self, id: ConnectionId, request_id: u64, body: Body) {
        if let Some(connection) = self.connections.get(&id) {
            let message = Message { request_id, body: Some(body) };
            self.workers[connection.worker].send(Command::Say(id, message.encode_to_vec()));
        }
    }

    pub(super) fn message(&mut self, id: ConnectionId, bytes: &[u8]) {
        let Some(connection) = self.connections.get(&id) else { return };
        let message = match Message::decode(bytes) {
            Ok(message) => message,
            Err(error) => {
                tracing::warn!(site = %connection.site, %error, "a control message is malformed");
                return;
            }
        };
        match message.body {
            Some(Body::Advertisement(advertisement)) => {
                let site = connection.site.clone();
                self.take_offers(site, advertisement);
            }
            Some(Body::RevocationsAcknowledged(ack)) => {
                let site = connection.site.clone();
                self.revocations_acknowledged(&site, ack);
            }
            Some(body @ Body::Revocations(_)) => self.pass_on(id, body),
            Some(body @ Body::CredentialRequest(_)) => {
                let responder = Responder::new(self.sender.clone(), id, message.request_id);
                let (peer, link) = (connection.peer.clone(), connection.link.clone());
                let request = PeerRequest { peer, link, body, responder };
                if let Err(refused) = self.requests.try_send(request) {
                    refused.into_inner().responder.refuse(Refusal {
                        code: "busy".into(),
                        message: "the site is answering too many requests".into(),
                        remedy: "none needed: the request is repeated".into(),
                    });
                }
            }
            Some(body @ (Body::CredentialGrant(_) | Body::Refusal(_))) => {
                let site = connection.site.clone();
                if self.asked.get(&message.request_id).is_some_and(|asked| asked.site == site)
                    && let Some(asked) = self.asked.remove(&message.request_id)
                {
                    let _ = asked.answer.send(Ok(body)).is_ok();
                }
            }
            Some(Body::TrustBundle(bundle)) => self.hear_bundle(id, bundle),
            Some(Body::BundleAcknowledged(said)) => self.hear_acknowledged(id, said),
            // A hello comes once, at the gate; what is unknown is for a later version.
            Some(Body::Hello(_)) | None => {}
        }
    }

    fn take_offers(&mut self, site: Name, advertisement: Advertisement) {
        let offers = self.offers.entry(site.clone()).or_default();
        if advertisement.sequence < offers.sequence {
            return;
        }
        let services: Vec<_> = advertisement
            .services
            .into_iter()
            .take(SERVICES)
            .map(|service| (service.routing_key, service.cost))
            .collect();
        for (key, _) in &services {
            self.missed.remove(key);
        }
        *offers = Offers { sequence: advertisement.sequence, services };
        tracing::debug!(%site, "the site's offers changed");
        self.reroute();
    }

    /// Asks the site at the other end of a link that we dialled.
    pub(super) fn ask(
        &mut self,
        link: &Name,
        body: Body,
        answer: tokio::sync::oneshot::Sender<Result<Body, RequestError>>,
    ) {
        let found = self
            .connections
            .iter()
            .find(|(_, c)| c.link.as_ref() == Some(link) && !c.draining)
            .map(|(id, c)| (*id, c.site.clone()));
        let Some((id, site)) = found else {
            let _ = answer.send(Err(RequestError::LinkDown)).is_ok();
            return;
        };
        let request_id = self.next_request;
        self.next_request += 1;
        self.asked.insert(request_id, Asked { site, answer, deadline: Instant::now() + ANSWER });
        self.say(id, request_id, body);
    }

    /// Tells every site what is offered here, if that changed.
    pub(super) fn advertise(&mut self) {
        self.advertised = self.next_sequence();
        let mut told = std::collections::BTreeSet::new();
        let ids: Vec<_> = self
            .connections
            .iter()
            .filter(|(_, c)| !c.draining && told.insert(c.site.clone()))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            self.advertise_to(id);
        }
    }

    pub(super) fn advertise_to(&mut self, id: ConnectionId) {
        if self.advertised == 0 {
            self.advertised = self.next_sequence();
        }
        let services = self
            .connectors
            .values()
            .map(|c| Service { routing_key: c.plan.routing_key.clone(), cost: 0 })
            .collect();
        let advertisement = Advertisement { sequence: self.advertised, services };
        self.say(id, 0, Body::Advertisement(advertisement));
    }

    /// Grows across restarts, so that a site that came back is believed at once.
    fn next_sequence(&self) -> u64 {
        let now = u64::try_from(self.now().as_microsecond()).unwrap_or(0);
        now.max(self.advertised + 1)
    }
}
