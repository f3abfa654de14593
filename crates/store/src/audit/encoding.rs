//! The bytes of an audit row that are hashed: one row, one sequence of bytes, on every machine.
//!
//! ```text
//! 1 octet   0x01, the version of this encoding
//! 8 octets  the row's sequence number, unsigned, big-endian
//! 8 octets  its time in microseconds since 1970-01-01T00:00:00Z, signed, big-endian
//! then for actor, action, subject, outcome, detail, why, in this order:
//! 4 octets  the length of the text in octets, unsigned, big-endian
//! n octets  the text in UTF-8
//! ```

use super::merkle::{Hash, leaf_hash};
use super::{AuditRow, RecordedAudit};

impl RecordedAudit {
    /// The canonical encoding of the row.
    pub fn encoding(&self) -> Vec<u8> {
        encode(self.sequence, &self.row)
    }

    /// The hash of the row in the tree: SHA-256 of 0x00 and its canonical encoding.
    pub fn leaf(&self) -> Hash {
        leaf_hash(&self.encoding())
    }
}

/// The canonical encoding of a row under a number.
pub(crate) fn encode(sequence: u64, row: &AuditRow) -> Vec<u8> {
    let texts = [&row.actor, &row.action, &row.subject, &row.outcome, &row.detail, &row.why];
    let length = texts.iter().map(|text| 4 + text.len()).sum::<usize>() + 17;
    let mut bytes = Vec::with_capacity(length);
    bytes.push(VERSION);
    bytes.extend(sequence.to_be_bytes());
    bytes.extend(row.at.as_microsecond().to_be_bytes());
    for text in texts {
        // The database holds no text of a gigabyte, let alone four.
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        bytes.extend(length.to_be_bytes());
        bytes.extend(text.as_bytes());
    }
    bytes
}

const VERSION: u8 = 1;

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;

    fn row(texts: [&str; 6], micros: i64) -> AuditRow {
        let [actor, action, subject, outcome, detail, why] = texts.map(str::to_owned);
        let at = Timestamp::from_microsecond(micros).unwrap();
        AuditRow { at, actor, action, subject, outcome, detail, why }
    }

    #[test]
    fn the_encoding_is_the_documented_one() {
        let bytes = encode(258, &row(["a", "b", "", "ok", "\u{e4}", "w"], -2));
        let mut expected = vec![1, 0, 0, 0, 0, 0, 0, 1, 2];
        expected.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe]);
        for text in ["a", "b", "", "ok", "\u{e4}", "w"] {
            expected.extend([0, 0, 0, u8::try_from(text.len()).unwrap()]);
            expected.extend(text.bytes());
        }
        assert_eq!(bytes, expected);
    }

    proptest! {
        #[test]
        fn different_rows_are_different_bytes(
            one in (prop::array::uniform6("[ab]{0,3}"), 0_i64..3, 1_u64..3),
            other in (prop::array::uniform6("[ab]{0,3}"), 0_i64..3, 1_u64..3),
        ) {
            let bytes = |(texts, micros, sequence): &([String; 6], i64, u64)| {
                let texts = texts.each_ref().map(String::as_str);
                encode(*sequence, &row(texts, *micros))
            };
            prop_assert_eq!(bytes(&one) == bytes(&other), one == other);
        }
    }
}
