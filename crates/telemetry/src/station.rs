//! A relay or a collector, put together: ports, a desk behind them, and a sink behind that. A plan goes
//! in, a status comes out; only what differs from the plan before is touched.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use handfast_tls::{Fault, Revocations};
use http::{Request, Response};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::caller::Transport;
use crate::census::Census;
use crate::counts::Counted;
use crate::desk::{Desk, DeskPlan, Witness};
use crate::forward::{Dialect, Forwarder, ForwarderStatus};
use crate::grpc::{Body, Code, Status, failed};
use crate::journal::{JournalError, JournalSettings};
use crate::keep::{Keep, KeepError, KeepSettings, KeepStatus};
use crate::port::{Mode, Place, Port, PortError, Protection, Protocol};
use crate::protocol::method::Method;
use crate::record::Record;
use crate::sink::{Now, Question, Sink, Taking, Untaken};
use crate::upstream::{Clock, Dice, Upstream, UpstreamPlan};

/// What a relay or collector is to be.
#[derive(Clone, Debug)]
pub struct StationPlan {
    /// Who may report what.
    pub desk: DeskPlan,
    /// Its name.
    pub name: String,
    /// Where the records go.
    pub output: Output,
    /// Its ports by name.
    pub ports: BTreeMap<String, PortPlan>,
}

/// One port of it.
#[derive(Clone, Debug)]
pub struct PortPlan {
    /// Where.
    pub place: Place,
    /// How it is protected.
    pub protection: Protection,
    /// What is spoken.
    pub protocol: Protocol,
}

/// Where records go.
#[derive(Clone, Debug)]
pub enum Output {
    /// To backends, through a spool.
    Forward {
        /// What is spoken to the backends.
        dialect: Dialect,
        /// Where the spool lies.
        directory: PathBuf,
        /// How much may lie in it.
        spool: JournalSettings,
        /// The backends. They may change while it runs.
        upstream: UpstreamPlan,
    },
    /// Into the embedded store.
    Keep {
        /// Where it lies.
        directory: PathBuf,
        /// How long and how much.
        settings: KeepSettings,
    },
}

/// Why a relay or collector does not run as planned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StationError {
    /// The spool cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The store cannot be used.
    #[error(transparent)]
    Keep(KeepError),
    /// A port cannot be opened; the others are.
    #[error(transparent)]
    Port(#[from] PortError),
}

/// A running relay or collector.
#[derive(Debug)]
pub struct Station {
    name: String,
    desk: Arc<Desk>,
    output: Running,
    ports: BTreeMap<String, (Place, Protocol, Port)>,
    /// Why ports that are wanted are not open.
    closed: Vec<Fault>,
    revocations: Revocations,
    /// When it was started.
    since: Timestamp,
    /// What it does by itself ends with this.
    ending: CancellationToken,
}

#[derive(Clone, Debug)]
enum Running {
    Forward(Arc<Forwarder>),
    Keep(Arc<Kept>),
}

/// What a station is up to.
#[derive(Clone, Debug)]
pub struct StationStatus {
    /// Why ports that are wanted are not open.
    pub closed: Vec<Fault>,
    /// What was counted.
    pub counted: Counted,
    /// The forwarder, where there is one.
    pub forward: Option<ForwarderStatus>,
    /// The store, where there is one.
    pub keep: Option<KeepStatus>,
    /// Its name.
    pub name: String,
    /// Its ports.
    pub ports: Vec<PortStatus>,
}

/// What a port is up to.
#[derive(Clone, Debug)]
pub struct PortStatus {
    /// Where it listens over TCP.
    pub address: Option<SocketAddr>,
    /// Open connections by transport.
    pub connections: Vec<(Transport, usize)>,
    /// Its mode.
    pub mode: Mode,
    /// Its name.
    pub name: String,
}

