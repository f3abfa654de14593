//! What a backend will never take, beside the spool; and what it said of whom, so that agents are told at
//! once and methods that it does not have are not called for every record.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::lock;
use crate::grpc::Status;
use crate::journal::{AppendError, Journal, JournalError, JournalSettings, WhenFull};
use crate::record::Record;
use crate::upstream::{Dice, pause};

pub(super) struct Aside {
    journal: Journal,
    count: AtomicU64,
    /// Services that the backend refused, and until when they are refused here for it.
    refused: Mutex<HashMap<String, (Status, Instant)>>,
    /// Methods that the backend does not have, and until when it is not asked again.
    missing: Mutex<HashMap<&'static str, (Status, Instant)>>,
}

impl Aside {
    pub(super) fn open(directory: &Path) -> Result<Self, JournalError> {
        let settings = JournalSettings {
            limit_bytes: ASIDE_BYTES,
            when_full: WhenFull::DropOldest,
            ..JournalSettings::default()
        };
        let (journal, _) = Journal::open(directory, settings)?;
        Ok(Self {
            journal,
            count: AtomicU64::new(0),
            refused: Mutex::default(),
            missing: Mutex::default(),
        })
    }

    /// Records that were set aside by this process.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Sets records aside. While the disk does not take them they wait, and what is behind them waits
    /// too: they were accepted.
    pub(super) async fn put(&self, records: Vec<Record>, dice: &Dice) {
        let count = records.len() as u64;
        let mut failures = 0;
        while let Err(error) = self.append(records.clone()).await {
            if matches!(error, AppendError::Closed | AppendError::RecordTooLarge { .. }) {
                tracing::error!(%error, records = count, "what was to be set aside is lost");
                break;
            }
            if failures == 0 {
                tracing::error!(%error, records = count, "nothing can be set aside; trying again");
            }
            sleep(pause(failures, dice.throw())).await;
            failures = failures.saturating_add(1);
        }
        self.count.fetch_add(count, Ordering::Relaxed);
    }

    async fn append(&self, records: Vec<Record>) -> Result<(), AppendError> {
        self.journal.append(records).await?.durable().await.map(drop)
    }

    /// Remembers that the backend takes nothing of a service.
    pub(super) fn refuse(&self, service: String, status: Status) {
        let mut refused = lock(&self.refused);
        if refused.len() >= REFUSED {
            refused.clear();
        }
        refused.insert(service, (status, Instant::now() + REFUSE_FOR));
    }

    /// The newest refusal of a service that is still remembered.
    pub(super) fn newest_refusal(&self) -> Option<Status> {
        let refused = lock(&self.refused);
        refused.values().max_by_key(|(_, until)| *until).map(|(status, _)| status.clone())
    }

    /// What the backend said of a service not long ago.
    pub(super) fn refuses(&self, service: &str) -> Option<Status> {
        let mut refused = lock(&self.refused);
        let (status, until) = refused.get(service)?;
        if Instant::now() < *until {
            return Some(status.clone());
        }
        refused.remove(service);
        None
    }

    /// Remembers that the backend does not have a method.
    pub(super) fn miss(&self, path: &'static str, status: Status) {
        lock(&self.missing).insert(path, (status, Instant::now() + MISS_FOR));
    }

    /// What the backend said not long ago of a method that it does not have.
    pub(super) fn misses(&self, path: &'static str) -> Option<Status> {
        let mut missing = lock(&self.missing);
        let (status, until) = missing.get(path)?;
        if Instant::now() < *until {
            return Some(status.clone());
        }
        missing.remove(path);
        None
    }
}

/// What was set aside may have so much room; then the oldest of it goes.
const ASIDE_BYTES: u64 = 256 << 20;

/// Services whose refusal is remembered.
const REFUSED: usize = 1024;

/// So long the agent is told at once what the backend said; then it is asked again.
const REFUSE_FOR: Duration = Duration::from_secs(30);

/// So long a method is not called that the backend does not have: it may be replaced by a newer one.
const MISS_FOR: Duration = Duration::from_secs(300);
