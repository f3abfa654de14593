//! `handfast rollout status|plan|enforce`: from plaintext to mutual TLS, seeing who is ready.

mod enforce;

use handfast_api::resources::Span;
use handfast_api::telemetry::{PortView, ReporterView, Rollout, RolloutQuestion, StationKind};
use handfast_pki::Name;
use handfast_telemetry::port::Mode;
use jiff::Timestamp;
use serde::Serialize;

use super::kept::shown;
use super::{Context, words};
use crate::clock;
use crate::exit::Exit;
use crate::output::Page;

/// Verbs of `handfast rollout`.
#[derive(clap::Subcommand, Debug)]
pub(crate) enum Verb {
    /// See who reports and how: every service and instance, and who was refused
    #[command(
        after_help = "Examples:\n  handfast rollout status\n  handfast rollout status --heard-within 1h\n  \
        handfast rollout status -o json"
    )]
    Status(Status),
    /// See who would be shut out by another mode, and what each needs; nothing is changed
    #[command(after_help = "Examples:\n  handfast rollout plan --to mtls\n  \
        handfast rollout plan --to mtls --heard-within 7d\n  \
        handfast rollout plan --to tls --collector telemetry && handfast rollout enforce telemetry --to tls\n\n\
        With --heard-within whoever was heard last before that does not count: instances that are gone shut nobody out. Of \
        what was before the collector started nothing is known with it either.\n\n\
        Exits with 0 if somebody was heard since the collector started and everybody who was would go on; with 9 if \
        somebody would be shut out, and if nobody was heard, for then nothing is known.")]
    Plan(Plan),
    /// Change the mode of a collector's ports, one after the other, or take that back
    #[command(after_help = "Examples:\n  handfast rollout enforce telemetry --to mtls\n  \
        handfast rollout enforce telemetry --port grpc --to mtls\n  handfast rollout enforce telemetry --back\n\n\
        Only the resource's file is changed; open connections that the new mode does not admit end.")]
    Enforce(enforce::Arguments),
}

/// Arguments of `handfast rollout plan`.
#[derive(clap::Args, Debug)]
pub(crate) struct Plan {
    /// The mode to try
    #[arg(long, value_name = "mtls|permissive|tls|plaintext")]
    to: Mode,
    /// Only reporters of this collector
    #[arg(long, value_name = "NAME")]
    collector: Option<Name>,
    #[command(flatten)]
    heard: Heard,
}

/// Arguments of `handfast rollout status`.
#[derive(clap::Args, Debug)]
pub(crate) struct Status {
    #[command(flatten)]
    heard: Heard,
}

/// How long ago counts.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
struct Heard {
    /// Only who was heard within this time, like 7d [default: since the collector started]
    #[arg(long = "heard-within", value_name = "DURATION")]
    within: Option<Span>,
}

/// Runs the verb.
pub(crate) async fn run(verb: Verb, context: &Context) -> anyhow::Result<Exit> {
    match verb {
        Verb::Status(wanted) => status(wanted, context).await,
        Verb::Plan(plan) => self::plan(plan, context).await,
        Verb::Enforce(arguments) => enforce::run(arguments, context).await,
    }
}

/// What `rollout status` answers.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StatusView {
    ports: Vec<StationPort>,
    #[serde(flatten)]
    rollout: Rollout,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StationPort {
    station: String,
    #[serde(flatten)]
    port: PortView,
}

