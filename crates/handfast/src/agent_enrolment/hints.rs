//! When the site that enrolled an agent is asked when to renew, and what its answers count for. Pure: the answers, and the time.
//!
//! An answer can only hasten a renewal, and less and less often: whatever is answered, the certificate is renewed by its life,
//! and not in a loop. No answer changes nothing.

use std::time::Duration;

use handfast_api::grants::SuggestedWindow;
use handfast_authority::moment_between;
use handfast_pki::Fingerprint;
use jiff::{SignedDuration, Timestamp};

/// What was asked, and what was answered.
#[derive(Clone, Debug)]
pub(crate) struct Hints {
    /// The usual time between two questions.
    every: Duration,
    /// Not to ask before this.
    ask_at: Option<Timestamp>,
    /// How often it was asked: the seed of the next jitter.
    asked: u64,
    /// Questions in a row without an answer.
    unanswered: u32,
    /// When to renew, by the last answer.
    hinted: Option<Timestamp>,
    /// The last renewal that an answer hastened, and how many there were in a row.
    hastened_at: Option<Timestamp>,
    hastened: u32,
}

impl Hints {
    /// Asks this often, within [`SHORTEST_EVERY`] and [`LONGEST_EVERY`].
    pub(crate) fn every(every: Duration) -> Self {
        let every = every.clamp(SHORTEST_EVERY, LONGEST_EVERY);
        Self {
            every,
            ask_at: None,
            asked: 0,
            unanswered: 0,
            hinted: None,
            hastened_at: None,
            hastened: 0,
        }
    }

    /// When it is asked next. The first time some time within the usual one: a fleet that is started together does not ask
    /// together.
    pub(super) fn ask_at(&mut self, of: &Fingerprint, now: Timestamp) -> Timestamp {
        let first = || moment_between(now, later(now, self.every), of.as_bytes());
        // A clock that was set back would make it wait for as long.
        let sound = |at: &Timestamp| *at <= later(now, LONGEST_EVERY * 2);
        *self.ask_at.insert(self.ask_at.filter(sound).unwrap_or_else(first))
    }

    /// When the certificate is to be renewed by what was answered; not before its turn, however often that is said.
    pub(super) fn renew_at(&self) -> Option<Timestamp> {
        let turn = self.hastened_at.map(|last| later(last, self.pause()));
        self.hinted.map(|at| turn.map_or(at, |turn| turn.max(at)))
    }

    /// An answer: the window, and after how long it may be asked again. `usual` is when the certificate is renewed without any.
    pub(super) fn answered(
        &mut self,
        window: SuggestedWindow,
        ask_after: Duration,
        usual: Timestamp,
        of: &Fingerprint,
        now: Timestamp,
    ) {
        let at = moment_between(window.start, window.end, of.as_bytes());
        self.hinted = Some(at).filter(|at| *at < usual);
        if self.hinted.is_none() {
            (self.hastened, self.hastened_at) = (0, None);
        }
        self.unanswered = 0;
        self.ask_again(self.every.max(ask_after.min(LONGEST_EVERY)), of, now);
    }

    /// There was no answer: asked again later and later, for nobody is helped by many who ask somebody who cannot answer.
    /// True the first time.
    pub(super) fn unanswered(&mut self, of: &Fingerprint, now: Timestamp) -> bool {
        self.unanswered = self.unanswered.saturating_add(1);
        let doubled = self.every.saturating_mul(1 << (self.unanswered - 1).min(16));
        self.ask_again(doubled.min(LONGEST_EVERY), of, now);
        self.unanswered == 1
    }

    /// Whether the last question was answered, or none was asked.
    pub(super) fn are_answered(&self) -> bool {
        self.unanswered == 0
    }

    /// There is a new certificate: what was said was of the one before.
    pub(super) fn renewed(&mut self, now: Timestamp) {
        if self.renew_at().is_some_and(|at| at <= now) {
            self.hastened = self.hastened.saturating_add(1);
            self.hastened_at = Some(now);
        }
        self.hinted = None;
    }

    /// The time between two renewals that answers hasten: doubled with each after the first few, until an answer lets the
    /// certificate live.
    fn pause(&self) -> Duration {
        self.every.saturating_mul(1 << self.hastened.saturating_sub(BELIEVED).min(16))
    }

    /// Between nine and eleven tenths of `wait` from now.
    fn ask_again(&mut self, wait: Duration, of: &Fingerprint, now: Timestamp) {
        self.asked = self.asked.wrapping_add(1);
        let seed = [of.as_bytes().as_slice(), &self.asked.to_be_bytes()].concat();
        let (from, to) = (later(now, wait * 9 / 10), later(now, wait * 11 / 10));
        self.ask_at = Some(moment_between(from, to, &seed));
    }
}

