//! Verifies a client's certificate on the accepting side. The client's host is not checked: only
//! its chain, usage and identity.

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use super::Judge;

/// Asks for a client certificate and judges what is presented.
#[derive(Debug)]
pub(crate) struct ClientVerifier {
    judge: Judge,
    mandatory: bool,
}

impl ClientVerifier {
    /// Refuses a client that has no certificate.
    pub(crate) fn demanding(judge: Judge) -> Self {
        Self { judge, mandatory: true }
    }

    /// Lets a client without a certificate in, anonymous. One that is presented is judged all the same.
    pub(crate) fn asking(judge: Judge) -> Self {
        Self { judge, mandatory: false }
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    /// None: with hints a client whose CA is not named sends no certificate at all, and the fault
    /// would say "no certificate" instead of "unknown issuer".
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.judge.judge(end_entity, intermediates, None, now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.judge.algorithms)
            .map_err(|error| Judge::refuse_signature(error, cert))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.judge.algorithms)
            .map_err(|error| Judge::refuse_signature(error, cert))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.judge.algorithms.supported_schemes()
    }
}
