//! The one crypto provider of the fabric, spelled out so that no feature flag of another crate can
//! reorder it. It does not install itself process-wide: every configuration names it.

use std::sync::{Arc, OnceLock};

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{cipher_suite, kx_group};

/// The crypto provider of every configuration this crate builds: aws-lc-rs.
///
/// Key exchange groups, in order of preference: X25519MLKEM768 (hybrid post-quantum,
/// draft-ietf-tls-ecdhe-mlkem), X25519, secp256r1, secp384r1. A peer that knows only a classical
/// group still connects. TLS 1.3 suites (RFC 8446, appendix B.4) come first; TLS 1.2 suites are
/// ECDHE with AEAD only and are reachable only where [`Floor::Tls12`](crate::Floor) is chosen.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| {
        Arc::new(CryptoProvider {
            cipher_suites: vec![
                cipher_suite::TLS13_AES_256_GCM_SHA384,
                cipher_suite::TLS13_AES_128_GCM_SHA256,
                cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
                cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
                cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
                cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
                cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
                cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
                cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
            ],
            kx_groups: vec![
                kx_group::X25519MLKEM768,
                kx_group::X25519,
                kx_group::SECP256R1,
                kx_group::SECP384R1,
            ],
            ..rustls::crypto::aws_lc_rs::default_provider()
        })
    }))
}

#[cfg(test)]
mod tests {
    use rustls::NamedGroup;

    use super::provider;

    #[test]
    fn the_hybrid_group_is_offered_first_and_classical_groups_remain() {
        let groups: Vec<NamedGroup> = provider().kx_groups.iter().map(|g| g.name()).collect();
        assert_eq!(
            groups,
            [
                NamedGroup::X25519MLKEM768,
                NamedGroup::X25519,
                NamedGroup::secp256r1,
                NamedGroup::secp384r1
            ]
        );
    }

    #[test]
    fn tls13_suites_come_first() {
        let versions: Vec<bool> =
            provider().cipher_suites.iter().map(|suite| suite.tls13().is_some()).collect();
        assert_eq!(versions.iter().filter(|is_13| **is_13).count(), 3);
        assert!(versions[..3].iter().all(|is_13| *is_13));
    }
}
