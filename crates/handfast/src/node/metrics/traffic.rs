//! Links, handshakes and flows.

use handfast_network::{LinkState, LinkStatus, NetworkStatus, Traffic};
use prometheus_client::registry::Unit;

use super::{Labels, Sample, Snapshot, alone, flag, label, number};

pub(super) fn add(snapshot: &mut Snapshot, network: &NetworkStatus) {
    links(snapshot, &network.links);
    snapshot.counter(
        "handfast_handshakes_accepted",
        "Handshakes that became link connections",
        None,
        alone(number(network.handshakes.accepted)),
    );
    let refused = network.handshakes.refused.iter();
    snapshot.counter(
        "handfast_handshakes_refused",
        "Handshakes that failed, by fault code",
        None,
        refused.map(|(code, n)| (label("fault", code), number(*n))),
    );
    flows(snapshot, network);
}

fn links(snapshot: &mut Snapshot, links: &[LinkStatus]) {
    let each = |pick: fn(&LinkStatus) -> f64| -> Vec<Sample> {
        links.iter().map(|l| (named(l), pick(l))).collect()
    };
    snapshot.gauge(
        "handfast_link_up",
        "1 while the link carries flows",
        None,
        each(|l| flag(l.state == LinkState::Up)),
    );
    snapshot.gauge(
        "handfast_link_connections",
        "TLS connections that carry the link",
        None,
        each(|l| number(l.connections as u64)),
    );
    snapshot.gauge(
        "handfast_link_flows",
        "Flows open on the link",
        None,
        each(|l| number(l.flows)),
    );
    let bytes = || Some(Unit::Bytes);
    snapshot.counter(
        "handfast_link_sent",
        "Payload sent over the link",
        bytes(),
        each(|l| number(l.bytes_out)),
    );
    snapshot.counter(
        "handfast_link_received",
        "Payload received over the link",
        bytes(),
        each(|l| number(l.bytes_in)),
    );
}

fn flows(snapshot: &mut Snapshot, network: &NetworkStatus) {
    let edges: Vec<(&str, String, Traffic)> = network
        .listeners
        .iter()
        .map(|l| ("listener", l.name.to_string(), l.traffic))
        .chain(network.connectors.iter().map(|c| ("connector", c.name.to_string(), c.traffic)))
        .collect();
    let each = |pick: fn(&Traffic) -> u64| -> Vec<Sample> {
        edges
            .iter()
            .map(|(kind, name, traffic)| {
                let labels = vec![("kind", (*kind).to_owned()), ("name", name.clone())];
                (labels, number(pick(traffic)))
            })
            .collect()
    };
    let bytes = || Some(Unit::Bytes);
    snapshot.counter("handfast_flows", "Flows taken since start", None, each(|t| t.total));
    snapshot.counter(
        "handfast_flows_failed",
        "Flows that reached no server or were reset",
        None,
        each(|t| t.failed),
    );
    snapshot.counter(
        "handfast_flow_received",
        "Bytes read from clients and servers",
        bytes(),
        each(|t| t.bytes_in),
    );
    snapshot.counter(
        "handfast_flow_sent",
        "Bytes written to clients and servers",
        bytes(),
        each(|t| t.bytes_out),
    );
    snapshot.gauge("handfast_flows_open", "Flows open now", None, each(|t| t.open));
}

fn named(link: &LinkStatus) -> Labels {
    vec![
        ("link", link.name.to_string()),
        ("direction", format!("{:?}", link.direction).to_lowercase()),
    ]
}
