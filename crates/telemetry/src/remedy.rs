//! What to do about a fault that telemetry meets: at a port where agents and relays report, and on the way to a
//! backend. The usual remedies of `handfast-tls` speak to operators who link sites; here the other side is an agent. Pure.

use handfast_tls::{Fault, FaultCode, Side};

/// A handshake that was refused at a port, with what to do about it.
pub(crate) fn at_port(fault: Fault) -> Fault {
    match port_remedy(fault.code(), fault.side()) {
        Some(remedy) => fault.remedied_by(remedy),
        None => fault,
    }
}

/// A backend that was not reached, or did not let us in, with what to do about it.
pub(crate) fn towards_backend(fault: Fault) -> Fault {
    match backend_remedy(fault.code()) {
        Some(remedy) => fault.remedied_by(remedy),
        None => fault,
    }
}

/// `None` for what no handshake at a port can end with.
fn port_remedy(code: FaultCode, side: Side) -> Option<&'static str> {
    use FaultCode as C;
    Some(match code {
        C::NoCertificate if side == Side::Ours => {
            "look why the collector has no certificate yet: `handfast cert list` and `handfast collector status`; \
             the agents come again by themselves"
        }
        C::NoCertificate => {
            "put a relay beside the agent (`handfast relay create`), or give the agent ca.crt, client.crt and \
             client.pem of `handfast agent-certs`, or what `handfast enrol` gets by a token"
        }
        C::UnknownIssuer => {
            "name the CA of the agent under `trust` of the Collector (`--client-ca` of `handfast collector run`), or \
             give the agent a certificate of this trust domain (`handfast agent-certs`, `handfast enrol`); if it is \
             the agent that does not know our CA, give it the ca.crt of those"
        }
        C::Expired => {
            "get a new certificate: `handfast enrol DIR --keep` renews in time, `handfast agent-certs --force` makes \
             new files (agents that read them once need a restart); a relay renews by itself"
        }
        C::NotYetValid => {
            "compare `date -u` on both machines and correct the clock that is wrong (`timedatectl set-ntp true`)"
        }
        C::Revoked => {
            "find out why it was revoked; then give the agent a new one: `handfast enrol` with a new token of \
             `handfast token issue --agent SERVICE`, or `handfast agent-certs --force`"
        }
        C::RevocationUnknown => {
            "put a fresh revocation list of the agent's CA beside its `ca.crt` (`input/certs/NAME/ca.crl`)"
        }
        C::WrongName => {
            "add the name that the agent dials to `hosts` of the Collector (`--hosts` of `handfast agent-certs` for \
             files), or let the agent dial a name that the certificate carries"
        }
        C::PlaintextToTls => {
            "turn TLS on at the agent (`SW_AGENT_FORCE_TLS=true` and ca.crt; `handfast agent-certs` prints the \
             settings of each), put a relay beside it, or set `mode: permissive` for the port until it is ready"
        }
        C::TlsToPlaintext => {
            "turn TLS off at the agent, or set `mode: permissive` for the port of the Collector"
        }
        C::WrongEku | C::CaAsLeaf | C::V1Certificate => {
            "give the agent a client certificate, X.509 v3 with `clientAuth`, as `handfast agent-certs` and \
             `handfast enrol` make them: `handfast cert lint FILE` says what is wrong with another"
        }
        C::MalformedCertificate
        | C::TwoUriSans
        | C::NoIdentity
        | C::UnsupportedAlgorithm
        | C::NameConstraint
        | C::ChainTooLong
        | C::BadSignature => {
            "look what is wrong with the agent's certificate and its chain with `handfast cert lint FILE`; \
             `handfast agent-certs` and `handfast enrol` make good ones"
        }
        C::WrongIdentity | C::WrongTrustDomain => {
            "give the agent the certificate of its service (`handfast enrol`, `handfast agent-certs`), or bind its \
             identity to the service under `identities` of the Collector"
        }
        C::RefusedByPeer => {
            "the agent does not accept the collector's certificate: look into its log, and give it the ca.crt of \
             `handfast agent-certs` or `handfast enrol` (`SW_AGENT_SSL_TRUSTED_CA_PATH`)"
        }
        C::AlpnMismatch | C::Http2Missing => {
            "let the agent dial the port of its protocol: `handfast collector status` shows which is for gRPC and \
             which for HTTP; gRPC needs HTTP/2, so no proxy in between may take it away"
        }
        C::ProtocolMismatch => {
            "let the agent speak TLS 1.2 or 1.3 (a newer runtime of its language does), or put a relay beside it"
        }
        C::ProtocolViolation => {
            "look what it is: no agent sends this; a proxy in between that changes bytes, or a scanner"
        }
        C::ConnectionReset | C::TimedOut => {
            "none needed if it was a port check; if it is an agent, look into its log: one that does not know our CA \
             often leaves without a word (ca.crt, `SW_AGENT_SSL_TRUSTED_CA_PATH`)"
        }
        C::HandshakeFailed => {
            "look into the agent's log for the same moment; `handfast agent-certs` prints the settings that work, and \
             a relay beside the agent needs none"
        }
        _ => return None,
    })
}

