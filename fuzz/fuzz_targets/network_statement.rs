//! Statements of revocation as other sites send them: read or refused, never believed without a key.
#![no_main]

use handfast_network::{Believed, believe_revocations, decode_statement, read_revocations};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some(statement) = decode_statement(bytes) else { return };
    let _ = read_revocations(&statement, None).is_ok();
    let believed = believe_revocations(&statement, &Believed::default(), Timestamp::UNIX_EPOCH);
    assert!(believed.is_err(), "nobody is trusted here");
});
