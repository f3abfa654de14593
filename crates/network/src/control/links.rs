//! Links: dialling, coming up, being lost and dialled again, and which connections carry them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use handfast_pki::{Name, Purpose, TrustAnchors, verify_chain};
use handfast_tls::{Attempt, Fault, FaultCode, LINK_ALPN, Side, fault_of_io};
use jiff::Timestamp;
use rustls_pki_types::ServerName;

use super::bundles::Told;
use super::revocations::place;
use super::{Connection, Control, Lookup, backoff, look_up};
use crate::gate::{Dial, Established, GateCommand, Introduction, News};
use crate::plan::{LinkPlan, Plan};
use crate::route::{Routes, Target, Way};
use crate::status::Refusal;
use crate::worker::{Command, ConnectionId, Loss, Presence};

/// A link that we dial.
pub(super) struct LinkEntry {
    pub(super) plan: LinkPlan,
    /// The dialling that carries the link, or is to.
    pub(super) group: Option<Vec<u8>>,
    pub(super) failures: u32,
    pub(super) dial_at: Option<Instant>,
    pub(super) fault: Option<Fault>,
    pub(super) since: Option<Timestamp>,
    /// What the other end said last is to be trusted.
    pub(super) bundle: Option<Told>,
}

/// Connections of one dialling at most, however many workers there are.
const CONNECTIONS: usize = 16;
/// Connections that one site may have to us, those that only finish old flows included.
const FROM_ONE_SITE: usize = 128;
/// How long clients of a lost site wait for it to come back.
const MISSED: Duration = Duration::from_secs(10);

impl LinkEntry {
    fn new(plan: LinkPlan) -> Self {
        Self {
            plan,
            group: None,
            failures: 0,
            dial_at: Some(Instant::now()),
            fault: None,
            since: None,
            bundle: None,
        }
    }
}

impl Control {
    pub(super) fn apply_links(&mut self, plan: &Plan) {
        let wanted: BTreeSet<_> = plan.links.iter().map(|link| &link.name).collect();
        let gone: Vec<_> = self.links.keys().filter(|n| !wanted.contains(n)).cloned().collect();
        for name in gone {
            self.links.remove(&name);
            self.drain_connections(|c| c.link.as_ref() == Some(&name));
        }
        for link in &plan.links {
            match self.links.get_mut(&link.name) {
                None => {
                    self.links.insert(link.name.clone(), LinkEntry::new(link.clone()));
                }
                Some(entry) => {
                    let redial = !entry.plan.same_connection(link);
                    let trust = entry.plan.anchors != link.anchors;
                    entry.plan = link.clone();
                    if redial {
                        // The old connections carry on until the new ones stand.
                        entry.failures = 0;
                        entry.dial_at = Some(Instant::now());
                    }
                    for connection in self.connections.values_mut() {
                        if connection.link.as_ref() == Some(&link.name) {
                            connection.cost = link.cost;
                        }
                    }
                    if trust {
                        self.acknowledge(&link.name);
                    }
                }
            }
        }
        self.tick_links(Instant::now());
    }

    pub(super) fn tick_links(&mut self, now: Instant) {
        let due: Vec<_> = self
            .links
            .iter()
            .filter(|(_, entry)| entry.dial_at.is_some_and(|at| at <= now))
            .map(|(name, _)| name.clone())
            .collect();
        for name in due {
            let mut group = vec![0; 16];
            self.entropy.fill(&mut group);
            let Some(entry) = self.links.get_mut(&name) else { continue };
            entry.dial_at = None;
            entry.group = Some(group.clone());
            look_up(
                &self.sender,
                Lookup::Link { link: name, group },
                &entry.plan.host,
                entry.plan.port,
            );
        }
    }

