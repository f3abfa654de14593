//! A record as it lies in a chunk. Pure: bytes in, bytes out.
//!
//! ```text
//!  0  marker          f5 6a
//!  2  kind            the number of the record's kind
//!  3  format          1
//!  4  header's crc    over salt, offset and what follows in the header
//!  8  content's crc   over reporter and body
//! 12  body length     all numbers are little-endian
//! 16  received        milliseconds since 1970
//! 24  reporter length
//! 26  zero
//! 28  reporter, body
//! ```
//!
//! The header has a checksum of its own: a damaged body then costs one record, not the way to the next. Salt
//! (of the chunk) and offset (in the chunk) are part of it, so that nothing an agent puts into a body
//! can ever be taken for a record, and no block of another place either.

use bytes::Bytes;
use jiff::Timestamp;

use super::AppendError;
use crate::{Record, RecordKind};

/// What a record costs besides its content.
pub const HEADER: usize = 28;

/// The largest body: more than the largest message that is taken from an agent.
pub const LARGEST_BODY: usize = 64 << 20;

/// The longest name of a reporter; an identity of a certificate has 2,048 bytes at most.
pub const LONGEST_REPORTER: usize = 4096;

/// The bytes that a record takes in a chunk.
pub fn length(record: &Record) -> usize {
    HEADER + record.reporter.len() + record.body.len()
}

/// The bytes that these take together, if each of them may be there.
pub(super) fn batch_length(records: &[Record]) -> Result<u64, AppendError> {
    let mut bytes = 0;
    for record in records {
        if record.body.len() > LARGEST_BODY || record.reporter.len() > LONGEST_REPORTER {
            let (bytes, limit) = (length(record), LARGEST_BODY);
            return Err(AppendError::RecordTooLarge { bytes, limit });
        }
        bytes += length(record) as u64;
    }
    Ok(bytes)
}

/// Adds a record to what will lie at `offset` in a chunk. Its time is kept in milliseconds.
///
/// The record is within [`LARGEST_BODY`] and [`LONGEST_REPORTER`]; what is longer would not be read back.
pub fn encode(record: &Record, salt: u64, offset: u64, into: &mut Vec<u8>) {
    let mut content = crc32fast::Hasher::new();
    content.update(&record.reporter);
    content.update(&record.body);

    let mut header = [0; HEADER];
    header[0..2].copy_from_slice(&MARKER);
    header[2] = record.kind as u8;
    header[3] = FORMAT;
    header[8..12].copy_from_slice(&content.finalize().to_le_bytes());
    let body = u32::try_from(record.body.len()).unwrap_or(u32::MAX);
    header[12..16].copy_from_slice(&body.to_le_bytes());
    header[16..24].copy_from_slice(&record.received.as_millisecond().to_le_bytes());
    let reporter = u16::try_from(record.reporter.len()).unwrap_or(u16::MAX);
    header[24..26].copy_from_slice(&reporter.to_le_bytes());
    let check = header_check(&header, salt, offset);
    header[4..8].copy_from_slice(&check.to_le_bytes());

    into.extend_from_slice(&header);
    into.extend_from_slice(&record.reporter);
    into.extend_from_slice(&record.body);
}

/// What lies at a place.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Frame {
    /// So many bytes are damaged; behind them is something that may be whole.
    Damaged(usize),
    /// A record, and the bytes it takes.
    Record(Record, usize),
    /// So many bytes are needed, counted from `at`, to say more.
    Short(usize),
    /// A record that is whole, of so many bytes, of a kind that this version does not know.
    Unknown(usize),
}

/// Reads what lies `at` a place in bytes, the first of which lies at `offset` in its chunk. A record's
/// content is a slice of the same memory, not a copy.
pub fn decode(bytes: &Bytes, at: usize, salt: u64, offset: u64) -> Frame {
    let rest = bytes.get(at..).unwrap_or_default();
    let Some(header) = rest.first_chunk::<HEADER>() else {
        return Frame::Short(HEADER);
    };
    let Some(header) = Header::read(header, salt, offset + at as u64) else {
        return Frame::Damaged(next_marker(rest));
    };
    let length = header.length();
    let Some(content) = rest.get(HEADER..length) else {
        return Frame::Short(length);
    };
    if crc32fast::hash(content) != header.content_check {
        return Frame::Damaged(length);
    }
    let body = at + HEADER + header.reporter;
    match (RecordKind::try_from(header.kind), Timestamp::from_millisecond(header.received)) {
        (Ok(kind), Ok(received)) => {
            let record = Record {
                body: bytes.slice(body..at + length),
                kind,
                received,
                reporter: bytes.slice(at + HEADER..body),
            };
            Frame::Record(record, length)
        }
        _ => Frame::Unknown(length),
    }
}

