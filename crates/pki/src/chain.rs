//! A certificate chain: the leaf and what signed it, as presented in a handshake.

use rustls_pki_types::CertificateDer;

use crate::pem::{self, PemError};
use crate::{Certificate, CertificateError};

/// One or more certificates, leaf first. The order is not checked here: [`crate::verify_chain`] does.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Chain {
    leaf: Certificate,
    rest: Vec<Certificate>,
}

impl Chain {
    /// The most certificates read from one file.
    pub const MAX_LEN: usize = 16;

    /// A chain of `leaf` and what signed it.
    pub fn new(leaf: Certificate, rest: Vec<Certificate>) -> Self {
        Self { leaf, rest }
    }

    /// Reads every `CERTIFICATE` section of a PEM text, or a single DER certificate.
    pub fn from_pem(text: &[u8]) -> Result<Self, ChainReadError> {
        let mut certificates = read_certificates(text, Self::MAX_LEN)?.into_iter();
        // read_certificates never returns an empty list.
        let Some(leaf) = certificates.next() else {
            return Err(PemError::Empty.into());
        };
        Ok(Self { leaf, rest: certificates.collect() })
    }

    /// The chain as PEM, leaf first.
    pub fn to_pem(&self) -> String {
        self.iter().map(Certificate::to_pem).collect()
    }

    /// The first certificate.
    pub fn leaf(&self) -> &Certificate {
        &self.leaf
    }

    /// Everything after the leaf.
    pub fn rest(&self) -> &[Certificate] {
        &self.rest
    }

    /// Leaf first.
    pub fn iter(&self) -> impl Iterator<Item = &Certificate> {
        std::iter::once(&self.leaf).chain(&self.rest)
    }

    /// How many certificates; at least 1.
    #[expect(clippy::len_without_is_empty, reason = "a chain is never empty")]
    pub fn len(&self) -> usize {
        1 + self.rest.len()
    }

    /// The chain as rustls wants it.
    pub fn to_pki_types(&self) -> Vec<CertificateDer<'static>> {
        self.iter().map(Certificate::to_pki_types).collect()
    }
}

impl From<Certificate> for Chain {
    fn from(leaf: Certificate) -> Self {
        Self { leaf, rest: Vec::new() }
    }
}

/// Every certificate of a PEM text (or the one of a DER file), at least one, at most `limit`.
pub(crate) fn read_certificates(
    bytes: &[u8],
    limit: usize,
) -> Result<Vec<Certificate>, ChainReadError> {
    if pem::is_der(bytes) {
        return Ok(vec![Certificate::from_der(bytes)?]);
    }
    let sections = pem::sections(bytes)?;
    let mut certificates = Vec::new();
    for section in &sections {
        match section.label.as_str() {
            // The second is what OpenSSL wrote long ago.
            "CERTIFICATE" | "X509 CERTIFICATE" => {
                if certificates.len() == limit {
                    return Err(ChainReadError::TooMany { limit });
                }
                let line = section.line;
                let certificate = Certificate::from_der(section.der.to_vec())
                    .map_err(|source| ChainReadError::AtLine { line, source })?;
                certificates.push(certificate);
            }
            "TRUSTED CERTIFICATE" => {
                return Err(ChainReadError::OpensslTrusted { line: section.line });
            }
            // Keys, requests and parameters may share the file.
            _ => {}
        }
    }
    if certificates.is_empty() {
        return Err(PemError::none_of("CERTIFICATE", &sections).into());
    }
    Ok(certificates)
}

/// Why certificates cannot be read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainReadError {
    /// One of the sections is no certificate.
    #[error("the section that begins on line {line}: {source}")]
    AtLine {
        /// The line of its `BEGIN`.
        line: usize,
        /// What is wrong with it.
        source: CertificateError,
    },
    /// A DER file that is no certificate.
    #[error(transparent)]
    Der(#[from] CertificateError),
    /// OpenSSL's own format with trust settings.
    #[error(
        "line {line} begins a TRUSTED CERTIFICATE, which only OpenSSL reads: convert it with `openssl x509 -in OLD -out NEW`"
    )]
    OpensslTrusted {
        /// The line of its `BEGIN`.
        line: usize,
    },
    /// The PEM text is faulty.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// More certificates than any sane file holds.
    #[error("the file holds more than {limit} certificates: remove what is not needed")]
    TooMany {
        /// How many are accepted.
        limit: usize,
    },
}
