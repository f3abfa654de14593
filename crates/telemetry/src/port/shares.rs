//! Places of which there is a number, and a rule for when they are all taken. As long as there are some left
//! anybody may have any number of them: thousands of agents behind one address that come back in the same second
//! are no flood. When none is left, whoever holds only a few takes one of whoever holds the most, the one that was
//! given last. So nobody can shut others out, however many he holds. Pure.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use tokio_util::sync::CancellationToken;

/// Who holds which places.
#[derive(Debug)]
pub(super) struct Shares<K> {
    limit: usize,
    taken: usize,
    holders: HashMap<K, BTreeMap<u64, CancellationToken>>,
    next: u64,
}

/// A place; it has to be [given back](Shares::give_back).
#[derive(Clone, Debug)]
pub(super) struct Share<K> {
    pub(super) holder: K,
    pub(super) number: u64,
    /// Cancelled when the place is somebody else's.
    pub(super) lost: CancellationToken,
}

impl<K: Clone + Eq + Hash> Shares<K> {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, taken: 0, holders: HashMap::new(), next: 0 }
    }

    /// A place, if there is one left, or one that somebody with many more has to give up.
    pub(super) fn take(&mut self, holder: &K) -> Option<Share<K>> {
        if self.taken >= self.limit {
            let held = self.held(holder);
            let (most, fullest) =
                self.holders.iter().map(|(key, places)| (places.len(), key)).max_by_key(|p| p.0)?;
            if held >= ASSURED || held + 1 >= most {
                return None;
            }
            let fullest = fullest.clone();
            let newest = self.holders.get(&fullest)?.last_key_value().map(|(number, _)| *number)?;
            if let Some(lost) = self.remove(&fullest, newest) {
                lost.cancel();
            }
        }
        let (number, lost) = (self.next, CancellationToken::new());
        self.next += 1;
        self.taken += 1;
        self.holders.entry(holder.clone()).or_default().insert(number, lost.clone());
        Some(Share { holder: holder.clone(), number, lost })
    }

    /// The place is free, unless somebody else has it already.
    pub(super) fn give_back(&mut self, share: &Share<K>) {
        drop(self.remove(&share.holder, share.number));
    }

    /// How many somebody holds.
    pub(super) fn held(&self, holder: &K) -> usize {
        self.holders.get(holder).map_or(0, BTreeMap::len)
    }

    /// Whether there are places that nobody holds.
    pub(super) fn any_left(&self) -> bool {
        self.taken < self.limit
    }

    fn remove(&mut self, holder: &K, number: u64) -> Option<CancellationToken> {
        let places = self.holders.get_mut(holder)?;
        let removed = places.remove(&number)?;
        if places.is_empty() {
            self.holders.remove(holder);
        }
        self.taken -= 1;
        Some(removed)
    }
}

/// So many places nobody has to wait for who holds fewer; whoever wants more waits until some are left.
pub(super) const ASSURED: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_may_have_all_of_it_until_somebody_else_comes() {
        let mut shares = Shares::new(1000);
        let all: Vec<_> = (0..1000).map(|_| shares.take(&"a").expect("left")).collect();
        assert!(shares.take(&"a").is_none(), "nobody takes his own");
        for held in 0..ASSURED {
            assert_eq!(shares.held(&"b"), held);
            shares.take(&"b").expect("assured");
        }
        assert!(shares.take(&"b").is_none(), "beyond that one waits");
        assert_eq!(shares.held(&"a"), 1000 - ASSURED);
        let lost = |from: usize, to| all[from..to].iter().all(|share| share.lost.is_cancelled());
        assert!(lost(1000 - ASSURED, 1000), "the newest are given up");
        assert!(!all[..1000 - ASSURED].iter().any(|share| share.lost.is_cancelled()));
        shares.give_back(&all[999]);
        assert!(!shares.any_left(), "what was lost is not given back");
        shares.give_back(&all[0]);
        assert!(shares.take(&"b").is_some());
    }

    #[test]
    fn between_equals_nothing_goes_back_and_forth() {
        let mut shares = Shares::new(4);
        for holder in ["a", "b", "a", "b"] {
            shares.take(&holder).expect("left");
        }
        assert!(shares.take(&"a").is_none() && shares.take(&"b").is_none());
        assert!(shares.take(&"c").is_some());
        assert!(shares.take(&"c").is_none(), "as many as the others but for one");
    }

    proptest! {
        #[test]
        fn there_are_never_more_than_the_limit_and_who_holds_nothing_gets_in_while_anybody_holds_two(
            steps in proptest::collection::vec((0_u8..6, any::<bool>()), 1..300),
        ) {
            let mut shares = Shares::new(12);
            let mut held: Vec<Share<u8>> = Vec::new();
            for (holder, comes) in steps {
                if comes {
                    let most = (0..6).map(|other| shares.held(&other)).max().unwrap_or(0);
                    let taken = shares.take(&holder);
                    prop_assert!(taken.is_some() || most < 2 || shares.held(&holder) > 0);
                    held.extend(taken);
                } else if let Some(place) = held.iter().position(|share| share.holder == holder) {
                    shares.give_back(&held.swap_remove(place));
                }
                held.retain(|share| !share.lost.is_cancelled());
                prop_assert_eq!(held.len(), shares.taken);
                prop_assert!(shares.taken <= 12);
            }
        }
    }
}
