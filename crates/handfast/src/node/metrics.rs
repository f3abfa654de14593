//! The metrics of a node, made from its status at the moment of asking. One file for each area below
//! `metrics/`; a new area adds its file and one line in [`Snapshot::of`], and rows in docs/operating.md.

mod authority;
mod credentials;
mod issuances;
mod notifications;
mod revocations;
mod rotation;
mod telemetry;
mod traffic;
mod vitals;

use handfast_api::health::NothingMeasured;
use handfast_api::telemetry::StationView;
use handfast_network::NetworkStatus;
use handfast_telemetry::keep::Keep;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::core::Core;
use crate::clock;

/// In OpenMetrics text format. Names follow Prometheus' conventions: base units, `_total` on counters.
pub(super) fn text(core: &Core) -> String {
    written(Snapshot::of(core))
}

/// The same of stations alone, for a process without a node.
pub(crate) fn of_stations(stations: &[StationView]) -> String {
    let mut snapshot = Snapshot::default();
    telemetry::add(&mut snapshot, stations);
    written(snapshot)
}

/// The page of what services have measured and a store has kept.
pub(crate) async fn measured(keep: Keep) -> Result<String, NothingMeasured> {
    let now = clock::now();
    let page = tokio::task::spawn_blocking(move || {
        keep.newest(now).map(|newest| handfast_api::telemetry::exposition(&newest))
    });
    let unreadable = |why: String| NothingMeasured::Unreadable(why);
    page.await
        .map_err(|error| unreadable(error.to_string()))?
        .map_err(|error| unreadable(error.to_string()))
}

fn written(snapshot: Snapshot) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(snapshot));
    let mut out = String::new();
    if let Err(error) = encode(&mut out, &registry) {
        tracing::error!(%error, "the metrics cannot be written");
    }
    out
}

type Labels = Vec<(&'static str, String)>;

/// The value with these labels.
type Sample = (Labels, f64);

/// One family of samples.
#[derive(Debug)]
struct Family {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    unit: Option<Unit>,
    samples: Vec<Sample>,
}

#[derive(Debug, Default)]
struct Snapshot(Vec<Family>);

impl Snapshot {
    fn of(core: &Core) -> Self {
        let mut snapshot = Self::default();
        vitals::add(&mut snapshot, core);
        credentials::add(&mut snapshot, &core.credential_facts());
        issuances::add(&mut snapshot, core);
        notifications::add(&mut snapshot, core);
        let authorities = core.state().authorities.clone();
        rotation::add(&mut snapshot, &authorities);
        authority::add(&mut snapshot, core);
        snapshot.network(core.network_status().as_ref().ok());
        telemetry::add(&mut snapshot, &super::admin::stations(core));
        revocations::lists(&mut snapshot, core);
        snapshot
    }

    /// What the data plane says. Nothing at all, if it says nothing: zeros would be lies.
    fn network(&mut self, network: Option<&NetworkStatus>) {
        self.gauge(
            "handfast_network_answers",
            "1 while the data plane says how it is; while 0, links, listeners, connectors, handshakes and told revocations are absent",
            None,
            alone(flag(network.is_some())),
        );
        if let Some(network) = network {
            traffic::add(self, network);
            revocations::told(self, &network.revocations);
        }
    }

    /// Something that goes up and down. `name` is without the unit, which the format appends.
    fn gauge(
        &mut self,
        name: &'static str,
        help: &'static str,
        unit: Option<Unit>,
        samples: impl IntoIterator<Item = Sample>,
    ) {
        self.family(name, help, MetricType::Gauge, unit, samples);
    }

    /// Something that is counted from the start. `name` is without unit and `_total`.
    fn counter(
        &mut self,
        name: &'static str,
        help: &'static str,
        unit: Option<Unit>,
        samples: impl IntoIterator<Item = Sample>,
    ) {
        self.family(name, help, MetricType::Counter, unit, samples);
    }

    fn family(
        &mut self,
        name: &'static str,
        help: &'static str,
        kind: MetricType,
        unit: Option<Unit>,
        samples: impl IntoIterator<Item = Sample>,
    ) {
        let samples = samples.into_iter().collect();
        self.0.push(Family { name, help, kind, unit, samples });
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

/// One value without labels.
fn alone(value: f64) -> [Sample; 1] {
    [(Vec::new(), value)]
}

fn label(key: &'static str, value: impl ToString) -> Labels {
    vec![(key, value.to_string())]
}

#[expect(clippy::cast_precision_loss, reason = "metrics are floating point by definition")]
fn number(n: u64) -> f64 {
    n as f64
}

fn flag(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}

fn seconds(at: jiff::Timestamp) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "exact for the next 285 million years")]
    let seconds = at.as_second() as f64;
    seconds
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(network: Option<&NetworkStatus>) -> String {
        let mut snapshot = Snapshot::default();
        snapshot.network(network);
        written(snapshot)
    }

    #[test]
    fn what_is_not_known_is_absent_and_said() {
        let known = page(Some(&NetworkStatus::default()));
        assert!(known.contains("handfast_network_answers{} 1.0"), "{known}");
        assert!(known.contains("handfast_handshakes_accepted_total{} 0.0"), "{known}");
        let unknown = page(None);
        assert!(unknown.contains("handfast_network_answers{} 0.0"), "{unknown}");
        for family in ["handshakes", "link", "flows", "revocation"] {
            assert!(!unknown.contains(&format!("\nhandfast_{family}")), "{unknown}");
        }
    }
}
