//! Remedies are for those who run agents.

use super::*;

/// Faults of files, of our own ports, of dialling and of what is sent afterwards: no handshake at a port ends with them.
const NOT_AT_A_PORT: [FaultCode; 9] = [
    FaultCode::BadReport,
    FaultCode::FileUnreadable,
    FaultCode::HostNotFound,
    FaultCode::KeyMismatch,
    FaultCode::NotPem,
    FaultCode::PermissionDenied,
    FaultCode::PinMismatch,
    FaultCode::PortInUse,
    FaultCode::Unreachable,
];

/// Faults of files, of our own ports and of what is sent afterwards: no dialling ends with them.
const NOT_ON_THE_WAY: [FaultCode; 6] = [
    FaultCode::BadReport,
    FaultCode::FileUnreadable,
    FaultCode::KeyMismatch,
    FaultCode::NotPem,
    FaultCode::PermissionDenied,
    FaultCode::PortInUse,
];

/// What is said to those who link sites.
const OF_SITES: [&str; 8] = [
    "token redeem",
    "site create",
    "--site",
    "--link-host",
    "link status",
    "link certificate",
    "/healthz",
    "RouterAccess",
];

#[test]
fn every_fault_seen_at_a_port_has_a_remedy_that_names_no_command_of_sites() {
    for code in FaultCode::ALL {
        for side in [Side::Ours, Side::Peer, Side::Either] {
            let fault = at_port(Fault::new(*code, side, "collector, from 10.0.0.7:1"));
            let remedy = port_remedy(*code, side);
            assert_eq!(remedy.is_none(), NOT_AT_A_PORT.contains(code), "{code}");
            let Some(remedy) = remedy else { continue };
            assert_eq!(fault.remedy(), remedy);
            for words in OF_SITES {
                assert!(!remedy.contains(words), "{code}: {remedy}");
            }
        }
    }
}

#[test]
fn what_is_met_on_the_way_to_a_backend_names_no_command_of_sites() {
    for code in FaultCode::ALL.iter().filter(|code| !NOT_ON_THE_WAY.contains(code)) {
        for side in [Side::Ours, Side::Peer, Side::Either] {
            let fault = towards_backend(Fault::new(*code, side, "backend c:11800"));
            for words in OF_SITES {
                assert!(!fault.remedy().contains(words), "{code}: {}", fault.remedy());
            }
        }
    }
}

/// A name that leads nowhere is not found by looking whether somebody runs; and what a forwarder dials is an OAP or
/// whatever speaks OTLP, of which not every setting is one of ours.
#[test]
fn what_is_wrong_with_a_backend_is_told_of_the_backend() {
    for (code, words) in [
        (FaultCode::HostNotFound, &["`forward.backends`", "`backends` of the Relay", "getent"][..]),
        (FaultCode::Unreachable, &["the backend runs", "if it is a collector"]),
        (FaultCode::TlsToPlaintext, &["`forward.tls`", "an OAP"]),
        (FaultCode::UnknownIssuer, &["`forward.tls.tlsCredentials`", "`forward.tls.pin`"]),
        (FaultCode::WrongName, &["`forward.tls.serverName`"]),
        (FaultCode::AlpnMismatch, &["port for gRPC"]),
    ] {
        let fault = towards_backend(Fault::new(code, Side::Either, "backend oap:11800"));
        for word in words {
            assert!(fault.remedy().contains(word), "{code}: {word} in {}", fault.remedy());
        }
        let runs = fault.remedy().contains("runs");
        assert_eq!(runs, code == FaultCode::Unreachable, "{code}: {}", fault.remedy());
    }
}

#[test]
fn the_frequent_ones_name_what_helps() {
    for (code, words) in [
        (FaultCode::NoCertificate, &["relay", "client.pem", "agent-certs", "enrol"][..]),
        (FaultCode::UnknownIssuer, &["`trust` of the Collector", "this trust domain"]),
        (FaultCode::Expired, &["--keep", "agent-certs", "a relay renews by itself"]),
        (FaultCode::WrongName, &["`hosts` of the Collector"]),
        (FaultCode::PlaintextToTls, &["SW_AGENT_FORCE_TLS", "relay", "mode: permissive"]),
    ] {
        let remedy = port_remedy(code, Side::Peer).expect("a remedy");
        for word in words {
            assert!(remedy.contains(word), "{code}: {word} in {remedy}");
        }
    }
}
