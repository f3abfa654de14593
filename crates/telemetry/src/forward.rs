//! Records on their way to somebody else: spooled first, answered then, sent as fast as the backend
//! takes them, and given up only when it has said that it has them. At least once; a collector of
//! ours drops the segments that come twice.
//!
//! What a backend will never take (a service that the caller may not speak for, a method it does
//! not have) is **set aside** in a journal of its own, so that one record does not hold up all that come after
//! it, and nothing that was accepted is lost.

mod aside;
mod deliver;
mod gate;
mod said;
mod shipment;
mod verdict;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::aside::{ASIDE_BYTES, Aside, AsideStatus, Shelf as _};
pub use self::aside::{
    AsideDirectory, AsideDirectoryError, AsideError, AsideFault, Chosen, Dealt, SetAside,
};
use self::gate::Gate;
use self::said::Said;
use crate::grpc::{Body, Code, Status, failed};
use crate::journal::{
    AppendError, Cursor, Journal, JournalError, JournalSettings, JournalStatus, Position,
    ReadError, Repair,
};
use crate::record::{Record, RecordKind};
use crate::sink::{Now, Question, Sink, Taking, Untaken};
use crate::upstream::{Authentication, Dice, Upstream, UpstreamStatus};

/// What is spoken to the backends.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Dialect {
    /// OpenTelemetry's protocol over gRPC. What agents of SkyWalking say is told in its words
    /// ([`otlp_export`](crate::protocol::otlp_export)); what has no counterpart there is counted and not
    /// sent, and questions of agents are answered by nobody's commands.
    Otlp,
    /// Each record goes out in the protocol that it came in: to an OAP, or to another collector.
    #[default]
    SkyWalking,
}

impl Dialect {
    /// A token, where backends that speak so look for it. None where it cannot stand in a header.
    pub fn authentication(self, token: &str) -> Option<Authentication> {
        match self {
            Self::Otlp => Authentication::bearer(token),
            Self::SkyWalking => Authentication::token(token),
        }
    }
}

/// A spool and what empties it.
pub struct Forwarder {
    shared: Arc<Shared>,
    ending: CancellationToken,
    tasks: TaskTracker,
}

struct Shared {
    spool: Journal,
    /// All that hold the spool: also those that are told to end, and have not heard it yet.
    tasks: TaskTracker,
    aside: Arc<Aside>,
    said: Said,
    dialect: Dialect,
    upstream: Arc<Upstream>,
    dice: Dice,
    gate: Gate,
    progress: watch::Sender<Progress>,
    sent: AtomicU64,
    not_forwarded: Mutex<BTreeMap<RecordKind, u64>>,
    rejected: AtomicU64,
    /// What the backend said last when it took something in part.
    rejection: Mutex<String>,
    /// One more than the generation of the backends that have taken something: what they do not know
    /// then is a method, and not all of what we speak.
    understood: AtomicU64,
}

/// How far it is, for whoever waits for it.
#[derive(Clone, Debug)]
struct Progress {
    /// Where the backend has everything before.
    done: Position,
    /// Why nothing moves.
    trouble: Option<Status>,
}