    pub(super) fn link_resolved(
        &mut self,
        name: &Name,
        group: &[u8],
        result: Result<Vec<std::net::SocketAddr>, String>,
    ) {
        let now = self.now();
        let Some(entry) = self.links.get(name) else { return };
        if entry.group.as_deref() != Some(group) {
            return;
        }
        let place = format!("link {name} to {}:{}", entry.plan.host, entry.plan.port);
        let fault = |code, what: &str| Fault::new(code, Side::Ours, place.clone()).saying(what);
        let addresses = match result {
            Ok(addresses) if !addresses.is_empty() => addresses,
            Ok(_) => {
                let fault = fault(FaultCode::HostNotFound, "the host name has no address");
                return self.not_dialled(name, group, fault);
            }
            Err(error) => {
                let fault = fault(FaultCode::HostNotFound, "the host name does not resolve")
                    .with("host", &entry.plan.host)
                    .with("reason", &error);
                return self.not_dialled(name, group, fault);
            }
        };
        let Ok(server_name) = ServerName::try_from(entry.plan.host.clone()) else {
            let fault = fault(
                FaultCode::WrongName,
                "the link's host is neither a host name nor an IP address",
            );
            return self.not_dialled(name, group, fault);
        };
        let turn = usize::try_from(entry.failures).unwrap_or(0);
        let address = addresses[turn % addresses.len()];
        let connections = self.workers.len().min(CONNECTIONS);
        for index in 0..connections {
            self.gate.send(GateCommand::Dial(Box::new(Dial {
                site: self.plan.site.clone(),
                link: name.clone(),
                address,
                host: entry.plan.host.clone(),
                name: server_name.clone(),
                tls: Arc::clone(&entry.plan.tls),
                group: group.to_vec(),
                index,
                connections,
                cost: entry.plan.cost,
            })));
        }
        tracing::debug!(link = %name, %address, at = %now, "dialling");
    }

    pub(super) fn not_dialled(&mut self, name: &Name, group: &[u8], fault: Fault) {
        let fault = if fault.code() == FaultCode::Expired && fault.side() == Side::Ours {
            // Renewal goes over the link, and there is none.
            let site = &self.plan.site;
            fault.remedied_by(format!(
                "the link's certificate has expired, so it cannot be renewed over the link any more: \
                 `handfast token issue FILE --site {site}` at the other site, then `handfast token \
                 redeem FILE` here"
            ))
        } else if matches!(fault.code(), FaultCode::BadSignature | FaultCode::UnknownIssuer) {
            // Whichever side says so, and in whichever word (the CA of after a rotation bears the same
            // name): one of the two knows only the anchors of before.
            let site = &self.plan.site;
            fault.remedied_by(format!(
                "if the other site has rotated its CA while this site was away, rejoin: `handfast token \
                 issue FILE --site {site}` at the other site, then `handfast token redeem FILE` here; \
                 if not, compare the trust anchors of both sites (`handfast ca status` there, `handfast \
                 cert show {name}` here)"
            ))
        } else if fault.code() == FaultCode::Revoked && fault.side() == Side::Ours {
            let site = &self.plan.site;
            fault.remedied_by(format!(
                "the link's certificate was revoked by the other site: ask there why; to link again, \
                 `handfast token issue FILE --site {site}` there, then `handfast token redeem FILE` here"
            ))
        } else {
            fault
        };
        let dice = self.dice();
        let Some(entry) = self.links.get_mut(name) else { return };
        if entry.group.as_deref() != Some(group) || entry.dial_at.is_some() {
            return;
        }
        // Nothing but a new certificate helps against a revocation, and that one is dialled with at once.
        let hopeless = fault.code() == FaultCode::Revoked && fault.side() == Side::Ours;
        let pause = backoff::pause(if hopeless { u32::MAX } else { entry.failures }, dice);
        if entry.fault.as_ref() != Some(&fault) {
            tracing::warn!(link = %name, fault = %fault.one_line(), "the link cannot be made");
        }
        entry.failures = entry.failures.saturating_add(1);
        entry.fault = Some(fault);
        entry.dial_at = Some(Instant::now() + pause);
    }

