//! Public keys: a SubjectPublicKeyInfo that we know how to use.

use std::fmt;

use aws_lc_rs::signature as aws;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey as ParsedKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::fingerprint::sha256;
use crate::{KeyAlgorithm, SignatureAlgorithm, SignatureError};

/// A public key of an algorithm we issue for.
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct PublicKey {
    algorithm: KeyAlgorithm,
    /// The content of the subjectPublicKey bit string.
    raw: Vec<u8>,
    spki: Vec<u8>,
}

impl PublicKey {
    /// Reads a DER SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7): the algorithm must be one of
    /// ours, the key well-formed (a point on its curve, a modulus of 2048 to 4096 bits).
    pub fn from_spki(spki: &[u8]) -> Result<Self, PublicKeyError> {
        let (rest, parsed) =
            SubjectPublicKeyInfo::from_der(spki).map_err(|_| PublicKeyError::Malformed)?;
        if !rest.is_empty() {
            return Err(PublicKeyError::Malformed);
        }
        let raw = parsed.subject_public_key.data.to_vec();
        let oid = parsed.algorithm.algorithm.to_id_string();
        let curve = || {
            let parameters = parsed.algorithm.parameters.as_ref()?;
            Some(parameters.as_oid().ok()?.to_id_string())
        };
        let algorithm = match oid.as_str() {
            EC_PUBLIC_KEY => match curve().as_deref() {
                Some(CURVE_P256) => KeyAlgorithm::EcdsaP256,
                Some(CURVE_P384) => KeyAlgorithm::EcdsaP384,
                other => {
                    return Err(PublicKeyError::Unsupported { algorithm: curve_name(other) });
                }
            },
            ED25519 => KeyAlgorithm::Ed25519,
            RSA_ENCRYPTION => {
                let Ok(ParsedKey::RSA(rsa)) = parsed.parsed() else {
                    return Err(PublicKeyError::Malformed);
                };
                let bits = modulus_bits(rsa.modulus);
                KeyAlgorithm::rsa(bits).ok_or(PublicKeyError::RsaSize { bits })?
            }
            _ => return Err(PublicKeyError::Unsupported { algorithm: algorithm_name(&oid) }),
        };
        let key = Self { algorithm, raw, spki: spki.to_vec() };
        aws::ParsedPublicKey::new(key.verification(), &key.raw)
            .map_err(|_| PublicKeyError::Malformed)?;
        Ok(key)
    }

    /// The key of `algorithm` whose bit string content is `raw`, as our own library produced it.
    pub(crate) fn from_raw(algorithm: KeyAlgorithm, raw: &[u8]) -> Self {
        let mut key = Self { algorithm, raw: raw.to_vec(), spki: Vec::new() };
        key.spki = rcgen::PublicKeyData::subject_public_key_info(&Encoded(&key));
        key
    }

    /// The algorithm.
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// The DER SubjectPublicKeyInfo.
    pub fn spki_der(&self) -> &[u8] {
        &self.spki
    }

    /// SHA-256 of the DER SubjectPublicKeyInfo.
    pub fn key_id(&self) -> [u8; 32] {
        sha256(&self.spki)
    }

    /// Checks a signature that the holder of the private half made as a [`crate::Signer`].
    ///
    /// # Errors
    /// If the signature is another's, or for another message.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
        let algorithm = match self.algorithm {
            KeyAlgorithm::EcdsaP256 => SignatureAlgorithm::EcdsaSha256,
            KeyAlgorithm::EcdsaP384 => SignatureAlgorithm::EcdsaSha384,
            KeyAlgorithm::Ed25519 => SignatureAlgorithm::Ed25519,
            _ => SignatureAlgorithm::RsaSha256,
        };
        crate::signature::verify(&self.spki, &algorithm, message, signature)
    }

    /// The content of the subjectPublicKey bit string.
    pub(crate) fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// The subject key identifier we write: the left-most 160 bits of the SHA-256 of the bit string
    /// (RFC 7093 section 2, method 1).
    pub(crate) fn subject_key_id(&self) -> Vec<u8> {
        sha256(&self.raw).iter().copied().take(20).collect()
    }

    /// Any verification algorithm of the key's kind: enough to check that the key is well-formed.
    fn verification(&self) -> &'static dyn aws::VerificationAlgorithm {
        match self.algorithm {
            KeyAlgorithm::EcdsaP256 => &aws::ECDSA_P256_SHA256_ASN1,
            KeyAlgorithm::EcdsaP384 => &aws::ECDSA_P384_SHA384_ASN1,
            KeyAlgorithm::Ed25519 => &aws::ED25519,
            _ => &aws::RSA_PKCS1_2048_8192_SHA256,
        }
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublicKey").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// A public key as rcgen wants it.
pub(crate) struct Encoded<'a>(pub(crate) &'a PublicKey);

