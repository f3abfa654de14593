//! What was done about revocations, how far other sites have heard of them, and the lists that others publish.

use handfast_network::RevocationStatus;
use prometheus_client::registry::Unit;

use super::{Snapshot, alone, label, number, seconds};
use crate::clock;
use crate::node::core::Core;

/// Adds what the data plane knows.
pub(super) fn told(snapshot: &mut Snapshot, revocations: &RevocationStatus) {
    snapshot.gauge(
        "handfast_revocations",
        "Revocations that this node has recorded and tells other sites",
        None,
        alone(number(revocations.newest)),
    );
    snapshot.counter(
        "handfast_revocations_cut",
        "Link connections cut because of a revocation",
        None,
        alone(number(revocations.cut)),
    );
    let behind = revocations.sites.iter().map(|site| {
        let heard = site.acknowledged.unwrap_or(0);
        (label("site", &site.site), number(revocations.newest.saturating_sub(heard)))
    });
    snapshot.gauge(
        "handfast_revocations_unacknowledged",
        "Revocations that a linked site has yet to acknowledge",
        None,
        behind,
    );
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
}

/// Adds the lists that others publish.
pub(super) fn lists(snapshot: &mut Snapshot, core: &Core) {
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
