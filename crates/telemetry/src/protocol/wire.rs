//! The outside of a protobuf message: its fields, one after the other, without knowing what they mean
//! and without copying (protobuf encoding, "wire types"). Never recurses; never reads past the end.

/// One field of a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Field<'a> {
    pub(super) number: u32,
    pub(super) value: Value<'a>,
}

/// What stands in a field.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Value<'a> {
    /// A string, bytes, a message, or packed numbers.
    Bytes(&'a [u8]),
    /// A number of four or eight octets.
    Fixed,
    /// A number of variable length.
    Varint(u64),
}

impl<'a> Field<'a> {
    /// What stands in it, if that has a length.
    pub(super) fn bytes(self) -> Option<&'a [u8]> {
        match self.value {
            Value::Bytes(bytes) => Some(bytes),
            Value::Fixed | Value::Varint(_) => None,
        }
    }
}

/// Bytes that are no protobuf message.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("it is no protobuf message")]
pub struct NotProtobuf;

/// The fields of a message.
pub(super) fn fields(message: &[u8]) -> impl Iterator<Item = Result<Field<'_>, NotProtobuf>> {
    let mut rest = message;
    let mut broken = false;
    std::iter::from_fn(move || {
        if rest.is_empty() || broken {
            return None;
        }
        let field = field(&mut rest);
        broken = field.is_none();
        Some(field.ok_or(NotProtobuf))
    })
}

fn field<'a>(rest: &mut &'a [u8]) -> Option<Field<'a>> {
    let key = varint(rest)?;
    let number = u32::try_from(key >> 3).ok().filter(|number| (1..1 << 29).contains(number))?;
    let value = match key & 7 {
        0 => Value::Varint(varint(rest)?),
        1 => fixed(rest, 8)?,
        2 => {
            let length = usize::try_from(varint(rest)?).ok()?;
            let (bytes, after) = rest.split_at_checked(length)?;
            *rest = after;
            Value::Bytes(bytes)
        }
        5 => fixed(rest, 4)?,
        // Groups have been gone since proto3.
        _ => return None,
    };
    Some(Field { number, value })
}

fn fixed<'a>(rest: &mut &'a [u8], length: usize) -> Option<Value<'a>> {
    *rest = rest.get(length..)?;
    Some(Value::Fixed)
}

pub(super) fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for (index, byte) in rest.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f).checked_shl(7 * u32::try_from(index).ok()?)?;
        if byte & 0x80 == 0 {
            *rest = &rest[index + 1..];
            return Some(value);
        }
    }
    None
}

/// Appends a string field.
pub(super) fn put_string(number: u32, text: &[u8], into: &mut Vec<u8>) {
    put_varint(u64::from(number) << 3 | 2, into);
    put_varint(text.len() as u64, into);
    into.extend_from_slice(text);
}

fn put_varint(mut value: u64, into: &mut Vec<u8>) {
    while value >= 0x80 {
        into.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut total = 0;
            for field in fields(&bytes).flatten() {
                total += field.bytes().map_or(1, <[u8]>::len);
            }
            prop_assert!(total <= bytes.len());
        }

        #[test]
        fn strings_come_out_as_they_went_in(texts in proptest::collection::vec((1_u32..1000, ".{0,200}"), 0..10)) {
            let mut message = Vec::new();
            for (number, text) in &texts {
                put_string(*number, text.as_bytes(), &mut message);
            }
            let read: Vec<_> = fields(&message)
                .map(|field| field.map(|f| (f.number, f.bytes().map(<[u8]>::to_vec))))
                .collect::<Result<_, _>>()
                .expect("whole");
            let expected: Vec<_> =
                texts.iter().map(|(n, t)| (*n, Some(t.clone().into_bytes()))).collect();
            prop_assert_eq!(read, expected);
        }
    }
}
