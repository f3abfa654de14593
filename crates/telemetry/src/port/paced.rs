//! Computing in turns. Thousands of handshakes that are ready at once would stand before every open
//! stream in the scheduler's queue; here each waits for a turn, takes one step, and hands the turn on,
//! so that a stream waits for a few steps at most. A handshake that waits for its peer holds no turn:
//! whoever is slow holds up nobody.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::PollSemaphore;

/// A future each of whose steps is taken in turn.
pub(super) struct Paced<F> {
    inner: Pin<Box<F>>,
    turns: PollSemaphore,
    /// How long it has waited for its turns so far, and since when it waits for one.
    waited: Duration,
    asking: Option<Instant>,
}

impl<F: Future> Paced<F> {
    pub(super) fn new(inner: F, turns: Arc<Semaphore>) -> Self {
        let turns = PollSemaphore::new(turns);
        Self { inner: Box::pin(inner), turns, waited: Duration::ZERO, asking: None }
    }

    /// Its outcome, or nothing if it takes longer than until `deadline`. That it had to wait for a turn is our own slowness,
    /// and does not count: in a storm of thousands the last one has as long as the first.
    pub(super) async fn within(mut self, deadline: Instant) -> Option<F::Output> {
        loop {
            let waited = self.waited();
            match timeout_at(deadline + waited, &mut self).await {
                Ok(outcome) => return Some(outcome),
                Err(_) if self.waited() > waited => {}
                Err(_) => return None,
            }
        }
    }

    fn waited(&self) -> Duration {
        self.waited + self.asking.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

impl<F: Future> Future for Paced<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        // Nobody closes the semaphore; a step without a turn would only be early.
        let Poll::Ready(turn) = self.turns.poll_acquire(context) else {
            self.asking.get_or_insert_with(Instant::now);
            return Poll::Pending;
        };
        self.waited = self.waited();
        self.asking = None;
        let outcome = self.inner.as_mut().poll(context);
        drop(turn);
        outcome
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Yields so often before it is done, and counts how many of its kind step at the same time.
    async fn steps(count: usize, together: Arc<AtomicUsize>, most: Arc<AtomicUsize>) {
        for _ in 0..count {
            let now = together.fetch_add(1, Ordering::SeqCst) + 1;
            most.fetch_max(now, Ordering::SeqCst);
            together.fetch_sub(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_a_turn_does_not_count_and_everything_else_does() {
        let turns = Arc::new(Semaphore::new(1));
        let limit = Duration::from_secs(10);
        let within = |seconds: u64| {
            let step = tokio::time::sleep(Duration::from_secs(seconds));
            Paced::new(step, Arc::clone(&turns)).within(Instant::now() + limit)
        };
        assert!(within(9).await.is_some());
        assert!(within(11).await.is_none(), "its own slowness");
        let held = Arc::clone(&turns).acquire_owned().await.expect("open");
        let (late, slow) = (tokio::spawn(within(59)), tokio::spawn(within(80)));
        tokio::time::sleep(Duration::from_secs(60)).await;
        drop(held);
        assert!(late.await.expect("no panic").is_some(), "a minute was not its own");
        assert!(slow.await.expect("no panic").is_none(), "and twenty seconds were");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn all_are_done_and_few_step_at_the_same_time() {
        let turns = Arc::new(Semaphore::new(2));
        let (together, most) = (Arc::default(), Arc::new(AtomicUsize::new(0)));
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..200 {
            let steps = steps(20, Arc::clone(&together), Arc::clone(&most));
            tasks.spawn(Paced::new(steps, Arc::clone(&turns)));
        }
        while let Some(done) = tasks.join_next().await {
            done.expect("no panic");
        }
        assert!(most.load(Ordering::SeqCst) <= 2, "{most:?}");
        assert_eq!(turns.available_permits(), 2);
    }
}
