//! Notices when time does not pass as it should: the clock was set, or the machine was suspended.
//!
//! Compared are the time of day, which can be set, and the kernel's two clocks that cannot: one counts
//! the time of a suspended machine, the other does not. What follows from a jump is a turn at once, so
//! that what became due is renewed now, and a problem in `status`. Nothing is cut for it.

use std::sync::Arc;
use std::time::Duration;

use handfast_api::status::{ProblemSeverity, ProblemView};
use handfast_authority::Selection;
use handfast_pki::Name;
use handfast_store::Source;
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use super::core::Core;
use crate::clock::{self, Reading};

/// One jump of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Jump {
    pub(super) kind: JumpKind,
    /// By how much.
    pub(super) by: Duration,
    /// The time of day after it.
    pub(super) at: Timestamp,
    /// The clock was ahead for a while, and is back: what was made meanwhile is dated into the future.
    pub(super) is_return: bool,
}

/// What sort of jump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JumpKind {
    /// The clock was set back.
    Back,
    /// The clock was set forward.
    Forward,
    /// The machine was suspended.
    Suspended,
}

impl JumpKind {
    pub(super) const ALL: [Self; 3] = [Self::Back, Self::Forward, Self::Suspended];

    /// The stable text.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Back => "back",
            Self::Forward => "forward",
            Self::Suspended => "suspended",
        }
    }
}

/// What was seen of time so far.
#[derive(Debug)]
pub(super) struct TimeJumps {
    last: Reading,
    /// By how much the clock was set since the start, all settings together.
    set_by: SignedDuration,
    counts: [u64; 3],
    latest: Option<(Jump, Duration)>,
}

impl Default for TimeJumps {
    fn default() -> Self {
        Self::since(clock::reading())
    }
}

impl TimeJumps {
    pub(super) fn since(start: Reading) -> Self {
        Self { last: start, set_by: SignedDuration::ZERO, counts: [0; 3], latest: None }
    }

    /// Takes the next reading; says what is odd about it.
    pub(super) fn observe(&mut self, now: Reading) -> Option<Jump> {
        let before = std::mem::replace(&mut self.last, now);
        let passed = now.boot.saturating_sub(before.boot);
        let asleep = passed.saturating_sub(now.awake.saturating_sub(before.awake));
        let wall = now.wall.duration_since(before.wall);
        let set = wall - SignedDuration::try_from(passed).unwrap_or(SignedDuration::MAX);
        let (kind, by) = if set.unsigned_abs() >= TOLERANCE {
            let kind = if set.is_negative() { JumpKind::Back } else { JumpKind::Forward };
            (kind, set.unsigned_abs())
        } else if asleep >= TOLERANCE {
            (JumpKind::Suspended, asleep)
        } else {
            return None;
        };
        let was_ahead = self.set_by.unsigned_abs() >= TOLERANCE && self.set_by.is_positive();
        if kind != JumpKind::Suspended {
            self.set_by = self.set_by.saturating_add(set);
        }
        let jump = Jump { kind, by, at: now.wall, is_return: kind == JumpKind::Back && was_ahead };
        if let Some(count) = self.counts.get_mut(kind as usize) {
            *count += 1;
        }
        self.latest = Some((jump, now.boot));
        Some(jump)
    }

    /// How many there were, by kind.
    pub(super) fn counts(&self) -> impl Iterator<Item = (JumpKind, u64)> {
        JumpKind::ALL.into_iter().zip(self.counts)
    }

    /// What `status` says, for an hour after a jump.
    pub(super) fn problem(&self) -> Option<ProblemView> {
        let (jump, at) = self.latest?;
        if self.last.boot.saturating_sub(at) > SHOWN {
            return None;
        }
        let by = spoken(jump.by);
        let (message, remedy) = match jump.kind {
            JumpKind::Back => (
                format!("the clock was set back by {by}, to {}", whole(jump.at)),
                "check it (`timedatectl`). What is in use goes on; what was dated into the future is \
                 made anew, or waits for the time to come",
            ),
            JumpKind::Forward => (
                format!("the clock was set forward by {by}, to {}", whole(jump.at)),
                "check it (`timedatectl`). What became due was renewed at once; if the clock is wrong, \
                 set it right: what was made meanwhile is then made anew",
            ),
            JumpKind::Suspended => (
                format!("the machine was suspended for {by}, until {}", whole(jump.at)),
                "nothing, if that was meant. What became due was renewed at once",
            ),
        };
        Some(ProblemView {
            severity: ProblemSeverity::Warning,
            subject: "clock".to_owned(),
            file: None,
            line: None,
            message,
            remedy: remedy.to_owned(),
        })
    }
}

