//! A chain and a key to present, checked by nobody: they need not match, be valid, or make sense.

use std::fmt;
use std::sync::Arc;

use handfast_pki::Credential;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};

use crate::fault::{Fault, FaultCode, Side};
use crate::provider::provider;

/// What a probe or an impostor presents.
#[derive(Clone)]
pub struct Material {
    chain: Vec<CertificateDer<'static>>,
    key: Arc<dyn SigningKey>,
}

impl Material {
    /// Any chain with any key.
    ///
    /// # Errors
    /// `unsupported-algorithm`, ours, if the key cannot sign a handshake at all.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, Fault> {
        let key = provider().key_provider.load_private_key(key).map_err(|error| {
            Fault::new(FaultCode::UnsupportedAlgorithm, Side::Ours, "material to present")
                .with("reason", error.to_string())
                .caused_by(error)
        })?;
        Ok(Self { chain, key })
    }

    /// The chain and key of a credential, whatever they are for.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn of(credential: &Credential) -> Result<Self, Fault> {
        Self::new(credential.chain().to_pki_types(), credential.key().to_pki_types())
    }

    pub(super) fn certified_key(&self) -> CertifiedKey {
        CertifiedKey::new(self.chain.clone(), Arc::clone(&self.key))
    }
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Material")
            .field("certificates", &self.chain.len())
            .field("key", &"<redacted>")
            .finish()
    }
}
