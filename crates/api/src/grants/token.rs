//! Token files: one AccessToken document, mode 0600, readable by Skupper's field names.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use handfast_pki::Name;
use handfast_store::{FileError, write_atomic};
use thiserror::Error;

use crate::admin::{IssuedToken, RedeemToken};
use crate::resources::edit::{self, EditError};
use crate::resources::{AccessToken, Resource, Resources};

/// A token as it is read from a file.
pub type TokenFile = Resource<AccessToken>;

/// Writes `token` to `file` with mode 0600, replacing what is there.
pub fn write_token(file: &Path, token: &IssuedToken) -> Result<(), TokenError> {
    let name: Name =
        token.name.parse().map_err(|_| TokenError::Name { name: token.name.clone() })?;
    let spec = AccessToken {
        url: token.url.clone(),
        code: token.code.clone(),
        ca: token.ca.clone(),
        link_cost: token.link_cost,
        settings: token.agent.iter().map(|service| ("agent".to_owned(), service.clone())).collect(),
    };
    let use_it = match &token.agent {
        None => {
            "Whoever holds this file may link; redeem it with `handfast token redeem".to_owned()
        }
        Some(service) => format!(
            "Whoever holds this file may report as {service}; name it as the `token` of a Relay, or to `handfast relay"
        ),
    };
    let comment = format!(
        "handfast token issue {}` until {}. {use_it}",
        file.file_name().unwrap_or_default().to_string_lossy(),
        token.expiration_time,
    );
    let text = edit::to_yaml(&Resource::new(name, spec), &comment)?;
    write_atomic(file, text.as_bytes(), 0o600).map_err(TokenError::Write)
}

/// Reads the token in `file`: exactly one AccessToken, of either apiVersion.
pub fn read_token(file: &Path) -> Result<TokenFile, TokenError> {
    let text =
        read_bounded(file).map_err(|source| TokenError::Read { file: file.to_owned(), source })?;
    let (mut resources, faults) = Resources::parse(file, &text);
    let fault =
        faults.into_iter().find(|fault| fault.severity == crate::resources::Severity::Error);
    if let Some(fault) = fault {
        return Err(TokenError::Fault(Box::new(fault)));
    }
    match (resources.access_tokens.pop_first(), resources.access_tokens.len()) {
        (Some((_, token)), 0) => Ok(token),
        (Some(_), more) => Err(TokenError::Several { file: file.to_owned(), count: more + 1 }),
        (None, _) => Err(TokenError::NotAToken { file: file.to_owned() }),
    }
}

impl From<&TokenFile> for RedeemToken {
    fn from(token: &TokenFile) -> Self {
        Self {
            name: token.name.to_string(),
            url: token.spec.url.clone(),
            code: token.spec.code.clone(),
            ca: token.spec.ca.clone(),
            link_cost: token.spec.link_cost,
        }
    }
}

fn read_bounded(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(file)?.take(LARGEST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LARGEST {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("larger than {} KiB", LARGEST / 1024),
        ));
    }
    Ok(text)
}

/// Why a token file was not read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The token has no YAML form.
    #[error("{0}")]
    Encode(#[from] EditError),
    /// The document is broken.
    #[error("{0}")]
    Fault(#[source] Box<crate::resources::ResourceFault>),
    /// The node chose a name that cannot be one.
    #[error(
        "the node named the token {name:?}, which is no name; check that it runs the same version as this command"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// There is no AccessToken in the file.
    #[error("{file} holds no AccessToken; give the file that `handfast token issue` wrote")]
    NotAToken {
        /// The file.
        file: PathBuf,
    },
    /// The file cannot be read.
    #[error("cannot read {file}: {source}; check its path and who may read it")]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There are several AccessTokens in the file.
    #[error("{file} holds {count} AccessTokens; keep one per file")]
    Several {
        /// The file.
        file: PathBuf,
        /// How many.
        count: usize,
    },
    /// The file cannot be written.
    #[error("{0}")]
    Write(#[source] FileError),
}

/// Largest token file that is read, in bytes.
const LARGEST: u64 = 256 * 1024;
