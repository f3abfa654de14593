//! PKCS#12 (RFC 7292): the one file with key, certificate and CAs that Java and Windows work with.
//!
//! Read: everything OpenSSL, Java, NSS and Windows have written in the last twenty years, also with
//! the broken ciphers of back then. Written: PBES2 with AES-256 and a MAC of SHA-256, or for old Java
//! 3DES and SHA-1 where that is asked for. All work that a file asks for is bounded.

mod cipher;
mod kdf;
mod read;
mod tlv;
mod write;

use zeroize::Zeroizing;

use crate::{Certificate, Credential, Entropy, Passphrase, PrivateKey, TrustAnchors};

/// What a PKCS#12 file holds, in the order of the file.
#[derive(Clone, Debug, Default)]
pub struct Pkcs12 {
    /// The certificates: those that belong to a key, and what was put in beside them.
    pub certificates: Vec<Certificate>,
    /// The private keys.
    pub keys: Vec<PrivateKey>,
    /// How the file is encrypted, for people; only the weakest is named.
    pub encryption: Option<Encryption>,
}

/// How a PKCS#12 file is, or is to be, protected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Encryption {
    /// 3DES, RC2 or RC4 with a key from SHA-1: what Java before 8u301 and OpenSSL 1 wrote. To be read
    /// by software that knows nothing else; whoever has the file can try passphrases fast.
    Legacy,
    /// PBES2: AES-256 with a key from PBKDF2 and HMAC-SHA-256, and a MAC of SHA-256.
    Modern,
}

impl Pkcs12 {
    /// The largest file read, in octets.
    pub const MAX_LEN: usize = 1024 * 1024;

    /// Whether the octets begin as a PKCS#12 file does: a sequence of the number 3 and a sequence.
    pub fn is_one(bytes: &[u8]) -> bool {
        read::is_one(bytes)
    }

    /// Opens a file.
    pub fn read(bytes: &[u8], passphrase: &Passphrase) -> Result<Self, Pkcs12Error> {
        read::read(bytes, passphrase)
    }

    /// Writes key, chain and anchors of a credential; `name` is what Java calls the alias.
    pub fn write(
        credential: &Credential,
        name: &str,
        passphrase: &Passphrase,
        encryption: Encryption,
        entropy: &mut dyn Entropy,
    ) -> Result<Zeroizing<Vec<u8>>, Pkcs12Error> {
        write::credential(credential, name, passphrase, encryption, entropy)
    }

    /// Writes anchors only: what Java calls a trust store, with the mark it wants on each.
    pub fn write_trust(
        anchors: &TrustAnchors,
        name: &str,
        passphrase: &Passphrase,
        encryption: Encryption,
        entropy: &mut dyn Entropy,
    ) -> Result<Zeroizing<Vec<u8>>, Pkcs12Error> {
        write::trust(anchors, name, passphrase, encryption, entropy)
    }
}

/// Why a PKCS#12 file cannot be read or written.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Pkcs12Error {
    /// Key derivation is set so high that opening the file would take minutes.
    #[error(
        "the PKCS#12 file asks for more key-derivation work than is accepted: make it again with fewer iterations (`openssl pkcs12 -export -iter 100000`)"
    )]
    Cost,
    /// Not PKCS#12, or damaged.
    #[error(
        "the PKCS#12 file is malformed: it was damaged in copying, take it again from its source"
    )]
    Malformed,
    /// The passphrase is not text.
    #[error("the passphrase of a PKCS#12 file must be UTF-8 text")]
    PassphraseText,
    /// Over [`Pkcs12::MAX_LEN`].
    #[error("{octets} octets are too many for a PKCS#12 file: 1 MiB at most")]
    TooLarge {
        /// Size of the input.
        octets: usize,
    },
    /// A cipher, MAC or content that is not known.
    #[error(
        "the PKCS#12 file uses {what}, which is not supported: make it again with `openssl pkcs12 -export` of OpenSSL 3"
    )]
    Unsupported {
        /// What it is.
        what: String,
    },
    /// The passphrase does not open the file, or the file was changed.
    #[error(
        "the passphrase does not open the PKCS#12 file (or the file was changed since it was made)"
    )]
    WrongPassphrase,
}

#[cfg(test)]
mod tests;
