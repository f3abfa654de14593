//! How far other sites have heard what is revoked, and the lists that others publish. The counts are in
//! `authority`.

use handfast_network::NetworkStatus;
use prometheus_client::registry::Unit;

use super::{Snapshot, alone, label, number, seconds};
use crate::clock;
use crate::node::core::Core;

/// Adds the families.
pub(super) fn add(snapshot: &mut Snapshot, core: &Core, network: &NetworkStatus) {
    let revocations = &network.revocations;
    snapshot.gauge(
        "handfast_revocation_sequence",
        "Number of the newest revocation that other sites are told",
        None,
        alone(number(revocations.newest)),
    );
    snapshot.gauge(
        "handfast_revocation_acknowledged",
        "Number up to which a linked site has recorded the revocations of this node",
        None,
        revocations
            .sites
            .iter()
            .filter_map(|site| Some((label("site", &site.site), number(site.acknowledged?)))),
    );
    let now = seconds(clock::now());
    let lists = core.revoked.view.lists();
    snapshot.gauge(
        "handfast_revocation_list_age",
        "Age of a supplied revocation list",
        Some(Unit::Seconds),
        lists.iter().map(|list| {
            let full = list.view.full();
            let newest = list.view.delta().unwrap_or(full);
            (label("issuer", full.issuer()), now - seconds(newest.this_update()))
        }),
    );
    snapshot.gauge(
        "handfast_revocation_list_next_update_timestamp",
        "When a supplied revocation list is out of date",
        Some(Unit::Seconds),
        lists.iter().map(|list| {
            (label("issuer", list.view.full().issuer()), seconds(list.view.next_update()))
        }),
    );
}
