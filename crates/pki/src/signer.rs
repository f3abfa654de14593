//! Who makes an issuer's signatures: a key in this process, or one that lives in a token and never
//! leaves it. What is signed, and whether it may be, is not decided here.

use std::fmt;
use std::sync::Arc;

use crate::{KeyAlgorithm, PrivateKey, PublicKey};

/// Signs with a private key, wherever that is.
///
/// A signature is made with the algorithm that goes with the key in certificates (RFC 5280 section
/// 4.1.1.2): ECDSA P-256 with SHA-256 and P-384 with SHA-384 (DER encoded, RFC 3279 section 2.2.3),
/// RSA PKCS#1 v1.5 with SHA-256, Ed25519. It may take as long as a token needs, but not for ever.
///
/// Whoever signs need not be believed: [`crate::Issuer`] verifies every signature before it hands
/// anything out. `Debug` must not show anything secret.
pub trait Signer: fmt::Debug + Send + Sync {
    /// The public half.
    fn public_key(&self) -> &PublicKey;

    /// Signs `message` (hashing it first, where the algorithm does).
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError>;
}

/// Why a signature was not made: what, where, and what to do, for an operator.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{what}")]
pub struct SignError {
    /// One sentence.
    pub what: String,
}

impl SignError {
    /// An error that says `what`.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into() }
    }
}

/// The key of an issuer. Cloning shares it.
#[derive(Clone, Debug)]
pub enum SigningKey {
    /// It lives elsewhere: in a token, behind a service.
    External(Arc<dyn Signer>),
    /// It is in this process.
    Software(PrivateKey),
}

impl SigningKey {
    /// The key itself, if it is in this process.
    pub fn software(&self) -> Option<&PrivateKey> {
        match self {
            Self::External(_) => None,
            Self::Software(key) => Some(key),
        }
    }

    /// The algorithm.
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.public_key().algorithm()
    }

    /// The public half as a DER SubjectPublicKeyInfo.
    pub fn spki_der(&self) -> &[u8] {
        self.public_key().spki_der()
    }

    /// SHA-256 of the DER SubjectPublicKeyInfo.
    pub fn key_id(&self) -> [u8; 32] {
        self.public_key().key_id()
    }

    /// The public half.
    pub fn public_key(&self) -> &PublicKey {
        match self {
            Self::External(signer) => signer.public_key(),
            Self::Software(key) => key.public_key(),
        }
    }

    /// Signs, as [`Signer::sign`] does.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        match self {
            Self::External(signer) => signer.sign(message),
            Self::Software(key) => Signer::sign(key, message),
        }
    }
}

impl Signer for SigningKey {
    fn public_key(&self) -> &PublicKey {
        self.public_key()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        self.sign(message)
    }
}

impl<S: Signer + ?Sized> Signer for &S {
    fn public_key(&self) -> &PublicKey {
        (**self).public_key()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        (**self).sign(message)
    }
}

impl Signer for PrivateKey {
    fn public_key(&self) -> &PublicKey {
        self.public_key()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        self.sign(message).map_err(|error| SignError::new(error.to_string()))
    }
}

impl From<PrivateKey> for SigningKey {
    fn from(key: PrivateKey) -> Self {
        Self::Software(key)
    }
}

impl From<Arc<dyn Signer>> for SigningKey {
    fn from(signer: Arc<dyn Signer>) -> Self {
        Self::External(signer)
    }
}
