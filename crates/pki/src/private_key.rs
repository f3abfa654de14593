//! Private keys: read in every common encoding, kept as PKCS#8, wiped when dropped, never printed.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    self as aws, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RsaKeyPair,
};
use pkcs8::{EncryptedPrivateKeyInfoRef, PrivateKeyInfoRef};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use crate::pem::{self, PemError};
use crate::public_key::{
    CURVE_P256, CURVE_P384, EC_PUBLIC_KEY, ED25519, PublicKey, RSA_ENCRYPTION, algorithm_name,
    curve_name,
};
use crate::{KeyAlgorithm, PublicKeyError};

/// A private key. Cloning shares the one copy in memory, which is wiped when the last clone goes.
/// There is no `Display`, and `Debug` shows `<redacted>`.
#[derive(Clone)]
pub struct PrivateKey(Arc<Inner>);

struct Inner {
    pair: Pair,
    pkcs8: Zeroizing<Vec<u8>>,
    public: PublicKey,
}

/// aws-lc wipes these itself when they are freed.
enum Pair {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

impl PrivateKey {
    /// The largest encoded key read, in octets.
    pub const MAX_DER: usize = 16 * 1024;

    /// Makes a new key with the system's random number generator.
    pub fn generate(algorithm: KeyAlgorithm) -> Result<Self, KeyError> {
        let failed = |_| KeyError::Generation { algorithm };
        let pair = match algorithm {
            KeyAlgorithm::EcdsaP256 => Pair::Ecdsa(EcdsaKeyPair::generate(P256).map_err(failed)?),
            KeyAlgorithm::EcdsaP384 => Pair::Ecdsa(EcdsaKeyPair::generate(P384).map_err(failed)?),
            KeyAlgorithm::Ed25519 => Pair::Ed25519(Ed25519KeyPair::generate().map_err(failed)?),
            KeyAlgorithm::Rsa2048 => rsa(KeySize::Rsa2048).map_err(failed)?,
            KeyAlgorithm::Rsa3072 => rsa(KeySize::Rsa3072).map_err(failed)?,
            KeyAlgorithm::Rsa4096 => rsa(KeySize::Rsa4096).map_err(failed)?,
            KeyAlgorithm::RsaOther(_) => return Err(KeyError::Generation { algorithm }),
        };
        Self::from_pair(pair)
    }

    /// Reads a key from PEM or DER, whichever `bytes` are.
    pub fn read(bytes: &[u8], passphrase: Option<&Passphrase>) -> Result<Self, KeyError> {
        if pem::is_der(bytes) {
            Self::from_der(bytes, passphrase)
        } else {
            Self::from_pem(bytes, passphrase)
        }
    }

    /// Reads the one private key of a PEM text: `PRIVATE KEY` (PKCS#8), `RSA PRIVATE KEY` (PKCS#1),
    /// `EC PRIVATE KEY` (SEC 1), or `ENCRYPTED PRIVATE KEY` (PKCS#8, opened with `passphrase`).
    /// Other sections, certificates among them, are passed over.
    pub fn from_pem(text: &[u8], passphrase: Option<&Passphrase>) -> Result<Self, KeyError> {
        let sections = pem::sections(text)?;
        let mut keys = sections.iter().filter(|section| section.label.ends_with("PRIVATE KEY"));
        let Some(section) = keys.next() else {
            return Err(PemError::none_of("private key", &sections).into());
        };
        if let Some(second) = keys.next() {
            return Err(KeyError::SeveralKeys { first: section.line, second: second.line });
        }
        if section.legacy_encrypted {
            return Err(KeyError::LegacyEncryption);
        }
        match section.label.as_str() {
            "EC PRIVATE KEY" => Self::from_sec1(&section.der),
            "ENCRYPTED PRIVATE KEY" => Self::from_encrypted(&section.der, passphrase),
            "PRIVATE KEY" => Self::from_pkcs8(&section.der),
            "RSA PRIVATE KEY" => Self::from_pkcs1(&section.der),
            label => Err(KeyError::Unsupported { algorithm: label.replace(" PRIVATE KEY", "") }),
        }
    }