impl Station {
    /// Starts it. A port that cannot be opened does not keep the others closed: it is in the list.
    ///
    /// Blocks while a spool or store is repaired: not for a thread that serves.
    ///
    /// # Errors
    /// What makes all of it impossible.
    pub fn start(
        plan: StationPlan,
        revocations: Revocations,
        clock: Clock,
        dice: Dice,
        witness: Witness,
    ) -> Result<(Self, Vec<PortError>), StationError> {
        let StationPlan { desk, name, output, ports } = plan;
        let (ending, since) = (CancellationToken::new(), clock());
        let output = match output {
            Output::Forward { dialect, directory, spool, upstream } => {
                let upstream = Upstream::new(upstream, Arc::clone(&clock), dice.clone());
                let (forwarder, repair) =
                    Forwarder::start(&directory, spool, dialect, Arc::new(upstream), dice)?;
                if !repair.is_clean() {
                    tracing::warn!(%name, ?repair, "the spool was repaired");
                }
                Running::Forward(Arc::new(forwarder))
            }
            Output::Keep { directory, settings } => {
                let keep = Keep::open(&directory, settings, clock()).map_err(StationError::Keep)?;
                let kept = Arc::new(Kept(keep));
                tokio::spawn(sweep(Arc::clone(&kept), Arc::clone(&clock), ending.clone()));
                Running::Keep(kept)
            }
        };
        let sink: Arc<dyn Sink> = match &output {
            Running::Forward(forwarder) => Arc::clone(forwarder) as _,
            Running::Keep(kept) => Arc::clone(kept) as _,
        };
        let desk = Arc::new(Desk::new(&name, desk, sink, clock, witness));
        let (ports_open, closed) = (BTreeMap::new(), Vec::new());
        let mut station =
            Self { name, desk, output, ports: ports_open, closed, revocations, since, ending };
        let faults = station.place(ports);
        Ok((station, faults))
    }

    /// Changes what differs: rules and quotas at once, protection without closing a port, ports that
    /// are gone or new. Where the records go stays as it was, but for the backends; says what could
    /// not be opened.
    pub fn apply(&mut self, plan: StationPlan) -> Vec<PortError> {
        self.desk.set(plan.desk);
        if let (Running::Forward(forwarder), Output::Forward { upstream, .. }) =
            (&self.output, plan.output)
        {
            forwarder.upstream().set(upstream);
        }
        self.place(plan.ports)
    }

