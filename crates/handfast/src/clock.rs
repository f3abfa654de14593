//! The one place where the command line reads the time of day. Everything below takes it as a parameter.

use std::time::Duration;

use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// Now, as the system clock has it.
#[expect(clippy::disallowed_methods, reason = "the edge of the program: here the clock is read")]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}

/// The clocks of this machine at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    /// The time of day, which people and programs set.
    pub(crate) wall: Timestamp,
    /// Since the machine started, with the time it was suspended; nobody sets it.
    pub(crate) boot: Duration,
    /// The same without the time it was suspended.
    pub(crate) awake: Duration,
}

/// All clocks, one after the other.
pub(crate) fn reading() -> Reading {
    Reading { wall: now(), boot: since(ClockId::Boottime), awake: since(ClockId::Monotonic) }
}

fn since(clock: ClockId) -> Duration {
    let read = clock_gettime(clock);
    Duration::new(u64::try_from(read.tv_sec).unwrap_or(0), u32::try_from(read.tv_nsec).unwrap_or(0))
}