impl Core {
    /// Looks at the clocks once a second until the node stops.
    pub(super) async fn watch_time(self: Arc<Self>, shutdown: CancellationToken) {
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = tick.tick() => {}
            }
            let jump = self.state().time.observe(clock::reading());
            let Some(jump) = jump else { continue };
            tracing::warn!(
                kind = jump.kind.as_str(),
                seconds = jump.by.as_secs(),
                now = %jump.at,
                "time has jumped: everything is looked at again"
            );
            self.authority().try_again();
            if jump.is_return {
                self.make_anew_what_is_dated_ahead(jump.at).await;
            } else {
                self.nudge();
            }
        }
    }

    /// After the clock was ahead and is right again: what was made meanwhile would be valid only when
    /// that time comes, and nobody would accept it until then.
    async fn make_anew_what_is_dated_ahead(self: &Arc<Self>, now: Timestamp) {
        let report = self.state().report.clone();
        let names: Vec<Name> = report
            .iter()
            .flat_map(|report| &report.credentials)
            .filter(|facts| facts.source == Source::Managed)
            .filter(|facts| facts.not_before.is_some_and(|start| start > now))
            .map(|facts| facts.name.clone())
            .collect();
        if names.is_empty() {
            self.nudge();
            return;
        }
        tracing::warn!(?names, "made while the clock was ahead: made anew");
        if let Err(error) = self.renew_turn(Selection::Named(names)).await {
            tracing::warn!(%error, "nothing was made anew");
            self.nudge();
        }
    }
}

fn whole(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

fn spoken(by: Duration) -> String {
    // Rounded: between two readings a little time passes.
    match by.as_secs() {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds @ 120..=7_169 => format!("{} min", (seconds + 30) / 60),
        seconds => format!("{} h", (seconds + 1_800) / 3_600),
    }
}

const EVERY: Duration = Duration::from_secs(1);
/// What the kernel slews, and what a busy machine adds between two readings, is less.
const TOLERANCE: Duration = Duration::from_secs(5);
/// For so long `status` shows the last one.
const SHOWN: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine whose clocks go as they are told.
    struct Machine(Reading);

    impl Machine {
        fn new() -> Self {
            Self(Reading {
                wall: Timestamp::from_second(2_000_000_000).unwrap(),
                boot: Duration::from_secs(100),
                awake: Duration::from_secs(90),
            })
        }

        fn pass(&mut self, seconds: i64, set: i64, asleep: u64) -> Reading {
            let slept = Duration::from_secs(asleep);
            let passed = Duration::from_secs(u64::try_from(seconds).unwrap());
            self.0.boot += passed + slept;
            self.0.awake += passed;
            let wall =
                SignedDuration::from_secs(seconds + set) + SignedDuration::try_from(slept).unwrap();
            self.0.wall += wall;
            self.0
        }
    }

    #[test]
    fn time_that_passes_as_it_should_is_no_jump() {
        let mut machine = Machine::new();
        let mut time = TimeJumps::since(machine.0);
        for (seconds, set) in [(1, 0), (15, 1), (3600, -4), (1, 4), (0, 0)] {
            assert_eq!(time.observe(machine.pass(seconds, set, 0)), None);
        }
        assert_eq!(time.problem(), None);
        assert!(time.counts().all(|(_, count)| count == 0));
    }

    #[test]
    fn a_clock_that_is_set_and_a_machine_that_sleeps_are_told_apart() {
        const HOUR: i64 = 3600;
        for (set, asleep, kind, seconds, words) in [
            (25 * HOUR, 0, JumpKind::Forward, 90_000, "set forward by 25 h"),
            (-HOUR, 0, JumpKind::Back, 3600, "set back by 60 min"),
            (0, 90_000, JumpKind::Suspended, 90_000, "suspended for 25 h"),
            // A virtual machine that was stopped from outside has not noticed; its clock is set.
            (90_000, 3, JumpKind::Forward, 90_000, "set forward by 25 h"),
        ] {
            let mut machine = Machine::new();
            let mut time = TimeJumps::since(machine.0);
            let jump = time.observe(machine.pass(1, set, asleep)).unwrap();
            assert_eq!((jump.kind, jump.by.as_secs()), (kind, seconds));
            assert!(!jump.is_return);
            let problem = time.problem().unwrap();
            assert!(problem.message.contains(words), "{problem:?}");
            assert_eq!(time.observe(machine.pass(1, 0, 0)), None, "once");
            assert_eq!(time.counts().map(|(_, count)| count).sum::<u64>(), 1);
            time.observe(machine.pass(3601, 0, 0));
            assert_eq!(time.problem(), None, "an hour later it is history");
        }
    }

    #[test]
    fn a_clock_that_comes_back_from_the_future_is_recognised() {
        let mut machine = Machine::new();
        let mut time = TimeJumps::since(machine.0);
        assert!(!time.observe(machine.pass(1, 90_000, 0)).unwrap().is_return);
        assert!(time.observe(machine.pass(60, -90_000, 0)).unwrap().is_return);
        // From here on a step back is only a step back.
        assert!(!time.observe(machine.pass(60, -3600, 0)).unwrap().is_return);
        assert!(!time.observe(machine.pass(60, 3600, 0)).unwrap().is_return);
        assert!(!time.observe(machine.pass(60, -3600, 0)).unwrap().is_return);
    }
}
