//! Calls that ask: for profile tasks, for settings. They are never queued: an answer that comes late is
//! somebody else's. And the health of this process.

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;

use super::Desk;
use super::report::malformed;
use super::stream_quota::StreamQuota;
use crate::caller::Caller;
use crate::grpc::{Body, Code, Coding, Messages, Status, failed};
use crate::protocol::method::Method;
use crate::quota;
use crate::rules::Claimed;
use crate::sink::Question;
use crate::upstream::copy_headers;

pub(super) async fn ask(
    desk: &Desk,
    method: &Method,
    mut request: Request<Incoming>,
    caller: &Caller,
) -> Result<Bytes, Status> {
    desk.strip(&mut request);
    let (parts, body) = request.into_parts();
    let coding = Coding::of(&parts.headers)?;
    let quota = StreamQuota::open(desk, caller.account())?;
    let message = Messages::new(body, coding, QUESTION_BYTES, quota::PATIENCE).only().await?;
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
    desk.sink.ask(question).await
}

/// `grpc.health.v1.Health`: this process serves as long as it answers.
pub(super) async fn health(desk: &Desk, request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let message = match Coding::of(&parts.headers) {
        Ok(coding) => Messages::new(body, coding, QUESTION_BYTES, quota::PATIENCE).only().await,
        Err(status) => Err(status),
    };
    match message {
        Err(status) => failed(&status),
        Ok(_) if parts.uri.path().ends_with("/Watch") => failed(&Status::new(
            Code::Unimplemented,
            format!("collector {} does not watch its health; use Check", desk.name),
        )),
        Ok(_) => crate::grpc::message(SERVING),
    }
}

/// `HealthCheckResponse{ status: SERVING }`.
const SERVING: &[u8] = &[0x08, 0x01];

/// Questions are small.
const QUESTION_BYTES: usize = 256 * 1024;
