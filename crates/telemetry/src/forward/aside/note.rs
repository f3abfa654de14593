//! Why a record lies aside, written where the journal has room for it: behind the reporter, after a zero byte,
//! which no identity holds. Pure.
//!
//! ```text
//! spiffe://shop.example/agent/shop \0 1764072000000 PERMISSION_DENIED: wrong-identity ...
//! ```

use bytes::Bytes;
use jiff::Timestamp;

use crate::record::Record;

/// Since when, and why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Note {
    pub(super) at: Timestamp,
    pub(super) reason: String,
}

impl Note {
    /// The record with the note. A reporter that leaves no room for one, which no certificate has, goes
    /// before the note.
    pub(super) fn on(&self, mut record: Record) -> Record {
        let room = crate::journal::frame::LONGEST_REPORTER.saturating_sub(record.reporter.len());
        let text = format!("\0{} {}", self.at.as_millisecond(), shortened(&self.reason));
        if text.len() <= room {
            record.reporter = [&record.reporter[..], text.as_bytes()].concat().into();
        }
        record
    }

    /// The record as it was, and the note that it has.
    pub(super) fn off(mut record: Record) -> (Record, Option<Self>) {
        let Some(border) = record.reporter.iter().position(|byte| *byte == 0) else {
            return (record, None);
        };
        let note = Self::read(&record.reporter.slice(border + 1..));
        record.reporter.truncate(border);
        (record, note)
    }

    fn read(bytes: &Bytes) -> Option<Self> {
        let (at, reason) = std::str::from_utf8(bytes).ok()?.split_once(' ')?;
        let at = Timestamp::from_millisecond(at.parse().ok()?).ok()?;
        Some(Self { at, reason: reason.to_owned() })
    }
}

/// Without what would break a table or a terminal.
fn shortened(reason: &str) -> String {
    reason.chars().filter(|character| !character.is_control()).take(LONGEST).collect()
}

/// Characters of a reason; four bytes each leave room for a reporter of 2,048.
const LONGEST: usize = 480;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::RecordKind;

    proptest! {
        #[test]
        fn a_note_is_read_as_it_was_written_and_the_record_is_as_it_was(
            reporter in "[ -~]{0,2048}", reason in "\\PC{0,600}", at in 0_i64..4_000_000_000_000,
        ) {
            let at = Timestamp::from_millisecond(at).unwrap();
            let record = Record {
                body: Bytes::from_static(b"body"),
                kind: RecordKind::Segment,
                received: at,
                reporter: Bytes::from(reporter),
            };
            let noted = Note { at, reason: reason.clone() }.on(record.clone());
            prop_assert!(noted.reporter.len() <= crate::journal::frame::LONGEST_REPORTER);
            let (plain, note) = Note::off(noted);
            prop_assert_eq!(plain, record.clone());
            prop_assert_eq!(note, Some(Note { at, reason: shortened(&reason) }));
            prop_assert_eq!(Note::off(record.clone()), (record, None));
        }

        #[test]
        fn whatever_lies_there_is_no_panic(reporter: Vec<u8>) {
            let received = Timestamp::UNIX_EPOCH;
            let record =
                Record { body: Bytes::new(), kind: RecordKind::Log, received, reporter: reporter.into() };
            Note::off(record);
        }
    }
}
