//! The judgement on a connection's first bytes: any bytes, any length.
#![no_main]

use handfast_tls::{SNIFF_LIMIT, sniff};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let verdict = sniff(bytes);
    assert!(!(verdict.is_tls() && verdict.is_plaintext()));
    assert_eq!(verdict, sniff(&bytes[..bytes.len().min(SNIFF_LIMIT)]));
});