async fn status(wanted: Status, context: &Context) -> anyhow::Result<Exit> {
    let client = context.client();
    let stations = client.stations().await?;
    let question = RolloutQuestion { mode: None, heard_within: wanted.heard.within };
    let rollout = client.rollout(question).await?;
    let ports = stations.into_iter().flat_map(|one| {
        let station = format!("{}/{}", one.kind, one.name);
        one.ports.into_iter().map(move |port| StationPort { station: station.clone(), port })
    });
    let view = StatusView { ports: ports.collect(), rollout };
    context.output.show(&view, |page| {
        let nobody = view.rollout.heard_from.map_or_else(
            || "Nobody has reported since the node started.".to_owned(),
            |from| format!("Nobody has reported since {}.", words::whole_seconds(from)),
        );
        reporters(page, &view.rollout.reporters, &nobody);
        if !view.ports.is_empty() {
            page.heading("Ports");
            let row = |one: &StationPort| {
                let of = one.port.connections;
                vec![
                    one.station.clone(),
                    one.port.name.clone(),
                    one.port.address.clone().unwrap_or_default(),
                    one.port.mode.clone(),
                    of.plaintext.to_string(),
                    of.tls.to_string(),
                    of.mtls.to_string(),
                ]
            };
            let rows: Vec<Vec<String>> = view.ports.iter().map(row).collect();
            page.table(
                &["STATION", "PORT", "ADDRESS", "MODE", "PLAINTEXT", "TLS", "MTLS"],
                &rows,
                "",
            );
        }
        refusals(page, &view.rollout);
    })?;
    Ok(Exit::Success)
}

fn refusals(page: &mut Page, rollout: &Rollout) {
    if rollout.refusals.is_empty() {
        return;
    }
    page.heading("Refused");
    for refusal in rollout.refusals.iter().take(SHOWN_REFUSALS) {
        let when = words::whole_seconds(refusal.at);
        page.line(format!("{when} {} at {}", shown(&refusal.peer), shown(&refusal.on)));
        refusal.fault.to_string().lines().for_each(|line| page.line(format!("  {}", shown(line))));
    }
    let more = rollout.refusals.len().saturating_sub(SHOWN_REFUSALS);
    if more > 0 {
        page.line(format!("and {more} more: handfast rollout status -o json"));
    }
}

/// What `rollout plan` answers.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PlanView {
    mode: String,
    /// Since when all of these collectors listen; nothing if none runs.
    heard_since: Option<Timestamp>,
    /// Who was heard last before this moment does not count; absent where everybody does.
    #[serde(skip_serializing_if = "Option::is_none")]
    heard_from: Option<Timestamp>,
    /// Reporters that would go on.
    ready: usize,
    /// Reporters that would be shut out.
    shut_out: usize,
    reporters: Vec<ReporterView>,
}

async fn plan(plan: Plan, context: &Context) -> anyhow::Result<Exit> {
    let view = outlook(context, plan.to, plan.collector.as_ref(), plan.heard).await?;
    context.output.show(&view, |page| {
        let needy: Vec<ReporterView> =
            view.reporters.iter().filter(|one| one.needs.is_some()).cloned().collect();
        if !needy.is_empty() {
            reporters(page, &needy, "");
            page.gap();
        }
        let Some(since) = view.heard_since else {
            page.line(match &plan.collector {
                Some(name) => {
                    format!("No collector {name} runs on this node, so nobody was heard.")
                }
                None => "No collector runs on this node, so nobody was heard.".to_owned(),
            });
            return;
        };
        let known = known(since, view.heard_from);
        if view.reporters.is_empty() {
            page.line(format!("Nobody has reported since {known}, so nobody can be judged."));
            return;
        }
        page.line(format!(
            "{} of {} reporters would be shut out by mode {}.",
            view.shut_out,
            view.reporters.len(),
            view.mode
        ));
        page.line(format!("Heard since {known}; who reports less often is not among them."));
    })?;
    Ok(if view.is_yes() { Exit::Success } else { Exit::No })
}

/// Since when it is known who reports: since the collector started, or since the moment that was asked for.
fn known(since: Timestamp, from: Option<Timestamp>) -> String {
    let started = words::whole_seconds(since);
    match from {
        None => format!("{started}, when the collector started"),
        Some(from) if from < since => format!(
            "{started}, when the collector started: that is later than was asked for, and of before nothing is known"
        ),
        Some(from) => words::whole_seconds(from),
    }
}

async fn outlook(
    context: &Context,
    mode: Mode,
    only: Option<&Name>,
    heard: Heard,
) -> anyhow::Result<PlanView> {
    let question = RolloutQuestion { mode: Some(mode), heard_within: heard.within };
    Ok(judged(context.client().rollout(question).await?, mode, only))
}

