//! What an OpenTelemetry message says of its resource, and its attributes, read out of their bytes.

use std::borrow::Cow;

use super::wire::{Fault, Field, Fields, Malformed};

/// Who a resource is, of all that it says.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Resource<'a> {
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
    pub(super) instance: &'a str,
}

impl<'a> Resource<'a> {
    /// Of a `ResourceSpans`, `ResourceMetrics` or `ResourceLogs`: in each it is field 1.
    pub(super) fn of(message: &'static str, body: &'a [u8]) -> Result<Self, Malformed> {
        let (mut namespace, mut name, mut instance) = (None, None, None);
        for field in Fields::of(message, body) {
            let field = field?;
            if field.number != 1 {
                continue;
            }
            for attribute in field.nested("resource", "Resource")? {
                let attribute = attribute?;
                if attribute.number != 1 {
                    continue;
                }
                let pair = Attribute::of(attribute.nested("attributes", "Resource")?)?;
                match pair.key {
                    "service.name" => pair.once(&mut name, &attribute, "service.name")?,
                    "service.namespace" => {
                        pair.once(&mut namespace, &attribute, "service.namespace")?;
                    }
                    "service.instance.id" => {
                        pair.once(&mut instance, &attribute, "service.instance.id")?;
                    }
                    _ => {}
                }
            }
        }
        Ok(Self {
            namespace: namespace.unwrap_or_default(),
            name: name.unwrap_or_default(),
            instance: instance.unwrap_or_default(),
        })
    }

    /// `namespace/name`, or the name alone.
    pub(super) fn service(&self) -> Cow<'a, str> {
        if self.namespace.is_empty() {
            Cow::Borrowed(self.name)
        } else {
            Cow::Owned(format!("{}/{}", self.namespace, self.name))
        }
    }
}

/// One attribute.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attribute<'a> {
    pub(super) key: &'a str,
    pub(super) value: AttributeValue<'a>,
}

/// An attribute's value. What nests is not looked into.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum AttributeValue<'a> {
    Bytes(&'a [u8]),
    Double(f64),
    Empty,
    Flag(bool),
    Int(i64),
    Nested,
    Text(&'a str),
}

impl<'a> Attribute<'a> {
    pub(super) fn of(fields: Fields<'a>) -> Result<Self, Malformed> {
        let mut attribute = Self { key: "", value: AttributeValue::Empty };
        for field in fields {
            let field = field?;
            match field.number {
                1 => attribute.key = field.text("key")?,
                // Twice is one value, of which the last that was set counts.
                2 => attribute.value.merge(field.nested("value", "AnyValue")?)?,
                _ => {}
            }
        }
        Ok(attribute)
    }

    /// Takes the value as the name of something that has one name. The specification wants keys
    /// to be unique; receivers differ in which of two they take.
    fn once(
        &self,
        taken: &mut Option<&'a str>,
        field: &Field<'a>,
        called: &'static str,
    ) -> Result<(), Malformed> {
        let AttributeValue::Text(text) = self.value else {
            return Err(field.malformed(called, Fault::WireType));
        };
        if text.len() > super::claim::MAX_NAME {
            return Err(field.malformed(called, Fault::TooLong(super::claim::MAX_NAME)));
        }
        if taken.is_some_and(|before| before != text) {
            return Err(field.malformed(called, Fault::Ambiguous));
        }
        *taken = Some(text);
        Ok(())
    }
}

impl<'a> AttributeValue<'a> {
    pub(super) fn of(fields: Fields<'a>) -> Result<Self, Malformed> {
        let mut value = Self::Empty;
        value.merge(fields)?;
        Ok(value)
    }

    fn merge(&mut self, fields: Fields<'a>) -> Result<(), Malformed> {
        for field in fields {
            let field = field?;
            *self = match field.number {
                1 => Self::Text(field.text("string_value")?),
                2 => Self::Flag(field.flag("bool_value")?),
                3 => Self::Int(field.int64("int_value")?),
                4 => Self::Double(field.double("double_value")?),
                5 | 6 => field.bytes("array_value").map(|_| Self::Nested)?,
                7 => Self::Bytes(field.bytes("bytes_value")?),
                _ => continue,
            };
        }
        Ok(())
    }

    /// As people read it.
    pub(super) fn to_text(self) -> Cow<'a, str> {
        match self {
            Self::Text(text) => Cow::Borrowed(text),
            Self::Flag(flag) => Cow::Borrowed(if flag { "true" } else { "false" }),
            Self::Int(number) => Cow::Owned(number.to_string()),
            Self::Double(number) => Cow::Owned(number.to_string()),
            Self::Bytes(bytes) => Cow::Owned(hex(bytes)),
            Self::Nested => Cow::Borrowed("(nested)"),
            Self::Empty => Cow::Borrowed(""),
        }
    }
}

/// What an answer to an export says was left out of what was taken: how many, and why. A reason without a
/// number is a warning.
pub(crate) fn partial_success(answer: &[u8]) -> Result<(u64, String), Malformed> {
    let (mut count, mut why) = (0, "");
    for field in Fields::of("ExportServiceResponse", answer) {
        let field = field?;
        if field.number != 1 {
            continue;
        }
        for part in field.nested("partial_success", "ExportPartialSuccess")? {
            let part = part?;
            match part.number {
                1 => count = u64::try_from(part.int64("rejected")?).unwrap_or_default(),
                2 => why = part.text("error_message")?,
                _ => {}
            }
        }
    }
    Ok((count, why.to_owned()))
}

/// An id as people and other programs write it.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    let digit = |half: u8| char::from(DIGITS[usize::from(half & 15)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}
