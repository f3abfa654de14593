//! The node itself: that it runs, its clock, its disk, its problems.

use prometheus_client::registry::Unit;

use super::{Snapshot, alone, flag, label, number, seconds};
use crate::node::core::Core;

pub(super) fn add(snapshot: &mut Snapshot, core: &Core) {
    let version = label("version", env!("CARGO_PKG_VERSION"));
    snapshot.gauge("handfast_build", "Version that runs", None, [(version, 1.0)]);
    snapshot.gauge(
        "handfast_start_timestamp",
        "When the node started",
        Some(Unit::Seconds),
        alone(seconds(core.started)),
    );
    let problems = core.problems().len();
    snapshot.gauge(
        "handfast_problems",
        "Problems that `handfast status` shows",
        None,
        alone(number(problems as u64)),
    );
    let state = core.state();
    let behind = state.report.as_ref().and_then(|report| report.skew.as_ref());
    snapshot.gauge(
        "handfast_clock_skew",
        "By how much the clock is behind what was issued before",
        Some(Unit::Seconds),
        alone(behind.map_or(0.0, |skew| skew.behind.as_secs_f64())),
    );
    let jumps: Vec<_> =
        state.time.counts().map(|(kind, n)| (label("kind", kind.as_str()), number(n))).collect();
    snapshot.counter("handfast_clock_jumps", "Jumps of time that were noticed", None, jumps);
    snapshot.gauge(
        "handfast_home_writable",
        "1 while the home can be written",
        None,
        alone(flag(state.disk.fault.is_none())),
    );
    let free = state.disk.free.map(|bytes| (Vec::new(), number(bytes)));
    snapshot.gauge("handfast_home_free", "Room left for the home", Some(Unit::Bytes), free);
}
