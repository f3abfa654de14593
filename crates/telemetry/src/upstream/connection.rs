//! One connection at a time: how it was made, how it does, and the look at a better one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use handfast_tls::Fault;
use hyper::client::conn::http2::SendRequest;
use jiff::Timestamp;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::{Lookup, Security, UpstreamPlan, dial};
use crate::grpc::Body;

/// The connection that is used, and the look at a better one.
#[derive(Default)]
pub(super) struct Line {
    pub(super) open: Option<Connection>,
    /// Dials the backends before the one that is connected.
    pub(super) looking: Option<JoinHandle<Option<Connection>>>,
}

#[derive(Clone)]
pub(super) struct Connection {
    pub(super) sender: SendRequest<Body>,
    pub(super) ended: dial::Ended,
    pub(super) generation: u64,
    pub(super) scheme: &'static str,
    pub(super) authority: String,
    /// Which backend of the plan.
    pub(super) index: usize,
    /// When it is looked whether one before it is back.
    pub(super) look: Instant,
    pub(super) standing: Arc<Standing>,
}

/// How whoever is at the other end has done.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// How often in a row it answered that it cannot serve.
    pub(super) unable: AtomicU32,
    /// It has answered something.
    pub(super) answered: AtomicBool,
}

impl Connection {
    fn new(dialled: dial::Dialled, index: usize, made_by: &Dialling) -> Self {
        let dial::Dialled { sender, ended } = dialled;
        let backend = &made_by.plan.backends[index];
        let scheme = match made_by.security {
            Security::Plaintext => "http",
            Security::Tls { .. } => "https",
        };
        let authority = match &made_by.security {
            Security::Tls { server_name: Some(name), .. } => backend.renamed(name),
            _ => backend.to_string(),
        };
        Self {
            sender,
            ended,
            generation: made_by.generation,
            scheme,
            authority,
            index,
            look: Instant::now() + made_by.patience,
            standing: Arc::default(),
        }
    }

    /// Whether it can take requests. What was read may have ended it before hyper knows.
    pub(super) fn is_over(&self) -> bool {
        self.sender.is_closed() || self.ended.get().is_some()
    }

    pub(super) fn is_unable(&self) -> bool {
        self.standing.unable.load(Ordering::Relaxed) >= UNABLE
    }
}

/// What dialling needs to know.
#[derive(Clone)]
pub(super) struct Dialling {
    pub(super) plan: Arc<UpstreamPlan>,
    pub(super) security: Security,
    pub(super) generation: u64,
    pub(super) now: Timestamp,
    pub(super) lookup: Lookup,
    pub(super) tasks: TaskTracker,
    /// How long a backend that is not the first is kept before it is looked for a better one.
    pub(super) patience: Duration,
}

impl Dialling {
    pub(super) async fn dial(&self, index: usize) -> Result<Connection, Fault> {
        let backend = &self.plan.backends[index];
        let Self { security, now, lookup, tasks, .. } = self;
        match dial::dial(backend, security, *now, lookup, tasks).await {
            Ok(dialled) => Ok(Connection::new(dialled, index, self)),
            Err(fault) => {
                tracing::debug!(%backend, fault = %fault.one_line(), "not reached");
                Err(fault)
            }
        }
    }

    /// The first of the backends before `index` that is there.
    pub(super) async fn better_than(self, index: usize) -> Option<Connection> {
        for better in 0..index {
            if let Ok(connection) = self.dial(better).await {
                return Some(connection);
            }
        }
        None
    }
}

/// Answers in a row of one backend that it cannot serve, after which the next one is tried.
const UNABLE: u32 = 3;
