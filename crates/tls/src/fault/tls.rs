//! Errors of rustls as faults. Certificate errors are explained by `diagnosis`, alerts by `alert`;
//! here is the rest of the protocol, and the order in which explanations are tried.

use rustls::pki_types::CertificateDer;
use rustls::{ContentType, Error, HandshakeType, InvalidMessage, PeerIncompatible};

use super::alert::{fault_of_alert, offered};
use super::attempt::Role;
use super::{Attempt, Fault, FaultCode, Side};
use crate::diagnosis::diagnose;
use crate::first_bytes::FirstBytes;
use crate::refusal::Refusal;
use crate::session::protocol_text;

/// The fault for an error of rustls.
///
/// `presented` is the peer's chain, leaf first, if the caller has it. It is not needed for
/// refusals by this crate's own verifiers: those carry their evidence
/// (see [`watched`](crate::watched)).
pub fn fault_of(
    error: &Error,
    attempt: &Attempt,
    presented: Option<&[CertificateDer<'_>]>,
) -> Fault {
    if let Some(refusal) = Refusal::in_error(error) {
        return fault_of_refusal(refusal, attempt).caused_by(error.clone());
    }
    let fault = match error {
        Error::AlertReceived(alert) => fault_of_alert(*alert, attempt),
        Error::InvalidCertificate(reason) => {
            let refusal = diagnose(
                reason,
                presented.unwrap_or_default(),
                None,
                attempt.expected_name.as_deref(),
                attempt.now,
            );
            return fault_of_refusal(&refusal, attempt).caused_by(error.clone());
        }
        other => with_peer(fault_of_protocol(other, attempt), attempt),
    };
    fault.caused_by(error.clone())
}

fn fault_of_refusal(refusal: &Refusal, attempt: &Attempt) -> Fault {
    let fault = Fault::new(refusal.code, refusal.side, attempt.place()).saying(&refusal.what);
    let fault = refusal.evidence.iter().fold(fault, |fault, (key, value)| fault.with(key, value));
    with_peer(fault, attempt)
}

fn with_peer(fault: Fault, attempt: &Attempt) -> Fault {
    match attempt.peer_addr {
        Some(addr) => fault.with("peer-address", addr.to_string()),
        None => fault,
    }
}

/// The fault for a missing or wrong application protocol after a handshake that succeeded.
pub(crate) fn alpn_fault(wanted: &[u8], negotiated: Option<&[u8]>, attempt: &Attempt) -> Fault {
    let code = if wanted == b"h2" { FaultCode::Http2Missing } else { FaultCode::AlpnMismatch };
    let fault = Fault::new(code, Side::Either, attempt.place())
        .with("expected-protocol", protocol_text(wanted))
        .with("negotiated-protocol", negotiated.map_or_else(|| "none".to_owned(), protocol_text));
    with_peer(fault, attempt)
}

fn fault_of_protocol(error: &Error, attempt: &Attempt) -> Fault {
    match error {
        Error::NoCertificatesPresented => {
            let what = match attempt.role {
                Role::Client => "the server presented no certificate",
                Role::Server => "the client presented no certificate, and one is required here",
            };
            Fault::new(FaultCode::NoCertificate, Side::Peer, attempt.place()).saying(what)
        }
        Error::NoApplicationProtocol => {
            let wants_h2 = attempt.alpn.iter().any(|protocol| protocol == b"h2");
            let code = if wants_h2 { FaultCode::Http2Missing } else { FaultCode::AlpnMismatch };
            Fault::new(code, Side::Either, attempt.place())
                .saying("the peer offers none of the application protocols spoken here")
                .with("spoken-here", offered(attempt))
        }
        Error::PeerIncompatible(reason) => incompatible(reason, attempt),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => not_tls(attempt),
        Error::InvalidMessage(InvalidMessage::UnknownProtocolVersion)
            if attempt.first_bytes.is_some_and(FirstBytes::is_plaintext) =>
        {
            not_tls(attempt)
        }
        // A plaintext echo or line server hands our own ClientHello back.
        Error::InappropriateHandshakeMessage { got_type: HandshakeType::ClientHello, .. }
            if attempt.role == Role::Client =>
        {
            not_tls(attempt).with("received", "our own ClientHello, echoed")
        }
        Error::InconsistentKeys(_) => {
            Fault::new(FaultCode::KeyMismatch, Side::Ours, attempt.place())
        }
        Error::DecryptError => {
            Fault::new(FaultCode::ProtocolViolation, Side::Either, attempt.place())
                .saying("a record could not be decrypted; it was changed on the way")
        }
        Error::InappropriateMessage { got_type: ContentType::ApplicationData, .. } => {
            violation(error, attempt).saying("the peer sent data before the handshake was complete")
        }
        Error::InvalidMessage(_)
        | Error::PeerMisbehaved(_)
        | Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. }
        | Error::PeerSentOversizedRecord => violation(error, attempt),
        other => Fault::new(FaultCode::HandshakeFailed, Side::Either, attempt.place())
            .with("reason", other.to_string()),
    }
}

fn violation(error: &Error, attempt: &Attempt) -> Fault {
    let fault = Fault::new(FaultCode::ProtocolViolation, Side::Peer, attempt.place())
        .with("reason", error.to_string());
    match attempt.first_bytes {
        Some(first) => fault.with("first-bytes", first.as_str()),
        None => fault,
    }
}

/// The other end does not speak TLS at all: which code depends on who spoke first.
fn not_tls(attempt: &Attempt) -> Fault {
    let spoken = attempt.first_bytes.unwrap_or(FirstBytes::Unknown);
    let (code, side, what) = match attempt.role {
        Role::Client => (
            FaultCode::TlsToPlaintext,
            Side::Either,
            format!("the port answered our TLS hello with {spoken}"),
        ),
        Role::Server => (
            FaultCode::PlaintextToTls,
            Side::Peer,
            format!("the client spoke {spoken} to a port that speaks TLS"),
        ),
    };
    Fault::new(code, side, attempt.place()).saying(what).with("first-bytes", spoken.as_str())
}

fn incompatible(reason: &PeerIncompatible, attempt: &Attempt) -> Fault {
    use PeerIncompatible as P;
    let fault = |code, what: &str| {
        Fault::new(code, Side::Either, attempt.place())
            .saying(what)
            .with("reason", format!("{reason:?}"))
    };
    match reason {
        P::ServerTlsVersionIsDisabledByOurConfig | P::SupportedVersionsExtensionRequired => fault(
            FaultCode::ProtocolMismatch,
            "the peer speaks only a TLS version that is older than what is allowed here",
        ),
        P::NoCipherSuitesInCommon => {
            fault(FaultCode::ProtocolMismatch, "no cipher suite in common")
        }
        P::NoKxGroupsInCommon | P::NamedGroupsExtensionRequired | P::KeyShareExtensionRequired => {
            fault(FaultCode::ProtocolMismatch, "no key exchange group in common")
        }
        P::NoSignatureSchemesInCommon | P::NoCertificateRequestSignatureSchemesInCommon => fault(
            FaultCode::UnsupportedAlgorithm,
            "the peer accepts no signature that a key in use here can make",
        ),
        _ => fault(FaultCode::ProtocolMismatch, "the peer lacks a TLS feature that is needed"),
    }
}
