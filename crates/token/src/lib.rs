//! Private keys that live in PKCS#11 tokens (OASIS PKCS #11 v2.40): hardware modules, smart cards, SoftHSM.
//!
//! A key is named by a URI (RFC 7512) with the module to load, the token, the object and the file that
//! holds the PIN. It is proven before it is used: a signature must verify under the public key that is
//! expected. Signing goes through a few threads with a session each, so that a token that hangs holds
//! up nobody for ever, and sessions that the token has forgotten are opened anew.
//!
//! A PIN that was refused is not tried again before it changes: tokens lock themselves.
//!
//! Knows certificates only as public keys. No asynchrony, no clock but intervals.

mod error;
mod key;
mod module;
mod pin;
mod pool;
mod public;
mod session;
mod uri;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use handfast_pki::{PublicKey, Signer};

pub use error::TokenError;
pub use key::TokenKey;
pub use uri::{TokenUri, UriError};

/// The keys in tokens that a process uses. Each is opened once, and watched from then on.
#[derive(Debug, Default)]
pub struct TokenKeys {
    open: Mutex<BTreeMap<(String, PathBuf), Arc<TokenKey>>>,
}

impl TokenKeys {
    /// The key that `uri` names, if it is the one of `expected` and can sign now.
    ///
    /// Cheap to ask again and again: the token is asked every few seconds at most. `directory` is where
    /// relative paths in the URI begin. Blocks for some seconds at most.
    ///
    /// # Errors
    ///
    /// [`TokenError`], until the token, its key, its PIN and its mechanism are all there.
    pub fn signer(
        &self,
        uri: &str,
        directory: &Path,
        expected: &PublicKey,
    ) -> Result<Arc<dyn Signer>, TokenError> {
        let place = (uri.to_owned(), directory.to_owned());
        let known = self.open().get(&place).filter(|key| key.public_key() == expected).cloned();
        let key = if let Some(key) = known {
            key
        } else {
            let parsed: TokenUri = uri.parse()?;
            let key = Arc::new(TokenKey::new(parsed, directory, expected.clone()));
            self.open().insert(place, Arc::clone(&key));
            key
        };
        key.check()?;
        Ok(key)
    }

    fn open(&self) -> std::sync::MutexGuard<'_, BTreeMap<(String, PathBuf), Arc<TokenKey>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the modules of all tokens: to be called before the process ends, because a module that takes itself apart while a
/// thread is in it may take the process with it. Nothing is signed in a token from then on.
///
/// Whether that was done within `limit`; a token that hangs is not waited for any longer.
pub fn end(limit: Duration) -> bool {
    module::Module::end_all(limit)
}

/// The public half of the key that `uri` names, as the token tells it: to make a certificate or a
/// request for it.
///
/// # Errors
///
/// [`TokenError`], also for a token that keeps no public key object beside the private one.
pub fn public_key(uri: &str, directory: &Path) -> Result<PublicKey, TokenError> {
    let uri: TokenUri = uri.parse()?;
    public::read(&uri, directory)
}
