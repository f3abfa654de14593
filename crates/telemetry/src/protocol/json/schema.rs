//! The messages that are posted, field by field, as JSON and protobuf know them.

pub(super) mod otlp;
pub(super) mod skywalking;

/// One message.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) name: &'static str,
    pub(super) fields: &'static [Field],
}

/// One field.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) number: u32,
    pub(super) repeated: bool,
    pub(super) kind: Kind,
}

/// What a field holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Bytes,
    Double,
    /// With the number that belongs to a name.
    Enum(fn(&str) -> Option<i32>),
    Fixed32,
    Fixed64,
    Flag,
    /// Bytes that are hexadecimal in JSON.
    Id,
    Int32,
    Int64,
    Message(&'static Message),
    Sfixed64,
    Sint32,
    Text,
    /// From text to text.
    TextMap,
    Uint32,
    Uint64,
}

impl Message {
    /// The field of a name, in camel case or as the definitions have it.
    pub(super) fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name || is_camel_of(field.name, name))
    }
}

/// Whether `traceId` is `trace_id`.
fn is_camel_of(camel: &str, snake: &str) -> bool {
    let mut after_line = false;
    let spelt = snake.chars().filter_map(|letter| {
        let is_line = letter == '_';
        let upper = std::mem::replace(&mut after_line, is_line);
        (!is_line).then(|| if upper { letter.to_ascii_uppercase() } else { letter })
    });
    camel.chars().eq(spelt)
}

const fn one(name: &'static str, number: u32, kind: Kind) -> Field {
    Field { name, number, repeated: false, kind }
}

const fn many(name: &'static str, number: u32, kind: Kind) -> Field {
    Field { name, number, repeated: true, kind }
}
