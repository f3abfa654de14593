//! Our certificate verifiers. Path building, signatures, validity, usage and names are webpki's;
//! added here are the identity rule inside the handshake, the validity of trust anchors, a bound
//! on the chain, and a reason that survives until it can be shown.
//!
//! They judge by the anchors that they are given, never look at a common name to decide anything, and take
//! identity from the leaf only: the certificate whose key rustls then demands a signature of.

mod client;
mod pinned;
mod remembered;
mod server;

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use handfast_pki::{Certificate, CertificateId, Fingerprint, KeyUsage, Serial, TrustAnchors};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use rustls::{CertificateError, ExtendedKeyPurpose, OtherError, RootCertStore};

pub(crate) use self::client::ClientVerifier;
pub(crate) use self::pinned::PinnedVerifier;
use self::remembered::Remembering;
pub(crate) use self::server::ServerVerifier;
use crate::diagnosis::{describe, diagnose};
use crate::fault::{Fault, FaultCode, Side};
use crate::identity::IdentityRule;
use crate::options::{timestamp, unix_time};
use crate::refusal::{Refusal, refuse};
use crate::revocation::{RevocationCheck, Revoked, Unknown};

/// Most certificates that a peer may present, its leaf included. webpki itself builds no path
/// longer than six; a few extra are tolerated, a flood is not even parsed.
pub const MAX_PRESENTED: usize = 10;

/// Bits of the shortest RSA key that a peer may have: no scheme of ours verifies with a shorter one.
const MIN_RSA_BITS: usize = 2048;

/// Which side of a connection a certificate is judged for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Usage {
    Client,
    Server,
}

impl Usage {
    pub(crate) fn eku_name(self) -> &'static str {
        match self {
            Self::Client => "clientAuth",
            Self::Server => "serverAuth",
        }
    }
}

/// The configured anchors and what else a peer has to satisfy.
pub(crate) struct Judge {
    anchors: TrustAnchors,
    roots: Vec<TrustAnchor<'static>>,
    rule: IdentityRule,
    usage: Usage,
    revocation: RevocationCheck,
    algorithms: WebPkiSupportedAlgorithms,
    /// The same, for signatures on certificates.
    remembering: Remembering,
}

/// Why a path that is sound otherwise is not taken.
enum Rejection {
    Revoked(Revoked),
    Unknown(Unknown),
}

/// Why no path was taken: webpki's reason, or ours.
enum NoPath {
    Native(CertificateError),
    Rejected(Rejection),
}

impl Judge {
    /// # Errors
    /// A fault if a trust anchor cannot be used as one.
    pub(crate) fn new(
        anchors: &TrustAnchors,
        rule: IdentityRule,
        usage: Usage,
        revocation: RevocationCheck,
    ) -> Result<Self, Fault> {
        let mut store = RootCertStore::empty();
        for anchor in anchors.iter() {
            store.add(CertificateDer::from(anchor.der().to_vec())).map_err(|error| {
                Fault::new(FaultCode::MalformedCertificate, Side::Ours, "trust anchors")
                    .saying("a trusted CA certificate cannot be used")
                    .with("subject", anchor.subject())
                    .with("reason", error.to_string())
                    .caused_by(error)
            })?;
        }
        let algorithms = crate::provider().signature_verification_algorithms;
        Ok(Self {
            anchors: anchors.clone(),
            roots: store.roots,
            rule,
            usage,
            revocation,
            algorithms,
            remembering: Remembering::new(algorithms.all),
        })
    }

