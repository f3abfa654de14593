//! OCSP responses (RFC 6960 section 4.2) as a client reads them.

use jiff::Timestamp;
use x509_parser::prelude::FromDer;
use x509_parser::x509::AlgorithmIdentifier;

use super::cert_id::key_bits;
use super::request::read_nonce;
use super::signer::appointed;
use super::{BASIC, CertId, CertStatus, IdHash, OcspError, OcspRequest, Refusal};
use crate::asn1::{self, Element, Fields};
use crate::{Certificate, RevocationReason, SignatureAlgorithm, signature};

/// A response that holds answers. Nothing in it is trusted before [`OcspResponse::verify`].
#[derive(Clone, Debug)]
pub struct OcspResponse {
    signed: Vec<u8>,
    algorithm: SignatureAlgorithm,
    signature: Vec<u8>,
    responder: Responder,
    produced_at: Timestamp,
    answers: Vec<SingleAnswer>,
    nonce: Option<Vec<u8>>,
    certificates: Vec<Certificate>,
}

/// What a response says of one certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SingleAnswer {
    /// The certificate.
    pub cert_id: CertId,
    /// Its status.
    pub status: CertStatus,
    /// As of when.
    pub this_update: Timestamp,
    /// Until when the answer may be used; `None` if the responder does not say.
    pub next_update: Option<Timestamp>,
}

/// Who claims to have signed.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Responder {
    /// SHA-1 of its key.
    Key(Vec<u8>),
    /// Its name, in DER.
    Name(Vec<u8>),
}

/// How far the clocks of responder and client may differ.
const CLOCK_CUSHION_SECONDS: i64 = 300;

impl OcspResponse {
    /// The largest response read, in octets.
    pub const MAX_DER: usize = 256 * 1024;

    /// The most answers, and the most certificates, read of one response.
    const MAX_PARTS: usize = 64;

    /// Reads a DER response. One without an answer is [`OcspError::Refused`].
    pub fn from_der(der: &[u8]) -> Result<Self, OcspError> {
        if der.len() > Self::MAX_DER {
            return Err(OcspError::TooLarge { octets: der.len(), limit: Self::MAX_DER });
        }
        let malformed = || OcspError::Malformed { what: "the response's frame" };
        let outer = Fields::only(der).filter(|outer| outer.tag() == asn1::SEQUENCE);
        let mut fields = outer.and_then(|outer| outer.fields()).ok_or_else(malformed)?;
        let code = fields.take(asn1::ENUMERATED).and_then(|c| c.small()).ok_or_else(malformed)?;
        if code != 0 {
            let status = Refusal::ALL.into_iter().find(|refusal| refusal.code() == code);
            return Err(status.map_or_else(malformed, |status| OcspError::Refused { status }));
        }
        let wrapped = fields.take(asn1::context(0)).ok_or_else(malformed)?;
        let bytes = Fields::only(wrapped.content).and_then(|b| b.fields());
        let mut bytes = bytes.filter(|_| fields.at_end()).ok_or_else(malformed)?;
        let kind = bytes.take(asn1::OBJECT_IDENTIFIER).ok_or_else(malformed)?;
        let basic = yasna::models::ObjectIdentifier::from_slice(BASIC);
        if kind.raw != yasna::construct_der(|writer| writer.write_oid(&basic)) {
            return Err(OcspError::Malformed { what: "a response of another kind than basic" });
        }
        let content = bytes.take(asn1::OCTET_STRING).filter(|_| bytes.at_end());
        Self::read_basic(content.ok_or_else(malformed)?.content)
    }

