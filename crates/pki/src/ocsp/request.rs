//! OCSP requests (RFC 6960 section 4.1): of others, by POST or in a URL, and our own.

use base64ct::{Base64, Base64Unpadded, Encoding};
use yasna::Tag;

use super::{CertId, NONCE, OcspError};
use crate::asn1::{self, Fields};

/// A request about one certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OcspRequest {
    /// The certificate asked about.
    pub cert_id: CertId,
    /// To be repeated in the answer: 1 to 128 octets (RFC 9654).
    pub nonce: Option<Vec<u8>>,
}

impl OcspRequest {
    /// The largest request read, in octets. One certificate with a nonce takes 250; a signature and a chain,
    /// which some clients send, a few thousand.
    pub const MAX_DER: usize = 8 * 1024;

    /// The longest nonce, in octets (RFC 9654 section 2.1).
    pub const MAX_NONCE: usize = 128;

    /// Reads a DER request. Signatures of requesters are passed over: who may ask is anybody.
    pub fn from_der(der: &[u8]) -> Result<Self, OcspError> {
        if der.len() > Self::MAX_DER {
            return Err(OcspError::TooLarge { octets: der.len(), limit: Self::MAX_DER });
        }
        let malformed = || OcspError::Malformed { what: "the request's frame" };
        let outer = Fields::only(der).filter(|outer| outer.tag() == asn1::SEQUENCE);
        let mut fields = outer.and_then(|outer| outer.fields()).ok_or_else(malformed)?;
        let tbs = fields.take(asn1::SEQUENCE).ok_or_else(malformed)?;
        let _signature = fields.optional(asn1::context(0)).ok_or_else(malformed)?;
        if !fields.at_end() {
            return Err(malformed());
        }
        let mut fields = tbs.fields().ok_or_else(malformed)?;
        let version = fields.optional(asn1::context(0)).ok_or_else(malformed)?;
        if version.is_some_and(|version| version.content != [asn1::INTEGER, 1, 0]) {
            return Err(OcspError::Malformed { what: "a version other than 1" });
        }
        let _requestor = fields.optional(asn1::context(1)).ok_or_else(malformed)?;
        let list = fields.take(asn1::SEQUENCE).ok_or_else(malformed)?;
        let extensions = fields.optional(asn1::context(2)).ok_or_else(malformed)?;
        if !fields.at_end() {
            return Err(malformed());
        }
        let nonce = match extensions {
            Some(extensions) => read_nonce(&extensions)?,
            None => None,
        };
        Ok(Self { cert_id: only_certificate(&list)?, nonce })
    }

    /// Reads what follows the responder's path in the URL of a GET: base64, with `/`, `+` and `=` as they are
    /// or percent-encoded, and with or without padding.
    pub fn from_url_path(path: &str) -> Result<Self, OcspError> {
        // Four characters to three octets, each written as three at worst.
        if path.len() > Self::MAX_DER * 4 {
            return Err(OcspError::TooLarge { octets: path.len(), limit: Self::MAX_DER * 4 });
        }
        let text = percent_decoded(path).ok_or(OcspError::Base64)?;
        let text = text.trim_end_matches('=');
        let der = Base64Unpadded::decode_vec(text).map_err(|_| OcspError::Base64)?;
        Self::from_der(&der)
    }

    /// The request in DER.
    pub fn to_der(&self) -> Vec<u8> {
        yasna::construct_der(|writer| {
            writer.write_sequence(|writer| {
                writer.next().write_sequence(|tbs| {
                    tbs.next().write_sequence(|list| {
                        list.next().write_sequence(|request| self.cert_id.write(request.next()));
                    });
                    if let Some(nonce) = &self.nonce {
                        tbs.next().write_tagged(Tag::context(2), |writer| {
                            writer.write_sequence(|list| {
                                asn1::write_extension(list, NONCE, false, |writer| {
                                    writer.write_bytes(nonce);
                                });
                            });
                        });
                    }
                });
            });
        })
    }

    /// The request as it follows the responder's URL in a GET: base64, with what URLs do not take
    /// percent-encoded (RFC 6960 appendix A.1).
    pub fn to_url_path(&self) -> String {
        Base64::encode_string(&self.to_der())
            .replace('+', "%2B")
            .replace('/', "%2F")
            .replace('=', "%3D")
    }
}

/// The one certificate in a request list.
fn only_certificate(list: &asn1::Element<'_>) -> Result<CertId, OcspError> {
    let malformed = || OcspError::Malformed { what: "the list of certificates" };
    let mut fields = list.fields().ok_or_else(malformed)?;
    let request = fields.take(asn1::SEQUENCE).ok_or_else(malformed)?;
    let mut count = 1;
    while !fields.at_end() {
        fields.take(asn1::SEQUENCE).ok_or_else(malformed)?;
        count += 1;
    }
    if count > 1 {
        return Err(OcspError::Several { count });
    }
    let mut fields = request.fields().ok_or_else(malformed)?;
    let name = fields.take(asn1::SEQUENCE).ok_or_else(malformed)?;
    let extensions = fields.optional(asn1::context(0)).ok_or_else(malformed)?;
    if !fields.at_end() {
        return Err(malformed());
    }
    if let Some(extensions) = extensions {
        // serviceLocator and others: nothing to act on, unless it must be.
        read_nonce(&extensions)?;
    }
    CertId::read(&name)
}

/// The nonce among extensions; refuses critical ones that are not understood.
pub(super) fn read_nonce(wrapped: &asn1::Element<'_>) -> Result<Option<Vec<u8>>, OcspError> {
    let malformed = || OcspError::Malformed { what: "its extensions" };
    let list = Fields::only(wrapped.content).ok_or_else(malformed)?;
    let mut found = None;
    for extension in asn1::extensions(&list).ok_or_else(malformed)? {
        let oid = extension.oid.to_id_string();
        if oid != "1.3.6.1.5.5.7.48.1.2" {
            if extension.critical {
                return Err(OcspError::UnknownCriticalExtension { extension: oid });
            }
            continue;
        }
        let nonce = Fields::only(extension.value)
            .filter(|nonce| nonce.tag() == asn1::OCTET_STRING)
            .ok_or(OcspError::Malformed { what: "its nonce" })?;
        let octets = nonce.content.len();
        if !(1..=OcspRequest::MAX_NONCE).contains(&octets) {
            return Err(OcspError::Nonce { octets });
        }
        if found.replace(nonce.content.to_vec()).is_some() {
            return Err(OcspError::Malformed { what: "two nonces" });
        }
    }
    Ok(found)
}

fn percent_decoded(path: &str) -> Option<String> {
    let mut text = String::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(octet) = rest.next() {
        let octet = if octet == b'%' {
            let mut digit = || char::from(rest.next()?).to_digit(16);
            let (high, low) = (digit()?, digit()?);
            u8::try_from(high << 4 | low).ok()?
        } else {
            octet
        };
        text.push(char::from(octet));
    }
    Some(text)
}
