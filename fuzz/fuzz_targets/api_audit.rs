//! Exports of audit logs, and heads that were kept elsewhere.
#![no_main]

use handfast_api::audit::verify_export;
use handfast_store::SignedHead;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = verify_export(bytes, None, Vec::new());
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(head) = text.parse::<SignedHead>()
    {
        assert_eq!(head.to_string().parse::<SignedHead>(), Ok(head));
    }
});
