//! What takes long to read is read here, apart from the threads that serve: a message of tens of megabytes takes
//! longer than others may be kept waiting. There are few places, for the processors are the same ones; whoever
//! comes when they are taken waits for a turn, in the order in which they came. How much can wait is bounded by what callers may
//! [hold](crate::quota::HELD).

use std::num::NonZero;
use std::sync::{Arc, LazyLock};

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::sink::Untaken;

/// Does `work` in the workshop. It is told by the token when nobody waits for it any more; then its place is given
/// back as soon as it ends, and not before.
///
/// # Errors
/// [`Untaken::Ending`] where the runtime ends.
///
/// # Panics
/// Where `work` does.
pub(crate) async fn apart<T: Send + 'static>(
    work: impl FnOnce(&CancellationToken) -> T + Send + 'static,
) -> Result<T, Untaken> {
    let place = Arc::clone(&PLACES).acquire_owned().await.map_err(|_| Untaken::Ending)?;
    let given_up = CancellationToken::new();
    let _waiting = given_up.clone().drop_guard();
    let working = tokio::task::spawn_blocking(move || {
        let made = work(&given_up);
        drop(place);
        made
    });
    working.await.map_err(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => Untaken::Ending,
    })
}

/// From so many bytes on reading is work for here. Less is read where it arrives, within a millisecond or two whatever is
/// in it (`docs/book/performance.md` has what was measured). No frame is as large, so what agents send all day never
/// comes here.
pub(crate) const HEAVY: usize = 256 * 1024;

/// Half of the processors, for serving goes on.
static PLACES: LazyLock<Arc<Semaphore>> = LazyLock::new(|| {
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    Arc::new(Semaphore::new((processors / 2).max(1)))
});

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn the_only_thread_goes_on_serving_and_what_nobody_waits_for_is_told() {
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let (told, is_told) = mpsc::channel();
        let working = tokio::spawn(apart(move |given_up| {
            begun.send(()).expect("somebody waits");
            while !given_up.is_cancelled() {
                std::thread::yield_now();
            }
            told.send(()).expect("somebody waits");
        }));
        // Only where this thread is free does it hear of it.
        has_begun.await.expect("it begins");
        working.abort();
        assert!(working.await.expect_err("given up").is_cancelled());
        let waiting =
            tokio::task::spawn_blocking(move || is_told.recv_timeout(Duration::from_secs(20)));
        waiting.await.expect("no panic").expect("it ends because nobody waits");
        assert_eq!(apart(|_| 7).await, Ok(7), "its place is free");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_more_is_done_at_the_same_time_than_there_are_places() {
        let (now, most) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..200 {
            let (now, most) = (Arc::clone(&now), Arc::clone(&most));
            all.spawn(apart(move |_| {
                now.add_permits(1);
                let together = now.available_permits();
                most.add_permits(together.saturating_sub(most.available_permits()));
                std::thread::yield_now();
                now.forget_permits(1);
            }));
        }
        while let Some(done) = all.join_next().await {
            done.expect("no panic").expect("the runtime goes on");
        }
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        assert!(most.available_permits() <= processors.div_ceil(2), "{most:?}");
    }
}
