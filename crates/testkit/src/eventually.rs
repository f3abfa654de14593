//! Waiting for conditions, never for time: a test that needs longer on a busy machine only takes longer.

use std::time::{Duration, Instant};

use jiff::Timestamp;

/// How long a condition may take before the test fails. Far more than it takes on a quiet machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks until there is an answer. Fails the test, with `what`, when there is none within [`PATIENCE`].
#[track_caller]
pub fn eventually<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, ask)
}

/// The same with another limit.
#[track_caller]
pub fn within<T>(limit: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < limit, "not within {} s: {what}", limit.as_secs());
        std::thread::sleep(STEP);
    }
}

/// Asks until it is so.
#[track_caller]
pub fn until(what: &str, mut ask: impl FnMut() -> bool) {
    eventually(what, || ask().then_some(()));
}

/// The time, as the processes under test read it.
#[expect(
    clippy::disallowed_methods,
    reason = "what is compared with a real process needs the real time"
)]
pub fn now() -> Timestamp {
    Timestamp::now()
}

const STEP: Duration = Duration::from_millis(20);
