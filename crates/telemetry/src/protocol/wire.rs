//! Protobuf read field by field, out of the bytes that were received: nothing is built, so that it
//! costs the same whatever a message claims to hold.
//!
//! It is stricter than other readers where they disagree with each other. A key above 32 bits is cut
//! short by some and refused by others, a group is skipped by some and read by others; whoever may
//! choose which field a reader sees could be somebody to us and somebody else to the next. Such
//! messages are refused.

use std::fmt;

/// The fields of one message, in the order in which they came.
#[derive(Clone, Debug)]
pub(crate) struct Fields<'a> {
    message: &'static str,
    rest: &'a [u8],
}

/// One field: its number, and what it holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field<'a> {
    message: &'static str,
    pub(crate) number: u32,
    value: Value<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Value<'a> {
    Bytes(&'a [u8]),
    Fixed32,
    Fixed64(u64),
    Varint(u64),
}

/// Why a message cannot be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message}.{field} {fault}")]
pub struct Malformed {
    /// The message that the fault lies in, by the protocol's name.
    pub message: &'static str,
    /// Its field.
    pub field: Place,
    /// What is wrong there.
    pub fault: Fault,
}

/// Which field of a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Place {
    /// One whose name is known.
    Name(&'static str),
    /// One of which only the number was read.
    Number(u32),
    /// What should have been a field's key.
    Key,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Number(number) => write!(f, "{number}"),
            Self::Key => f.write_str("(key)"),
        }
    }
}

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Two different values where there can be one.
    #[error("is there twice, with different values")]
    Ambiguous,
    /// A group, which this protocol never had.
    #[error("is a group, which no version of the protocol has")]
    Group,
    /// A number beyond its type.
    #[error("is a number too large for its type")]
    Overflow,
    /// Not there, or nothing but zeros, where there has to be something.
    #[error("is missing")]
    Missing,
    /// A name that is longer than any.
    #[error("is longer than {0} bytes")]
    TooLong(usize),
    /// More of them than anybody needs.
    #[error("holds more than {0}")]
    TooMany(usize),
    /// The message ends within the field.
    #[error("ends after the message does")]
    Truncated,
    /// Text that is none.
    #[error("is not valid UTF-8")]
    Utf8,
    /// Another type than the protocol's.
    #[error("is encoded as another type")]
    WireType,
}

impl<'a> Fields<'a> {
    /// Of a message, named for what is said when it cannot be read.
    pub(crate) fn of(message: &'static str, bytes: &'a [u8]) -> Self {
        Self { message, rest: bytes }
    }

    /// What was not read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// A fault of the message's own.
    pub(crate) fn malformed(&self, name: &'static str, fault: Fault) -> Malformed {
        self.fault(Place::Name(name), fault)
    }

    fn fault(&self, field: Place, fault: Fault) -> Malformed {
        Malformed { message: self.message, field, fault }
    }

    fn varint(&mut self, place: Place) -> Result<u64, Malformed> {
        // One byte is by far the most frequent.
        if let [first @ ..0x80, rest @ ..] = self.rest {
            self.rest = rest;
            return Ok(u64::from(*first));
        }
        let mut value = 0;
        for (at, byte) in self.rest.iter().take(LONGEST_VARINT).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                if at + 1 == LONGEST_VARINT && *byte > 1 {
                    break;
                }
                self.rest = self.rest.get(at + 1..).unwrap_or_default();
                return Ok(value);
            }
        }
        let short = self.rest.len() < LONGEST_VARINT;
        Err(self.fault(place, if short { Fault::Truncated } else { Fault::Overflow }))
    }

    fn take<const N: usize>(&mut self, place: Place) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or_else(|| self.fault(place, Fault::Truncated))?;
        self.rest = rest;
        Ok(*taken)
    }

    fn read(&mut self) -> Result<Field<'a>, Malformed> {
        let key = self.varint(Place::Key)?;
        let key = u32::try_from(key).map_err(|_| self.fault(Place::Key, Fault::Overflow))?;
        let number = key >> 3;
        let place = Place::Number(number);
        if number == 0 {
            return Err(self.fault(Place::Key, Fault::WireType));
        }
        let value = match key & 7 {
            0 => Value::Varint(self.varint(place)?),
            1 => Value::Fixed64(u64::from_le_bytes(self.take(place)?)),
            2 => {
                let length = self.varint(place)?;
                let split =
                    usize::try_from(length).ok().and_then(|at| self.rest.split_at_checked(at));
                let (bytes, rest) = split.ok_or_else(|| self.fault(place, Fault::Truncated))?;
                self.rest = rest;
                Value::Bytes(bytes)
            }
            3 | 4 => return Err(self.fault(place, Fault::Group)),
            5 => self.take::<4>(place).map(|_| Value::Fixed32)?,
            _ => return Err(self.fault(place, Fault::WireType)),
        };
        Ok(Field { message: self.message, number, value })
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            // After a fault nothing can be known about what follows.
            self.rest = &[];
        }
        Some(field)
    }
}

