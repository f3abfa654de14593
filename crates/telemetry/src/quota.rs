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
    /// Too many streams at the same time.
    Streams(u32),
}

/// What all callers have used.
#[derive(Debug, Default)]
pub struct Usage {
    quota: Quota,
    callers: HashMap<String, Used>,
}

#[derive(Debug)]
struct Used {
    bytes: Bucket,
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
        Self { quota, callers: HashMap::new() }
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
            if self.callers.len() >= CALLERS {
                // Whoever was silent for so long has full buckets again: forgetting changes nothing.
                self.callers.retain(|_, used| used.streams > 0 || now < used.last + FORGET);
            }
            let quota = self.quota;
            let used = Used {
                bytes: Bucket::full(quota.bytes_per_second, now),
                messages: Bucket::full(quota.messages_per_second, now),
                streams: 0,
                last: now,
            };
            self.callers.insert(caller.to_owned(), used);
        }
        // Inserted above where it was missing.
        self.callers.entry(caller.to_owned()).or_insert_with(|| Used {
            bytes: Bucket::full(0, now),
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

/// Callers that are remembered before the silent ones are forgotten.
const CALLERS: usize = 16_384;

/// After so long a silence a caller is as good as new.
const FORGET: Duration = Duration::from_secs(10);

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
    fn strangers_do_not_fill_the_memory() {
        let mut usage = Usage::new(Quota { messages_per_second: 1, ..Quota::default() });
        for caller in 0..3 * CALLERS {
            let at = Duration::from_millis(caller as u64);
            let _ = usage.take(&format!("caller {caller}"), 1, 0, at);
        }
        assert!(usage.len() <= CALLERS + 10_000, "{}", usage.len());
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
