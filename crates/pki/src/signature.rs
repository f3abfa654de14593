//! Checking signatures on certificates and requests.

use std::fmt;

use aws_lc_rs::signature as aws;
use x509_parser::prelude::FromDer;
use x509_parser::signature_algorithm::SignatureAlgorithm as Parsed;
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo};

use crate::public_key::{
    CURVE_P256, CURVE_P384, CURVE_P521, EC_PUBLIC_KEY, ED25519, RSA_ENCRYPTION,
};

/// How a certificate or request is signed.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum SignatureAlgorithm {
    /// ECDSA with SHA-1, broken.
    EcdsaSha1,
    /// ECDSA with SHA-256.
    EcdsaSha256,
    /// ECDSA with SHA-384.
    EcdsaSha384,
    /// ECDSA with SHA-512.
    EcdsaSha512,
    /// Ed25519.
    Ed25519,
    /// Anything else, by its object identifier.
    Other(String),
    /// RSA PKCS#1 v1.5 with MD5, broken.
    RsaMd5,
    /// RSA-PSS with SHA-256.
    RsaPssSha256,
    /// RSA-PSS with SHA-384.
    RsaPssSha384,
    /// RSA-PSS with SHA-512.
    RsaPssSha512,
    /// RSA PKCS#1 v1.5 with SHA-1, broken.
    RsaSha1,
    /// RSA PKCS#1 v1.5 with SHA-256.
    RsaSha256,
    /// RSA PKCS#1 v1.5 with SHA-384.
    RsaSha384,
    /// RSA PKCS#1 v1.5 with SHA-512.
    RsaSha512,
}

impl SignatureAlgorithm {
    pub(crate) fn from_identifier(identifier: &AlgorithmIdentifier<'_>) -> Self {
        let oid = identifier.algorithm.to_id_string();
        match oid.as_str() {
            "1.2.840.10045.4.1" => Self::EcdsaSha1,
            "1.2.840.10045.4.3.2" => Self::EcdsaSha256,
            "1.2.840.10045.4.3.3" => Self::EcdsaSha384,
            "1.2.840.10045.4.3.4" => Self::EcdsaSha512,
            ED25519 => Self::Ed25519,
            "1.2.840.113549.1.1.4" => Self::RsaMd5,
            "1.2.840.113549.1.1.5" | "1.3.14.3.2.29" => Self::RsaSha1,
            "1.2.840.113549.1.1.10" => pss(identifier).unwrap_or(Self::Other(oid)),
            "1.2.840.113549.1.1.11" => Self::RsaSha256,
            "1.2.840.113549.1.1.12" => Self::RsaSha384,
            "1.2.840.113549.1.1.13" => Self::RsaSha512,
            _ => Self::Other(oid),
        }
    }

    /// Whether the hash is broken (SHA-1, MD5): no verifier of today accepts it.
    pub fn is_broken(&self) -> bool {
        matches!(self, Self::EcdsaSha1 | Self::RsaMd5 | Self::RsaSha1)
    }

    /// The verification algorithm for a key of this kind; broken hashes have none.
    fn verification(
        &self,
        key: &SubjectPublicKeyInfo<'_>,
    ) -> Option<&'static dyn aws::VerificationAlgorithm> {
        let oid = key.algorithm.algorithm.to_id_string();
        let curve = key
            .algorithm
            .parameters
            .as_ref()
            .and_then(|parameters| parameters.as_oid().ok().map(|oid| oid.to_id_string()));
        Some(match (self, oid.as_str(), curve.as_deref()) {
            (Self::EcdsaSha256, EC_PUBLIC_KEY, Some(CURVE_P256)) => &aws::ECDSA_P256_SHA256_ASN1,
            (Self::EcdsaSha384, EC_PUBLIC_KEY, Some(CURVE_P256)) => &aws::ECDSA_P256_SHA384_ASN1,
            (Self::EcdsaSha512, EC_PUBLIC_KEY, Some(CURVE_P256)) => &aws::ECDSA_P256_SHA512_ASN1,
            (Self::EcdsaSha256, EC_PUBLIC_KEY, Some(CURVE_P384)) => &aws::ECDSA_P384_SHA256_ASN1,
            (Self::EcdsaSha384, EC_PUBLIC_KEY, Some(CURVE_P384)) => &aws::ECDSA_P384_SHA384_ASN1,
            (Self::EcdsaSha512, EC_PUBLIC_KEY, Some(CURVE_P384)) => &aws::ECDSA_P384_SHA512_ASN1,
            (Self::EcdsaSha256, EC_PUBLIC_KEY, Some(CURVE_P521)) => &aws::ECDSA_P521_SHA256_ASN1,
            (Self::EcdsaSha384, EC_PUBLIC_KEY, Some(CURVE_P521)) => &aws::ECDSA_P521_SHA384_ASN1,
            (Self::EcdsaSha512, EC_PUBLIC_KEY, Some(CURVE_P521)) => &aws::ECDSA_P521_SHA512_ASN1,
            (Self::Ed25519, ED25519, _) => &aws::ED25519,
            (Self::RsaPssSha256, RSA_ENCRYPTION, _) => &aws::RSA_PSS_2048_8192_SHA256,
            (Self::RsaPssSha384, RSA_ENCRYPTION, _) => &aws::RSA_PSS_2048_8192_SHA384,
            (Self::RsaPssSha512, RSA_ENCRYPTION, _) => &aws::RSA_PSS_2048_8192_SHA512,
            (Self::RsaSha256, RSA_ENCRYPTION, _) => &aws::RSA_PKCS1_2048_8192_SHA256,
            (Self::RsaSha384, RSA_ENCRYPTION, _) => &aws::RSA_PKCS1_2048_8192_SHA384,
            (Self::RsaSha512, RSA_ENCRYPTION, _) => &aws::RSA_PKCS1_2048_8192_SHA512,
            _ => return None,
        })
    }
}

