//! Where private keys come from when they are needed: files that lie open, files that are encrypted,
//! tokens. The one place of this crate that reads a `tls.key`, and the one that says how a new one is
//! written.
//!
//! Opening an encrypted key costs a tenth of a second on purpose, and every decision looks at every
//! issuer. What was opened is therefore kept, known by the digest of the file, until the file or the
//! secrets change.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest;
use handfast_pki::{KeyError, Passphrase, PrivateKey, PublicKey, Signer};
use handfast_store::{Kind, Stored};
use zeroize::Zeroizing;

/// What encrypts the keys at rest, as the node was given it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum KeySecrets {
    /// The first encrypts; each of them opens. More than one while a secret is being changed.
    Given(Vec<Passphrase>),
    /// None was given: keys lie open, unless they were encrypted before.
    #[default]
    None,
    /// One is meant to be there, and cannot be had: why, and what to do. Nothing is written open then.
    Unavailable(String),
}

impl KeySecrets {
    /// What keys are encrypted with from now on.
    pub fn current(&self) -> Option<&Passphrase> {
        self.all().first()
    }

    fn all(&self) -> &[Passphrase] {
        match self {
            Self::Given(secrets) => secrets,
            Self::None | Self::Unavailable(_) => &[],
        }
    }
}

/// Finds keys that live in tokens. Implemented outside: this crate opens no device.
pub trait Tokens: Send + Sync + 'static {
    /// The key that `uri` names (RFC 7512), proven to be the one of `expected` by a signature, or one
    /// sentence on why there is none and what to do. Asked at every reconciliation: must answer in
    /// bounded time, and must not try a PIN again that was refused.
    ///
    /// `directory` is where the URI was found; relative paths in it begin there.
    fn signer(
        &self,
        uri: &str,
        directory: &Path,
        expected: &PublicKey,
    ) -> Result<Arc<dyn Signer>, String>;
}

/// Where a private key is, and how it lies there.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum KeyPlace {
    /// Not here: an issuer that is trusted and signs elsewhere, such as an offline root.
    Absent,
    /// In a file, encrypted.
    Encrypted,
    /// In the memory of the process that made it, and nowhere else.
    Memory,
    /// In a file that whoever can read it can use.
    Plain,
    /// In a token.
    Token,
}

impl KeyPlace {
    /// Where the key of what is stored is.
    pub fn of(stored: &Stored) -> Self {
        match &stored.pem {
            pem if pem.pkcs11_uri.is_some() => Self::Token,
            pem => match &pem.tls_key {
                None => Self::Absent,
                Some(key) if PrivateKey::is_encrypted(key) => Self::Encrypted,
                Some(_) => Self::Plain,
            },
        }
    }

    /// The stable text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Encrypted => "encrypted",
            Self::Memory => "memory",
            Self::Plain => "plain",
            Self::Token => "token",
        }
    }
}

/// Which keys of ours are encrypted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Sealed {
    pub(crate) certificates: bool,
    pub(crate) issuers: bool,
}

/// The secrets, the tokens, and what was opened with them.
#[derive(Default)]
pub(crate) struct Keyring {
    tokens: Option<Box<dyn Tokens>>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    secrets: KeySecrets,
    /// By the digest of the file: the key, or why it cannot be opened with these secrets.
    opened: BTreeMap<[u8; 32], Result<PrivateKey, KeyError>>,
    /// What was asked for since the last sweep.
    used: BTreeSet<[u8; 32]>,
    /// What lay encrypted at the last look.
    sealed: Sealed,
    /// Somebody switched encryption off; until the node is started anew, new keys lie open.
    off: bool,
}

impl Keyring {
    pub(crate) fn with_tokens(&mut self, tokens: impl Tokens) {
        self.tokens = Some(Box::new(tokens));
    }

    /// Takes over the secrets as they are now. What was opened with others is forgotten.
    pub(crate) fn set_secrets(&self, secrets: KeySecrets) {
        let mut inner = self.inner();
        if inner.secrets != secrets {
            inner.secrets = secrets;
            inner.opened.clear();
        }
    }

