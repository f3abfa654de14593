//! The ids of the segments that came last: a segment that comes again is not kept twice.
//!
//! Two sets of ids: when the younger is full, the older is forgotten. So between one and two times
//! as many are known as one set holds, in memory that does not grow. Up to when something was received that is
//! forgotten is remembered: only what is of before that time has to be looked for elsewhere.

use std::collections::HashSet;

/// Recently seen ids.
#[derive(Debug)]
pub(super) struct Window {
    younger: Seen,
    older: Seen,
    half: usize,
    forgotten_until: i64,
}

#[derive(Debug)]
struct Seen {
    ids: HashSet<u128>,
    /// When the last of them was received, in milliseconds since 1970.
    last: i64,
}

impl Window {
    /// One that knows at least the last `half` ids, and at most twice as many.
    pub(super) fn new(half: usize) -> Self {
        let nothing = || Seen { ids: HashSet::new(), last: i64::MIN };
        let (younger, older) = (nothing(), nothing());
        Self { younger, older, half: half.max(1), forgotten_until: i64::MIN }
    }

    pub(super) fn contains(&self, id: u128) -> bool {
        self.younger.ids.contains(&id) || self.older.ids.contains(&id)
    }

    /// Whether the id was not known.
    pub(super) fn insert(&mut self, id: u128, received: i64) -> bool {
        if self.contains(id) {
            return false;
        }
        if self.younger.ids.len() >= self.half {
            self.forget_until(self.older.last);
            std::mem::swap(&mut self.younger, &mut self.older);
            self.younger.ids.clear();
            self.younger.last = i64::MIN;
        }
        self.younger.last = self.younger.last.max(received);
        self.younger.ids.insert(id)
    }

    /// Something that was received until then is not known here.
    pub(super) fn forget_until(&mut self, received: i64) {
        self.forgotten_until = self.forgotten_until.max(received);
    }

    /// When the last of what is not known any more was received.
    pub(super) fn forgotten_until(&self) -> i64 {
        self.forgotten_until
    }

    /// How many are remembered for sure.
    pub(super) fn half(&self) -> usize {
        self.half
    }
}

/// As many as fill a table of 2^19 places.
pub(super) const HALF: usize = 458_752;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_are_known_and_the_rest_is_forgotten() {
        let mut window = Window::new(100);
        for id in 0..1000 {
            let received = i64::try_from(id).unwrap();
            assert!(window.insert(id, received));
            assert!(!window.insert(id, received));
            // Whatever came after that is known.
            let forgotten = window.forgotten_until();
            let known = (0..=id).filter(|id| i64::try_from(*id).unwrap() > forgotten);
            assert!(known.into_iter().all(|id| window.contains(id)), "{id} {forgotten}");
        }
        assert!((900..1000).all(|id| window.contains(id)));
        assert!((0..800).all(|id| !window.contains(id)));
        assert_eq!((window.half(), window.forgotten_until()), (100, 799));
    }
}
