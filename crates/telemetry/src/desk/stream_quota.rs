//! One call's share of its caller's quota: the stream is counted while the call lasts, and what it reports
//! is paid for before it is taken.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::Desk;
use crate::grpc::{Code, Flaw, Room, Status};
use crate::quota::{Excess, HELD_BY_ONE, MOST_AT_ONCE, Over};

/// A stream that is counted; it is given back when this is dropped.
pub(super) struct StreamQuota {
    desk: Arc<Desk>,
    caller: String,
}

impl StreamQuota {
    pub(super) fn open(desk: &Arc<Desk>, caller: String) -> Result<Self, Status> {
        let now = desk.start.elapsed();
        let opened = desk.usage.lock().unwrap_or_else(PoisonError::into_inner).open(&caller, now);
        match opened {
            Ok(()) => Ok(Self { desk: Arc::clone(desk), caller }),
            Err(over) => Err(refusal(desk, &caller, over)),
        }
    }

    fn take(&self, messages: u64, bytes: u64) -> Result<Duration, Over> {
        let now = self.desk.start.elapsed();
        let mut usage = self.desk.usage.lock().unwrap_or_else(PoisonError::into_inner);
        usage.take(&self.caller, messages, bytes, now)
    }

    /// Waits until what is about to be taken is within the rate.
    pub(super) async fn pay(&self, messages: u64, bytes: u64) -> Result<(), Status> {
        match self.take(messages, bytes) {
            Ok(wait) if wait.is_zero() => Ok(()),
            Ok(wait) => {
                tokio::time::sleep(wait).await;
                Ok(())
            }
            Err(over) => Err(refusal(&self.desk, &self.caller, over)),
        }
    }
}

impl StreamQuota {
    /// Waits until bytes that wait for nobody's answer are within the rate, however long that takes.
    pub(super) async fn pay_in_time(&self, bytes: usize) {
        let mut left = bytes;
        while left > 0 {
            let piece = left.min(PIECE);
            let wait = match self.take(0, piece as u64) {
                Ok(wait) => {
                    left -= piece;
                    wait
                }
                Err(Over::Rate(wait)) => wait,
                Err(Over::Never(_) | Over::Room | Over::Streams(_)) => {
                    // A quota of less than that is one of nothing.
                    left -= piece;
                    MOST_AT_ONCE
                }
            };
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
        }
    }
}

/// Bytes that are paid for together by what is passed on as it comes.
const PIECE: usize = 4096;

/// What a call holds in memory: messages that are not whole, or not taken yet. Given back when this is dropped.
pub(super) struct Held {
    desk: Arc<Desk>,
    caller: String,
    bytes: u64,
}

impl StreamQuota {
    /// What this call holds.
    pub(super) fn held(&self) -> Held {
        Held { desk: Arc::clone(&self.desk), caller: self.caller.clone(), bytes: 0 }
    }
}

impl Held {
    /// What is held, for work that may go on for a moment when the call is over: only when that ends as well it is
    /// given back.
    pub(super) fn lend(&mut self) -> Self {
        let bytes = std::mem::take(&mut self.bytes);
        Self { desk: Arc::clone(&self.desk), caller: self.caller.clone(), bytes }
    }

    /// What was lent, after the work.
    pub(super) fn take_back(&mut self, mut lent: Self) {
        self.bytes += std::mem::take(&mut lent.bytes);
    }
}

impl Room for Held {
    fn hold(&mut self, bytes: usize) -> Result<(), Status> {
        // What is small is bounded by how many calls there are.
        let bytes = if bytes < SMALL { 0 } else { bytes as u64 };
        if bytes == self.bytes {
            return Ok(());
        }
        let mut usage = self.desk.usage.lock().unwrap_or_else(PoisonError::into_inner);
        usage
            .hold(&self.caller, self.bytes, bytes)
            .map_err(|over| refusal(&self.desk, &self.caller, over))?;
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Less is never refused.
        let _ = self.hold(0);
    }
}

/// What a call may hold without being counted: no more than the call itself takes. It is most often the beginning of a
/// message whose rest is in the next frame, and nobody is locked out for that.
const SMALL: usize = 4 * 1024;

impl Drop for StreamQuota {
    fn drop(&mut self) {
        let usage = &self.desk.usage;
        usage.lock().unwrap_or_else(PoisonError::into_inner).close(&self.caller);
    }
}

fn refusal(desk: &Desk, caller: &str, over: Over) -> Status {
    desk.counts.over_quota();
    let mut flaw = Flaw::OverQuota;
    let what = match over {
        Over::Never(Excess { of, amount, needed }) => {
            // To come again with the same would be in vain.
            flaw = Flaw::TooLarge;
            format!(
                "message too large for the quota of {caller}: {amount} {of} at once are more than it may report in {} s, \
                 and can never pass; send less at once, or raise `{}` of the Collector to {needed} or more",
                MOST_AT_ONCE.as_secs(),
                of.setting()
            )
        }
        Over::Rate(wait) => format!(
            "{caller} reports more than its quota allows; it may go on in {:.1} s (`quotas` of the Collector)",
            // Not a moment too early.
            (wait.as_secs_f64() * 10.0).ceil() / 10.0
        ),
        Over::Room => format!(
            "{caller} sends too much at the same time ({} MiB at most, or all callers do); send one after the other, or smaller messages",
            HELD_BY_ONE >> 20
        ),
        Over::Streams(limit) => format!(
            "{caller} has {limit} streams open, which is all that its quota allows (`quotas.streams` of the Collector)"
        ),
    };
    Status::new(Code::ResourceExhausted, what).flawed(flaw)
}
