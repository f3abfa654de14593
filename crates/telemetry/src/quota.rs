//! How much each caller may report: messages and bytes per second as buckets of tokens, streams as a
//! count. Pure: time is an argument. What is over the rate waits, which slows its sender down by flow
//! control; what would wait too long is refused. Nobody else notices either.

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
    /// The rate is far exceeded: after this time it may go on.
    Rate(Duration),
    /// Too many bytes of messages that are not whole, or not taken yet.
    Room,
    /// Too many streams at the same time.
    Streams(u32),
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

    /// Takes what a caller reports, and says how long it has to wait before it goes on.
    ///
    /// # Errors
    /// [`Over::Rate`] if the wait would be longer than [`PATIENCE`]; then nothing was taken.
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
        let wait = of_messages.take(messages, messages_per_second, now).max(of_bytes.take(
            bytes,
            bytes_per_second,
            now,
        ));
        if wait > PATIENCE {
            return Err(Over::Rate(wait));
        }
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
                // Whoever was silent for so long has full buckets again: forgetting changes nothing.
                self.callers.retain(|_, used| used.streams > 0 || now < used.last + FORGET);
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

impl Bucket {
    fn full(rate: u64, now: Duration) -> Self {
        Self { level: i128::from(rate) * SCALE, at: now }
    }

    /// Takes `amount` at `rate` per second, and says how long until the debt is paid. A bucket holds the
    /// tokens of one second.
    fn take(&mut self, amount: u64, rate: u64, now: Duration) -> Duration {
        if rate == 0 {
            return Duration::ZERO;
        }
        let rate = i128::from(rate);
        let passed = now.saturating_sub(self.at).as_micros();
        let earned = i128::try_from(passed).unwrap_or(i128::MAX).saturating_mul(rate) * SCALE
            / MICROS_PER_SECOND;
        self.level = (self.level + earned).min(rate * SCALE) - i128::from(amount) * SCALE;
        self.at = now.max(self.at);
        if self.level >= 0 {
            return Duration::ZERO;
        }
        let micros = -self.level * MICROS_PER_SECOND / (rate * SCALE);
        Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }
}

/// Longer than this nobody is made to wait: it is refused instead.
pub const PATIENCE: Duration = Duration::from_secs(2);

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
        assert_eq!(usage.take("a", 101, 0, at), Err(Over::Rate(Duration::from_millis(2010))));
        assert_eq!(usage.take("a", 100, 0, at), Ok(Duration::from_secs(2)), "nothing was taken");
        assert_eq!(usage.take("b", 100, 0, at), Ok(Duration::ZERO));
        assert_eq!(usage.take("a", 100, 0, Duration::from_secs(10)), Ok(Duration::ZERO));
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
        fn over_any_time_no_more_is_let_in_than_the_rate_and_two_seconds_more(
            rate in 1_u64..1000,
            calls in proptest::collection::vec((1_u64..500, 0_u64..2000), 1..100),
        ) {
            let mut usage = Usage::new(Quota { bytes_per_second: rate, ..Quota::default() });
            let (mut taken, mut now) = (0, Duration::ZERO);
            for (bytes, pause) in calls {
                now += Duration::from_millis(pause);
                if usage.take("a", 1, bytes, now).is_ok() {
                    taken += bytes;
                }
                let most = rate * 3 + u64::try_from(now.as_millis()).expect("small") * rate / 1000 + 1;
                prop_assert!(taken <= most, "{taken} > {most}");
            }
        }
    }
}
