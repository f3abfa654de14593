//! The ciphers of PKCS#12 files, by their algorithm identifiers: PBES2 (RFC 8018) with AES or 3DES, and
//! the password-based ciphers of RFC 7292 appendix C.

use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, DecryptionContext, EncryptionContext, PaddedBlockDecryptingKey,
    PaddedBlockEncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY;
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::pbkdf2;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt as _, BlockModeEncrypt as _, KeyIvInit as _};
use des::TdesEde3;
use rc2::Rc2;
use zeroize::Zeroizing;

use super::kdf::{self, Budget, Use};
use super::tlv::{Elements, INTEGER, OCTET_STRING, SEQUENCE, number};
use super::{Encryption, Pkcs12Error};
use crate::{Entropy, Passphrase};

/// Decrypts what the algorithm identifier (its elements) says how to.
pub(super) fn decrypt(
    algorithm: &mut Elements<'_>,
    data: &[u8],
    passphrase: &Passphrase,
    budget: &mut Budget,
) -> Result<(Zeroizing<Vec<u8>>, Encryption), Pkcs12Error> {
    let oid = algorithm.oid()?;
    if oid == PBES2 {
        let clear = pbes2(&mut algorithm.sequence()?, data, passphrase, budget)?;
        return Ok((clear, Encryption::Modern));
    }
    let (cipher, key_len) = match oid.as_str() {
        PBE_3DES => (Old::TripleDes, 24),
        "1.2.840.113549.1.12.1.4" => (Old::TripleDes, 16),
        PBE_RC2_128 => (Old::Rc2, 16),
        PBE_RC2_40 => (Old::Rc2, 5),
        "1.2.840.113549.1.12.1.1" | "1.2.840.113549.1.12.1.2" => return Err(unsupported("RC4")),
        other => return Err(unsupported(&format!("the cipher {other}"))),
    };
    let mut parameters = algorithm.sequence()?;
    let salt = parameters.expect(OCTET_STRING)?;
    let rounds = budget.spend(parameters.number()?)?;
    budget.spend(rounds.get())?;
    let wide = kdf::wide(passphrase)?;
    let hash = &SHA1_FOR_LEGACY_USE_ONLY;
    let mut key = kdf::derive(hash, Use::Key, &wide, salt, rounds, key_len);
    let iv = kdf::derive(hash, Use::Iv, &wide, salt, rounds, 8);
    if key_len == 16 && cipher == Old::TripleDes {
        // Two keys stand for three, the first once more.
        let first: Vec<u8> = key.iter().copied().take(8).collect();
        key.extend_from_slice(&first);
    }
    Ok((cipher.decrypt(&key, &iv, data)?, Encryption::Legacy))
}

/// The ciphers that are only read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Old {
    Rc2,
    TripleDes,
}