impl fmt::Display for SignatureAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::EcdsaSha1 => "ECDSA with SHA-1",
            Self::EcdsaSha256 => "ECDSA with SHA-256",
            Self::EcdsaSha384 => "ECDSA with SHA-384",
            Self::EcdsaSha512 => "ECDSA with SHA-512",
            Self::Ed25519 => "Ed25519",
            Self::Other(oid) => oid,
            Self::RsaMd5 => "RSA with MD5",
            Self::RsaPssSha256 => "RSA-PSS with SHA-256",
            Self::RsaPssSha384 => "RSA-PSS with SHA-384",
            Self::RsaPssSha512 => "RSA-PSS with SHA-512",
            Self::RsaSha1 => "RSA with SHA-1",
            Self::RsaSha256 => "RSA with SHA-256",
            Self::RsaSha384 => "RSA with SHA-384",
            Self::RsaSha512 => "RSA with SHA-512",
        })
    }
}

/// Checks that `signature` over `message` was made by the key in `spki` (DER).
pub(crate) fn verify(
    spki: &[u8],
    algorithm: &SignatureAlgorithm,
    message: &[u8],
    signature: &[u8],
) -> Result<(), SignatureError> {
    let (_, key) =
        SubjectPublicKeyInfo::from_der(spki).map_err(|_| SignatureError::MalformedKey)?;
    let Some(verification) = algorithm.verification(&key) else {
        return Err(SignatureError::Unsupported { algorithm: algorithm.clone() });
    };
    aws::UnparsedPublicKey::new(verification, &key.subject_public_key.data)
        .verify(message, signature)
        .map_err(|_| SignatureError::Mismatch)
}

/// Whether `der` is, strictly, a SEQUENCE of content, algorithm and signature: the envelope of certificates and
/// requests (RFC 5280 section 4.1, RFC 2986 section 4). It is not under the signature and x509-parser takes some
/// wrong tags in it, so that one certificate could be passed on under several fingerprints.
pub(crate) fn is_envelope(der: &[u8]) -> bool {
    let signature_bits = yasna::parse_der(der, |reader| {
        reader.read_sequence(|envelope| {
            envelope.next().read_der()?;
            envelope.next().read_sequence(|algorithm| {
                algorithm.next().read_oid()?;
                algorithm.read_optional(|parameters| Ok(parameters.read_der()?.len()))
            })?;
            Ok(envelope.next().read_bitvec_bytes()?.1)
        })
    });
    signature_bits.is_ok_and(|bits| bits % 8 == 0)
}

/// RSA-PSS carries its hash in its parameters (RFC 4055 section 3.1).
fn pss(identifier: &AlgorithmIdentifier<'_>) -> Option<SignatureAlgorithm> {
    let Ok(Parsed::RSASSA_PSS(parameters)) = Parsed::try_from(identifier) else {
        return None;
    };
    match parameters.hash_algorithm_oid().to_id_string().as_str() {
        "2.16.840.1.101.3.4.2.1" => Some(SignatureAlgorithm::RsaPssSha256),
        "2.16.840.1.101.3.4.2.2" => Some(SignatureAlgorithm::RsaPssSha384),
        "2.16.840.1.101.3.4.2.3" => Some(SignatureAlgorithm::RsaPssSha512),
        _ => None,
    }
}

/// Why a signature does not hold.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// The signer's public key cannot be read.
    #[error("the signer's public key is malformed")]
    MalformedKey,
    /// Another key signed, or the content was changed afterwards.
    #[error("the signature does not match: another key signed it, or it was changed afterwards")]
    Mismatch,
    /// A broken or unknown algorithm, or one that does not go with the signer's key.
    #[error("the signature algorithm ({algorithm}) is not accepted for this key")]
    Unsupported {
        /// What was found.
        algorithm: SignatureAlgorithm,
    },
}
