//! Foreign material: PKCS#12 files, and whatever else people hand in to be imported. The first octet says which, and
//! whether there is a passphrase.
#![no_main]

use handfast_pki::{Import, ImportFile, Passphrase, Pkcs12};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else { return };
    let passphrase = Passphrase::new("secret");
    if first % 2 == 0 {
        if let Ok(read) = Pkcs12::read(rest, &passphrase) {
            assert!(Pkcs12::is_one(rest));
            assert!(read.certificates.len() <= 512 && read.keys.len() <= 512);
        }
        return;
    }
    // Two files, cut anywhere.
    let (one, two) = rest.split_at(rest.len() * usize::from(*first) / 256);
    let files = [ImportFile { name: "one", bytes: one }, ImportFile { name: "two", bytes: two }];
    let passphrase = (first % 3 == 0).then_some(&passphrase);
    let import = Import::read(&files, passphrase, None, Timestamp::UNIX_EPOCH);
    if import.is_usable() {
        assert!(import.to_pem().is_some());
        if let (Some(chain), Some(key)) = (&import.chain, &import.key) {
            assert_eq!(chain.leaf().spki_der(), key.spki_der());
        }
    }
});