    pub(crate) fn secrets(&self) -> KeySecrets {
        self.inner().secrets.clone()
    }

    pub(crate) fn note_sealed(&self, sealed: Sealed) {
        self.inner().sealed = sealed;
    }

    pub(crate) fn switch(&self, off: bool) {
        self.inner().off = off;
    }

    /// Whether new keys of issuers are encrypted.
    pub(crate) fn is_on(&self) -> bool {
        let inner = self.inner();
        !inner.off && inner.secrets.current().is_some()
    }

    /// Reads a key, whether it is encrypted or not.
    pub(crate) fn open(&self, bytes: &[u8]) -> Result<PrivateKey, KeyError> {
        if !PrivateKey::is_encrypted(bytes) {
            return PrivateKey::read(bytes, None);
        }
        let id = digest_of(bytes);
        let secrets = {
            let mut inner = self.inner();
            inner.used.insert(id);
            if let Some(known) = inner.opened.get(&id) {
                return known.clone();
            }
            inner.secrets.clone()
        };
        // Not under the lock: others need not wait for the derivation.
        let opened = open_with(bytes, secrets.all());
        if !matches!(opened, Err(KeyError::PassphraseNeeded)) {
            let mut inner = self.inner();
            if inner.secrets == secrets && inner.opened.len() < MOST_KEPT {
                inner.opened.insert(id, opened.clone());
            }
        }
        opened
    }

    /// Whether the key can be opened with the secret that encrypts now, and is so encrypted.
    pub(crate) fn is_under_current(&self, bytes: &[u8]) -> bool {
        let current = self.inner().secrets.current().cloned();
        current.is_some_and(|secret| {
            PrivateKey::is_encrypted(bytes) && PrivateKey::read(bytes, Some(&secret)).is_ok()
        })
    }

    /// Forgets the keys that nobody asked for since this was called last.
    pub(crate) fn sweep(&self) {
        let mut inner = self.inner();
        let used = std::mem::take(&mut inner.used);
        inner.opened.retain(|id, _| used.contains(id));
    }

    /// How the text of a new `tls.key` of this kind has to be.
    ///
    /// Where keys were encrypted before and the secret is missing now, none is written open: the
    /// error says so.
    pub(crate) fn seal(&self, kind: Kind, key: &PrivateKey) -> Result<Zeroizing<String>, KeyError> {
        let secret = {
            let inner = self.inner();
            let before = match kind {
                Kind::Certificate => inner.sealed.certificates,
                Kind::Issuer => inner.sealed.issuers,
            };
            let wanted = before || kind == Kind::Issuer;
            match &inner.secrets {
                _ if inner.off => None,
                KeySecrets::Unavailable(_) if wanted => return Err(KeyError::PassphraseNeeded),
                KeySecrets::None if before => return Err(KeyError::PassphraseNeeded),
                secrets => secrets.current().filter(|_| wanted).cloned(),
            }
        };
        match secret {
            Some(secret) => key.to_encrypted_pem(&secret),
            None => Ok(key.to_pkcs8_pem()),
        }
    }