    fn read_basic(der: &[u8]) -> Result<Self, OcspError> {
        let malformed = || OcspError::Malformed { what: "the signed response" };
        let outer = Fields::only(der).filter(|outer| outer.tag() == asn1::SEQUENCE);
        let mut fields = outer.and_then(|outer| outer.fields()).ok_or_else(malformed)?;
        let data = fields.take(asn1::SEQUENCE).ok_or_else(malformed)?;
        let algorithm = fields.take(asn1::SEQUENCE).ok_or_else(malformed)?;
        let bits = fields.take(asn1::BIT_STRING).ok_or_else(malformed)?;
        let certificates = fields.optional(asn1::context(0)).ok_or_else(malformed)?;
        let Some((0, signature)) = bits.content.split_first() else { return Err(malformed()) };
        if !fields.at_end() {
            return Err(malformed());
        }
        let (_, algorithm) =
            AlgorithmIdentifier::from_der(algorithm.raw).map_err(|_| malformed())?;

        let mut fields = data.fields().ok_or_else(malformed)?;
        let version = fields.optional(asn1::context(0)).ok_or_else(malformed)?;
        if version.is_some_and(|version| version.content != [asn1::INTEGER, 1, 0]) {
            return Err(OcspError::Malformed { what: "a version other than 1" });
        }
        let responder = read_responder(&fields.next().ok_or_else(malformed)?)?;
        let produced_at = fields.next().and_then(|time| time.time()).ok_or_else(malformed)?;
        let answers = fields.take(asn1::SEQUENCE).ok_or_else(malformed)?;
        let extensions = fields.optional(asn1::context(1)).ok_or_else(malformed)?;
        if !fields.at_end() {
            return Err(malformed());
        }
        let nonce = match extensions {
            Some(extensions) => read_nonce(&extensions)?,
            None => None,
        };
        Ok(Self {
            signed: data.raw.to_vec(),
            algorithm: SignatureAlgorithm::from_identifier(&algorithm),
            signature: signature.to_vec(),
            responder,
            produced_at,
            answers: parts(&answers)?.iter().map(read_answer).collect::<Result<_, _>>()?,
            nonce,
            certificates: match certificates {
                Some(wrapped) => {
                    let list = Fields::only(wrapped.content).ok_or_else(malformed)?;
                    let read = |part: &Element<'_>| Certificate::from_der(part.raw);
                    let read: Result<_, _> = parts(&list)?.iter().map(read).collect();
                    read.map_err(|_| OcspError::Malformed { what: "a certificate in it" })?
                }
                None => Vec::new(),
            },
        })
    }

    /// When the response was signed, by its own word.
    pub fn produced_at(&self) -> Timestamp {
        self.produced_at
    }

    /// What it says, of whichever certificates.
    pub fn answers(&self) -> &[SingleAnswer] {
        &self.answers
    }

    /// The nonce it repeats.
    pub fn nonce(&self) -> Option<&[u8]> {
        self.nonce.as_deref()
    }

    /// The answer to `request` about a certificate of `issuer`, if the response can be trusted for it at `now`:
    /// signed by the issuer or by whom it appointed, of this time, with the nonce that was sent. An answer
    /// without an end is trusted for as long as the clocks may differ.
    pub fn verify(
        &self,
        request: &OcspRequest,
        issuer: &Certificate,
        now: Timestamp,
    ) -> Result<&SingleAnswer, OcspError> {
        let signer = self.signer(issuer, now)?;
        signature::verify(signer.spki_der(), &self.algorithm, &self.signed, &self.signature)
            .map_err(|source| OcspError::Signature { source })?;
        if request.nonce.is_some() && request.nonce != self.nonce {
            return Err(OcspError::WrongNonce);
        }
        let asked = &request.cert_id;
        let answer = self.answers.iter().find(|answer| answer.cert_id.same_as(asked));
        let answer = answer
            .filter(|answer| answer.cert_id.is_of(issuer))
            .ok_or_else(|| OcspError::NotAnswered { serial: asked.serial().clone() })?;
        let cushion = jiff::SignedDuration::from_secs(CLOCK_CUSHION_SECONDS);
        let SingleAnswer { this_update, next_update, .. } = *answer;
        if this_update.checked_sub(cushion).is_ok_and(|earliest| now < earliest) {
            return Err(OcspError::NotYetValid { this_update, now });
        }
        let next_update =
            next_update.or_else(|| this_update.checked_add(cushion).ok()).unwrap_or(this_update);
        if now > next_update {
            return Err(OcspError::Stale { next_update, now });
        }
        Ok(answer)
    }

