//! CRLs and OCSP over HTTP: what is served, with which headers, and what strangers may cost.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use handfast_api::distribution::{
    Answer, DistributionLimits, DistributionServer, Distributor, Document,
};
use handfast_api::grants::Rate;
use handfast_pki::Certificate;
use handfast_pki::ocsp::{CertId, IdHash, OcspRequest};
use handfast_testkit::authority::TestAuthority;
use jiff::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::clients::{PATIENCE, Running, hasty, now, read_to_end, status_of};

const HOUR: Duration = Duration::from_secs(3600);

/// Hands out texts that can be recognised; the answer to a request is the request itself.
#[derive(Default)]
struct Known {
    answered: AtomicUsize,
}

fn document(text: &str) -> Document {
    Document { der: Arc::from(text.as_bytes()), this_update: now(), next_update: now() + HOUR }
}

impl Distributor for Known {
    fn list(&self, issuer: &str, delta: bool) -> Option<Document> {
        (issuer == "west").then(|| document(if delta { "the delta" } else { "the full list" }))
    }

    fn issuer(&self, issuer: &str) -> Option<Document> {
        (issuer == "west").then(|| document("the certificate"))
    }

    fn kept_answer(&self, _request: &OcspRequest) -> Option<Answer> {
        None
    }

    async fn answer(&self, request: OcspRequest) -> Answer {
        self.answered.fetch_add(1, Ordering::Relaxed);
        let good = request.nonce.is_none().then(|| (now(), now() + HOUR));
        Answer { der: Arc::from(request.to_der()), good }
    }

    fn now(&self) -> Timestamp {
        now() + Duration::from_secs(600)
    }
}

struct Port {
    address: SocketAddr,
    known: Arc<Known>,
    server: Running,
}

impl Port {
    async fn start(limits: DistributionLimits) -> Self {
        let loopback = "127.0.0.1:0".parse().expect("an address");
        let server = DistributionServer::bind(loopback, limits).await.expect("bound");
        let address = server.local_addr().expect("an address");
        let known = Arc::new(Known::default());
        let for_server = Arc::clone(&known);
        let server = Running::new(|stop| server.serve(for_server, stop));
        Self { address, known, server }
    }

    async fn usual() -> Self {
        Self::start(DistributionLimits::default()).await
    }

    /// Sends these octets, and reads until the server closes.
    async fn raw(&self, octets: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.address).await.expect("connected");
        stream.write_all(octets).await.ok();
        read_to_end(&mut stream).await
    }

    async fn get(&self, path: &str, headers: &str) -> Reply {
        self.ask("GET", path, headers, &[]).await
    }

    async fn ask(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Reply {
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
            body.len()
        )
        .into_bytes();
        request.extend(body);
        Reply::read(&self.raw(&request).await)
    }
}

