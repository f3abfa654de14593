//! From a socket to a caller: what comes first decides between plaintext and TLS, the mode decides what
//! may come in, and TLS proves who it is. Ends in a stream and a caller, or in a fault that is kept.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use handfast_pki::{Certificate, Chain};
use handfast_tls::{Attempt, Fault, FaultCode, FirstBytes, Peer, Side, sniff};
use rustls::ServerConnection;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;

use super::known::Standing;
use super::paced::Paced;
use super::register::Proof;
use super::{Mode, PortTls, Protection, Shared};
use crate::caller::{Caller, Identity, Transport};

/// A connection that was let in.
pub(super) enum Admitted {
    Plain(TcpStream, FirstBytes, Caller),
    Tls(Box<TlsStream<TcpStream>>, Caller, Option<Proof>),
}

/// Lets a connection in, or says why not.
pub(super) async fn admit(
    shared: &Shared,
    protection: &Protection,
    socket: TcpStream,
    address: SocketAddr,
) -> Result<Admitted, Fault> {
    let attempt = Attempt::server(shared.now()).with_peer_addr(address).with_subject(&*shared.name);
    // One limit for everything: who is slow at each step gets no more.
    let deadline = Instant::now() + HANDSHAKE;
    let first = tokio::time::timeout_at(deadline, first_bytes(&socket))
        .await
        .map_err(|_| handfast_tls::timed_out(HANDSHAKE, &attempt))?
        .map_err(|error| handfast_tls::fault_of_io(&error, &attempt))?;
    let tls_comes = matches!(first, FirstBytes::TlsHandshake | FirstBytes::TlsAlert);
    if !tls_comes && protection.mode.admits(Transport::Plaintext) {
        let caller = Caller::anonymous(Some(address), Transport::Plaintext);
        return Ok(Admitted::Plain(socket, first, caller));
    }
    if tls_comes && protection.mode == Mode::Plaintext {
        answer_in_the_clear(socket).await;
        return Err(Fault::new(FaultCode::TlsToPlaintext, Side::Peer, attempt_place(&attempt))
            .saying("the caller speaks TLS, and this port does not"));
    }
    let Some(tls) = &protection.tls else {
        return Err(Fault::new(FaultCode::NoCertificate, Side::Ours, attempt_place(&attempt))
            .saying("this port has no credential yet, so it lets nobody in"));
    };
    let accepting = handfast_tls::accept(socket, Arc::clone(&tls.config), attempt.clone(), STORM);
    let accepting = Paced::new(accepting, Arc::clone(&shared.pace)).within(deadline);
    let stream = accepting.await.ok_or_else(|| handfast_tls::timed_out(HANDSHAKE, &attempt))??;
    let (caller, proof) = who(stream.get_ref().1, tls, address, shared)?;
    if !protection.mode.admits(caller.transport) {
        return Err(Fault::new(FaultCode::NoCertificate, Side::Peer, address.to_string()));
    }
    Ok(Admitted::Tls(Box::new(stream), caller, proof))
}

/// Who holds the key of the certificate that was presented.
fn who(
    session: &ServerConnection,
    tls: &PortTls,
    address: SocketAddr,
    shared: &Shared,
) -> Result<(Caller, Option<Proof>), Fault> {
    let Some(peer) = Peer::of(session) else {
        return Ok((Caller::anonymous(Some(address), Transport::Tls), None));
    };
    let era = shared.known.era();
    let standing = if let Some(standing) = shared.known.find(&tls.config, &peer.fingerprint) {
        standing
    } else {
        let standing = Arc::new(work_out(session, &peer, tls, address, shared)?);
        shared.known.remember(era, &tls.config, peer.fingerprint, Arc::clone(&standing));
        standing
    };
    // Between the handshake and now it may have been revoked.
    if let Some(revoked) = shared.revocations.find_revoked(&standing.path) {
        return Err(revoked.fault(address.to_string()));
    }
    let caller = Caller::identified(Some(address), standing.identity.clone());
    let proof = Proof { chain: standing.chain.clone(), path: standing.path.clone() };
    Ok((caller, Some(proof)))
}

fn work_out(
    session: &ServerConnection,
    peer: &Peer,
    tls: &PortTls,
    address: SocketAddr,
    shared: &Shared,
) -> Result<Standing, Fault> {
    let unreadable = |what: String| {
        Fault::new(FaultCode::MalformedCertificate, Side::Peer, address.to_string()).saying(what)
    };
    let mut presented = Vec::new();
    for der in session.peer_certificates().unwrap_or_default().iter().take(Chain::MAX_LEN) {
        let certificate = Certificate::from_der(der.to_vec());
        presented.push(certificate.map_err(|error| unreadable(error.to_string()))?);
    }
    let mut presented = presented.into_iter();
    let Some(leaf) = presented.next() else {
        return Err(unreadable("the caller's certificate is gone".to_owned()));
    };
    let chain = Chain::new(leaf, presented.collect());
    let path =
        chain.certificate_ids(&tls.anchors).map_err(|error| unreadable(error.to_string()))?;
    let identity = Identity::of(peer, &chain, tls.own.as_ref(), shared.now());
    Ok(Standing { chain, identity, path })
}

/// Tells a client of TLS in the clear that it is wrong here: what is no TLS it can name, a reset it cannot.
async fn answer_in_the_clear(mut socket: TcpStream) {
    let telling = async {
        socket.write_all(NO_TLS).await?;
        socket.shutdown().await?;
        // What is closed with unread bytes is reset, and the answer with it.
        tokio::io::copy(&mut socket.take(HELLO_BYTES), &mut tokio::io::sink()).await
    };
    // Whether it is read is the client's affair.
    drop(tokio::time::timeout(handfast_tls::LINGER, telling).await);
}

async fn first_bytes(socket: &TcpStream) -> std::io::Result<FirstBytes> {
    let mut space = [0; handfast_tls::SNIFF_LIMIT];
    let count = socket.peek(&mut space).await?;
    Ok(sniff(&space[..count]))
}

fn attempt_place(attempt: &Attempt) -> String {
    let subject = attempt.subject.as_deref().unwrap_or("a port");
    match attempt.peer_addr {
        Some(address) => format!("{subject}, from {address}"),
        None => subject.to_owned(),
    }
}

/// What a client of TLS is answered at a port in the clear.
const NO_TLS: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n\
    this port is in the clear and speaks no TLS\n";

/// The most that is read, and thrown away, of a client's TLS at a port in the clear.
const HELLO_BYTES: u64 = 64 * 1024;

/// However long it has to wait for us to compute, a handshake is given up then.
const STORM: Duration = Duration::from_secs(120);

/// A caller has so long until it is known who it is; what it waits for us does not count.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(10);