impl rcgen::PublicKeyData for Encoded<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.raw()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        rcgen_algorithm(self.0.algorithm)
    }
}

/// The signature algorithm our keys sign certificates with.
pub(crate) fn rcgen_algorithm(algorithm: KeyAlgorithm) -> &'static rcgen::SignatureAlgorithm {
    match algorithm {
        KeyAlgorithm::EcdsaP256 => &rcgen::PKCS_ECDSA_P256_SHA256,
        KeyAlgorithm::EcdsaP384 => &rcgen::PKCS_ECDSA_P384_SHA384,
        KeyAlgorithm::Ed25519 => &rcgen::PKCS_ED25519,
        _ => &rcgen::PKCS_RSA_SHA256,
    }
}

/// Significant bits of a big-endian modulus.
pub(crate) fn modulus_bits(modulus: &[u8]) -> usize {
    let significant = modulus.iter().position(|octet| *octet != 0).unwrap_or(modulus.len());
    match modulus.get(significant..) {
        Some([first, rest @ ..]) => {
            rest.len() * 8 + 8 - usize::try_from(first.leading_zeros()).unwrap_or(0)
        }
        _ => 0,
    }
}

pub(crate) const EC_PUBLIC_KEY: &str = "1.2.840.10045.2.1";
pub(crate) const CURVE_P256: &str = "1.2.840.10045.3.1.7";
pub(crate) const CURVE_P384: &str = "1.3.132.0.34";
pub(crate) const CURVE_P521: &str = "1.3.132.0.35";
pub(crate) const ED25519: &str = "1.3.101.112";
pub(crate) const RSA_ENCRYPTION: &str = "1.2.840.113549.1.1.1";

/// What people call a key algorithm that we do not use.
pub(crate) fn algorithm_name(oid: &str) -> String {
    match oid {
        "1.2.840.10040.4.1" => "DSA".to_owned(),
        "1.2.840.113549.1.1.10" => "RSA-PSS".to_owned(),
        "1.3.101.110" => "X25519".to_owned(),
        "1.3.101.111" => "X448".to_owned(),
        "1.3.101.113" => "Ed448".to_owned(),
        EC_PUBLIC_KEY => "ECDSA".to_owned(),
        ED25519 => "Ed25519".to_owned(),
        RSA_ENCRYPTION => "RSA".to_owned(),
        other => format!("algorithm {other}"),
    }
}

/// What people call a curve.
pub(crate) fn curve_name(oid: Option<&str>) -> String {
    match oid {
        None => "ECDSA with explicit curve parameters".to_owned(),
        Some(CURVE_P256) => "ECDSA P-256".to_owned(),
        Some(CURVE_P384) => "ECDSA P-384".to_owned(),
        Some(CURVE_P521) => "ECDSA P-521".to_owned(),
        Some("1.3.132.0.10") => "ECDSA secp256k1".to_owned(),
        Some(other) => format!("ECDSA on curve {other}"),
    }
}

/// Why a public key cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PublicKeyError {
    /// Not a SubjectPublicKeyInfo, or not a valid key of its algorithm.
    #[error("the public key is malformed: make a new key pair")]
    Malformed,
    /// Too small to be safe, or too large to be worth its cost.
    #[error(
        "an RSA key of {bits} bits cannot be used: make one of 2048 to 4096 bits, or ECDSA P-256"
    )]
    RsaSize {
        /// Bits of the modulus.
        bits: usize,
    },
    /// An algorithm we do not use.
    #[error(
        "{algorithm} keys are not supported: use ECDSA P-256 or P-384, Ed25519, or RSA of 2048 to 4096 bits"
    )]
    Unsupported {
        /// What the key is.
        algorithm: String,
    },
}
