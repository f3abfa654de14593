//! Peers that are not ours: configurations of rustls as other software might have them, with
//! resumption, old versions or other groups. And raw sockets that speak something else entirely.

use std::sync::Arc;
use std::time::Duration;

use handfast_pki::{Credential, TrustAnchors};
use handfast_tls::{
    Attempt, Fault, FaultCode, Floor, ServerOptions, Side, accept, connect, provider, server_config,
};
use rustls::client::{ClientSessionMemoryCache, Resumption};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::pki_types::UnixTime;
use rustls::server::{ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::forge::{Domain, LIMIT, NOW_SECOND, now};
use crate::meeting::{dialling, link_alpn, listen, meet, open_server, serving};

#[derive(Debug)]
pub(crate) struct TestTime;

impl TimeProvider for TestTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(NOW_SECOND.unsigned_abs())))
    }
}

pub(crate) fn with_groups(groups: &[&'static dyn SupportedKxGroup]) -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider { kx_groups: groups.to_vec(), ..(*provider()).clone() })
}

fn roots(anchors: &TrustAnchors) -> Arc<RootCertStore> {
    let mut store = RootCertStore::empty();
    for der in anchors.to_pki_types() {
        store.add(der).expect("anchor");
    }
    Arc::new(store)
}

/// A client of other software, with rustls's own verifier and defaults.
pub(crate) fn foreign_client(
    credential: &Credential,
    provider: Arc<CryptoProvider>,
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConfig {
    let mut config = ClientConfig::builder_with_details(provider, Arc::new(TestTime))
        .with_protocol_versions(versions)
        .expect("versions")
        .with_root_certificates(roots(credential.anchors()))
        .with_client_auth_cert(credential.chain().to_pki_types(), credential.key().to_pki_types())
        .expect("credential");
    config.alpn_protocols = link_alpn();
    config
}

/// A client that stores sessions and tries to resume them.
pub(crate) fn eager_to_resume(credential: &Credential) -> Arc<ClientConfig> {
    let mut config = foreign_client(credential, provider(), &[&TLS13]);
    config.resumption = Resumption::store(Arc::new(ClientSessionMemoryCache::new(8)));
    Arc::new(config)
}

/// A server of other software that offers resumption.
pub(crate) fn handing_out_tickets(credential: &Credential) -> Arc<ServerConfig> {
    let verifier =
        WebPkiClientVerifier::builder_with_provider(roots(credential.anchors()), provider())
            .build()
            .expect("verifier");
    let mut config = ServerConfig::builder_with_details(provider(), Arc::new(TestTime))
        .with_protocol_versions(&[&TLS13])
        .expect("versions")
        .with_client_cert_verifier(verifier)
        .with_single_cert(credential.chain().to_pki_types(), credential.key().to_pki_types())
        .expect("credential");
    config.alpn_protocols = link_alpn();
    config.session_storage = ServerSessionMemoryCache::new(8);
    config.send_tls13_tickets = 2;
    Arc::new(config)
}

/// Our side accepts; the client writes `bytes` and hears us out.
async fn spoken_to_tls_port(bytes: &'static [u8], limit: Duration) -> Fault {
    let listener = listen().await;
    let addr = listener.local_addr().expect("bound");
    let accepting = async move {
        let (socket, _) = listener.accept().await.expect("accept");
        accept(socket, serving(&Domain::new().server()), Attempt::server(now()), limit).await
    };
    let speaking = async {
        let mut socket = TcpStream::connect(addr).await.expect("loopback");
        socket.write_all(bytes).await.expect("write");
        let mut answer = Vec::new();
        // Whatever comes back, and however it ends, is no concern here.
        drop(socket.read_to_end(&mut answer).await);
    };
    let (result, ()) = tokio::join!(accepting, speaking);
    result.expect_err("not TLS")
}

/// Our side dials; the server does with the connection what `answer` does.
async fn dialled_into<F: Future<Output = ()>>(
    answer: impl FnOnce(TcpStream) -> F,
    limit: Duration,
) -> Fault {
    let listener: TcpListener = listen().await;
    let addr = listener.local_addr().expect("bound");
    let answering = async move {
        let (socket, _) = listener.accept().await.expect("accept");
        answer(socket).await;
    };
    let dialling = async {
        let socket = TcpStream::connect(addr).await.expect("loopback");
        let attempt = Attempt::client("127.0.0.1", now());
        connect(socket, dialling(&Domain::new().client()), "127.0.0.1", attempt, limit).await
    };
    let ((), result) = tokio::join!(answering, dialling);
    result.expect_err("not TLS")
}

/// Reads at least something of the client's hello.
async fn hear(socket: &mut TcpStream) -> Vec<u8> {
    let mut hello = vec![0; 16 * 1024];
    let count = socket.read(&mut hello).await.expect("hello");
    hello.truncate(count);
    hello
}

#[tokio::test]
async fn plaintext_spoken_to_a_tls_port() {
    for (bytes, named) in [
        (&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], "HTTP/1 request"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/2"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "SSH"),
        (b"hi", "plain text"),
    ] {
        let fault = spoken_to_tls_port(bytes, LIMIT).await;
        assert_eq!(fault.code(), FaultCode::PlaintextToTls, "{fault}");
        assert_eq!(fault.side(), Side::Peer);
        assert!(fault.what().contains(named), "{fault}");
        assert!(fault.evidence_of("peer-address").is_some());
    }
}

#[tokio::test]
async fn bytes_of_no_protocol_at_all() {
    let fault = spoken_to_tls_port(b"\x16\x03\x01\x00\x05\xff\xff\xff\xff\xff", LIMIT).await;
    assert_eq!(fault.code(), FaultCode::ProtocolViolation, "{fault}");
    let fault = spoken_to_tls_port(&[0xfe; 64], LIMIT).await;
    assert_eq!(fault.code(), FaultCode::PlaintextToTls, "{fault}");
}

#[tokio::test]
async fn tls_spoken_to_a_plaintext_port() {
    let http = |mut socket: TcpStream| async move {
        hear(&mut socket).await;
        socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.expect("answer");
        drop(socket.read(&mut [0; 64]).await);
    };
    let fault = dialled_into(http, LIMIT).await;
    assert_eq!(fault.code(), FaultCode::TlsToPlaintext, "{fault}");
    assert!(fault.evidence_of("first-bytes").is_some());

    let echo = |mut socket: TcpStream| async move {
        let hello = hear(&mut socket).await;
        socket.write_all(&hello).await.expect("echo");
        drop(socket.read(&mut [0; 64]).await);
    };
    let fault = dialled_into(echo, LIMIT).await;
    assert_eq!(fault.code(), FaultCode::TlsToPlaintext, "{fault}");

    // A server that speaks first, before it has heard anything.
    let ssh = |mut socket: TcpStream| async move {
        socket.write_all(b"SSH-2.0-OpenSSH_9.9\r\n").await.expect("greeting");
        drop(socket.read_to_end(&mut Vec::new()).await);
    };
    let fault = dialled_into(ssh, LIMIT).await;
    assert_eq!(fault.code(), FaultCode::TlsToPlaintext, "{fault}");
}

#[tokio::test]
async fn the_connection_is_reset_or_closed_in_the_handshake() {
    let reset = |mut socket: TcpStream| async move {
        hear(&mut socket).await;
        socket.set_zero_linger().expect("linger");
    };
    let fault = dialled_into(reset, LIMIT).await;
    assert_eq!(fault.code(), FaultCode::ConnectionReset, "{fault}");
    assert!(fault.what().contains("reset"), "{fault}");

    let close = |mut socket: TcpStream| async move {
        hear(&mut socket).await;
    };
    let fault = dialled_into(close, LIMIT).await;
    assert_eq!(fault.code(), FaultCode::ConnectionReset, "{fault}");

    let fault = {
        let listener = listen().await;
        let addr = listener.local_addr().expect("bound");
        drop(TcpStream::connect(addr).await.expect("loopback"));
        let (socket, _) = listener.accept().await.expect("accept");
        accept(socket, serving(&Domain::new().server()), Attempt::server(now()), LIMIT).await
    }
    .expect_err("closed");
    assert_eq!(fault.code(), FaultCode::ConnectionReset, "{fault}");
}

#[tokio::test]
async fn the_handshake_takes_too_long() {
    let soon = Duration::from_millis(100);
    // The silent side holds its socket until the other has given up.
    let silent = |mut socket: TcpStream| async move {
        drop(socket.read_to_end(&mut Vec::new()).await);
    };
    let fault = dialled_into(silent, soon).await;
    assert_eq!(fault.code(), FaultCode::TimedOut, "{fault}");
    assert_eq!(fault.evidence_of("limit"), Some("100ms"));

    let fault = spoken_to_tls_port(b"", soon).await;
    assert_eq!(fault.code(), FaultCode::TimedOut, "{fault}");
    let fault = spoken_to_tls_port(b"\x16\x03\x01", soon).await;
    assert_eq!(fault.code(), FaultCode::TimedOut, "{fault}");
    assert_eq!(fault.evidence_of("first-bytes"), Some("a TLS handshake"));
}

#[tokio::test]
async fn nothing_listens() {
    let listener = listen().await;
    let addr = listener.local_addr().expect("bound");
    drop(listener);
    let error = TcpStream::connect(addr).await.expect_err("nobody there");
    let fault = handfast_tls::fault_of_io(&error, &Attempt::client("127.0.0.1", now()));
    assert_eq!(fault.code(), FaultCode::Unreachable, "{fault}");
}

#[tokio::test]
async fn no_tls_version_in_common() {
    let domain = Domain::new();
    let old = Arc::new(foreign_client(&domain.client(), provider(), &[&TLS12]));
    let (client, server) = meet(serving(&domain.server()), old, "localhost").await.faults();
    assert_eq!(server.code(), FaultCode::ProtocolMismatch, "{server}");
    assert_eq!(client.code(), FaultCode::ProtocolMismatch, "{client}");
    assert_eq!(client.evidence_of("alert"), Some("protocol_version (70)"));
}

#[tokio::test]
async fn an_edge_may_speak_tls_12_and_resumes_nothing_there_either() {
    let domain = Domain::new();
    let options = ServerOptions { floor: Floor::Tls12, ..open_server() };
    let server = server_config(&domain.server(), &options).expect("config");
    let mut old = foreign_client(&domain.client(), provider(), &[&TLS12]);
    old.resumption = Resumption::store(Arc::new(ClientSessionMemoryCache::new(8)));
    let old = Arc::new(old);
    for _ in 0..2 {
        let views = meet(Arc::clone(&server), Arc::clone(&old), "localhost").await;
        let (client, server) = views.met();
        assert_eq!(client.session.version, "TLSv1.2");
        assert!(!client.session.resumed && !server.session.resumed);
        assert!(server.peer.is_some());
    }
}

#[tokio::test]
async fn no_key_exchange_group_in_common() {
    use rustls::crypto::aws_lc_rs::kx_group::MLKEM1024;
    let domain = Domain::new();
    let exotic = foreign_client(&domain.client(), with_groups(&[MLKEM1024]), &[&TLS13]);
    let views = meet(serving(&domain.server()), Arc::new(exotic), "localhost").await;
    let (client, server) = views.faults();
    assert_eq!(server.code(), FaultCode::ProtocolMismatch, "{server}");
    assert_eq!(client.code(), FaultCode::ProtocolMismatch, "{client}");
}
