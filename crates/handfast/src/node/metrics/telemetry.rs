//! Collectors and relays as metrics.

use std::collections::BTreeMap;

use handfast_api::telemetry::StationView;
use prometheus_client::registry::Unit;

use super::{Labels, Sample, Snapshot, flag, number};

pub(super) fn add(snapshot: &mut Snapshot, stations: &[StationView]) {
    let of = |one: &StationView| -> Labels {
        vec![("station", one.kind.to_string().to_lowercase()), ("name", one.name.clone())]
    };
    let with = |one: &StationView, key: &'static str, value: &str| {
        let mut labels = of(one);
        labels.push((key, value.to_owned()));
        labels
    };
    let each = |value: &dyn Fn(&StationView) -> u64| -> Vec<Sample> {
        stations.iter().map(|one| (of(one), number(value(one)))).collect()
    };
    let by = |key: &'static str, counts: &dyn Fn(&StationView) -> &BTreeMap<String, u64>| {
        let samples = stations.iter().flat_map(|one| {
            counts(one).iter().map(move |(what, count)| (with(one, key, what), number(*count)))
        });
        samples.collect::<Vec<Sample>>()
    };
    snapshot.counter(
        "handfast_telemetry_accepted",
        "Records that a collector or relay has accepted",
        None,
        by("kind", &|one| &one.accepted),
    );
    snapshot.counter(
        "handfast_telemetry_refused",
        "Records whose sender may not speak for whom they claim",
        None,
        by("kind", &|one| &one.refused),
    );
    snapshot.counter(
        "handfast_telemetry_handshakes_refused",
        "Handshakes that a collector has refused, by the code of the fault",
        None,
        by("fault", &|one| &one.handshakes_refused),
    );
    snapshot.counter(
        "handfast_telemetry_over_quota",
        "Calls that were refused because a quota was exceeded",
        None,
        each(&|one| one.over_quota),
    );
    snapshot.counter(
        "handfast_telemetry_bad_reports",
        "Calls that were refused for what was sent, by the reason",
        None,
        by("reason", &|one| &one.bad_reports),
    );
    snapshot.counter(
        "handfast_telemetry_clock_skewed",
        "Records that were of another time than they can be",
        None,
        by("kind", &|one| &one.clock_skewed),
    );
    snapshot.counter(
        "handfast_telemetry_cut",
        "Records that have more or longer names and tags than they are found by",
        None,
        by("kind", &|one| &one.cut),
    );
    snapshot.counter(
        "handfast_telemetry_received",
        "Size of the messages that were accepted",
        Some(Unit::Bytes),
        each(&|one| one.bytes),
    );
    snapshot.counter(
        "handfast_telemetry_connections_cut",
        "Open connections that were cut because of revocation",
        None,
        each(&|one| one.connections_cut),
    );
    let open = stations.iter().flat_map(|one| {
        let sum = |count: &dyn Fn(&handfast_api::telemetry::ConnectionCounts) -> usize| {
            let all: usize = one.ports.iter().map(|port| count(&port.connections)).sum();
            number(all as u64)
        };
        [
            (with(one, "transport", "plaintext"), sum(&|it| it.plaintext)),
            (with(one, "transport", "tls"), sum(&|it| it.tls)),
            (with(one, "transport", "mtls"), sum(&|it| it.mtls)),
        ]
    });
    snapshot.gauge("handfast_telemetry_connections", "Open connections", None, open);
    storing(snapshot, stations, &of);
    forwarding(snapshot, stations, &of);
}

fn storing(snapshot: &mut Snapshot, stations: &[StationView], of: &dyn Fn(&StationView) -> Labels) {
    let stored: Vec<_> =
        stations.iter().filter_map(|one| Some((of(one), one.store.as_ref()?))).collect();
    let each = |value: &dyn Fn(&handfast_api::telemetry::StoreView) -> u64| {
        let samples = stored.iter().map(|(labels, store)| (labels.clone(), number(value(store))));
        samples.collect::<Vec<Sample>>()
    };
    snapshot.gauge(
        "handfast_telemetry_store",
        "What a collector's store takes on the disk",
        Some(Unit::Bytes),
        each(&|store| store.bytes),
    );
    snapshot.counter(
        "handfast_telemetry_duplicates",
        "Segments that came again and were not kept twice",
        None,
        each(&|store| store.duplicates),
    );
    snapshot.gauge(
        "handfast_telemetry_series",
        "Fresh series of services' metrics, as of when they were scraped last",
        None,
        each(&|store| store.series as u64),
    );
    snapshot.counter(
        "handfast_telemetry_series_left_out",
        "Values that are not offered, since their series are too many or too long",
        None,
        each(&|store| store.series_left_out),
    );
}

fn forwarding(
    snapshot: &mut Snapshot,
    stations: &[StationView],
    of: &dyn Fn(&StationView) -> Labels,
) {
    let forwarding: Vec<_> =
        stations.iter().filter_map(|one| Some((of(one), one.forward.as_ref()?))).collect();
    let each = |value: &dyn Fn(&handfast_api::telemetry::ForwardView) -> f64| {
        let samples = forwarding.iter().map(|(labels, forward)| (labels.clone(), value(forward)));
        samples.collect::<Vec<Sample>>()
    };
    snapshot.gauge(
        "handfast_telemetry_lag",
        "What waits in the spool and the backend does not have yet",
        Some(Unit::Bytes),
        each(&|forward| number(forward.lag_bytes)),
    );
    snapshot.counter(
        "handfast_telemetry_sent",
        "Records that the backend has",
        None,
        each(&|forward| number(forward.sent)),
    );
    snapshot.counter(
        "handfast_telemetry_set_aside",
        "Records that the backend will never take",
        None,
        each(&|forward| number(forward.set_aside)),
    );
    snapshot.gauge(
        "handfast_telemetry_aside",
        "Records that the backend refused for good and that lie aside",
        None,
        each(&|forward| number(forward.aside)),
    );
    snapshot.counter(
        "handfast_telemetry_aside_dropped",
        "Records that lay aside and went because there was no room for more",
        None,
        each(&|forward| number(forward.aside_dropped)),
    );
    snapshot.counter(
        "handfast_telemetry_not_forwarded",
        "Records that were not sent because the backend's protocol has no words for them",
        None,
        forwarding.iter().flat_map(|(labels, forward)| {
            forward.not_forwarded_kinds.iter().map(|(kind, count)| {
                let kind = ("kind", kind.clone());
                (labels.iter().cloned().chain([kind]).collect(), number(*count))
            })
        }),
    );
    snapshot.counter(
        "handfast_telemetry_rejected",
        "Spans, points and lines that the backend left out of what it took",
        None,
        each(&|forward| number(forward.rejected)),
    );
    snapshot.counter(
        "handfast_telemetry_dropped",
        "Records that went unsent because the spool was full",
        None,
        each(&|forward| number(forward.dropped)),
    );
    snapshot.gauge(
        "handfast_telemetry_upstream_up",
        "Whether a backend is connected",
        None,
        each(&|forward| flag(forward.connected.is_some())),
    );
}
