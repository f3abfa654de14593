//! When an agent's certificate should be renewed, told to the agent that asks: in the manner of ACME's renewal information
//! (RFC 9773). Nobody is connected to agents, so this is how they hear of a rotation.
//!
//! A pure function of the certificate, of the rotations of what it leans on, and of how many ask. Nothing here signs, records
//! or reads a clock: `agent` has the facts.

use std::time::Duration;

use jiff::Timestamp;

use crate::rotation::{Cause, Phase, Rotation};
use crate::schedule::{later, renewal_window};

/// When to renew, why, and when to ask again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RenewalHint {
    /// The window to renew in: each agent takes a moment of its own in it, or none if the whole of it is past.
    pub start: Timestamp,
    /// Its end, which is never before its start.
    pub end: Timestamp,
    /// Why then.
    pub why: HintReason,
    /// How long not to ask again: so many ask.
    pub ask_after: Duration,
}

/// Why a certificate should be renewed when it should.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum HintReason {
    /// Its life is going by.
    Life,
    /// What signed it, or is above that, has a successor which signs now.
    Rotation,
    /// A key that it leans on is in the wrong hands.
    Taint,
}

impl HintReason {
    /// The stable text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Life => "life",
            Self::Rotation => "rotation",
            Self::Taint => "taint",
        }
    }
}

/// The validity of the certificate that is asked about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AskedAbout {
    /// Valid from.
    pub not_before: Timestamp,
    /// Valid until.
    pub not_after: Timestamp,
}

/// A rotation of something that the certificate leans on.
#[derive(Clone, Copy, Debug)]
pub struct Leaning<'a> {
    /// How the rotation stands.
    pub rotation: &'a Rotation,
    /// What is rotated.
    pub on: Lean,
    /// Whether the new key is what the certificate leans on already.
    pub follows: bool,
}

/// How a certificate leans on an authority.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lean {
    /// Its holder has to know that one to trust anybody.
    Anchor,
    /// That one signed it, and is itself trusted through another.
    Signer,
}