    /// Reads a DER key: PKCS#8, PKCS#1, SEC 1, or encrypted PKCS#8 opened with `passphrase`.
    pub fn from_der(der: &[u8], passphrase: Option<&Passphrase>) -> Result<Self, KeyError> {
        if der.len() > Self::MAX_DER {
            return Err(KeyError::TooLarge { octets: der.len() });
        }
        if EncryptedPrivateKeyInfoRef::try_from(der).is_ok() {
            return Self::from_encrypted(der, passphrase);
        }
        match PrivateKeyDer::try_from(der) {
            Ok(PrivateKeyDer::Pkcs1(key)) => Self::from_pkcs1(key.secret_pkcs1_der()),
            Ok(PrivateKeyDer::Pkcs8(key)) => Self::from_pkcs8(key.secret_pkcs8_der()),
            Ok(PrivateKeyDer::Sec1(key)) => Self::from_sec1(key.secret_sec1_der()),
            _ => Err(KeyError::Malformed),
        }
    }

    fn from_encrypted(der: &[u8], passphrase: Option<&Passphrase>) -> Result<Self, KeyError> {
        let info =
            EncryptedPrivateKeyInfoRef::try_from(der).map_err(|_| KeyError::UnknownEncryption)?;
        let passphrase = passphrase.ok_or(KeyError::PassphraseNeeded)?;
        bounded_cost(&info)?;
        let document = info.decrypt(&*passphrase.0).map_err(|_| KeyError::WrongPassphrase)?;
        // With a wrong passphrase the padding is right by chance once in some hundred times.
        Self::from_pkcs8(document.as_bytes()).map_err(|error| match error {
            KeyError::Malformed => KeyError::WrongPassphrase,
            other => other,
        })
    }

    fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let info = PrivateKeyInfoRef::try_from(der).map_err(|_| KeyError::Malformed)?;
        let malformed = |_| KeyError::Malformed;
        let pair = match info.algorithm.oid.to_string().as_str() {
            EC_PUBLIC_KEY => {
                let curve = info.algorithm.parameters_oid().ok().map(|oid| oid.to_string());
                let algorithm = match curve.as_deref() {
                    Some(CURVE_P256) => P256,
                    Some(CURVE_P384) => P384,
                    other => return Err(KeyError::Unsupported { algorithm: curve_name(other) }),
                };
                Pair::Ecdsa(EcdsaKeyPair::from_pkcs8(algorithm, der).map_err(malformed)?)
            }
            ED25519 => {
                Pair::Ed25519(Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(malformed)?)
            }
            RSA_ENCRYPTION => return Self::from_pkcs1(info.private_key.as_bytes()),
            other => return Err(KeyError::Unsupported { algorithm: algorithm_name(other) }),
        };
        Self::from_pair(pair)
    }

    fn from_pkcs1(der: &[u8]) -> Result<Self, KeyError> {
        // aws-lc refuses other sizes as "invalid"; we can say which size it is.
        if let Some(bits) = pkcs1_bits(der)
            && KeyAlgorithm::rsa(bits).is_none()
        {
            return Err(PublicKeyError::RsaSize { bits }.into());
        }
        Self::from_pair(Pair::Rsa(RsaKeyPair::from_der(der).map_err(|_| KeyError::Malformed)?))
    }

    fn from_sec1(der: &[u8]) -> Result<Self, KeyError> {
        for algorithm in [P256, P384] {
            if let Ok(pair) = EcdsaKeyPair::from_private_key_der(algorithm, der) {
                return Self::from_pair(Pair::Ecdsa(pair));
            }
        }
        Err(KeyError::UnsupportedOrMalformedEc)
    }

