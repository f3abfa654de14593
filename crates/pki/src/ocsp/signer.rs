//! Answering: who signs OCSP responses for an issuer, and what it signs.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use yasna::models::ObjectIdentifier;
use yasna::{DERWriter, Tag};

use super::cert_id::key_bits;
use super::{BASIC, CertId, IdHash, NONCE, OcspError, OcspRequest};
use crate::{Certificate, Eku, RevocationReason, SigningKey, asn1, sealing};

/// What is answered about a certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CertStatus {
    /// It was issued and is not revoked.
    Good,
    /// It is revoked.
    Revoked {
        /// Since when.
        at: Timestamp,
        /// Why.
        reason: RevocationReason,
    },
    /// This issuer never issued it, as far as the responder knows.
    Unknown,
}

/// The moments in an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AnswerTimes {
    /// When the answer is signed.
    pub produced_at: Timestamp,
    /// As of when it is known to be right.
    pub this_update: Timestamp,
    /// Until when it may be used: there is always an end (RFC 9919).
    pub next_update: Timestamp,
}

/// An answer without an answer (RFC 6960 section 2.3): nothing in it is signed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Refusal {
    /// The responder failed.
    InternalError,
    /// The request could not be read.
    MalformedRequest,
    /// The request must be signed.
    SigRequired,
    /// The responder is busy.
    TryLater,
    /// The responder does not answer for this issuer.
    Unauthorized,
}

impl Refusal {
    /// Every refusal.
    pub const ALL: [Self; 5] = [
        Self::InternalError,
        Self::MalformedRequest,
        Self::SigRequired,
        Self::TryLater,
        Self::Unauthorized,
    ];

    pub(super) fn code(self) -> u8 {
        match self {
            Self::InternalError => 2,
            Self::MalformedRequest => 1,
            Self::SigRequired => 5,
            Self::TryLater => 3,
            Self::Unauthorized => 6,
        }
    }

    /// The response in DER.
    pub fn to_der(self) -> Vec<u8> {
        yasna::construct_der(|writer| {
            writer.write_sequence(|writer| writer.next().write_enum(i64::from(self.code())));
        })
    }
}

impl From<&OcspError> for Refusal {
    /// What a client is told about a request that cannot be answered.
    fn from(error: &OcspError) -> Self {
        match error {
            OcspError::UnknownHash => Self::Unauthorized,
            OcspError::Signing(_) => Self::InternalError,
            _ => Self::MalformedRequest,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::InternalError => "it failed (internalError)",
            Self::MalformedRequest => "it could not read the request (malformedRequest)",
            Self::SigRequired => "it answers signed requests only (sigRequired)",
            Self::TryLater => "it is busy (tryLater)",
            Self::Unauthorized => "it does not answer for this issuer (unauthorized)",
        })
    }
}

/// A key that answers for one issuer. Cheap to clone.
#[derive(Clone)]
pub struct OcspSigner(Arc<Inner>);

struct Inner {
    issuer: Certificate,
    certificate: Certificate,
    key: SigningKey,
    key_hash: Vec<u8>,
}

impl OcspSigner {
    /// A responder that `issuer` appointed: `certificate` is signed by it, for OCSP signing, and belongs to
    /// `key`. `issuer` itself with its key does too.
    pub fn new(
        issuer: Certificate,
        certificate: Certificate,
        key: impl Into<SigningKey>,
    ) -> Result<Self, OcspError> {
        let key = key.into();
        let bad = |why| OcspError::BadSigner {
            subject: certificate.subject().to_owned(),
            issuer: issuer.subject().to_owned(),
            why,
        };
        if certificate.spki_der() != key.spki_der() {
            return Err(bad("its key is another one"));
        }
        if certificate != issuer {
            appointed(&certificate, &issuer).map_err(bad)?;
        }
        let key_hash = IdHash::Sha1.of(&key_bits(certificate.spki_der()));
        Ok(Self(Arc::new(Inner { issuer, certificate, key, key_hash })))
    }

