//! Records on their way to somebody else: spooled first, answered then, sent as fast as the backend
//! takes them, and given up only when it has said that it has them. At least once; a collector of
//! ours drops the segments that come twice.
//!
//! What a backend will never take (a service that the caller may not speak for, a method it does
//! not have) is **set aside** in a journal of its own, so that one record does not hold up all that come after
//! it, and nothing that was accepted is lost.

mod deliver;
mod shipment;

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::grpc::{Body, Status, failed};
use crate::journal::{
    AppendError, Cursor, Journal, JournalError, JournalSettings, JournalStatus, Repair, WhenFull,
};
use crate::record::Record;
use crate::sink::{Later, Now, Question, Sink, Untaken};
use crate::upstream::{Upstream, UpstreamStatus};

/// A spool and what empties it.
pub struct Forwarder {
    shared: Arc<Shared>,
    ending: CancellationToken,
    tasks: TaskTracker,
}

struct Shared {
    spool: Journal,
    aside: Journal,
    upstream: Arc<Upstream>,
    sent: AtomicU64,
    set_aside: AtomicU64,
    /// Where the backend has everything before.
    done: AtomicU64,
    /// Services that the backend refused, and until when they are refused here for it.
    refused: Mutex<HashMap<String, (Status, Instant)>>,
    trouble: Mutex<Option<Status>>,
}

/// What a forwarder is up to.
#[derive(Clone, Debug)]
pub struct ForwarderStatus {
    /// Bytes in the spool that the backend does not have yet.
    pub lag_bytes: u64,
    /// Records that the backend has.
    pub sent: u64,
    /// The newest refusal of a service that is still remembered.
    pub refused: Option<Status>,
    /// Records that it will never take.
    pub set_aside: u64,
    /// The spool.
    pub spool: JournalStatus,
    /// Why nothing moves at the moment, if so.
    pub trouble: Option<Status>,
    /// The connection.
    pub upstream: UpstreamStatus,
}

impl Forwarder {
    /// Opens the spool in `directory`, with what the last process left in it, and begins to empty it.
    /// Blocks while the spool is repaired.
    ///
    /// # Errors
    /// The directory cannot be used, or another process uses it.
    pub fn start(
        directory: &Path,
        settings: JournalSettings,
        upstream: Arc<Upstream>,
    ) -> Result<(Self, Repair), JournalError> {
        let (spool, repair) = Journal::open(directory.join("spool"), settings)?;
        let aside_settings = JournalSettings {
            limit_bytes: ASIDE_BYTES,
            when_full: WhenFull::DropOldest,
            ..JournalSettings::default()
        };
        let (aside, _) = Journal::open(directory.join("aside"), aside_settings)?;
        let cursor = Cursor::open(directory.join("cursor"))?;
        let shared = Arc::new(Shared {
            spool,
            aside,
            upstream,
            sent: AtomicU64::new(0),
            set_aside: AtomicU64::new(0),
            done: AtomicU64::new(cursor.position().as_u64()),
            refused: Mutex::default(),
            trouble: Mutex::default(),
        });
        let forwarder =
            Self { shared, ending: CancellationToken::new(), tasks: TaskTracker::new() };
        let (shared, ending) = (Arc::clone(&forwarder.shared), forwarder.ending.clone());
        forwarder.tasks.spawn(async move {
            tokio::select! {
                () = ending.cancelled() => {}
                () = deliver::run(shared, cursor) => {}
            }
        });
        Ok((forwarder, repair))
    }

    /// What it is up to.
    pub fn status(&self) -> ForwarderStatus {
        let spool = self.shared.spool.status();
        let done = crate::journal::Position::new(self.shared.done.load(Ordering::Relaxed));
        let newest = |refused: &HashMap<String, (Status, Instant)>| {
            refused.values().max_by_key(|(_, until)| *until).map(|(status, _)| status.clone())
        };
        ForwarderStatus {
            lag_bytes: spool.lag(done),
            refused: newest(&lock(&self.shared.refused)),
            sent: self.shared.sent.load(Ordering::Relaxed),
            set_aside: self.shared.set_aside.load(Ordering::Relaxed),
            spool,
            trouble: lock(&self.shared.trouble).clone(),
            upstream: self.shared.upstream.status(),
        }
    }

    /// The backend.
    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.shared.upstream
    }

    /// Sends what can be sent within `grace`, then stops; the rest stays spooled.
    pub async fn stop(&self, grace: Duration) {
        let deadline = tokio::time::Instant::now() + grace;
        while self.status().lag_bytes > 0 && tokio::time::Instant::now() < deadline {
            if lock(&self.shared.trouble).is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.ending.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.ending.cancel();
    }
}

impl Sink for Forwarder {
    fn take(&self, records: Vec<Record>) -> Now<'_, Result<Later<Result<(), Untaken>>, Untaken>> {
        Box::pin(async move {
            let appended = self.shared.spool.append(records).await?;
            let durable = async move { appended.durable().await.map(drop).map_err(Untaken::from) };
            Ok(Box::pin(durable) as Later<_>)
        })
    }

    fn ask(&self, question: Question) -> Now<'_, Result<Bytes, Status>> {
        Box::pin(async move {
            let Question { path, headers, message } = question;
            self.shared.upstream.ask(&path, &headers, &message).await
        })
    }

    fn pass(&self, request: Request<Incoming>) -> Now<'_, Response<Body>> {
        Box::pin(async move { pass(&self.shared.upstream, request).await })
    }

    fn refuses(&self, service: &str) -> Option<Status> {
        let mut refused = lock(&self.shared.refused);
        let (status, until) = refused.get(service)?;
        if Instant::now() < *until {
            return Some(status.clone());
        }
        refused.remove(service);
        None
    }
}

/// Passes a call on, byte for byte, with its headers and trailers.
pub(crate) async fn pass(upstream: &Upstream, request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    match upstream.request(path, &parts.headers, Body::Passed(body)).await {
        Ok(response) => response.map(Body::Passed),
        Err(status) => failed(&status),
    }
}

impl From<AppendError> for Untaken {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Closed => Self::Ending,
            error => Self::Unwritten(error.to_string()),
        }
    }
}

impl fmt::Debug for Forwarder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwarder").field("spool", &self.shared.spool).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was set aside may have so much room; then the oldest of it goes.
const ASIDE_BYTES: u64 = 256 << 20;
