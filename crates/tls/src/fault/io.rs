//! Socket errors around a handshake as faults: refused, reset, cut short, too slow, port in use.

use std::io::{Error, ErrorKind};
use std::time::Duration;

use super::attempt::Role;
use super::{Attempt, Fault, FaultCode, Side, fault_of};
use crate::first_bytes::FirstBytes;

/// The fault for an I/O error of a connection attempt. An error that wraps one of rustls (as
/// tokio-rustls makes them) is explained as [`fault_of`] does.
pub fn fault_of_io(error: &Error, attempt: &Attempt) -> Fault {
    if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return fault_of(tls, attempt, None);
    }
    let at = |code, side| Fault::new(code, side, attempt.place());
    let fault = match error.kind() {
        ErrorKind::TimedOut | ErrorKind::WouldBlock => at(FaultCode::TimedOut, Side::Either),
        ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe
        | ErrorKind::NotConnected
        | ErrorKind::UnexpectedEof => cut(error, attempt),
        ErrorKind::ConnectionRefused
        | ErrorKind::HostUnreachable
        | ErrorKind::NetworkUnreachable
        | ErrorKind::NetworkDown => at(FaultCode::Unreachable, Side::Either),
        ErrorKind::AddrInUse => at(FaultCode::PortInUse, Side::Ours),
        ErrorKind::AddrNotAvailable => at(FaultCode::Unreachable, Side::Ours)
            .saying("the address does not belong to this machine"),
        ErrorKind::PermissionDenied => at(FaultCode::PermissionDenied, Side::Ours),
        _ if is_lookup_failure(error) => at(FaultCode::HostNotFound, Side::Ours),
        _ => at(FaultCode::HandshakeFailed, Side::Either),
    };
    with_circumstances(fault.with("reason", error.to_string()), attempt)
        .caused_by(Error::new(error.kind(), error.to_string()))
}

/// The fault for a handshake that was given up after `limit`.
pub fn timed_out(limit: Duration, attempt: &Attempt) -> Fault {
    if attempt.first_bytes.is_some_and(FirstBytes::is_plaintext) {
        // Too few bytes for a record to be refused, but enough to know what they are.
        let error = rustls::Error::from(rustls::InvalidMessage::InvalidContentType);
        return fault_of(&error, attempt, None).with("limit", format!("{limit:?}"));
    }
    let what = match (attempt.role, attempt.first_bytes) {
        (Role::Server, None | Some(FirstBytes::Empty)) => {
            "the client connected and sent no TLS hello in time"
        }
        (Role::Client, None | Some(FirstBytes::Empty)) => {
            "the server did not complete the handshake in time"
        }
        _ => "the handshake did not complete in time",
    };
    let fault = Fault::new(FaultCode::TimedOut, Side::Either, attempt.place())
        .saying(what)
        .with("limit", format!("{limit:?}"));
    with_circumstances(fault, attempt)
}

fn cut(error: &Error, attempt: &Attempt) -> Fault {
    let how = if error.kind() == ErrorKind::UnexpectedEof { "closed" } else { "reset" };
    Fault::new(FaultCode::ConnectionReset, Side::Either, attempt.place())
        .saying(format!("the connection was {how} by the other side during the handshake"))
}

fn with_circumstances(fault: Fault, attempt: &Attempt) -> Fault {
    let fault = match attempt.first_bytes {
        Some(first) if first != FirstBytes::Empty => fault.with("first-bytes", first.as_str()),
        _ => fault,
    };
    match attempt.peer_addr {
        Some(addr) => fault.with("peer-address", addr.to_string()),
        None => fault,
    }
}

/// The standard library gives resolver failures no kind of their own, only this text.
fn is_lookup_failure(error: &Error) -> bool {
    error.raw_os_error().is_none() && error.to_string().contains("failed to lookup address")
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::{fault_of_io, timed_out};
    use crate::fault::{Attempt, FaultCode};

    #[test]
    fn socket_errors_have_codes() {
        let attempt = Attempt::client("west.example", Timestamp::UNIX_EPOCH);
        for (kind, code) in [
            (ErrorKind::AddrInUse, FaultCode::PortInUse),
            (ErrorKind::ConnectionRefused, FaultCode::Unreachable),
            (ErrorKind::ConnectionReset, FaultCode::ConnectionReset),
            (ErrorKind::PermissionDenied, FaultCode::PermissionDenied),
            (ErrorKind::TimedOut, FaultCode::TimedOut),
            (ErrorKind::UnexpectedEof, FaultCode::ConnectionReset),
        ] {
            assert_eq!(fault_of_io(&Error::from(kind), &attempt).code(), code, "{kind:?}");
        }
        let lookup =
            Error::other("failed to lookup address information: Name or service not known");
        assert_eq!(fault_of_io(&lookup, &attempt).code(), FaultCode::HostNotFound);
        let limit = std::time::Duration::from_secs(5);
        assert_eq!(timed_out(limit, &attempt).evidence_of("limit"), Some("5s"));
    }

    #[test]
    fn an_error_of_rustls_inside_is_found() {
        let inner = rustls::Error::NoCertificatesPresented;
        let error = Error::new(ErrorKind::InvalidData, inner);
        let fault = fault_of_io(&error, &Attempt::server(Timestamp::UNIX_EPOCH));
        assert_eq!(fault.code(), FaultCode::NoCertificate);
    }

    proptest! {
        #[test]
        fn any_text_becomes_a_fault(text in proptest::collection::vec(any::<char>(), 0..80)) {
            let error = Error::other(String::from_iter(text));
            let fault = fault_of_io(&error, &Attempt::server(Timestamp::UNIX_EPOCH));
            prop_assert!(!fault.one_line().contains('\n'));
        }
    }
}
