//! When to renew and when to try again, as pure functions of times and a stable seed.
//!
//! Nothing here reads a clock or remembers anything: any process that holds the same certificate
//! computes the same answer, so `handfast cert list` and the node never disagree.

use std::time::Duration;

use aws_lc_rs::digest;
use jiff::{SignedDuration, Timestamp};

/// When a credential is renewed: two thirds of its life, moved by up to ±10 % by `seed`.
///
/// The moment lies between 60 % and 73.4 % of the life, so never outside it. The seed (the
/// certificate's fingerprint, for us) makes the jitter stable across restarts, and different
/// between credentials that were issued together, so that a fleet does not renew in one second.
///
/// The life is counted from the moment of issuance, not from `not_before`: our issuers date
/// certificates back by [`ISSUANCE_CUSHION`] for peers whose clocks are behind, and a
/// short-lived credential measured from there would be due the moment it was made.
pub fn renew_at(not_before: Timestamp, not_after: Timestamp, seed: &[u8]) -> Timestamp {
    let start = issued_at(not_before, not_after);
    let life = span(start, not_after);
    let per_million = EARLIEST + u128::from(fraction(seed)) * SPREAD / u128::from(u32::MAX);
    later(start, scale(life, per_million, 1_000_000))
}

/// The first and the last moment that [`renew_at`] chooses, over all seeds.
pub fn renewal_window(not_before: Timestamp, not_after: Timestamp) -> (Timestamp, Timestamp) {
    let start = issued_at(not_before, not_after);
    let life = span(start, not_after);
    let after = |per_million| later(start, scale(life, per_million, 1_000_000));
    (after(EARLIEST), after(EARLIEST + SPREAD))
}

/// The moment between two that belongs to this seed; the first one, if they are no window.
pub fn moment_between(start: Timestamp, end: Timestamp, seed: &[u8]) -> Timestamp {
    later(start, scale(span(start, end), fraction(seed).into(), u32::MAX.into()))
}

/// How long a certificate has to live so that it is renewed with at least `grace` left, whatever its seed.
///
/// The other side of [`renew_at`]: whoever holds the certificate renews it by that rule, here or at
/// another site, so that its life alone decides what is left.
pub fn life_leaving(grace: Duration) -> Duration {
    let seconds = u64::from(grace.subsec_nanos() > 0).saturating_add(grace.as_secs());
    Duration::from_secs(seconds.saturating_mul(15).div_ceil(4))
}

/// What is left of a life at its latest renewal: 4/15, a little less than what [`renew_at`] leaves.
pub fn left_at_renewal(life: Duration) -> Duration {
    Duration::from_secs(life.as_secs().saturating_mul(4) / 15)
}

/// When a certificate was issued, as well as its dates can tell.
///
/// That is `not_before` plus the cushion, or `not_before` where the whole life is no longer
/// than the cushion (then another issuer made it).
pub fn issued_at(not_before: Timestamp, not_after: Timestamp) -> Timestamp {
    let start = later(not_before, ISSUANCE_CUSHION);
    if start < not_after { start } else { not_before }
}

/// The life a certificate was given: from its issuance to its end, zero if that is backwards.
pub fn lifetime(not_before: Timestamp, not_after: Timestamp) -> Duration {
    span(issued_at(not_before, not_after), not_after)
}

/// When to try again after `failures` failures in a row, the last one at `last`.
///
/// Doubles from two seconds, never past a tenth of the life that was left at `last`, so that at
/// least ten attempts fit into what remains. With nothing left to protect (`not_after` absent
/// or past) the ceiling is one minute.
pub fn retry_at(failures: u32, last: Timestamp, not_after: Option<Timestamp>) -> Timestamp {
    if failures == 0 {
        return last;
    }
    let ceiling = match not_after.map(|end| span(last, end)) {
        Some(left) if !left.is_zero() => (left / 10).max(SHORTEST_RETRY),
        _ => RETRY_WITHOUT_CREDENTIAL,
    };
    let doubled = FIRST_RETRY.saturating_mul(1 << (failures - 1).min(20));
    later(last, doubled.min(ceiling).min(LONGEST_RETRY))
}

/// The time from `from` to `to`; zero if `to` is not later.
pub(crate) fn span(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or(Duration::ZERO)
}

/// `time` moved on by `by`, stopping at the end of representable time.
pub(crate) fn later(time: Timestamp, by: Duration) -> Timestamp {
    SignedDuration::try_from(by)
        .ok()
        .and_then(|by| time.checked_add(by).ok())
        .unwrap_or(Timestamp::MAX)
}

