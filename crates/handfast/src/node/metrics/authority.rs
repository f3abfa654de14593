//! What was decided and recorded: the audit log, revocations, denied actions.

use handfast_network::NetworkStatus;

use super::{Snapshot, alone, label, number};
use crate::node::core::Core;

pub(super) fn add(snapshot: &mut Snapshot, core: &Core, network: &NetworkStatus) {
    let rows = core.state().audit_rows;
    snapshot.gauge(
        "handfast_audit_rows",
        "Rows of the audit log that its newest signed head covers",
        None,
        rows.map(|rows| (Vec::new(), number(rows))),
    );
    let denied: Vec<_> = core
        .access()
        .denied()
        .iter()
        .map(|(action, count)| (label("action", action), number(*count)))
        .collect();
    snapshot.counter("handfast_denied", "Calls that the policies denied", None, denied);
    let revocations = &network.revocations;
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
}
