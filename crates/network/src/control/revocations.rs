//! Revocations: told to every linked site, and enforced on the connections that stand.
//!
//! A site says where it stands in our count when a link to it comes up; it is then told the rest, one
//! message at a time, each after the one before was acknowledged. Acknowledged means: on its disk.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use handfast_pki::Name;
use handfast_proto::link::v1::control::Body;
use handfast_proto::link::v1::{Revocations, RevocationsAcknowledged};

use super::{Connection, Control};
use crate::revocations::Position;
use crate::status::{RevocationStatus, SiteRevocations};
use crate::worker::{Command, ConnectionId};

/// How far a site was told.
pub(super) struct Telling {
    /// The statement to be told next.
    next: usize,
    /// What the site has acknowledged.
    acknowledged: Position,
    /// What it was sent and has not acknowledged.
    sent: Option<Sent>,
}

struct Sent {
    connection: ConnectionId,
    /// The statement after those sent.
    next: usize,
    position: Position,
    again_at: Instant,
}

/// A message that is not acknowledged is repeated after so long: the site may have been too busy.
const AGAIN: Duration = Duration::from_secs(10);

impl Control {
    /// Revocations were recorded: passes them on, and cuts what they concern. The order matters: so
    /// the site that is cut learns why.
    pub(super) fn revocations_changed(&mut self) -> usize {
        let sites: Vec<Name> = self.telling.keys().cloned().collect();
        for site in sites {
            self.tell_revocations(&site);
        }
        self.enforce_revocations()
    }

    /// Cuts every connection whose path holds a revoked certificate; says how many.
    fn enforce_revocations(&mut self) -> usize {
        let mut cut = 0;
        for (id, connection) in &mut self.connections {
            if connection.revoked.is_some() {
                continue;
            }
            let Some(revoked) = self.revocations.find_revoked(&connection.path) else { continue };
            let fault = revoked.fault(place(connection));
            tracing::warn!(site = %connection.site, fault = %fault.one_line(), "cut");
            connection.revoked = Some(fault);
            self.workers[connection.worker].send(Command::Cut(*id));
            cut += 1;
        }
        self.cut += cut as u64;
        cut
    }

    /// A new dialling stands: says how far the site at the other end was heard.
    pub(super) fn ask_for_revocations(&self, id: ConnectionId, site: &Name) {
        let Position { sequence, digest } = self.feed.heard(site);
        let body = Body::RevocationsAcknowledged(RevocationsAcknowledged { sequence, digest });
        self.say(id, 0, body);
    }

    /// A site says where it stands.
    pub(super) fn revocations_acknowledged(&mut self, site: &Name, ack: RevocationsAcknowledged) {
        let position = Position { sequence: ack.sequence, digest: ack.digest };
        let sent = self.telling.get_mut(site).and_then(|telling| telling.sent.take());
        let next = match sent {
            Some(sent) if sent.position == position => sent.next,
            // It begins anew, or lost what it was sent.
            _ => self.feed.first_after(&position),
        };
        let telling = Telling { next, acknowledged: position, sent: None };
        self.telling.insert(site.clone(), telling);
        self.tell_revocations(site);
    }

    /// Sends the next message, unless one is under way or there is none.
    fn tell_revocations(&mut self, site: &Name) {
        let carrier = self
            .connections
            .iter()
            .filter(|(_, c)| c.site == *site && c.revoked.is_none())
            .min_by_key(|(_, c)| c.draining)
            .map(|(id, _)| *id);
        let (Some(telling), Some(connection)) = (self.telling.get_mut(site), carrier) else {
            return;
        };
        if telling.sent.is_some() {
            return;
        }
        let Some(page) = self.feed.page(telling.next, &telling.acknowledged) else { return };
        let body = Body::Revocations(Revocations {
            sequence: page.position.sequence,
            digest: page.position.digest.clone(),
            statements: page.statements,
        });
        let again_at = Instant::now() + AGAIN;
        telling.sent =
            Some(Sent { connection, next: page.next, position: page.position, again_at });
        self.say(connection, 0, body);
    }

    /// A connection is gone: what it carried is told over another one, and a site without any says
    /// itself where it stands when it comes back.
    pub(super) fn telling_lost(&mut self, id: ConnectionId, site: &Name) {
        if !self.connections.values().any(|c| c.site == *site) {
            self.telling.remove(site);
            return;
        }
        self.tell_again(|sent| sent.connection == id);
    }

    pub(super) fn tick_revocations(&mut self, now: Instant) {
        self.tell_again(|sent| sent.again_at <= now);
    }

    fn tell_again(&mut self, which: impl Fn(&Sent) -> bool) {
        let mut again = BTreeSet::new();
        for (site, telling) in &mut self.telling {
            if telling.sent.as_ref().is_some_and(&which) {
                telling.sent = None;
                again.insert(site.clone());
            }
        }
        for site in again {
            self.tell_revocations(&site);
        }
    }

    pub(super) fn revocation_status(&self) -> RevocationStatus {
        let sites: BTreeSet<&Name> = self.connections.values().map(|c| &c.site).collect();
        RevocationStatus {
            cut: self.cut,
            newest: self.feed.newest().sequence,
            sites: sites
                .into_iter()
                .map(|site| SiteRevocations {
                    site: site.clone(),
                    acknowledged: self.telling.get(site).map(|t| t.acknowledged.sequence),
                    heard: self.feed.heard(site).sequence,
                })
                .collect(),
        }
    }
}

/// Where a fault of an established connection is.
pub(super) fn place(connection: &Connection) -> String {
    match &connection.link {
        Some(link) => format!("link {link} with site {}", connection.site),
        None => format!("link from site {}", connection.site),
    }
}
