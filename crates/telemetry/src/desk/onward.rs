//! A call on its way to what is behind the desk while it still comes. Where it breaks off before its end, neither side
//! takes that for the end: the one behind sees a reset, and the caller, if it is still there, is told why.

use std::sync::Arc;

use http::{Request, Response, Version};
use hyper::body::{Body as _, Incoming};
use tokio::sync::oneshot;

use super::Desk;
use crate::grpc::{Body, Status, failed};

/// Passes a call on and answers it as it is answered, unless it is `broken` off. Whoever breaks it off says so before the
/// request's body ends in an error.
pub(super) async fn pass(
    desk: &Arc<Desk>,
    request: Request<Body>,
    mut broken: oneshot::Receiver<Status>,
) -> Response<Body> {
    let mut passing = desk.sink.pass(request);
    tokio::select! {
        // What is given up here is cancelled there. To be told first keeps what broke off at our caller from being laid to
        // the backend.
        biased;
        told = &mut broken => match told {
            Ok(status) => failed(&status),
            Err(_) => passing.await,
        },
        response = &mut passing => response.map(|body| body.unless(broken)),
    }
}

/// Whether a body that brings nothing more has come to its end. In HTTP/2 a reset that names no error reads as if it had.
pub(super) fn is_whole(body: &Incoming, version: Version) -> bool {
    version != Version::HTTP_2 || body.is_end_stream()
}
