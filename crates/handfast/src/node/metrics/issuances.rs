//! Certificates that were asked for, by what became of it.

use super::{Snapshot, number};
use crate::node::core::Core;

pub(super) fn add(snapshot: &mut Snapshot, core: &Core) {
    let issuances = core.state().issuances.clone();
    let samples = issuances.into_iter().map(|((profile, outcome), count)| {
        let labels = vec![("profile", profile), ("outcome", outcome)];
        (labels, number(count))
    });
    snapshot.counter(
        "handfast_certificates_requested",
        "Certificates that others asked for, by outcome: ok, or the code of the refusal",
        None,
        samples,
    );
}
