//! How much each caller may report: messages and bytes per second as buckets of tokens, streams as a
//! count. Pure: time is an argument. What is over the rate waits, which slows its sender down by flow
//! control; what would wait too long is refused, unless its sender owes nothing: then it is taken, however much it is
//! (up to a minute's worth), and has to be paid off before the next. Nobody else notices any of it.

use std::collections::HashMap;
use std::time::Duration;

/// What one caller may do; zero means without limit.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Quota {
    /// Bytes of messages per second.
    pub bytes_per_second: u64,
    /// Messages per second.
    pub messages_per_second: u64,
    /// Streams at the same time, over all its connections.
    pub streams: u32,
}

/// What a caller is told that wants more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Over {
    /// It brings more at once than it may report in a [minute](MOST_AT_ONCE): that can never pass.
    Never(Excess),
    /// The rate is far exceeded: after this time nothing is owed any more, and whatever comes then is taken.
    Rate(Duration),
    /// Too many bytes of messages that are not whole, or not taken yet.
    Room,
    /// Too many streams at the same time.
    Streams(u32),
}

/// What is too much to come at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Excess {
    /// What it is too much of.
    pub of: Measure,
    /// How much it is.
    pub amount: u64,
    /// What the quota would have to allow in a second for it to pass.
    pub needed: u64,
}

/// What is counted by the second.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Measure {
    /// The bytes of messages.
    Bytes,
    /// Messages.
    Messages,
}

impl Measure {
    /// The setting that says how much of it there may be.
    pub fn setting(self) -> &'static str {
        match self {
            Self::Bytes => "quotas.bytesPerSecond",
            Self::Messages => "quotas.messagesPerSecond",
        }
    }
}

impl std::fmt::Display for Measure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Bytes => "bytes",
            Self::Messages => "messages",
        })
    }
}

/// What all callers have used.
#[derive(Debug, Default)]
pub struct Usage {
    quota: Quota,
    callers: HashMap<String, Used>,
    /// What all callers together have in memory.
    held: u64,
    /// Until then nobody is looked for who could be forgotten.
    look: Duration,
}

#[derive(Debug)]
struct Used {
    bytes: Bucket,
    held: u64,
    messages: Bucket,
    streams: u32,
    /// When it was last heard of, since the start.
    last: Duration,
}

/// Tokens left, in thousandths; below zero is a debt.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    level: i128,
    at: Duration,
}

impl Usage {
    /// Nothing used yet.
    pub fn new(quota: Quota) -> Self {
        Self { quota, callers: HashMap::new(), held: 0, look: Duration::ZERO }
    }

    /// The quota from now on.
    pub fn set(&mut self, quota: Quota) {
        self.quota = quota;
    }

    /// Takes what a caller reports, and says how long it has to wait before it goes on: until what it owes is paid, but
    /// never longer than [`PATIENCE`].
    ///
    /// # Errors
    /// Nothing was taken. [`Over::Rate`] if the wait would be longer, and the caller owes something from before;
    /// [`Over::Never`] if it is more than anybody may bring at once.
    pub fn take(
        &mut self,
        caller: &str,
        messages: u64,
        bytes: u64,
        now: Duration,
    ) -> Result<Duration, Over> {
        let Quota { bytes_per_second, messages_per_second, .. } = self.quota;
        if bytes_per_second == 0 && messages_per_second == 0 {
            return Ok(Duration::ZERO);
        }
        let used = self.used(caller, now);
        used.last = now;
        let (mut of_messages, mut of_bytes) = (used.messages, used.bytes);
        let taken = [
            of_messages.take(Measure::Messages, messages, messages_per_second, now),
            of_bytes.take(Measure::Bytes, bytes, bytes_per_second, now),
        ];
        let wait = match taken {
            [Ok(one), Ok(other)] => one.max(other),
            // Whoever may never pass is not told to wait; of two debts the longer one counts.
            [Err(never @ Over::Never(_)), _] | [_, Err(never @ Over::Never(_))] => {
                return Err(never);
            }
            [Err(Over::Rate(one)), Err(Over::Rate(other))] => {
                return Err(Over::Rate(one.max(other)));
            }
            [Err(over), _] | [_, Err(over)] => return Err(over),
        };
        (used.messages, used.bytes) = (of_messages, of_bytes);
        Ok(wait)
    }

