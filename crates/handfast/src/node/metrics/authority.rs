//! What was decided and recorded: the audit log, denied actions.

use super::{Snapshot, label, number};
use crate::node::core::Core;

pub(super) fn add(snapshot: &mut Snapshot, core: &Core) {
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
}
