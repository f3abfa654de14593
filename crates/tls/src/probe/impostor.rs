//! A server that presents whatever it is given and accepts whatever comes, for a fixed number of
//! connections. It proves refusals: everything sound must turn away from it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::Material;
use crate::config::versions;
use crate::fault::{Attempt, Fault, FaultCode, Side, fault_of_io, timed_out};
use crate::handshake;
use crate::options::{Clock, Floor};
use crate::peer::Peer;
use crate::provider::provider;
use crate::session::Session;

/// A TLS server that checks nothing. It requests a client certificate, takes any or none, reads
/// until the client closes or the limit is over, and never sends application data.
#[derive(Debug)]
pub struct Impostor {
    alpn: Vec<Vec<u8>>,
    config: Arc<ServerConfig>,
    listener: TcpListener,
}

/// A client that accepted the impostor: what it should not have done.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Welcome {
    /// The client, if it presented a certificate.
    pub peer: Option<Peer>,
    /// What was negotiated.
    pub session: Session,
}

impl Impostor {
    /// Listens at `addr` (port 0 for any) and will present `material`, speaking `alpn`.
    ///
    /// # Errors
    /// A fault of the socket, such as `port-in-use`.
    pub async fn bind(
        addr: SocketAddr,
        material: &Material,
        alpn: Vec<Vec<u8>>,
        now: Timestamp,
    ) -> Result<Self, Fault> {
        let mut config = ServerConfig::builder_with_details(provider(), Clock::default().0)
            .with_protocol_versions(versions(Floor::Tls12))
            .map_err(|error| {
                Fault::new(FaultCode::HandshakeFailed, Side::Ours, "impostor").caused_by(error)
            })?
            .with_client_cert_verifier(Arc::new(AcceptAnyClient))
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(material.certified_key())));
        config.alpn_protocols.clone_from(&alpn);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        let attempt = Attempt::server(now).with_subject(format!("impostor at {addr}"));
        let listener =
            TcpListener::bind(addr).await.map_err(|error| fault_of_io(&error, &attempt))?;
        Ok(Self { alpn, config: Arc::new(config), listener })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The operating system's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves `connections` connections one after the other, each for `limit` at most, and tells
    /// how each went: `Ok` if the client went along, else the fault that its refusal became.
    /// Waiting for a connection is bounded by `limit` too.
    pub async fn serve(
        self,
        connections: usize,
        limit: Duration,
        now: Timestamp,
    ) -> Vec<Result<Welcome, Fault>> {
        let mut outcomes = Vec::with_capacity(connections.min(MAX_CONNECTIONS));
        for _ in 0..connections.min(MAX_CONNECTIONS) {
            outcomes.push(self.serve_one(limit, now).await);
        }
        outcomes
    }

    async fn serve_one(&self, limit: Duration, now: Timestamp) -> Result<Welcome, Fault> {
        let mut attempt = Attempt::server(now).with_subject("impostor");
        attempt.alpn.clone_from(&self.alpn);
        let socket = match timeout(limit, self.listener.accept()).await {
            Ok(Ok((socket, addr))) => {
                attempt.peer_addr = Some(addr);
                socket
            }
            Ok(Err(error)) => return Err(fault_of_io(&error, &attempt)),
            Err(_) => return Err(timed_out(limit, &attempt)),
        };
        let mut stream =
            handshake::accept(socket, Arc::clone(&self.config), attempt.clone(), limit).await?;
        let state = stream.get_ref().1;
        let peer = Peer::of(state);
        let session = Session::of(state)
            .ok_or_else(|| Fault::new(FaultCode::HandshakeFailed, Side::Either, attempt.place()))?;
        // A client that only finds fault with us now says so with an alert.
        let mut buffer = [0; 4096];
        let read = async {
            while stream.read(&mut buffer).await? > 0 {}
            Ok(())
        };
        match timeout(limit, read).await {
            Ok(Err::<(), io::Error>(error)) if carries_tls_error(&error) => {
                Err(fault_of_io(&error, &attempt))
            }
            _ => Ok(Welcome { peer, session }),
        }
    }
}

fn carries_tls_error(error: &io::Error) -> bool {
    error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()).is_some()
}

/// More is not a demonstration any more.
const MAX_CONNECTIONS: usize = 10_000;

/// Accepts every client, with or without a certificate; the handshake signature is verified.
#[derive(Debug)]
struct AcceptAnyClient;

impl ClientCertVerifier for AcceptAnyClient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
