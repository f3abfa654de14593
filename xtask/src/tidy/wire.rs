//! That the committed Rust of the wire says what its `.proto` file says: same messages, fields,
//! numbers and types.
//!
//! Reads just as much of both languages as those two files use; what it does not understand it
//! does not see, and then the two differ.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;

const PROTO: &str = "crates/proto/proto/handfast/link/v1/link.proto";
const RUST: &str = "crates/proto/src/link/v1.rs";

pub(super) fn check(root: &Path) -> Result<Vec<String>> {
    let (proto, rust) = (super::read(&root.join(PROTO))?, super::read(&root.join(RUST))?);
    let (wanted, there) = (fields_of_proto(&proto), fields_of_rust(&rust));
    anyhow::ensure!(!wanted.is_empty(), "{PROTO} holds no message that could be read");
    let missing = wanted.difference(&there).map(|field| format!("{RUST}: lacks {field}"));
    let extra = there.difference(&wanted).map(|field| format!("{RUST}: {field} is not in {PROTO}"));
    Ok(missing.chain(extra).collect())
}

/// `Message.number: kind`, with the kind as prost spells it.
type Fields = BTreeSet<String>;

fn fields_of_proto(text: &str) -> Fields {
    let mut fields = Fields::new();
    let mut message = "";
    for line in text.lines().map(str::trim) {
        let words: Vec<&str> = line.split([' ', ';']).filter(|word| !word.is_empty()).collect();
        match words.as_slice() {
            ["message", name, ..] => message = name,
            ["oneof", ..] => {}
            ["repeated", kind, _, "=", number] => {
                fields.insert(format!("{message}.{number}: {}, repeated", of_prost(kind)));
            }
            [kind, _, "=", number] if number.parse::<u32>().is_ok() => {
                fields.insert(format!("{message}.{number}: {}", of_prost(kind)));
            }
            _ => {}
        }
    }
    fields
}

fn of_prost(kind: &str) -> &str {
    match kind {
        "bytes" => "bytes = \"vec\"",
        kind if kind.starts_with(char::is_uppercase) => "message",
        scalar => scalar,
    }
}

fn fields_of_rust(text: &str) -> Fields {
    let mut fields = Fields::new();
    let mut message = "";
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("pub struct ") {
            message = name.trim_end_matches(" {");
        } else if let Some(inner) = line.strip_prefix("#[prost(").and_then(|l| l.strip_suffix(")]"))
            && let Some((kind, number)) = inner.split_once(", tag = ")
        {
            fields.insert(format!("{message}.{}: {kind}", number.trim_matches('"')));
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL_PROTO: &str = "message Hello {\n  uint32 version = 1;\n  bytes group = 3;\n  repeated Service all = 4;\n}\n";
    const SMALL_RUST: &str = "pub struct Hello {\n#[prost(uint32, tag = \"1\")]\npub version: u32,\n\
        #[prost(bytes = \"vec\", tag = \"3\")]\n#[prost(message, repeated, tag = \"4\")]\n}";

    #[test]
    fn the_same_is_the_same() {
        let fields = fields_of_proto(SMALL_PROTO);
        assert_eq!(fields.len(), 3);
        assert_eq!(fields, fields_of_rust(SMALL_RUST));
    }

    #[test]
    fn another_number_or_type_is_a_difference() {
        let fields = fields_of_proto(SMALL_PROTO);
        assert_ne!(fields, fields_of_rust(&SMALL_RUST.replace("\"1\"", "\"2\"")));
        assert_ne!(fields, fields_of_rust(&SMALL_RUST.replace("(uint32", "(uint64")));
    }
}