/// How often to ask, as it is typed.
pub(crate) fn interval(text: &str) -> Result<Duration, String> {
    let between = SHORTEST_EVERY..=LONGEST_EVERY;
    let read = handfast_authority::parse_duration(text).filter(|every| between.contains(every));
    read.ok_or_else(|| "write a duration between 1s and 1h, like 30s or 10m".to_owned())
}

fn later(time: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// The usual time between two questions, as it is typed: a rotation reaches everybody who asks within about as long.
pub(crate) const USUAL_EVERY: &str = "10m";

/// So many renewals in a row are hastened without a second thought: a root that is replaced by force takes three, and a CA
/// below it may have been replaced just before.
const BELIEVED: u32 = 4;

/// It is not asked more often, whatever is set or answered.
const SHORTEST_EVERY: Duration = Duration::from_secs(1);

/// And not less often, if somebody answers: then nobody would be reached.
const LONGEST_EVERY: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use handfast_authority::hint::{AskedAbout, Lean, Leaning, hint};
    use handfast_authority::renew_at;
    use handfast_authority::rotation::{Cause, Phase, Rotation};
    use proptest::prelude::*;

    use super::*;

    const OF: Fingerprint = Fingerprint([7; 32]);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn window(start: i64, end: i64) -> SuggestedWindow {
        SuggestedWindow { start: at(start), end: at(end) }
    }

    fn minutes(count: u64) -> Duration {
        Duration::from_secs(count * 60)
    }

    #[test]
    fn the_first_question_is_within_the_usual_time_and_the_next_are_that_far_apart() {
        let mut hints = Hints::every(minutes(10));
        let first = hints.ask_at(&OF, at(0));
        assert!(first >= at(0) && first <= at(600), "{first}");
        assert_eq!(hints.ask_at(&OF, at(1)), first, "looking at it again does not move it");
        assert_ne!(Hints::every(minutes(10)).ask_at(&Fingerprint([8; 32]), at(0)), first);
        hints.answered(window(50_000, 60_000), Duration::ZERO, at(55_000), &OF, at(300));
        let next = hints.ask_at(&OF, at(300));
        assert!(next >= at(840) && next <= at(960), "{next}");
    }

    #[test]
    fn a_window_that_is_past_is_at_once_and_a_later_one_than_usual_is_nothing() {
        let mut hints = Hints::every(minutes(10));
        hints.answered(window(0, 0), Duration::ZERO, at(50_000), &OF, at(100));
        assert_eq!(hints.renew_at(), Some(at(0)));
        hints.answered(window(60_000, 70_000), Duration::ZERO, at(50_000), &OF, at(100));
        assert_eq!(hints.renew_at(), None, "an answer hastens, and never delays");
        hints.answered(window(200, 300), Duration::ZERO, at(50_000), &OF, at(100));
        let moment = hints.renew_at().unwrap();
        assert!(moment >= at(200) && moment <= at(300), "{moment}");
    }

    #[test]
    fn who_says_now_each_time_is_believed_less_and_less_often() {
        let mut hints = Hints::every(minutes(10));
        let (mut now, mut renewals) = (at(0), Vec::new());
        // A day of questions, each answered by: at once.
        while now < at(86_400) {
            hints.answered(window(0, 0), Duration::ZERO, at(1_000_000), &OF, now);
            if hints.renew_at().is_some_and(|at| at <= now) {
                hints.renewed(now);
                renewals.push(now);
            }
            now = hints.ask_at(&OF, now);
        }
        assert!(renewals.len() > 3 && renewals.len() <= 12, "{renewals:?}");
        // One answer that lets it live, and it counts from the beginning.
        hints.answered(window(900_000, 900_000), Duration::ZERO, at(800_000), &OF, now);
        hints.answered(window(0, 0), Duration::ZERO, at(1_000_000), &OF, now);
        assert_eq!(hints.renew_at(), Some(at(0)));
    }

    #[test]
    fn without_answers_it_asks_later_and_later_and_says_so_once() {
        let mut hints = Hints::every(minutes(10));
        let (mut now, mut waits, mut told) = (at(0), Vec::new(), 0);
        for _ in 0..20 {
            told += u32::from(hints.unanswered(&OF, now));
            let next = hints.ask_at(&OF, now);
            waits.push(next.duration_since(now).as_secs());
            now = next;
        }
        assert_eq!(told, 1);
        assert!(waits[0] <= 660 && waits[19] >= 3240 && waits[19] <= 3960, "{waits:?}");
        hints.answered(window(900_000, 900_000), Duration::ZERO, at(0), &OF, now);
        assert!(
            hints.are_answered() && hints.ask_at(&OF, now).duration_since(now).as_secs() <= 660
        );
    }

    #[test]
    fn an_interval_is_typed_within_its_bounds() {
        assert_eq!(interval(USUAL_EVERY), Ok(minutes(10)));
        assert_eq!((interval("1s"), interval("1h")), (Ok(SHORTEST_EVERY), Ok(LONGEST_EVERY)));
        for text in ["0s", "500ms", "61m", "2d", "often", ""] {
            assert!(interval(text).is_err(), "{text}");
        }
    }

    /// A fleet of 10,000, enrolled over a day, when a root is rotated at 50,000 s: second by second, who renews when.
    fn renewals_of_a_fleet(cause: Cause) -> BTreeMap<i64, u32> {
        const FLEET: usize = 10_000;
        const ROTATED: i64 = 50_000;
        let rotation = Rotation::begin(Fingerprint([1; 32]), None, cause, "", "", at(ROTATED))
            .entering(Phase::Draining, at(ROTATED));
        let mut renewals = BTreeMap::new();
        for number in 0..FLEET {
            let mut of = Fingerprint([0; 32]);
            of.0[..8].copy_from_slice(&number.to_be_bytes());
            let issued = ROTATED - i64::try_from(number).unwrap() * 5;
            let certificate =
                AskedAbout { not_before: at(issued - 60), not_after: at(issued + 86_400) };
            let usual = renew_at(certificate.not_before, certificate.not_after, of.as_bytes());
            let mut hints = Hints::every(minutes(10));
            // The last question before the rotation was some time within the ten minutes before it.
            let mut now = moment_between(at(ROTATED - 600), at(ROTATED), &number.to_le_bytes());
            hints.answered(window(900_000, 900_000), Duration::ZERO, usual, &of, now);
            let renewed = loop {
                let ask_at = hints.ask_at(&of, now);
                match hints.renew_at().map_or(usual, |at| at.min(usual)) {
                    renew if renew <= ask_at => break renew.max(now),
                    _ => now = ask_at,
                }
                let leaning = Leaning { rotation: &rotation, on: Lean::Anchor, follows: false };
                let leanings = [leaning].into_iter().filter(|_| now >= at(ROTATED));
                let told = hint(certificate, &leanings.collect::<Vec<_>>(), FLEET);
                let window = SuggestedWindow { start: told.start, end: told.end };
                hints.answered(window, told.ask_after, usual, &of, now);
            };
            *renewals.entry(renewed.as_second() - at(ROTATED).as_second()).or_insert(0) += 1;
        }
        renewals
    }

    #[test]
    fn ten_thousand_agents_hear_of_a_rotation_within_minutes_and_do_not_come_at_once() {
        for cause in [Cause::Asked, Cause::Forced] {
            let renewals = renewals_of_a_fleet(cause);
            let (last, most) = (renewals.keys().max().unwrap(), renewals.values().max().unwrap());
            // The longest time between two questions, or the window, whichever ends later.
            assert!(*last <= 661, "{cause}: the last after {last} s");
            assert!(*most <= 80, "{cause}: {most} in one second");
        }
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_silence_it() {
        let mut hints = Hints::every(minutes(10));
        hints.answered(window(0, 0), Duration::ZERO, at(0), &OF, at(1_000_000));
        let next = hints.ask_at(&OF, at(0));
        assert!(next <= at(600), "{next}");
    }

    proptest! {
        #[test]
        fn however_it_is_answered_questions_and_renewals_have_a_floor(
            every in 0_u64..100_000,
            answers in proptest::collection::vec((any::<i32>(), any::<i32>(), any::<u64>()), 1..40),
        ) {
            let mut hints = Hints::every(Duration::from_secs(every));
            let (mut now, mut last) = (at(0), None);
            for (start, end, ask_after) in answers {
                let window = window(start.into(), end.into());
                hints.answered(window, Duration::from_secs(ask_after), at(40_000), &OF, now);
                if hints.renew_at().is_some_and(|at| at <= now) {
                    hints.renewed(now);
                    prop_assert!(last.is_none_or(|last| now.duration_since(last).as_secs_f64() >= 0.89));
                    last = Some(now);
                }
                let next = hints.ask_at(&OF, now);
                let wait = next.duration_since(now).as_secs_f64();
                prop_assert!((0.89..=3961.0).contains(&wait), "{wait}");
                now = next;
            }
        }
    }
}
