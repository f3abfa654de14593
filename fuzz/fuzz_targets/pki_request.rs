//! Certificate requests, PEM and DER: whatever is read has proved possession of its key, and can be checked.
#![no_main]

use handfast_pki::{Csr, Subject};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for read in [Csr::from_der(bytes), Csr::from_pem(bytes)].into_iter().flatten() {
        assert_eq!(Csr::from_pem(read.to_pem().as_bytes()).as_ref(), Ok(&read));
        let allowed = Subject::new("east");
        assert!(!(read.asks_for_ca() && read.check(&allowed).is_ok()));
        let _ = format!("{read:?}");
    }
});
