//! gRPC over HTTP/2, as much of it as telemetry needs: messages in and out of a body, a status in
//! the trailers. Messages stay bytes: who relays what a newer agent says must not need to know it.
//!
//! HTTP/2 itself is hyper's. The framing is ours because a relay hands on calls of methods it does
//! not know, and because every limit on what a stranger may send is to stand in one place.
//! (gRPC over HTTP2, the protocol's `PROTOCOL-HTTP2.md`.)

mod flaw;
mod framing;
mod messages;
mod passage;
mod reply;
mod status;
mod unpacking;

pub use self::flaw::Flaw;
pub(crate) use self::framing::head;
pub use self::framing::{Framing, encode};
pub use self::messages::{Coding, MESSAGE_LIMIT, Messages, Room, Unbounded};
pub use self::passage::Passage;
pub(crate) use self::passage::{Entrance, passage};
pub use self::reply::{
    Body, BodyError, Lease, failed, is_grpc, message, no_body, stream, streamed,
};
pub use self::status::{Code, Status};
pub(crate) use self::unpacking::gunzip;
