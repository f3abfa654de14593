//! `handfast status`: how the node of this home is. It fails while no node runs, so that scripts can ask.

use std::time::{Duration, Instant};

use handfast_api::admin::{Client, ClientError};
use handfast_api::status::{EdgeState, NodeStatus, ProblemView, RefusalView};
use handfast_api::telemetry::StationView;
use serde::Serialize;

use super::{Context, link, stations, words};
use crate::clock;
use crate::output::Page;

/// Arguments of `handfast status`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  handfast status\n  handfast status --wait 10s\n  handfast status -o json | jq .state\n\n\
    Exits with 4 while no node runs on this home."
)]
pub(crate) struct Arguments {
    /// Wait this long for a node to answer, like 10s
    #[arg(long, value_name = "DURATION", value_parser = super::duration)]
    wait: Option<Duration>,
}

/// Prints it.
pub(crate) async fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<()> {
    let client = context.client();
    let status = answer(&client, arguments.wait.unwrap_or_default()).await?;
    let mut refusals = client.faults().await?.refusals;
    refusals.sort_by_key(|refusal| std::cmp::Reverse(refusal.at));
    let stations = client.stations().await?;
    let view = View { status, refusals, stations };
    context.output.show(&view, |page| draw(page, &view, context))
}

/// The node's own status, with who was refused lately.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct View {
    #[serde(flatten)]
    status: NodeStatus,
    /// The latest first.
    refusals: Vec<RefusalView>,
    /// Collectors and relays.
    stations: Vec<StationView>,
}

async fn answer(client: &Client, patience: Duration) -> Result<NodeStatus, ClientError> {
    let deadline = Instant::now() + patience;
    loop {
        match client.status().await {
            Err(ClientError::NoNode { .. }) if Instant::now() < deadline => {
                tokio::time::sleep(POLL).await;
            }
            answer => return answer,
        }
    }
}

/// Where other sites link to, one line each.
fn accesses(status: &NodeStatus) -> String {
    let lines = status.accesses.iter().map(|access| {
        let bind = access.bind.clone().unwrap_or_else(|| access.port.to_string());
        let grants =
            access.grant_url.as_deref().map(|url| format!(", tokens at {url}")).unwrap_or_default();
        format!("{bind} ({}){grants}", words::edge(access.state))
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn draw(page: &mut Page, view: &View, context: &Context) {
    let now = clock::now();
    let status = &view.status;
    let site = status.site.clone().unwrap_or_else(|| {
        format!("none declared; declare it: {}", context.command("site create NAME"))
    });
    page.fields(&[
        ("site", site),
        ("state", words::node(status.state).to_owned()),
        ("trust domain", status.trust_domain.clone().unwrap_or_default()),
        ("version", status.version.clone()),
        (
            "process",
            format!("{}, started {}", status.pid, words::moment(Some(status.started_at), now)),
        ),
        ("home", status.home.clone()),
        ("certificates", certificates(view)),
        ("next renewal", words::moment(status.credentials.next_renewal, now)),
        ("first expiry", words::moment(status.credentials.first_expiry, now)),
        (
            "link access",
            status
                .network_unknown
                .as_ref()
                .map_or_else(|| accesses(status), |_| "not known".to_owned()),
        ),
    ]);
    for access in &status.accesses {
        words::fault(page, &format!("access {}", access.name), access.fault.as_ref());
    }
    if let Some(unknown) = &status.network_unknown {
        page.heading("Links and services");
        page.line(format!("Not known: {unknown}."));
    }
    if !status.links.is_empty() {
        page.heading("Links");
        link::table(page, &status.links);
    }
    services(page, status);
    telemetry(page, &view.stations);
    problems(page, &status.problems);
    if !view.refusals.is_empty() {
        page.heading("Refused lately");
        for refusal in view.refusals.iter().take(SHOWN_REFUSALS) {
            page.line(format!(
                "{} from {} on {}",
                words::whole_seconds(refusal.at),
                refusal.peer,
                refusal.on
            ));
            refusal.fault.to_string().lines().for_each(|line| page.line(format!("  {line}")));
        }
    }
}

fn certificates(view: &View) -> String {
    let figures = &view.status.credentials;
    match figures.unhealthy {
        0 => format!("{}, all valid", figures.total),
        1 => format!("{}, 1 needs attention: handfast cert list", figures.total),
        bad => format!("{}, {bad} need attention: handfast cert list", figures.total),
    }
}

fn services(page: &mut Page, status: &NodeStatus) {
    let listeners = status.listeners.iter().map(|one| {
        let bind = one.bind.clone().unwrap_or_else(|| format!("{}:{}", one.host, one.port));
        let waits = one.state == EdgeState::Waiting && !one.has_matching_connector;
        let state = if waits { "waits for a connector" } else { words::edge(one.state) };
        ["listener", &one.name, &one.routing_key, &bind, state].map(ToOwned::to_owned)
    });
    let connectors = status.connectors.iter().map(|one| {
        let target = format!("{}:{}", one.host, one.port);
        ["connector", &one.name, &one.routing_key, &target, words::edge(one.state)]
            .map(ToOwned::to_owned)
    });
    let rows: Vec<Vec<String>> = listeners.chain(connectors).map(Vec::from).collect();
    if !rows.is_empty() {
        page.heading("Services");
        page.table(&["KIND", "NAME", "ROUTING KEY", "ADDRESS", "STATE"], &rows, "");
    }
    for one in &status.listeners {
        words::fault(page, &format!("listener {}", one.name), one.fault.as_ref());
    }
    for one in &status.connectors {
        words::fault(page, &format!("connector {}", one.name), one.fault.as_ref());
    }
}

fn telemetry(page: &mut Page, all: &[StationView]) {
    if all.is_empty() {
        return;
    }
    page.heading("Telemetry");
    let row = |one: &StationView| {
        let kind = one.kind.to_string().to_lowercase();
        let state = words::edge(one.state).to_owned();
        vec![kind, one.name.clone(), state, stations::whereto(one)]
    };
    let rows: Vec<Vec<String>> = all.iter().map(row).collect();
    page.table(&["KIND", "NAME", "STATE", "RECORDS GO"], &rows, "");
    for one in all {
        let fault = one.forward.as_ref().and_then(|forward| forward.fault.as_ref());
        words::fault(page, &format!("{} {}", one.kind.to_string().to_lowercase(), one.name), fault);
    }
}

fn problems(page: &mut Page, problems: &[ProblemView]) {
    if problems.is_empty() {
        return;
    }
    page.heading("Problems");
    for problem in problems {
        page.line(format!("{}: {}", problem.subject, problem.message));
        if let Some(file) = &problem.file {
            let line = problem.line.map(|line| format!(":{line}")).unwrap_or_default();
            page.line(format!("  where: {file}{line}"));
        }
        page.line(format!("  what to do: {}", problem.remedy));
    }
}

/// How often a node that does not answer yet is asked.
const POLL: Duration = Duration::from_millis(25);

/// How many refusals are shown to people; programs get all.
const SHOWN_REFUSALS: usize = 5;
