//! One pause for everybody. While a backend takes nothing, everything that is under way would try it,
//! each at its own times; instead one tries for all, after pauses that grow, and the others wait.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::{Mutex, MutexGuard};
use tokio::time::sleep;

use crate::upstream::{Dice, pause};

/// Open until something says that nothing is taken, and from the next success on.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// How often it was tried in vain since it was open.
    failures: AtomicU32,
    turn: Mutex<()>,
}

/// The leave to try: one of many while the gate is open, the only one while it is shut.
#[derive(Debug)]
pub(super) struct Turn<'a>(Option<MutexGuard<'a, ()>>);

impl Gate {
    /// Waits until it is one's turn to try.
    pub(super) async fn turn(&self, dice: &Dice) -> Turn<'_> {
        if self.failures.load(Ordering::Acquire) == 0 {
            return Turn(None);
        }
        // First come, first served.
        let turn = self.turn.lock().await;
        match self.failures.load(Ordering::Acquire) {
            0 => Turn(None),
            failures => {
                sleep(pause(failures - 1, dice.throw())).await;
                Turn(Some(turn))
            }
        }
    }

    /// It was tried in vain. Those who began while the gate was open count as one.
    pub(super) fn shut(&self, turn: Turn<'_>) {
        if turn.0.is_some() {
            let more = |failures: u32| Some(failures.saturating_add(1));
            let _ = self.failures.fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        } else {
            self.failures.fetch_max(1, Ordering::AcqRel);
        }
    }

    /// Something was taken.
    pub(super) fn open(&self) {
        self.failures.store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn while_it_is_shut_one_tries_for_all_and_then_everybody_goes_on() {
        let (gate, dice) = (Arc::new(Gate::default()), Dice::new(handfast_pki::SystemEntropy));
        let [tries, trying, most] = [(); 3].map(|()| Arc::new(AtomicUsize::new(0)));
        let mut waiting = tokio::task::JoinSet::new();
        gate.shut(gate.turn(&dice).await);
        for _ in 0..8 {
            let (gate, dice) = (Arc::clone(&gate), dice.clone());
            let (tries, trying, most) =
                (Arc::clone(&tries), Arc::clone(&trying), Arc::clone(&most));
            waiting.spawn(async move {
                loop {
                    let turn = gate.turn(&dice).await;
                    if turn.0.is_none() {
                        return;
                    }
                    most.fetch_max(1 + trying.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
                    sleep(Duration::from_millis(1)).await;
                    trying.fetch_sub(1, Ordering::Relaxed);
                    if tries.fetch_add(1, Ordering::Relaxed) < 20 {
                        gate.shut(turn);
                    } else {
                        gate.open();
                    }
                }
            });
        }
        let begin = tokio::time::Instant::now();
        while waiting.join_next().await.is_some() {}
        assert_eq!(most.load(Ordering::Relaxed), 1, "never two at a time");
        assert_eq!(tries.load(Ordering::Relaxed), 21);
        assert!(begin.elapsed() > Duration::from_secs(60), "pauses grow: {:?}", begin.elapsed());
    }
}