    /// The issuer it answers for.
    pub fn issuer(&self) -> &Certificate {
        &self.0.issuer
    }

    /// The certificate it answers with.
    pub fn certificate(&self) -> &Certificate {
        &self.0.certificate
    }

    /// The signed answer to `request`, in DER. The caller knows that the request is about a certificate of
    /// [`OcspSigner::issuer`].
    pub fn answer(
        &self,
        request: &OcspRequest,
        status: CertStatus,
        times: AnswerTimes,
    ) -> Result<Vec<u8>, OcspError> {
        let Inner { issuer, certificate, key, key_hash } = &*self.0;
        let data = yasna::construct_der(|writer| {
            writer.write_sequence(|data| {
                data.next().write_tagged(Tag::context(2), |writer| writer.write_bytes(key_hash));
                asn1::write_generalized_time(data.next(), times.produced_at);
                data.next().write_sequence(|answers| {
                    write_single(answers.next(), &request.cert_id, status, times);
                });
                if let Some(nonce) = &request.nonce {
                    data.next().write_tagged(Tag::context(1), |writer| {
                        writer.write_sequence(|list| {
                            asn1::write_extension(list, NONCE, false, |w| w.write_bytes(nonce));
                        });
                    });
                }
            });
        });
        let basic = sealing::sealed(key, &data, |after| {
            if certificate != issuer {
                after.next().write_tagged(Tag::context(0), |writer| {
                    writer.write_sequence(|list| list.next().write_der(certificate.der()));
                });
            }
        })?;
        Ok(yasna::construct_der(|writer| {
            writer.write_sequence(|writer| {
                writer.next().write_enum(0);
                writer.next().write_tagged(Tag::context(0), |writer| {
                    writer.write_sequence(|writer| {
                        writer.next().write_oid(&ObjectIdentifier::from_slice(BASIC));
                        writer.next().write_bytes(&basic);
                    });
                });
            });
        }))
    }
}

impl fmt::Debug for OcspSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OcspSigner")
            .field("issuer", &self.0.issuer.subject())
            .field("certificate", &self.0.certificate)
            .finish_non_exhaustive()
    }
}

/// Whether `issuer` appointed `certificate` to answer for it (RFC 6960 section 4.2.2.2); what is missing
/// otherwise.
pub(super) fn appointed(
    certificate: &Certificate,
    issuer: &Certificate,
) -> Result<(), &'static str> {
    if !certificate.names_issuer(issuer) || certificate.verify_signed_by(issuer).is_err() {
        return Err("it was not issued by the same CA");
    }
    let usages = certificate.extended_key_usage().unwrap_or_default();
    if !usages.contains(&Eku::OcspSigning) {
        return Err("its extended key usage lacks OCSPSigning");
    }
    if certificate.key_usage().is_some_and(|usage| !usage.digital_signature()) {
        return Err("its key usage lacks digitalSignature");
    }
    Ok(())
}

fn write_single(writer: DERWriter<'_>, id: &CertId, status: CertStatus, times: AnswerTimes) {
    writer.write_sequence(|single| {
        id.write(single.next());
        match status {
            CertStatus::Good => {
                single.next().write_tagged_implicit(Tag::context(0), asn1::write_null);
            }
            CertStatus::Revoked { at, reason } => {
                single.next().write_tagged_implicit(Tag::context(1), |writer| {
                    writer.write_sequence(|info| {
                        asn1::write_generalized_time(info.next(), at);
                        if reason != RevocationReason::Unspecified {
                            info.next().write_tagged(Tag::context(0), |writer| {
                                writer.write_enum(i64::from(reason.code()));
                            });
                        }
                    });
                });
            }
            CertStatus::Unknown => {
                single.next().write_tagged_implicit(Tag::context(2), asn1::write_null);
            }
        }
        asn1::write_generalized_time(single.next(), times.this_update);
        single.next().write_tagged(Tag::context(0), |writer| {
            asn1::write_generalized_time(writer, times.next_update);
        });
    });
}