    /// Who signed: the issuer, or a certificate sent along that the issuer appointed.
    fn signer<'a>(
        &'a self,
        issuer: &'a Certificate,
        now: Timestamp,
    ) -> Result<&'a Certificate, OcspError> {
        if self.responder.is(issuer) {
            return Ok(issuer);
        }
        let unknown = |why| OcspError::UnknownSigner { why };
        let certificate = self
            .certificates
            .iter()
            .find(|certificate| self.responder.is(certificate))
            .ok_or(unknown("the signer's certificate was not sent along"))?;
        appointed(certificate, issuer).map_err(unknown)?;
        if now < certificate.not_before() || now > certificate.not_after() {
            return Err(unknown("its certificate is not valid now"));
        }
        Ok(certificate)
    }
}

impl Responder {
    fn is(&self, certificate: &Certificate) -> bool {
        match self {
            Self::Key(hash) => *hash == IdHash::Sha1.of(&key_bits(certificate.spki_der())),
            Self::Name(name) => name == certificate.subject_raw(),
        }
    }
}

fn read_responder(element: &Element<'_>) -> Result<Responder, OcspError> {
    let malformed = || OcspError::Malformed { what: "the responder's name" };
    let inner = Fields::only(element.content).ok_or_else(malformed)?;
    match (element.tag(), inner.tag()) {
        (tag, asn1::SEQUENCE) if tag == asn1::context(1) => Ok(Responder::Name(inner.raw.to_vec())),
        (tag, asn1::OCTET_STRING) if tag == asn1::context(2) => {
            Ok(Responder::Key(inner.content.to_vec()))
        }
        _ => Err(malformed()),
    }
}

fn parts<'a>(list: &Element<'a>) -> Result<Vec<Element<'a>>, OcspError> {
    let malformed = || OcspError::Malformed { what: "a list in it" };
    let mut fields =
        list.fields().filter(|_| list.tag() == asn1::SEQUENCE).ok_or_else(malformed)?;
    let mut parts = Vec::new();
    while !fields.at_end() {
        parts.push(fields.take(asn1::SEQUENCE).ok_or_else(malformed)?);
        if parts.len() > OcspResponse::MAX_PARTS {
            return Err(OcspError::Malformed { what: "over 64 answers or certificates" });
        }
    }
    Ok(parts)
}

fn read_answer(element: &Element<'_>) -> Result<SingleAnswer, OcspError> {
    let malformed = || OcspError::Malformed { what: "an answer" };
    let mut fields = element.fields().ok_or_else(malformed)?;
    let cert_id = CertId::read(&fields.take(asn1::SEQUENCE).ok_or_else(malformed)?)?;
    let status = read_status(&fields.next().ok_or_else(malformed)?).ok_or_else(malformed)?;
    let this_update = fields.next().and_then(|time| time.time()).ok_or_else(malformed)?;
    let next_update = match fields.optional(asn1::context(0)).ok_or_else(malformed)? {
        Some(wrapped) => {
            Some(Fields::only(wrapped.content).and_then(|time| time.time()).ok_or_else(malformed)?)
        }
        None => None,
    };
    let extensions = fields.optional(asn1::context(1)).ok_or_else(malformed)?;
    if !fields.at_end() {
        return Err(malformed());
    }
    if let Some(extensions) = extensions {
        read_nonce(&extensions)?;
    }
    Ok(SingleAnswer { cert_id, status, this_update, next_update })
}

fn read_status(element: &Element<'_>) -> Option<CertStatus> {
    match element.tag() {
        tag if tag == asn1::context_primitive(0) => Some(CertStatus::Good),
        tag if tag == asn1::context_primitive(2) => Some(CertStatus::Unknown),
        tag if tag == asn1::context(1) => {
            let mut fields = element.fields()?;
            let at = fields.next()?.time()?;
            let reason = match fields.optional(asn1::context(0))? {
                Some(wrapped) => {
                    let code = Fields::only(wrapped.content)?.small()?;
                    RevocationReason::from_code(code).unwrap_or_default()
                }
                None => RevocationReason::Unspecified,
            };
            fields.at_end().then_some(CertStatus::Revoked { at, reason })
        }
        _ => None,
    }
}
