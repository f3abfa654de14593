//! Ports, links and services, as the node reports them.

use std::collections::BTreeMap;

use handfast_api::status::{
    EdgeState, FaultView, LinkDirection, LinkState, NodeStatus, RefusalView,
};
use handfast_api::telemetry::StationView;
use jiff::Timestamp;

use super::facts::{Facts, NodeFacts};
use super::report::{Check, Group};

const GROUP: Group = Group::Network;

pub(super) fn checks(facts: &Facts) -> Vec<Check> {
    let NodeFacts::Answers(status, faults) = &facts.node else { return Vec::new() };
    let mut checks = match &status.network_unknown {
        Some(unknown) => vec![not_known(unknown)],
        None => [ports(status), links(status), services(status)].concat(),
    };
    checks.extend(telemetry(&facts.stations));
    checks.push(refusals(&faults.refusals, facts.now));
    checks
}

/// Nothing is said of what is not known, neither that it is well nor that it is not.
fn not_known(unknown: &str) -> Check {
    Check::failed(
        "network-answers",
        GROUP,
        format!("how ports, links and services are is not known: {unknown}"),
        "ask again; if it stays so, see the node's log and how busy the machine is, and restart the node",
    )
}

fn ports(status: &NodeStatus) -> Vec<Check> {
    let id = "ports-open";
    let accesses =
        status.accesses.iter().map(|one| ("access", &one.name, one.port, one.state, &one.fault));
    let listeners =
        status.listeners.iter().map(|one| ("listener", &one.name, one.port, one.state, &one.fault));
    let all: Vec<_> = accesses.chain(listeners).collect();
    let closed: Vec<Check> = all
        .iter()
        .filter(|(.., state, fault)| *state == EdgeState::Failed || fault.is_some())
        .map(|(kind, name, port, _, fault)| {
            let (why, hint) = told(fault.as_ref());
            Check::failed(id, GROUP, format!("{kind} {name} is closed on port {port}{why}"), hint)
        })
        .collect();
    match (closed.is_empty(), all.len()) {
        (false, _) => closed,
        (true, 0) => vec![Check::skipped(id, GROUP, "no port is declared: this site only dials")],
        (true, 1) => vec![Check::ok(id, GROUP, "the declared port is open")],
        (true, count) => {
            vec![Check::ok(id, GROUP, format!("all of {count} declared ports are open"))]
        }
    }
}

fn links(status: &NodeStatus) -> Vec<Check> {
    let id = "links-up";
    let outgoing: Vec<_> =
        status.links.iter().filter(|link| link.direction == LinkDirection::Outgoing).collect();
    let down: Vec<Check> = outgoing
        .iter()
        .filter(|link| link.state != LinkState::Up)
        .map(|link| {
            let (why, hint) = told(link.fault.as_ref());
            Check::failed(
                id,
                GROUP,
                format!("link {} to {} is not up{why}", link.name, link.endpoint),
                hint,
            )
        })
        .collect();
    if !down.is_empty() {
        return down;
    }
    let incoming = status.links.len() - outgoing.len();
    let up = match outgoing.len() {
        1 => "the link is up".to_owned(),
        several => format!("all of {several} links are up"),
    };
    let linked = match incoming {
        1 => "1 site is linked to this one".to_owned(),
        several => format!("{several} sites are linked to this one"),
    };
    vec![match (outgoing.len(), incoming) {
        (0, 0) => Check::skipped(id, GROUP, "there is no link"),
        (0, _) => Check::ok(id, GROUP, linked),
        (_, 0) => Check::ok(id, GROUP, up),
        (_, _) => Check::ok(id, GROUP, format!("{up}, and {linked}")),
    }]
}

