//! Whether a connection of HTTP/2 has said its first word. Until it has, nothing of HTTP/2 watches over it: it is asked
//! for no sign of life, and would be kept for ever.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection of which it is noted when its first word has come.
pub(super) struct Heard<I> {
    io: I,
    missing: usize,
    word: FirstWord,
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
        (Self { io, missing: PREFACE, word: word.clone() }, word)
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
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

/// The bytes with which a client begins (RFC 9113, section 3.4).
const PREFACE: usize = 24;
