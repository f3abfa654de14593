//! One connection to a server, with everything that can be learnt from it. Bounded in time. The
//! server's chain is reported even if it was refused.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use handfast_pki::{Certificate, TrustAnchors};
use jiff::Timestamp;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::client::TlsStream;

use super::Material;
use crate::config::{dialler, server_verifier};
use crate::fault::{Attempt, Fault, fault_of_io, timed_out};
use crate::handshake;
use crate::options::{ClientOptions, Floor};
use crate::peer::Peer;
use crate::session::Session;
use crate::unchecked::AcceptAnyServer;
use crate::verifier::MAX_PRESENTED;

/// What to connect to, and as whom.
#[derive(Clone, Debug)]
pub struct Probe<'a> {
    /// Trusted CAs; `None` accepts any chain, to look at a server of which nothing is known yet.
    pub anchors: Option<&'a TrustAnchors>,
    /// Host name or IP address to connect to.
    pub host: &'a str,
    /// Longest time for all of it.
    pub limit: Duration,
    /// The name that the server's certificate has to be for; usually the host.
    pub name: &'a str,
    /// Protocols, oldest TLS version, identity rule and clock.
    pub options: ClientOptions,
    /// TCP port.
    pub port: u16,
    /// What we present if the server asks for a certificate. It is not checked here: that a
    /// server refuses it is what one may want to see.
    pub presents: Option<&'a Material>,
    /// How long to wait, once the handshake is done, for the server's refusal of *our*
    /// certificate: in TLS 1.3 it comes after our side is done. A server that is content says
    /// nothing, so this is time that a successful probe takes.
    pub settle: Duration,
}

impl<'a> Probe<'a> {
    /// A probe of `host:port` that trusts `anchors`, presents nothing, offers TLS 1.2 and 1.3,
    /// takes ten seconds at most and waits 300 ms for a refusal.
    pub fn new(host: &'a str, port: u16, anchors: Option<&'a TrustAnchors>) -> Self {
        Self {
            anchors,
            host,
            limit: Duration::from_secs(10),
            name: host,
            options: ClientOptions { floor: Floor::Tls12, ..ClientOptions::default() },
            port,
            presents: None,
            settle: Duration::from_millis(300),
        }
    }
}

/// What a probe found. With a fault the rest tells how far it came.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// The address that was connected to.
    pub addr: Option<SocketAddr>,
    /// The chain that the server presented, leaf first, judged or not; at most
    /// [`MAX_PRESENTED`] of it.
    pub chain: Vec<Certificate>,
    /// Why it failed, if it did.
    pub fault: Option<Fault>,
    /// The server, if the handshake completed.
    pub peer: Option<Peer>,
    /// What was negotiated, if the handshake completed.
    pub session: Option<Session>,
    /// The OCSP response that the server stapled, unchecked; empty if there was none, at most 64 KiB of it.
    pub stapled: Vec<u8>,
    /// From the first packet to the end of the handshake.
    pub took: Duration,
}

impl Report {
    /// The report, or its fault as an error.
    ///
    /// # Errors
    /// The fault, if there is one.
    pub fn into_result(self) -> Result<Self, Fault> {
        match self.fault {
            Some(fault) => Err(fault),
            None => Ok(self),
        }
    }
}

/// Connects once and reports. `now` is the time for the fault's evidence; certificates are judged
/// by the clock of the options.
pub async fn connect(probe: &Probe<'_>, now: Timestamp) -> Report {
    let started = Instant::now();
    let witness = Arc::new(Witness::default());
    let mut report = Report {
        addr: None,
        chain: Vec::new(),
        fault: None,
        peer: None,
        session: None,
        stapled: Vec::new(),
        took: Duration::ZERO,
    };
    let attempt = Attempt {
        alpn: probe.options.alpn.clone(),
        ..Attempt::client(probe.name, now)
            .with_subject(format!("probe of {}:{}", probe.host, probe.port))
    };
    report.fault = attempt_once(probe, attempt, &witness, started, &mut report).await.err();
    report.chain = witness.chain();
    report.stapled = witness.stapled();
    report
}

