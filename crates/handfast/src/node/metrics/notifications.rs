//! Whether those who are to be told of trouble are reached.

use super::{Snapshot, label, number};
use crate::node::core::Core;
use crate::node::notifying;

pub(super) fn add(snapshot: &mut Snapshot, core: &Core) {
    let receivers = core.state().deliveries.clone();
    let all: Vec<_> =
        receivers.iter().map(|(name, shown)| (name, notifying::deliveries(shown))).collect();
    let sent = all.iter().flat_map(|(name, figures)| {
        [("delivered", figures.delivered), ("failed", figures.failed)].map(|(outcome, n)| {
            (vec![("name", name.to_string()), ("outcome", outcome.to_owned())], number(n))
        })
    });
    snapshot.counter("handfast_notifications", "Attempts to deliver a notice", None, sent);
    let waiting =
        all.iter().map(|(name, figures)| (label("name", name), number(figures.waiting as u64)));
    snapshot.gauge("handfast_notifications_waiting", "Notices that wait", None, waiting);
}
