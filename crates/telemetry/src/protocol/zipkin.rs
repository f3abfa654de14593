//! What programs under Zipkin's tracers post, told in OpenTelemetry's words: from then on it is judged, kept
//! and passed on as everything else that comes in them.
//!
//! The words are those of the mapping that OpenTelemetry publishes, read backwards. Who a span says it comes from is
//! its local endpoint: the service is its name, the instance its address and port (`service.instance.id` where a tag
//! says it). Each record holds what one instance says of one trace.
//!
//! | Zipkin | OpenTelemetry |
//! |---|---|
//! | `traceId` of 16 digits | the same behind zeros |
//! | `localEndpoint.serviceName` | the resource's `service.name` |
//! | `remoteEndpoint` | `peer.service`, `network.peer.address`, `network.peer.port` |
//! | annotation | event |
//! | tag `error`, unless it says `false` | status, with what the tag says |
//! | tags `otel.status_code`, `otel.scope.*`, `otel.library.*` | what they were made of |
//! | `cs`, `sr`, `ms`, `mr` of version 1, each with its end | kind, begin and end; both sides in one are two spans |

mod json;
mod protobuf;
mod tell;
mod version_one;

use std::borrow::Cow;
use std::net::IpAddr;

use bytes::Bytes;
use jiff::Timestamp;

use self::tell::Told;
use super::json::BodyError;

/// How the spans of a body are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Encoding {
    /// An array of version 1, as old tracers send it: annotations with an endpoint each.
    JsonOne,
    /// An array of version 2.
    JsonTwo,
    /// A `ListOfSpans`.
    Protobuf,
}

/// The records that a body holds: a `ResourceSpans` for each instance and trace in it, in the order of their
/// first spans.
///
/// A span that does not say when it began has begun at its first annotation, or else when it was `received`.
///
/// # Errors
/// It cannot be read, or holds more than anybody sends at once.
pub fn read(encoding: Encoding, body: &[u8], received: Timestamp) -> Result<Vec<Bytes>, BodyError> {
    let mut told = Told::new(received);
    match encoding {
        Encoding::JsonOne => version_one::read(body, &mut told)?,
        Encoding::JsonTwo => json::read(body, &mut told)?,
        Encoding::Protobuf => protobuf::read(body, &mut told)?,
    }
    Ok(told.finish())
}

/// A span as Zipkin knows it.
#[derive(Clone, Debug, Default)]
struct Span<'a> {
    trace_id: [u8; 16],
    id: [u8; 8],
    /// All zeros where there is none.
    parent: [u8; 8],
    name: Cow<'a, str>,
    kind: Kind,
    /// In microseconds since 1970; 0 where it is not said.
    timestamp: u64,
    /// In microseconds.
    duration: u64,
    local: Endpoint<'a>,
    remote: Endpoint<'a>,
    annotations: Vec<(u64, Cow<'a, str>)>,
    tags: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    debug: bool,
    shared: bool,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Kind {
    Client,
    Consumer,
    Producer,
    Server,
    #[default]
    Unsaid,
}

/// One side of a call.
#[derive(Clone, Debug, Default)]
struct Endpoint<'a> {
    service: Cow<'a, str>,
    address: Option<IpAddr>,
    /// 0 where it is not said.
    port: u16,
}

/// How much more a body may hold.
#[derive(Debug)]
struct Room {
    spans: usize,
    particulars: usize,
}

impl Room {
    fn new() -> Self {
        Self { spans: MAX_SPANS, particulars: MAX_PARTICULARS }
    }

    fn span(&mut self) -> Result<(), BodyError> {
        self.spans = self.spans.checked_sub(1).ok_or(BodyError::TooMany(MAX_SPANS))?;
        Ok(())
    }

    /// One more tag or annotation, in a span that has `many` already.
    fn particular(&mut self, field: &'static str, many: usize) -> Result<(), BodyError> {
        if many == MAX_OF_SPAN {
            return Err(BodyError::TooManyIn { message: "Span", field, limit: MAX_OF_SPAN });
        }
        let full = BodyError::TooManyIn { message: "ListOfSpans", field, limit: MAX_PARTICULARS };
        self.particulars = self.particulars.checked_sub(1).ok_or(full)?;
        Ok(())
    }
}

/// An id of `N` bytes, of as many or fewer, the rest zeros before them. None that is all zeros: there is no such
/// span.
pub(in crate::protocol) fn id<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    let mut id = [0; N];
    let start = N.checked_sub(bytes.len())?;
    id.get_mut(start..)?.copy_from_slice(bytes);
    id.iter().any(|byte| *byte != 0).then_some(id)
}

/// Spans of one body. Tracers send some hundred at a time, Zipkin's own reporter up to 5 MB of them.
pub const MAX_SPANS: usize = 16_384;

/// Tags and annotations of one body, all together.
pub const MAX_PARTICULARS: usize = 262_144;

/// Tags of one span, and annotations of one.
pub const MAX_OF_SPAN: usize = 1024;

#[cfg(test)]
#[path = "zipkin/tests.rs"]
mod tests;
