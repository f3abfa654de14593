//! How long to wait before dialling again: a function of how often it failed, and of chance.

use std::time::Duration;

/// The first pause.
const FIRST: Duration = Duration::from_millis(200);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(15);

/// Doubles with each failure up to [`LONGEST`]; `dice` takes up to half of it away, so that many
/// sites that lost the same peer do not come back at once.
pub(super) fn pause(failures: u32, dice: u64) -> Duration {
    let full = FIRST.saturating_mul(1 << failures.min(16)).min(LONGEST);
    let span = u64::try_from(full.as_micros() / 2).unwrap_or(u64::MAX).max(1);
    full.saturating_sub(Duration::from_micros(dice % span))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_pause_grows_to_a_bound_and_never_vanishes(failures in 0u32.., dice: u64) {
            let pause = pause(failures, dice);
            prop_assert!(pause >= FIRST / 2 && pause <= LONGEST);
            if failures >= 7 {
                prop_assert!(pause >= LONGEST / 2);
            }
        }
    }
}