/// What the mode would mean for those who report to the collectors that are meant. Pure.
fn judged(rollout: Rollout, mode: Mode, only: Option<&Name>) -> PlanView {
    let collects = format!("{}/", StationKind::Collector);
    let meant = |station: &str| {
        let name = station.strip_prefix(&collects);
        name.is_some_and(|name| only.is_none_or(|only| only.as_str() == name))
    };
    let listening = rollout.stations.iter().filter(|one| meant(&one.station));
    let heard_since = listening.map(|one| one.since).max();
    let reporters: Vec<ReporterView> =
        rollout.reporters.into_iter().filter(|one| meant(&one.station)).collect();
    let shut_out = reporters.iter().filter(|one| one.needs.is_some()).count();
    let ready = reporters.len() - shut_out;
    let heard_from = rollout.heard_from;
    PlanView { mode: mode.to_string(), heard_since, heard_from, ready, shut_out, reporters }
}

impl PlanView {
    /// Who was not heard cannot be judged: that is no yes.
    fn is_yes(&self) -> bool {
        self.shut_out == 0 && !self.reporters.is_empty()
    }
}

fn reporters(page: &mut Page, all: &[ReporterView], empty: &str) {
    let now = clock::now();
    let needs = all.iter().any(|one| one.needs.is_some());
    let row = |one: &ReporterView| {
        let mut row = vec![
            shown(&one.service),
            shown(&one.instance),
            one.transport.clone(),
            shown(&one.version),
            shown(&one.identity),
            one.address.clone().unwrap_or_default(),
            one.station.clone(),
            words::distance(one.last_seen, now),
        ];
        row.extend(needs.then(|| one.needs.clone().unwrap_or_default()));
        row
    };
    let rows: Vec<Vec<String>> = all.iter().map(row).collect();
    let mut header = vec![
        "SERVICE",
        "INSTANCE",
        "TRANSPORT",
        "AGENT",
        "IDENTITY",
        "ADDRESS",
        "STATION",
        "LAST SEEN",
    ];
    header.extend(needs.then_some("NEEDS"));
    page.table(&header, &rows, empty);
}

/// How many refusals are shown to people; programs get all.
const SHOWN_REFUSALS: usize = 10;

#[cfg(test)]
mod tests {
    use handfast_api::telemetry::ListensView;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a moment")
    }

    fn heard(service: &str, last_seen: &str, needs: Option<&str>) -> ReporterView {
        ReporterView {
            station: "Collector/telemetry".to_owned(),
            service: service.to_owned(),
            instance: String::new(),
            transport: String::new(),
            identity: String::new(),
            address: None,
            version: String::new(),
            last_seen: at(last_seen),
            needs: needs.map(ToOwned::to_owned),
        }
    }

    #[test]
    fn who_is_gone_for_a_week_shuts_nobody_out_and_whom_nobody_heard_is_no_yes() {
        let now = at("2026-11-25T12:00:00Z");
        let since = at("2026-11-01T00:00:00Z");
        let all = Rollout {
            stations: vec![ListensView { station: "Collector/telemetry".to_owned(), since }],
            reporters: vec![
                heard("bank", "2026-11-10T00:00:00Z", Some("a relay")),
                heard("shop", "2026-11-25T11:00:00Z", None),
            ],
            ..Rollout::default()
        };
        let plan = |within: Option<&str>| {
            let heard_within = within.map(|text| text.parse().expect("a duration"));
            let question = RolloutQuestion { mode: Some(Mode::Mtls), heard_within };
            judged(all.clone().only_what_counts(question, now), Mode::Mtls, None)
        };
        for (within, (ready, shut_out), yes) in [
            (None, (1, 1), false),
            (Some("30d"), (1, 1), false),
            (Some("7d"), (1, 0), true),
            (Some("30m"), (0, 0), false),
        ] {
            let view = plan(within);
            assert_eq!(
                (view.ready, view.shut_out, view.is_yes()),
                (ready, shut_out, yes),
                "{within:?}"
            );
            assert_eq!(view.heard_since, Some(since));
        }
        assert!(known(since, None).ends_with("when the collector started"));
        assert!(known(since, plan(Some("30d")).heard_from).contains("later than was asked for"));
        assert_eq!(known(since, plan(Some("7d")).heard_from), "2026-11-18T12:00:00Z");
    }
}
