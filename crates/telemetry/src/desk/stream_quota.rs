//! One call's share of its caller's quota: the stream is counted while the call lasts, and what it reports
//! is paid for before it is taken.

use std::sync::PoisonError;

use super::Desk;
use crate::grpc::{Code, Status};
use crate::quota::Over;

/// A stream that is counted; it is given back when this is dropped.
pub(super) struct StreamQuota<'a> {
    desk: &'a Desk,
    caller: String,
}

impl<'a> StreamQuota<'a> {
    pub(super) fn open(desk: &'a Desk, caller: String) -> Result<Self, Status> {
        let now = desk.start.elapsed();
        let opened = desk.usage.lock().unwrap_or_else(PoisonError::into_inner).open(&caller, now);
        match opened {
            Ok(()) => Ok(Self { desk, caller }),
            Err(over) => Err(refusal(desk, &caller, over)),
        }
    }

    /// Waits until what is about to be taken is within the rate.
    pub(super) async fn pay(&self, messages: u64, bytes: u64) -> Result<(), Status> {
        let now = self.desk.start.elapsed();
        let usage = &self.desk.usage;
        let taken = usage.lock().unwrap_or_else(PoisonError::into_inner).take(
            &self.caller,
            messages,
            bytes,
            now,
        );
        match taken {
            Ok(wait) if wait.is_zero() => Ok(()),
            Ok(wait) => {
                tokio::time::sleep(wait).await;
                Ok(())
            }
            Err(over) => Err(refusal(self.desk, &self.caller, over)),
        }
    }
}

impl Drop for StreamQuota<'_> {
    fn drop(&mut self) {
        let usage = &self.desk.usage;
        usage.lock().unwrap_or_else(PoisonError::into_inner).close(&self.caller);
    }
}

fn refusal(desk: &Desk, caller: &str, over: Over) -> Status {
    desk.counts.over_quota();
    let what = match over {
        Over::Rate(wait) => format!(
            "{caller} reports more than its quota allows; it may go on in {:.1} s (`quotas` of the Collector)",
            wait.as_secs_f64()
        ),
        Over::Streams(limit) => format!(
            "{caller} has {limit} streams open, which is all that its quota allows (`quotas.streams` of the Collector)"
        ),
    };
    Status::new(Code::ResourceExhausted, what)
}
