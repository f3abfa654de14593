//! The ids of the segments that came last: a segment that comes again is not kept twice.
//!
//! Two sets of ids: when the younger is full, the older is forgotten. So between one and two times
//! as many are known as one set holds, in memory that does not grow.

use std::collections::HashSet;

/// Recently seen ids.
#[derive(Debug)]
pub(super) struct Window {
    younger: HashSet<u128>,
    older: HashSet<u128>,
    half: usize,
}

impl Window {
    /// One that knows at least the last `half` ids, and at most twice as many.
    pub(super) fn new(half: usize) -> Self {
        Self { younger: HashSet::new(), older: HashSet::new(), half: half.max(1) }
    }

    pub(super) fn contains(&self, id: u128) -> bool {
        self.younger.contains(&id) || self.older.contains(&id)
    }

    /// Whether the id was not known.
    pub(super) fn insert(&mut self, id: u128) -> bool {
        if self.contains(id) {
            return false;
        }
        if self.younger.len() >= self.half {
            std::mem::swap(&mut self.younger, &mut self.older);
            self.younger.clear();
        }
        self.younger.insert(id)
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
            assert!(window.insert(id));
            assert!(!window.insert(id));
        }
        assert!((900..1000).all(|id| window.contains(id)));
        assert!((0..800).all(|id| !window.contains(id)));
        assert_eq!(window.half(), 100);
    }
}
