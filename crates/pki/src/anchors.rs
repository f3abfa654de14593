//! Trust anchors: the CA certificates that are trusted because they were configured, and for no
//! other reason (rule 2).

use rustls_pki_types::CertificateDer;

use crate::chain::{ChainReadError, read_certificates};
use crate::{Certificate, Fingerprint};

/// A non-empty set of CA certificates, in the order given, without duplicates.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TrustAnchors(Vec<Certificate>);

impl TrustAnchors {
    /// The most anchors read from one file.
    pub const MAX_LEN: usize = 512;

    /// One anchor.
    pub fn new(first: Certificate) -> Self {
        Self(vec![first])
    }

    /// Reads every `CERTIFICATE` section of a PEM text, or a single DER certificate. Comments, blank
    /// lines, CRLF and duplicates are fine. That the certificates are CAs is not demanded here:
    /// lint and verification say so.
    pub fn from_pem(text: &[u8]) -> Result<Self, ChainReadError> {
        let mut anchors = Vec::new();
        for certificate in read_certificates(text, Self::MAX_LEN)? {
            if !anchors.contains(&certificate) {
                anchors.push(certificate);
            }
        }
        Ok(Self(anchors))
    }

    /// The same anchors and one more, unless it is there already.
    #[must_use]
    pub fn with(mut self, certificate: Certificate) -> Self {
        if !self.0.contains(&certificate) {
            self.0.push(certificate);
        }
        self
    }

    /// The anchors as PEM.
    pub fn to_pem(&self) -> String {
        self.0.iter().map(Certificate::to_pem).collect()
    }

    /// The anchors in order.
    pub fn iter(&self) -> impl Iterator<Item = &Certificate> {
        self.0.iter()
    }

    /// How many; at least 1.
    #[expect(clippy::len_without_is_empty, reason = "there is always an anchor")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether exactly this certificate is an anchor.
    pub fn contains(&self, certificate: &Certificate) -> bool {
        self.0.contains(certificate)
    }

    /// The anchors as rustls wants them.
    pub fn to_pki_types(&self) -> Vec<CertificateDer<'static>> {
        self.0.iter().map(Certificate::to_pki_types).collect()
    }

    /// Every anchor as `subject (fingerprint)`, for fault messages.
    pub fn describe(&self) -> String {
        let shown = self.0.iter().map(|anchor| {
            let fingerprint: Fingerprint = anchor.fingerprint();
            let short: String = fingerprint.to_string().chars().take(23).collect();
            format!("{} ({short}...)", anchor.subject())
        });
        shown.collect::<Vec<_>>().join(", ")
    }
}

impl From<Certificate> for TrustAnchors {
    fn from(certificate: Certificate) -> Self {
        Self::new(certificate)
    }
}