    /// The whole judgement on a presented chain.
    pub(crate) fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        name: Option<&ServerName<'_>>,
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let refused = |reason: CertificateError| self.refuse_chain(reason, leaf, rest, name, now);
        if rest.len() >= MAX_PRESENTED {
            let refusal = Refusal::new(
                FaultCode::ChainTooLong,
                Side::Peer,
                format!("the peer presented {} certificates", rest.len() + 1),
            )
            .with("limit", MAX_PRESENTED.to_string());
            return Err(refuse(refusal, CertificateError::BadEncoding.into()));
        }
        self.verify_path(leaf, rest, name, now).map_err(|reason| match reason {
            NoPath::Native(reason) => refused(reason),
            NoPath::Rejected(rejection) => refuse_rejected(&rejection, leaf),
        })?;
        let parsed = Certificate::from_der(leaf.to_vec())
            .map_err(|_| refused(CertificateError::BadEncoding))?;
        self.check_key(&parsed)?;
        if self.rule.demands_identity() {
            check_leaf_of_identity(&parsed)?;
            if parsed.extended_key_usage().is_none() {
                return Err(refused(CertificateError::InvalidPurpose));
            }
        }
        self.rule.admit(&parsed).map_err(|refusal| {
            let native = match refusal.code {
                FaultCode::TwoUriSans | FaultCode::NoIdentity => CertificateError::BadEncoding,
                _ => CertificateError::ApplicationVerificationFailure,
            };
            refuse(describe(refusal, &parsed), native.into())
        })
    }

    fn verify_path(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        name: Option<&ServerName<'_>>,
        now: UnixTime,
    ) -> Result<(), NoPath> {
        let parsed = webpki::EndEntityCert::try_from(leaf).map_err(native)?;
        let usage = match self.usage {
            Usage::Client => webpki::KeyUsage::client_auth(),
            Usage::Server => webpki::KeyUsage::server_auth(),
        };
        // Asked for every path that holds otherwise: while a CA is rolled over, another one may do.
        let rejected = RefCell::new(None);
        let acceptable = |path: &webpki::VerifiedPath<'_>| {
            let anchor = self.valid_anchor(path, now)?;
            check_signers(path)?;
            self.check_revocation(path, anchor, now).map_err(|rejection| {
                let error = match rejection {
                    Rejection::Revoked(_) => webpki::Error::CertRevoked,
                    Rejection::Unknown(_) => webpki::Error::UnknownRevocationStatus,
                };
                rejected.borrow_mut().get_or_insert(rejection);
                error
            })
        };
        let algorithms = self.remembering.all();
        parsed
            .verify_for_usage(&algorithms, &self.roots, rest, now, usage, None, Some(&acceptable))
            .map_err(|error| match (error, rejected.take()) {
                (
                    webpki::Error::CertRevoked | webpki::Error::UnknownRevocationStatus,
                    Some(rejection),
                ) => NoPath::Rejected(rejection),
                (error, _) => NoPath::Native(native(error)),
            })?;
        match name {
            Some(name) => Ok(parsed.verify_is_valid_for_subject_name(name).map_err(native)?),
            None => Ok(()),
        }
    }

    /// webpki takes an anchor as valid for ever, and as a CA whatever it says; RFC 5280 leaves both
    /// to us (section 6.1.1). A CA that was renewed with the same key is one anchor with several
    /// certificates: one is enough. What is no CA stands for itself only.
    fn valid_anchor(
        &self,
        path: &webpki::VerifiedPath<'_>,
        now: UnixTime,
    ) -> Result<&Certificate, webpki::Error> {
        let (used, leaf, at) = (path.anchor(), path.end_entity().der(), timestamp(now));
        let mut outcome = Err(webpki::Error::UnknownIssuer);
        for (anchor, root) in self.anchors.iter().zip(&self.roots) {
            if root.subject != used.subject
                || root.subject_public_key_info != used.subject_public_key_info
            {
                continue;
            }
            if !anchor.may_vouch() && anchor.der() != leaf.as_ref() {
                continue;
            }
            if at < anchor.not_before() {
                let not_before = unix_time(anchor.not_before());
                outcome = Err(webpki::Error::CertNotValidYet { time: now, not_before });
            } else if at > anchor.not_after() {
                let not_after = unix_time(anchor.not_after());
                outcome = Err(webpki::Error::CertExpired { time: now, not_after });
            } else {
                return Ok(anchor);
            }
        }
        outcome
    }

    /// The key that the peer would have to prove: refused before it comes to that if no signature by
    /// it is accepted, so that the reason is the key and not a signature that does not verify.
    fn check_key(&self, leaf: &Certificate) -> Result<(), rustls::Error> {
        let id = leaf.key_algorithm_id();
        let known = self.algorithms.all.iter().any(|one| one.public_key_alg_id().as_ref() == id);
        let short = leaf.rsa_bits().is_some_and(|bits| bits < MIN_RSA_BITS);
        if known && !short {
            return Ok(());
        }
        let refusal = Refusal::new(
            FaultCode::UnsupportedAlgorithm,
            Side::Peer,
            if short {
                "the RSA key of the peer's certificate is short enough to be broken"
            } else {
                "the key of the peer's certificate is of a kind that is not accepted"
            },
        )
        .with("presented-key", leaf.key_algorithm());
        let native = CertificateError::BadEncoding;
        Err(refuse(describe(refusal, leaf), native.into()))
    }

    /// The leaf and every intermediate, each by the key of the one above it.
    fn check_revocation(
        &self,
        path: &webpki::VerifiedPath<'_>,
        anchor: &Certificate,
        now: UnixTime,
    ) -> Result<(), Rejection> {
        let mut serials = vec![path.end_entity().serial()];
        let mut issuers = Vec::new();
        for ca in path.intermediate_certificates() {
            serials.push(ca.serial());
            issuers.push(Fingerprint::of(&ca.subject_public_key_info()).0);
        }
        issuers.push(anchor.key_id());
        let ids: Vec<CertificateId> = serials
            .into_iter()
            .zip(issuers)
            .map(|(serial, issuer_key_id)| CertificateId {
                issuer_key_id,
                serial: Serial::from_der_integer(serial),
            })
            .collect();
        let RevocationCheck { view, require } = &self.revocation;
        if let Some(revoked) = view.find_revoked(&ids) {
            return Err(Rejection::Revoked(revoked));
        }
        if !require {
            return Ok(());
        }
        let certificates = std::iter::once(path.end_entity().der())
            .chain(path.intermediate_certificates().map(webpki::Cert::der))
            .map_while(|der| Certificate::from_der(der.to_vec()).ok());
        let whole: Vec<(CertificateId, Certificate)> =
            ids.iter().cloned().zip(certificates).collect();
        // What we cannot read ourselves cannot be told either.
        let unknown = match ids.get(whole.len()) {
            Some(unread) => Some(Unknown::Missing(unread.clone())),
            None => view.find_unknown(&whole, timestamp(now)),
        };
        unknown.map_or(Ok(()), |unknown| Err(Rejection::Unknown(unknown)))
    }

    fn refuse_chain(
        &self,
        reason: CertificateError,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        name: Option<&ServerName<'_>>,
        now: UnixTime,
    ) -> rustls::Error {
        let chain: Vec<CertificateDer<'_>> =
            std::iter::once(leaf).chain(rest).take(MAX_PRESENTED).cloned().collect();
        let expected = name.map(|name| name.to_str().into_owned());
        let refusal = diagnose(
            &reason,
            &chain,
            Some((&self.anchors, self.usage)),
            expected.as_deref(),
            timestamp(now),
        );
        refuse(refusal, reason.into())
    }

    /// The peer's signature over the handshake does not verify: it does not hold the key.
    fn refuse_signature(error: rustls::Error, leaf: &CertificateDer<'_>) -> rustls::Error {
        if error != CertificateError::BadSignature.into() {
            return error;
        }
        let refusal = Refusal::new(
            FaultCode::KeyMismatch,
            Side::Peer,
            "the peer does not hold the private key of the certificate it presented",
        );
        let refusal = match Certificate::from_der(leaf.to_vec()) {
            Ok(leaf) => describe(refusal, &leaf),
            Err(_) => refusal,
        };
        refuse(refusal, error)
    }
}