impl Old {
    fn decrypt(
        self,
        key: &[u8],
        iv: &[u8],
        data: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Pkcs12Error> {
        let mut buffer = Zeroizing::new(data.to_vec());
        let length = match self {
            Self::Rc2 => cbc::Decryptor::<Rc2>::new_from_slices(key, iv)
                .map_err(|_| Pkcs12Error::Malformed)?
                .decrypt_padded::<Pkcs7>(&mut buffer)
                .map(<[u8]>::len),
            Self::TripleDes => cbc::Decryptor::<TdesEde3>::new_from_slices(key, iv)
                .map_err(|_| Pkcs12Error::Malformed)?
                .decrypt_padded::<Pkcs7>(&mut buffer)
                .map(<[u8]>::len),
        };
        buffer.truncate(length.map_err(|_| Pkcs12Error::WrongPassphrase)?);
        Ok(buffer)
    }
}

/// RFC 8018 appendix A.4: a key derivation and a cipher.
fn pbes2(
    parameters: &mut Elements<'_>,
    data: &[u8],
    passphrase: &Passphrase,
    budget: &mut Budget,
) -> Result<Zeroizing<Vec<u8>>, Pkcs12Error> {
    let mut derivation = parameters.sequence()?;
    let mut cipher = parameters.sequence()?;
    let oid = derivation.oid()?;
    if oid != PBKDF2 {
        return Err(unsupported(&format!("the key derivation {oid}")));
    }
    let mut derivation = derivation.sequence()?;
    let salt = derivation.expect(OCTET_STRING)?;
    let rounds = budget.spend(derivation.number()?)?;
    let mut hmac = pbkdf2::PBKDF2_HMAC_SHA1;
    while let Some(element) = derivation.next()? {
        match element.tag {
            // The length of the key, which the cipher tells anyhow.
            INTEGER => drop(number(element.content)?),
            SEQUENCE => hmac = prf(&Elements::of(element.content).oid()?)?,
            _ => return Err(Pkcs12Error::Malformed),
        }
    }
    let oid = cipher.oid()?;
    let iv = cipher.expect(OCTET_STRING)?;
    let (algorithm, length) = match oid.as_str() {
        "2.16.840.1.101.3.4.1.2" => (&AES_128, 16),
        "2.16.840.1.101.3.4.1.22" => (&AES_192, 24),
        AES_256_CBC => (&AES_256, 32),
        "1.2.840.113549.3.7" => {
            let key = kdf::pbkdf2(hmac, passphrase, salt, rounds, 24);
            return Old::TripleDes.decrypt(&key, iv, data);
        }
        other => return Err(unsupported(&format!("the cipher {other}"))),
    };
    let key = kdf::pbkdf2(hmac, passphrase, salt, rounds, length);
    let iv = <[u8; 16]>::try_from(iv).map_err(|_| Pkcs12Error::Malformed)?;
    let key = UnboundCipherKey::new(algorithm, &key)
        .and_then(PaddedBlockDecryptingKey::cbc_pkcs7)
        .map_err(|_| Pkcs12Error::Malformed)?;
    let mut buffer = Zeroizing::new(data.to_vec());
    let length = key
        .decrypt(&mut buffer, DecryptionContext::Iv128(FixedLength::from(iv)))
        .map_err(|_| Pkcs12Error::WrongPassphrase)?
        .len();
    buffer.truncate(length);
    Ok(buffer)
}

fn prf(oid: &str) -> Result<pbkdf2::Algorithm, Pkcs12Error> {
    match oid {
        "1.2.840.113549.2.7" => Ok(pbkdf2::PBKDF2_HMAC_SHA1),
        HMAC_SHA256 => Ok(pbkdf2::PBKDF2_HMAC_SHA256),
        "1.2.840.113549.2.10" => Ok(pbkdf2::PBKDF2_HMAC_SHA384),
        "1.2.840.113549.2.11" => Ok(pbkdf2::PBKDF2_HMAC_SHA512),
        other => Err(unsupported(&format!("the pseudorandom function {other}"))),
    }
}

/// What is encrypted, and the DER algorithm identifier that says how.
pub(super) struct Encrypted {
    pub(super) algorithm: Vec<u8>,
    pub(super) data: Vec<u8>,
}

/// Encrypts as we write it.
pub(super) fn encrypt(
    clear: &[u8],
    passphrase: &Passphrase,
    encryption: Encryption,
    entropy: &mut dyn Entropy,
) -> Result<Encrypted, Pkcs12Error> {
    let mut salt = [0; 16];
    entropy.fill(&mut salt);
    match encryption {
        Encryption::Legacy => legacy(clear, passphrase, &salt),
        Encryption::Modern => modern(clear, passphrase, &salt, entropy),
    }
}

fn modern(
    clear: &[u8],
    passphrase: &Passphrase,
    salt: &[u8],
    entropy: &mut dyn Entropy,
) -> Result<Encrypted, Pkcs12Error> {
    let failed = |_| unsupported("AES in this build");
    let mut iv = [0; 16];
    entropy.fill(&mut iv);
    let rounds = Budget::new().spend(MODERN_ROUNDS)?;
    let key = kdf::pbkdf2(pbkdf2::PBKDF2_HMAC_SHA256, passphrase, salt, rounds, 32);
    let key = UnboundCipherKey::new(&AES_256, &key)
        .and_then(PaddedBlockEncryptingKey::cbc_pkcs7)
        .map_err(failed)?;
    let mut data = clear.to_vec();
    key.less_safe_encrypt(&mut data, EncryptionContext::Iv128(FixedLength::from(iv)))
        .map_err(failed)?;
    let algorithm = yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_oid(&oid(PBES2));
            writer.next().write_sequence(|writer| {
                writer.next().write_sequence(|writer| {
                    writer.next().write_oid(&oid(PBKDF2));
                    writer.next().write_sequence(|writer| {
                        writer.next().write_bytes(salt);
                        writer.next().write_u32(MODERN_ROUNDS);
                        writer.next().write_sequence(|writer| {
                            writer.next().write_oid(&oid(HMAC_SHA256));
                            writer.next().write_null();
                        });
                    });
                });
                writer.next().write_sequence(|writer| {
                    writer.next().write_oid(&oid(AES_256_CBC));
                    writer.next().write_bytes(&iv);
                });
            });
        });
    });
    Ok(Encrypted { algorithm, data })
}

