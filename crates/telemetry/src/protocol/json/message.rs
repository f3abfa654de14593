//! A message, from JSON into protobuf.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::reader::{Read, Reader};
use super::schema::{Field, Kind, Message};
use crate::protocol::wire::{put_bytes, put_varint};

/// Reads an object and appends it, without its length.
pub(super) fn write(reader: &mut Reader<'_>, message: &Message, out: &mut Vec<u8>) -> Read<()> {
    reader.object(|reader, name| {
        let Some(field) = message.field(name) else { return reader.pass_over() };
        if reader.peek() == Some(b'n') {
            return reader.word("null");
        }
        let written = match (field.repeated, field.kind) {
            (_, Kind::TextMap) => text_map(reader, field.number, out),
            (true, _) => reader.array(|reader| value(reader, field, out)),
            (false, _) => value(reader, field, out),
        };
        written.map_err(|fail| fail.within(message.name, field.name))
    })
}

fn value(reader: &mut Reader<'_>, field: &Field, out: &mut Vec<u8>) -> Read<()> {
    match field.kind {
        Kind::Message(message) => {
            return nested(field.number, out, |out| write(reader, message, out));
        }
        Kind::Text => put_bytes(out, field.number, reader.string()?.as_bytes()),
        Kind::Bytes => put_bytes(out, field.number, &base64_bytes(reader)?),
        Kind::Id => put_bytes(out, field.number, &hexadecimal(reader)?),
        Kind::Flag => varint(out, field.number, u64::from(flag(reader)?)),
        Kind::Double => fixed64(out, field.number, double(reader)?.to_bits()),
        Kind::Enum(named) => {
            let number = match reader.peek() {
                Some(b'"') => named(&reader.string()?),
                _ => Some(number(reader, "a name or a number of 32 bits")?),
            };
            // A value that only a later version knows is one that we have none for.
            if let Some(number) = number {
                varint(out, field.number, i64::from(number).cast_unsigned());
            }
        }
        Kind::Fixed32 => {
            let number: u32 = number(reader, "a number of 32 bits")?;
            put_varint(out, u64::from(field.number) << 3 | 5);
            out.extend_from_slice(&number.to_le_bytes());
        }
        Kind::Fixed64 => fixed64(out, field.number, number(reader, "a number of 64 bits")?),
        Kind::Int32 => {
            let number: i32 = number(reader, "a number of 32 bits")?;
            varint(out, field.number, i64::from(number).cast_unsigned());
        }
        Kind::Int64 => {
            let number: i64 = number(reader, "a number of 64 bits")?;
            varint(out, field.number, number.cast_unsigned());
        }
        Kind::Sfixed64 => {
            let number: i64 = number(reader, "a number of 64 bits")?;
            fixed64(out, field.number, number.cast_unsigned());
        }
        Kind::Sint32 => {
            let number: i32 = number(reader, "a number of 32 bits")?;
            let zigzag = (number << 1 ^ number >> 31).cast_unsigned();
            varint(out, field.number, u64::from(zigzag));
        }
        Kind::TextMap => text_map(reader, field.number, out)?,
        Kind::Uint32 => {
            let number: u32 = number(reader, "a number of 32 bits")?;
            varint(out, field.number, u64::from(number));
        }
        Kind::Uint64 => varint(out, field.number, number(reader, "a number of 64 bits")?),
    }
    Ok(())
}

/// Writes a message with its length, which is known only afterwards.
fn nested(
    number: u32,
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Read<()>,
) -> Read<()> {
    put_varint(out, u64::from(number) << 3 | 2);
    let start = out.len();
    write(out)?;
    let mut length = Vec::with_capacity(5);
    put_varint(&mut length, (out.len() - start) as u64);
    out.splice(start..start, length);
    Ok(())
}

fn text_map(reader: &mut Reader<'_>, number: u32, out: &mut Vec<u8>) -> Read<()> {
    reader.object(|reader, key| {
        let value = reader.string()?;
        nested(number, out, |out| {
            put_bytes(out, 1, key.as_bytes());
            put_bytes(out, 2, value.as_bytes());
            Ok(())
        })
    })
}

fn varint(out: &mut Vec<u8>, number: u32, value: u64) {
    put_varint(out, u64::from(number) << 3);
    put_varint(out, value);
}

fn fixed64(out: &mut Vec<u8>, number: u32, value: u64) {
    put_varint(out, u64::from(number) << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

/// A whole number, as a number or in a string; also as `1e3` or `5.0`, which some programs write.
pub(in crate::protocol) fn number<N: TryFrom<i128> + Copy>(
    reader: &mut Reader<'_>,
    what: &'static str,
) -> Read<N> {
    let fits = |text: &str| N::try_from(whole(text)?).ok();
    let number = match reader.peek() {
        Some(b'"') => fits(&reader.string()?),
        _ => fits(reader.number()?),
    };
    number.ok_or_else(|| reader.expected(what))
}

#[expect(clippy::cast_possible_truncation, reason = "was found to be whole, and small enough")]
fn whole(text: &str) -> Option<i128> {
    if let Ok(whole) = text.parse() {
        return Some(whole);
    }
    let number: f64 = text.parse().ok()?;
    (number.fract() == 0.0 && number.abs() < 2_f64.powi(64)).then_some(number as i128)
}

/// A number; in a string also one of those that JSON has no numbers for.
fn double(reader: &mut Reader<'_>) -> Read<f64> {
    let parsed = match reader.peek() {
        Some(b'"') => match reader.string()?.as_ref() {
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            "NaN" => Some(f64::NAN),
            text => text.parse().ok().filter(|number: &f64| number.is_finite()),
        },
        _ => reader.number()?.parse().ok(),
    };
    parsed.ok_or_else(|| reader.expected("a number"))
}

pub(in crate::protocol) fn flag(reader: &mut Reader<'_>) -> Read<bool> {
    match reader.peek() {
        Some(b't') => reader.word("true").map(|()| true),
        Some(b'f') => reader.word("false").map(|()| false),
        Some(b'"') => match reader.string()?.as_ref() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(reader.expected("true or false")),
        },
        _ => Err(reader.expected("true or false")),
    }
}

/// Of either alphabet, padded or not.
pub(in crate::protocol) fn base64_bytes(reader: &mut Reader<'_>) -> Read<Vec<u8>> {
    let text = reader.string()?;
    let engine = if text.contains(['-', '_']) { &URL_SAFE } else { &STANDARD };
    engine.decode(text.as_bytes()).map_err(|_| reader.expected("bytes in base64"))
}

const ANY_PADDING: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, ANY_PADDING);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, ANY_PADDING);

fn hexadecimal(reader: &mut Reader<'_>) -> Read<Vec<u8>> {
    let text = reader.string()?;
    digits(&text).ok_or_else(|| reader.expected("an id in hexadecimal"))
}

/// The bytes of hexadecimal digits.
pub(in crate::protocol) fn digits(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
    Option::filter(bytes, |_| rest.is_empty())
}
