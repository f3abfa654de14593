//! How many connections an address may have and make: what every TCP port of this crate asks before it
//! pays for a handshake.

mod rate;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

pub use rate::Rate;
pub(crate) use rate::{Buckets, RateLimiter};

/// Counts over all connections of one port.
#[derive(Clone)]
pub(crate) struct Gate {
    counts: Arc<Mutex<Counts>>,
    open_per_source: usize,
}

struct Counts {
    connections: RateLimiter,
    open: HashMap<IpAddr, usize>,
}

impl Gate {
    /// At most `open_per_source` connections at a time from one address, made no faster than `rate`;
    /// `sources` addresses are remembered.
    pub(crate) fn new(open_per_source: usize, rate: Rate, sources: usize) -> Self {
        let connections = RateLimiter::new(rate, sources, Instant::now());
        let counts = Counts { connections, open: HashMap::new() };
        Self { counts: Arc::new(Mutex::new(counts)), open_per_source }
    }

    /// A place for one more connection from `source`, unless that is too many.
    pub(crate) fn enter(&self, source: IpAddr) -> Option<Place> {
        let source = source.to_canonical();
        let mut counts = lock(&self.counts);
        if counts.open.get(&source).is_some_and(|open| *open >= self.open_per_source) {
            return None;
        }
        counts.connections.take(source, Instant::now()).ok()?;
        *counts.open.entry(source).or_insert(0) += 1;
        Some(Place { counts: Arc::clone(&self.counts), source })
    }
}

/// A connection that counts as open until this is dropped.
pub(crate) struct Place {
    counts: Arc<Mutex<Counts>>,
    source: IpAddr,
}

impl Place {
    /// Whoever holds it has proved who he is: making this connection does not count against how fast
    /// strangers at his address may make theirs. It counts as open still.
    pub(crate) fn proved(&self) {
        lock(&self.counts).connections.give_back(self.source, Instant::now());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = lock(&self.counts);
        if let Some(open) = counts.open.get_mut(&self.source) {
            *open -= 1;
            if *open == 0 {
                counts.open.remove(&self.source);
            }
        }
    }
}

fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    // Nothing that runs under the lock can panic half-way through a change.
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::Duration;

    use super::{Gate, Rate};

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn who_proved_himself_may_come_as_often_as_he_likes_and_strangers_may_not() {
        let gate = Gate::new(2, Rate { burst: 3, every: Duration::from_secs(3600) }, 10);
        for _ in 0..100 {
            gate.enter(HERE).expect("room for a friend").proved();
        }
        for _ in 0..3 {
            drop(gate.enter(HERE).expect("room for strangers, as much as before"));
        }
        assert!(gate.enter(HERE).is_none(), "a fourth stranger came in");
    }

    #[test]
    fn who_proved_himself_has_no_more_connections_open_than_others() {
        let gate = Gate::new(2, Rate { burst: 100, every: Duration::from_secs(1) }, 10);
        let open = [gate.enter(HERE).expect("one"), gate.enter(HERE).expect("two")];
        open.iter().for_each(super::Place::proved);
        assert!(gate.enter(HERE).is_none(), "a third is open");
    }
}