/// What a forwarder is up to.
#[derive(Clone, Debug)]
pub struct ForwarderStatus {
    /// Bytes in the spool that the backend does not have yet.
    pub lag_bytes: u64,
    /// Records that were not sent because the backend's protocol has no words for them, by kind.
    pub not_forwarded: BTreeMap<&'static str, u64>,
    /// Spans, points and lines that the backend said it has not taken out of what it took
    /// (`partial_success`).
    pub rejected: u64,
    /// The newest refusal of a service that is still remembered.
    pub refused: Option<Status>,
    /// Records that the backend has.
    pub sent: u64,
    /// Records that it will never take.
    pub set_aside: u64,
    /// Records that lie aside now.
    pub aside: u64,
    /// Records that lay aside and went because there was no room for more.
    pub aside_dropped: u64,
    /// The spool.
    pub spool: JournalStatus,
    /// Why nothing moves at the moment, if so, and what to do about it.
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
        dialect: Dialect,
        upstream: Arc<Upstream>,
        dice: Dice,
    ) -> Result<(Self, Repair), JournalError> {
        let (spool, repair) = Journal::open(directory.join(SPOOL), settings)?;
        let aside = Aside::open(&directory.join(ASIDE), ASIDE_BYTES)?;
        let cursor = Cursor::open(directory.join(CURSOR))?;
        // What was sent by the last process is given back; with a lower limit there may be no room otherwise. A place
        // that this spool never reached is not taken at its word.
        spool.release(spool.reader(cursor.position()).position())?;
        let progress = Progress { done: cursor.position(), trouble: None };
        let shared = Arc::new(Shared {
            spool,
            tasks: TaskTracker::new(),
            aside: Arc::new(aside),
            said: Said::default(),
            dialect,
            upstream,
            dice,
            gate: Gate::default(),
            progress: watch::Sender::new(progress),
            sent: AtomicU64::new(0),
            not_forwarded: Mutex::default(),
            rejected: AtomicU64::new(0),
            rejection: Mutex::default(),
            understood: AtomicU64::new(0),
        });
        let forwarder =
            Self { tasks: shared.tasks.clone(), shared, ending: CancellationToken::new() };
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
        let Shared { spool, aside, progress, .. } = &*self.shared;
        let spool = spool.status();
        let Progress { done, trouble } = progress.borrow().clone();
        let AsideStatus { records, dropped, count } = aside.status();
        ForwarderStatus {
            lag_bytes: spool.lag(done),
            not_forwarded: lock(&self.shared.not_forwarded)
                .iter()
                .map(|(kind, count)| (kind.as_str(), *count))
                .collect(),
            rejected: self.shared.rejected.load(Ordering::Relaxed),
            refused: self.shared.said.newest_refusal(),
            sent: self.shared.sent.load(Ordering::Relaxed),
            set_aside: count,
            aside: records,
            aside_dropped: dropped,
            spool,
            trouble,
            upstream: self.shared.upstream.status(),
        }
    }

    /// What of the chosen lies aside, the oldest first: at most so many, behind `behind` if that is named. Blocks
    /// while the disk is read.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn aside(
        &self,
        chosen: &Chosen,
        behind: Option<u64>,
        most: usize,
    ) -> Result<Vec<SetAside>, ReadError> {
        self.shared.aside.list(chosen, behind, most)
    }

    /// One of the records that lie aside, with its message. Blocks while the disk is read.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn aside_one(&self, id: u64) -> Result<Option<(SetAside, Bytes)>, ReadError> {
        self.shared.aside.find(id)
    }

    /// Puts what was chosen of what lies aside back into the spool: it is sent again, and what the backend
    /// refuses again lies aside again. At whatever moment the process ends, each record is in the spool, aside, or both.
    ///
    /// # Errors
    /// The spool has no room, or the disk refuses; what was not put back lies aside as before.
    pub async fn retry_aside(&self, chosen: &Chosen) -> Result<Dealt, AsideError> {
        // Somebody says that it is otherwise now.
        self.shared.said.forget();
        self.shared.aside.deal(chosen, Some(&self.shared.spool)).await
    }

    /// Throws away what was chosen of what lies aside.
    ///
    /// # Errors
    /// The disk refuses; what was not thrown away lies aside as before.
    pub async fn drop_aside(&self, chosen: &Chosen) -> Result<Dealt, AsideError> {
        self.shared.aside.deal(chosen, None).await
    }

    /// The backend.
    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.shared.upstream
    }

    /// Sends what can be sent within `grace`, then stops; the rest stays spooled. It does not wait for
    /// a backend that takes nothing.
    pub async fn stop(&self, grace: Duration) {
        let spool = &self.shared.spool;
        let mut progress = self.shared.progress.subscribe();
        let settled = |now: &Progress| spool.status().lag(now.done) == 0 || now.trouble.is_some();
        // Late or settled, it stops.
        let _ = timeout(grace, progress.wait_for(settled)).await;
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

impl Shared {
    async fn set_aside(&self, records: Vec<Record>, reason: &str) {
        self.aside.put(records, reason, self.upstream.now(), &self.dice).await;
    }

    /// Something was taken.
    fn moves(&self) {
        self.gate.open();
        self.understood.store(self.upstream.generation() + 1, Ordering::Relaxed);
        self.progress.send_if_modified(|now| now.trouble.take().is_some());
    }

    fn is_understood(&self) -> bool {
        self.understood.load(Ordering::Relaxed) == self.upstream.generation() + 1
    }

    /// Nothing is taken. Said once, until something is.
    fn held_up(&self, status: Status) {
        self.progress.send_modify(|now| {
            if now.trouble.is_none() {
                tracing::warn!(%status, "nothing is taken at the moment; what comes is spooled");
            }
            now.trouble = Some(status);
        });
    }
}

impl Sink for Forwarder {
    fn take(&self, records: Vec<Record>) -> Now<'_, Result<Taking, Untaken>> {
        Box::pin(async move {
            let appended = self.shared.spool.append(records).await?;
            Ok(Taking::new(async move { Ok(appended.durable().await.map(drop)?) }))
        })
    }

    fn ask(&self, question: Question) -> Now<'_, Result<Bytes, Status>> {
        Box::pin(async move {
            if self.shared.dialect == Dialect::Otlp {
                // There is nobody behind who gives agents tasks: no commands.
                return Ok(Bytes::new());
            }
            let Question { path, headers, message } = question;
            self.shared.upstream.ask(&path, &headers, &message).await
        })
    }

    fn pass(&self, request: Request<Body>) -> Now<'_, Response<Body>> {
        let path = request.uri().path();
        if self.shared.dialect == Dialect::Otlp && !path.starts_with(OTLP_METHODS) {
            let path = path.escape_debug();
            let status = Status::new(
                Code::Unimplemented,
                format!(
                    "what is behind this collector speaks OpenTelemetry's protocol, and knows no method {path}"
                ),
            );
            return Box::pin(async move { failed(&status) });
        }
        Box::pin(async move { pass(&self.shared.upstream, request).await })
    }

    fn refuses(&self, service: &str) -> Option<Status> {
        self.shared.said.refuses(service)
    }
}

/// Passes a call on, byte for byte, with its headers and trailers.
pub(crate) async fn pass(upstream: &Upstream, request: Request<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    match upstream.request(path, &parts.headers, body).await {
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

/// What has yet to be sent, what a backend will never take, and how far it was sent: beside each other in the directory.
const SPOOL: &str = "spool";
const ASIDE: &str = "aside";
const CURSOR: &str = "cursor";

/// Methods that a backend of OpenTelemetry may know although we do not.
const OTLP_METHODS: &str = "/opentelemetry.";
