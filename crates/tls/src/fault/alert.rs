//! Alerts from the other side (RFC 8446, section 6) as faults: the peer refused us, and this is
//! what its alert means for our certificate, trust or configuration.

use rustls::AlertDescription;

use super::attempt::Role;
use super::{Attempt, Fault, FaultCode, Side};

/// The fault for a fatal alert that the peer sent us.
pub(super) fn fault_of_alert(alert: AlertDescription, attempt: &Attempt) -> Fault {
    let (mut code, side, what) = meaning(alert, attempt.role);
    if code == FaultCode::AlpnMismatch && attempt.alpn.iter().any(|protocol| protocol == b"h2") {
        code = FaultCode::Http2Missing;
    }
    let fault = Fault::new(code, side, attempt.place())
        .saying(format!("the peer refused us: {what}"))
        .with("alert", alert_text(alert))
        .with("reported-by", "the peer");
    match code {
        FaultCode::AlpnMismatch | FaultCode::Http2Missing => {
            fault.with("offered", offered(attempt))
        }
        FaultCode::WrongName => match &attempt.expected_name {
            Some(name) => fault.with("expected-name", name),
            None => fault,
        },
        _ => fault,
    }
}

fn meaning(alert: AlertDescription, role: Role) -> (FaultCode, Side, &'static str) {
    use AlertDescription as A;
    match alert {
        A::CertificateRequired | A::NoCertificate => {
            (FaultCode::NoCertificate, Side::Ours, "it requires a certificate and we sent none")
        }
        A::UnknownCA => (
            FaultCode::UnknownIssuer,
            Side::Either,
            "it does not trust the CA that issued our certificate",
        ),
        A::CertificateExpired => (
            FaultCode::Expired,
            Side::Ours,
            "our certificate has expired or is not valid yet, by its clock",
        ),
        A::CertificateRevoked => (FaultCode::Revoked, Side::Ours, "our certificate is revoked"),
        A::UnsupportedCertificate => (
            FaultCode::WrongEku,
            Side::Ours,
            "our certificate may not be used for this side of a connection",
        ),
        A::BadCertificate if role == Role::Server => (
            FaultCode::WrongName,
            Side::Either,
            "our certificate does not fit what it dialled, or it cannot read it",
        ),
        A::DecryptError => (
            FaultCode::BadSignature,
            Side::Either,
            "a signature of ours does not verify: key and certificate differ, or the chain is broken",
        ),
        A::NoApplicationProtocol => (
            FaultCode::AlpnMismatch,
            Side::Either,
            "it speaks none of the application protocols that we offered",
        ),
        A::ProtocolVersion => (
            FaultCode::ProtocolMismatch,
            Side::Either,
            "it does not speak a TLS version that we allow",
        ),
        A::InsufficientSecurity | A::HandshakeFailure => (
            FaultCode::ProtocolMismatch,
            Side::Either,
            "no TLS version, algorithm or certificate in common",
        ),
        A::UnrecognisedName => (FaultCode::WrongName, Side::Ours, "it serves no such host name"),
        A::AccessDenied => {
            (FaultCode::WrongIdentity, Side::Ours, "our identity is not allowed there")
        }
        A::CertificateUnknown | A::BadCertificate | A::CertificateUnobtainable => {
            (FaultCode::RefusedByPeer, Side::Ours, "it does not accept our certificate")
        }
        A::UnexpectedMessage
        | A::IllegalParameter
        | A::DecodeError
        | A::BadRecordMac
        | A::RecordOverflow
        | A::MissingExtension
        | A::UnsupportedExtension => (
            FaultCode::ProtocolViolation,
            Side::Either,
            "it could not make sense of what it received",
        ),
        _ => (FaultCode::RefusedByPeer, Side::Either, "it ended the handshake"),
    }
}

pub(super) fn offered(attempt: &Attempt) -> String {
    if attempt.alpn.is_empty() {
        return "none".to_owned();
    }
    let names: Vec<String> =
        attempt.alpn.iter().map(|protocol| crate::session::protocol_text(protocol)).collect();
    names.join(", ")
}

/// The alert under its name of RFC 8446, section 6, with its number.
fn alert_text(alert: AlertDescription) -> String {
    use AlertDescription as A;
    let number = u8::from(alert);
    let name = match alert {
        A::CloseNotify => "close_notify",
        A::UnexpectedMessage => "unexpected_message",
        A::BadRecordMac => "bad_record_mac",
        A::RecordOverflow => "record_overflow",
        A::HandshakeFailure => "handshake_failure",
        A::NoCertificate => "no_certificate",
        A::BadCertificate => "bad_certificate",
        A::UnsupportedCertificate => "unsupported_certificate",
        A::CertificateRevoked => "certificate_revoked",
        A::CertificateExpired => "certificate_expired",
        A::CertificateUnknown => "certificate_unknown",
        A::IllegalParameter => "illegal_parameter",
        A::UnknownCA => "unknown_ca",
        A::AccessDenied => "access_denied",
        A::DecodeError => "decode_error",
        A::DecryptError => "decrypt_error",
        A::ProtocolVersion => "protocol_version",
        A::InsufficientSecurity => "insufficient_security",
        A::InternalError => "internal_error",
        A::InappropriateFallback => "inappropriate_fallback",
        A::UserCanceled => "user_canceled",
        A::MissingExtension => "missing_extension",
        A::UnsupportedExtension => "unsupported_extension",
        A::UnrecognisedName => "unrecognized_name",
        A::BadCertificateStatusResponse => "bad_certificate_status_response",
        A::UnknownPSKIdentity => "unknown_psk_identity",
        A::CertificateRequired => "certificate_required",
        A::NoApplicationProtocol => "no_application_protocol",
        _ => return format!("alert {number}"),
    };
    format!("{name} ({number})")
}
