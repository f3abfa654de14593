//! Calls of methods that nobody here knows: passed on byte for byte, and yet no way around a quota. They count as
//! streams until the answer has come to its end, and what they bring is paid for like everything else.

use std::fmt::Display;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::oneshot;

use super::stream_quota::StreamQuota;
use super::{Desk, onward};
use crate::caller::Caller;
use crate::grpc::{Body, Code, Entrance, Status, failed, passage};

pub(super) async fn pass(
    desk: &Arc<Desk>,
    request: Request<Incoming>,
    caller: &Caller,
) -> Response<Body> {
    if let Err(status) = desk.may_pass(caller) {
        return failed(&status);
    }
    let path = super::blame::known(request.uri().path());
    let counted = async {
        let quota = StreamQuota::open(desk, caller.account())?;
        quota.pay(1, 0).await?;
        Ok(Arc::new(quota))
    };
    let quota = match counted.await {
        Ok(quota) => quota,
        Err(status) => {
            desk.blame(caller, path, &status);
            return failed(&status);
        }
    };
    desk.counts.passed();
    let (parts, body) = request.into_parts();
    let version = parts.version;
    let (entrance, stream) = passage(FRAMES);
    let (breaks, broken) = oneshot::channel();
    let counted = Arc::clone(&quota);
    tokio::spawn(async move {
        if let Err(status) = carry(body, version, &entrance, &counted).await {
            // Before the way in is given up: what broke off must not look like what has ended.
            let _ = breaks.send(status);
        } else {
            entrance.end();
        }
    });
    let mut request = Request::from_parts(parts, stream);
    desk.strip(&mut request);
    onward::pass(desk, request, broken).await.map(|body| body.keeping(quota))
}

/// Carries a body on as fast as its sender may report, until its end or until the other side hears no more. It is never
/// refused half way: it waits, and its sender with it.
async fn carry(
    mut body: Incoming,
    version: Version,
    entrance: &Entrance,
    quota: &StreamQuota,
) -> Result<(), Status> {
    let broken =
        |why: &dyn Display| Status::new(Code::Cancelled, format!("the call broke off: {why}"));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| broken(&error))?;
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        tokio::select! {
            () = quota.pay_in_time(bytes) => {}
            () = entrance.closed() => return Ok(()),
        }
        if !entrance.send(frame).await {
            return Ok(());
        }
    }
    if onward::is_whole(&body, version) { Ok(()) } else { Err(broken(&"it was reset")) }
}

/// Frames that are on their way.
const FRAMES: usize = 2;
