//! Trust bundles: sites that link here are told what to trust, and say so when they do; on links that
//! we dialled it is the other way round.
//!
//! Only the site that was dialled may tell the one that dialled: it is the one that signs the link's
//! credential. What is told goes to the node, which installs it; that it is live is known here.

use std::collections::BTreeSet;

use handfast_pki::{Chain, Name, TrustAnchors};
use handfast_proto::link::v1::control::Body;
use handfast_proto::link::v1::{BundleAcknowledged, TrustBundle};
use jiff::Timestamp;

use super::{Connection, Control};
use crate::exchange::{PeerRequest, Responder};
use crate::plan::{BundlePlan, Plan};
use crate::status::SiteStatus;
use crate::worker::ConnectionId;

/// What is known of a site that links here, also when it does not any more.
#[derive(Default)]
pub(super) struct Member {
    acknowledged: Option<(u64, Timestamp)>,
    lost_at: Option<Timestamp>,
}

/// A bundle that the other end of one of our links told us.
pub(super) struct Told {
    trust_domain: String,
    sequence: u64,
    anchors: TrustAnchors,
}

impl Control {
    /// Tells every site that linked here what is to be trusted, if that changes with this plan.
    pub(super) fn tell_bundle(&self, plan: &Plan) {
        let before = self.plan.access.as_ref().and_then(|access| access.bundle.as_ref());
        let Some(bundle) = plan.access.as_ref().and_then(|access| access.bundle.as_ref()) else {
            return;
        };
        if before == Some(bundle) {
            return;
        }
        let mut told = BTreeSet::new();
        for (id, connection) in &self.connections {
            if connection.link.is_none() && !connection.draining && told.insert(&connection.site) {
                self.say(*id, 0, Body::TrustBundle(message(bundle)));
            }
        }
    }

    /// Tells a site that has just linked here.
    pub(super) fn tell_bundle_to(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get(&id).filter(|c| c.link.is_none()) else {
            return;
        };
        self.members.entry(connection.site.clone()).or_default().lost_at = None;
        let bundle = self.plan.access.as_ref().and_then(|access| access.bundle.as_ref());
        if let Some(bundle) = bundle {
            self.say(id, 0, Body::TrustBundle(message(bundle)));
        }
    }

    /// The other end of a link that we dialled says what to trust there.
    pub(super) fn hear_bundle(&mut self, id: ConnectionId, bundle: TrustBundle) {
        let Some(connection) = self.connections.get(&id) else { return };
        let domain = connection.peer.identity.as_ref().map(|id| id.trust_domain().to_string());
        let (Some(link), true) = (&connection.link, domain.as_ref() == Some(&bundle.trust_domain))
        else {
            tracing::warn!(
                site = %connection.site,
                trust_domain = %bundle.trust_domain,
                "a trust bundle was not taken: only the site that signs for a link may send its own"
            );
            return;
        };
        let Ok(anchors) = TrustAnchors::from_pem(bundle.anchors_pem.as_bytes()) else {
            tracing::warn!(site = %connection.site, "a trust bundle cannot be read");
            return;
        };
        let link = link.clone();
        self.pass_on(id, Body::TrustBundle(bundle.clone()));
        if let Some(entry) = self.links.get_mut(&link) {
            let TrustBundle { trust_domain, sequence, .. } = bundle;
            entry.bundle = Some(Told { trust_domain, sequence, anchors });
        }
        self.acknowledge(&link);
    }

    /// Says that the link verifies by what was told, if it does.
    pub(super) fn acknowledge(&self, link: &Name) {
        let Some(entry) = self.links.get(link) else { return };
        let Some(told) =
            entry.bundle.as_ref().filter(|told| same(&told.anchors, &entry.plan.anchors))
        else {
            return;
        };
        let newest = self
            .connections
            .iter()
            .filter(|(_, c)| c.link.as_ref() == Some(link))
            .max_by_key(|(_, c)| (!c.draining, c.since));
        if let Some((id, _)) = newest {
            let body = BundleAcknowledged {
                trust_domain: told.trust_domain.clone(),
                sequence: told.sequence,
            };
            self.say(*id, 0, Body::BundleAcknowledged(body));
        }
    }

    /// A site that links here verifies by our bundle.
    pub(super) fn hear_acknowledged(&mut self, id: ConnectionId, said: BundleAcknowledged) {
        let Some(connection) = self.connections.get(&id).filter(|c| c.link.is_none()) else {
            return;
        };
        let bundle = self.plan.access.as_ref().and_then(|access| access.bundle.as_ref());
        let ours = bundle.is_some_and(|bundle| {
            bundle.trust_domain.to_string() == said.trust_domain && said.sequence <= bundle.sequence
        });
        if !ours {
            return;
        }
        let (site, now) = (connection.site.clone(), self.now());
        let member = self.members.entry(site).or_default();
        if member.acknowledged.is_none_or(|(known, _)| known < said.sequence) {
            member.acknowledged = Some((said.sequence, now));
        }
        self.pass_on(id, Body::BundleAcknowledged(said));
    }

    /// Notes when a site was last linked.
    pub(super) fn member_lost(&mut self, connection: &Connection) {
        let linked = |c: &Connection| c.link.is_none() && c.site == connection.site;
        if connection.link.is_none() && !self.connections.values().any(linked) {
            let now = self.now();
            self.members.entry(connection.site.clone()).or_default().lost_at = Some(now);
        }
    }

    /// Every site that has linked here.
    pub(super) fn sites(&self) -> Vec<SiteStatus> {
        self.members
            .iter()
            .map(|(site, member)| {
                let newest = self
                    .connections
                    .values()
                    .filter(|c| c.link.is_none() && c.site == *site && !c.draining)
                    .max_by_key(|c| c.since);
                SiteStatus {
                    site: site.clone(),
                    linked: newest.is_some(),
                    lost_at: member.lost_at,
                    chain: newest.map(|c| Chain::clone(&c.chain)),
                    acknowledged: member.acknowledged,
                }
            })
            .collect()
    }

    /// Gives the node a notice. If it is too busy to take it, the other site repeats it when the link
    /// comes up next.
    pub(super) fn pass_on(&self, id: ConnectionId, body: Body) {
        let Some(connection) = self.connections.get(&id) else { return };
        let notice = PeerRequest {
            peer: connection.peer.clone(),
            link: connection.link.clone(),
            body,
            responder: Responder::new(self.sender.clone(), id, 0),
        };
        if self.requests.try_send(notice).is_err() {
            tracing::warn!(site = %connection.site, "a notice of another site was dropped");
        }
    }
}

/// Whether two sets are the same, in whatever order.
fn same(one: &TrustAnchors, other: &TrustAnchors) -> bool {
    one.len() == other.len() && one.iter().all(|anchor| other.contains(anchor))
}

fn message(bundle: &BundlePlan) -> TrustBundle {
    TrustBundle {
        trust_domain: bundle.trust_domain.to_string(),
        sequence: bundle.sequence,
        anchors_pem: bundle.anchors.to_pem(),
        retired_pem: bundle.retired.as_ref().map(TrustAnchors::to_pem).unwrap_or_default(),
        signer: bundle.signer.to_vec(),
    }
}
