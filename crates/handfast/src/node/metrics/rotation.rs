//! Rotations: how far each is, and how many it waits for.

use handfast_authority::AuthorityStanding;
use prometheus_client::registry::Unit;

use super::{Sample, Snapshot, label, number, seconds};

pub(super) fn add(snapshot: &mut Snapshot, authorities: &[AuthorityStanding]) {
    let under_way: Vec<_> = authorities
        .iter()
        .filter_map(|one| Some((one, one.rotation.as_ref().filter(|each| each.is_under_way())?)))
        .collect();
    let phases = under_way.iter().map(|(one, rotation)| {
        let labels =
            vec![("authority", one.name.to_string()), ("phase", rotation.phase.to_string())];
        (labels, 1.0)
    });
    snapshot.gauge(
        "handfast_rotation_phase",
        "1 for the phase that an authority's rotation is in",
        None,
        phases,
    );
    let since = under_way
        .iter()
        .map(|(one, rotation)| (label("authority", &one.name), seconds(rotation.since)));
    snapshot.gauge(
        "handfast_rotation_phase_since_timestamp",
        "When that phase began",
        Some(Unit::Seconds),
        since,
    );
    // Zero where nothing is under way, so that an alert on it resolves.
    let laggards: Vec<Sample> = authorities
        .iter()
        .map(|one| (label("authority", &one.name), number(one.laggards.len() as u64)))
        .collect();
    snapshot.gauge(
        "handfast_rotation_laggards",
        "Sites and credentials that a rotation waits for",
        None,
        laggards,
    );
    let bundles = authorities
        .iter()
        .filter_map(|one| Some((label("authority", &one.name), number(one.sequence?))));
    snapshot.gauge(
        "handfast_bundle_sequence",
        "Number of the trust bundle that other sites are told",
        None,
        bundles,
    );
}
