//! The same answers over HTTP: the real server, and a client as plain as can be.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use handfast_api::distribution::{
    Answer, DistributionLimits, DistributionServer, Distributor, Document,
};
use handfast_authority::{Authority, Publisher};
use handfast_pki::ocsp::OcspRequest;
use handfast_store::{DirectoryStore, SqliteLedger};
use jiff::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::place::Place;

const CONNECTIONS: usize = 16;

struct Handouts {
    authority: Arc<Authority<DirectoryStore, SqliteLedger>>,
    publisher: Arc<Publisher>,
    now: Timestamp,
}

impl Distributor for Handouts {
    fn list(&self, _issuer: &str, _delta: bool) -> Option<Document> {
        None
    }

    fn issuer(&self, _issuer: &str) -> Option<Document> {
        None
    }

    fn kept_answer(&self, request: &OcspRequest) -> Option<Answer> {
        let kept = self.publisher.kept_answer(request, self.now)?;
        Some(Answer { der: kept.der, good: kept.good })
    }

    async fn answer(&self, request: OcspRequest) -> Answer {
        let made = self.authority.answer_ocsp(&self.publisher, &request, self.now);
        Answer { der: made.der, good: made.good }
    }

    fn now(&self) -> Timestamp {
        self.now
    }
}

/// Responses per second.
pub(crate) fn rate(place: &Place, requests: &[OcspRequest], life: Duration) -> f64 {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let handouts = Handouts {
        authority: Arc::clone(place.authority()),
        publisher: Arc::clone(place.publisher()),
        now: place.now(),
    };
    let paths: Arc<Vec<Vec<u8>>> = Arc::new(
        requests
            .iter()
            .map(|r| format!("GET /ocsp/{} HTTP/1.1\r\nHost: a\r\n\r\n", r.to_url_path()))
            .map(String::into_bytes)
            .collect(),
    );
    runtime.block_on(async {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let limits = DistributionLimits::default();
        let server = DistributionServer::bind(loopback, limits).await.unwrap();
        let address = server.local_addr().unwrap();
        let stop = CancellationToken::new();
        let serving = tokio::spawn(server.serve(Arc::new(handouts), stop.clone()));
        let done = Arc::new(AtomicU64::new(0));
        let start = Instant::now();
        let clients: Vec<_> = (0..CONNECTIONS)
            .map(|client| {
                let (paths, done) = (Arc::clone(&paths), Arc::clone(&done));
                tokio::spawn(async move {
                    let mut stream = TcpStream::connect(address).await.unwrap();
                    stream.set_nodelay(true).unwrap();
                    let mut buffer = Vec::with_capacity(8192);
                    for path in paths.iter().cycle().skip(client * 61) {
                        if start.elapsed() >= life {
                            return;
                        }
                        stream.write_all(path).await.unwrap();
                        whole_answer(&mut stream, &mut buffer).await;
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        for client in clients {
            client.await.unwrap();
        }
        let rate = done.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64();
        stop.cancel();
        serving.await.unwrap();
        rate
    })
}

/// Reads one answer, which must be a good one.
async fn whole_answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) {
    buffer.clear();
    loop {
        assert!(stream.read_buf(buffer).await.unwrap() > 0, "closed early");
        let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        let head = std::str::from_utf8(&buffer[..end]).unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let length: usize = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .and_then(|length| length.parse().ok())
            .unwrap();
        if buffer.len() >= end + 4 + length {
            return;
        }
    }
}
