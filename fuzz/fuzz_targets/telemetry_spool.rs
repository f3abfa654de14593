//! The files of a spool, and of a store with its indexes, as a broken disk could return them: bytes changed, ends cut,
//! whole files replaced. What is read is what was written, in order, and all of it that was not hit; and whoever asks
//! the store is answered.
#![no_main]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use bytes::Bytes;
use handfast_proto::skywalking::v3::SegmentObject;
use handfast_telemetry::journal::{Journal, JournalSettings, Position};
use handfast_telemetry::keep::{Keep, KeepReader, KeepSettings};
use handfast_telemetry::{Record, RecordKind};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use prost::Message as _;

/// Bytes that were changed; what was cut; what was put in place of a file. Each with the number of the file.
type Input = (Vec<(u8, u16, u8)>, Option<(u8, u16)>, Option<(u8, Vec<u8>)>);

struct Written {
    /// By their names.
    files: BTreeMap<String, Vec<u8>>,
    /// By where they begin.
    records: Vec<(u64, Record)>,
}

fn written() -> &'static Written {
    static WRITTEN: OnceLock<Written> = OnceLock::new();
    WRITTEN.get_or_init(|| {
        let directory = directory("written");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let settings = KeepSettings { chunk_bytes: 800, ..KeepSettings::default() };
        runtime.block_on(async {
            let store = Keep::open(&directory, settings, Timestamp::UNIX_EPOCH).expect("a store");
            for number in 0..20 {
                let taken = store.take(vec![segment(number)]).await.expect("room");
                taken.durable().await.expect("durable");
            }
        });
        let read = fs::read_dir(&directory).expect("there").map(|entry| {
            let path = entry.expect("there").path();
            let name = path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
            (name, fs::read(path).expect("readable"))
        });
        let kept = |name: &str| name.ends_with(".chunk") || name.ends_with(".index");
        let files = read.filter(|(name, _): &(String, _)| kept(name)).collect();
        let records = read_all(&open(&directory));
        assert_eq!(records.len(), 20);
        fs::remove_dir_all(directory).expect("removed");
        Written { files, records }
    })
}

fn segment(number: usize) -> Record {
    let body = SegmentObject {
        trace_id: format!("trace-{number}"),
        trace_segment_id: format!("{number}{}", "-".repeat(number * 7)),
        service: "shop".to_owned(),
        ..SegmentObject::default()
    };
    Record {
        body: body.encode_to_vec().into(),
        kind: RecordKind::Segment,
        received: Timestamp::UNIX_EPOCH,
        reporter: Bytes::new(),
    }
}

/// An empty one, in memory where that can be.
fn directory(name: &str) -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    let base = if memory.is_dir() { memory } else { std::env::temp_dir() };
    let directory = base.join(format!("handfast-fuzz-{}-{name}", std::process::id()));
    if directory.exists() {
        fs::remove_dir_all(&directory).expect("removed");
    }
    fs::create_dir(&directory).expect("made");
    directory
}

fn open(directory: &PathBuf) -> Journal {
    let settings = JournalSettings { chunk_bytes: 800, ..JournalSettings::default() };
    Journal::open(directory, settings).expect("it opens").0
}

fn read_all(journal: &Journal) -> Vec<(u64, Record)> {
    let mut reader = journal.reader(Position::START);
    let mut all = Vec::new();
    loop {
        let batch = reader.next_batch(1 << 20).expect("readable");
        if batch.is_empty() {
            return all;
        }
        all.extend(batch.into_iter().map(|(position, record)| (position.as_u64(), record)));
    }
}

/// Where a chunk begins, by the name of its file. None of an index.
fn base(name: &str) -> Option<u64> {
    name.strip_suffix(".chunk")?.parse().ok()
}

fuzz_target!(|input: Input| {
    let (changed, cut, replaced) = input;
    let Written { files, records } = written();
    let names: Vec<&String> = files.keys().collect();
    let name = |number: u8| names[usize::from(number) % names.len()];
    let mut found = files.clone();
    if let Some((number, bytes)) = replaced {
        found.insert(name(number).clone(), bytes);
    }
    if let Some((number, length)) = cut {
        found.get_mut(name(number)).expect("there").truncate(usize::from(length));
    }
    for (number, at, with) in changed {
        if let Some(byte) = found.get_mut(name(number)).expect("there").get_mut(usize::from(at)) {
            *byte ^= with;
        }
    }
    let directory = directory("found");
    for (name, bytes) in &found {
        fs::write(directory.join(name), bytes).expect("written");
    }

    let chunks_are_whole =
        files.iter().all(|(name, is)| base(name).is_none() || found[name] == *is);
    let store = KeepReader::open(&directory).expect("it opens");
    let counted: u64 = store.services().expect("answered").iter().map(|it| it.segments).sum();
    assert!(counted <= 20);
    assert!(counted == 20 || !chunks_are_whole, "an index can be made again");

    let read = read_all(&open(&directory));
    assert!(read.is_sorted_by_key(|(at, _)| *at));
    // A checksum of 32 bits could be met by chance; it has not been.
    assert!(read.iter().all(|one| records.contains(one)), "something was never written");
    for (chunk, was) in files {
        let Some(base) = base(chunk) else { continue };
        let is = &found[chunk];
        let within = base..base + was.len() as u64;
        let of_it: Vec<_> = records.iter().filter(|(at, _)| within.contains(at)).collect();
        let begins = |number: usize| of_it.get(number).map(|(at, _)| (at - base) as usize);
        let header = begins(0).expect("none is empty");
        if is.get(..header) != Some(&was[..header]) {
            continue;
        }
        for (number, record) in of_it.iter().enumerate() {
            let place = (record.0 - base) as usize..begins(number + 1).unwrap_or(was.len());
            let same = is.get(place.clone()) == Some(&was[place]);
            assert!(!same || read.contains(record), "{} is lost", record.0);
        }
    }
    fs::remove_dir_all(directory).expect("removed");
});
