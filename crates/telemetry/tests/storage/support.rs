//! Records to store, and a runtime to store them with.

use std::future::Future;
use std::path::Path;

use bytes::Bytes;
use handfast_telemetry::journal::{Journal, JournalSettings, Position, Repair};
use handfast_telemetry::{Record, RecordKind};
use jiff::Timestamp;

pub(crate) fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

/// A record that can be told from all others, with a body of at least so many bytes.
pub(crate) fn record(number: u64, bytes: usize) -> Record {
    let mut body = number.to_le_bytes().to_vec();
    body.resize(bytes.max(8), number.to_le_bytes()[0]);
    Record {
        body: body.into(),
        kind: RecordKind::ALL[usize::try_from(number).unwrap() % RecordKind::ALL.len()],
        received: Timestamp::from_millisecond(1_800_000_000_000 + i64::try_from(number).unwrap())
            .unwrap(),
        reporter: Bytes::from(format!("spiffe://shop.example/agent/a{}", number % 7)),
    }
}

pub(crate) fn number(record: &Record) -> u64 {
    u64::from_le_bytes(record.body[..8].try_into().unwrap())
}

pub(crate) fn open(directory: &Path, settings: JournalSettings) -> (Journal, Repair) {
    Journal::open(directory, settings).unwrap()
}

/// Settings with which chunks are small enough that a test has several.
pub(crate) fn small() -> JournalSettings {
    JournalSettings { chunk_bytes: 4096, limit_bytes: 1 << 30, ..JournalSettings::default() }
}

/// Everything in a journal, from the start.
pub(crate) fn read_all(journal: &Journal) -> Vec<(Position, Record)> {
    read_from(journal, Position::START)
}

pub(crate) fn read_from(journal: &Journal, from: Position) -> Vec<(Position, Record)> {
    let mut reader = journal.reader(from);
    let mut all = Vec::new();
    loop {
        let batch = reader.next_batch(100_000).unwrap();
        if batch.is_empty() {
            return all;
        }
        all.extend(batch);
    }
}

pub(crate) fn records(of: Vec<(Position, Record)>) -> Vec<Record> {
    of.into_iter().map(|(_, record)| record).collect()
}

/// The chunk files of a directory, oldest first.
pub(crate) fn chunks(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut chunks: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "chunk"))
        .collect();
    chunks.sort();
    chunks
}
