//! The status: what the control thread knows, as a value.

use std::collections::BTreeMap;

use handfast_pki::Name;

use super::{Connection, Control};
use crate::status::{
    ConnectorStatus, Direction, LinkState, LinkStatus, ListenerStatus, NetworkStatus, Traffic,
};

impl Control {
    pub(super) fn report(&self) -> NetworkStatus {
        let mut links: Vec<_> = self.links.keys().map(|name| self.outgoing(name)).collect();
        let mut sites: BTreeMap<&Name, Vec<&Connection>> = BTreeMap::new();
        for connection in self.connections.values().filter(|c| c.link.is_none()) {
            sites.entry(&connection.site).or_default().push(connection);
        }
        links.extend(sites.into_iter().map(|(site, list)| self.incoming(site, &list)));
        let routes = self.routes.load();
        NetworkStatus {
            access: self.access.clone(),
            links,
            listeners: self
                .listeners
                .values()
                .map(|entry| ListenerStatus {
                    name: entry.plan.name.clone(),
                    routing_key: entry.plan.routing_key.clone(),
                    bind: format!("{}:{}", entry.plan.host, entry.plan.port),
                    bound: entry.bound,
                    has_matching_connector: routes.serves(&entry.plan.routing_key),
                    traffic: entry.counters.traffic(),
                    fault: entry.fault.clone(),
                })
                .collect(),
            connectors: self
                .connectors
                .values()
                .map(|entry| ConnectorStatus {
                    name: entry.plan.name.clone(),
                    routing_key: entry.plan.routing_key.clone(),
                    target: format!("{}:{}", entry.plan.host, entry.plan.port),
                    traffic: entry.counters.traffic(),
                    fault: entry.fault.clone(),
                })
                .collect(),
            sites: self.sites(),
            refusals: self.refusals.iter().cloned().collect(),
            handshakes: self.handshakes.clone(),
            revocations: self.revocation_status(),
        }
    }

    fn outgoing(&self, name: &Name) -> LinkStatus {
        let entry = &self.links[name];
        let list: Vec<_> =
            self.connections.values().filter(|c| c.link.as_ref() == Some(name)).collect();
        let up = list.iter().any(|c| !c.draining);
        let state = match (up, entry.fault.is_some()) {
            (true, _) => LinkState::Up,
            (false, true) => LinkState::Down,
            (false, false) => LinkState::Dialling,
        };
        LinkStatus {
            name: name.clone(),
            direction: Direction::Outgoing,
            state,
            cost: entry.plan.cost,
            endpoint: format!("{}:{}", entry.plan.host, entry.plan.port),
            since: entry.since,
            fault: entry.fault.clone(),
            ..self.summary(name, &list)
        }
    }

    fn incoming(&self, site: &Name, list: &[&Connection]) -> LinkStatus {
        self.summary(site, list)
    }

    /// What the connections of a link have in common. The newest one speaks for all.
    fn summary(&self, name: &Name, list: &[&Connection]) -> LinkStatus {
        let newest = list.iter().max_by_key(|c| (!c.draining, c.since));
        let traffic: Vec<Traffic> = list.iter().map(|c| c.counters.traffic()).collect();
        let past = newest.and_then(|c| self.past.get(&c.site)).copied().unwrap_or_default();
        LinkStatus {
            name: name.clone(),
            direction: Direction::Incoming,
            state: LinkState::Up,
            cost: newest.map_or(1, |c| c.cost),
            endpoint: newest.map(|c| c.address.to_string()).unwrap_or_default(),
            remote_site: newest.map(|c| c.site.clone()),
            peer: newest.map(|c| c.peer.clone()),
            session: newest.map(|c| c.session.clone()),
            since: list.iter().map(|c| c.since).min(),
            connections: list.iter().filter(|c| !c.draining).count(),
            draining: list.iter().filter(|c| c.draining).count(),
            flows: traffic.iter().map(|t| t.open).sum(),
            bytes_in: past.0 + traffic.iter().map(|t| t.bytes_in).sum::<u64>(),
            bytes_out: past.1 + traffic.iter().map(|t| t.bytes_out).sum::<u64>(),
            offers: newest
                .and_then(|c| self.offers.get(&c.site))
                .map(|o| o.services.iter().map(|(key, _)| key.clone()).collect())
                .unwrap_or_default(),
            fault: None,
        }
    }
}