    /// A stream begins; it has to be [`closed`](Self::close).
    ///
    /// # Errors
    /// [`Over::Streams`] with the limit.
    pub fn open(&mut self, caller: &str, now: Duration) -> Result<(), Over> {
        let limit = self.quota.streams;
        let used = self.used(caller, now);
        if limit > 0 && used.streams >= limit {
            return Err(Over::Streams(limit));
        }
        used.streams += 1;
        used.last = now;
        Ok(())
    }

    /// A stream has ended.
    pub fn close(&mut self, caller: &str) {
        if let Some(used) = self.callers.get_mut(caller) {
            used.streams = used.streams.saturating_sub(1);
        }
    }

    /// One of a caller's calls that is [open](Self::open) holds so many bytes now where it held `before`.
    ///
    /// # Errors
    /// [`Over::Room`] if that is more than one caller may hold ([`HELD_BY_ONE`]) or all of them ([`HELD`]); it holds
    /// what it held before.
    pub fn hold(&mut self, caller: &str, before: u64, bytes: u64) -> Result<(), Over> {
        let Some(used) = self.callers.get_mut(caller) else { return Err(Over::Room) };
        let own = used.held.saturating_sub(before).saturating_add(bytes);
        let all = self.held.saturating_sub(before).saturating_add(bytes);
        if bytes > before && (own > HELD_BY_ONE || all > HELD) {
            return Err(Over::Room);
        }
        (used.held, self.held) = (own, all);
        Ok(())
    }

    /// Callers that are remembered.
    pub fn len(&self) -> usize {
        self.callers.len()
    }

    /// True if nobody is.
    pub fn is_empty(&self) -> bool {
        self.callers.is_empty()
    }

    fn used(&mut self, caller: &str, now: Duration) -> &mut Used {
        if !self.callers.contains_key(caller) {
            if self.callers.len() >= CALLERS && now >= self.look {
                self.look = now + LOOK;
                self.callers.retain(|_, used| !used.may_be_forgotten(now));
            }
            let quota = self.quota;
            let used = Used {
                bytes: Bucket::full(quota.bytes_per_second, now),
                held: 0,
                messages: Bucket::full(quota.messages_per_second, now),
                streams: 0,
                last: now,
            };
            self.callers.insert(caller.to_owned(), used);
        }
        // Inserted above where it was missing.
        self.callers.entry(caller.to_owned()).or_insert_with(|| Used {
            bytes: Bucket::full(0, now),
            held: 0,
            messages: Bucket::full(0, now),
            streams: 0,
            last: now,
        })
    }
}

impl Used {
    /// Whoever has nothing open, owes nothing and was silent for so long has full buckets again: forgetting changes
    /// nothing.
    fn may_be_forgotten(&self, now: Duration) -> bool {
        let owes = self.bytes.level < 0 || self.messages.level < 0;
        let silence = if owes { FORGET + MOST_AT_ONCE } else { FORGET };
        self.streams == 0 && self.held == 0 && now >= self.last + silence
    }
}

impl Bucket {
    fn full(rate: u64, now: Duration) -> Self {
        Self { level: i128::from(rate) * SCALE, at: now }
    }

