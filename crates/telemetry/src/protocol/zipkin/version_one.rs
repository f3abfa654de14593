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

/// A side of a call: the annotations that begin and end it, and the address that names the other one.
struct Side {
    begins: &'static str,
    ends: Option<&'static str>,
    kind: Kind,
    other: &'static str,
}

const SIDES: [Side; 4] = [
    Side { begins: "cs", ends: Some("cr"), kind: Kind::Client, other: "sa" },
    Side { begins: "sr", ends: Some("ss"), kind: Kind::Server, other: "ca" },
    Side { begins: "ms", ends: None, kind: Kind::Producer, other: "ma" },
    Side { begins: "mr", ends: None, kind: Kind::Consumer, other: "ma" },
];

/// Sides that one span may hold: a call has two.
const BOTH: usize = 2;

impl<'a> Old<'a> {
    /// The sides of the call that it holds; itself, where it is of none.
    fn sides(self) -> Vec<Span<'a>> {
        let there = |side: &&Side| {
            self.annotations
                .iter()
                .any(|(_, value, _)| side.begins == value || side.ends == Some(value))
        };
        let mut sides: Vec<(&Side, Span<'a>)> =
            SIDES.iter().filter(there).take(BOTH).map(|side| (side, self.side(side))).collect();
        let Some((_, first)) = sides.first() else { return vec![self.local()] };
        // The first is the span as it was reported; the other tells its own times.
        let own = (self.common.timestamp, self.common.duration);
        let (began, took) = (first.timestamp, first.duration);
        for (at, (_, span)) in sides.iter_mut().enumerate() {
            if at == 0 {
                span.timestamp = if own.0 > 0 { own.0 } else { began };
                span.duration = if own.1 > 0 { own.1 } else { took };
            } else {
                span.shared = true;
            }
        }
        // What happened belongs to the side at which it did; what names none of them is the first one's.
        let place = |sides: &[(&Side, Span<'_>)], at: &Endpoint<'_>| {
            sides.iter().position(|(_, span)| span.local.service == at.service).unwrap_or(0)
        };
        for (time, value, at) in self.annotations {
            if !SIDES.iter().any(|side| side.begins == value || side.ends == Some(&*value)) {
                let at = place(&sides, &at);
                sides[at].1.annotations.push((time, value));
            }
        }
        for (key, value, at) in self.binary {
            if is_address(&key) {
                for (side, span) in &mut sides {
                    if side.other == key {
                        span.remote = at.clone();
                    }
                }
            } else {
                let at = place(&sides, &at);
                sides[at].1.tags.push((key, value));
            }
        }
        sides.into_iter().map(|(_, span)| span).collect()
    }

    /// One side, as its annotations tell it.
    fn side(&self, side: &Side) -> Span<'a> {
        let at = |wanted: Option<&str>| {
            self.annotations.iter().find(|(_, value, _)| wanted.is_some_and(|it| it == value))
        };
        let (begin, end) = (at(Some(side.begins)), at(side.ends));
        let local = begin.or(end).map(|(.., local)| local.clone()).unwrap_or_default();
        let time =
            |it: Option<&(u64, Cow<'_, str>, Endpoint<'_>)>| it.map_or(0, |(time, ..)| *time);
        let timestamp = time(begin);
        let duration = if timestamp > 0 { time(end).saturating_sub(timestamp) } else { 0 };
        Span { kind: side.kind, local, timestamp, duration, ..self.common.clone() }
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