    pub(super) fn established(
        &mut self,
        introduction: Introduction,
        established: Box<Established>,
    ) {
        let Introduction {
            chain,
            id,
            site,
            link,
            group,
            index,
            cost,
            address,
            peer,
            session,
            counters,
        } = introduction;
        let now = self.now();
        if let Some(name) = &link {
            let Some(entry) = self.links.get_mut(name) else { return };
            if entry.group.as_deref() != Some(&group) {
                return; // dialled for a plan that is no more; dropping it closes it
            }
            if entry.since.is_none() || entry.fault.is_some() || entry.failures > 0 {
                tracing::info!(link = %name, %site, group = session.group, "the link is up");
            }
            entry.failures = 0;
            entry.fault = None;
            // The first connection of a dialling brings the link up; the others widen it.
            if !self.connections.values().any(|c| c.group == group) {
                entry.since = Some(now);
            }
        } else {
            if self.connections.values().filter(|c| c.site == site).count() >= FROM_ONE_SITE {
                tracing::warn!(%site, %address, "the site has too many link connections; one more is closed");
                return;
            }
            tracing::debug!(%site, %address, "a link connection was accepted");
        }
        let anchors = match &link {
            Some(name) => self.links.get(name).map(|entry| &entry.plan.anchors),
            None => self.plan.access.as_ref().map(|access| &access.anchors),
        };
        let path = match anchors.map(|anchors| chain.certificate_ids(anchors)) {
            Some(Ok(path)) => path,
            Some(Err(error)) => {
                // The anchors changed while it was on its way.
                let fault = Fault::new(FaultCode::UnknownIssuer, Side::Peer, "link")
                    .saying(error.to_string());
                return self.turned_away(link.as_ref(), &group, address, fault);
            }
            None => return,
        };
        if let Some(revoked) = self.revocations.find_revoked(&path) {
            // Between its handshake and now.
            return self.turned_away(link.as_ref(), &group, address, revoked.fault("link"));
        }
        let first_of_group = !self.connections.values().any(|c| c.group == group);
        let worker = index % self.workers.len();
        let connection = Connection {
            site: site.clone(),
            link: link.clone(),
            group: group.clone(),
            worker,
            peer,
            chain,
            path,
            revoked: None,
            session,
            address,
            cost,
            counters,
            draining: false,
            since: now,
        };
        self.connections.insert(id, connection);
        self.workers[worker].send(Command::Carry(established));
        // New flows go over the newest dialling; what came before only finishes.
        self.drain_connections(|c| {
            c.site == site && c.link == link && c.group != group && link.is_some()
        });
        self.advertise_to(id);
        if first_of_group {
            self.ask_for_revocations(id, &site);
        }
        self.tell_bundle_to(id);
        self.reroute();
    }

    /// A connection that may not stand although its handshake held.
    fn turned_away(
        &mut self,
        link: Option<&Name>,
        group: &[u8],
        peer: std::net::SocketAddr,
        fault: Fault,
    ) {
        if let Some(link) = link {
            self.count_fault(&fault);
            self.not_dialled(link, group, fault.at(format!("link {link}")));
        } else {
            let refusal = Refusal { at: self.now(), peer, fault: fault.at("link port") };
            self.hear_gate(News::Refused(refusal));
        }
    }

    pub(super) fn peer_drains(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.draining = true;
        let (link, group) = (connection.link.clone(), connection.group.clone());
        if let Some(link) = link {
            self.dial_again(&link, &group, None);
        }
        self.reroute();
    }

    pub(super) fn lost(&mut self, id: ConnectionId, loss: Loss) {
        let now = self.now();
        let Some(connection) = self.connections.remove(&id) else { return };
        self.member_lost(&connection);
        let traffic = connection.counters.traffic();
        let past = self.past.entry(connection.site.clone()).or_default();
        past.0 += traffic.bytes_in;
        past.1 += traffic.bytes_out;
        self.telling_lost(id, &connection.site);
        if !connection.draining {
            let fault = match &connection.revoked {
                Some(fault) => fault.clone().with("peer-address", connection.address.to_string()),
                None => describe(loss, &connection, now),
            };
            tracing::warn!(site = %connection.site, fault = %fault.one_line(), "a link connection was lost");
            if let Some(link) = &connection.link {
                self.dial_again(link, &connection.group, Some(fault));
            }
        }
        if !self.connections.values().any(|c| c.site == connection.site)
            && let Some(offers) = self.offers.remove(&connection.site)
        {
            let until = Instant::now() + MISSED;
            self.missed.extend(offers.services.into_iter().map(|(key, _)| (key, until)));
            self.asked.retain(|_, asked| asked.site != connection.site);
        }
        self.reroute();
    }

    /// Dials the link afresh if this was the dialling that carried it.
    fn dial_again(&mut self, link: &Name, group: &[u8], fault: Option<Fault>) {
        let dice = self.dice();
        let Some(entry) = self.links.get_mut(link) else { return };
        if entry.group.as_deref() == Some(group) && entry.dial_at.is_none() {
            entry.group = None;
            entry.fault = fault;
            entry.dial_at = Some(Instant::now() + backoff::pause(0, dice) / 4);
        }
    }

    fn drain_connections(&mut self, which: impl Fn(&Connection) -> bool) {
        for (id, connection) in &mut self.connections {
            if !connection.draining && which(connection) {
                connection.draining = true;
                self.workers[connection.worker].send(Command::Drain(*id));
            }
        }
    }

