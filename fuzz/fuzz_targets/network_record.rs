//! The plaintext of one record on a link: frames, as a hostile site could send them.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|record: &[u8]| {
    // Every frame has a header of eight bytes.
    assert!(handfast_network::parse_record(record) <= record.len() / 8);
});
