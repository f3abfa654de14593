//! What is watched over on a connection because nothing else does: whether HTTP/2 has said its first word (until it has,
//! it is asked for no sign of life), and whether answers are read.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// A connection of which it is noted when its first word has come, and that breaks when nothing of what is sent is taken
/// for [`STALLED`].
pub(super) struct Heard<I> {
    io: I,
    missing: usize,
    word: FirstWord,
    /// Ends when it has been stalled for too long; there while it is.
    stalled: Option<Pin<Box<Sleep>>>,
}

/// Whether it has come. Clones are about the same connection.
#[derive(Clone, Default)]
pub(super) struct FirstWord(Arc<AtomicBool>);

impl FirstWord {
    pub(super) fn has_come(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl<I> Heard<I> {
    pub(super) fn new(io: I) -> (Self, FirstWord) {
        let word = FirstWord::default();
        (Self { io, missing: PREFACE, word: word.clone(), stalled: None }, word)
    }

    /// The outcome of an attempt to send something.
    fn sent<T>(
        &mut self,
        context: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.stalled = None;
            return outcome;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(STALLED)));
        match stalled.as_mut().poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Heard<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(context, buffer);
        if self.missing > 0 {
            let came = buffer.filled().len().saturating_sub(before);
            self.missing = self.missing.saturating_sub(came);
            if self.missing == 0 {
                self.word.0.store(true, Ordering::Relaxed);
            }
        }
        read
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Heard<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.io).poll_write(context, bytes);
        self.sent(context, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.io).poll_write_vectored(context, bytes);
        self.sent(context, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.io).poll_flush(context);
        self.sent(context, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.io).poll_shutdown(context);
        self.sent(context, outcome)
    }
}

/// The bytes with which a client begins (RFC 9113, section 3.4).
const PREFACE: usize = 24;

/// Whoever takes nothing of an answer for so long is not waited for.
const STALLED: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_not_read_is_given_up_and_one_that_is_read_slowly_is_not() {
        let (near, mut far) = tokio::io::duplex(64);
        let (mut near, _) = Heard::new(near);
        let reading = tokio::spawn(async move {
            let mut piece = [0; 64];
            for _ in 0..4 {
                sleep(STALLED - Duration::from_secs(1)).await;
                far.read_exact(&mut piece).await.expect("a piece");
            }
            far
        });
        near.write_all(&[7; 4 * 64]).await.expect("it is read, if slowly");
        let far = reading.await.expect("no panic");
        let begin = Instant::now();
        let stalled = near.write_all(&[7; 2 * 64]).await.expect_err("nobody reads");
        assert_eq!(stalled.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begin.elapsed().as_secs(), STALLED.as_secs());
        drop(far);
    }

    #[tokio::test]
    async fn the_first_word_is_all_of_it() {
        let (near, mut far) = tokio::io::duplex(64);
        let (mut near, word) = Heard::new(near);
        let mut space = [0; 64];
        far.write_all(&[7; PREFACE - 1]).await.expect("room");
        assert_eq!(near.read(&mut space).await.expect("bytes"), PREFACE - 1);
        assert!(!word.has_come());
        far.write_all(&[7]).await.expect("room");
        assert_eq!(near.read(&mut space).await.expect("bytes"), 1);
        assert!(word.has_come());
    }
}
