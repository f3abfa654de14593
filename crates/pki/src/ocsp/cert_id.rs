//! How OCSP names a certificate: by hashes of its issuer's name and key, and its serial number.

use std::fmt;

use aws_lc_rs::digest;
use x509_parser::prelude::FromDer;
use x509_parser::x509::SubjectPublicKeyInfo;
use yasna::DERWriter;
use yasna::models::ObjectIdentifier;

use super::OcspError;
use crate::asn1::{self, Element};
use crate::{Certificate, Serial};

/// The hash in a [`CertId`].
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum IdHash {
    /// SHA-1: what most clients send. It names here, it protects nothing.
    Sha1,
    /// SHA-256: what RFC 9919 recommends.
    #[default]
    Sha256,
}

impl IdHash {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Sha1, Self::Sha256];

    fn oid(self) -> &'static [u64] {
        match self {
            Self::Sha1 => &[1, 3, 14, 3, 2, 26],
            Self::Sha256 => &[2, 16, 840, 1, 101, 3, 4, 2, 1],
        }
    }

    pub(super) fn of(self, content: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &digest::SHA256,
        };
        digest::digest(algorithm, content).as_ref().to_vec()
    }
}

/// One certificate, named as OCSP does (RFC 6960 section 4.1.1).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct CertId {
    hash: IdHash,
    issuer_name_hash: Vec<u8>,
    issuer_key_hash: Vec<u8>,
    serial: Serial,
    /// As it came, to be repeated in the answer octet for octet.
    der: Vec<u8>,
}

impl CertId {
    /// Names the certificate of this serial number that `issuer` issued.
    pub fn new(hash: IdHash, issuer: &Certificate, serial: &Serial) -> Self {
        let issuer_name_hash = hash.of(issuer.subject_raw());
        let issuer_key_hash = hash.of(&key_bits(issuer.spki_der()));
        let der = yasna::construct_der(|writer| {
            writer.write_sequence(|writer| {
                writer.next().write_sequence(|algorithm| {
                    algorithm.next().write_oid(&ObjectIdentifier::from_slice(hash.oid()));
                    algorithm.next().write_null();
                });
                writer.next().write_bytes(&issuer_name_hash);
                writer.next().write_bytes(&issuer_key_hash);
                writer.next().write_bigint_bytes(serial.as_bytes(), true);
            });
        });
        Self { hash, issuer_name_hash, issuer_key_hash, serial: serial.clone(), der }
    }

    /// The hash used.
    pub fn hash(&self) -> IdHash {
        self.hash
    }

    /// The serial number asked about.
    pub fn serial(&self) -> &Serial {
        &self.serial
    }

    /// The hashes of the issuer's name and key: equal for every certificate of one issuer.
    pub fn issuer_hashes(&self) -> (&[u8], &[u8]) {
        (&self.issuer_name_hash, &self.issuer_key_hash)
    }

    /// Whether `issuer` is the issuer meant.
    pub fn is_of(&self, issuer: &Certificate) -> bool {
        let same_name = self.issuer_name_hash == self.hash.of(issuer.subject_raw());
        same_name && self.issuer_key_hash == self.hash.of(&key_bits(issuer.spki_der()))
    }

    /// Whether both name the same certificate, however encoded.
    pub fn same_as(&self, other: &Self) -> bool {
        (self.hash, self.issuer_hashes(), &self.serial)
            == (other.hash, other.issuer_hashes(), &other.serial)
    }

    pub(super) fn read(element: &Element<'_>) -> Result<Self, OcspError> {
        let malformed = || OcspError::Malformed { what: "a certificate's name" };
        let mut fields = element.fields().ok_or_else(malformed)?;
        let (Some(algorithm), Some(name), Some(key), Some(serial), true) = (
            fields.take(asn1::SEQUENCE),
            fields.take(asn1::OCTET_STRING),
            fields.take(asn1::OCTET_STRING),
            fields.take(asn1::INTEGER),
            fields.at_end(),
        ) else {
            return Err(malformed());
        };
        if serial.content.is_empty() || serial.content.len() > Serial::MAX_OCTETS + 1 {
            return Err(malformed());
        }
        let mut algorithm = algorithm.fields().ok_or_else(malformed)?;
        let oid = algorithm.take(asn1::OBJECT_IDENTIFIER).ok_or_else(malformed)?;
        let hash = IdHash::ALL
            .into_iter()
            .find(|hash| {
                let known = ObjectIdentifier::from_slice(hash.oid());
                yasna::construct_der(|writer| writer.write_oid(&known)) == oid.raw
            })
            .ok_or(OcspError::UnknownHash)?;
        Ok(Self {
            hash,
            issuer_name_hash: name.content.to_vec(),
            issuer_key_hash: key.content.to_vec(),
            serial: Serial::from_der_integer(serial.content),
            der: element.raw.to_vec(),
        })
    }

    pub(super) fn write(&self, writer: DERWriter<'_>) {
        writer.write_der(&self.der);
    }
}

impl fmt::Display for CertId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "serial {}", self.serial)
    }
}

/// The content of the bit string in a SubjectPublicKeyInfo: what OCSP hashes of a key.
pub(super) fn key_bits(spki: &[u8]) -> Vec<u8> {
    SubjectPublicKeyInfo::from_der(spki)
        .map(|(_, parsed)| parsed.subject_public_key.data.to_vec())
        .unwrap_or_default()
}