fn services(status: &NodeStatus) -> Vec<Check> {
    let id = "services-matched";
    let alone: Vec<Check> = status
        .listeners
        .iter()
        .filter(|listener| listener.state != EdgeState::Failed && !listener.has_matching_connector)
        .map(|listener| {
            Check::warning(
                id,
                GROUP,
                format!(
                    "nothing in the network serves `{}`, for which listener {} waits",
                    listener.routing_key, listener.name
                ),
                "declare a Connector of that routing key at the site that has the service",
            )
        })
        .collect();
    let unreachable =
        status.connectors.iter().filter(|one| one.state == EdgeState::Failed).map(|connector| {
            let (why, hint) = told(connector.fault.as_ref());
            Check::warning(
                id,
                GROUP,
                format!(
                    "connector {} does not reach {}:{}{why}",
                    connector.name, connector.host, connector.port
                ),
                hint,
            )
        });
    let mut checks = alone;
    checks.extend(unreachable);
    if checks.is_empty() && !(status.listeners.is_empty() && status.connectors.is_empty()) {
        checks.push(Check::ok(
            id,
            GROUP,
            "every listener has its service, and every service answers",
        ));
    }
    checks
}

fn telemetry(stations: &[StationView]) -> Vec<Check> {
    let id = "telemetry-flows";
    let called =
        |one: &StationView| format!("{} {}", one.kind.to_string().to_lowercase(), one.name);
    let mut checks = Vec::new();
    for one in stations {
        let called = called(one);
        for problem in &one.problems {
            let what = format!("{called} does not work: {}", problem.message);
            checks.push(Check::failed(id, GROUP, what, problem.remedy.clone()));
        }
        if let Some(fault) = one.forward.as_ref().and_then(|forward| forward.fault.as_ref()) {
            let (why, hint) = told(Some(fault));
            checks.push(Check::failed(
                id,
                GROUP,
                format!("{called} reaches no backend{why}"),
                hint,
            ));
        }
        checks.extend(one.forward.as_ref().and_then(|forward| aside(one, forward.aside)));
    }
    if checks.is_empty() && !stations.is_empty() {
        checks.push(Check::ok(
            id,
            GROUP,
            match stations.len() {
                1 => format!("{} works", called(&stations[0])),
                count => format!("all of {count} collectors and relays work"),
            },
        ));
    }
    checks
}

/// What a backend refused for good and nobody has sent again or thrown away.
fn aside(station: &StationView, records: u64) -> Option<Check> {
    let kind = station.kind.to_string().to_lowercase();
    let what = match records {
        0 => return None,
        1 => "1 record lies".to_owned(),
        many => format!("{many} records lie"),
    };
    Some(Check::warning(
        "telemetry-flows",
        GROUP,
        format!("{what} aside at {kind} {}: its backend refused them for good", station.name),
        format!(
            "see why: handfast {kind} aside ls {}; then `aside retry` or `aside drop`",
            station.name
        ),
    ))
}

fn refusals(refusals: &[RefusalView], now: Timestamp) -> Check {
    let id = "refusals-few";
    let mut codes: BTreeMap<&str, usize> = BTreeMap::new();
    for refusal in refusals.iter().filter(|one| now.duration_since(one.at).as_secs() < HOUR) {
        *codes.entry(refusal.fault.code.as_str()).or_default() += 1;
    }
    let count: usize = codes.values().sum();
    match codes.iter().max_by_key(|(_, count)| **count) {
        None => Check::ok(id, GROUP, "nobody was refused within the last hour"),
        Some((code, _)) => Check::warning(
            id,
            GROUP,
            match count {
                1 => format!("1 connection was refused within the last hour, as `{code}`"),
                _ => format!(
                    "{count} connections were refused within the last hour, most as `{code}`"
                ),
            },
            "`handfast status` shows who, and why",
        ),
    }
}

/// A fault at the end of a line, and what to do about it.
fn told(fault: Option<&FaultView>) -> (String, String) {
    match fault {
        Some(fault) => (format!(": {} [{}]", fault.message, fault.code), fault.remedy.clone()),
        None => (String::new(), "`handfast status` says more".to_owned()),
    }
}

const HOUR: i64 = 3600;
