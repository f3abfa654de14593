//! A value that is replaced while others use it: the current TLS configuration, most often.
//! Connections keep what they started with; the next one takes the new value. It does not decide
//! whether a value deserves to go live: see `Live::offer` in `config`.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

/// The current value of something that is swapped live.
///
/// [`load`](Self::load) is lock-free and fit for every accepted connection;
/// [`subscribe`](Self::subscribe) is for whoever must act on a change (re-dial, re-check).
pub struct Live<T> {
    current: ArcSwap<T>,
    generation: watch::Sender<u64>,
}

impl<T> Live<T> {
    /// Starts with `value`, generation 0.
    pub fn new(value: Arc<T>) -> Self {
        Self { current: ArcSwap::new(value), generation: watch::Sender::new(0) }
    }

    /// The value to use for the next connection.
    pub fn load(&self) -> Arc<T> {
        self.current.load_full()
    }

    /// Makes `value` current and wakes every subscriber. Whoever holds the old value keeps it.
    pub fn set(&self, value: Arc<T>) {
        self.current.store(value);
        self.generation.send_modify(|generation| *generation += 1);
    }

    /// A counter that moves after each [`set`](Self::set); it starts out as seen.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }
}

impl<T> fmt::Debug for Live<T> {
    /// Never shows the value: it holds keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live")
            .field("generation", &*self.generation.borrow())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Live;

    #[test]
    fn a_holder_keeps_the_old_value_and_the_next_load_sees_the_new_one() {
        let live = Live::new(Arc::new("old".to_owned()));
        let mut changes = live.subscribe();
        let held = live.load();
        assert!(!changes.has_changed().expect("sender lives"));
        live.set(Arc::new("new".to_owned()));
        assert_eq!(*held, "old");
        assert_eq!(*live.load(), "new");
        assert!(changes.has_changed().expect("sender lives"));
        assert_eq!(*changes.borrow_and_update(), 1);
    }

    #[test]
    fn debug_output_never_shows_the_value() {
        assert!(!format!("{:?}", Live::new(Arc::new("key".to_owned()))).contains("key\""));
    }
}
