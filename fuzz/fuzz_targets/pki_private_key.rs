//! Private keys in every encoding, with and without a passphrase: what is read is written as PKCS#8 and read
//! again.
#![no_main]

use handfast_pki::{Passphrase, PrivateKey};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let passphrase = Passphrase::new("passphrase");
    for passphrase in [None, Some(&passphrase)] {
        if let Ok(key) = PrivateKey::read(bytes, passphrase) {
            let again = PrivateKey::from_pem(key.to_pkcs8_pem().as_bytes(), None)
                .expect("reads what it wrote");
            assert_eq!(again.spki_der(), key.spki_der());
        }
    }
});
