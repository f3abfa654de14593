//! Certificates as values. Reading is tolerant: whatever can be decoded is a value, so that
//! [`crate::lint`] can say what is wrong with it; whether it is *acceptable* is the question of
//! [`crate::verify_chain`].

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey as ParsedKey;
use x509_parser::time::ASN1Time;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::asn1::{self, Fields};
use crate::extension::{Defect, Extensions};
use crate::public_key::{EC_PUBLIC_KEY, algorithm_name, curve_name, modulus_bits};
use crate::{
    Eku, Fingerprint, KeyUsage, PublicKey, PublicKeyError, Serial, SignatureAlgorithm,
    SignatureError, SpiffeError, SpiffeId, distinguished_name, pem, signature,
};

/// An X.509 certificate. Cheap to clone; equal if its DER is equal.
#[derive(Clone)]
pub struct Certificate(Arc<Inner>);

struct Inner {
    der: Vec<u8>,
    /// The part of `der` that is signed.
    signed: Vec<u8>,
    signature: Vec<u8>,
    signature_algorithm: SignatureAlgorithm,
    version: u32,
    serial: Serial,
    subject: String,
    subject_raw: Vec<u8>,
    common_names: Vec<String>,
    issuer: String,
    issuer_raw: Vec<u8>,
    not_before: Timestamp,
    not_after: Timestamp,
    spki: Vec<u8>,
    key_text: String,
    extensions: Extensions,
}

impl Certificate {
    /// The largest certificate read, in octets.
    pub const MAX_DER: usize = 64 * 1024;

    /// Reads a DER certificate of any X.509 version.
    pub fn from_der(der: impl Into<Vec<u8>>) -> Result<Self, CertificateError> {
        let der = der.into();
        if der.len() > Self::MAX_DER {
            return Err(CertificateError::TooLarge { octets: der.len() });
        }
        if let Some((rest, inner)) = Inner::read(&der) {
            if rest != 0 {
                return Err(CertificateError::TrailingData { octets: rest });
            }
            return Ok(Self(Arc::new(inner)));
        }
        Err(CertificateError::Malformed)
    }

    /// The DER encoding.
    pub fn der(&self) -> &[u8] {
        &self.0.der
    }

    /// The certificate as one PEM section.
    pub fn to_pem(&self) -> String {
        pem::encode("CERTIFICATE", &self.0.der).to_string()
    }

