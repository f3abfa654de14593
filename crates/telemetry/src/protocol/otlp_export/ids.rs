//! Ids of OpenTelemetry's size, derived from SkyWalking's: 16 bytes for a trace, 8 for a span. Whoever
//! derives one from the same id comes to the same.

use handfast_pki::Fingerprint;

/// A trace. Many agents name theirs by a UUID, with hyphens or without: that is kept as it is, so
/// that whoever has it in a log line finds it. What is anything else is hashed.
pub(super) fn trace(id: &str) -> Vec<u8> {
    uuid(id).unwrap_or_else(|| hashed::<16>(&[b"trace", id.as_bytes()]))
}

/// A span of a segment.
pub(super) fn span(segment: &str, id: &str) -> Vec<u8> {
    hashed::<8>(&[b"span", segment.as_bytes(), id.as_bytes()])
}

/// 32 hexadecimal digits, or a UUID as it is written; not the one that is all zeros, which means that there
/// is no trace.
fn uuid(id: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = match id.len() {
        32 => id.bytes().collect(),
        36 => {
            let bytes = id.as_bytes();
            if HYPHENS.iter().any(|at| bytes[*at] != b'-') {
                return None;
            }
            id.bytes().enumerate().filter(|(at, _)| !HYPHENS.contains(at)).map(|(_, b)| b).collect()
        }
        _ => return None,
    };
    let nibbles: Option<Vec<u8>> = digits
        .iter()
        .map(|digit| char::from(*digit).to_digit(16).and_then(|value| u8::try_from(value).ok()))
        .collect();
    let (pairs, _) = nibbles.as_deref()?.as_chunks::<2>();
    let bytes: Vec<u8> = pairs.iter().map(|[high, low]| high << 4 | low).collect();
    bytes.iter().any(|byte| *byte != 0).then_some(bytes)
}

/// The first bytes of SHA-256 over the parts, each with its length before it. Never all zeros, which
/// would mean that there is no id.
fn hashed<const N: usize>(parts: &[&[u8]]) -> Vec<u8> {
    let mut input = Vec::new();
    for part in parts {
        input.extend_from_slice(&(part.len() as u64).to_le_bytes());
        input.extend_from_slice(part);
    }
    let mut id = Fingerprint::of(&input).as_bytes()[..N].to_vec();
    if id.iter().all(|byte| *byte == 0) {
        id[N - 1] = 1;
    }
    id
}

/// Where a UUID has its hyphens.
const HYPHENS: [usize; 4] = [8, 13, 18, 23];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::otlp::hex;

    #[test]
    fn a_uuid_stays_and_everything_else_is_hashed() {
        let plain = "56a5e1c519ae4c76a2b8b11d92cead7f";
        assert_eq!(hex(&trace(plain)), plain);
        assert_eq!(hex(&trace("56A5E1C5-19AE-4C76-A2B8-B11D92CEAD7F")), plain);
        let of_java = "56a5e1c519ae4c76a2b8b11d92cead7f.12.16563474296430001";
        for other in [of_java, "", "0", "56a5e1c5-19ae-4c76a2b8-b11d92cead7f-", &"0".repeat(32)] {
            let id = trace(other);
            assert_eq!(id.len(), 16, "{other}");
            assert_ne!(hex(&id), plain, "{other}");
            assert!(id.iter().any(|byte| *byte != 0), "{other}");
        }
        // These are in backends' stores: another version derives the same.
        assert_eq!(hex(&trace(of_java)), OF_JAVA);
        assert_eq!(hex(&span(of_java, "3")), THIRD);
    }

    const OF_JAVA: &str = "e8fc5b2c9d5e6f50cd0dbb1167d610ad";
    const THIRD: &str = "d28893613439801b";

    proptest! {
        #[test]
        fn ids_are_stable_of_their_size_and_told_apart(one in ".{0,60}", other in ".{0,60}") {
            prop_assert_eq!(trace(&one), trace(&one));
            prop_assert_eq!(trace(&one).len(), 16);
            prop_assert_eq!(span(&one, &other).len(), 8);
            if one != other {
                prop_assert_ne!(span(&one, "1"), span(&other, "1"));
                // Where one text ends and the next begins matters.
                prop_assert_ne!(span(&one, &other), span(&other, &one));
            }
        }
    }
}
