//! The control thread: decides what the gate and the workers do, and keeps what the status shows.
//!
//! One thread, one queue of [`Input`]s; no socket of its own. Whatever may block (looking up host
//! names) is done by short-lived threads that answer through the same queue.

mod backoff;
mod bundles;
mod edges;
mod links;
mod messages;
mod report;
mod revocations;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use handfast_pki::{CertificateId, Chain, Entropy, Name};
use handfast_proto::link::v1::control::Body;
use handfast_tls::{Fault, Peer, Revocations, Session};
use jiff::Timestamp;

use crate::Clock;
use crate::exchange::{PeerRequest, RequestError};
use crate::gate::{GateCommand, GateHandle, News};
use crate::plan::Plan;
use crate::revocations::RevocationFeed;
use crate::route::Routes;
use crate::status::{AccessStatus, Counters, HandshakeCounts, NetworkStatus, Refusal};
use crate::worker::{Command, ConnectionId, Event, Presence, WorkerHandle};
use bundles::Member;
use edges::{ConnectorEntry, ListenerEntry};
use links::LinkEntry;
use revocations::Telling;

/// Everything that the control thread reacts to.
pub(crate) enum Input {
    /// A new plan; answered when it is applied.
    Apply(Box<Plan>, Sender<()>),
    /// From the gate.
    Gate(News),
    /// Host names were looked up.
    Resolved(Lookup, Result<Vec<SocketAddr>, String>),
    /// The node answers what another site asked.
    Reply { connection: ConnectionId, request_id: u64, body: Body },
    /// Ask the site at the other end of a link.
    Request {
        link: Name,
        body: Body,
        answer: tokio::sync::oneshot::Sender<Result<Body, RequestError>>,
    },
    /// Revocations were recorded; answered with the number of connections that are cut for it.
    Revoked(Sender<usize>),
    /// How is everything?
    Status(Sender<NetworkStatus>),
    /// Wind down: flows may go on until the deadline.
    Stop(Instant),
    /// From a worker.
    Worker(usize, Event),
}

/// What a host name was looked up for.
#[derive(Clone, Debug)]
pub(crate) enum Lookup {
    Connector(Name),
    Link { link: Name, group: Vec<u8> },
}

/// An established link connection.
pub(super) struct Connection {
    site: Name,
    /// The link that we dialled it for.
    link: Option<Name>,
    group: Vec<u8>,
    worker: usize,
    peer: Peer,
    chain: Chain,
    /// What of `chain` leads to the anchor, for looking up what is revoked.
    path: Vec<CertificateId>,
    /// Why it is being cut.
    revoked: Option<Fault>,
    session: Session,
    address: SocketAddr,
    cost: u32,
    counters: Arc<Counters>,
    draining: bool,
    since: Timestamp,
}

/// A question to another site that waits for its answer.
struct Asked {
    site: Name,
    answer: tokio::sync::oneshot::Sender<Result<Body, RequestError>>,
    deadline: Instant,
}

pub(crate) struct Control {
    clock: Clock,
    entropy: Box<dyn Entropy + Send>,
    inputs: Receiver<Input>,
    sender: SyncSender<Input>,
    gate: GateHandle,
    workers: Vec<WorkerHandle>,
    routes: Arc<ArcSwap<Routes>>,
    presence: Arc<ArcSwap<Presence>>,
    requests: tokio::sync::mpsc::Sender<PeerRequest>,
    plan: Plan,
    access: Option<AccessStatus>,
    open_access_at: Instant,
    links: BTreeMap<Name, LinkEntry>,
    connections: HashMap<ConnectionId, Connection>,
    /// What each site offers: routing key and the cost beyond it.
    offers: BTreeMap<Name, Offers>,
    /// Routing keys whose site was lost, and until when clients wait for it.
    missed: HashMap<String, Instant>,
    listeners: BTreeMap<Name, ListenerEntry>,
    connectors: BTreeMap<Name, ConnectorEntry>,
    refusals: VecDeque<Refusal>,
    handshakes: HandshakeCounts,
    /// Sites that linked here, also those that are away.
    members: BTreeMap<Name, Member>,
    asked: HashMap<u64, Asked>,
    /// What is revoked.
    revocations: Revocations,
    /// What of it other sites are told.
    feed: RevocationFeed,
    /// How far each linked site was told.
    telling: BTreeMap<Name, Telling>,
    /// Connections cut because of a revocation.
    cut: u64,
    next_request: u64,
    advertised: u64,
    /// Totals of link connections that are gone, so that counts never run backwards.
    past: HashMap<Name, (u64, u64)>,
}

