//! How long to wait before the next try: a function of how often it failed, and of chance.

use std::time::Duration;

/// The first pause.
const FIRST: Duration = Duration::from_millis(100);

/// The longest pause: whoever repairs a backend does not want to wait for its clients.
const LONGEST: Duration = Duration::from_secs(10);

/// Doubles with each failure up to ten seconds; `dice` takes up to half of it away, so that a thousand
/// relays that lost the same collector do not come back at once.
pub fn pause(failures: u32, dice: u64) -> Duration {
    let full = FIRST.saturating_mul(1 << failures.min(16)).min(LONGEST);
    let span = u64::try_from(full.as_micros() / 2).unwrap_or(u64::MAX).max(1);
    full.saturating_sub(Duration::from_micros(dice % span))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_pause_grows_to_a_bound_and_never_vanishes(failures in 0_u32.., dice: u64) {
            let pause = pause(failures, dice);
            prop_assert!(pause >= FIRST / 2 && pause <= LONGEST);
        }
    }
}
