//! Nothing goes live unverified: a credential is taken through a whole handshake in memory, judged
//! by the same verifier that the other side will use. No socket, no clock.

use std::sync::Arc;

use handfast_pki::{Credential, Purpose};
use jiff::Timestamp;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};

use crate::config::{client_config, server_config, versions};
use crate::fault::{Attempt, Fault, FaultCode, Side, fault_of, fault_of_own};
use crate::options::{ClientAuth, ClientOptions, Clock, Floor, ServerOptions};
use crate::provider::provider;
use crate::refusal::watched;
use crate::revocation::RevocationCheck;
use crate::unchecked::AcceptAnyServer;

/// Proves that `credential` works at `now`, by a handshake in memory that its own trust anchors
/// judge.
///
/// For [`Purpose::Server`] every one of `names` (host names or IP addresses) must be covered by
/// the SANs; an empty list checks the first SAN. For [`Purpose::Client`] names are not looked at.
///
/// # Errors
/// A fault of our side with the same code that the other side would have seen.
pub fn check(
    credential: &Credential,
    purpose: Purpose,
    names: &[String],
    now: Timestamp,
) -> Result<(), Fault> {
    fault_of_own(credential.leaf(), purpose, PLACE)?;
    match purpose {
        Purpose::Ca => Err(Fault::new(FaultCode::CaAsLeaf, Side::Ours, PLACE)
            .saying("a CA credential signs; it is never presented in a handshake")),
        Purpose::Client => check_client(credential, now),
        Purpose::Server => check_server(credential, names, now),
    }
}

fn check_server(credential: &Credential, names: &[String], now: Timestamp) -> Result<(), Fault> {
    let options = ServerOptions { client_auth: ClientAuth::None, ..ServerOptions::default() };
    let server = server_config(credential, &options)?;
    let options = ClientOptions { clock: Clock::fixed(now), ..ClientOptions::default() };
    let client = client_config(None, credential.anchors(), &options)?;
    let leaf = credential.leaf();
    let own = leaf
        .dns_names()
        .iter()
        .map(ToString::to_string)
        // A wildcard matches any one label.
        .map(|name| name.replacen('*', "any", 1))
        .chain(leaf.ip_addresses().iter().map(ToString::to_string))
        .next();
    let names: Vec<&str> = match (names, &own) {
        ([], Some(own)) => vec![own],
        ([], None) => {
            return Err(Fault::new(FaultCode::WrongName, Side::Ours, PLACE)
                .saying("our server certificate has no SAN, so no client can ever accept it")
                .with("subject", leaf.subject()));
        }
        (names, _) => names.iter().map(String::as_str).collect(),
    };
    for name in names {
        let attempt = Attempt::client(name, now).with_subject(PLACE);
        let server_name = ServerName::try_from(name.to_owned()).map_err(|error| {
            Fault::new(FaultCode::WrongName, Side::Ours, PLACE)
                .saying("a host name is neither a DNS name nor an IP address")
                .with("expected-name", name)
                .caused_by(error)
        })?;
        handshake(Arc::clone(&client), Arc::clone(&server), server_name, &attempt)?;
    }
    Ok(())
}

/// The credential plays both ends: what the server end presents is not judged, so that nothing has
/// to be generated for the check.
fn check_client(credential: &Credential, now: Timestamp) -> Result<(), Fault> {
    let verifier = {
        use crate::identity::IdentityRule;
        use crate::verifier::{ClientVerifier, Judge, Usage};
        ClientVerifier::demanding(Judge::new(
            credential.anchors(),
            IdentityRule::any(),
            Usage::Client,
            RevocationCheck::default(),
        )?)
    };
    let failed = |error: rustls::Error| {
        Fault::new(FaultCode::KeyMismatch, Side::Ours, PLACE)
            .with("reason", error.to_string())
            .caused_by(error)
    };
    let chain = credential.chain().to_pki_types();
    let server = ServerConfig::builder_with_details(provider(), Clock::fixed(now).0)
        .with_protocol_versions(versions(Floor::Tls13))
        .and_then(|builder| {
            builder
                .with_client_cert_verifier(Arc::new(verifier))
                .with_single_cert(chain.clone(), credential.key().to_pki_types())
        })
        .map_err(failed)?;
    let client = ClientConfig::builder_with_details(provider(), Clock::fixed(now).0)
        .with_protocol_versions(versions(Floor::Tls13))
        .and_then(|builder| {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AcceptAnyServer))
                .with_client_auth_cert(chain, credential.key().to_pki_types())
        })
        .map_err(failed)?;
    let name = ServerName::try_from("check.invalid").map_err(|error| {
        Fault::new(FaultCode::HandshakeFailed, Side::Ours, PLACE).caused_by(error)
    })?;
    let attempt = Attempt::server(now).with_subject(PLACE);
    handshake(Arc::new(client), Arc::new(server), name, &attempt)
}

/// Runs both ends in memory until both are done or one refuses.
fn handshake(
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    name: ServerName<'static>,
    attempt: &Attempt,
) -> Result<(), Fault> {
    let run = || -> Result<(), rustls::Error> {
        let mut client = ClientConnection::new(client, name)?;
        let mut server = ServerConnection::new(server)?;
        for _ in 0..MAX_FLIGHTS {
            let mut to_server = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut to_server).map_err(|e| general(&e))?;
            }
            let mut unread = to_server.as_slice();
            while !unread.is_empty() {
                server.read_tls(&mut unread).map_err(|e| general(&e))?;
                server.process_new_packets()?;
            }
            let mut to_client = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut to_client).map_err(|e| general(&e))?;
            }
            let mut unread = to_client.as_slice();
            while !unread.is_empty() {
                client.read_tls(&mut unread).map_err(|e| general(&e))?;
                client.process_new_packets()?;
            }
            if !client.is_handshaking() && !server.is_handshaking() && !client.wants_write() {
                return Ok(());
            }
        }
        Err(rustls::Error::HandshakeNotComplete)
    };
    let (result, refusal) = watched(run);
    result.map_err(|error| {
        let error = refusal.map_or(error, rustls::Error::from);
        fault_of(&error, attempt, None).turned_on_ourselves()
    })
}

fn general(error: &std::io::Error) -> rustls::Error {
    rustls::Error::General(error.to_string())
}

const PLACE: &str = "checking our own credential";

/// A TLS 1.3 handshake takes three flights, five with a HelloRetryRequest.
const MAX_FLIGHTS: usize = 8;