#[derive(Debug)]
struct Reply {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Reply {
    fn read(octets: &[u8]) -> Self {
        let end = octets.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
        Self {
            status: status_of(octets).expect("a status"),
            head: String::from_utf8_lossy(&octets[..end]).to_lowercase(),
            body: octets[end + 4..].to_vec(),
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines();
        lines.find_map(|line| line.strip_prefix(&format!("{name}: ")))
    }
}

fn request(nonce: Option<Vec<u8>>) -> OcspRequest {
    static CA: std::sync::OnceLock<Certificate> = std::sync::OnceLock::new();
    let ca = CA
        .get_or_init(|| TestAuthority::new("demo.example", now()).site_ca().certificate().clone());
    let serial = "0102030405".parse().expect("a serial");
    OcspRequest { cert_id: CertId::new(IdHash::Sha1, ca, &serial), nonce }
}

#[tokio::test]
async fn lists_and_certificates_come_with_their_type_and_can_be_cached() {
    let port = Port::usual().await;
    for (path, kind, body) in [
        ("/crl/west.crl", "application/pkix-crl", "the full list"),
        ("/crl/west-delta.crl", "application/pkix-crl", "the delta"),
        ("/ca/west.crt", "application/pkix-cert", "the certificate"),
    ] {
        let reply = port.get(path, "").await;
        assert_eq!((reply.status, reply.body.as_slice()), (200, body.as_bytes()), "{path}");
        assert_eq!(reply.header("content-type"), Some(kind));
        let cache = "max-age=3000, public, no-transform, must-revalidate";
        assert_eq!(reply.header("cache-control"), Some(cache));
        assert_eq!(reply.header("last-modified"), Some("sat, 21 nov 2026 12:00:00 gmt"));
        assert_eq!(reply.header("expires"), Some("sat, 21 nov 2026 13:00:00 gmt"));
        let tag = reply.header("etag").expect("a tag").to_owned();

        let head = port.ask("HEAD", path, "", &[]).await;
        assert_eq!((head.status, head.body.len()), (200, 0));
        assert_eq!(head.header("content-length"), Some(body.len().to_string().as_str()));

        let since = |time| format!("If-Modified-Since: Sat, 21 Nov 2026 {time} GMT\r\n");
        assert_eq!(port.get(path, &since("12:00:00")).await.status, 304);
        assert_eq!(port.get(path, &since("11:59:59")).await.status, 200);
        assert_eq!(port.get(path, "If-Modified-Since: yesterday\r\n").await.status, 200);
        assert_eq!(port.get(path, &format!("If-None-Match: {tag}\r\n")).await.status, 304);
        let other = format!("If-None-Match: \"x\"\r\n{}", since("12:00:00"));
        assert_eq!(port.get(path, &other).await.status, 200, "the tag counts more");
    }
    for path in
        ["/crl/east.crl", "/crl/west", "/ca/west.crl", "/crl/../crl/west.crl", "/", "/ocspx"]
    {
        assert_eq!(port.get(path, "").await.status, 404, "{path}");
    }
    assert_eq!(port.ask("POST", "/crl/west.crl", "", b"x").await.status, 405);
    assert_eq!(port.ask("DELETE", "/ocsp", "", &[]).await.status, 405);
    port.server.stop().await;
}

#[tokio::test]
async fn ocsp_is_answered_by_get_and_by_post() {
    let port = Port::usual().await;
    let plain = request(None);
    let der = plain.to_der();
    let encoded = plain.to_url_path();
    let raw = encoded.replace("%2B", "+").replace("%2F", "/").replace("%3D", "=");
    for path in [format!("/ocsp/{encoded}"), format!("/ocsp/{raw}"), format!("/ocsp//{raw}")] {
        let reply = port.get(&path, "").await;
        assert_eq!((reply.status, &reply.body), (200, &der), "{path}");
        assert_eq!(reply.header("content-type"), Some("application/ocsp-response"));
        let cache = "max-age=3000, public, no-transform, must-revalidate";
        assert_eq!(reply.header("cache-control"), Some(cache));
        assert_eq!(reply.header("expires"), Some("sat, 21 nov 2026 13:00:00 gmt"));
    }
    for path in ["/ocsp", "/ocsp/"] {
        let reply =
            port.ask("POST", path, "Content-Type: application/ocsp-request\r\n", &der).await;
        assert_eq!((reply.status, &reply.body), (200, &der), "{path}");
        assert_eq!(reply.header("cache-control"), Some("no-store"));
    }
    let nonce = request(Some(vec![5; 32]));
    let reply = port.get(&format!("/ocsp/{}", nonce.to_url_path()), "").await;
    assert_eq!((reply.status, reply.body.clone()), (200, nonce.to_der()));
    assert_eq!(reply.header("cache-control"), Some("no-store"), "{reply:?}");
    assert_eq!(reply.header("etag"), None);

    // What cannot be read is malformedRequest (1), in an answer that nobody keeps.
    let malformed = [0x30, 3, 0x0a, 1, 1];
    let asked = port.known.answered.load(Ordering::Relaxed);
    for path in ["/ocsp/", "/ocsp/%%%", "/ocsp/AAAA", "/ocsp/MAA="] {
        let reply = port.get(path, "").await;
        assert_eq!((reply.status, reply.body.as_slice()), (200, malformed.as_slice()), "{path}");
        assert_eq!(reply.header("cache-control"), Some("no-store"));
    }
    assert_eq!(port.ask("POST", "/ocsp", "", b"hello").await.body, malformed);
    assert_eq!(port.known.answered.load(Ordering::Relaxed), asked);
    let large = vec![0x30; OcspRequest::MAX_DER + 1];
    assert_eq!(port.ask("POST", "/ocsp", "", &large).await.status, 413);
    port.server.stop().await;
}

#[tokio::test]
async fn one_connection_carries_many_requests() {
    let port = Port::usual().await;
    let mut stream = TcpStream::connect(port.address).await.expect("connected");
    for _ in 0..20 {
        stream.write_all(b"GET /ca/west.crt HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("sent");
        let mut answer = Vec::new();
        while !answer.ends_with(b"the certificate") {
            let read = timeout(PATIENCE, stream.read_buf(&mut answer)).await.expect("in time");
            assert!(read.expect("an answer") > 0, "closed early");
        }
    }
    // A server that stops does not wait for idle connections.
    port.server.stop().await;
}

#[tokio::test]
async fn too_many_answers_for_one_address_are_put_off() {
    let rate = Rate { burst: 3, every: Duration::from_secs(3600) };
    let limits = DistributionLimits { answer_rate: rate, ..DistributionLimits::default() };
    let port = Port::start(limits).await;
    let path = format!("/ocsp/{}", request(None).to_url_path());
    for _ in 0..3 {
        assert_ne!(port.get(&path, "").await.body, [0x30, 3, 0x0a, 1, 3]);
    }
    let reply = port.get(&path, "").await;
    assert_eq!(reply.body, [0x30, 3, 0x0a, 1, 3], "tryLater");
    assert!(reply.header("retry-after").is_some_and(|wait| wait.parse::<u64>().is_ok()));
    assert_eq!(port.known.answered.load(Ordering::Relaxed), 3);
    assert_eq!(port.get("/crl/west.crl", "").await.status, 200, "lists are not counted");
    port.server.stop().await;
}

#[tokio::test]
async fn hostile_bytes_and_silence_end_in_time() {
    let limits = DistributionLimits { connection: hasty(), ..DistributionLimits::default() };
    let port = Port::start(limits).await;
    let long = format!("GET /ocsp/{} HTTP/1.1\r\nHost: a\r\n\r\n", "A".repeat(100_000));
    for octets in [
        &b"\x16\x03\x01\x02\x00\x01\x00"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /ocsp HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"POST /ocsp HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nslow",
        b"GET /crl/west.crl HTTP/1.1\r\nHo",
        b"",
        long.as_bytes(),
    ] {
        let answer = port.raw(octets).await;
        assert_ne!(status_of(&answer), Some(200), "{:?}", String::from_utf8_lossy(octets));
    }
    assert_eq!(port.get("/crl/west.crl", "").await.status, 200);
    port.server.stop().await;
}
