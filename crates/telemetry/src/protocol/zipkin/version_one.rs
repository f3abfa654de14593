//! Spans of version 1 in JSON: what happened is an annotation, and which endpoint it happened at stands in each.
//! Two of them make a side of a call (`cs` and `cr` the client's), and one span may hold both sides.

use std::borrow::Cow;

use super::json::{
    Stop, annotation, each, endpoint, flag, identity, kept, micros, parent, scalar, whole,
};
use super::tell::Told;
use super::{Endpoint, Kind, Room, Span};
use crate::protocol::json::BodyError;
use crate::protocol::json::reader::{Read, Reader};

pub(super) fn read(body: &[u8], told: &mut Told) -> Result<(), BodyError> {
    each(body, |reader, room| {
        let old = old_span(reader, room)?;
        for span in old.sides() {
            told.add(span);
        }
        Ok(())
    })
}

/// A span of version 1.
#[derive(Debug, Default)]
struct Old<'a> {
    /// What both versions have, without kind and endpoints.
    common: Span<'a>,
    annotations: Vec<(u64, Cow<'a, str>, Endpoint<'a>)>,
    binary: Vec<(Cow<'a, str>, Cow<'a, str>, Endpoint<'a>)>,
}

/// The annotations that begin and end a side of a call, which it is, and the address that names the other.
const SIDES: [(&str, &str, Kind, &str); 4] = [
    ("cs", "cr", Kind::Client, "sa"),
    ("sr", "ss", Kind::Server, "ca"),
    ("ms", "", Kind::Producer, "ma"),
    ("mr", "", Kind::Consumer, "ma"),
];

impl<'a> Old<'a> {
    /// The sides of the call that it holds; itself, where it is of none.
    fn sides(self) -> Vec<Span<'a>> {
        let there = |side: &&(&str, &str, Kind, &str)| {
            let core = |value: &str| value == side.0 || (!side.1.is_empty() && value == side.1);
            self.annotations.iter().any(|(_, value, _)| core(value))
        };
        let sides: Vec<_> = SIDES.iter().filter(there).collect();
        let Some(first) = sides.first() else { return vec![self.local()] };
        let first = **first;
        let many = sides.len() > 1;
        let told = sides.into_iter().map(|side| self.side(*side, *side == first, many));
        told.collect()
    }

    fn side(&self, side: (&str, &str, Kind, &str), is_first: bool, many: bool) -> Span<'a> {
        let (begins, ends, kind, other) = side;
        let at = |wanted: &str| {
            self.annotations.iter().find(|(_, value, _)| value == wanted && !wanted.is_empty())
        };
        let (begin, end) = (at(begins), at(ends));
        let mut span = Span { kind, ..self.common.clone() };
        if let Some((_, _, local)) = begin.or(end) {
            span.local = local.clone();
        }
        if !is_first {
            span.shared = true;
            (span.timestamp, span.duration) = (0, 0);
        }
        if span.timestamp == 0 {
            span.timestamp = begin.map_or(0, |(time, ..)| *time);
        }
        if span.duration == 0 {
            let end = end.map_or(0, |(time, ..)| *time);
            span.duration = end.saturating_sub(begin.map_or(end, |(time, ..)| *time));
        }
        // Where there are two, each has what happened at it; what names no place is the first one's.
        let service = span.local.service.clone();
        let belongs = |place: &Endpoint<'_>| {
            !many || place.service == service || (is_first && place.service.is_empty())
        };
        let is_core = |value: &str| SIDES.iter().any(|side| value == side.0 || value == side.1);
        for (time, value, place) in &self.annotations {
            if !is_core(value) && belongs(place) {
                span.annotations.push((*time, value.clone()));
            }
        }
        for (key, value, place) in &self.binary {
            if *key == other {
                span.remote = place.clone();
            } else if !is_address(key) && belongs(place) {
                span.tags.push((key.clone(), value.clone()));
            }
        }
        span
    }

    /// What happened within one process: any endpoint tells which.
    fn local(self) -> Span<'a> {
        let places = self.annotations.iter().map(|(.., place)| place);
        let own = self.binary.iter().filter(|(key, ..)| !is_address(key)).map(|(.., place)| place);
        let place = own.chain(places).find(|place| !place.service.is_empty()).cloned();
        let mut span = self.common;
        span.local = place.unwrap_or_default();
        span.annotations = self.annotations.into_iter().map(|(at, value, _)| (at, value)).collect();
        for (key, value, place) in self.binary {
            if is_address(&key) {
                span.remote = place;
            } else {
                span.tags.push((key, value));
            }
        }
        span
    }
}

/// Whether a binary annotation says with its endpoint who the other side is.
fn is_address(key: &str) -> bool {
    matches!(key, "ca" | "ma" | "sa")
}

fn old_span<'a>(reader: &mut Reader<'a>, room: &mut Room) -> Result<Old<'a>, Stop> {
    let (mut old, mut full) = (Old::default(), None);
    reader
        .object(|reader, name| {
            if reader.peek() == Some(b'n') {
                return reader.word("null");
            }
            let span = &mut old.common;
            let (field, read) = match name {
                "traceId" => ("traceId", identity(reader).map(|id| span.trace_id = id)),
                "id" => ("id", identity(reader).map(|id| span.id = id)),
                "parentId" => ("parentId", parent(reader).map(|id| span.parent = id)),
                "name" => ("name", reader.string().map(|name| span.name = name)),
                "timestamp" => ("timestamp", micros(reader).map(|at| span.timestamp = at)),
                "duration" => ("duration", micros(reader).map(|it| span.duration = it)),
                "debug" => ("debug", flag(reader).map(|it| span.debug = it)),
                "annotations" => {
                    let read = reader.array(|reader| {
                        let annotation = annotation(reader)?;
                        kept(
                            room.particular("annotations", old.annotations.len()),
                            &mut full,
                            reader,
                        )?;
                        old.annotations.push(annotation);
                        Ok(())
                    });
                    ("annotations", read)
                }
                "binaryAnnotations" => {
                    let read = reader.array(|reader| {
                        let binary = binary(reader)?;
                        kept(
                            room.particular("binaryAnnotations", old.binary.len()),
                            &mut full,
                            reader,
                        )?;
                        old.binary.push(binary);
                        Ok(())
                    });
                    ("binaryAnnotations", read)
                }
                _ => return reader.pass_over(),
            };
            read.map_err(|fail| fail.within("Span", field))
        })
        .map_err(|fail| full.map_or(Stop::Fail(fail), Stop::Full))?;
    whole(reader, &old.common)?;
    Ok(old)
}

fn binary<'a>(reader: &mut Reader<'a>) -> Read<(Cow<'a, str>, Cow<'a, str>, Endpoint<'a>)> {
    let (mut key, mut value, mut at) = (Cow::default(), Cow::default(), Endpoint::default());
    reader.object(|reader, name| {
        if reader.peek() == Some(b'n') {
            return reader.word("null");
        }
        let (field, read) = match name {
            "key" => ("key", reader.string().map(|it| key = it)),
            "value" => ("value", scalar(reader).map(|it| value = it.unwrap_or_default())),
            "endpoint" => ("endpoint", endpoint(reader).map(|it| at = it)),
            _ => return reader.pass_over(),
        };
        read.map_err(|fail| fail.within("BinaryAnnotation", field))
    })?;
    Ok((key, value, at))
}
