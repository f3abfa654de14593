//! Computing in turns. Thousands of handshakes that are ready at once would stand before every open
//! stream in the scheduler's queue; here each waits for a turn, takes one step, and hands the turn on,
//! so that a stream waits for a few steps at most. A handshake that waits for its peer holds no turn:
//! whoever is slow holds up nobody.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::sync::Semaphore;
use tokio_util::sync::PollSemaphore;

/// A future each of whose steps is taken in turn.
pub(super) struct Paced<F> {
    inner: Pin<Box<F>>,
    turns: PollSemaphore,
}

impl<F: Future> Paced<F> {
    pub(super) fn new(inner: F, turns: Arc<Semaphore>) -> Self {
        Self { inner: Box::pin(inner), turns: PollSemaphore::new(turns) }
    }
}

impl<F: Future> Future for Paced<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        // Nobody closes the semaphore; a step without a turn would only be early.
        let turn = ready!(self.turns.poll_acquire(context));
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
