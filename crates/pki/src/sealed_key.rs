//! Private keys at rest: PKCS#8 encrypted under a passphrase (RFC 5958 section 3, RFC 8018 section 6.2).
//!
//! PBES2 with PBKDF2-HMAC-SHA-256 and AES-256-CBC, which every OpenSSL since 1.1 opens
//! (`openssl pkey -in tls.key`). The key file of such a PEM tells by itself that it is encrypted, so
//! readers need no setting for it.

use aws_lc_rs::rand;
use pkcs8::pkcs5::pbes2::Parameters;
use pkcs8::{EncryptedPrivateKeyInfoRef, PrivateKeyInfoRef};
use zeroize::Zeroizing;

use crate::pem;
use crate::{KeyError, Passphrase, PrivateKey};

impl PrivateKey {
    /// How often PBKDF2 hashes when we encrypt: what OWASP asks for since 2023. A tenth of a second
    /// for us, per guess for whoever stole the file.
    pub const PBKDF2_ROUNDS: u32 = 600_000;

    /// The key as encrypted PKCS#8 PEM (`ENCRYPTED PRIVATE KEY`), to be opened with `passphrase`.
    ///
    /// Salt and initialisation vector come from the system's generator, so that two encryptions of
    /// one key never look alike.
    pub fn to_encrypted_pem(&self, passphrase: &Passphrase) -> Result<Zeroizing<String>, KeyError> {
        let (mut salt, mut iv) = ([0; 16], [0; 16]);
        let failed = || KeyError::Encryption;
        rand::fill(&mut salt).map_err(|_| failed())?;
        rand::fill(&mut iv).map_err(|_| failed())?;
        let parameters =
            Parameters::generate_pbkdf2_sha256_aes256cbc(Self::PBKDF2_ROUNDS, &salt, iv)
                .map_err(|_| failed())?;
        let info = PrivateKeyInfoRef::try_from(self.pkcs8_der()).map_err(|_| failed())?;
        let sealed =
            info.encrypt_with_params(parameters, passphrase.bytes()).map_err(|_| failed())?;
        Ok(pem::encode("ENCRYPTED PRIVATE KEY", sealed.as_bytes()))
    }

    /// Whether these bytes, PEM or DER, hold a key that only a passphrase opens.
    ///
    /// Says nothing about whether they can be read otherwise.
    pub fn is_encrypted(bytes: &[u8]) -> bool {
        if pem::is_der(bytes) {
            return EncryptedPrivateKeyInfoRef::try_from(bytes).is_ok();
        }
        pem::sections(bytes).is_ok_and(|sections| {
            sections
                .iter()
                .any(|section| section.label == "ENCRYPTED PRIVATE KEY" || section.legacy_encrypted)
        })
    }
}
