//! The keys in PKCS#11 tokens, as the authority asks for them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use handfast_pki::{PublicKey, Signer};
use handfast_token::TokenKeys;

/// All tokens that this process uses.
#[derive(Debug, Default)]
pub(crate) struct Tokens(TokenKeys);

impl handfast_authority::Tokens for Tokens {
    fn signer(
        &self,
        uri: &str,
        directory: &Path,
        expected: &PublicKey,
    ) -> Result<Arc<dyn Signer>, String> {
        self.0.signer(uri, directory, expected).map_err(|error| error.to_string())
    }
}

/// To be called at the very end of the process.
pub(crate) fn end() {
    if !handfast_token::end(PATIENCE) {
        tracing::warn!("a token does not answer, and is left in the middle of a call");
    }
}

/// For a token that is in a call when the process ends.
const PATIENCE: Duration = Duration::from_secs(2);
