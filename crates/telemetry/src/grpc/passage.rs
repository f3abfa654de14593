//! A body that is passed on while it comes. It has come to its end when whoever fills it says so, and not before: what
//! breaks off, for whatever reason, must not look to the other side like what is whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::Frame;
use tokio::sync::mpsc;

use super::reply::{Body, BodyError};

/// A body with room for `frames`, and the way into it.
pub(crate) fn passage(frames: usize) -> (Entrance, Body) {
    let (sender, receiver) = mpsc::channel(frames);
    let whole = Arc::new(AtomicBool::new(false));
    let passage = Passage { frames: receiver, whole: Arc::clone(&whole) };
    (Entrance { frames: sender, whole }, Body::Passage(passage))
}

/// The way into a body that is passed on. Dropped without [`end`](Self::end), it has broken off.
#[derive(Debug)]
pub(crate) struct Entrance {
    frames: mpsc::Sender<Frame<Bytes>>,
    whole: Arc<AtomicBool>,
}

impl Entrance {
    /// Hands a frame on as soon as there is room. False if the other side hears no more.
    pub(crate) async fn send(&self, frame: Frame<Bytes>) -> bool {
        self.frames.send(frame).await.is_ok()
    }

    /// Waits until the other side hears no more.
    pub(crate) async fn closed(&self) {
        self.frames.closed().await;
    }

    /// That was all of it.
    pub(crate) fn end(self) {
        self.whole.store(true, Ordering::Release);
    }
}

/// The body itself.
#[derive(Debug)]
pub struct Passage {
    frames: mpsc::Receiver<Frame<Bytes>>,
    whole: Arc<AtomicBool>,
}

impl Passage {
    pub(super) fn poll(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.frames.poll_recv(context).map(|frame| match frame {
            Some(frame) => Some(Ok(frame)),
            None if self.whole.load(Ordering::Acquire) => None,
            None => Some(Err(BodyError::BrokenOff)),
        })
    }
}
