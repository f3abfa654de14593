//! That the committed Rust of the wire says what its `.proto` files say: same messages, fields,
//! numbers and types.
//!
//! Reads just as much of both languages as those files use; what it does not understand it does
//! not see, and then the two differ.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;

const PROTO: &str = "crates/proto/proto/";
const RUST: &str = "crates/proto/src/";

pub(super) fn check(root: &Path) -> Result<Vec<String>> {
    let definitions: Vec<(String, String)> = super::files(root, "proto")?
        .into_iter()
        .filter(|(name, _)| name.starts_with(PROTO))
        .collect();
    anyhow::ensure!(!definitions.is_empty(), "{PROTO} holds no definitions");
    let enums: BTreeSet<&str> = definitions.iter().flat_map(|(_, text)| enums(text)).collect();
    let mut findings = Vec::new();
    for (proto, text) in &definitions {
        let rust = rust_of(proto);
        let there = fields_of_rust(&super::read(&root.join(&rust))?);
        let wanted = fields_of_proto(text, &enums);
        anyhow::ensure!(!wanted.is_empty(), "{proto} holds no message that could be read");
        findings.extend(wanted.difference(&there).map(|field| format!("{rust}: lacks {field}")));
        findings.extend(
            there.difference(&wanted).map(|field| format!("{rust}: {field} is not in {proto}")),
        );
    }
    Ok(findings)
}

/// The Rust that belongs to a definition. A package of one file is one module; one of many files is
/// a module for each.
fn rust_of(proto: &str) -> String {
    let path = proto.trim_start_matches(PROTO).trim_end_matches(".proto");
    let package = path.rsplit_once('/').map_or(path, |(package, _)| package);
    if let Some(signal) = package.strip_prefix("opentelemetry/proto/") {
        format!("{RUST}otlp/{signal}.rs")
    } else if let Some(link) = package.strip_prefix("handfast/") {
        format!("{RUST}{link}.rs")
    } else {
        format!("{RUST}{path}.rs")
    }
}

/// `Message.number: kind`, with the kind as the definition spells it, or `message` or `enumeration`.
type Fields = BTreeSet<String>;

fn enums(text: &str) -> impl Iterator<Item = &str> {
    let named = text.lines().filter_map(|line| line.trim().strip_prefix("enum "));
    named.map(|rest| rest.trim_end_matches(" {"))
}

fn fields_of_proto(text: &str, enums: &BTreeSet<&str>) -> Fields {
    let mut fields = Fields::new();
    // The blocks that are open, with the name of the message where they are one.
    let mut open: Vec<Option<String>> = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with("//")) {
        let words: Vec<&str> = line.split([' ', ';']).filter(|word| !word.is_empty()).collect();
        let message = open.iter().rev().flatten().next().cloned().unwrap_or_default();
        match words.as_slice() {
            ["message", name, "{"] => open.push(Some(rust_name(name))),
            [.., "{"] => open.push(None),
            ["}"] => drop(open.pop()),
            ["map<string,", "string>", _, "=", number] => {
                fields.insert(format!("{message}.{number}: map"));
            }
            ["message", name, "{}"] => {
                fields.insert(rust_name(name));
            }
            ["repeated", kind, _, "=", number] => {
                fields.insert(format!("{message}.{number}: {}, repeated", of_prost(kind, enums)));
            }
            ["optional", kind, _, "=", number] => {
                fields.insert(format!("{message}.{number}: {}, optional", of_prost(kind, enums)));
            }
            [kind, _, "=", number] if number.parse::<u32>().is_ok() => {
                fields.insert(format!("{message}.{number}: {}", of_prost(kind, enums)));
            }
            _ => {}
        }
    }
    fields
}

fn of_prost<'k>(kind: &'k str, enums: &BTreeSet<&str>) -> &'k str {
    let name = kind.rsplit('.').next().unwrap_or(kind);
    match name.starts_with(char::is_uppercase) {
        true if enums.contains(name) => "enumeration",
        true => "message",
        false => kind,
    }
}

/// As prost spells it: `JVMMetric` is `JvmMetric`.
fn rust_name(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let is_upper = |at: usize| letters.get(at).is_some_and(|letter| letter.is_uppercase());
    let is_lower = |at: usize| letters.get(at).is_some_and(|letter| letter.is_lowercase());
    let inside = |at: usize| at > 0 && is_upper(at - 1) && is_upper(at) && !is_lower(at + 1);
    let spelt = letters.iter().enumerate();
    spelt
        .map(|(at, letter)| if inside(at) { letter.to_ascii_lowercase() } else { *letter })
        .collect()
}

fn fields_of_rust(text: &str) -> Fields {
    let mut fields = Fields::new();
    let mut message = "";
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("pub struct ") {
            if let Some(empty) = name.strip_suffix(" {}") {
                fields.insert(empty.to_owned());
            }
            message = name.trim_end_matches(" {");
        } else if let Some(inner) = line.strip_prefix("#[prost(").and_then(|l| l.strip_suffix(")]"))
            && let Some((kind, number)) = inner.split_once(", tag = ")
        {
            fields.insert(format!("{message}.{}: {}", number.trim_matches('"'), of_proto(kind)));
        }
    }
    fields
}

/// A message is always optional, which goes without saying; how bytes are held is Rust's business.
fn of_proto(kind: &str) -> String {
    let (first, rest) = kind.split_once(',').unwrap_or((kind, ""));
    match first.split_once(' ').map_or(first, |(word, _)| word) {
        "btree_map" => "map".to_owned(),
        "message" if rest.contains("repeated") => "message, repeated".to_owned(),
        "message" => "message".to_owned(),
        word => [word, rest].join(if rest.is_empty() { "" } else { "," }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL_PROTO: &str = "message Hello {\n  uint32 version = 1;\n  bytes group = 3;\n  repeated Service all = 4;\n\
        message HTTPKind {\n  Kind kind = 1;\n  optional double sum = 2;\n  }\n  Kind kind = 5;\n}\nenum Kind {\n  A = 0;\n}\n";
    const SMALL_RUST: &str = "pub struct Hello {\n#[prost(uint32, tag = \"1\")]\npub version: u32,\n\
        #[prost(bytes = \"vec\", tag = \"3\")]\n#[prost(message, repeated, tag = \"4\")]\n\
        #[prost(enumeration = \"Kind\", tag = \"5\")]\n}\npub struct HttpKind {\n\
        #[prost(enumeration = \"super::Kind\", tag = \"1\")]\n#[prost(double, optional, tag = \"2\")]\n}";

    fn fields(text: &str) -> Fields {
        fields_of_proto(text, &enums(text).collect())
    }

    #[test]
    fn the_same_is_the_same() {
        assert_eq!(fields(SMALL_PROTO).len(), 6);
        assert_eq!(fields(SMALL_PROTO), fields_of_rust(SMALL_RUST));
    }

    #[test]
    fn another_number_or_type_is_a_difference() {
        let wanted = fields(SMALL_PROTO);
        assert_ne!(wanted, fields_of_rust(&SMALL_RUST.replace("\"1\"", "\"2\"")));
        assert_ne!(wanted, fields_of_rust(&SMALL_RUST.replace("(uint32", "(uint64")));
        assert_ne!(wanted, fields_of_rust(&SMALL_RUST.replace("double, optional", "double")));
        assert_ne!(
            wanted,
            fields_of_rust(&SMALL_RUST.replace("enumeration = \"Kind\"", "message"))
        );
    }
}
