//! The collectors and relays of a node: from resources and good credentials to running stations. What a
//! station does is not decided here, and no certificate is.

mod denials;
pub(super) mod foreign;
mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use handfast_api::resources::{Kind, Origin, Resources};
use handfast_api::status::{ProblemSeverity, ProblemView};
use handfast_authority::{Declared, Report};
use handfast_pki::SystemEntropy;
use handfast_telemetry::station::{Station, StationPlan};
use handfast_telemetry::upstream::{Clock, Dice};

use self::denials::Denials;
use self::plan::Configurations;
use super::core::{Core, Turning};
use crate::clock;

/// The running collectors and relays of a node, by kind and name: `Collector/telemetry`.
#[derive(Default)]
pub(super) struct Stations {
    /// Held for moments only, never while one starts or stops: whoever scrapes or asks gets all of them at any time.
    placed: RwLock<Placed>,
    denials: Denials,
}

#[derive(Default)]
struct Placed {
    running: BTreeMap<String, Running>,
    /// Those that were let go of and have not ended yet.
    stopping: BTreeSet<String>,
}

struct Running {
    /// What its records are written into; another place is another station.
    output: String,
    station: Station,
}

/// What a turn remembers of it.
#[derive(Default)]
pub(super) struct TelemetryTurn {
    configurations: Configurations,
}

impl Core {
    /// Makes collectors and relays so; says what stands in their way.
    pub(super) async fn place_telemetry(
        self: &Arc<Self>,
        resources: &Resources,
        declared: &Declared,
        report: &Report,
        turning: &mut Turning,
    ) -> Vec<ProblemView> {
        let mut problems = Vec::new();
        let mut wanted = BTreeMap::new();
        let turn = &mut turning.telemetry;
        let sight = plan::Sight {
            declared,
            report,
            directory: &self.paths.runtime_telemetry,
            revocations: &self.revoked.view,
            staples: &turning.tls.staples,
        };
        for collector in resources.collectors.values() {
            let subject = format!("{}/{}", Kind::Collector, collector.name);
            let planned = plan::collector(collector, &sight, &mut turn.configurations);
            problems.extend(
                planned.missing.iter().map(|what| missing(&subject, &collector.origin, what)),
            );
            wanted.insert(subject, (planned.plan, collector.origin.clone()));
        }
        for relay in resources.relays.values() {
            let subject = format!("{}/{}", Kind::Relay, relay.name);
            let planned = plan::relay(relay, &sight, &mut turn.configurations);
            problems
                .extend(planned.missing.iter().map(|what| missing(&subject, &relay.origin, what)));
            wanted.insert(subject, (planned.plan, relay.origin.clone()));
        }
        // Whoever sees a port in its new mode sees already what it lacks.
        self.state().telemetry_faults.extend(problems.iter().cloned());
        self.stop_unwanted(&wanted).await;
        for (subject, (plan, origin)) in wanted {
            let faults = self.place_station(&subject, plan).await;
            problems.extend(faults.into_iter().map(|message| ProblemView {
                severity: ProblemSeverity::Error,
                subject: subject.clone(),
                file: Some(origin.file.display().to_string()),
                line: Some(origin.line),
                message,
                remedy: "free the port or the directory, or declare another one".to_owned(),
            }));
        }
        problems
    }

    async fn stop_unwanted(&self, wanted: &BTreeMap<String, (StationPlan, Origin)>) {
        let gone: BTreeMap<String, Running> = {
            let mut placed = self.stations_mut();
            let stays = |(subject, running): &(String, Running)| {
                wanted.get(subject).is_some_and(|(plan, _)| plan::output_of(plan) == running.output)
            };
            let (stay, gone) = std::mem::take(&mut placed.running).into_iter().partition(stays);
            placed.running = stay;
            let gone: BTreeMap<String, Running> = gone;
            placed.stopping.extend(gone.keys().cloned());
            gone
        };
        for (subject, Running { station, .. }) in gone {
            tracing::info!(%subject, "stops");
            station.stop(GRACE).await;
            self.stations_mut().stopping.remove(&subject);
        }
    }

    async fn place_station(self: &Arc<Self>, subject: &str, plan: StationPlan) -> Vec<String> {
        if let Some(Running { station, .. }) = self.stations_mut().running.get_mut(subject) {
            let faults = station.apply(plan);
            return faults.iter().map(ToString::to_string).collect();
        }
        let output = plan::output_of(&plan);
        let revocations = self.revoked.view.clone();
        let witness = self.stations.denials.witness(subject);
        let clock: Clock = Arc::new(clock::now);
        // Opening repairs what a crash left half written, which reads a file.
        let starting = tokio::task::spawn_blocking(move || {
            Station::start(plan, revocations, clock, Dice::new(SystemEntropy), witness)
        });
        match starting.await {
            Ok(Ok((station, faults))) => {
                tracing::info!(%subject, "runs");
                self.stations_mut().running.insert(subject.to_owned(), Running { output, station });
                faults.iter().map(ToString::to_string).collect()
            }
            Ok(Err(error)) => vec![error.to_string()],
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// Lets every station end: nothing new is taken, what is spooled stays.
    pub(super) async fn stop_telemetry(&self, grace: Duration) {
        let stations = std::mem::take(&mut self.stations_mut().running);
        for (_, Running { station, .. }) in stations {
            station.stop(grace).await;
        }
    }

    /// Relays that their collector does not know.
    pub(super) fn foreign_relays(&self) -> Vec<ProblemView> {
        let relays = self.state().resources.relays.clone();
        let mut problems = Vec::new();
        if relays.is_empty() {
            return problems;
        }
        self.each_station(|subject, station| {
            let relay = relays.values().find(|relay| relay.reference() == subject);
            let forward = relay.and_then(|_| station.status().forward);
            problems.extend(
                relay.zip(forward).and_then(|(relay, forward)| foreign::problem(relay, &forward)),
            );
        });
        problems
    }

    /// Calls `with` with each station. It must be quick: a turn waits for it.
    pub(super) fn each_station(&self, mut with: impl FnMut(&str, &Station)) {
        for (subject, Running { station, .. }) in &self.stations().running {
            with(subject, station);
        }
    }

    /// Stations that were let go of and have not ended yet.
    pub(super) fn stopping_stations(&self) -> BTreeSet<String> {
        self.stations().stopping.clone()
    }

    fn stations(&self) -> RwLockReadGuard<'_, Placed> {
        self.stations.placed.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn stations_mut(&self) -> RwLockWriteGuard<'_, Placed> {
        self.stations.placed.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn missing(subject: &str, origin: &Origin, what: &str) -> ProblemView {
    ProblemView {
        severity: ProblemSeverity::Error,
        subject: subject.to_owned(),
        file: Some(origin.file.display().to_string()),
        line: Some(origin.line),
        message: what.to_owned(),
        remedy: "see `handfast cert list`; the port stays closed to TLS, and nothing is sent in the clear, until it is there"
            .to_owned(),
    }
}

/// A station that is not wanted any more may take so long to end.
const GRACE: Duration = Duration::from_secs(2);