/// A duration as people write it in a message: `36 s`, `14 min`, `23 h`, `1 d`.
pub(crate) fn spoken(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds @ 120..=7199 => format!("{} min", seconds / 60),
        seconds @ 7200..=172_799 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

fn scale(duration: Duration, by: u128, of: u128) -> Duration {
    let nanos = duration.as_nanos() * by / of;
    Duration::new(
        u64::try_from(nanos / 1_000_000_000).unwrap_or(u64::MAX),
        u32::try_from(nanos % 1_000_000_000).unwrap_or(0),
    )
}

/// A number spread evenly over `u32` by the seed.
fn fraction(seed: &[u8]) -> u32 {
    let hash = digest::digest(&digest::SHA256, seed);
    hash.as_ref().iter().take(4).fold(0, |value, byte| (value << 8) | u32::from(*byte))
}

/// What part of a life has gone by at the earliest renewal, in millionths, and how much more at the latest.
const EARLIEST: u128 = 600_000;
const SPREAD: u128 = 133_333;

/// How far our issuers date a certificate back.
pub const ISSUANCE_CUSHION: Duration = Duration::from_secs(60);
const FIRST_RETRY: Duration = Duration::from_secs(2);
const SHORTEST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(6 * 3600);
const RETRY_WITHOUT_CREDENTIAL: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_ten_second_leaf_is_not_due_when_it_is_made() {
        let made = at(1_000_000);
        let due = renew_at(at(1_000_000 - 60), at(1_000_010), b"seed");
        assert!(due >= later(made, Duration::from_secs(6)), "{due}");
        assert!(due <= later(made, Duration::from_millis(7_334)), "{due}");
    }

    #[test]
    fn different_seeds_spread() {
        let due: std::collections::BTreeSet<_> =
            (0_u32..64).map(|seed| renew_at(at(0), at(86_400), &seed.to_be_bytes())).collect();
        assert!(due.len() > 60, "{} distinct moments", due.len());
        let (first, last) = (due.first().unwrap(), due.last().unwrap());
        assert!(span(*first, *last) > Duration::from_secs(3600 * 2), "{first} .. {last}");
    }

    proptest! {
        #[test]
        fn renewal_is_inside_the_window(
            start in 0_i64..4_000_000_000,
            life in 61_i64..400_000_000,
            seed in any::<[u8; 32]>(),
        ) {
            let (not_before, not_after) = (at(start), at(start + life));
            let due = renew_at(not_before, not_after, &seed);
            let issued = issued_at(not_before, not_after);
            let total = span(issued, not_after);
            prop_assert!(due >= later(issued, total.mul_f64(0.5999)));
            prop_assert!(due <= later(issued, total.mul_f64(0.7334)));
            prop_assert!(due < not_after);
            prop_assert_eq!(due, renew_at(not_before, not_after, &seed));
            let (first, last) = renewal_window(not_before, not_after);
            prop_assert!(first <= due && due <= last);
            // A window of that kind is walked by the same seed to the same place.
            let walked = moment_between(first, last, &seed);
            prop_assert!(span(due.min(walked), due.max(walked)) <= total / 500_000 + Duration::from_secs(1));
        }

        #[test]
        fn a_moment_in_a_window_is_in_it(from in any::<i32>(), to in any::<i32>(), seed in any::<[u8; 32]>()) {
            let (start, end) = (at(from.into()), at(to.into()));
            let moment = moment_between(start, end, &seed);
            prop_assert!(moment >= start && moment <= end.max(start));
        }

        #[test]
        fn what_was_to_be_left_is_left(
            start in 0_i64..4_000_000_000,
            grace in 3_u64..10_000_000,
            seed in any::<[u8; 32]>(),
        ) {
            let life = life_leaving(Duration::from_secs(grace));
            // As an issuer dates it.
            let not_after = later(at(start), life);
            let not_before = at(start - 60);
            let due = renew_at(not_before, not_after, &seed);
            prop_assert!(span(due, not_after) >= Duration::from_secs(grace));
            prop_assert!(left_at_renewal(life) >= Duration::from_secs(grace));
            // And not a second more than that takes.
            let shorter = life.saturating_sub(Duration::from_secs(1));
            prop_assert!(left_at_renewal(shorter) < Duration::from_secs(grace));
        }

        #[test]
        fn renewal_survives_nonsense_dates(start in any::<i32>(), end in any::<i32>()) {
            let due = renew_at(at(i64::from(start)), at(i64::from(end)), b"x");
            prop_assert!(due >= at(i64::from(start)));
        }

        #[test]
        fn a_retry_is_later_and_leaves_room(
            failures in 1_u32..u32::MAX,
            last in 0_i64..4_000_000_000,
            left in 10_i64..400_000_000,
        ) {
            let retry = retry_at(failures, at(last), Some(at(last + left)));
            prop_assert!(retry > at(last));
            prop_assert!(span(at(last), retry) <= span(at(last), at(last + left)) / 10);
            prop_assert!(retry <= retry_at(failures.saturating_add(1), at(last), Some(at(last + left))));
        }
    }
}
