//! The index of a chunk while it is made: record by record, in the order in which they lie.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::facts::Facts;
use super::index::{Group, Index, Names, Summary, bounded, or_none};
use super::row::{DUPLICATE, ENTRY, ROW, Row};

/// From when to when something was.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Times {
    pub(super) first_start: i64,
    /// The latest end.
    pub(super) last_end: i64,
    pub(super) last_received: i64,
}

impl Times {
    pub(super) const NEVER: Self =
        Self { first_start: i64::MAX, last_end: i64::MIN, last_received: i64::MIN };
}

/// An index that grows.
#[derive(Debug)]
pub(super) struct Gathered {
    pub(super) times: Times,
    rows: Vec<u8>,
    tags: Vec<u8>,
    ends: Vec<u8>,
    text: Vec<u8>,
    numbers: HashMap<Box<str>, u32>,
    summaries: HashMap<Group, Summary>,
    /// The last row of each trace, and for each row the one before it of the same trace.
    traces: HashMap<u64, u32>,
    before: Vec<u32>,
}

impl Gathered {
    pub(super) fn new() -> Self {
        Self {
            times: Times::NEVER,
            rows: Vec::new(),
            tags: Vec::new(),
            ends: Vec::new(),
            text: Vec::new(),
            numbers: HashMap::new(),
            summaries: HashMap::new(),
            traces: HashMap::new(),
            before: Vec::new(),
        }
    }

    /// Adds what is known of the record that begins at a place of the chunk.
    pub(super) fn push(&mut self, at: u64, facts: &Facts, duplicate: bool) {
        // A chunk is not that large; what would lie beyond could not be found and is left out.
        let Ok(at) = u32::try_from(at) else { return };
        let row = Row {
            id: facts.id.unwrap_or_default(),
            trace: facts.trace,
            start: facts.start,
            duration: facts.duration,
            at,
            service: self.number(&facts.service),
            instance: self.number(&facts.instance),
            subject: self.number(&facts.subject),
            tags: u32::try_from(self.tags.len() / 4).unwrap_or(u32::MAX),
            tag_count: u16::try_from(facts.tags.len()).unwrap_or(u16::MAX),
            spans: facts.spans,
            kind: facts.kind as u8,
            flags: facts.flags
                | if duplicate { DUPLICATE } else { 0 }
                | if facts.entry { ENTRY } else { 0 },
        };
        for tag in &facts.tags {
            self.tags.extend_from_slice(&tag.to_le_bytes());
        }
        self.times.last_received = self.times.last_received.max(facts.received);
        if !duplicate {
            self.times.first_start = self.times.first_start.min(row.start);
            self.times.last_end = self.times.last_end.max(row.end());
            let new = Summary::of(&row);
            self.summaries.entry(new.group).or_insert(new).add(&row);
        }
        let number = u32::try_from(self.before.len()).unwrap_or(u32::MAX);
        let before = (row.trace != 0).then(|| self.traces.insert(row.trace, number)).flatten();
        self.before.push(or_none(before));
        row.write(&mut self.rows);
    }

    pub(super) fn index(&self) -> Index<'_> {
        Index {
            names: Names { ends: &self.ends, text: &self.text },
            rows: &self.rows,
            tags: &self.tags,
        }
    }

    /// The rows of a trace, by its digest.
    pub(super) fn of_trace(&self, trace: u64) -> Vec<Row> {
        let mut found = Vec::new();
        let mut next = self.traces.get(&trace).copied();
        while let Some(number) = next {
            let (rows, _) = self.rows.as_chunks::<ROW>();
            let Some(row) = rows.get(number as usize) else { break };
            found.push(Row::read(row));
            next = self.before.get(number as usize).copied().filter(|before| *before < number);
        }
        found.reverse();
        found
    }

    pub(super) fn summaries(&self) -> impl Iterator<Item = &Summary> {
        self.summaries.values()
    }

    /// Digest and row of everything that belongs to a trace, sorted.
    pub(super) fn sorted_traces(&self) -> Vec<(u64, u32)> {
        let (rows, _) = self.rows.as_chunks::<ROW>();
        let mut traces: Vec<(u64, u32)> = (0..)
            .zip(rows)
            .map(|(number, row)| (Row::read(row).trace, number))
            .filter(|(trace, _)| *trace != 0)
            .collect();
        traces.sort_unstable();
        traces
    }

    fn number(&mut self, name: &str) -> u32 {
        let name = bounded(name);
        if name.is_empty() {
            return super::row::NO_NAME;
        }
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = u32::try_from(self.numbers.len()).unwrap_or(u32::MAX);
        if let Entry::Vacant(place) = self.numbers.entry(name.into()) {
            place.insert(number);
            self.text.extend_from_slice(name.as_bytes());
            let end = u32::try_from(self.text.len()).unwrap_or(u32::MAX);
            self.ends.extend_from_slice(&end.to_le_bytes());
        }
        number
    }
}
