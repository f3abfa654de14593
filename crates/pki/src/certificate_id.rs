//! What a certificate is known by when it is revoked: the key that signed it, and its serial number.
//!
//! Never a hash of the certificate: an ECDSA signature can be changed into another valid one by
//! whoever has seen it, and with it the hash of what it signs. What was signed stays the same.

use std::fmt;

use crate::path::Path;
use crate::{Certificate, Chain, ChainError, Fingerprint, Serial, TrustAnchors};

/// A certificate by its issuer's key and its serial number.
///
/// Names of issuers repeat when a CA is made anew; keys do not. A CA certificate that was renewed with
/// the same key goes on standing for the same issuer.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CertificateId {
    /// SHA-256 of the issuer's SubjectPublicKeyInfo (DER).
    pub issuer_key_id: [u8; 32],
    /// The serial number.
    pub serial: Serial,
}

impl CertificateId {
    /// A certificate, and the certificate of what signed it.
    pub fn of(certificate: &Certificate, issuer: &Certificate) -> Self {
        Self { issuer_key_id: issuer.key_id(), serial: certificate.serial().clone() }
    }

    /// The issuer's key in hex.
    pub fn issuer_hex(&self) -> String {
        self.issuer_key_id.iter().fold(String::with_capacity(64), |mut hex, octet| {
            // Writing to a string cannot fail.
            let _ = fmt::Write::write_fmt(&mut hex, format_args!("{octet:02x}"));
            hex
        })
    }
}

impl fmt::Display for CertificateId {
    /// `issuer/serial`, both in hex.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.issuer_hex(), self.serial)
    }
}

impl Certificate {
    /// SHA-256 of the DER SubjectPublicKeyInfo: by what this certificate is known as an issuer.
    pub fn key_id(&self) -> [u8; 32] {
        Fingerprint::of(self.spki_der()).0
    }
}

impl Chain {
    /// The certificates on the way from the leaf to the anchor, leaf first and without the anchor: all
    /// that can be revoked. Certificates that were sent along and are not on the way are not among
    /// them. Dates are not looked at.
    ///
    /// # Errors
    /// If no way leads from the leaf to one of `anchors`.
    pub fn certificate_ids(
        &self,
        anchors: &TrustAnchors,
    ) -> Result<Vec<CertificateId>, ChainError> {
        let path = Path::find(self, anchors)?;
        Ok(path.certificates().windows(2).map(|pair| CertificateId::of(pair[0], pair[1])).collect())
    }
}