fn legacy(clear: &[u8], passphrase: &Passphrase, salt: &[u8]) -> Result<Encrypted, Pkcs12Error> {
    let wide = kdf::wide(passphrase)?;
    let rounds = Budget::new().spend(LEGACY_ROUNDS)?;
    let hash = &SHA1_FOR_LEGACY_USE_ONLY;
    let key = kdf::derive(hash, Use::Key, &wide, salt, rounds, 24);
    let iv = kdf::derive(hash, Use::Iv, &wide, salt, rounds, 8);
    // Room for the padding.
    let mut data = clear.to_vec();
    data.resize(clear.len() + 8, 0);
    let length = cbc::Encryptor::<TdesEde3>::new_from_slices(&key, &iv)
        .map_err(|_| Pkcs12Error::Malformed)?
        .encrypt_padded::<Pkcs7>(&mut data, clear.len())
        .map_err(|_| Pkcs12Error::Malformed)?
        .len();
    data.truncate(length);
    let algorithm = yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_oid(&oid(PBE_3DES));
            writer.next().write_sequence(|writer| {
                writer.next().write_bytes(salt);
                writer.next().write_u32(LEGACY_ROUNDS);
            });
        });
    });
    Ok(Encrypted { algorithm, data })
}

/// An object identifier of ours; they are all well-formed.
pub(super) fn oid(text: &str) -> yasna::models::ObjectIdentifier {
    let arcs: Vec<u64> = text.split('.').filter_map(|arc| arc.parse().ok()).collect();
    yasna::models::ObjectIdentifier::from_slice(&arcs)
}

pub(super) fn unsupported(what: &str) -> Pkcs12Error {
    Pkcs12Error::Unsupported { what: what.to_owned() }
}

const PBES2: &str = "1.2.840.113549.1.5.13";
const PBKDF2: &str = "1.2.840.113549.1.5.12";
const HMAC_SHA256: &str = "1.2.840.113549.2.9";
const AES_256_CBC: &str = "2.16.840.1.101.3.4.1.42";
const PBE_3DES: &str = "1.2.840.113549.1.12.1.3";
const PBE_RC2_128: &str = "1.2.840.113549.1.12.1.5";
const PBE_RC2_40: &str = "1.2.840.113549.1.12.1.6";

/// A tenth of a second on the machine that opens the file; Java takes up to five million.
pub(super) const MODERN_ROUNDS: u32 = 200_000;

/// What old Java writes itself is 1,024 to 50,000.
pub(super) const LEGACY_ROUNDS: u32 = 10_000;
