//! What a dialling side trusts: anchors that were configured, one pinned certificate, or the system's bundle where a
//! setting names that and nothing else was given. Accepting sides only ever trust anchors.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use handfast_pki::{Certificate, Fingerprint, TrustAnchors};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::fault::{Fault, FaultCode, Side, fault_of_file};

/// What a client trusts; exactly one of these, never a mixture.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ClientTrust {
    /// These anchors. The server's certificate has to name what was dialled.
    Anchors(TrustAnchors),
    /// Servers whose leaf is one of these, byte for byte, whoever signed it and whatever it says: for certificates
    /// without SANs or of X.509 v1. The server still has to prove that it holds the leaf's key. Validity, names and
    /// revocation are not looked at: the pin stands for all of them, and ends when it is taken out.
    Pinned(Vec<Fingerprint>),
    /// The anchors of the operating system. The server's certificate has to name what was dialled.
    System(SystemTrust),
}

impl From<TrustAnchors> for ClientTrust {
    fn from(anchors: TrustAnchors) -> Self {
        Self::Anchors(anchors)
    }
}

/// The bundle of CA certificates that the operating system keeps, as it was when it was read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SystemTrust {
    anchors: TrustAnchors,
    file: PathBuf,
    unusable: usize,
}

impl SystemTrust {
    /// Reads the bundle: the file that is `named` (what the environment variable `SSL_CERT_FILE` says, which is the
    /// caller's to look up), else the first of [`BUNDLES`](Self::BUNDLES) that exists.
    ///
    /// Certificates in it that cannot be used as anchors are left out and counted: a bundle is not the user's to mend.
    ///
    /// # Errors
    /// A fault of our side that names the file: it cannot be read, is too large, or holds no usable anchor.
    pub fn read(named: Option<&Path>) -> Result<Self, Fault> {
        let file = match named {
            Some(named) => named,
            None => Self::BUNDLES
                .iter()
                .map(Path::new)
                .find(|path| path.exists())
                .unwrap_or(Path::new(Self::BUNDLES[0])),
        };
        let bytes = read_bounded(file).map_err(|error| fault_of_file(error, file))?;
        let mut anchors: Option<TrustAnchors> = None;
        let mut unusable = 0;
        for certificate in CertificateDer::pem_slice_iter(&bytes) {
            let usable = certificate.ok().and_then(|der| anchor(&der));
            match usable {
                Some(usable) => {
                    anchors = Some(match anchors {
                        Some(anchors) if anchors.len() >= MOST_ANCHORS => anchors,
                        Some(anchors) => anchors.with(usable),
                        None => TrustAnchors::new(usable),
                    });
                }
                None => unusable += 1,
            }
        }
        let anchors = anchors.ok_or_else(|| {
            let place = file.display().to_string();
            Fault::new(FaultCode::NotPem, Side::Ours, place.clone())
                .saying("the system's trust bundle holds no usable CA certificate")
                .with("file", place)
                .remedied_by(
                    "install the system's CA certificates (package ca-certificates), or name a bundle with SSL_CERT_FILE",
                )
        })?;
        Ok(Self { anchors, file: file.to_owned(), unusable })
    }

    /// The anchors.
    pub fn anchors(&self) -> &TrustAnchors {
        &self.anchors
    }

    /// The file that they were read from.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// How many certificates in it were left out.
    pub fn unusable(&self) -> usize {
        self.unusable
    }

    /// Where systems keep the bundle: Debian, Ubuntu and Alpine; Fedora and RHEL; SUSE; the BSDs.
    pub const BUNDLES: [&str; 5] = [
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/ca-bundle.pem",
        "/etc/ssl/cert.pem",
    ];
}

fn anchor(der: &CertificateDer<'_>) -> Option<Certificate> {
    webpki::anchor_from_trusted_cert(der).ok()?;
    Certificate::from_der(der.to_vec()).ok().filter(Certificate::is_ca)
}

fn read_bounded(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        let what = format!("larger than {} MiB", LARGEST / (1024 * 1024));
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
    }
    Ok(bytes)
}

/// Largest bundle that is read, in bytes; the usual one has a quarter of a MiB.
const LARGEST: u64 = 8 * 1024 * 1024;

/// Most anchors that are taken from it; the usual one has 150.
const MOST_ANCHORS: usize = 1024;
