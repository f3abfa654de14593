//! What the backend said of whom, for as long as it is worth remembering: agents are told at once, and methods
//! that it does not have are not called for every record.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::lock;
use crate::grpc::Status;

#[derive(Debug, Default)]
pub(super) struct Said {
    /// Services that the backend refused, and until when they are refused here for it.
    refused: Mutex<HashMap<String, (Status, Instant)>>,
    /// Methods that the backend does not have, and until when it is not asked again.
    missing: Mutex<HashMap<&'static str, (Status, Instant)>>,
}

impl Said {
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

    /// Asks it anew from now on: somebody says that something has changed there.
    pub(super) fn forget(&self) {
        lock(&self.refused).clear();
        lock(&self.missing).clear();
    }
}

/// Services whose refusal is remembered.
const REFUSED: usize = 1024;

/// So long the agent is told at once what the backend said; then it is asked again.
const REFUSE_FOR: Duration = Duration::from_secs(30);

/// So long a method is not called that the backend does not have: it may be replaced by a newer one.
const MISS_FOR: Duration = Duration::from_secs(300);