    fn place(&mut self, plans: BTreeMap<String, PortPlan>) -> Vec<PortError> {
        let gone = |name: &String, (place, protocol, _): &(Place, Protocol, Port)| {
            plans.get(name).is_none_or(|plan| plan.place != *place || plan.protocol != *protocol)
        };
        let closing: Vec<String> =
            self.ports.iter().filter(|(n, p)| gone(n, p)).map(|(n, _)| n.clone()).collect();
        for name in closing {
            if let Some((.., port)) = self.ports.remove(&name) {
                drop(port);
            }
        }
        let mut faults = Vec::new();
        for (name, plan) in plans {
            if let Some((.., port)) = self.ports.get(&name) {
                port.protect(plan.protection);
                continue;
            }
            let called = format!("{} {name}", self.name);
            let desk = Arc::clone(&self.desk);
            let (place, protocol) = (plan.place, plan.protocol);
            match Port::open(
                &called,
                &place,
                protocol,
                plan.protection,
                desk,
                self.revocations.clone(),
            ) {
                Ok(port) => {
                    self.ports.insert(name, (place, protocol, port));
                }
                Err(fault) => faults.push(fault),
            }
        }
        let now = self.desk.now();
        self.closed = faults.iter().map(|fault| fault.fault(now)).collect();
        faults
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where a port listens.
    pub fn address(&self, port: &str) -> Option<SocketAddr> {
        self.ports.get(port)?.2.address()
    }

    /// Who was heard, and who refused.
    pub fn census(&self) -> &Census {
        self.desk.census()
    }

    /// When it was started: its census knows nothing from before.
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// The store, where there is one.
    pub fn keep(&self) -> Option<&Keep> {
        match &self.output {
            Running::Forward(_) => None,
            Running::Keep(kept) => Some(&kept.0),
        }
    }

    /// The way on, where there is one.
    pub fn forwarder(&self) -> Option<&Arc<Forwarder>> {
        match &self.output {
            Running::Forward(forwarder) => Some(forwarder),
            Running::Keep(_) => None,
        }
    }

    /// What it is up to.
    pub fn status(&self) -> StationStatus {
        let (forward, keep) = match &self.output {
            Running::Forward(forwarder) => (Some(forwarder.status()), None),
            Running::Keep(kept) => (None, Some(kept.0.status())),
        };
        let ports = self.ports.iter().map(|(name, (_, _, port))| PortStatus {
            address: port.address(),
            connections: port.connections().by_transport(),
            mode: port.mode(),
            name: name.clone(),
        });
        StationStatus {
            closed: self.closed.clone(),
            counted: self.desk.counts().read(),
            forward,
            keep,
            name: self.name.clone(),
            ports: ports.collect(),
        }
    }

    /// Takes nothing new, lets calls end, sends what can be sent; all within `grace`.
    pub async fn stop(mut self, grace: Duration) {
        let ports = std::mem::take(&mut self.ports);
        self.ending.cancel();
        self.desk.stop();
        // All at the same time: the grace is for the whole of it.
        let mut closing = tokio::task::JoinSet::new();
        for (.., port) in ports.into_values() {
            closing.spawn(port.close(grace));
        }
        while closing.join_next().await.is_some() {}
        if let Running::Forward(forwarder) = &self.output {
            forwarder.stop(grace).await;
        }
    }
}

impl Drop for Station {
    fn drop(&mut self) {
        self.ending.cancel();
    }
}

/// Gives back what is older than it is to be kept, from time to time.
async fn sweep(kept: Arc<Kept>, clock: Clock, ending: CancellationToken) {
    let mut due = tokio::time::interval(SWEEP);
    loop {
        tokio::select! {
            () = ending.cancelled() => return,
            _ = due.tick() => {}
        }
        let (kept, now) = (Arc::clone(&kept), clock());
        match tokio::task::spawn_blocking(move || kept.0.sweep(now)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "what is old cannot be given back"),
            // The runtime is going away.
            Err(_) => return,
        }
    }
}

/// The embedded store as a sink.
#[derive(Debug)]
struct Kept(Keep);

impl Sink for Kept {
    fn take(&self, records: Vec<Record>) -> Now<'_, Result<Taking, Untaken>> {
        Box::pin(async move {
            let mut taken = self.0.take(records).await?;
            let noticed = std::mem::take(&mut taken.noticed);
            let taking = Taking::new(async move { Ok(taken.durable().await.map(drop)?) });
            Ok(Taking { noticed, ..taking })
        })
    }

    /// There is nobody here who gives agents tasks: no commands.
    fn ask(&self, _: Question) -> Now<'_, Result<Bytes, Status>> {
        Box::pin(async { Ok(Bytes::new()) })
    }

    fn pass(&self, request: Request<Body>) -> Now<'_, Response<Body>> {
        let path = request.uri().path();
        let why = if Method::at(path).is_some() {
            // A recording. Nobody here has a use for one, and an agent that was told that all is well would throw
            // its own away.
            format!(
                "{path} brings what a task asked for, and this collector keeps what it takes and gives no tasks; with `forward` such calls are passed on"
            )
        } else {
            format!(
                "this collector keeps what it takes, and knows no method {}; with `forward` such calls are passed on",
                path.escape_debug()
            )
        };
        let status = Status::new(Code::Unimplemented, why);
        Box::pin(async move { failed(&status) })
    }
}

/// So often it is looked for what is old.
const SWEEP: Duration = Duration::from_secs(60);