    fn from_pair(pair: Pair) -> Result<Self, KeyError> {
        let malformed = |_| KeyError::Malformed;
        let (pkcs8, algorithm, raw) = match &pair {
            Pair::Ecdsa(key) => {
                let document = key.to_pkcs8v1().map_err(malformed)?;
                let algorithm = if std::ptr::eq(key.algorithm(), P384) {
                    KeyAlgorithm::EcdsaP384
                } else {
                    KeyAlgorithm::EcdsaP256
                };
                (copy(document.as_ref()), algorithm, key.public_key().as_ref())
            }
            Pair::Ed25519(key) => {
                let document = key.to_pkcs8v1().map_err(malformed)?;
                (copy(document.as_ref()), KeyAlgorithm::Ed25519, key.public_key().as_ref())
            }
            Pair::Rsa(key) => {
                let document = key.as_der().map_err(malformed)?;
                let bits = key.public_modulus_len() * 8;
                let algorithm = KeyAlgorithm::rsa(bits).ok_or(PublicKeyError::RsaSize { bits })?;
                (copy(document.as_ref()), algorithm, key.public_key().as_ref())
            }
        };
        let public = PublicKey::from_raw(algorithm, raw);
        Ok(Self(Arc::new(Inner { pair, pkcs8, public })))
    }

    /// The algorithm.
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.0.public.algorithm()
    }

    /// The public half.
    pub fn public_key(&self) -> &PublicKey {
        &self.0.public
    }

    /// The public half as a DER SubjectPublicKeyInfo.
    pub fn spki_der(&self) -> &[u8] {
        self.0.public.spki_der()
    }

    /// SHA-256 of the DER SubjectPublicKeyInfo.
    pub fn key_id(&self) -> [u8; 32] {
        self.0.public.key_id()
    }

    /// The key as PKCS#8 PEM, in a string that is wiped when dropped.
    pub fn to_pkcs8_pem(&self) -> Zeroizing<String> {
        pem::encode("PRIVATE KEY", &self.0.pkcs8)
    }

    /// The key as PKCS#8 DER.
    pub fn to_pkcs8_der(&self) -> Zeroizing<Vec<u8>> {
        copy(&self.0.pkcs8)
    }

    pub(crate) fn pkcs8_der(&self) -> &[u8] {
        &self.0.pkcs8
    }

    /// The key as rustls wants it. The copy is the caller's to wipe; rustls does.
    pub fn to_pki_types(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.0.pkcs8.to_vec()))
    }

    /// Signs `message` with the algorithm named by [`crate::public_key::rcgen_algorithm`].
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let random = SystemRandom::new();
        let failed = |_| KeyError::Signing;
        Ok(match &self.0.pair {
            Pair::Ecdsa(key) => key.sign(&random, message).map_err(failed)?.as_ref().to_vec(),
            Pair::Ed25519(key) => key.try_sign(message).map_err(failed)?.as_ref().to_vec(),
            Pair::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&aws::RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .map_err(failed)?;
                signature
            }
        })
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

/// What opens an encrypted private key. Wiped when dropped, never printed.
#[derive(Clone)]
pub struct Passphrase(Zeroizing<Vec<u8>>);

