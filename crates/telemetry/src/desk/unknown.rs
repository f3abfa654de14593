//! Calls of methods that nobody here knows: passed on byte for byte, and yet no way around a quota. They count as
//! streams until the answer has come to its end, and what they bring is paid for like everything else.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, Incoming};
use tokio::sync::mpsc;

use super::Desk;
use super::stream_quota::StreamQuota;
use crate::caller::Caller;
use crate::grpc::{Body, failed};

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
    let (sender, stream) = crate::grpc::stream(FRAMES);
    tokio::spawn(carry(body, sender, Arc::clone(&quota)));
    let mut request = Request::from_parts(parts, stream);
    desk.strip(&mut request);
    desk.sink.pass(request).await.map(|body| body.keeping(quota))
}

/// Carries a body on as fast as its sender may report. It is never refused half way, for nobody could be told: it waits,
/// and its sender with it.
async fn carry(mut body: Incoming, sender: mpsc::Sender<Frame<Bytes>>, quota: Arc<StreamQuota>) {
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            // What broke off must not look like what has ended.
            sender.closed().await;
            return;
        };
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        tokio::select! {
            () = quota.pay_in_time(bytes) => {}
            () = sender.closed() => return,
        }
        if sender.send(frame).await.is_err() {
            return;
        }
    }
}

/// Frames that are on their way.
const FRAMES: usize = 2;