    /// The signer that a URI names.
    pub(crate) fn token(
        &self,
        uri: &str,
        directory: &Path,
        expected: &PublicKey,
    ) -> Result<Arc<dyn Signer>, String> {
        match &self.tokens {
            Some(tokens) => tokens.signer(uri, directory, expected),
            None => Err("this build of handfast has no support for PKCS#11 tokens: use one that \
                         was built with the feature `pkcs11`"
                .to_owned()),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a key that cannot be read could be with another secret: then nothing is wrong with it.
pub(crate) fn is_locked(error: &KeyError) -> bool {
    matches!(error, KeyError::PassphraseNeeded | KeyError::WrongPassphrase)
}

fn open_with(bytes: &[u8], secrets: &[Passphrase]) -> Result<PrivateKey, KeyError> {
    let mut last = KeyError::PassphraseNeeded;
    for secret in secrets {
        match PrivateKey::read(bytes, Some(secret)) {
            Err(KeyError::WrongPassphrase) => last = KeyError::WrongPassphrase,
            opened => return opened,
        }
    }
    Err(last)
}

fn digest_of(bytes: &[u8]) -> [u8; 32] {
    let mut id = [0; 32];
    id.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    id
}

/// A site has a handful of issuers and some dozens of leaves.
const MOST_KEPT: usize = 1024;

#[cfg(test)]
mod tests {
    use handfast_pki::KeyAlgorithm;

    use super::*;

    fn given(secrets: &[&str]) -> KeySecrets {
        KeySecrets::Given(secrets.iter().map(|secret| Passphrase::new(*secret)).collect())
    }

    fn key() -> PrivateKey {
        PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap()
    }

    #[test]
    fn without_a_secret_keys_lie_open() {
        let ring = Keyring::default();
        let key = key();
        for kind in [Kind::Certificate, Kind::Issuer] {
            assert_eq!(*ring.seal(kind, &key).unwrap(), *key.to_pkcs8_pem());
        }
    }

    #[test]
    fn with_a_secret_issuers_are_encrypted_and_open_again() {
        let ring = Keyring::default();
        ring.set_secrets(given(&["new", "old"]));
        let key = key();
        let sealed = ring.seal(Kind::Issuer, &key).unwrap();
        assert!(PrivateKey::is_encrypted(sealed.as_bytes()));
        assert!(ring.is_under_current(sealed.as_bytes()));
        assert_eq!(ring.open(sealed.as_bytes()).unwrap().key_id(), key.key_id());
        assert_eq!(*ring.seal(Kind::Certificate, &key).unwrap(), *key.to_pkcs8_pem());

        // The old secret still opens while the new one is first.
        let old = key.to_encrypted_pem(&Passphrase::new("old")).unwrap();
        assert_eq!(ring.open(old.as_bytes()).unwrap().key_id(), key.key_id());
        assert!(!ring.is_under_current(old.as_bytes()));
        ring.set_secrets(given(&["new"]));
        assert_eq!(ring.open(old.as_bytes()).unwrap_err(), KeyError::WrongPassphrase);
        // Known by now, and still refused.
        assert_eq!(ring.open(old.as_bytes()).unwrap_err(), KeyError::WrongPassphrase);
    }

    #[test]
    fn nothing_is_written_open_where_it_was_encrypted() {
        let ring = Keyring::default();
        let key = key();
        ring.note_sealed(Sealed { certificates: false, issuers: true });
        assert_eq!(ring.seal(Kind::Issuer, &key).unwrap_err(), KeyError::PassphraseNeeded);
        assert!(ring.seal(Kind::Certificate, &key).is_ok());
        ring.note_sealed(Sealed { certificates: true, issuers: true });
        assert_eq!(ring.seal(Kind::Certificate, &key).unwrap_err(), KeyError::PassphraseNeeded);

        // A secret that should be there and is not: closed, even if nothing was encrypted yet.
        let ring = Keyring::default();
        ring.set_secrets(KeySecrets::Unavailable("no such file".to_owned()));
        assert_eq!(ring.seal(Kind::Issuer, &key).unwrap_err(), KeyError::PassphraseNeeded);
    }

    #[test]
    fn switched_off_new_keys_lie_open_and_what_is_not_used_is_forgotten() {
        let ring = Keyring::default();
        ring.set_secrets(given(&["one"]));
        let key = key();
        let sealed = ring.seal(Kind::Issuer, &key).unwrap();
        ring.open(sealed.as_bytes()).unwrap();
        ring.sweep();
        assert_eq!(ring.inner().opened.len(), 1);
        ring.sweep();
        assert_eq!(ring.inner().opened.len(), 0);
        ring.switch(true);
        assert_eq!(*ring.seal(Kind::Issuer, &key).unwrap(), *key.to_pkcs8_pem());
    }
}