    /// The certificate as rustls wants it.
    pub fn to_pki_types(&self) -> CertificateDer<'static> {
        CertificateDer::from(self.0.der.clone())
    }

    /// The X.509 version: 1, 2 or 3 (or what else the certificate claims).
    pub fn version(&self) -> u32 {
        self.0.version
    }

    /// The serial number.
    pub fn serial(&self) -> &Serial {
        &self.0.serial
    }

    /// The subject as RFC 4514 text.
    pub fn subject(&self) -> &str {
        &self.0.subject
    }

    /// The issuer as RFC 4514 text.
    pub fn issuer(&self) -> &str {
        &self.0.issuer
    }

    /// The last (most specific) common name of the subject.
    pub fn common_name(&self) -> Option<&str> {
        self.0.common_names.last().map(String::as_str)
    }

    /// From when the certificate is valid.
    pub fn not_before(&self) -> Timestamp {
        self.0.not_before
    }

    /// The last second in which the certificate is valid. "No expiry" (the year 9999) shows as the
    /// last moment [`Timestamp`] can hold.
    pub fn not_after(&self) -> Timestamp {
        self.0.not_after
    }

    /// Whether basic constraints say that this is a CA.
    pub fn is_ca(&self) -> bool {
        self.0.extensions.basic_constraints.is_some_and(|constraints| constraints.ca)
    }

    /// Whether, once it is a trust anchor, it stands for the certificates that it signed. One of
    /// version 3 must say that it is a CA, must not deny that it signs, and must demand nothing that
    /// is not understood here; else it stands for itself only, as a self-signed certificate that is
    /// trusted by name does. One before version 3 cannot say any of it, and is taken as configured.
    pub fn may_vouch(&self) -> bool {
        let signs = self.key_usage().is_none_or(KeyUsage::key_cert_sign);
        let defects = &self.0.extensions.defects;
        let understood = !defects.iter().any(|defect| matches!(defect, Defect::UnknownCritical(_)));
        self.version() != 3 || self.is_ca() && signs && understood
    }

    /// The path length constraint of a CA.
    pub fn path_len(&self) -> Option<u32> {
        self.0.extensions.basic_constraints.and_then(|constraints| constraints.path_len)
    }

    /// Key usage, if stated.
    pub fn key_usage(&self) -> Option<KeyUsage> {
        self.0.extensions.key_usage.map(|(usage, _)| usage)
    }

    /// Extended key usages, if stated.
    pub fn extended_key_usage(&self) -> Option<Vec<Eku>> {
        self.0.extensions.extended_key_usage.clone()
    }

    /// DNS subject alternative names, as they stand.
    pub fn dns_names(&self) -> &[String] {
        &self.0.extensions.dns_names
    }

    /// IP subject alternative names.
    pub fn ip_addresses(&self) -> &[IpAddr] {
        &self.0.extensions.ip_addresses
    }

    /// URI subject alternative names, as they stand.
    pub fn uris(&self) -> &[String] {
        &self.0.extensions.uris
    }

    /// The SPIFFE ID: `None` without a URI name or with one of another scheme; an error with two
    /// URI names, or one that looks like a SPIFFE ID and is none (X509-SVID section 2).
    pub fn spiffe_id(&self) -> Result<Option<SpiffeId>, IdentityError> {
        match self.uris() {
            [uri] if is_spiffe(uri) => {
                uri.parse().map(Some).map_err(|source| IdentityError::Malformed { source })
            }
            [] | [_] => Ok(None),
            several => Err(IdentityError::SeveralUris { uris: several.to_vec() }),
        }
    }

    /// The subject key identifier.
    pub fn subject_key_id(&self) -> Option<&[u8]> {
        self.0.extensions.subject_key_id.as_deref()
    }

    /// The key identifier in the authority key identifier.
    pub fn authority_key_id(&self) -> Option<&[u8]> {
        self.0.extensions.authority_key_id.as_deref()
    }

    /// How the certificate is signed.
    pub fn signature_algorithm(&self) -> &SignatureAlgorithm {
        &self.0.signature_algorithm
    }

    /// What the subject's key is, for people: `ECDSA P-256`, `RSA 2048 bits`.
    pub fn key_algorithm(&self) -> &str {
        &self.0.key_text
    }

    /// SHA-256 of the DER.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.0.der)
    }

    /// The subject's public key as a DER SubjectPublicKeyInfo.
    pub fn spki_der(&self) -> &[u8] {
        &self.0.spki
    }

    /// The content of the AlgorithmIdentifier in the subject's public key: algorithm and parameters,
    /// as `rustls_pki_types::AlgorithmIdentifier` has them. Empty if it cannot be found.
    pub fn key_algorithm_id(&self) -> &[u8] {
        let find = || Fields::only(&self.0.spki)?.fields()?.take(asn1::SEQUENCE);
        find().map_or(&[], |algorithm| algorithm.content)
    }

    /// The size of the subject's RSA key, if it is one.
    pub fn rsa_bits(&self) -> Option<usize> {
        let (_, key) = SubjectPublicKeyInfo::from_der(&self.0.spki).ok()?;
        match key.parsed() {
            Ok(ParsedKey::RSA(rsa)) => Some(modulus_bits(rsa.modulus)),
            _ => None,
        }
    }

    /// The subject's public key, if it is of an algorithm we use.
    pub fn public_key(&self) -> Result<PublicKey, PublicKeyError> {
        PublicKey::from_spki(&self.0.spki)
    }

    /// Whether subject and issuer are the same name.
    pub fn is_self_issued(&self) -> bool {
        self.0.subject_raw == self.0.issuer_raw
    }

    /// Whether the certificate is signed with its own key under its own name.
    pub fn is_self_signed(&self) -> bool {
        self.is_self_issued() && self.verify_signed_by(self).is_ok()
    }

    /// Whether `issuer` bears the name this certificate names as its issuer, octet for octet.
    pub fn names_issuer(&self, issuer: &Self) -> bool {
        self.0.issuer_raw == issuer.0.subject_raw
    }

    /// Checks the signature against the public key of `issuer`; nothing else (not names, not time,
    /// not whether `issuer` may sign).
    pub fn verify_signed_by(&self, issuer: &Self) -> Result<(), SignatureError> {
        let Inner { signed, signature, signature_algorithm, .. } = &*self.0;
        signature::verify(&issuer.0.spki, signature_algorithm, signed, signature)
    }

    /// Where the CRL of the issuer is to be had: the URLs of the CRL distribution points.
    pub fn crl_urls(&self) -> &[String] {
        &self.0.extensions.crl_urls
    }

    /// Where the deltas to that CRL are to be had.
    pub fn freshest_crl_urls(&self) -> &[String] {
        &self.0.extensions.freshest_urls
    }

    /// Where the issuer's OCSP responder answers.
    pub fn ocsp_urls(&self) -> &[String] {
        &self.0.extensions.ocsp_urls
    }

    /// Where the issuer's own certificate is to be had.
    pub fn issuer_urls(&self) -> &[String] {
        &self.0.extensions.issuer_urls
    }

    /// The subject in DER: what an issuer's CRLs and certificates repeat.
    pub(crate) fn subject_raw(&self) -> &[u8] {
        &self.0.subject_raw
    }

    pub(crate) fn extensions(&self) -> &Extensions {
        &self.0.extensions
    }
}

