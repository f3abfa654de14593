//! Distinguished names as text (RFC 4514): what people compare in a fault message.

use std::fmt::Write as _;

use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// The RFC 4514 string of a name: last attribute first, `CN=west,O=Shop`. Control characters are
/// escaped, so that no name can forge a line of a log.
pub(crate) fn text(name: &X509Name<'_>) -> String {
    let rdns: Vec<String> = name
        .iter_rdn()
        .map(|rdn| rdn.iter().map(attribute).collect::<Vec<_>>().join("+"))
        .collect();
    rdns.into_iter().rev().collect::<Vec<_>>().join(",")
}

/// Every common name in the order found.
pub(crate) fn common_names(name: &X509Name<'_>) -> Vec<String> {
    name.iter_common_name().filter_map(value).collect()
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let oid = attribute.attr_type().to_id_string();
    let kind = match oid.as_str() {
        "0.9.2342.19200300.100.1.1" => "UID",
        "0.9.2342.19200300.100.1.25" => "DC",
        "1.2.840.113549.1.9.1" => "emailAddress",
        "2.5.4.3" => "CN",
        "2.5.4.5" => "serialNumber",
        "2.5.4.6" => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.9" => "STREET",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        other => other,
    };
    if let Some(value) = value(attribute) {
        return format!("{kind}={}", escaped(&value));
    }
    let mut hex = String::new();
    for octet in attribute.as_slice() {
        let _ = write!(hex, "{octet:02x}");
    }
    format!("{kind}=#{hex}")
}

/// The text of an attribute, whatever its string type.
fn value(attribute: &AttributeTypeAndValue<'_>) -> Option<String> {
    if let Ok(text) = attribute.as_str() {
        return Some(text.to_owned());
    }
    let octets = attribute.as_slice();
    match attribute.attr_value().tag().0 {
        // TeletexString: Latin-1 in practice.
        20 => Some(octets.iter().copied().map(char::from).collect()),
        // BMPString: UTF-16, big-endian.
        30 => {
            let units = octets.chunks(2).map(|pair| match pair {
                [high, low] => u16::from_be_bytes([*high, *low]),
                _ => 0xfffd,
            });
            Some(char::decode_utf16(units).map(|c| c.unwrap_or('\u{fffd}')).collect())
        }
        _ => None,
    }
}

fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (index, character) in value.chars().enumerate() {
        match character {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => {
                out.push('\\');
                out.push(character);
            }
            ' ' | '#' if index == 0 => {
                out.push('\\');
                out.push(character);
            }
            ' ' if index == last => out.push_str("\\ "),
            control if control.is_control() => {
                let mut octets = [0; 4];
                for octet in control.encode_utf8(&mut octets).bytes() {
                    let _ = write!(out, "\\{octet:02x}");
                }
            }
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_rfc_4514_says_and_control_characters() {
        assert_eq!(escaped("a,b+c"), "a\\,b\\+c");
        assert_eq!(escaped(" a "), "\\ a\\ ");
        assert_eq!(escaped("#a"), "\\#a");
        assert_eq!(escaped("a\0b\n"), "a\\00b\\0a");
        assert_eq!(escaped("ä"), "ä");
    }
}
