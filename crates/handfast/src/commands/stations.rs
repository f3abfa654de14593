//! Collectors and relays as tables, and what the commands about them share.

pub(super) mod declaring;

use handfast_api::telemetry::{ForwardView, StationKind, StationView};
use handfast_pki::Name;

use super::{Context, edge, words};
use crate::output::Page;

/// Arguments of `status`.
#[derive(clap::Args, Debug)]
pub(crate) struct Status {
    /// Only the one of this name
    pub(super) name: Option<Name>,
}

/// Shows those of a kind, or the one that is named: a line for each, or everything.
pub(super) async fn status(
    kind: StationKind,
    name: Option<&Name>,
    details: bool,
    context: &Context,
) -> anyhow::Result<()> {
    let all = context.client().stations().await?;
    let (word, empty) = match kind {
        StationKind::Collector => {
            ("collector", "No collectors. Make one: handfast collector create NAME")
        }
        StationKind::Relay => (
            "relay",
            "No relays. Make one: handfast relay create NAME --service SERVICE --backend HOST:PORT",
        ),
    };
    let of_kind = all.into_iter().filter(|one| one.kind == kind).collect();
    let stations = edge::named(of_kind, name, word, |one: &StationView| &one.name)?;
    context.output.show(&stations, |page| {
        table(page, &stations, empty);
        if details {
            self::details(page, &stations);
        }
    })
}

/// A line for each.
fn table(page: &mut Page, stations: &[StationView], empty: &str) {
    let rows: Vec<Vec<String>> = stations.iter().map(row).collect();
    let header = ["NAME", "STATE", "PORTS", "OPEN", "ACCEPTED", "REFUSED", "RECORDS GO"];
    page.table(&header, &rows, empty);
}

fn row(one: &StationView) -> Vec<String> {
    let ports: Vec<String> = one
        .ports
        .iter()
        .map(|port| {
            let place = port.address.as_deref().unwrap_or("its socket");
            format!("{} {place} {}", port.name, port.mode)
        })
        .collect();
    let open: usize = one
        .ports
        .iter()
        .map(|port| port.connections.plaintext + port.connections.tls + port.connections.mtls)
        .sum();
    vec![
        one.name.clone(),
        words::edge(one.state).to_owned(),
        ports.join(", "),
        open.to_string(),
        one.accepted.values().sum::<u64>().to_string(),
        one.refused.values().sum::<u64>().to_string(),
        whereto(one),
    ]
}

/// Where its records go, and how far they are.
pub(super) fn whereto(one: &StationView) -> String {
    match (&one.forward, &one.store) {
        (Some(forward), _) => {
            let to = match (&forward.connected, &forward.fault) {
                (Some(backend), _) => format!("to {backend}"),
                (None, Some(_)) => "to no backend".to_owned(),
                // One is dialled when there is something to send.
                (None, None) => "to no backend yet".to_owned(),
            };
            format!("{to}, {} sent, {} wait", forward.sent, words::bytes(forward.lag_bytes))
        }
        (None, Some(store)) => format!("into its store, {}", words::bytes(store.bytes)),
        (None, None) => String::new(),
    }
}

/// Everything about each.
fn details(page: &mut Page, stations: &[StationView]) {
    for one in stations {
        let total = |counts: &std::collections::BTreeMap<String, u64>| {
            let each: Vec<String> = counts.iter().map(|(what, n)| format!("{n} {what}")).collect();
            each.join(", ")
        };
        let some = |count: u64| if count == 0 { String::new() } else { count.to_string() };
        page.heading(&format!("{} {}", one.kind, one.name));
        let open: Vec<String> = one
            .ports
            .iter()
            .map(|port| {
                let of = port.connections;
                format!(
                    "{} {} {}: {} plaintext, {} tls, {} mtls",
                    port.name,
                    port.address.as_deref().unwrap_or("its socket"),
                    port.mode,
                    of.plaintext,
                    of.tls,
                    of.mtls
                )
            })
            .collect();
        let forward = one.forward.as_ref();
        page.fields(&[
            ("state", words::edge(one.state).to_owned()),
            ("connections", open.join("\n")),
            ("accepted", total(&one.accepted)),
            ("refused", total(&one.refused)),
            ("handshakes refused", total(&one.handshakes_refused)),
            ("over quota", some(one.over_quota)),
            ("bad reports", total(&one.bad_reports)),
            ("clock skewed", total(&one.clock_skewed)),
            ("cut", total(&one.cut)),
            ("cut as revoked", some(one.connections_cut)),
            ("too many", some(one.connections_refused)),
            ("passed through", some(one.calls_passed)),
            ("records go", whereto(one)),
            ("duplicates", some(one.store.as_ref().map_or(0, |store| store.duplicates))),
            ("set aside", forward.map(aside).unwrap_or_default()),
            (
                "not forwarded",
                total(&forward.map(|it| it.not_forwarded_kinds.clone()).unwrap_or_default()),
            ),
            ("left out there", some(forward.map_or(0, |forward| forward.rejected))),
            (
                "dropped",
                some(
                    forward.map_or(0, |it| it.dropped)
                        + one.store.as_ref().map_or(0, |it| it.dropped),
                ),
            ),
            ("trouble", forward.and_then(|it| it.trouble.clone()).unwrap_or_default()),
        ]);
        troubles(page, one);
    }
}

/// What the backend refused for good, and what became of it.
fn aside(forward: &ForwardView) -> String {
    let counts = [
        (forward.set_aside, "refused for good since the start"),
        (forward.aside, "lie aside"),
        (forward.aside_dropped, "lost for want of room there"),
    ];
    let some = counts.iter().filter(|(count, _)| *count > 0);
    some.map(|(count, what)| format!("{count} {what}")).collect::<Vec<_>>().join(", ")
}

/// What keeps it from working.
pub(super) fn troubles(page: &mut Page, one: &StationView) {
    for problem in &one.problems {
        page.line(format!("{}: {}", problem.subject, problem.message));
        page.line(format!("  what to do: {}", problem.remedy));
    }
    if let Some(fault) = one.forward.as_ref().and_then(|forward| forward.fault.as_ref()) {
        page.line(fault.to_string());
    }
}
