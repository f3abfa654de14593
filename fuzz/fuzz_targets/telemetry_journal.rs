//! The bytes of a chunk of a journal, as a broken disk could return them.
#![no_main]

use libfuzzer_sys::fuzz_target;

use bytes::Bytes;
use handfast_telemetry::journal::frame::{self, Frame};

fuzz_target!(|input: (u64, Vec<u8>)| {
    let (salt, bytes) = input;
    let bytes = Bytes::from(bytes);
    let mut at = 0;
    loop {
        match frame::decode(&bytes, at, salt, 0) {
            Frame::Damaged(length) | Frame::Unknown(length) => {
                assert!(length > 0);
                at += length;
            }
            Frame::Record(record, length) => {
                // What is taken for a record is one: written again it is the same bytes.
                let mut again = Vec::new();
                frame::encode(&record, salt, at as u64, &mut again);
                assert_eq!(again.len(), length);
                assert_eq!(frame::length(&record), length);
                at += length;
            }
            Frame::Short(needed) => {
                assert!(at + needed > bytes.len());
                break;
            }
        }
        assert!(at <= bytes.len());
    }
});
