//! Spans in protobuf: `ListOfSpans` of `zipkin.proto`.

use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::tell::Told;
use super::{Endpoint, Kind, Room, Span, id};
use crate::protocol::json::BodyError;
use crate::protocol::wire::{Fault, Field, Fields, Malformed};

pub(super) fn read(body: &[u8], told: &mut Told) -> Result<(), BodyError> {
    let mut room = Room::new();
    for field in Fields::of("ListOfSpans", body) {
        let field = field?;
        if field.number == 1 {
            room.span()?;
            told.add(span(field.nested("spans", "Span")?, &mut room)?);
        }
    }
    Ok(())
}

fn span<'a>(fields: Fields<'a>, room: &mut Room) -> Result<Span<'a>, BodyError> {
    let mut span = Span::default();
    let whole = fields.clone();
    for field in fields {
        let field = field?;
        match field.number {
            1 => span.trace_id = identity(&field, "trace_id")?,
            2 if !field.bytes("parent_id")?.is_empty() => {
                span.parent = identity(&field, "parent_id")?;
            }
            3 => span.id = identity(&field, "id")?,
            4 => span.kind = kind(field.int32("kind")?),
            5 => span.name = Cow::Borrowed(field.text("name")?),
            6 => span.timestamp = field.fixed64("timestamp")?,
            7 => span.duration = field.uint64("duration")?,
            8 => span.local = endpoint(field.nested("local_endpoint", "Endpoint")?)?,
            9 => span.remote = endpoint(field.nested("remote_endpoint", "Endpoint")?)?,
            10 => {
                room.particular("annotations", span.annotations.len())?;
                span.annotations.push(annotation(field.nested("annotations", "Annotation")?)?);
            }
            11 => {
                room.particular("tags", span.tags.len())?;
                span.tags.push(tag(field.nested("tags", "TagsEntry")?)?);
            }
            12 => span.debug = field.flag("debug")?,
            13 => span.shared = field.flag("shared")?,
            _ => {}
        }
    }
    for (id, name) in [(span.trace_id.as_slice(), "trace_id"), (&span.id, "id")] {
        if id.iter().all(|byte| *byte == 0) {
            return Err(whole.malformed(name, Fault::Missing).into());
        }
    }
    Ok(span)
}

fn identity<const N: usize>(field: &Field<'_>, name: &'static str) -> Result<[u8; N], Malformed> {
    let bytes = field.bytes(name)?;
    if bytes.len() > N {
        return Err(field.malformed(name, Fault::TooLong(N)));
    }
    id(bytes).ok_or_else(|| field.malformed(name, Fault::Missing))
}

fn kind(number: i32) -> Kind {
    match number {
        1 => Kind::Client,
        2 => Kind::Server,
        3 => Kind::Producer,
        4 => Kind::Consumer,
        _ => Kind::Unsaid,
    }
}

fn endpoint(fields: Fields<'_>) -> Result<Endpoint<'_>, Malformed> {
    let mut endpoint = Endpoint::default();
    for field in fields {
        let field = field?;
        match field.number {
            1 => endpoint.service = Cow::Borrowed(field.text("service_name")?),
            // Of an address of another size nobody knows what it is.
            2 => {
                if let Ok(octets) = <[u8; 4]>::try_from(field.bytes("ipv4")?) {
                    endpoint.address = Some(Ipv4Addr::from(octets).into());
                }
            }
            3 => {
                if let Ok(octets) = <[u8; 16]>::try_from(field.bytes("ipv6")?) {
                    endpoint.address.get_or_insert(Ipv6Addr::from(octets).into());
                }
            }
            4 => endpoint.port = u16::try_from(field.int32("port")?).unwrap_or_default(),
            _ => {}
        }
    }
    Ok(endpoint)
}

fn annotation(fields: Fields<'_>) -> Result<(u64, Cow<'_, str>), Malformed> {
    let (mut timestamp, mut value) = (0, "");
    for field in fields {
        let field = field?;
        match field.number {
            1 => timestamp = field.fixed64("timestamp")?,
            2 => value = field.text("value")?,
            _ => {}
        }
    }
    Ok((timestamp, Cow::Borrowed(value)))
}

fn tag(fields: Fields<'_>) -> Result<(Cow<'_, str>, Cow<'_, str>), Malformed> {
    let (mut key, mut value) = ("", "");
    for field in fields {
        let field = field?;
        match field.number {
            1 => key = field.text("key")?,
            2 => value = field.text("value")?,
            _ => {}
        }
    }
    Ok((Cow::Borrowed(key), Cow::Borrowed(value)))
}
