//! The metrics of a node, made from its status at the moment of asking.

use handfast_network::LinkState;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::core::Core;

/// In OpenMetrics text format. Names follow Prometheus' conventions: base units, `_total` on counters.
pub(super) fn text(core: &Core) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Snapshot::of(core)));
    let mut out = String::new();
    if let Err(error) = encode(&mut out, &registry) {
        tracing::error!(%error, "the metrics cannot be written");
    }
    out
}

type Labels = Vec<(&'static str, String)>;

/// One family of samples.
#[derive(Debug)]
struct Family {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    unit: Option<Unit>,
    samples: Vec<(Labels, f64)>,
}

#[derive(Debug)]
struct Snapshot(Vec<Family>);

impl Snapshot {
    fn of(core: &Core) -> Self {
        let network = core.network_status();
        let report = core.state().report.clone();
        let mut families = Vec::new();
        let mut gauge = |name, help, unit, samples| {
            families.push(Family { name, help, kind: MetricType::Gauge, unit, samples });
        };
        let label = |key: &'static str, value: &dyn ToString| vec![(key, value.to_string())];

        let version = label("version", &env!("CARGO_PKG_VERSION"));
        gauge("handfast_build", "Version that runs", None, vec![(version, 1.0)]);
        let facts = report.iter().flat_map(|r| &r.credentials);
        let times = |pick: fn(&handfast_authority::CredentialFacts) -> Option<jiff::Timestamp>| {
            facts
                .clone()
                .filter_map(|f| Some((f, pick(f)?)))
                .map(|(f, at)| {
                    let labels =
                        vec![("name", f.name.to_string()), ("source", f.source.to_string())];
                    (labels, seconds(at))
                })
                .collect::<Vec<_>>()
        };
        let unit = || Some(Unit::Seconds);
        gauge(
            "handfast_credential_not_before_timestamp",
            "Start of validity",
            unit(),
            times(|f| f.not_before),
        );
        gauge(
            "handfast_credential_not_after_timestamp",
            "End of validity",
            unit(),
            times(|f| f.not_after),
        );
        gauge(
            "handfast_credential_renew_at_timestamp",
            "When it is renewed",
            unit(),
            times(|f| f.renew_at),
        );
        let states = facts
            .clone()
            .map(|f| (vec![("name", f.name.to_string()), ("state", f.state.to_string())], 1.0))
            .collect();
        gauge(
            "handfast_credential_state",
            "1 for the state that the credential is in",
            None,
            states,
        );
        let problems = core.problems().len();
        gauge(
            "handfast_problems",
            "Problems that `handfast status` shows",
            None,
            vec![(vec![], number(problems as u64))],
        );

        let link = |l: &handfast_network::LinkStatus| {
            vec![
                ("link", l.name.to_string()),
                ("direction", format!("{:?}", l.direction).to_lowercase()),
            ]
        };
        let up =
            network.links.iter().map(|l| (link(l), f64::from(u8::from(l.state == LinkState::Up))));
        gauge("handfast_link_up", "1 while the link carries flows", None, up.collect());
        let connections = network.links.iter().map(|l| (link(l), number(l.connections as u64)));
        gauge(
            "handfast_link_connections",
            "TLS connections that carry the link",
            None,
            connections.collect(),
        );
        let flows = network.links.iter().map(|l| (link(l), number(l.flows)));
        gauge("handfast_link_flows", "Flows open on the link", None, flows.collect());

        let mut counter = |name, help, unit, samples| {
            families.push(Family { name, help, kind: MetricType::Counter, unit, samples });
        };
        let bytes = || Some(Unit::Bytes);
        let sent = network.links.iter().map(|l| (link(l), number(l.bytes_out)));
        counter("handfast_link_sent", "Payload sent over the link", bytes(), sent.collect());
        let received = network.links.iter().map(|l| (link(l), number(l.bytes_in)));
        counter(
            "handfast_link_received",
            "Payload received over the link",
            bytes(),
            received.collect(),
        );
        counter(
            "handfast_handshakes_accepted",
            "Handshakes that became link connections",
            None,
            vec![(vec![], number(network.handshakes.accepted))],
        );
        let refused = network.handshakes.refused.iter();
        let refused = refused.map(|(code, n)| (vec![("fault", code.clone())], number(*n)));
        counter(
            "handfast_handshakes_refused",
            "Handshakes that failed, by fault code",
            None,
            refused.collect(),
        );
        let edges: Vec<_> = network
            .listeners
            .iter()
            .map(|l| ("listener", l.name.to_string(), l.traffic))
            .chain(network.connectors.iter().map(|c| ("connector", c.name.to_string(), c.traffic)))
            .collect();
        let edge = |pick: fn(&handfast_network::Traffic) -> u64| {
            edges
                .iter()
                .map(|(kind, name, t)| {
                    (vec![("kind", (*kind).to_owned()), ("name", name.clone())], number(pick(t)))
                })
                .collect::<Vec<_>>()
        };
        counter("handfast_flows", "Flows taken since start", None, edge(|t| t.total));
        counter(
            "handfast_flows_failed",
            "Flows that reached no server or were reset",
            None,
            edge(|t| t.failed),
        );
        counter(
            "handfast_flow_received",
            "Bytes read from clients and servers",
            bytes(),
            edge(|t| t.bytes_in),
        );
        counter(
            "handfast_flow_sent",
            "Bytes written to clients and servers",
            bytes(),
            edge(|t| t.bytes_out),
        );
        let open = edge(|t| t.open);
        families.push(Family {
            name: "handfast_flows_open",
            help: "Flows open now",
            kind: MetricType::Gauge,
            unit: None,
            samples: open,
        });
        Self(families)
    }
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        for family in &self.0 {
            let mut metric = encoder.encode_descriptor(
                family.name,
                family.help,
                family.unit.as_ref(),
                family.kind,
            )?;
            for (labels, value) in &family.samples {
                let sample = metric.encode_family(labels)?;
                match family.kind {
                    MetricType::Counter => ConstCounter::new(*value).encode(sample)?,
                    _ => ConstGauge::new(*value).encode(sample)?,
                }
            }
        }
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "metrics are floating point by definition")]
fn number(n: u64) -> f64 {
    n as f64
}

fn seconds(at: jiff::Timestamp) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "exact for the next 285 million years")]
    let seconds = at.as_second() as f64;
    seconds
}
