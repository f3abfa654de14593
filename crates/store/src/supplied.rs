//! Reading a credential that the user laid down, in a plain directory or a mounted Secret.
//! Never writes.

use std::fs;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;

use crate::atomic::read_bounded;
use crate::credential::{RawPem, Revision};
use crate::error::FileError;
use crate::revisions::{DATA, read_files};

/// Reads the files below `directory`; `None` if none of them is there.
///
/// In a mounted Secret `..data` may be switched between two reads: then everything is read again, so
/// that a certificate of one state never meets the key of another.
pub(crate) fn read(directory: &Path) -> Result<Option<RawPem>, FileError> {
    let data = directory.join(DATA);
    for _ in 0..ATTEMPTS {
        let before = fs::read_link(&data).ok();
        let pem = read_files(directory)?;
        if fs::read_link(&data).ok() == before {
            let empty = pem.tls_crt.is_none()
                && pem.tls_key.is_none()
                && pem.ca_crt.is_none()
                && pem.pkcs11_uri.is_none();
            return Ok((!empty).then_some(pem));
        }
    }
    Err(FileError::new(
        "read",
        directory,
        std::io::Error::other("it changed on every attempt to read it"),
    ))
}

/// The revocation lists that lie beside the certificates of a supplied credential, in whatever form:
/// `ca.crl` and `crl.pem`, as they are. In a mounted Secret both are of one state.
///
/// # Errors
/// If one is there and cannot be read, or is larger than any list that is.
pub fn revocation_lists(directory: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>, FileError> {
    let data = directory.join(DATA);
    for _ in 0..ATTEMPTS {
        let before = fs::read_link(&data).ok();
        let mut found = Vec::new();
        for name in LISTS {
            let path = directory.join(name);
            if let Some(bytes) = read_bounded(&path, LIST_LIMIT)? {
                found.push((path, bytes));
            }
        }
        if fs::read_link(&data).ok() == before {
            return Ok(found);
        }
    }
    Err(FileError::new(
        "read",
        directory,
        std::io::Error::other("it changed on every attempt to read it"),
    ))
}

/// A number that is different when the content is.
pub(crate) fn revision_of(pem: &RawPem) -> Revision {
    let mut context = digest::Context::new(&digest::SHA256);
    let files = [
        pem.tls_crt.as_deref(),
        pem.tls_key.as_ref().map(|key| key.as_slice()),
        pem.ca_crt.as_deref(),
        pem.pkcs11_uri.as_deref(),
    ];
    for file in files {
        // The length keeps the files apart, and a missing one from an empty one.
        context.update(&file.map_or(u64::MAX, |bytes| bytes.len() as u64).to_be_bytes());
        context.update(file.unwrap_or_default());
    }
    let mut number = [0; 8];
    for (to, from) in number.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    Revision(u64::from_be_bytes(number))
}

/// Where revocation lists are looked for.
const LISTS: [&str; 2] = ["ca.crl", "crl.pem"];
/// The largest list that is read.
pub(crate) const LIST_LIMIT: u64 = 64 << 20;
/// Switches happen a minute apart; being overtaken twice already means something is wrong.
const ATTEMPTS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn pem(files: [Option<&str>; 3]) -> RawPem {
        let [tls_crt, tls_key, ca_crt] =
            files.map(|file| file.map(|text| text.as_bytes().to_vec()));
        RawPem { tls_crt, tls_key: tls_key.map(Into::into), ca_crt, pkcs11_uri: None }
    }

    #[test]
    fn the_revision_follows_the_content() {
        let states = [
            [None, None, None],
            [Some(""), None, None],
            [Some("a"), None, None],
            [None, Some("a"), None],
            [Some("a"), Some("b"), None],
            [Some("ab"), None, None],
        ];
        for (i, one) in states.into_iter().enumerate() {
            for (j, other) in states.into_iter().enumerate() {
                assert_eq!(revision_of(&pem(one)) == revision_of(&pem(other)), i == j);
            }
        }
    }
}
