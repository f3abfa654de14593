//! A credential: certificate chain, private key and trust anchors, checked to belong together. The
//! shape of a Kubernetes TLS Secret.

use std::fmt;

use zeroize::Zeroizing;

use crate::{
    Certificate, Chain, ChainReadError, KeyError, Passphrase, PrivateKey, PublicKeyError,
    TrustAnchors,
};

/// A chain, the key of its leaf, and the anchors its peers are verified against.
#[derive(Clone, Debug)]
pub struct Credential {
    chain: Chain,
    key: PrivateKey,
    anchors: TrustAnchors,
}

impl Credential {
    /// Puts the three together; the key must belong to the leaf. Whether the chain is valid *now* is
    /// asked of [`crate::verify_chain`].
    pub fn new(
        chain: Chain,
        key: PrivateKey,
        anchors: TrustAnchors,
    ) -> Result<Self, CredentialError> {
        if chain.leaf().public_key()? != *key.public_key() {
            return Err(CredentialError::KeyMismatch {
                subject: chain.leaf().subject().to_owned(),
            });
        }
        Ok(Self { chain, key, anchors })
    }

    /// Reads the contents of `tls.crt`, `tls.key` and `ca.crt`. PEM is meant; DER is read too.
    pub fn from_pem(
        tls_crt: &[u8],
        tls_key: &[u8],
        ca_crt: &[u8],
        passphrase: Option<&Passphrase>,
    ) -> Result<Self, CredentialError> {
        let chain = Chain::from_pem(tls_crt).map_err(CredentialError::Certificate)?;
        let key = PrivateKey::read(tls_key, passphrase).map_err(CredentialError::Key)?;
        let anchors = TrustAnchors::from_pem(ca_crt).map_err(CredentialError::Anchors)?;
        Self::new(chain, key, anchors)
    }

    /// The chain, leaf first.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The private key of the leaf.
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// The trust anchors.
    pub fn anchors(&self) -> &TrustAnchors {
        &self.anchors
    }

    /// The leaf.
    pub fn leaf(&self) -> &Certificate {
        self.chain.leaf()
    }

    /// The contents of the three files.
    pub fn to_pem(&self) -> CredentialPem {
        CredentialPem {
            tls_crt: self.chain.to_pem(),
            tls_key: self.key.to_pkcs8_pem(),
            ca_crt: self.anchors.to_pem(),
        }
    }
}

/// The contents of a credential's three files.
#[derive(Clone, Eq, PartialEq)]
pub struct CredentialPem {
    /// The chain, leaf first.
    pub tls_crt: String,
    /// The key as PKCS#8, wiped when dropped.
    pub tls_key: Zeroizing<String>,
    /// The trust anchors.
    pub ca_crt: String,
}

impl fmt::Debug for CredentialPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialPem")
            .field("tls_crt", &self.tls_crt)
            .field("tls_key", &"<redacted>")
            .field("ca_crt", &self.ca_crt)
            .finish()
    }
}

/// Why three files make no credential.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// `ca.crt` cannot be read.
    #[error("ca.crt: {0}")]
    Anchors(#[source] ChainReadError),
    /// `tls.crt` cannot be read.
    #[error("tls.crt: {0}")]
    Certificate(#[source] ChainReadError),
    /// `tls.key` cannot be read.
    #[error("tls.key: {0}")]
    Key(#[source] KeyError),
    /// Key and certificate do not belong together.
    #[error(
        "the private key in tls.key does not belong to the first certificate in tls.crt ({subject}): supply the two that were made together, the leaf first"
    )]
    KeyMismatch {
        /// The leaf's subject.
        subject: String,
    },
    /// The leaf's key is of a kind that we do not use.
    #[error("tls.crt: {0}")]
    PublicKey(#[from] PublicKeyError),
}
