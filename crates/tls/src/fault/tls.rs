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

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::sync::Arc;

    use jiff::Timestamp;
    use proptest::prelude::*;
    use rustls::pki_types::{CertificateDer, ServerName};
    use rustls::{ClientConnection, ServerConnection};

    use super::fault_of;
    use crate::fault::Attempt;
    use crate::first_bytes::sniff;
    use crate::options::ClientOptions;
    use crate::refusal::{Refusal, watched};
    use crate::unchecked::AcceptAnyServer;

    /// Whatever a peer sends becomes a fault that fits on one line, or is waited for.
    fn feed(bytes: &[u8], now: Timestamp) -> Result<(), TestCaseError> {
        let attempt = Attempt::server(now).with_first_bytes(sniff(bytes));
        let config =
            crate::config::dialler(Arc::new(AcceptAnyServer), None, &ClientOptions::default())
                .expect("config");
        let name = ServerName::try_from("localhost").expect("name");
        let mut client = ClientConnection::new(config, name).expect("connection");
        let mut server = ServerConnection::new(nameless_server()).expect("connection");
        client.read_tls(&mut Cursor::new(bytes)).expect("memory");
        server.read_tls(&mut Cursor::new(bytes)).expect("memory");
        let (results, refusal) =
            watched(|| [client.process_new_packets().err(), server.process_new_packets().err()]);
        prop_assert!(refusal.is_none());
        for error in results.into_iter().flatten() {
            let fault = fault_of(&error, &attempt, None);
            prop_assert_eq!(fault.one_line().lines().count(), 1);
            prop_assert!(!fault.remedy().is_empty());
        }
        Ok(())
    }

    /// A server that has no certificate: enough to parse what comes in.
    fn nameless_server() -> Arc<rustls::ServerConfig> {
        Arc::new(
            rustls::ServerConfig::builder_with_details(
                crate::provider(),
                crate::Clock::default().0,
            )
            .with_protocol_versions(crate::config::versions(crate::Floor::Tls12))
            .expect("versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(rustls::server::ResolvesServerCertUsingSni::new())),
        )
    }

    proptest! {
        #[test]
        fn any_bytes_from_a_peer_end_in_a_fault_or_in_waiting(
            bytes in proptest::collection::vec(any::<u8>(), 0..400),
        ) {
            feed(&bytes, Timestamp::UNIX_EPOCH)?;
        }

        #[test]
        fn so_does_anything_that_looks_like_a_record(
            kind in 0x14u8..0x19,
            minor in 0u8..5,
            message in any::<u8>(),
            body in proptest::collection::vec(any::<u8>(), 1..200),
        ) {
            let length = u16::try_from(body.len() + 4).expect("small").to_be_bytes();
            let mut record = vec![kind, 3, minor, length[0], length[1], message, 0, 0];
            record.push(u8::try_from(body.len()).expect("small"));
            record.extend(body);
            feed(&record, Timestamp::UNIX_EPOCH)?;
        }

        #[test]
        fn any_certificate_error_with_any_chain_is_explained(
            chain in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..20),
            name in proptest::collection::vec(any::<char>(), 0..80),
            kind in 0usize..9,
        ) {
            use rustls::CertificateError as E;
            let reasons = [
                E::BadEncoding, E::BadSignature, E::Expired, E::InvalidPurpose, E::NotValidForName,
                E::NotValidYet, E::Revoked, E::UnhandledCriticalExtension, E::UnknownIssuer,
            ];
            let error = rustls::Error::from(reasons[kind].clone());
            let chain: Vec<CertificateDer<'_>> = chain.into_iter().map(Into::into).collect();
            let attempt = Attempt::client(String::from_iter(name), Timestamp::UNIX_EPOCH);
            let fault = fault_of(&error, &attempt, Some(&chain));
            prop_assert!(!fault.one_line().chars().any(char::is_control));
            prop_assert!(Refusal::in_error(&error).is_none());
        }
    }
}
