//! Certificates, chains and bundles, PEM and DER: whatever is read can be shown, linted, verified and written
//! again; nothing panics.
#![no_main]

use handfast_pki::{Certificate, Chain, LintContext, Purpose, TrustAnchors, lint, verify_chain};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(certificate) = Certificate::from_der(bytes) {
        exercise(&Chain::from(certificate));
    }
    if let Ok(chain) = Chain::from_pem(bytes) {
        assert_eq!(Chain::from_pem(chain.to_pem().as_bytes()).as_ref(), Ok(&chain));
        exercise(&chain);
    }
    if let Ok(anchors) = TrustAnchors::from_pem(bytes) {
        assert_eq!(TrustAnchors::from_pem(anchors.to_pem().as_bytes()).as_ref(), Ok(&anchors));
    }
});

fn exercise(chain: &Chain) {
    let now = Timestamp::constant(1_800_000_000, 0);
    let anchors = TrustAnchors::new(chain.iter().last().expect("never empty").clone());
    for certificate in chain.iter() {
        let _ = format!("{certificate:?} {} {}", certificate.serial(), certificate.key_algorithm());
        let _ = (certificate.spiffe_id(), certificate.public_key(), certificate.is_self_signed());
        for purpose in [Purpose::Ca, Purpose::Client, Purpose::Server] {
            let _ = lint(certificate, LintContext { purpose, now });
        }
    }
    for purpose in [Purpose::Ca, Purpose::Client, Purpose::Server] {
        let _ = verify_chain(chain, &anchors, purpose, now);
    }
}
