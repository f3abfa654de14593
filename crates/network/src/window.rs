//! Credit windows of a stream: how much may be in flight between two edges.
//!
//! The receiver grants, the sender spends. A window starts at [`INITIAL`] and doubles while the
//! receiver empties it in less than two round trips, so one flow can fill a long fat link, and a
//! flow whose reader is slow never holds more than what it was granted. State and time only: no
//! sockets.

use std::time::{Duration, Instant};

/// What a new stream may send before the first grant, in bytes. Both sides know it.
pub(crate) const INITIAL: u32 = 512 * 1024;
/// The largest window that one stream grows to, in bytes.
pub(crate) const MAXIMUM: u32 = 16 * 1024 * 1024;

/// The sender's side: bytes that may still be sent.
#[derive(Debug)]
pub(crate) struct SendWindow {
    available: u32,
}

impl SendWindow {
    pub(crate) fn new() -> Self {
        Self { available: INITIAL }
    }

    pub(crate) fn available(&self) -> usize {
        self.available as usize
    }

    /// Takes `n` bytes, which must be available.
    pub(crate) fn spend(&mut self, n: usize) {
        debug_assert!(n <= self.available());
        self.available = self.available.saturating_sub(u32::try_from(n).unwrap_or(u32::MAX));
    }

    /// Adds a grant. A peer that grants more than the largest window is held to it.
    pub(crate) fn grant(&mut self, n: u32) {
        self.available = self.available.saturating_add(n).min(MAXIMUM);
    }
}

/// The receiver's side: what the peer may send, and when to let it send more.
#[derive(Debug)]
pub(crate) struct ReceiveWindow {
    size: u32,
    /// Bytes that the peer may still send.
    open: u32,
    /// Bytes passed on to the edge since the last grant.
    consumed: u32,
    granted_at: Option<Instant>,
}

/// The peer sent more than it was granted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Overrun;

impl ReceiveWindow {
    pub(crate) fn new() -> Self {
        Self { size: INITIAL, open: INITIAL, consumed: 0, granted_at: None }
    }

    /// Accounts for `n` bytes that came in.
    pub(crate) fn received(&mut self, n: usize) -> Result<(), Overrun> {
        let n = u32::try_from(n).map_err(|_| Overrun)?;
        self.open = self.open.checked_sub(n).ok_or(Overrun)?;
        Ok(())
    }

    /// Accounts for `n` bytes passed on to the edge; says how much to grant, when it is time to.
    pub(crate) fn consumed(&mut self, n: usize, now: Instant, rtt: Duration) -> Option<u32> {
        self.consumed = self.consumed.saturating_add(u32::try_from(n).unwrap_or(u32::MAX));
        if self.consumed < self.size / 2 {
            return None;
        }
        let mut grant = std::mem::take(&mut self.consumed);
        let fast = self.granted_at.is_some_and(|at| now.saturating_duration_since(at) < rtt * 2);
        self.granted_at = Some(now);
        if fast && self.size < MAXIMUM {
            let larger = self.size.saturating_mul(2).min(MAXIMUM);
            grant = grant.saturating_add(larger - self.size);
            self.size = larger;
        }
        self.open = self.open.saturating_add(grant);
        Some(grant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_peer_that_overruns_its_window_is_noticed() {
        let mut window = ReceiveWindow::new();
        assert_eq!(window.received(INITIAL as usize), Ok(()));
        assert_eq!(window.received(1), Err(Overrun));
    }

    #[test]
    fn a_fast_reader_on_a_long_link_gets_a_larger_window_and_a_slow_one_does_not() {
        let start = Instant::now();
        let rtt = Duration::from_millis(100);
        let half = (INITIAL / 2) as usize;
        let mut fast = ReceiveWindow::new();
        assert_eq!(fast.consumed(half, start, rtt), Some(INITIAL / 2));
        let grant = fast.consumed(half, start + rtt, rtt);
        assert_eq!(grant, Some(INITIAL / 2 + INITIAL));
        let mut slow = ReceiveWindow::new();
        assert_eq!(slow.consumed(half, start, rtt), Some(INITIAL / 2));
        assert_eq!(slow.consumed(half, start + rtt * 3, rtt), Some(INITIAL / 2));
    }

    proptest! {
        #[test]
        fn sender_and_receiver_never_disagree(steps in proptest::collection::vec((1usize..200_000, 0u64..400), 1..400)) {
            let (mut send, mut receive) = (SendWindow::new(), ReceiveWindow::new());
            let (mut now, mut queued) = (Instant::now(), 0usize);
            for (size, millis) in steps {
                now += Duration::from_millis(millis);
                let n = size.min(send.available());
                send.spend(n);
                prop_assert_eq!(receive.received(n), Ok(()));
                queued += n;
                prop_assert!(queued <= MAXIMUM as usize);
                let out = queued / 2 + 1;
                let out = out.min(queued);
                queued -= out;
                if let Some(grant) = receive.consumed(out, now, Duration::from_millis(100)) {
                    send.grant(grant);
                }
            }
            // whatever happened, an emptied stream can go on
            let _ = receive.consumed(queued, now, Duration::ZERO).map(|g| send.grant(g));
            prop_assert!(send.available() > 0);
        }
    }
}
