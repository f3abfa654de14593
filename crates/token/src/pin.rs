//! The PIN of a token: read from its file when it is needed, wiped when it was used.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use zeroize::Zeroizing;

use crate::error::TokenError;
use crate::uri::TokenUri;

/// A PIN, never shown.
pub(crate) type Pin = Zeroizing<String>;

/// Reads the PIN that the URI names, if it names one. Relative paths begin at `directory`.
pub(crate) fn read(uri: &TokenUri, directory: &Path) -> Result<Option<Pin>, TokenError> {
    let Some(source) = &uri.pin_source else { return Ok(None) };
    let path = directory.join(source);
    let fault = |why: String| TokenError::PinFile { path: path.clone(), why };
    let metadata = fs::metadata(&path).map_err(|error| fault(error.to_string()))?;
    if !metadata.is_file() {
        return Err(fault("it is not a regular file".to_owned()));
    }
    if metadata.permissions().mode() & 0o007 != 0 {
        return Err(fault("everybody may read it; take that away with chmod o-rwx".to_owned()));
    }
    let file = fs::File::open(&path).map_err(|error| fault(error.to_string()))?;
    let mut text = Zeroizing::new(String::with_capacity(LONGEST + 1));
    file.take(LONGEST as u64 + 1)
        .read_to_string(&mut text)
        .map_err(|error| fault(error.to_string()))?;
    if text.len() > LONGEST {
        return Err(fault(format!("it is longer than {LONGEST} octets")));
    }
    let pin = Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned());
    if pin.is_empty() {
        return Err(fault("it is empty".to_owned()));
    }
    Ok(Some(pin))
}

const LONGEST: usize = 1024;