/// What a site offers.
#[derive(Default)]
pub(super) struct Offers {
    sequence: u64,
    services: Vec<(String, u32)>,
}

/// Refusals kept for the status.
const REFUSALS: usize = 64;
/// How often a link port that cannot be opened is tried again.
const OPEN_AGAIN: Duration = Duration::from_secs(2);
/// How long after the deadline a worker may take to end.
const STOP_LATE: Duration = Duration::from_secs(2);
/// How often time-outs are looked at.
const TICK: Duration = Duration::from_millis(100);

/// The parts that the control thread is made of.
pub(crate) struct Parts {
    pub(crate) clock: Clock,
    pub(crate) entropy: Box<dyn Entropy + Send>,
    pub(crate) inputs: Receiver<Input>,
    pub(crate) sender: SyncSender<Input>,
    pub(crate) gate: GateHandle,
    pub(crate) workers: Vec<WorkerHandle>,
    pub(crate) routes: Arc<ArcSwap<Routes>>,
    pub(crate) presence: Arc<ArcSwap<Presence>>,
    pub(crate) requests: tokio::sync::mpsc::Sender<PeerRequest>,
    pub(crate) revocations: Revocations,
    pub(crate) feed: RevocationFeed,
    pub(crate) site: Name,
}

impl Control {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            clock: parts.clock,
            entropy: parts.entropy,
            inputs: parts.inputs,
            sender: parts.sender,
            gate: parts.gate,
            workers: parts.workers,
            routes: parts.routes,
            presence: parts.presence,
            requests: parts.requests,
            plan: Plan::empty(parts.site),
            access: None,
            open_access_at: Instant::now(),
            links: BTreeMap::new(),
            connections: HashMap::new(),
            offers: BTreeMap::new(),
            missed: HashMap::new(),
            listeners: BTreeMap::new(),
            connectors: BTreeMap::new(),
            refusals: VecDeque::new(),
            handshakes: HandshakeCounts::default(),
            members: BTreeMap::new(),
            asked: HashMap::new(),
            revocations: parts.revocations,
            feed: parts.feed,
            telling: BTreeMap::new(),
            cut: 0,
            next_request: 1,
            advertised: 0,
            past: HashMap::new(),
        }
    }

    /// Runs until stopped; the gate and the workers have been told to stop when it returns.
    pub(crate) fn run(mut self) {
        let mut ticked = Instant::now();
        loop {
            match self.inputs.recv_timeout(TICK) {
                Ok(Input::Stop(deadline)) => return self.stop(deadline),
                Ok(input) => self.react(input),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let now = Instant::now();
            if now.saturating_duration_since(ticked) >= TICK {
                ticked = now;
                self.tick(now);
            }
        }
    }

    fn react(&mut self, input: Input) {
        match input {
            Input::Apply(plan, done) => {
                self.apply(*plan);
                let _ = done.send(()).is_ok();
            }
            Input::Gate(news) => self.hear_gate(news),
            Input::Reply { connection, request_id, body } => self.say(connection, request_id, body),
            Input::Request { link, body, answer } => self.ask(&link, body, answer),
            Input::Resolved(Lookup::Connector(name), result) => {
                self.connector_resolved(&name, result);
            }
            Input::Resolved(Lookup::Link { link, group }, result) => {
                self.link_resolved(&link, &group, result);
            }
            Input::Revoked(answer) => {
                let _ = answer.send(self.revocations_changed()).is_ok();
            }
            Input::Status(answer) => {
                let _ = answer.send(self.report()).is_ok();
            }
            Input::Stop(_) => {}
            Input::Worker(worker, event) => self.hear_worker(worker, event),
        }
    }

    fn hear_gate(&mut self, news: News) {
        match news {
            News::Access(bind, fault) => {
                let known = self.access.as_ref().and_then(|access| access.fault.as_ref());
                if let Some(fault) = &fault
                    && known.map(Fault::code) == Some(fault.code())
                {
                    tracing::debug!(fault = %fault.one_line(), "the link port is still closed");
                } else if let Some(fault) = &fault {
                    tracing::error!(fault = %fault.one_line(), "the link port is closed");
                } else {
                    tracing::info!(%bind, "links are accepted");
                }
                self.access = Some(AccessStatus { bind, fault });
            }
            News::Established(introduction, established) => {
                self.handshakes.accepted += 1;
                self.established(*introduction, established);
            }
            News::NotDialled { link, group, fault } => {
                self.count_fault(&fault);
                self.not_dialled(&link, &group, fault);
            }
            News::Refused(refusal) => {
                self.count_fault(&refusal.fault);
                tracing::warn!(
                    peer = %refusal.peer,
                    fault = %refusal.fault.one_line(),
                    "refused at the link port"
                );
                if self.refusals.len() == REFUSALS {
                    self.refusals.pop_front();
                }
                self.refusals.push_back(refusal);
            }
        }
    }

    fn count_fault(&mut self, fault: &Fault) {
        let code = fault.code().as_str();
        match self.handshakes.refused.iter_mut().find(|(known, _)| known == code) {
            Some((_, count)) => *count += 1,
            None => self.handshakes.refused.push((code.to_owned(), 1)),
        }
    }

    fn hear_worker(&mut self, _worker: usize, event: Event) {
        match event {
            Event::Ended => {}
            Event::Lost(id, loss) => self.lost(id, loss),
            Event::Message(id, bytes) => self.message(id, &bytes),
            Event::PeerDrains(id) => self.peer_drains(id),
            Event::Reached { connector } => self.connector_reached(&connector),
            Event::Unreachable { connector, error } => {
                self.connector_unreachable(&connector, &error);
            }
        }
    }

    fn apply(&mut self, plan: Plan) {
        if plan.access.is_none() {
            self.access = None;
        }
        self.open_access(&plan);
        self.apply_connectors(&plan);
        self.judge_again(&plan);
        self.apply_links(&plan);
        self.tell_bundle(&plan);
        self.plan = plan;
        self.apply_listeners();
        self.reroute();
        self.advertise();
    }

    fn open_access(&mut self, plan: &Plan) {
        self.open_access_at = Instant::now() + OPEN_AGAIN;
        let access = plan.access.as_ref().map(|access| (access.bind, Arc::clone(&access.tls)));
        self.gate.send(GateCommand::Access { site: plan.site.clone(), access });
    }

    fn tick(&mut self, now: Instant) {
        if self.open_access_at <= now && self.access.as_ref().is_some_and(|a| a.fault.is_some()) {
            let plan = self.plan.clone();
            self.open_access(&plan);
        }
        self.tick_links(now);
        self.tick_edges(now);
        self.tick_revocations(now);
        let missed = self.missed.len();
        self.missed.retain(|_, until| *until > now);
        if self.missed.len() != missed {
            self.reroute();
        }
        let late: Vec<_> =
            self.asked.iter().filter(|(_, a)| a.deadline <= now).map(|(id, _)| *id).collect();
        for id in late {
            if let Some(asked) = self.asked.remove(&id) {
                let _ = asked.answer.send(Err(RequestError::NoAnswer)).is_ok();
            }
        }
    }

    fn stop(self, deadline: Instant) {
        self.gate.send(GateCommand::Stop);
        for worker in &self.workers {
            worker.send(Command::Stop(deadline));
        }
        // The workers' last words need a reader, or they would wait for one.
        let mut left = self.workers.len();
        let last = deadline + STOP_LATE;
        while left > 0
            && let Ok(input) =
                self.inputs.recv_timeout(last.saturating_duration_since(Instant::now()))
        {
            left -= usize::from(matches!(input, Input::Worker(_, Event::Ended)));
        }
    }

    fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// A number that spreads what would otherwise happen all at once.
    fn dice(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.entropy.fill(&mut bytes);
        u64::from_be_bytes(bytes)
    }
}

/// Looks a host name up without holding anybody up; the answer comes as an [`Input::Resolved`].
fn look_up(sender: &SyncSender<Input>, lookup: Lookup, host: &str, port: u16) {
    if let Ok(address) = host.parse() {
        let addresses = Ok(vec![SocketAddr::new(address, port)]);
        return spawn_answer(sender, lookup, move || addresses);
    }
    let host = host.to_owned();
    spawn_answer(sender, lookup, move || {
        use std::net::ToSocketAddrs as _;
        match (host.as_str(), port).to_socket_addrs() {
            Ok(addresses) => Ok(addresses.collect()),
            Err(error) => Err(error.to_string()),
        }
    });
}

fn spawn_answer(
    sender: &SyncSender<Input>,
    lookup: Lookup,
    answer: impl FnOnce() -> Result<Vec<SocketAddr>, String> + Send + 'static,
) {
    let sender = sender.clone();
    let started = std::thread::Builder::new().name("lookup".into()).spawn(move || {
        let _ = sender.send(Input::Resolved(lookup, answer())).is_ok();
    });
    if let Err(error) = started {
        tracing::error!(%error, "cannot start a thread to look up a host name");
    }
}
