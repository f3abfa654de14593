//! What the index knows of one record: 64 bytes, in memory as on disk.

use crate::RecordKind;

/// One record's facts, with names as numbers of the chunk's list of names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Row {
    /// What a second one of the same is known by: a segment's id, with who reported it.
    pub(super) id: u128,
    /// The digest of the trace id, or 0.
    pub(super) trace: u64,
    /// Milliseconds since 1970: when it began, or was measured, or said.
    pub(super) start: i64,
    /// Milliseconds.
    pub(super) duration: u32,
    /// Where in the chunk the record begins.
    pub(super) at: u32,
    pub(super) service: u32,
    pub(super) instance: u32,
    /// Of segments and logs the endpoint, of meters and events their name.
    pub(super) subject: u32,
    /// Where the digests of its tags begin, and how many there are.
    pub(super) tags: u32,
    pub(super) tag_count: u16,
    /// How many spans it holds.
    pub(super) spans: u16,
    pub(super) kind: u8,
    pub(super) flags: u8,
}

impl Row {
    pub(super) fn is(&self, kind: RecordKind) -> bool {
        self.kind == kind as u8
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Milliseconds since 1970.
    pub(super) fn end(&self) -> i64 {
        self.start.saturating_add(i64::from(self.duration))
    }

    pub(super) fn write(&self, into: &mut Vec<u8>) {
        into.extend_from_slice(&self.id.to_le_bytes());
        into.extend_from_slice(&self.trace.to_le_bytes());
        into.extend_from_slice(&self.start.to_le_bytes());
        for number in [self.duration, self.at, self.service, self.instance, self.subject, self.tags]
        {
            into.extend_from_slice(&number.to_le_bytes());
        }
        into.extend_from_slice(&self.tag_count.to_le_bytes());
        into.extend_from_slice(&self.spans.to_le_bytes());
        into.extend_from_slice(&[self.kind, self.flags, 0, 0]);
    }

    pub(super) fn read(bytes: &[u8; ROW]) -> Self {
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        Self {
            id: u128::from(long(0)) | u128::from(long(8)) << 64,
            trace: long(16),
            start: long(24).cast_signed(),
            duration: word(32),
            at: word(36),
            service: word(40),
            instance: word(44),
            subject: word(48),
            tags: word(52),
            tag_count: u16::from_le_bytes([bytes[56], bytes[57]]),
            spans: u16::from_le_bytes([bytes[58], bytes[59]]),
            kind: bytes[60],
            flags: bytes[61],
        }
    }
}

/// The bytes of a row.
pub(super) const ROW: usize = 64;

/// It holds an error.
pub(super) const ERROR: u8 = 1;
/// The same was kept before: it is not counted and not shown.
pub(super) const DUPLICATE: u8 = 2;
/// Nothing before it is known to it: where a trace begins.
pub(super) const ROOT: u8 = 4;
/// It was not of the time that it said; the time is when it was received.
pub(super) const SKEWED: u8 = 8;

/// Its subject is where requests enter.
pub(super) const ENTRY: u8 = 16;

/// The number of the name that is not there.
pub(super) const NO_NAME: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_back() {
        let row = Row {
            id: 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10,
            trace: 0xfedc_ba98_7654_3210,
            start: -5,
            duration: 7,
            at: 9,
            service: 1,
            instance: NO_NAME,
            subject: 3,
            tags: 70_000,
            tag_count: 300,
            spans: 5,
            kind: 1,
            flags: ERROR | ROOT,
        };
        let mut bytes = Vec::new();
        row.write(&mut bytes);
        assert_eq!(Row::read(bytes.first_chunk().unwrap()), row);
        assert_eq!(bytes.len(), ROW);
    }
}
