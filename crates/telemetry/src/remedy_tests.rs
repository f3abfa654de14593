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

/// What is said to those who link sites.
const OF_SITES: [&str; 6] =
    ["token redeem", "site create", "--link-host", "link status", "/healthz", "RouterAccess"];

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
fn what_is_met_on_the_way_to_a_collector_names_no_command_of_sites() {
    for code in FaultCode::ALL.iter().filter(|code| backend_remedy(**code).is_some()) {
        let fault = towards_backend(Fault::new(*code, Side::Either, "backend c:11800"));
        for words in OF_SITES {
            assert!(!fault.remedy().contains(words), "{code}: {}", fault.remedy());
        }
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
