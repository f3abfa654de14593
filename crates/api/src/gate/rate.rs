//! How often one address, or who is told apart otherwise, may ask: token buckets of bounded number. Time is a parameter.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

/// How often one source may ask.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rate {
    /// Requests that may come at once.
    pub burst: u32,
    /// Time after which one more is allowed.
    pub every: Duration,
}

/// Buckets by source address; an IPv6 source is its /64, which is what one host usually has.
#[derive(Debug)]
pub(crate) struct RateLimiter(Buckets<IpAddr>);

impl RateLimiter {
    pub(crate) fn new(rate: Rate, capacity: usize, now: Instant) -> Self {
        Self(Buckets::new(rate, capacity, now))
    }

    /// Takes one request of `source`, or says how long it must wait.
    pub(crate) fn take(&mut self, source: IpAddr, now: Instant) -> Result<(), Duration> {
        self.0.take(network_of(source), now)
    }

    /// Gives back what one request of `source` took.
    pub(crate) fn give_back(&mut self, source: IpAddr, now: Instant) {
        self.0.give_back(&network_of(source), now);
    }
}

/// A bucket for everybody who is told apart by a key.
#[derive(Debug)]
pub(crate) struct Buckets<K> {
    rate: Rate,
    by_key: HashMap<K, Bucket>,
    /// Shared by everybody who finds the table full.
    overflow: Bucket,
    capacity: usize,
}

/// When the bucket will be full again: the whole state of a token bucket in one moment (the generic
/// cell rate algorithm, ITU-T I.371 section 5.5).
#[derive(Clone, Copy, Debug)]
struct Bucket {
    full_at: Instant,
}

impl<K: Eq + Hash> Buckets<K> {
    pub(crate) fn new(rate: Rate, capacity: usize, now: Instant) -> Self {
        Self { rate, by_key: HashMap::new(), overflow: Bucket { full_at: now }, capacity }
    }

    /// Takes one request of `whose`, or says how long it must wait.
    pub(crate) fn take(&mut self, whose: K, now: Instant) -> Result<(), Duration> {
        if !self.by_key.contains_key(&whose) && self.by_key.len() >= self.capacity {
            // Those that are full again are forgotten: they would start full anyway.
            self.by_key.retain(|_, bucket| bucket.full_at > now);
        }
        let room = self.by_key.len() < self.capacity;
        let rate = self.rate;
        match self.by_key.get_mut(&whose) {
            Some(bucket) => bucket.take(rate, now),
            None if room => {
                self.by_key.entry(whose).or_insert(Bucket { full_at: now }).take(rate, now)
            }
            None => self.overflow.take(rate, now),
        }
    }

    /// Gives back what one request of `whose` took.
    fn give_back(&mut self, whose: &K, now: Instant) {
        // Who took from what the latecomers share leaves it to them.
        if let Some(bucket) = self.by_key.get_mut(whose) {
            bucket.give_back(self.rate, now);
        }
    }
}

impl Bucket {
    fn take(&mut self, rate: Rate, now: Instant) -> Result<(), Duration> {
        let full_at = self.full_at.max(now) + rate.every;
        let wait = full_at.saturating_duration_since(now + rate.every * rate.burst);
        if !wait.is_zero() {
            return Err(wait);
        }
        self.full_at = full_at;
        Ok(())
    }

    fn give_back(&mut self, rate: Rate, now: Instant) {
        self.full_at = self.full_at.checked_sub(rate.every).map_or(now, |full_at| full_at.max(now));
    }
}

fn network_of(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Rate, RateLimiter};

    const RATE: Rate = Rate { burst: 3, every: Duration::from_secs(2) };

    fn address(last: u16) -> IpAddr {
        let [high, low] = last.to_be_bytes();
        Ipv4Addr::new(192, 0, high, low).into()
    }

    #[test]
    fn a_burst_passes_then_one_per_period() {
        let start = Instant::now();
        let mut limiter = RateLimiter::new(RATE, 10, start);
        for _ in 0..3 {
            assert_eq!(limiter.take(address(1), start), Ok(()));
        }
        assert_eq!(limiter.take(address(1), start), Err(Duration::from_secs(2)));
        // Another source is not concerned.
        assert_eq!(limiter.take(address(2), start), Ok(()));
        let later = start + Duration::from_secs(2);
        assert_eq!(limiter.take(address(1), later), Ok(()));
        assert_eq!(limiter.take(address(1), later), Err(Duration::from_secs(2)));
        // A long rest gives the burst back and no more.
        let much_later = later + Duration::from_secs(3600);
        for _ in 0..3 {
            assert_eq!(limiter.take(address(1), much_later), Ok(()));
        }
        assert!(limiter.take(address(1), much_later).is_err());
    }

    #[test]
    fn what_is_given_back_may_be_taken_again_and_never_adds_to_the_burst() {
        let start = Instant::now();
        let mut limiter = RateLimiter::new(RATE, 10, start);
        for _ in 0..1000 {
            assert_eq!(limiter.take(address(1), start), Ok(()));
            limiter.give_back(address(1), start);
        }
        for _ in 0..10 {
            limiter.give_back(address(1), start);
            limiter.give_back(address(2), start);
        }
        for _ in 0..3 {
            assert_eq!(limiter.take(address(1), start), Ok(()));
        }
        assert!(limiter.take(address(1), start).is_err());
    }

    #[test]
    fn the_table_never_grows_past_its_capacity_and_forgets_the_idle() {
        let start = Instant::now();
        let mut limiter = RateLimiter::new(RATE, 10, start);
        for last in 0..1000 {
            // Late ones share one bucket, so some are refused; none is remembered.
            limiter.take(address(last), start).ok();
            assert!(limiter.0.by_key.len() <= 10);
        }
        assert!(limiter.take(address(2000), start).is_err());
        let later = start + Duration::from_secs(60);
        assert_eq!(limiter.take(address(2000), later), Ok(()));
        assert_eq!(limiter.0.by_key.len(), 1);
    }

    #[test]
    fn one_ipv6_network_is_one_source_and_mapped_addresses_are_ipv4() {
        let now = Instant::now();
        let mut limiter = RateLimiter::new(Rate { burst: 1, ..RATE }, 10, now);
        let take = |limiter: &mut RateLimiter, text: &str| {
            limiter.take(text.parse().expect("address"), now).is_ok()
        };
        assert!(take(&mut limiter, "2001:db8::1"));
        assert!(!take(&mut limiter, "2001:db8::2"));
        assert!(take(&mut limiter, "2001:db8:0:1::1"));
        assert!(take(&mut limiter, "192.0.2.1"));
        assert!(!take(&mut limiter, "::ffff:192.0.2.1"));
    }
}
