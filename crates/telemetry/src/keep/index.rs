//! The index of one chunk as bytes: names, rows, digests of tags. In memory and in a file it is the
//! same, so that whoever asks does not care which.

use super::row::{ENTRY, ERROR, NO_NAME, ROW, Row};

/// What can be asked of the index of a chunk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Index<'a> {
    pub(super) names: Names<'a>,
    pub(super) rows: &'a [u8],
    pub(super) tags: &'a [u8],
}

impl<'a> Index<'a> {
    /// The rows, in the order of the records; of one record there may be several.
    pub(super) fn rows(&self) -> impl DoubleEndedIterator<Item = Row> + use<'a> {
        let (rows, _) = self.rows.as_chunks::<ROW>();
        rows.iter().map(Row::read)
    }

    /// Whether each of these digests is among those of the row's tags.
    pub(super) fn has_tags(&self, row: &Row, wanted: &[u32]) -> bool {
        if wanted.is_empty() {
            return true;
        }
        let (tags, _) = self.tags.as_chunks::<4>();
        let first = row.tags as usize;
        let tags = tags.get(first..first + usize::from(row.tag_count)).unwrap_or_default();
        wanted.iter().all(|wanted| tags.iter().any(|tag| u32::from_le_bytes(*tag) == *wanted))
    }
}

/// Names, by number: all texts in a row, and where each of them ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names<'a> {
    pub(super) ends: &'a [u8],
    pub(super) text: &'a [u8],
}

impl<'a> Names<'a> {
    /// The name with a number, empty if there is none.
    pub(super) fn at(&self, number: u32) -> &'a str {
        let number = number as usize;
        let begin = match number.checked_sub(1) {
            Some(before) => self.end(before),
            None => Some(0),
        };
        let name = begin.zip(self.end(number)).and_then(|(begin, end)| self.text.get(begin..end));
        name.and_then(|name| str::from_utf8(name).ok()).unwrap_or_default()
    }

    /// The number of a name, if there is such a name.
    pub(super) fn find(&self, name: &str) -> Option<u32> {
        let name = bounded(name);
        let (ends, _) = self.ends.as_chunks::<4>();
        let mut begin = 0;
        for (number, end) in ends.iter().enumerate() {
            let end = u32::from_le_bytes(*end) as usize;
            if end.saturating_sub(begin) == name.len()
                && self.text.get(begin..end) == Some(name.as_bytes())
            {
                return u32::try_from(number).ok();
            }
            begin = end;
        }
        None
    }

    fn end(&self, number: usize) -> Option<usize> {
        let (ends, _) = self.ends.as_chunks::<4>();
        ends.get(number).map(|end| u32::from_le_bytes(*end) as usize)
    }
}

/// What of a name is kept in the index.
pub(super) fn bounded(name: &str) -> &str {
    if name.len() <= LONGEST_NAME {
        return name;
    }
    let border = (0..=LONGEST_NAME).rev().find(|at| name.is_char_boundary(*at));
    border.and_then(|border| name.get(..border)).unwrap_or_default()
}

/// What is known together of all records that agree in kind and names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Summary {
    pub(super) group: Group,
    pub(super) count: u64,
    pub(super) errors: u64,
    /// The earliest and the latest time of one of them, in milliseconds since 1970.
    pub(super) first: i64,
    pub(super) last: i64,
    /// Where the record with the latest time begins.
    pub(super) last_at: u32,
}

/// In what records agree.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Group {
    pub(super) kind: u8,
    /// Whether requests enter there: what makes a subject an endpoint.
    pub(super) entry: bool,
    pub(super) service: u32,
    pub(super) instance: u32,
    pub(super) subject: u32,
}

impl Summary {
    /// Of no record yet, but of those that agree with this one.
    pub(super) fn of(row: &Row) -> Self {
        let Row { kind, service, instance, subject, .. } = *row;
        let entry = row.has(ENTRY);
        Self {
            group: Group { kind, entry, service, instance, subject },
            count: 0,
            errors: 0,
            first: row.start,
            last: i64::MIN,
            last_at: row.at,
        }
    }

    /// Counts one.
    pub(super) fn add(&mut self, row: &Row) {
        self.count += 1;
        self.errors += u64::from(row.has(ERROR));
        self.first = self.first.min(row.start);
        if row.start >= self.last {
            self.last = row.start;
            self.last_at = row.at;
        }
    }

    pub(super) fn write(&self, into: &mut Vec<u8>) {
        let Group { kind, entry, service, instance, subject } = self.group;
        into.extend_from_slice(&[kind, u8::from(entry), 0, 0]);
        for number in [service, instance, subject, self.last_at] {
            into.extend_from_slice(&number.to_le_bytes());
        }
        for number in
            [self.count, self.errors, self.first.cast_unsigned(), self.last.cast_unsigned()]
        {
            into.extend_from_slice(&number.to_le_bytes());
        }
    }

    pub(super) fn read(bytes: &[u8; SUMMARY]) -> Self {
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        Self {
            group: Group {
                kind: bytes[0],
                entry: bytes[1] != 0,
                service: word(4),
                instance: word(8),
                subject: word(12),
            },
            last_at: word(16),
            count: long(20),
            errors: long(28),
            first: long(36).cast_signed(),
            last: long(44).cast_signed(),
        }
    }
}

/// The bytes of a summary.
pub(super) const SUMMARY: usize = 52;

/// Longer names are looked for and listed by their beginning; the record has them whole.
const LONGEST_NAME: usize = 512;

/// A number for a name, or the one for no name.
pub(super) fn or_none(number: Option<u32>) -> u32 {
    number.unwrap_or(NO_NAME)
}