    /// Takes `amount` at `rate` per second, and says how long to wait. A bucket holds the tokens of one second. After
    /// an error it is to be thrown away.
    fn take(
        &mut self,
        of: Measure,
        amount: u64,
        rate: u64,
        now: Duration,
    ) -> Result<Duration, Over> {
        if rate == 0 {
            return Ok(Duration::ZERO);
        }
        let most = u128::from(rate) * u128::from(MOST_AT_ONCE.as_secs());
        if u128::from(amount) > most {
            let needed = amount.div_ceil(MOST_AT_ONCE.as_secs());
            return Err(Over::Never(Excess { of, amount, needed }));
        }
        let rate = i128::from(rate);
        let passed = now.saturating_sub(self.at).as_micros();
        let earned = i128::try_from(passed).unwrap_or(i128::MAX).saturating_mul(rate) * SCALE
            / MICROS_PER_SECOND;
        // Where the rate has become a lower one, the debt has not become a longer one.
        let longest = i128::from(MOST_AT_ONCE.as_secs()) * rate * SCALE;
        self.level = (self.level.max(-longest) + earned).min(rate * SCALE);
        self.at = now.max(self.at);
        let owed_before = self.owed(rate);
        self.level -= i128::from(amount) * SCALE;
        let owed = self.owed(rate);
        if owed > PATIENCE && !owed_before.is_zero() {
            return Err(Over::Rate(owed_before));
        }
        Ok(owed.min(PATIENCE))
    }

    /// How long until nothing is owed any more. Rounded up: whoever comes again after that is not told the same.
    fn owed(&self, rate: i128) -> Duration {
        let debt = (-self.level).max(0).saturating_mul(MICROS_PER_SECOND);
        let micros = (debt + rate * SCALE - 1) / (rate * SCALE);
        Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }
}

/// Longer than this nobody is made to wait: it is refused instead.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// The worth of so much time may come at once, from a caller who owes nothing. It is paid off before anything else of the
/// same caller is taken, so this is also how long one message can shut it out.
pub const MOST_AT_ONCE: Duration = Duration::from_secs(60);

/// Bytes of messages that are not whole, or not taken yet, of one caller in all its calls: a message of the largest
/// size, packed and unpacked.
pub const HELD_BY_ONE: u64 = 128 << 20;

/// The same of all callers.
pub const HELD: u64 = 512 << 20;

/// Callers that are remembered before the silent ones are forgotten.
const CALLERS: usize = 16_384;

/// After so long a silence a caller is as good as new.
const FORGET: Duration = Duration::from_secs(10);

/// So often it is looked for them: it takes a while when there are many.
const LOOK: Duration = Duration::from_millis(500);

