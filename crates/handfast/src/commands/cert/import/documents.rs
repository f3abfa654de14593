//! PEM inside JSON: what cfssl, Vault and `kubectl get secret -o json` print is taken as it is.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use zeroize::Zeroizing;

/// All PEM texts in a JSON document, one after the other; `None` if it is no JSON, or holds none.
pub(super) fn pem_within(bytes: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return None;
    }
    let document: Value = serde_json::from_slice(bytes).ok()?;
    let mut text = Zeroizing::new(Vec::with_capacity(bytes.len()));
    collect(&document, &mut text);
    (!text.is_empty()).then_some(text)
}

fn collect(value: &Value, text: &mut Zeroizing<Vec<u8>>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, text)),
        Value::Object(fields) => {
            // What kubectl applied last repeats everything.
            let own = fields.iter().filter(|(key, _)| key.as_str() != "annotations");
            own.for_each(|(_, field)| collect(field, text));
        }
        Value::String(string) if string.contains("-----BEGIN ") => {
            text.extend_from_slice(string.as_bytes());
            text.push(b'\n');
        }
        // A Kubernetes Secret holds its files in base64.
        Value::String(string) if string.starts_with("LS0tLS1CRUdJTi") => {
            if let Ok(decoded) = STANDARD.decode(string).map(Zeroizing::new) {
                text.extend_from_slice(&decoded);
                text.push(b'\n');
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::pem_within;

    #[test]
    fn pem_is_found_in_what_other_tools_print() {
        let found = |text: &str| {
            pem_within(text.as_bytes()).map(|pem| String::from_utf8(pem.to_vec()).expect("text"))
        };
        let cfssl =
            r#"{"cert":"-----BEGIN A-----\nx\n-----END A-----\n","csr":"-----BEGIN B-----","n":1}"#;
        assert_eq!(found(cfssl).expect("two").matches("BEGIN").count(), 2);
        let vault =
            r#"{"data":{"ca_chain":["-----BEGIN A-----"],"certificate":"-----BEGIN B-----"}}"#;
        assert_eq!(found(vault).expect("two").matches("BEGIN").count(), 2);
        let secret = r#"{"kind":"Secret","data":{"tls.crt":"LS0tLS1CRUdJTiBBLS0tLS0K"}}"#;
        assert_eq!(found(secret).expect("one").trim(), "-----BEGIN A-----");
        for other in ["{}", "{", "hello", r#"{"a":"b"}"#] {
            assert_eq!(found(other), None, "{other}");
        }
    }
}
