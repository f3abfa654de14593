//! A chunk of a journal as a broken disk could return it: records with bytes changed, and anything behind them. What is
//! read is what was written, and all of it that was not hit.
#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;

use bytes::Bytes;
use handfast_telemetry::journal::frame::{self, Frame};
use handfast_telemetry::{Record, RecordKind};

type Input = (u64, Vec<(u8, Vec<u8>)>, Vec<(u16, u8)>, Vec<u8>);

fuzz_target!(|input: Input| {
    let (salt, bodies, hits, behind) = input;
    let mut bytes = Vec::new();
    let mut written = Vec::new();
    for (kind, body) in bodies {
        let kind = RecordKind::ALL[usize::from(kind) % RecordKind::ALL.len()];
        let received = jiff::Timestamp::UNIX_EPOCH;
        let record = Record { body: body.into(), kind, received, reporter: Bytes::new() };
        let begin = bytes.len();
        frame::encode(&record, salt, begin as u64, &mut bytes);
        written.push((begin..bytes.len(), record));
    }
    let whole = bytes.clone();
    for (at, with) in hits {
        if let Some(byte) = bytes.get_mut(usize::from(at)) {
            *byte ^= with;
        }
    }
    let hit: BTreeSet<usize> = (0..whole.len()).filter(|at| whole[*at] != bytes[*at]).collect();
    bytes.extend(behind);

    let bytes = Bytes::from(bytes);
    let mut read = Vec::new();
    let mut at = 0;
    loop {
        match frame::decode(&bytes, at, salt, 0) {
            Frame::Damaged(length) | Frame::Unknown(length) => {
                assert!(length > 0);
                at += length;
            }
            Frame::Record(record, length) => {
                read.push((at..at + length, record));
                at += length;
            }
            Frame::Short(needed) => {
                assert!(at + needed > bytes.len());
                break;
            }
        }
        assert!(at <= bytes.len());
    }
    for (place, record) in &written {
        if hit.range(place.clone()).next().is_none() {
            assert!(read.iter().any(|(at, it)| at == place && it == record), "{place:?} is lost");
        }
    }
    // A checksum of 32 bits could be met by chance; it has not been.
    for one in &read {
        assert!(written.contains(one), "{one:?} was never written");
    }
});