impl Passphrase {
    /// Takes the passphrase as it is; a trailing line break, as files have, is the caller's to cut.
    pub fn new(passphrase: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(passphrase.into()))
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The octets, for key derivation.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq for Passphrase {
    fn eq(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Eq for Passphrase {}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

const P256: &EcdsaSigningAlgorithm = &aws::ECDSA_P256_SHA256_ASN1_SIGNING;
const P384: &EcdsaSigningAlgorithm = &aws::ECDSA_P384_SHA384_ASN1_SIGNING;

/// OpenSSL writes 2,048 to 1,000,000 rounds; more only serves to stall the reader.
const MAX_PBKDF2_ROUNDS: u32 = 10_000_000;

/// scrypt needs 128 * N * r octets; the largest setting in common use takes 128 MiB.
const MAX_SCRYPT_MEMORY: u64 = 256 * 1024 * 1024;

/// Refuses key derivation that would take minutes or gigabytes.
fn bounded_cost(info: &EncryptedPrivateKeyInfoRef<'_>) -> Result<(), KeyError> {
    let Some(parameters) = info.encryption_algorithm.pbes2() else {
        return Err(KeyError::UnknownEncryption);
    };
    let rounds = parameters.kdf.pbkdf2().map_or(0, |kdf| kdf.iteration_count);
    let scrypt = parameters.kdf.scrypt().map_or(0, |kdf| {
        let work = u64::from(kdf.block_size).saturating_mul(u64::from(kdf.parallelization).max(1));
        kdf.cost_parameter.saturating_mul(work).saturating_mul(128)
    });
    if rounds > MAX_PBKDF2_ROUNDS || scrypt > MAX_SCRYPT_MEMORY {
        return Err(KeyError::EncryptionCost);
    }
    Ok(())
}

fn rsa(size: KeySize) -> Result<Pair, aws_lc_rs::error::Unspecified> {
    RsaKeyPair::generate(size).map(Pair::Rsa)
}

fn copy(secret: &[u8]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(secret.to_vec())
}

/// The modulus bits of a PKCS#1 key, to name its size in an error.
fn pkcs1_bits(der: &[u8]) -> Option<usize> {
    use pkcs8::der::{Decode, Reader, SliceReader, asn1::UintRef};
    let mut reader = SliceReader::new(der).ok()?;
    reader
        .sequence(|inner| -> Result<usize, pkcs8::der::Error> {
            let _version = u8::decode(inner)?;
            let bits = crate::public_key::modulus_bits(UintRef::decode(inner)?.as_bytes());
            // The rest is not of interest here.
            inner.read_slice(inner.remaining_len())?;
            Ok(bits)
        })
        .ok()
}

/// Why a private key cannot be read or made.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The library could not encrypt.
    #[error("the private key could not be encrypted: the cryptographic library refused")]
    Encryption,
    /// Key derivation is set so high that opening the key would stall the node.
    #[error(
        "the encrypted private key asks for more key-derivation work than is accepted: re-encrypt it with `openssl pkcs8 -topk8 -v2 aes-256-cbc -iter 600000`"
    )]
    EncryptionCost,
    /// The library could not make a key.
    #[error("no {algorithm} key could be made")]
    Generation {
        /// What was asked for.
        algorithm: KeyAlgorithm,
    },
    /// A PEM encrypted the way OpenSSL did before PKCS#8.
    #[error(
        "the private key is encrypted in OpenSSL's old PEM style (Proc-Type: 4,ENCRYPTED): convert it with `openssl pkcs8 -topk8 -in OLD -out NEW`"
    )]
    LegacyEncryption,
    /// Not a key, or damaged.
    #[error(
        "the private key is malformed: it is neither PKCS#8, PKCS#1 nor SEC 1, or it was damaged in copying"
    )]
    Malformed,
    /// Encrypted, and no passphrase was given.
    #[error("the private key is encrypted: give its passphrase")]
    PassphraseNeeded,
    /// The PEM text is faulty.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// The key's public half cannot be used.
    #[error(transparent)]
    PublicKey(#[from] PublicKeyError),
    /// More than one key in one file.
    #[error("two private keys in one file (lines {first} and {second}): leave only the right one")]
    SeveralKeys {
        /// The line of the first.
        first: usize,
        /// The line of the second.
        second: usize,
    },
    /// The library could not sign.
    #[error("signing failed inside the cryptographic library")]
    Signing,
    /// Over [`PrivateKey::MAX_DER`].
    #[error("{octets} octets are too many for a private key: 16 KiB at most")]
    TooLarge {
        /// Size of the input.
        octets: usize,
    },
    /// PKCS#8 encryption other than PBES2 with AES.
    #[error(
        "the private key is encrypted with a scheme that is not supported: re-encrypt it with `openssl pkcs8 -topk8 -v2 aes-256-cbc`"
    )]
    UnknownEncryption,
    /// An algorithm we do not use.
    #[error(
        "{algorithm} keys are not supported: use ECDSA P-256 or P-384, Ed25519, or RSA of 2048 to 4096 bits"
    )]
    Unsupported {
        /// What the key is.
        algorithm: String,
    },
    /// A SEC 1 key that is on another curve or damaged.
    #[error(
        "the EC private key is damaged or on a curve that is not supported: use P-256 or P-384 (`openssl ecparam -name prime256v1 -genkey`)"
    )]
    UnsupportedOrMalformedEc,
    /// The passphrase does not open the key.
    #[error("the passphrase does not open the private key")]
    WrongPassphrase,
}