impl From<CertificateError> for NoPath {
    fn from(reason: CertificateError) -> Self {
        Self::Native(reason)
    }
}

/// SPIFFE X509-SVID, section 5.2: who is somebody signs nobody else, not even on paper.
fn check_leaf_of_identity(leaf: &Certificate) -> Result<(), rustls::Error> {
    let Some(usage) = leaf.key_usage().filter(|usage| usage.key_cert_sign() || usage.crl_sign())
    else {
        return Ok(());
    };
    let refusal = Refusal::new(
        FaultCode::CaAsLeaf,
        Side::Peer,
        "the peer's certificate claims to sign certificates or revocation lists, as only a CA does",
    )
    .with("key-usage", usage.to_string());
    Err(refuse(describe(refusal, leaf), CertificateError::BadEncoding.into()))
}

/// A CA that was sent and states its key usage must be one that signs certificates: RFC 5280, section
/// 6.1.4 (n), which webpki leaves out.
fn check_signers(path: &webpki::VerifiedPath<'_>) -> Result<(), webpki::Error> {
    for ca in path.intermediate_certificates() {
        let ca = Certificate::from_der(ca.der().to_vec()).map_err(|_| webpki::Error::BadDer)?;
        if !ca.key_usage().is_none_or(KeyUsage::key_cert_sign) {
            return Err(webpki::Error::EndEntityUsedAsCa);
        }
    }
    Ok(())
}