/// The typed values of a field. Each takes the field's name, for the fault where it is another type.
impl<'a> Field<'a> {
    pub(crate) fn bytes(&self, name: &'static str) -> Result<&'a [u8], Malformed> {
        let Value::Bytes(bytes) = self.value else { return Err(self.mistyped(name)) };
        Ok(bytes)
    }

    pub(crate) fn text(&self, name: &'static str) -> Result<&'a str, Malformed> {
        str::from_utf8(self.bytes(name)?).map_err(|_| self.malformed(name, Fault::Utf8))
    }

    pub(crate) fn nested(
        &self,
        name: &'static str,
        message: &'static str,
    ) -> Result<Fields<'a>, Malformed> {
        Ok(Fields::of(message, self.bytes(name)?))
    }

    #[expect(clippy::cast_possible_wrap, reason = "a negative number is sent as its complement")]
    pub(crate) fn int64(&self, name: &'static str) -> Result<i64, Malformed> {
        Ok(self.uint64(name)? as i64)
    }

    #[expect(clippy::cast_possible_truncation, reason = "so says the protocol of 32-bit fields")]
    pub(crate) fn int32(&self, name: &'static str) -> Result<i32, Malformed> {
        Ok(self.int64(name)? as i32)
    }

    /// A number whose sign is its lowest bit.
    #[expect(clippy::cast_possible_truncation, reason = "so says the protocol of 32-bit fields")]
    pub(crate) fn sint32(&self, name: &'static str) -> Result<i32, Malformed> {
        let zigzag = self.uint64(name)? as u32;
        Ok((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed())
    }

    pub(crate) fn uint64(&self, name: &'static str) -> Result<u64, Malformed> {
        let Value::Varint(number) = self.value else { return Err(self.mistyped(name)) };
        Ok(number)
    }

    pub(crate) fn flag(&self, name: &'static str) -> Result<bool, Malformed> {
        Ok(self.uint64(name)? != 0)
    }

    pub(crate) fn fixed64(&self, name: &'static str) -> Result<u64, Malformed> {
        let Value::Fixed64(number) = self.value else { return Err(self.mistyped(name)) };
        Ok(number)
    }

    pub(crate) fn double(&self, name: &'static str) -> Result<f64, Malformed> {
        Ok(f64::from_bits(self.fixed64(name)?))
    }

    /// The numbers of a repeated field of eight bytes each: several in a row, or this one.
    pub(crate) fn fixed64s(
        &self,
        name: &'static str,
    ) -> Result<impl Iterator<Item = u64> + use<'a>, Malformed> {
        let (one, many) = match self.value {
            Value::Fixed64(number) => (Some(number), [].as_slice()),
            Value::Bytes(bytes) => (None, bytes),
            _ => return Err(self.mistyped(name)),
        };
        let (chunks, rest) = many.as_chunks::<8>();
        if !rest.is_empty() {
            return Err(self.malformed(name, Fault::Truncated));
        }
        Ok(one.into_iter().chain(chunks.iter().map(|chunk| u64::from_le_bytes(*chunk))))
    }

    /// The numbers of a repeated field of variable length, up to `limit`.
    pub(crate) fn varints(&self, name: &'static str, limit: usize) -> Result<Vec<u64>, Malformed> {
        let bytes = match self.value {
            Value::Varint(number) => return Ok(vec![number]),
            Value::Bytes(bytes) => bytes,
            _ => return Err(self.mistyped(name)),
        };
        let mut packed = Fields::of(self.message, bytes);
        let mut numbers = Vec::new();
        while !packed.rest.is_empty() {
            if numbers.len() == limit {
                return Err(self.malformed(name, Fault::TooMany(limit)));
            }
            numbers.push(packed.varint(Place::Name(name))?);
        }
        Ok(numbers)
    }

    pub(crate) fn malformed(&self, name: &'static str, fault: Fault) -> Malformed {
        Malformed { message: self.message, field: Place::Name(name), fault }
    }

    fn mistyped(&self, name: &'static str) -> Malformed {
        self.malformed(name, Fault::WireType)
    }
}

/// Appends a field of text or bytes to an encoded message.
pub(crate) fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a whole number to an encoded message.
pub(crate) fn put_uint64(out: &mut Vec<u8>, number: u32, value: u64) {
    put_varint(out, u64::from(number) << 3);
    put_varint(out, value);
}

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while let high @ 1.. = value >> 7 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value = high;
    }
    out.push(value.to_le_bytes()[0]);
}

