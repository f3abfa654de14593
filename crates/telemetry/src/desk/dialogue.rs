//! Calls in which both sides speak: recordings of profilers, of which the first message says whose they are. They are
//! passed on as they come, and each message is judged before it is.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{Request, Response, Version};
use hyper::body::{Frame, Incoming};
use tokio::sync::oneshot;

use super::report::malformed;
use super::stream_quota::{Held, StreamQuota};
use super::{Desk, onward};
use crate::caller::Caller;
use crate::grpc::{
    Body, Code, Coding, Entrance, Flaw, MESSAGE_LIMIT, Messages, Status, failed, head, passage,
};
use crate::protocol::method::Method;
use crate::quota;
use crate::rules::Claimed;
use crate::workshop::{HEAVY, apart};

pub(super) async fn pass(
    desk: &Arc<Desk>,
    method: &'static Method,
    request: Request<Incoming>,
    caller: &Arc<Caller>,
) -> Response<Body> {
    let (mut parts, body) = request.into_parts();
    let coding = match Coding::of(&parts.headers) {
        Ok(coding) => coding,
        Err(status) => {
            desk.blame(caller, method.path, &status);
            return failed(&status);
        }
    };
    let quota = match StreamQuota::open(desk, caller.account()) {
        Ok(quota) => Arc::new(quota),
        Err(status) => {
            desk.blame(caller, method.path, &status);
            return failed(&status);
        }
    };
    let messages = Messages::new(body, coding, MESSAGE_LIMIT, quota::PATIENCE * 15);
    let messages = messages.within(quota.held());
    let mut said = Said {
        caller: Arc::clone(caller),
        desk: Arc::clone(desk),
        messages,
        method,
        quota: Arc::clone(&quota),
        version: parts.version,
    };
    let first = match said.first().await {
        Ok(first) => first,
        Err(status) => {
            desk.blame(caller, method.path, &status);
            return failed(&status);
        }
    };
    let (entrance, stream) = passage(FRAMES);
    let (breaks, broken) = oneshot::channel();
    tokio::spawn(said.on(first, entrance, breaks));
    // What is sent on is not compressed.
    parts.headers.remove("grpc-encoding");
    desk.counts.passed();
    let mut request = Request::from_parts(parts, stream);
    desk.strip(&mut request);
    // The other side may take its time after all was said; until then it is one of the caller's streams.
    onward::pass(desk, request, broken).await.map(|body| body.keeping(quota))
}

/// What the caller says.
struct Said {
    caller: Arc<Caller>,
    desk: Arc<Desk>,
    messages: Messages<Incoming, Held>,
    method: &'static Method,
    quota: Arc<StreamQuota>,
    version: Version,
}

impl Said {
    /// What comes first has to say who speaks.
    async fn first(&mut self) -> Result<Vec<Bytes>, Status> {
        let mut arrived = Vec::new();
        self.messages.next(&mut arrived).await?;
        let names_somebody;
        (arrived, names_somebody) = self.judge(arrived).await?;
        if names_somebody {
            return Ok(arrived);
        }
        let path = self.method.path;
        Err(Status::new(
            Code::InvalidArgument,
            format!("the first message of {path} names no service"),
        )
        .flawed(Flaw::Malformed))
    }

    /// Whether they may be said, and whether they name a service at all.
    async fn judge(&mut self, messages: Vec<Bytes>) -> Result<(Vec<Bytes>, bool), Status> {
        let (desk, caller, method) =
            (Arc::clone(&self.desk), Arc::clone(&self.caller), self.method);
        let judge = move |messages: &[Bytes]| -> Result<bool, Status> {
            let mut named = false;
            for message in messages {
                let claims = method.claimed.claims(message).map_err(|fault| malformed(&fault))?;
                for claim in claims.iter() {
                    let claimed = Claimed { service: &claim.service, instance: claim.instance };
                    desk.judge_question(&caller, claimed)?;
                    named |= !claim.service.is_empty();
                }
            }
            Ok(named)
        };
        if messages.iter().map(Bytes::len).sum::<usize>() < HEAVY {
            let named = judge(&messages)?;
            return Ok((messages, named));
        }
        let held = self.messages.room().lend();
        let (messages, held, named) = apart(move |_| {
            let named = judge(&messages);
            (messages, held, named)
        })
        .await?;
        self.messages.room().take_back(held);
        Ok((messages, named?))
    }

    /// Sends on what is said. Where it breaks off, or something may not be said, it has no end: the other side must not
    /// take half a recording for a whole one.
    async fn on(
        mut self,
        mut arrived: Vec<Bytes>,
        entrance: Entrance,
        breaks: oneshot::Sender<Status>,
    ) {
        let (desk, caller) = (Arc::clone(&self.desk), Arc::clone(&self.caller));
        let outcome: Result<(), Status> = async {
            loop {
                let bytes: usize = arrived.iter().map(Bytes::len).sum();
                self.quota.pay(arrived.len() as u64, bytes as u64).await?;
                for message in arrived.drain(..) {
                    if !say(&message, &entrance).await {
                        // The other side has heard enough.
                        return Ok(());
                    }
                }
                if !self.messages.next(&mut arrived).await? {
                    let whole = onward::is_whole(self.messages.body(), self.version);
                    let reset = || Status::new(Code::Cancelled, "the stream was reset");
                    return whole.then_some(()).ok_or_else(reset);
                }
                (arrived, _) = self.judge(arrived).await?;
            }
        }
        .await;
        match outcome {
            Ok(()) => entrance.end(),
            Err(status) => {
                tracing::debug!(path = self.method.path, caller = %caller.name(), %status, "cut short");
                desk.blame(&caller, self.method.path, &status);
                // Before the way in is given up. Whoever broke it off does not hear it.
                let _ = breaks.send(status);
                drop(entrance);
            }
        }
    }
}

/// Sends a message on, in pieces that are copies: what waits for the other side holds nothing else in memory. False if
/// the other side hears no more.
async fn say(message: &[u8], entrance: &Entrance) -> bool {
    let (first, rest) = message.split_at(message.len().min(PIECE));
    let mut begin = BytesMut::new();
    head(message.len(), &mut begin);
    begin.extend_from_slice(first);
    let pieces = std::iter::once(begin.freeze());
    for piece in pieces.chain(rest.chunks(PIECE).map(Bytes::copy_from_slice)) {
        if !entrance.send(Frame::data(piece)).await {
            return false;
        }
    }
    true
}

/// Pieces of messages that are on their way.
const FRAMES: usize = 2;

/// Bytes of a message that are sent on together.
const PIECE: usize = 64 * 1024;
