//! OCSP messages: a request that is read is written back with the same meaning, also through a URL; a response is
//! read or refused; nothing panics.
#![no_main]

use handfast_pki::ocsp::{OcspRequest, OcspResponse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(request) = OcspRequest::from_der(bytes) {
        assert_eq!(OcspRequest::from_der(&request.to_der()).as_ref(), Ok(&request));
        assert_eq!(OcspRequest::from_url_path(&request.to_url_path()).as_ref(), Ok(&request));
        assert!(request.nonce.is_none_or(|nonce| (1..=OcspRequest::MAX_NONCE).contains(&nonce.len())));
    }
    if let Ok(path) = std::str::from_utf8(bytes) {
        let _ = OcspRequest::from_url_path(path);
    }
    if let Ok(response) = OcspResponse::from_der(bytes) {
        let _ = format!("{response:?} {:?} {:?}", response.answers(), response.nonce());
        let _ = response.produced_at();
    }
});
