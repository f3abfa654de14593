//! Bodies and answers: one kind of body for everything that is sent, whether it is one message with a
//! status behind it, the bytes of somebody else's answer, or a stream that is filled as it goes.

use std::convert::Infallible;
use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, header};
use hyper::body::{Frame, Incoming, SizeHint};
use tokio::sync::{mpsc, oneshot};

use super::framing::{Framing, encode};
use super::passage::Passage;
use super::status::{Code, Status};

/// Why a body that is passed on broke off.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// Whoever filled it did not come to the end.
    #[error("what is passed on broke off before its end")]
    BrokenOff,
    /// Whoever it comes from broke it off.
    #[error(transparent)]
    Passed(#[from] hyper::Error),
}

/// What is sent as a body.
#[derive(Debug)]
#[non_exhaustive]
pub enum Body {
    /// Nothing.
    Empty,
    /// Bytes, then trailers if there are any.
    Whole(Option<Bytes>, Option<HeaderMap>),
    /// Messages, framed as they are sent.
    Framed(Framing),
    /// Another's body, as it comes.
    Passed(Incoming),
    /// What comes from somebody else, and may break off.
    Passage(Passage),
    /// What is sent to the other end of the channel; it ends when that is dropped.
    Stream(mpsc::Receiver<Frame<Bytes>>),
    /// Another one, and what is given back when that is over.
    Leased(Box<Self>, Lease),
    /// Another one, unless a status takes its place meanwhile, which is told in the trailers.
    Unless(Box<Self>, oneshot::Receiver<Status>),
}

/// What is given back when it is dropped, whatever it is.
pub struct Lease(#[expect(dead_code, reason = "it is there to be dropped")] Box<dyn Send + Sync>);

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lease")
    }
}

impl Body {
    /// The same; as long as it is not over, `lease` is kept.
    #[must_use]
    pub(crate) fn keeping(self, lease: impl Send + Sync + 'static) -> Self {
        Self::Leased(Box::new(self), Lease(Box::new(lease)))
    }

    /// The same, as long as no `status` comes: then it is given up, and that is how it ends.
    #[must_use]
    pub(crate) fn unless(self, status: oneshot::Receiver<Status>) -> Self {
        Self::Unless(Box::new(self), status)
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Whole(bytes, trailers) => {
                let data = bytes.take().map(Frame::data);
                Poll::Ready(data.or_else(|| trailers.take().map(Frame::trailers)).map(Ok))
            }
            Self::Framed(framing) => Poll::Ready(framing.next().map(Frame::data).map(Ok)),
            Self::Passed(body) => Pin::new(body).poll_frame(context).map_err(BodyError::from),
            Self::Passage(passage) => passage.poll(context),
            Self::Stream(frames) => frames.poll_recv(context).map(|frame| frame.map(Ok)),
            Self::Leased(body, _) => Pin::new(&mut **body).poll_frame(context),
            Self::Unless(body, status) => match Pin::new(status).poll(context) {
                Poll::Ready(Ok(status)) => {
                    let mut trailers = HeaderMap::with_capacity(1);
                    status.write(&mut trailers);
                    *self = Self::Empty;
                    Poll::Ready(Some(Ok(Frame::trailers(trailers))))
                }
                Poll::Ready(Err(_)) => {
                    // None will come any more.
                    *self = *std::mem::replace(body, Box::new(Self::Empty));
                    self.poll_frame(context)
                }
                Poll::Pending => Pin::new(&mut **body).poll_frame(context),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty | Self::Whole(None, None) => true,
            Self::Framed(framing) => framing.left == 0,
            Self::Whole(..) | Self::Passage(_) | Self::Stream(_) => false,
            Self::Passed(body) => body.is_end_stream(),
            Self::Leased(body, _) | Self::Unless(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Whole(bytes, _) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64)
            }
            Self::Framed(framing) => SizeHint::with_exact(framing.left),
            Self::Passed(body) => body.size_hint(),
            // A status may take the place of what has yet to come.
            Self::Passage(_) | Self::Stream(_) | Self::Unless(..) => SizeHint::default(),
            Self::Leased(body, _) => body.size_hint(),
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self::Empty } else { Self::Whole(Some(bytes), None) }
    }
}

impl From<Infallible> for Body {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// A body that is filled through a channel with room for `frames`.
pub fn stream(frames: usize) -> (mpsc::Sender<Frame<Bytes>>, Body) {
    let (sender, receiver) = mpsc::channel(frames);
    (sender, Body::Stream(receiver))
}

/// The body of a call without messages.
pub fn no_body() -> Body {
    Body::Empty
}

/// True if the request is a call of gRPC: `application/grpc`, alone or with what its messages are (`+proto`).
/// `application/grpc-web` is something else.
pub fn is_grpc<B>(request: &Request<B>) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let Some((name, more)) = kind.and_then(|kind| kind.split_at_checked(GRPC.len())) else {
        return false;
    };
    name.eq_ignore_ascii_case(GRPC) && matches!(more.first(), None | Some(b'+' | b';' | b' '))
}

const GRPC: &[u8] = b"application/grpc";

/// The answer of a call that went well, with its one message.
pub fn message(message: &[u8]) -> Response<Body> {
    let mut body = BytesMut::new();
    encode(message, &mut body);
    let mut trailers = HeaderMap::with_capacity(1);
    Status::new(Code::Ok, "").write(&mut trailers);
    answer(Body::Whole(Some(body.freeze()), Some(trailers)))
}

/// The answer of a call with many messages, which come as `body` does, and its status in the trailers.
pub fn streamed(body: Body) -> Response<Body> {
    answer(body)
}

/// The answer of a call that did not: headers only.
pub fn failed(status: &Status) -> Response<Body> {
    let mut response = answer(Body::Empty);
    status.write(response.headers_mut());
    response
}

fn answer(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_like_grpc_is_not_all_of_it() {
        for (kind, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc; charset=x", true),
            ("Application/gRPC", true),
            ("application/grpc-web", false),
            ("application/grpcs", false),
            ("application/grp", false),
            ("text/plain", false),
        ] {
            let request = Request::post("/").header(header::CONTENT_TYPE, kind).body(());
            assert_eq!(is_grpc(&request.expect("a request")), expected, "{kind}");
        }
        assert!(!is_grpc(&Request::new(())));
    }
}
