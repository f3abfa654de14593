//! Collectors and relays behind the admin API: as they run, and those that are declared and do not.

use std::collections::{BTreeMap, BTreeSet};

use handfast_api::resources::Kind;
use handfast_api::status::{FaultView, ProblemView, RefusalView};
use handfast_api::telemetry::{
    ListensView, ReporterView, Rollout, RolloutQuestion, StationKind, StationView,
};
use handfast_telemetry::keep::KeepReader;
use handfast_telemetry::station::StationStatus;

use crate::clock;

use super::super::core::Core;
use super::super::telemetry::foreign;

/// Every station, by kind and name: those that are declared, and those that have not ended yet.
pub(in crate::node) fn stations(core: &Core) -> Vec<StationView> {
    // Asked in this order: what is let go of meanwhile is found in one of the two.
    let mut running = BTreeMap::new();
    core.each_station(|subject, station| {
        running.insert(subject.to_owned(), station.status());
    });
    let stopping = core.stopping_stations();
    views(core, running, stopping)
}

fn views(
    core: &Core,
    mut running: BTreeMap<String, StationStatus>,
    stopping: BTreeSet<String>,
) -> Vec<StationView> {
    let mut problems: BTreeMap<String, Vec<ProblemView>> = BTreeMap::new();
    let mut declared: Vec<(String, StationKind, String)> = Vec::new();
    let relays;
    {
        let state = core.state();
        for problem in &state.telemetry_faults {
            problems.entry(problem.subject.clone()).or_default().push(problem.clone());
        }
        let mut add = |kind, station, name: &str| {
            declared.push((format!("{kind}/{name}"), station, name.to_owned()));
        };
        for name in state.resources.collectors.keys() {
            add(Kind::Collector, StationKind::Collector, name.as_str());
        }
        for name in state.resources.relays.keys() {
            add(Kind::Relay, StationKind::Relay, name.as_str());
        }
        relays = state.resources.relays.clone();
    }
    let known: BTreeSet<&String> = declared.iter().map(|(subject, ..)| subject).collect();
    let left: BTreeSet<String> =
        running.keys().chain(&stopping).filter(|one| !known.contains(one)).cloned().collect();
    declared.extend(left.into_iter().filter_map(|subject| {
        let (kind, name) = subject.split_once('/')?;
        let collects = kind == Kind::Collector.as_str();
        let kind = if collects { StationKind::Collector } else { StationKind::Relay };
        let name = name.to_owned();
        Some((subject, kind, name))
    }));
    let view = |(subject, kind, name): (String, StationKind, String)| {
        let mut problems = problems.remove(&subject).unwrap_or_default();
        let forward = running.get(&subject).and_then(|status| status.forward.as_ref());
        let relay = relays.values().find(|relay| relay.reference() == subject);
        problems.extend(relay.zip(forward).and_then(|(relay, it)| foreign::problem(relay, it)));
        match running.remove(&subject) {
            Some(status) => StationView::of(kind, status, problems),
            None => StationView::not_running(kind, &name, problems),
        }
    };
    declared.into_iter().map(view).collect()
}

/// Who reports to them. What a mode would need is said for collectors only: the ports of a relay are
/// in the clear, on loopback, whatever comes.
pub(super) fn rollout(core: &Core, question: RolloutQuestion) -> Rollout {
    let mut rollout = Rollout::default();
    core.each_station(|subject, station| {
        let collects = subject.starts_with(Kind::Collector.as_str());
        let mode = question.mode.filter(|_| collects);
        let census = station.census();
        let since = station.since();
        rollout.stations.push(ListensView { station: subject.to_owned(), since });
        let reporters = census.reporters().into_iter();
        rollout.reporters.extend(reporters.map(|it| ReporterView::of(subject, it, mode)));
        let refusals = census.refusals().into_iter().map(|refusal| RefusalView {
            at: refusal.at,
            peer: refusal.from,
            on: format!("{subject} {}", refusal.on),
            fault: FaultView::from(&refusal.fault.with("times", refusal.times.to_string())),
        });
        rollout.refusals.extend(refusals);
    });
    rollout.refusals.sort_by_key(|refusal| std::cmp::Reverse(refusal.at));
    rollout.only_what_counts(question, clock::now())
}

/// The stores of the collectors that keep.
pub(super) fn kept(core: &Core) -> Vec<KeepReader> {
    let mut readers = Vec::new();
    core.each_station(|_, station| {
        readers.extend(station.keep().map(|keep| keep.reader().clone()));
    });
    readers
}
