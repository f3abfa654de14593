//! A collector or a relay by itself, without a node: what `collector run` and `relay run` have in common once it is known
//! what they are to be.

mod health;
pub(super) mod lists;
pub(super) mod token;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use handfast_api::health::{HealthError, HealthServer};
use handfast_api::telemetry::StationKind;
use handfast_pki::SystemEntropy;
use handfast_telemetry::desk::Witness;
use handfast_telemetry::journal::{self, JournalError};
use handfast_telemetry::keep::{Keep, KeepError};
use handfast_telemetry::station::{Station, StationError, StationPlan, StationStatus};
use handfast_telemetry::upstream::{Clock, Dice};
use handfast_tls::Revocations;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::health::LoneHealth;
use self::lists::Due;
use crate::clock;
use crate::exit::Exit;
use crate::failure::Failure;

/// Why something that lies there is not in use; nothing while it is.
pub(super) type Trouble = watch::Receiver<Option<String>>;

/// What happens when the spool is full.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum WhenFull {
    /// Nothing more is taken, until there is room
    Refuse,
    /// The oldest goes, unsent
    DropOldest,
}

impl From<WhenFull> for journal::WhenFull {
    fn from(when_full: WhenFull) -> Self {
        match when_full {
            WhenFull::Refuse => Self::Refuse,
            WhenFull::DropOldest => Self::DropOldest,
        }
    }
}

/// One that runs. Clones are the same.
#[derive(Clone)]
pub(super) struct Lone {
    kind: StationKind,
    /// Until it is told to stop.
    station: Arc<Mutex<Option<Station>>>,
}

impl Lone {
    /// Starts it, with all its ports or not at all; `options` are those that choose its ports.
    pub(super) async fn start(
        kind: StationKind,
        data: &Path,
        options: &str,
        plan: StationPlan,
        revocations: Revocations,
        witness: Witness,
    ) -> anyhow::Result<Self> {
        let clock: Clock = Arc::new(clock::now);
        // Opening repairs what a crash left half written, which reads a file.
        let starting = tokio::task::spawn_blocking(move || {
            Station::start(plan, revocations, clock, Dice::new(SystemEntropy), witness)
        });
        let word = word(kind);
        let (station, faults) = starting.await?.map_err(|error| {
            let (exit, remedy) = match what_is_wrong(&error) {
                Wrong::InUse => (
                    Exit::Home,
                    "stop the other one, or give this one a directory of its own with --data"
                        .to_owned(),
                ),
                Wrong::Forbidden => {
                    (Exit::Home, "run it as the user whom that directory belongs to".to_owned())
                }
                Wrong::Other => {
                    (Exit::Failed, "look at that directory, and at its disk".to_owned())
                }
            };
            Failure::new(exit, format!("the {word} cannot start"))
                .at(data.display())
                .because(error)
                .remedy(remedy)
        })?;
        if !faults.is_empty() {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            return Err(Failure::new(Exit::PortInUse, "a port cannot be opened")
                .because(faults.join("\n"))
                .remedy(format!("free the port, or choose another with {options}"))
                .into());
        }
        Ok(Self { kind, station: Arc::new(Mutex::new(Some(station))) })
    }

    /// Changes what differs.
    pub(super) fn apply(&self, plan: StationPlan) {
        if let Some(station) = self.lock().as_mut() {
            for fault in station.apply(plan) {
                tracing::error!(%fault, "a port cannot be opened");
            }
        }
    }

    /// What it is up to, until it is told to stop.
    pub(super) fn status(&self) -> Option<StationStatus> {
        self.lock().as_ref().map(Station::status)
    }

    /// Its store, where it keeps what it takes.
    pub(super) fn keep(&self) -> Option<Keep> {
        self.lock().as_ref().and_then(Station::keep).cloned()
    }

    /// Serves `/healthz` and `/metrics` where [`bind_health`] has bound them, until `ending`.
    pub(super) fn serve_health(
        &self,
        server: Option<HealthServer>,
        troubles: Vec<Trouble>,
        due: Due,
        ending: &CancellationToken,
    ) -> anyhow::Result<Option<tokio::task::JoinHandle<()>>> {
        let Some(server) = server else { return Ok(None) };
        tracing::info!(address = %server.local_addr()?, "metrics and health are served");
        let health = LoneHealth { lone: self.clone(), troubles, due };
        Ok(Some(tokio::spawn(server.serve(Arc::new(health), ending.clone()))))
    }

    /// Lets open calls end, and ends it.
    pub(super) async fn stop(&self) {
        let station = self.lock().take();
        if let Some(station) = station {
            station.stop(DRAIN).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Station>> {
        self.station.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What stands in the way of a start, as far as the answer differs.
enum Wrong {
    Forbidden,
    InUse,
    Other,
}

/// The directory is to the one that runs there what a home is to a node.
fn what_is_wrong(error: &StationError) -> Wrong {
    match error {
        StationError::Journal(journal) | StationError::Keep(KeepError::Journal(journal)) => {
            match journal {
                JournalError::InUse { .. } => Wrong::InUse,
                JournalError::File { source, .. } if is_forbidden(source) => Wrong::Forbidden,
                _ => Wrong::Other,
            }
        }
        StationError::Keep(KeepError::Unreadable(source)) if is_forbidden(source) => {
            Wrong::Forbidden
        }
        _ => Wrong::Other,
    }
}

fn is_forbidden(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

/// Takes the address of `/healthz` and `/metrics`, if one is named. Before anything else is opened: whoever finds a port of
/// the station open finds these too, and one that is in use is no start.
pub(super) async fn bind_health(
    address: Option<SocketAddr>,
) -> Result<Option<HealthServer>, HealthError> {
    match address {
        Some(address) => HealthServer::bind(address).await.map(Some),
        None => Ok(None),
    }
}

/// What it is called.
pub(super) fn word(kind: StationKind) -> &'static str {
    match kind {
        StationKind::Collector => "collector",
        StationKind::Relay => "relay",
    }
}

/// Calls that are open may go on for so long after it was told to stop.
const DRAIN: Duration = Duration::from_secs(10);
