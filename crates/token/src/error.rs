//! Why a key in a token cannot be used, said so that an operator can act on it.

use std::path::PathBuf;

use cryptoki::error::{Error, RvError};
use handfast_pki::PublicKeyError;

use crate::uri::UriError;

/// Why a key in a token cannot be used now.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// Several objects fit.
    #[error("{count} keys in token `{token}` fit {key}: name it by `object` and `id` both")]
    Ambiguous {
        /// The token.
        token: String,
        /// What was looked for.
        key: String,
        /// How many there are.
        count: usize,
    },
    /// Several tokens fit.
    #[error("{count} tokens fit {wanted}: name it by `token` and `serial` both")]
    AmbiguousToken {
        /// What was looked for.
        wanted: String,
        /// How many there are.
        count: usize,
    },
    /// A call failed.
    #[error("token `{token}` failed ({what}): check it with `pkcs11-tool --list-objects`")]
    Failed {
        /// The token, or the module.
        token: String,
        /// What the module answered.
        what: String,
    },
    /// The PIN that this process knows was refused, and is not tried again.
    #[error(
        "token `{token}` refused the PIN from {source_of_pin}; it is not tried again, so that the token \
         does not lock itself: correct that file"
    )]
    PinRefused {
        /// The token.
        token: String,
        /// Where the PIN comes from.
        source_of_pin: String,
    },
    /// The token wants a PIN and none is named.
    #[error(
        "token `{token}` wants a PIN: name the file that holds it in the URI with `pin-source=file:/path`"
    )]
    PinNeeded {
        /// The token.
        token: String,
    },
    /// One try is left, and it is not ours to take.
    #[error(
        "token `{token}` {}: log in once with the right PIN by hand (`pkcs11-tool --login`), or have its \
         security officer reset it", if *locked { "has locked the PIN" } else { "allows one more try of the PIN before it locks itself, which is not taken here" }
    )]
    PinBlocked {
        /// The token.
        token: String,
        /// Whether it is too late.
        locked: bool,
    },
    /// The file with the PIN cannot be used.
    #[error("the PIN in `{}` cannot be used: {why}", path.display())]
    PinFile {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// There is no such key.
    #[error(
        "there is no {what} {key} in token `{token}`: check `object` and `id` with `pkcs11-tool --list-objects`"
    )]
    KeyMissing {
        /// Private or public key.
        what: &'static str,
        /// The token.
        token: String,
        /// What was looked for.
        key: String,
    },
    /// The token cannot sign with keys of this kind.
    #[error(
        "token `{token}` does not offer the mechanism {mechanism}, which a CA with a key of {algorithm} \
         needs: use another kind of key or another token"
    )]
    MechanismMissing {
        /// The token.
        token: String,
        /// What is missing, in the words of PKCS #11.
        mechanism: &'static str,
        /// The kind of key.
        algorithm: String,
    },
    /// The certificate is for another key.
    #[error(
        "the key {key} in token `{token}` is not the one of the certificate: put the certificate beside \
         the URI that was made for this key, or correct `object` and `id`"
    )]
    Mismatch {
        /// The token.
        token: String,
        /// The key.
        key: String,
    },
    /// The library cannot be loaded.
    #[error("the PKCS #11 module `{}` cannot be loaded ({why}): install it, or correct `module-path`", path.display())]
    Module {
        /// The module.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The public key cannot be used.
    #[error("the public key in token `{token}` cannot be used: {source}")]
    PublicKey {
        /// The token.
        token: String,
        /// Why.
        source: PublicKeyError,
    },
    /// No answer in time.
    #[error("token `{token}` did not answer within {seconds} s: it is tried again")]
    TimedOut {
        /// The token.
        token: String,
        /// How long was waited.
        seconds: u64,
    },
    /// There is no such token.
    #[error("token `{token}` is not there{}: put it back, or correct the URI", seen(others))]
    TokenMissing {
        /// The token.
        token: String,
        /// Those that are there.
        others: Vec<String>,
    },
    /// We do not sign with such keys in tokens.
    #[error("keys of {algorithm} in tokens are not supported: use ECDSA P-256 or P-384, or RSA")]
    Unsupported {
        /// The kind of key.
        algorithm: String,
    },
    /// The URI makes no sense.
    #[error(transparent)]
    Uri(#[from] UriError),
}

impl TokenError {
    /// What a call that failed is taken for.
    pub(crate) fn of(token: &str, error: &Error) -> Self {
        let what = match error {
            // The library's own texts are paragraphs of the standard.
            Error::Pkcs11(answer, call) => format!("{call:?}: {answer:?}"),
            other => other.to_string(),
        };
        Self::Failed { token: token.to_owned(), what }
    }

    /// Whether trying again with a new session may help. What an operator has to correct does not.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Failed { .. }
                | Self::KeyMissing { .. }
                | Self::Module { .. }
                | Self::TimedOut { .. }
                | Self::TokenMissing { .. }
        )
    }
}

/// The return value of PKCS #11 behind an error.
pub(crate) fn answer(error: &Error) -> Option<RvError> {
    match error {
        Error::Pkcs11(answer, _) => Some(*answer),
        _ => None,
    }
}

fn seen(others: &[String]) -> String {
    if others.is_empty() {
        return String::new();
    }
    format!(" (there is {})", others.join(", "))
}