fn refuse_rejected(rejection: &Rejection, leaf: &CertificateDer<'_>) -> rustls::Error {
    let (refusal, native) = match rejection {
        Rejection::Revoked(revoked) => (revoked.refusal(), CertificateError::Revoked.into()),
        Rejection::Unknown(unknown) => {
            let refusal = unknown.refusal();
            // rustls has a reason of this name, but answers it with the alert for an unknown CA.
            (refusal.clone(), refusal.into())
        }
    };
    let refusal = match Certificate::from_der(leaf.to_vec()) {
        Ok(leaf) => describe(refusal, &leaf),
        Err(_) => refusal,
    };
    refuse(refusal, native)
}

impl fmt::Debug for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Judge")
            .field("anchors", &self.roots.len())
            .field("rule", &self.rule)
            .field("usage", &self.usage)
            .finish_non_exhaustive()
    }
}

/// webpki's reason in the terms of rustls, which decide the alert. The same mapping as rustls
/// uses for its own verifier.
fn native(error: webpki::Error) -> CertificateError {
    use webpki::Error as W;
    match error {
        W::BadDer | W::BadDerTime | W::TrailingData(_) => CertificateError::BadEncoding,
        W::CertExpired { time, not_after } => CertificateError::ExpiredContext { time, not_after },
        W::CertNotValidForName(context) => CertificateError::NotValidForNameContext {
            expected: context.expected,
            presented: context.presented,
        },
        W::CertNotValidYet { time, not_before } => {
            CertificateError::NotValidYetContext { time, not_before }
        }
        W::CertRevoked => CertificateError::Revoked,
        W::InvalidCertValidity => CertificateError::Expired,
        W::InvalidSignatureForPublicKey => CertificateError::BadSignature,
        W::RequiredEkuNotFoundContext(context) => CertificateError::InvalidPurposeContext {
            required: purpose(context.required.oid_values().collect()),
            presented: context.present.into_iter().map(purpose).collect(),
        },
        W::UnknownIssuer => CertificateError::UnknownIssuer,
        W::UnsupportedSignatureAlgorithmContext(context) => {
            CertificateError::UnsupportedSignatureAlgorithmContext {
                signature_algorithm_id: context.signature_algorithm_id,
                supported_algorithms: context.supported_algorithms,
            }
        }
        W::UnsupportedSignatureAlgorithmForPublicKeyContext(context) => {
            CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
                signature_algorithm_id: context.signature_algorithm_id,
                public_key_algorithm_id: context.public_key_algorithm_id,
            }
        }
        other => CertificateError::Other(OtherError(Arc::new(other))),
    }
}

/// An extended key usage by its object identifier (RFC 5280, section 4.2.1.12).
fn purpose(oid: Vec<usize>) -> ExtendedKeyPurpose {
    match oid.as_slice() {
        [1, 3, 6, 1, 5, 5, 7, 3, 1] => ExtendedKeyPurpose::ServerAuth,
        [1, 3, 6, 1, 5, 5, 7, 3, 2] => ExtendedKeyPurpose::ClientAuth,
        _ => ExtendedKeyPurpose::Other(oid),
    }
}
