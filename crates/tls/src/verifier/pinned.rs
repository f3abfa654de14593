//! Verifies a server by the fingerprint of its leaf and nothing else: no chain, no name, no dates. The signature of the
//! handshake is verified with the leaf's key, so that a copy of the certificate is worth nothing without it.
//!
//! webpki does not read certificates of X.509 v1, which is what pins are for; the key is taken out by our own parser.

use handfast_pki::{Certificate, Fingerprint};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};

use super::Judge;
use crate::diagnosis::describe;
use crate::fault::{FaultCode, Side};
use crate::identity::IdentityRule;
use crate::refusal::{Refusal, refuse};

/// Accepts the leaves that are named, and no other.
#[derive(Debug)]
pub(crate) struct PinnedVerifier {
    pins: Vec<Fingerprint>,
    rule: IdentityRule,
    algorithms: WebPkiSupportedAlgorithms,
}

impl PinnedVerifier {
    pub(crate) fn new(pins: Vec<Fingerprint>, rule: IdentityRule) -> Self {
        let algorithms = crate::provider().signature_verification_algorithms;
        Self { pins, rule, algorithms }
    }
}

impl ServerCertVerifier for PinnedVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let presented = Fingerprint::of(end_entity);
        let leaf = Certificate::from_der(end_entity.to_vec());
        if !self.pins.contains(&presented) {
            let pins: Vec<String> = self.pins.iter().map(ToString::to_string).collect();
            let refusal = Refusal::new(
                FaultCode::PinMismatch,
                Side::Peer,
                "the server's certificate is not the one that is pinned",
            )
            .with("presented-fingerprint", presented.to_string())
            .with("pinned", pins.join(", "));
            let refusal = match &leaf {
                Ok(leaf) => describe(refusal, leaf),
                Err(_) => refusal,
            };
            return Err(refuse(refusal, CertificateError::ApplicationVerificationFailure.into()));
        }
        let leaf = leaf.map_err(|_| CertificateError::BadEncoding)?;
        self.rule.admit(&leaf).map_err(|refusal| {
            let native = CertificateError::ApplicationVerificationFailure;
            refuse(describe(refusal, &leaf), native.into())
        })?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = public_key(cert)?;
        let key = webpki::RawPublicKeyEntity::try_from(&key)
            .map_err(|_| Error::from(CertificateError::BadEncoding))?;
        // A scheme of TLS 1.2 says nothing of the curve: each of its algorithms is tried.
        let mapping = self.algorithms.mapping.iter();
        let candidates = mapping.filter(|(scheme, _)| *scheme == dss.scheme);
        let verified = candidates
            .flat_map(|(_, algorithms)| algorithms.iter())
            .any(|algorithm| key.verify_signature(*algorithm, message, dss.signature()).is_ok());
        if verified {
            return Ok(HandshakeSignatureValid::assertion());
        }
        Err(Judge::refuse_signature(CertificateError::BadSignature.into(), cert))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = public_key(cert)?;
        rustls::crypto::verify_tls13_signature_with_raw_key(message, &key, dss, &self.algorithms)
            .map_err(|error| Judge::refuse_signature(error, cert))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn public_key(cert: &CertificateDer<'_>) -> Result<SubjectPublicKeyInfoDer<'static>, Error> {
    let leaf = Certificate::from_der(cert.to_vec()).map_err(|_| CertificateError::BadEncoding)?;
    Ok(SubjectPublicKeyInfoDer::from(leaf.spki_der().to_vec()))
}
