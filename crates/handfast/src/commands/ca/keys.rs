//! Keys of authorities on the command line: files with or without a passphrase, tokens, and where new
//! files go.

use std::path::{Path, PathBuf};

use handfast_pki::{Passphrase, PrivateKey, PublicKey, SigningKey};
use handfast_store::{read_bounded, write_atomic};
use zeroize::Zeroizing;

use crate::exit::Exit;
use crate::failure::Failure;

/// Reads a file that was handed in.
pub(super) fn read(path: &Path) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let unreadable = |why: String| {
        Failure::new(Exit::BadInput, "the file cannot be read")
            .at(path.display())
            .because(why)
            .remedy("check the path, and who may read it")
    };
    let found =
        read_bounded(path, LONGEST).map_err(|error| unreadable(error.source.to_string()))?;
    Ok(Zeroizing::new(found.ok_or_else(|| unreadable("there is no such file".to_owned()))?))
}

/// Writes a new file, and never over one that is there.
pub(super) fn write_new(path: &Path, text: &[u8], mode: u32) -> anyhow::Result<()> {
    if path.symlink_metadata().is_ok() {
        return Err(Failure::new(Exit::Failed, "there is a file of that name already")
            .at(path.display())
            .remedy("name another, or move this one away")
            .into());
    }
    write_atomic(path, text, mode).map_err(|error| {
        Failure::new(Exit::Home, "the file cannot be written")
            .at(path.display())
            .because(error.source)
            .into()
    })
}

/// The first line of a file.
pub(super) fn passphrase(path: Option<&PathBuf>) -> anyhow::Result<Option<Passphrase>> {
    let Some(path) = path else { return Ok(None) };
    let text = read(path)?;
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() {
        return Err(Failure::new(Exit::BadInput, "the passphrase is empty")
            .at(path.display())
            .remedy("write it on the first line of the file")
            .into());
    }
    Ok(Some(Passphrase::new(line)))
}

/// A key from a file.
pub(super) fn from_file(
    path: &Path,
    passphrase: Option<&Passphrase>,
) -> anyhow::Result<PrivateKey> {
    let bytes = read(path)?;
    PrivateKey::read(&bytes, passphrase).map_err(|error| {
        let failure = Failure::new(Exit::BadInput, "the private key cannot be used")
            .at(path.display())
            .because(error);
        failure
            .remedy("name the file with its passphrase with --passphrase-file, if it has one")
            .into()
    })
}

/// The public half of a key in a token.
#[cfg(feature = "pkcs11")]
pub(super) fn public_in_token(uri: &str, directory: &Path) -> anyhow::Result<PublicKey> {
    handfast_token::public_key(uri, directory).map_err(|error| token_failure(&error))
}

/// A key in a token, for the certificate or request with this public key.
#[cfg(feature = "pkcs11")]
pub(super) fn in_token(
    uri: &str,
    directory: &Path,
    expected: &PublicKey,
) -> anyhow::Result<SigningKey> {
    let keys = handfast_token::TokenKeys::default();
    let signer = keys.signer(uri, directory, expected).map_err(|error| token_failure(&error))?;
    Ok(signer.into())
}

#[cfg(feature = "pkcs11")]
fn token_failure(error: &handfast_token::TokenError) -> anyhow::Error {
    Failure::new(Exit::Failed, "the key in the token cannot be used").because(error).into()
}

#[cfg(not(feature = "pkcs11"))]
pub(super) fn public_in_token(_uri: &str, _directory: &Path) -> anyhow::Result<PublicKey> {
    Err(no_tokens())
}

#[cfg(not(feature = "pkcs11"))]
pub(super) fn in_token(
    _uri: &str,
    _directory: &Path,
    _expected: &PublicKey,
) -> anyhow::Result<SigningKey> {
    Err(no_tokens())
}

#[cfg(not(feature = "pkcs11"))]
fn no_tokens() -> anyhow::Error {
    Failure::new(Exit::Failed, "this build of handfast has no support for PKCS#11 tokens")
        .remedy("use one that was built with the feature `pkcs11`")
        .into()
}

/// A hash as people compare it: groups of four.
pub(super) fn grouped(id: &str) -> String {
    let digits: Vec<char> = id.chars().collect();
    digits.chunks(4).map(String::from_iter).collect::<Vec<_>>().join(" ")
}

/// The same of bytes.
pub(crate) fn hex(id: &[u8]) -> String {
    use std::fmt::Write as _;
    id.iter().fold(String::new(), |mut text, octet| {
        // A string takes everything.
        let _ = write!(text, "{octet:02x}");
        text
    })
}

const LONGEST: u64 = 1 << 20;