struct Header {
    kind: u8,
    content_check: u32,
    body: usize,
    received: i64,
    reporter: usize,
}

impl Header {
    fn read(bytes: &[u8; HEADER], salt: u64, offset: u64) -> Option<Self> {
        if bytes[0..2] != MARKER || bytes[3] != FORMAT {
            return None;
        }
        if le_u32(bytes, 4) != header_check(bytes, salt, offset) {
            return None;
        }
        let mut received = [0; 8];
        received.copy_from_slice(&bytes[16..24]);
        let header = Self {
            kind: bytes[2],
            content_check: le_u32(bytes, 8),
            body: le_u32(bytes, 12) as usize,
            received: i64::from_le_bytes(received),
            reporter: usize::from(u16::from_le_bytes([bytes[24], bytes[25]])),
        };
        let possible = header.body <= LARGEST_BODY && header.reporter <= LONGEST_REPORTER;
        possible.then_some(header)
    }

    fn length(&self) -> usize {
        HEADER + self.reporter + self.body
    }
}

fn header_check(header: &[u8; HEADER], salt: u64, offset: u64) -> u32 {
    let mut check = crc32fast::Hasher::new();
    check.update(&salt.to_le_bytes());
    check.update(&offset.to_le_bytes());
    check.update(&header[..4]);
    check.update(&header[8..]);
    check.finalize()
}

/// How far it is to the next marker, or to where one could begin behind these bytes.
fn next_marker(rest: &[u8]) -> usize {
    let found = rest.windows(2).skip(1).position(|pair| pair == MARKER);
    found.map_or(rest.len() - 1, |found| found + 1)
}

fn le_u32(bytes: &[u8; HEADER], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

const MARKER: [u8; 2] = [0xf5, 0x6a];
const FORMAT: u8 = 1;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(body: Vec<u8>, reporter: Vec<u8>, received: i64, kind: usize) -> Record {
        Record {
            body: body.into(),
            kind: RecordKind::ALL[kind % RecordKind::ALL.len()],
            received: Timestamp::from_millisecond(received).unwrap(),
            reporter: reporter.into(),
        }
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(
            body: Vec<u8>, reporter in prop::collection::vec(any::<u8>(), 0..100),
            received in -1_000_000_000_000..4_000_000_000_000_i64, kind: usize, salt: u64, offset: u32,
        ) {
            let record = record(body, reporter, received, kind);
            let mut bytes = vec![0; 3];
            encode(&record, salt, u64::from(offset) + 3, &mut bytes);
            let length = bytes.len() - 3;
            prop_assert_eq!(length, super::length(&record));
            let bytes = Bytes::from(bytes);
            prop_assert_eq!(
                decode(&bytes, 3, salt, u64::from(offset)),
                Frame::Record(record, length)
            );
            // Elsewhere, or in another chunk, the same bytes are nothing.
            prop_assert!(matches!(decode(&bytes, 3, salt, u64::from(offset) + 1), Frame::Damaged(_)));
            prop_assert!(matches!(
                decode(&bytes, 3, salt ^ 1, u64::from(offset)),
                Frame::Damaged(_)
            ));
        }

        #[test]
        fn any_bytes_are_stepped_through(bytes: Vec<u8>, salt: u64) {
            let bytes = Bytes::from(bytes);
            let mut at = 0;
            loop {
                match decode(&bytes, at, salt, 0) {
                    Frame::Damaged(length) | Frame::Record(_, length) | Frame::Unknown(length) => {
                        prop_assert!(length > 0 && at + length <= bytes.len());
                        at += length;
                    }
                    Frame::Short(needed) => {
                        prop_assert!(at + needed > bytes.len());
                        break;
                    }
                }
            }
        }
    }

    #[test]
    fn a_damaged_body_costs_one_record() {
        let mut bytes = Vec::new();
        let first = record(b"first".to_vec(), Vec::new(), 1, 0);
        let second = record(b"second".to_vec(), b"who".to_vec(), 2, 1);
        encode(&first, 9, 0, &mut bytes);
        let border = bytes.len();
        encode(&second, 9, border as u64, &mut bytes);
        bytes[HEADER] ^= 1;
        let bytes = Bytes::from(bytes);
        assert_eq!(decode(&bytes, 0, 9, 0), Frame::Damaged(border));
        let length = bytes.len() - border;
        assert_eq!(decode(&bytes, border, 9, 0), Frame::Record(second, length));
    }
}