async fn attempt_once(
    probe: &Probe<'_>,
    mut attempt: Attempt,
    witness: &Arc<Witness>,
    started: Instant,
    report: &mut Report,
) -> Result<(), Fault> {
    let deadline = started + probe.limit;
    let config = configuration(probe, witness)?;
    let socket = match timeout_at(deadline, dial(probe, &mut attempt)).await {
        Ok(dialled) => dialled.map_err(|error| fault_of_io(&error, &attempt))?,
        Err(_) => return Err(timed_out(probe.limit, &attempt)),
    };
    report.addr = attempt.peer_addr;
    let rest = deadline.saturating_duration_since(Instant::now());
    let stream = handshake::connect(socket, config, probe.name, attempt.clone(), rest).await?;
    report.took = started.elapsed();
    let state = stream.get_ref().1;
    report.peer = Peer::of(state);
    report.session = Session::of(state);
    let rest = deadline.saturating_duration_since(Instant::now());
    await_refusal(stream, probe.settle.min(rest), &attempt).await?;
    match (&report.session, probe.options.alpn.first()) {
        (Some(session), Some(wanted)) if session.alpn.is_none() => {
            session.require_alpn(wanted, &attempt)
        }
        _ => Ok(()),
    }
}

/// The server has `settle` to refuse our certificate; silence and data both mean it is content.
async fn await_refusal(
    mut stream: TlsStream<TcpStream>,
    settle: Duration,
    attempt: &Attempt,
) -> Result<(), Fault> {
    let mut byte = [0];
    match timeout(settle, stream.read(&mut byte)).await {
        // Nothing was said, or data was, or a clean end (close_notify), which refuses nothing.
        Err(_) | Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(fault_of_io(&error, attempt)),
    }
}

fn configuration(probe: &Probe<'_>, witness: &Arc<Witness>) -> Result<Arc<ClientConfig>, Fault> {
    let inner: Arc<dyn ServerCertVerifier> = match probe.anchors {
        Some(anchors) => server_verifier(anchors, &probe.options)?,
        None => Arc::new(AcceptAnyServer),
    };
    let key = probe.presents.map(Material::certified_key);
    let verifier = WitnessedVerifier { inner, witness: Arc::clone(witness) };
    dialler(Arc::new(verifier), key, &probe.options)
}

async fn dial(probe: &Probe<'_>, attempt: &mut Attempt) -> std::io::Result<TcpStream> {
    let mut last = None;
    for addr in lookup_host((probe.host, probe.port)).await?.take(MAX_ADDRESSES) {
        attempt.peer_addr = Some(addr);
        match TcpStream::connect(addr).await {
            Ok(socket) => return Ok(socket),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| {
        std::io::Error::other("failed to lookup address information: no address")
    }))
}

/// Keeps the chain that was presented.
#[derive(Debug, Default)]
struct Witness(Mutex<Presented>);

/// What a server shows of itself.
#[derive(Debug, Default)]
struct Presented {
    chain: Vec<CertificateDer<'static>>,
    stapled: Vec<u8>,
}

impl Witness {
    fn chain(&self) -> Vec<Certificate> {
        let presented = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let chain = presented.chain.iter();
        chain.map_while(|der| Certificate::from_der(der.to_vec()).ok()).collect()
    }

    fn stapled(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).stapled.clone()
    }
}

#[derive(Debug)]
struct WitnessedVerifier {
    inner: Arc<dyn ServerCertVerifier>,
    witness: Arc<Witness>,
}

impl ServerCertVerifier for WitnessedVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.witness.0.lock().unwrap_or_else(PoisonError::into_inner) = Presented {
            chain: std::iter::once(end_entity)
                .chain(intermediates)
                .take(MAX_PRESENTED)
                .map(|der| der.clone().into_owned())
                .collect(),
            stapled: ocsp_response.iter().copied().take(MAX_STAPLED).collect(),
        };
        self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// How much of a stapled response is kept.
const MAX_STAPLED: usize = 64 * 1024;

/// How many of a host's addresses are tried.
const MAX_ADDRESSES: usize = 8;
