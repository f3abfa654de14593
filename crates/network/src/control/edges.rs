//! Listeners and connectors: opening and closing sockets, and finding servers.

use std::collections::BTreeSet;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use handfast_pki::Name;
use handfast_tls::{Attempt, Fault, FaultCode, Side, fault_of_io};

use super::{Control, Lookup, look_up};
use crate::plan::{ConnectorPlan, ListenerPlan, Plan};
use crate::status::Counters;
use crate::worker::{Command, listening_sockets};

/// A listener as it is.
pub(super) struct ListenerEntry {
    pub(super) plan: ListenerPlan,
    pub(super) bound: Option<SocketAddr>,
    pub(super) fault: Option<Fault>,
    pub(super) counters: Arc<Counters>,
    retry_at: Instant,
}

/// A connector as it is.
pub(super) struct ConnectorEntry {
    pub(super) plan: ConnectorPlan,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) fault: Option<Fault>,
    pub(super) counters: Arc<Counters>,
    look_up_at: Option<Instant>,
}

/// How often a listener that cannot be opened is tried again.
const LISTEN_AGAIN: Duration = Duration::from_secs(2);
/// Workers close a socket at once, unless the machine gives them no time.
const CLOSED: Duration = Duration::from_secs(2);
/// How often a host name is looked up again.
const LOOK_UP_AGAIN: Duration = Duration::from_secs(30);

impl Control {
    pub(super) fn apply_listeners(&mut self) {
        let wanted: BTreeSet<_> = self.plan.listeners.iter().map(|l| l.name.clone()).collect();
        let changed: Vec<_> = self
            .listeners
            .values()
            .filter(|entry| !self.plan.listeners.contains(&entry.plan))
            .map(|entry| entry.plan.name.clone())
            .collect();
        self.close_listeners(&changed);
        self.listeners.retain(|name, _| wanted.contains(name));
        for plan in self.plan.listeners.clone() {
            let known = self.listeners.get(&plan.name);
            if known.is_some_and(|entry| entry.plan == plan) {
                continue;
            }
            let counters = known.map_or_else(Counters::shared, |entry| Arc::clone(&entry.counters));
            let mut entry = ListenerEntry {
                plan,
                bound: None,
                fault: None,
                counters,
                retry_at: Instant::now(),
            };
            self.open_listener(&mut entry);
            self.listeners.insert(entry.plan.name.clone(), entry);
        }
    }

