//! HTTP requests through the network, and a load that counts what fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::service::GREETING;

/// One HTTP/1.1 connection to a local port.
pub(super) struct Connection {
    requests: SendRequest<Empty<Bytes>>,
    driver: tokio::task::JoinHandle<()>,
}

impl Connection {
    /// Connects to 127.0.0.1.
    pub(super) async fn open(port: u16) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))
            .await
            .with_context(|| format!("cannot connect to 127.0.0.1:{port}"))?;
        stream.set_nodelay(true)?;
        let (requests, connection) = handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(async move {
            // Its errors reach the request that waits for an answer.
            let _ = connection.await;
        });
        Ok(Self { requests, driver })
    }

    /// Sends `GET path` and reads the whole answer, which must come within [`ANSWER_LIMIT`] and be a success.
    pub(super) async fn fetch(&mut self, path: &str) -> anyhow::Result<Bytes> {
        let request =
            Request::get(path).header(hyper::header::HOST, "payments").body(Empty::new())?;
        let exchange = async {
            self.requests.ready().await?;
            let response = self.requests.send_request(request).await?;
            ensure!(response.status().is_success(), "the service answered {}", response.status());
            Ok(response.into_body().collect().await?.to_bytes())
        };
        tokio::time::timeout(ANSWER_LIMIT, exchange)
            .await
            .with_context(|| format!("no answer within {} s", ANSWER_LIMIT.as_secs()))?
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Requests that run until [`Load::finish`]: some on kept connections, some on a new connection each.
pub(super) struct Load {
    counters: Arc<Counters>,
    workers: JoinSet<()>,
}

#[derive(Default)]
struct Counters {
    done: AtomicBool,
    kept: AtomicU64,
    fresh: AtomicU64,
    failed: AtomicU64,
    first_failure: std::sync::Mutex<Option<String>>,
}

/// What a load came to.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    /// Requests answered on kept connections.
    pub(super) kept: u64,
    /// Requests answered on a connection of their own.
    pub(super) fresh: u64,
    /// Requests that failed, of either kind.
    pub(super) failed: u64,
    /// The first failure, in words.
    pub(super) first_failure: Option<String>,
}

impl Load {
    /// Starts the load on 127.0.0.1:`port`.
    pub(super) fn start(port: u16) -> Self {
        let counters = Arc::new(Counters::default());
        let mut workers = JoinSet::new();
        for _ in 0..KEPT {
            workers.spawn(keep_asking(port, Arc::clone(&counters)));
        }
        for _ in 0..FRESH {
            workers.spawn(ask_anew(port, Arc::clone(&counters)));
        }
        Self { counters, workers }
    }

    /// The counts at this moment.
    pub(super) fn tally(&self) -> Tally {
        let first_failure = self.counters.first_failure.lock();
        Tally {
            kept: self.counters.kept.load(Ordering::Relaxed),
            fresh: self.counters.fresh.load(Ordering::Relaxed),
            failed: self.counters.failed.load(Ordering::Relaxed),
            first_failure: first_failure.unwrap_or_else(std::sync::PoisonError::into_inner).clone(),
        }
    }

    /// Lets every worker finish the request it is in, and gives the final counts.
    pub(super) async fn finish(mut self) -> Tally {
        self.counters.done.store(true, Ordering::Relaxed);
        while self.workers.join_next().await.is_some() {}
        self.tally()
    }
}

impl Counters {
    fn is_done(&self) -> bool {
        self.done.load(Ordering::Relaxed)
    }

    fn record(&self, which: &AtomicU64, result: anyhow::Result<Bytes>) -> bool {
        let result = result.and_then(|body| {
            ensure!(
                body == GREETING.as_bytes(),
                "an answer arrived changed ({} bytes)",
                body.len()
            );
            Ok(())
        });
        let Err(error) = result else {
            which.fetch_add(1, Ordering::Relaxed);
            return true;
        };
        self.failed.fetch_add(1, Ordering::Relaxed);
        let mut first =
            self.first_failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        first.get_or_insert_with(|| format!("{error:#}"));
        false
    }
}

/// Asks on one connection for as long as it lives; a connection that breaks is a failure, and is replaced.
async fn keep_asking(port: u16, counters: Arc<Counters>) {
    while !counters.is_done() {
        let mut connection = match Connection::open(port).await {
            Ok(connection) => connection,
            Err(error) => {
                counters.record(&counters.kept, Err(error));
                tokio::time::sleep(PACE).await;
                continue;
            }
        };
        while !counters.is_done() && counters.record(&counters.kept, connection.fetch("/").await) {
            tokio::time::sleep(PACE).await;
        }
    }
}

async fn ask_anew(port: u16, counters: Arc<Counters>) {
    while !counters.is_done() {
        let result = async { Connection::open(port).await?.fetch("/").await }.await;
        counters.record(&counters.fresh, result);
        tokio::time::sleep(PACE).await;
    }
}

/// Kept connections of a load.
const KEPT: usize = 4;

/// Workers of a load that open a connection per request.
const FRESH: usize = 4;

/// Pause of each worker between two requests: the demo shows continuity, not speed, and leaves the processor to the nodes.
const PACE: Duration = Duration::from_millis(2);

/// How long one answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
