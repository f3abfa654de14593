//! Calls that ask: for profile tasks, for settings. They are never queued: an answer that comes late is
//! somebody else's.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request};
use hyper::body::Incoming;

use super::Desk;
use super::report::malformed;
use super::stream_quota::StreamQuota;
use crate::caller::Caller;
use crate::grpc::{Coding, Messages, Status};
use crate::protocol::method::Method;
use crate::quota;
use crate::rules::Claimed;
use crate::sink::Question;
use crate::upstream::copy_headers;

pub(super) async fn ask(
    desk: &Arc<Desk>,
    method: &Method,
    mut request: Request<Incoming>,
    caller: &Caller,
) -> Result<Bytes, Status> {
    desk.strip(&mut request);
    let (parts, body) = request.into_parts();
    let coding = Coding::of(&parts.headers)?;
    let quota = StreamQuota::open(desk, caller.account())?;
    // What waits for an answer of somebody else counts as held until that has come.
    let mut messages =
        Messages::new(body, coding, QUESTION_BYTES, quota::PATIENCE).within(quota.held());
    let message = messages.only().await?;
    quota.pay(1, message.len() as u64).await?;
    let claims = method.claimed.claims(&message).map_err(|error| malformed(&error))?;
    for claim in claims.iter() {
        let claimed = Claimed { service: &claim.service, instance: claim.instance };
        desk.judge_question(caller, claimed)?;
    }
    let mut headers = HeaderMap::new();
    copy_headers(&parts.headers, &mut headers);
    // What is sent on is one message, not compressed.
    headers.remove("grpc-encoding");
    headers.remove("grpc-timeout");
    let question = Question { path: parts.uri.path().to_owned(), headers, message };
    // What is wrong with the answer is not the fault of whoever asked.
    desk.sink.ask(question).await.map_err(|status| Status { flaw: None, ..status })
}

/// Questions are small.
const QUESTION_BYTES: usize = 256 * 1024;
