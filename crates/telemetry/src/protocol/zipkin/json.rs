//! Spans of version 2 in JSON, and what both versions have alike.

use std::borrow::Cow;
use std::net::IpAddr;

use super::tell::Told;
use super::{Endpoint, Kind, Room, Span, id};
use crate::protocol::json::message::{digits, number};
use crate::protocol::json::reader::{Fail, Read, Reader};
use crate::protocol::json::{BodyError, JsonError, JsonFault};

/// A fault of what was read, or too much of it.
pub(super) enum Stop {
    Fail(Fail),
    Full(BodyError),
}

impl From<Fail> for Stop {
    fn from(fail: Fail) -> Self {
        Self::Fail(fail)
    }
}

pub(super) fn read(body: &[u8], told: &mut Told) -> Result<(), BodyError> {
    each(body, |reader, room| {
        let span = span(reader, room)?;
        told.add(span);
        Ok(())
    })
}

/// Reads an array of spans, or one span alone, one after the other.
pub(super) fn each<'a>(
    body: &'a [u8],
    mut one: impl FnMut(&mut Reader<'a>, &mut Room) -> Result<(), Stop>,
) -> Result<(), BodyError> {
    let text = str::from_utf8(body).map_err(|fault| JsonError {
        message: "Span",
        field: "(body)",
        at: fault.valid_up_to(),
        fault: JsonFault::Utf8,
    })?;
    let (mut reader, mut room, mut full) = (Reader::of(text), Room::new(), None);
    let mut read_one = |reader: &mut Reader<'a>| {
        let outcome = room.span().map_err(Stop::Full).and_then(|()| one(reader, &mut room));
        outcome.map_err(|stop| match stop {
            Stop::Fail(fail) => fail,
            Stop::Full(error) => {
                full = Some(error);
                reader.expected("less")
            }
        })
    };
    let read = match reader.peek() {
        Some(b'[') => reader.array(&mut read_one),
        _ => read_one(&mut reader),
    };
    let read = read.and_then(|()| reader.end());
    match (read, full) {
        (_, Some(error)) => Err(error),
        (Err(fail), None) => Err(fail.error("Span", "(body)").into()),
        (Ok(()), None) => Ok(()),
    }
}

fn span<'a>(reader: &mut Reader<'a>, room: &mut Room) -> Result<Span<'a>, Stop> {
    let (mut span, mut full) = (Span::default(), None);
    reader
        .object(|reader, name| {
            if reader.peek() == Some(b'n') {
                return reader.word("null");
            }
            let (field, read) = match name {
                "traceId" => ("traceId", identity(reader).map(|id| span.trace_id = id)),
                "id" => ("id", identity(reader).map(|id| span.id = id)),
                "parentId" => ("parentId", parent(reader).map(|id| span.parent = id)),
                "name" => ("name", reader.string().map(|name| span.name = name)),
                "kind" => ("kind", reader.string().map(|name| span.kind = kind(&name))),
                "timestamp" => ("timestamp", micros(reader).map(|at| span.timestamp = at)),
                "duration" => ("duration", micros(reader).map(|it| span.duration = it)),
                "localEndpoint" => ("localEndpoint", endpoint(reader).map(|it| span.local = it)),
                "remoteEndpoint" => ("remoteEndpoint", endpoint(reader).map(|it| span.remote = it)),
                "debug" => ("debug", flag(reader).map(|it| span.debug = it)),
                "shared" => ("shared", flag(reader).map(|it| span.shared = it)),
                "annotations" => {
                    let read = reader.array(|reader| {
                        let (at, value, _) = annotation(reader)?;
                        kept(
                            room.particular("annotations", span.annotations.len()),
                            &mut full,
                            reader,
                        )?;
                        span.annotations.push((at, value));
                        Ok(())
                    });
                    ("annotations", read)
                }
                "tags" => {
                    let read = reader.object(|reader, key| {
                        let value = scalar(reader)?;
                        kept(room.particular("tags", span.tags.len()), &mut full, reader)?;
                        if let Some(value) = value {
                            span.tags.push((Cow::Owned(key.to_owned()), value));
                        }
                        Ok(())
                    });
                    ("tags", read)
                }
                _ => return reader.pass_over(),
            };
            read.map_err(|fail| fail.within("Span", field))
        })
        .map_err(|fail| full.map_or(Stop::Fail(fail), Stop::Full))?;
    whole(reader, &span)?;
    Ok(span)
}

/// Remembers that there was no room, and ends the reading.
pub(super) fn kept(
    room: Result<(), BodyError>,
    full: &mut Option<BodyError>,
    reader: &Reader<'_>,
) -> Read<()> {
    room.map_err(|error| {
        *full = Some(error);
        reader.expected("less")
    })
}