    /// Rule 5: where the anchors changed, open connections are judged by the new ones. Each is judged
    /// as of the moment when it was made: that it expired since is no reason to cut what it carries.
    /// Neither is an anchor that was retired in order: what it vouched for may finish.
    pub(super) fn judge_again(&mut self, plan: &Plan) {
        let now = self.plan.access.as_ref().map(|access| (&access.anchors, &access.retired));
        let next = plan.access.as_ref().map(|access| (&access.anchors, &access.retired));
        if let Some((anchors, retired)) = next.filter(|next| now.is_some_and(|now| now != *next)) {
            let anchors = together(anchors, retired.as_ref());
            self.cut_untrusted(&anchors, Purpose::Client, |c| c.link.is_none());
        }
        for link in &plan.links {
            let known = self.links.get(&link.name).map(|entry| &entry.plan);
            if known.is_some_and(|k| k.anchors != link.anchors || k.retired != link.retired) {
                let (name, anchors) = (&link.name, together(&link.anchors, link.retired.as_ref()));
                self.cut_untrusted(&anchors, Purpose::Server, |c| c.link.as_ref() == Some(name));
            }
        }
    }

    fn cut_untrusted(
        &self,
        anchors: &TrustAnchors,
        purpose: Purpose,
        which: impl Fn(&Connection) -> bool,
    ) {
        for (id, connection) in self.connections.iter().filter(|(_, c)| which(c)) {
            if let Err(error) = verify_chain(&connection.chain, anchors, purpose, connection.since)
            {
                tracing::warn!(site = %connection.site, %error, "the site is not trusted any more: cut");
                self.workers[connection.worker].send(Command::Cut(*id));
            }
        }
    }

    /// Makes the workers' view of the network anew.
    pub(super) fn reroute(&mut self) {
        let mut routes = Routes::default();
        for connector in self.connectors.values() {
            routes.add_target(
                &connector.plan.routing_key,
                Target {
                    connector: connector.plan.name.clone(),
                    addresses: connector.addresses.clone(),
                    counters: Arc::clone(&connector.counters),
                },
            );
        }
        let mut presence = Presence::new();
        for connection in self.connections.values().filter(|c| !c.draining) {
            let workers = presence.entry(connection.site.clone()).or_default();
            if !workers.contains(&connection.worker) {
                workers.push(connection.worker);
            }
            if let Some(offers) = self.offers.get(&connection.site) {
                for (key, beyond) in &offers.services {
                    let cost = connection.cost.saturating_add(*beyond);
                    routes.add_way(key, Way { site: connection.site.clone(), cost });
                }
            }
        }
        for key in self.missed.keys() {
            routes.expect(key);
        }
        // A site that only drains comes back under the same keys.
        for (site, offers) in &self.offers {
            if !presence.contains_key(site) {
                offers.services.iter().for_each(|(key, _)| routes.expect(key));
            }
        }
        self.presence.store(Arc::new(presence));
        self.routes.store(Arc::new(routes));
        for worker in &self.workers {
            worker.send(Command::Reroute);
        }
    }
}

fn together(anchors: &TrustAnchors, more: Option<&TrustAnchors>) -> TrustAnchors {
    let more = more.into_iter().flat_map(TrustAnchors::iter).cloned();
    more.fold(anchors.clone(), TrustAnchors::with)
}

fn describe(loss: Loss, connection: &Connection, now: Timestamp) -> Fault {
    let place = place(connection);
    let fault = match loss {
        Loss::Io(error) => {
            let attempt = Attempt::server(now).with_alpn(&[LINK_ALPN]).with_subject(place.clone());
            fault_of_io(&error, &attempt).at(place).saying("the connection was cut")
        }
        Loss::Closed => Fault::new(FaultCode::ConnectionReset, Side::Peer, place)
            .saying("the other site closed the link")
            .remedied_by("none needed if it was restarted: the link is dialled again by itself"),
        Loss::Protocol(what) => {
            Fault::new(FaultCode::ProtocolViolation, Side::Peer, place).saying(what)
        }
        Loss::Untrusted => Fault::new(FaultCode::UnknownIssuer, Side::Peer, place)
            .saying("the other site's certificate is not trusted any more"),
        Loss::Silent => Fault::new(FaultCode::TimedOut, Side::Either, place)
            .saying("nothing was heard from the other site")
            .remedied_by("look at the network between the sites, and whether the other node runs"),
    };
    fault.with("peer-address", connection.address.to_string())
}
