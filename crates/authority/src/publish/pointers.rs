//! What certificates say of where their revocation is to be looked up.

use std::fmt::Write as _;

use handfast_pki::Distribution;

/// The pointers in a certificate that the key of this id signs, under the place of this base URL.
pub(crate) fn pointers(base: &str, issuer_key_id: &[u8; 32]) -> Distribution {
    let label = label(issuer_key_id);
    Distribution {
        crl: vec![format!("{base}/crl/{label}.crl")],
        freshest: freshest(base, issuer_key_id),
        ocsp: vec![format!("{base}/ocsp")],
        issuers: vec![format!("{base}/ca/{label}.crt")],
    }
}

/// Where the deltas of this key are.
pub(super) fn freshest(base: &str, issuer_key_id: &[u8; 32]) -> Vec<String> {
    vec![format!("{base}/crl/{}-delta.crl", label(issuer_key_id))]
}

/// What a key is called in URLs: the first 16 hex digits of its id. A name would not do, because a CA that is
/// made anew keeps its name, and what the key before signed still points to that key's list.
pub(super) fn label(issuer_key_id: &[u8; 32]) -> String {
    issuer_key_id.iter().take(8).fold(String::new(), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    })
}
