//! One key in a token, as an issuer uses it.

use std::fmt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use handfast_pki::{PublicKey, SignError, Signer};

use crate::error::TokenError;
use crate::pool::{Ask, Pool};
use crate::uri::TokenUri;

/// A private key that never leaves its token.
pub struct TokenKey {
    uri: TokenUri,
    public: PublicKey,
    pool: Pool,
    /// When the token was asked last, and what it said.
    checked: Mutex<Option<(Instant, Result<(), TokenError>)>>,
}

impl TokenKey {
    /// The key that `uri` names; `expected` is its public half. Nothing is opened yet.
    pub fn new(uri: TokenUri, directory: &Path, expected: PublicKey) -> Self {
        let pool = Pool::new(uri.clone(), directory.to_owned(), expected.clone());
        Self { uri, public: expected, pool, checked: Mutex::default() }
    }

    /// Whether the key is there and signs. The token is asked every few seconds at most; in between,
    /// what it said last counts.
    ///
    /// # Errors
    ///
    /// Why it cannot be used.
    pub fn check(&self) -> Result<(), TokenError> {
        // Held while the token is asked: others that ask meanwhile get the same answer.
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, said)) = checked.as_ref()
            && at.elapsed() < CHECKED_FOR
        {
            return said.clone();
        }
        let said = self.pool.ask(Ask::Check, CHECK_LIMIT).map(drop);
        *checked = Some((Instant::now(), said.clone()));
        said
    }
}

impl Signer for TokenKey {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        self.pool
            .ask(Ask::Sign(message.to_vec()), SIGN_LIMIT)
            .map_err(|error| SignError::new(error.to_string()))
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKey").field("uri", &self.uri).finish_non_exhaustive()
    }
}

/// Between two looks at a token.
const CHECKED_FOR: Duration = Duration::from_secs(3);
/// How long a look may take: a decision waits for it.
const CHECK_LIMIT: Duration = Duration::from_secs(8);
/// How long a signature may take, with all that wait before it.
const SIGN_LIMIT: Duration = Duration::from_secs(30);