    /// Returns when every worker has closed its sockets: the next listener may want the same port, and whoever deleted one
    /// may count on it that its port is free.
    fn close_listeners(&self, names: &[Name]) {
        if names.is_empty() {
            return;
        }
        let (closed, all_closed) = channel();
        for worker in &self.workers {
            for name in names {
                worker.send(Command::Unlisten(name.clone(), closed.clone()));
            }
        }
        drop(closed);
        if all_closed.recv_timeout(CLOSED) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("a worker is busy: a listener that is gone is not closed yet");
        }
    }

    fn open_listener(&self, entry: &mut ListenerEntry) {
        let ListenerPlan { name, host, port, routing_key } = &entry.plan;
        let opened = (host.as_str(), *port)
            .to_socket_addrs()
            .and_then(|mut found| found.next().ok_or_else(|| std::io::Error::other("no address")))
            .and_then(|address| listening_sockets(address, self.workers.len()));
        match opened {
            Ok((bound, mut sockets)) => {
                for worker in &self.workers {
                    let Some(socket) = sockets.pop_front() else { break };
                    worker.send(Command::Listen {
                        name: name.clone(),
                        socket,
                        routing_key: routing_key.clone(),
                        counters: Arc::clone(&entry.counters),
                    });
                }
                tracing::info!(listener = %name, %bound, routing_key, "clients are accepted");
                entry.bound = Some(bound);
                entry.fault = None;
            }
            Err(error) => {
                let place = format!("listener {name} at {host}:{port}");
                let attempt = Attempt::server(self.now()).with_subject(place.clone());
                let fault = fault_of_io(&error, &attempt).at(place);
                if entry.fault.as_ref().map(Fault::code) != Some(fault.code()) {
                    tracing::error!(fault = %fault.one_line(), "a listener is closed");
                }
                entry.fault = Some(fault);
                entry.retry_at = Instant::now() + LISTEN_AGAIN;
            }
        }
    }

    pub(super) fn apply_connectors(&mut self, plan: &Plan) {
        self.connectors.retain(|name, _| plan.connectors.iter().any(|c| c.name == *name));
        for connector in &plan.connectors {
            let known = self.connectors.get(&connector.name);
            if known.is_some_and(|entry| entry.plan == *connector) {
                continue;
            }
            let counters = known.map_or_else(Counters::shared, |entry| Arc::clone(&entry.counters));
            let address = connector.host.parse().ok().map(|ip| SocketAddr::new(ip, connector.port));
            let entry = ConnectorEntry {
                plan: connector.clone(),
                addresses: address.into_iter().collect(),
                fault: None,
                counters,
                look_up_at: address.is_none().then(Instant::now),
            };
            self.connectors.insert(connector.name.clone(), entry);
        }
        self.tick_edges(Instant::now());
    }

    pub(super) fn tick_edges(&mut self, now: Instant) {
        for (name, entry) in &mut self.connectors {
            if entry.look_up_at.is_some_and(|at| at <= now) {
                entry.look_up_at = Some(now + LOOK_UP_AGAIN);
                let lookup = Lookup::Connector(name.clone());
                look_up(&self.sender, lookup, &entry.plan.host, entry.plan.port);
            }
        }
        let again: Vec<_> = self
            .listeners
            .iter()
            .filter(|(_, entry)| entry.bound.is_none() && entry.retry_at <= now)
            .map(|(name, _)| name.clone())
            .collect();
        for name in again {
            if let Some(mut entry) = self.listeners.remove(&name) {
                self.open_listener(&mut entry);
                self.listeners.insert(name, entry);
            }
        }
    }

    pub(super) fn connector_resolved(
        &mut self,
        name: &Name,
        result: Result<Vec<SocketAddr>, String>,
    ) {
        let Some(entry) = self.connectors.get_mut(name) else { return };
        match result {
            Ok(addresses) if !addresses.is_empty() => {
                if entry.fault.as_ref().is_some_and(|f| f.code() == FaultCode::HostNotFound) {
                    entry.fault = None;
                }
                if entry.addresses != addresses {
                    entry.addresses = addresses;
                    self.reroute();
                }
            }
            other => {
                let reason = other.err().unwrap_or_else(|| "it has no address".to_owned());
                let place = format!("connector {name}");
                // Addresses found before stay in use: a name server may be away for a moment.
                entry.fault = Some(
                    Fault::new(FaultCode::HostNotFound, Side::Ours, place)
                        .with("host", &entry.plan.host)
                        .with("reason", reason),
                );
            }
        }
    }

    pub(super) fn connector_unreachable(&mut self, name: &Name, error: &std::io::Error) {
        let now = self.now();
        let Some(entry) = self.connectors.get_mut(name) else { return };
        let place = format!("connector {name} to {}:{}", entry.plan.host, entry.plan.port);
        let attempt = Attempt::client(entry.plan.host.clone(), now).with_subject(place.clone());
        let fault = fault_of_io(error, &attempt)
            .at(place)
            .remedied_by("start the server, or correct the connector's host and port");
        tracing::warn!(fault = %fault.one_line(), "a server cannot be reached");
        entry.fault = Some(fault);
    }

    pub(super) fn connector_reached(&mut self, name: &Name) {
        if let Some(entry) = self.connectors.get_mut(name)
            && entry.fault.take().is_some()
        {
            tracing::info!(connector = %name, "the server can be reached again");
        }
    }
}