/// When this certificate should be renewed, if `asking` agents want to know of theirs.
///
/// By its life, as without asking, unless one of the rotations is in a hurry. Then the window begins with the step of the
/// rotation that makes it so, wherever `now` is, so that asking again does not move it; it is as long as it takes all who
/// ask to come one after another, and no longer than [`LONGEST_SPREAD`]. After a compromise it has no length: who hears of
/// it comes at once, and is spread by when he asks.
pub fn hint(certificate: AskedAbout, leanings: &[Leaning<'_>], asking: usize) -> RenewalHint {
    let AskedAbout { not_before, not_after } = certificate;
    let asking = u32::try_from(asking).unwrap_or(u32::MAX);
    let ask_after = (Duration::from_secs(1) / QUESTIONS_PER_SECOND).saturating_mul(asking);
    let ask_after = ask_after.clamp(SHORTEST_ASK, LONGEST_ASK);
    let urgent = leanings.iter().filter_map(|leaning| urgency(certificate, leaning));
    // A taint before a rotation, and of two the one that has waited for longer.
    let most = urgent.min_by_key(|(why, since)| (std::cmp::Reverse(*why), *since));
    let (start, end, why) = match most {
        None => {
            let (start, end) = renewal_window(not_before, not_after);
            (start, end, HintReason::Life)
        }
        Some((HintReason::Taint, since)) => (since, since, HintReason::Taint),
        Some((why, since)) => {
            let spread = (Duration::from_secs(1) / RENEWALS_PER_SECOND).saturating_mul(asking);
            (since, later(since, spread.min(LONGEST_SPREAD)), why)
        }
    };
    RenewalHint { start, end, why, ask_after }
}

/// Why this rotation wants the certificate renewed before its time, and since when; nothing if it does not.
fn urgency(certificate: AskedAbout, leaning: &Leaning<'_>) -> Option<(HintReason, Timestamp)> {
    let Leaning { rotation, on, follows } = *leaning;
    let since = rotation.since;
    // To the second, and rather too early: who renewed within the same second is asked once more.
    let before = crate::schedule::issued_at(certificate.not_before, certificate.not_after) < since;
    let forced = rotation.cause == Cause::Forced;
    let moved = if forced { HintReason::Taint } else { HintReason::Rotation };
    let urgent = match (rotation.phase, on) {
        // Before the new key signs: nobody vouches for it with the old one, so who does not know it then has nobody to ask any
        // more. (In peace he comes back over the cross certificate, and renews once instead of twice.) After the end: it knows
        // the old anchor still, and would believe whoever has its key.
        (Phase::Prepared | Phase::Revoked, Lean::Anchor) => {
            (forced && before).then_some(HintReason::Taint)
        }
        (Phase::Draining, _) => (!follows).then_some(moved),
        // What another key of before signed is older than this one's end.
        (Phase::Revoked, Lean::Signer) => (!follows && before).then_some(moved),
        (Phase::Preparing | Phase::RolledBack, _) | (Phase::Prepared, Lean::Signer) => None,
    };
    urgent.map(|why| (why, since))
}

/// How many agents are asked to renew in a second: each is a handshake, a signature and a write that waits for the disk, beside
/// everything else that a node does.
pub const RENEWALS_PER_SECOND: u32 = 20;

/// However many there are, the last one is not asked to wait for longer than this: a rotation waits for it.
pub const LONGEST_SPREAD: Duration = Duration::from_secs(600);

/// How many agents may ask in a second: each is a handshake and a few reads.
pub const QUESTIONS_PER_SECOND: u32 = 50;

/// However few there are, none has to ask again sooner.
pub const SHORTEST_ASK: Duration = Duration::from_secs(1);

/// However many there are, each may ask again after this long.
pub const LONGEST_ASK: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use handfast_pki::Fingerprint;
    use proptest::prelude::*;

    use super::*;
    use crate::schedule::span;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    /// A certificate of a day, issued then.
    fn issued(second: i64) -> AskedAbout {
        AskedAbout { not_before: at(second - 60), not_after: at(second + 86_400) }
    }

    fn rotation(cause: Cause, phase: Phase, since: i64) -> Rotation {
        Rotation::begin(Fingerprint([1; 32]), None, cause, "operator", "", at(since))
            .entering(phase, at(since))
    }

    fn of(certificate: AskedAbout, rotation: &Rotation, on: Lean, follows: bool) -> RenewalHint {
        hint(certificate, &[Leaning { rotation, on, follows }], 1)
    }

    #[test]
    fn in_peace_it_is_renewed_by_its_life() {
        let hint = hint(issued(0), &[], 1);
        assert_eq!((hint.why, hint.ask_after), (HintReason::Life, SHORTEST_ASK));
        assert_eq!((hint.start, hint.end.as_second()), (at(51_840), at(63_359).as_second()));
    }

    #[test]
    fn every_step_of_a_rotation_hurries_whom_it_must_and_nobody_else() {
        use Cause::{Asked, Forced, Scheduled};
        use HintReason::{Life, Rotation, Taint};
        use Lean::{Anchor, Signer};
        // The certificate was issued before the step, and leans on the old key.
        for (cause, phase, on, why) in [
            (Asked, Phase::Preparing, Anchor, Life),
            (Asked, Phase::Prepared, Anchor, Life),
            (Scheduled, Phase::Prepared, Anchor, Life),
            (Forced, Phase::Preparing, Anchor, Life),
            (Forced, Phase::Prepared, Anchor, Taint),
            (Forced, Phase::Prepared, Signer, Life),
            (Asked, Phase::Draining, Anchor, Rotation),
            (Scheduled, Phase::Draining, Signer, Rotation),
            (Forced, Phase::Draining, Anchor, Taint),
            (Forced, Phase::Draining, Signer, Taint),
            (Asked, Phase::Revoked, Anchor, Life),
            (Forced, Phase::Revoked, Anchor, Taint),
            (Asked, Phase::Revoked, Signer, Rotation),
            (Forced, Phase::Revoked, Signer, Taint),
            (Asked, Phase::RolledBack, Anchor, Life),
            (Forced, Phase::RolledBack, Signer, Life),
        ] {
            let rotation = rotation(cause, phase, 1000);
            let hint = of(issued(0), &rotation, on, false);
            assert_eq!(hint.why, why, "{cause} {phase} {on:?}");
            if why != Life {
                assert_eq!(hint.start, at(1000), "{cause} {phase} {on:?}");
            }
            if why == Taint {
                assert_eq!(hint.end, hint.start, "at once");
            }
            // What was issued since, under the new key, is left alone.
            let hint = of(issued(1001), &rotation, on, true);
            assert_eq!(hint.why, Life, "{cause} {phase} {on:?}");
        }
    }

    #[test]
    fn by_force_an_agent_first_learns_the_new_anchor_and_then_moves_to_it() {
        let prepared = rotation(Cause::Forced, Phase::Prepared, 1000);
        let knows = issued(1005);
        assert_eq!(of(issued(0), &prepared, Lean::Anchor, false).why, HintReason::Taint);
        assert_eq!(of(knows, &prepared, Lean::Anchor, false).why, HintReason::Life);
        let draining = prepared.entering(Phase::Draining, at(1010));
        assert_eq!(of(knows, &draining, Lean::Anchor, false).why, HintReason::Taint);
        let moved = issued(1015);
        assert_eq!(of(moved, &draining, Lean::Anchor, true).why, HintReason::Life);
        // And then it forgets the old one.
        let revoked = draining.entering(Phase::Revoked, at(1020));
        assert_eq!(of(moved, &revoked, Lean::Anchor, true).why, HintReason::Taint);
        assert_eq!(of(issued(1025), &revoked, Lean::Anchor, true).why, HintReason::Life);
    }

    #[test]
    fn the_more_there_are_the_longer_the_window_and_it_is_bounded() {
        let rotation = rotation(Cause::Asked, Phase::Draining, 1000);
        let spread = |asking| {
            let leaning = Leaning { rotation: &rotation, on: Lean::Anchor, follows: false };
            let hint = hint(issued(0), &[leaning], asking);
            (span(hint.start, hint.end), hint.ask_after)
        };
        assert_eq!(spread(0), (Duration::ZERO, SHORTEST_ASK));
        assert_eq!(spread(20), (Duration::from_secs(1), SHORTEST_ASK));
        assert_eq!(spread(10_000), (Duration::from_secs(500), Duration::from_secs(200)));
        assert_eq!(spread(usize::MAX), (LONGEST_SPREAD, LONGEST_ASK));
    }

    #[test]
    fn the_worst_of_several_counts() {
        let asked = rotation(Cause::Asked, Phase::Revoked, 500);
        let forced = rotation(Cause::Forced, Phase::Draining, 1000);
        let leanings = [
            Leaning { rotation: &asked, on: Lean::Signer, follows: false },
            Leaning { rotation: &forced, on: Lean::Anchor, follows: false },
        ];
        let hint = hint(issued(0), &leanings, 1);
        assert_eq!((hint.why, hint.start), (HintReason::Taint, at(1000)));
    }

    proptest! {
        #[test]
        fn a_window_is_one_and_ends_in_time(
            start in 0_i64..4_000_000,
            life in 1_i64..4_000_000,
            since in 0_i64..4_000_000,
            phase in proptest::sample::select(Phase::ALL.to_vec()),
            cause in proptest::sample::select(Cause::ALL.to_vec()),
            on in proptest::sample::select(vec![Lean::Anchor, Lean::Signer]),
            follows in any::<bool>(),
            asking in any::<usize>(),
        ) {
            let certificate = AskedAbout { not_before: at(start), not_after: at(start + life) };
            let rotation = rotation(cause, phase, since);
            let hint = hint(certificate, &[Leaning { rotation: &rotation, on, follows }], asking);
            prop_assert!(hint.start <= hint.end);
            prop_assert!(hint.ask_after >= SHORTEST_ASK && hint.ask_after <= LONGEST_ASK);
            match hint.why {
                HintReason::Life => prop_assert!(hint.end < certificate.not_after),
                _ => prop_assert!(span(hint.start, hint.end) <= LONGEST_SPREAD),
            }
        }
    }
}
