//! The thread that writes the index of each chunk that is full.

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::Shared;

/// Whether there may be indexes to write.
#[derive(Debug, Default)]
pub(super) struct Unsettled {
    state: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    some: bool,
    closing: bool,
}

impl Unsettled {
    pub(super) fn wake(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).some = true;
        self.changed.notify_one();
    }

    fn close(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).closing = true;
        self.changed.notify_one();
    }

    /// Waits for more; `false` when there will not be.
    fn wait(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while !state.some && !state.closing {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::take(&mut state.some)
    }
}

/// The thread. It ends when this is dropped, with what there is to write written.
#[derive(Debug)]
pub(super) struct Settling {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Settling {
    pub(super) fn start(shared: Arc<Shared>) -> io::Result<Self> {
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("handfast-index".to_owned());
        let thread = thread.spawn(move || {
            while of_thread.unsettled.wait() {
                settle(&of_thread);
            }
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }
}

impl Drop for Settling {
    fn drop(&mut self) {
        self.shared.unsettled.close();
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

fn settle(shared: &Shared) {
    for part in shared.parts.all() {
        if let Err(error) = part.settle() {
            tracing::warn!(
                %error, chunk = part.base(),
                "the index of a chunk cannot be written, and stays in memory until it can"
            );
        }
    }
}