/// Whether a span has what makes it one.
pub(super) fn whole(reader: &Reader<'_>, span: &Span<'_>) -> Read<()> {
    for (id, field) in [(span.trace_id.as_slice(), "traceId"), (&span.id, "id")] {
        if id.iter().all(|byte| *byte == 0) {
            return Err(reader.expected("a span to have one").within("Span", field));
        }
    }
    Ok(())
}

/// Up to twice as many hexadecimal digits as it has bytes.
pub(super) fn identity<const N: usize>(reader: &mut Reader<'_>) -> Read<[u8; N]> {
    let text = reader.string()?;
    let even = if text.len().is_multiple_of(2) { text } else { Cow::Owned(format!("0{text}")) };
    let bytes = digits(&even).filter(|bytes| bytes.len() <= N);
    let wanted = if N == 16 {
        "an id of up to 32 hexadecimal digits that is not zero"
    } else {
        "an id of up to 16 hexadecimal digits that is not zero"
    };
    bytes.and_then(|bytes| id(&bytes)).ok_or_else(|| reader.expected(wanted))
}

/// A root has none, an empty one, or zero.
pub(super) fn parent(reader: &mut Reader<'_>) -> Read<[u8; 8]> {
    let mut ahead = reader.clone();
    if ahead.string()?.bytes().all(|digit| digit == b'0') {
        *reader = ahead;
        return Ok([0; 8]);
    }
    identity(reader)
}

fn kind(name: &str) -> Kind {
    match name {
        "CLIENT" => Kind::Client,
        "SERVER" => Kind::Server,
        "PRODUCER" => Kind::Producer,
        "CONSUMER" => Kind::Consumer,
        _ => Kind::Unsaid,
    }
}

pub(super) fn micros(reader: &mut Reader<'_>) -> Read<u64> {
    number(reader, "microseconds")
}

/// An annotation, with the endpoint that version 1 has in each.
pub(super) fn annotation<'a>(reader: &mut Reader<'a>) -> Read<(u64, Cow<'a, str>, Endpoint<'a>)> {
    let (mut timestamp, mut value, mut at) = (0, Cow::default(), Endpoint::default());
    reader.object(|reader, name| {
        if reader.peek() == Some(b'n') {
            return reader.word("null");
        }
        let (field, read) = match name {
            "timestamp" => ("timestamp", micros(reader).map(|it| timestamp = it)),
            "value" => ("value", reader.string().map(|it| value = it)),
            "endpoint" => ("endpoint", endpoint(reader).map(|it| at = it)),
            _ => return reader.pass_over(),
        };
        read.map_err(|fail| fail.within("Annotation", field))
    })?;
    Ok((timestamp, value, at))
}

pub(super) fn endpoint<'a>(reader: &mut Reader<'a>) -> Read<Endpoint<'a>> {
    let mut endpoint = Endpoint::default();
    reader.object(|reader, name| {
        if reader.peek() == Some(b'n') {
            return reader.word("null");
        }
        let (field, read) = match name {
            "serviceName" => ("serviceName", reader.string().map(|it| endpoint.service = it)),
            // What is no address says nothing.
            "ipv4" => (
                "ipv4",
                reader.string().map(|it| {
                    endpoint.address = it.parse::<IpAddr>().ok().or(endpoint.address);
                }),
            ),
            "ipv6" => (
                "ipv6",
                reader.string().map(|it| {
                    endpoint.address = endpoint.address.or_else(|| it.parse().ok());
                }),
            ),
            "port" => (
                "port",
                number::<i64>(reader, "a port").map(|it| {
                    endpoint.port = u16::try_from(it).unwrap_or_default();
                }),
            ),
            _ => return reader.pass_over(),
        };
        read.map_err(|fail| fail.within("Endpoint", field))
    })?;
    Ok(endpoint)
}

pub(super) fn flag(reader: &mut Reader<'_>) -> Read<bool> {
    crate::protocol::json::message::flag(reader)
}

/// The value of a tag as text. They are texts; some programs write numbers.
pub(super) fn scalar<'a>(reader: &mut Reader<'a>) -> Read<Option<Cow<'a, str>>> {
    Ok(Some(match reader.peek() {
        Some(b'"') => reader.string()?,
        Some(b't') => reader.word("true").map(|()| Cow::Borrowed("true"))?,
        Some(b'f') => reader.word("false").map(|()| Cow::Borrowed("false"))?,
        Some(b'n') => return reader.word("null").map(|()| None),
        Some(b'{' | b'[') => return Err(reader.expected("a text")),
        _ => Cow::Borrowed(reader.number()?),
    }))
}