const SCALE: i128 = 1000;
const MICROS_PER_SECOND: i128 = 1_000_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_flood_is_slowed_then_refused_and_others_do_not_notice() {
        let quota = Quota { messages_per_second: 100, ..Quota::default() };
        let mut usage = Usage::new(quota);
        let at = Duration::from_secs(1);
        assert_eq!(usage.take("a", 100, 0, at), Ok(Duration::ZERO), "a second's worth at once");
        assert_eq!(usage.take("a", 100, 0, at), Ok(Duration::from_secs(1)), "waits for its own");
        let refused = usage.take("a", 101, 0, at);
        assert_eq!(refused, Err(Over::Rate(Duration::from_secs(1))), "when nothing is owed");
        assert_eq!(usage.take("a", 100, 0, at), Ok(Duration::from_secs(2)), "nothing was taken");
        assert_eq!(usage.take("b", 100, 0, at), Ok(Duration::ZERO));
        assert_eq!(usage.take("a", 100, 0, Duration::from_secs(10)), Ok(Duration::ZERO));
    }

    /// A quota of 1 MB/s, an agent that reports little all the time, and once a snapshot of 5 MB.
    #[test]
    fn what_is_larger_than_the_bucket_is_taken_and_paid_off_and_never_refused_for_ever() {
        const MB: u64 = 1_000_000;
        let mut usage = Usage::new(Quota { bytes_per_second: MB, ..Quota::default() });
        let at = |tenths: u64| Duration::from_millis(100 * tenths);
        for tenth in 0..50 {
            assert_eq!(usage.take("a", 1, MB / 20, at(tenth)), Ok(Duration::ZERO));
        }
        assert_eq!(usage.take("a", 1, 5 * MB, at(50)), Ok(PATIENCE), "the bucket need not be full");
        // It owes four seconds. What is small waits for two of them at most.
        assert_eq!(usage.take("a", 1, MB / 20, at(60)), Err(Over::Rate(at(30))));
        assert_eq!(usage.take("a", 1, 5 * MB, at(89)), Err(Over::Rate(at(1))), "not a second one");
        assert_eq!(usage.take("a", 1, MB / 20, at(80)), Ok(Duration::from_millis(1050)));
        let mut never = Usage::new(Quota { bytes_per_second: MB, ..Quota::default() });
        assert_eq!(never.take("a", 1, 60 * MB, at(0)), Ok(PATIENCE), "a minute's worth");
        let excess = Excess { of: Measure::Bytes, amount: 60 * MB + 1, needed: MB + 1 };
        assert_eq!(never.take("b", 1, 60 * MB + 1, at(0)), Err(Over::Never(excess)));
        never.set(Quota { bytes_per_second: excess.needed, ..Quota::default() });
        assert_eq!(never.take("b", 1, 60 * MB + 1, at(0)), Ok(PATIENCE), "as it was told");
        // Of a debt that was made at a higher rate no more is left than can be made at the lower one.
        never.set(Quota { bytes_per_second: 10, ..Quota::default() });
        assert_eq!(never.take("a", 1, 1, at(0)), Err(Over::Rate(MOST_AT_ONCE)));
    }

    #[test]
    fn streams_are_counted_over_all_connections() {
        let mut usage = Usage::new(Quota { streams: 2, ..Quota::default() });
        let at = Duration::ZERO;
        assert_eq!(usage.open("a", at), Ok(()));
        assert_eq!(usage.open("a", at), Ok(()));
        assert_eq!(usage.open("a", at), Err(Over::Streams(2)));
        assert_eq!(usage.open("b", at), Ok(()));
        usage.close("a");
        assert_eq!(usage.open("a", at), Ok(()));
    }

    #[test]
    fn what_is_held_is_bounded_for_each_and_for_all_and_given_back() {
        let mut usage = Usage::new(Quota::default());
        let callers: Vec<String> = (0..5).map(|n| format!("caller {n}")).collect();
        for caller in &callers {
            usage.open(caller, Duration::ZERO).expect("without limit");
        }
        let (half, whole) = (HELD_BY_ONE / 2, HELD_BY_ONE);
        assert_eq!(usage.hold(&callers[0], 0, half), Ok(()));
        assert_eq!(
            usage.hold(&callers[0], 0, half + 1),
            Err(Over::Room),
            "a second call of the same"
        );
        assert_eq!(usage.hold(&callers[0], half, whole), Ok(()), "the first goes on");
        for caller in &callers[1..4] {
            assert_eq!(usage.hold(caller, 0, whole), Ok(()));
        }
        assert_eq!(usage.hold(&callers[4], 0, 1), Err(Over::Room), "all of it is held");
        assert_eq!(usage.hold(&callers[3], whole, 0), Ok(()));
        assert_eq!(usage.hold(&callers[4], 0, whole), Ok(()));
        assert_eq!(
            usage.hold("nobody", 0, 1),
            Err(Over::Room),
            "who has no call open holds nothing"
        );
    }

    /// Work for a call can go on for a moment when the call is over.
    #[test]
    fn whoever_holds_something_is_not_forgotten_before_it_is_given_back() {
        let mut usage = Usage::new(Quota { messages_per_second: 1, ..Quota::default() });
        usage.open("a", Duration::ZERO).expect("without limit");
        assert_eq!(usage.hold("a", 0, HELD_BY_ONE), Ok(()));
        usage.close("a");
        for caller in 0..2 * CALLERS {
            let at = FORGET * 2 + Duration::from_millis(caller as u64);
            usage.take(&format!("caller {caller}"), 1, 0, at).expect("its first");
        }
        assert_eq!(usage.hold("a", HELD_BY_ONE, 0), Ok(()));
        assert_eq!(usage.held, 0);
    }

    #[test]
    fn strangers_do_not_fill_the_memory() {
        let mut usage = Usage::new(Quota { messages_per_second: 1, ..Quota::default() });
        for caller in 0..3 * CALLERS {
            let at = Duration::from_millis(caller as u64);
            let _ = usage.take(&format!("caller {caller}"), 1, 0, at);
        }
        assert!(usage.len() <= CALLERS + 10_500, "{}", usage.len());
    }

    proptest! {
        #[test]
        fn over_any_time_no_more_is_let_in_than_the_rate_and_what_was_the_most_at_once(
            rate in 1_u64..1000,
            calls in proptest::collection::vec((1_u64..50_000, 0_u64..2000), 1..100),
        ) {
            let mut usage = Usage::new(Quota { bytes_per_second: rate, ..Quota::default() });
            let (mut taken, mut largest, mut now) = (0, 0, Duration::ZERO);
            for (bytes, pause) in calls {
                now += Duration::from_millis(pause);
                if usage.take("a", 1, bytes, now).is_ok() {
                    taken += bytes;
                    largest = bytes.max(largest);
                }
                let passed = u64::try_from(now.as_millis()).expect("small") * rate / 1000;
                let most = rate + passed + largest.max(rate * PATIENCE.as_secs()) + 1;
                prop_assert!(taken <= most, "{taken} > {most}");
                prop_assert!(largest <= rate * MOST_AT_ONCE.as_secs());
            }
        }

        #[test]
        fn whoever_waits_as_long_as_he_is_told_is_let_in(
            messages in 0_u64..50,
            bytes in 0_u64..5000,
            calls in proptest::collection::vec((1_u64..5000, 1_u64..50_000, 0_u64..2000), 1..100),
        ) {
            let quota =
                Quota { bytes_per_second: bytes, messages_per_second: messages, streams: 0 };
            let (mut usage, mut now) = (Usage::new(quota), Duration::ZERO);
            for (count, size, pause) in calls {
                now += Duration::from_millis(pause);
                match usage.take("a", count, size, now) {
                    Ok(wait) => prop_assert!(wait <= PATIENCE),
                    Err(Over::Rate(wait)) => {
                        prop_assert!(!wait.is_zero() && wait <= MOST_AT_ONCE, "{wait:?}");
                        now += wait;
                        prop_assert!(usage.take("a", count, size, now).is_ok());
                    }
                    Err(Over::Never(Excess { of, needed, .. })) => {
                        let mut raised = quota;
                        match of {
                            Measure::Bytes => raised.bytes_per_second = needed,
                            Measure::Messages => raised.messages_per_second = needed,
                        }
                        let told = Usage::new(raised).take("a", count, size, now);
                        // As far as that setting goes.
                        let passes = match told {
                            Err(Over::Never(excess)) => excess.of != of,
                            told => told.is_ok(),
                        };
                        prop_assert!(passes, "{told:?}");
                    }
                    Err(over) => prop_assert!(false, "{over:?}"),
                }
            }
        }

        #[test]
        fn whoever_owes_nothing_is_never_refused(
            rate in 1_u64..1000,
            calls in proptest::collection::vec(1_u64..60_000, 1..50),
        ) {
            let mut usage = Usage::new(Quota { bytes_per_second: rate, ..Quota::default() });
            let mut now = Duration::ZERO;
            for bytes in calls {
                let bytes = bytes.min(rate * MOST_AT_ONCE.as_secs());
                prop_assert!(usage.take("a", 1, bytes, now).is_ok(), "{bytes} at {now:?}");
                now += MOST_AT_ONCE;
            }
        }
    }
}