impl Inner {
    /// The certificate and how many octets follow it.
    fn read(der: &[u8]) -> Option<(usize, Self)> {
        let (rest, parsed) = X509Certificate::from_der(der).ok()?;
        // The algorithm outside the signature must repeat the one inside (RFC 5280 section 4.1.1.2).
        let strict = parsed.signature_algorithm == parsed.tbs_certificate.signature
            && signature::is_envelope(parsed.as_raw());
        if !strict {
            return None;
        }
        let inner = Self {
            der: der.to_vec(),
            signed: parsed.tbs_certificate.as_ref().to_vec(),
            signature: parsed.signature_value.data.to_vec(),
            signature_algorithm: SignatureAlgorithm::from_identifier(&parsed.signature_algorithm),
            version: parsed.version().0.saturating_add(1),
            serial: Serial::from_der_integer(parsed.raw_serial()),
            subject: distinguished_name::text(parsed.subject()),
            subject_raw: parsed.subject().as_raw().to_vec(),
            common_names: distinguished_name::common_names(parsed.subject()),
            issuer: distinguished_name::text(parsed.issuer()),
            issuer_raw: parsed.issuer().as_raw().to_vec(),
            not_before: timestamp(parsed.validity().not_before),
            not_after: timestamp(parsed.validity().not_after),
            spki: parsed.public_key().raw.to_vec(),
            key_text: key_text(parsed.public_key()),
            extensions: Extensions::of(&parsed),
        };
        Some((rest.len(), inner))
    }
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.0.der == other.0.der
    }
}

impl Eq for Certificate {}

impl Hash for Certificate {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.der.hash(state);
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("subject", &self.0.subject)
            .field("issuer", &self.0.issuer)
            .field("serial", &format_args!("{}", self.0.serial))
            .field("not_after", &format_args!("{}", self.0.not_after))
            .finish_non_exhaustive()
    }
}

/// RFC 5280 knows the year 9999, one day more than [`Timestamp`].
fn timestamp(time: ASN1Time) -> Timestamp {
    let seconds = time.timestamp();
    Timestamp::from_second(seconds).unwrap_or(if seconds < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}

/// Whether a URI claims to be a SPIFFE ID, in whatever case.
fn is_spiffe(uri: &str) -> bool {
    uri.split_once(':').is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("spiffe"))
}

fn key_text(key: &SubjectPublicKeyInfo<'_>) -> String {
    let oid = key.algorithm.algorithm.to_id_string();
    if oid == EC_PUBLIC_KEY {
        let curve = key
            .algorithm
            .parameters
            .as_ref()
            .and_then(|parameters| parameters.as_oid().ok().map(|oid| oid.to_id_string()));
        return curve_name(curve.as_deref());
    }
    match key.parsed() {
        Ok(ParsedKey::RSA(rsa)) => format!("RSA {} bits", modulus_bits(rsa.modulus)),
        _ => algorithm_name(&oid),
    }
}

/// Why bytes are no certificate.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// Not X.509, or damaged.
    #[error("the certificate is malformed: it is not X.509 DER, or it was damaged in copying")]
    Malformed,
    /// Over [`Certificate::MAX_DER`].
    #[error("{octets} octets are too many for a certificate: 64 KiB at most")]
    TooLarge {
        /// Size of the input.
        octets: usize,
    },
    /// Something follows the certificate.
    #[error("{octets} octets follow the certificate: remove them")]
    TrailingData {
        /// How many.
        octets: usize,
    },
}

/// Why a certificate's identity cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// A URI name that claims to be a SPIFFE ID.
    #[error("the certificate's identity is malformed: {source}")]
    Malformed {
        /// What is wrong with it.
        source: SpiffeError,
    },
    /// More than one URI name: which of them is the identity is anybody's guess.
    #[error(
        "the certificate has {} URI names ({}) where exactly one may stand: re-issue it with its SPIFFE ID only",
        uris.len(),
        uris.join(", ")
    )]
    SeveralUris {
        /// All of them.
        uris: Vec<String>,
    },
}