/// `None` where the usual remedy speaks of what is met here too. A relay's backend is a collector of ours, a forwarder's is
/// an OAP or somebody else's that speaks OTLP.
fn backend_remedy(code: FaultCode) -> Option<&'static str> {
    use FaultCode as C;
    Some(match code {
        C::NoCertificate => {
            "name a credential: `tlsCredentials` of the Relay (`handfast enrol` makes one), or of `forward.tls` of the \
             Collector; `handfast cert list` shows which are there"
        }
        C::UnknownIssuer => {
            "to a collector: use a credential of its trust domain (`handfast enrol DIR --token FILE` under `input/certs`, \
             `tlsCredentials` of the Relay), or name our CA under `trust` of the Collector there; to another backend: \
             `forward.tls.tlsCredentials` with the `ca.crt` that its certificate chains to, or `forward.tls.pin`; if it \
             is the backend that does not know our CA, tell it there"
        }
        C::Expired => {
            "look whose certificate has expired (`handfast cert verify HOST:PORT` shows the backend's, `handfast cert \
             list` ours) and renew it where it is used: ours by `handfast cert renew NAME` or `handfast enrol`; if it \
             looks fresh, compare `date -u` on both machines"
        }
        C::WrongIdentity | C::WrongTrustDomain => {
            "use the credential of this service in the collector's trust domain (`handfast enrol DIR --token FILE`, \
             `tlsCredentials` of the Relay), or bind the identity under `identities` of the Collector there"
        }
        C::WrongName => {
            "add the name that is dialled to `hosts` of the Collector there, or say `serverName` of the Relay; of \
             another backend, `forward.tls.serverName`: `handfast cert verify HOST:PORT` shows the names it carries"
        }
        C::NoIdentity => {
            "use a credential that carries an identity: `handfast enrol DIR --token FILE` gets the one of a service \
             (`tlsCredentials` of the Relay, or of `forward.tls` of the Collector)"
        }
        C::Revoked => {
            "find out whose certificate was revoked, and why; then enrol anew: `handfast token issue FILE --agent \
             SERVICE` at the collector's site, `handfast enrol DIR --token FILE` here; where the backend is not a \
             collector, put a new one of its CA under the `tlsCredentials` of `forward.tls`"
        }
        C::V1Certificate => {
            "issue it anew as X.509 v3 (`handfast agent-certs` makes good ones, for an OAP too); until then the one \
             that the backend has can be pinned: `forward.tls.pin` of the Collector"
        }
        C::TlsToPlaintext => {
            "turn TLS on at the port that is dialled: `mode: permissive` or `mtls` of a Collector, \
             `SW_CORE_GRPC_SSL_ENABLED` or `SW_RECEIVER_GRPC_SSL_ENABLED` of an OAP; a relay with `mode: plaintext`, \
             or a Collector without `forward.tls`, would send in the clear"
        }
        C::PlaintextToTls => {
            "say `mode: mtls` of the Relay, or `tls` under `forward` of the Collector"
        }
        C::AlpnMismatch | C::Http2Missing => {
            "dial the backend's port for gRPC, which is not the one for HTTP (11800 of a collector or an OAP, 4317 for \
             OTLP, most often); a proxy in between must not take HTTP/2 away: `openssl s_client -alpn h2 -connect \
             HOST:PORT` shows what is offered"
        }
        C::HostNotFound => {
            "correct the backend's name (`backends` of the Relay, `forward.backends` of the Collector) or its entry in \
             DNS: `getent hosts HOST` on this machine has to find it; it is looked up again at each dialling, and what \
             comes is spooled until then"
        }
        C::Unreachable => {
            "check that the backend runs (`handfast collector status` there, if it is a collector) and that its port is \
             open from here: `nc -vz HOST PORT`; what comes is spooled until then"
        }
        _ => return None,
    })
}

#[cfg(test)]
#[path = "remedy_tests.rs"]
mod tests;
