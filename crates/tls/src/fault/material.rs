//! Faults of our own material, found before it goes live: files that cannot be read, are not PEM,
//! do not fit together, or are not for the use they are put to. The codes are the same as for a
//! handshake that the same material would have failed.

use std::error::Error;
use std::io;
use std::path::Path;

use handfast_pki::{Certificate, CredentialError, Eku, Purpose};

use super::{Fault, FaultCode, Side};
use crate::diagnosis::usages;

/// The fault for a file of TLS material that could not be read.
pub fn fault_of_file(error: io::Error, path: &Path) -> Fault {
    let path = path.display().to_string();
    Fault::new(FaultCode::FileUnreadable, Side::Ours, path.clone())
        .with("file", &path)
        .with("reason", error.to_string())
        .remedied_by(format!(
            "check that the file exists and that the node's user may read it: `ls -l {path}`"
        ))
        .caused_by(error)
}

/// The fault for TLS material that was read but makes no credential; `place` names the file or the
/// credential.
pub fn fault_of_credential(error: CredentialError, place: &str) -> Fault {
    let code = match &error {
        CredentialError::KeyMismatch { .. } => FaultCode::KeyMismatch,
        CredentialError::PublicKey(_) => FaultCode::UnsupportedAlgorithm,
        other if is_about_a_certificate(other) => FaultCode::MalformedCertificate,
        _ => FaultCode::NotPem,
    };
    Fault::new(code, Side::Ours, place).saying(error.to_string()).caused_by(error)
}

/// Whether our own leaf can be presented at all for `purpose`; what needs no clock and no chain.
pub(crate) fn fault_of_own(leaf: &Certificate, purpose: Purpose, place: &str) -> Result<(), Fault> {
    let fault = |code, what: String| {
        Fault::new(code, Side::Ours, place)
            .saying(what)
            .with("subject", leaf.subject())
            .with("issuer", leaf.issuer())
    };
    if leaf.version() < 3 {
        let what = format!(
            "our certificate is X.509 v{}, which cannot say what it may be used for; peers refuse it",
            leaf.version()
        );
        return Err(fault(FaultCode::V1Certificate, what));
    }
    let wanted = match purpose {
        Purpose::Client => Eku::ClientAuth,
        Purpose::Server => Eku::ServerAuth,
        // Whoever presents a leaf never asks for this; a CA credential signs.
        Purpose::Ca => return Ok(()),
    };
    if leaf.is_ca() {
        let what =
            "our certificate is a CA certificate; peers refuse it as an end-entity".to_owned();
        return Err(fault(FaultCode::CaAsLeaf, what));
    }
    match leaf.extended_key_usage() {
        // No restriction (RFC 5280, section 4.2.1.12): supplied certificates may lack it.
        None => Ok(()),
        Some(usages_present) if usages_present.contains(&wanted) => Ok(()),
        Some(_) => {
            let present = usages(leaf);
            let what = format!("our certificate is for {present}, not for {wanted}");
            Err(fault(FaultCode::WrongEku, what)
                .with("required-usage", wanted.to_string())
                .with("presented-usage", present))
        }
    }
}

/// True if PEM was found and a certificate in it is at fault.
fn is_about_a_certificate(error: &CredentialError) -> bool {
    let mut source = error.source();
    while let Some(cause) = source {
        if cause.is::<handfast_pki::CertificateError>() {
            return true;
        }
        source = cause.source();
    }
    false
}