/// 64 bits, seven in each byte.
const LONGEST_VARINT: usize = 10;

#[cfg(test)]
mod tests {
    use handfast_proto::skywalking::v3::{Command, Instant};
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    fn faults(bytes: &[u8]) -> Vec<Malformed> {
        Fields::of("Test", bytes).filter_map(Result::err).collect()
    }

    #[test]
    fn what_readers_disagree_about_is_refused() {
        for (bytes, field, fault) in [
            // Field 4 for a reader that cuts keys at 32 bits, unreadable for others.
            (b"\xa2\x80\x80\x80\x10\0".as_slice(), Place::Key, Fault::Overflow),
            (b"\x0b\x0c", Place::Number(1), Fault::Group),
            (b"\x02\0", Place::Key, Fault::WireType),
            (b"\x0f", Place::Number(1), Fault::WireType),
            (b"\x0a\x05ab", Place::Number(1), Fault::Truncated),
            (b"\x08\xff", Place::Number(1), Fault::Truncated),
            (b"\x09\0\0", Place::Number(1), Fault::Truncated),
            (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", Place::Number(1), Fault::Overflow),
        ] {
            assert_eq!(faults(bytes), [Malformed { message: "Test", field, fault }]);
        }
        let told = faults(b"\x1a\x05ab")[0].to_string();
        assert_eq!(told, "Test.3 ends after the message does");
    }

    #[test]
    fn a_field_of_another_type_is_named() {
        let field = Fields::of("SegmentObject", b"\x20\x01").next().unwrap().unwrap();
        let told = field.text("service").unwrap_err().to_string();
        assert_eq!(told, "SegmentObject.service is encoded as another type");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_end(bytes: Vec<u8>) {
            // Each field takes at least two bytes: a key and a value.
            prop_assert!(Fields::of("Test", &bytes).count() <= bytes.len() / 2 + 1);
        }

        #[test]
        fn what_prost_writes_is_read(seconds: i64, nanos: i32, command: String) {
            let instant = Instant { seconds, nanos }.encode_to_vec();
            let mut read = (0, 0);
            for field in Fields::of("Instant", &instant) {
                let field = field.unwrap();
                match field.number {
                    1 => read.0 = field.int64("seconds").unwrap(),
                    2 => read.1 = field.int32("nanos").unwrap(),
                    _ => unreachable!(),
                }
            }
            prop_assert_eq!(read, (seconds, nanos));
            let mut written = Vec::new();
            put_bytes(&mut written, 1, command.as_bytes());
            let decoded = Command::decode(written.as_slice()).unwrap();
            prop_assert_eq!(decoded.command, command);
        }

        #[test]
        fn numbers_are_written_as_prost_does(value: u64) {
            let mut ours = Vec::new();
            put_varint(&mut ours, value);
            let mut theirs = Vec::new();
            prost::encoding::encode_varint(value, &mut theirs);
            prop_assert_eq!(ours, theirs);
        }
    }
}
