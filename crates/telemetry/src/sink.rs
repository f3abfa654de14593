//! Where accepted records go: kept in the embedded store, or spooled on their way to somebody else. The
//! desk knows only this trait; PostgreSQL or Kafka would be further kinds of it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};

use crate::grpc::{Body, Code, Status};
use crate::record::{Record, RecordKind};

/// A future that outlives its maker.
pub type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A future that borrows what made it.
pub type Now<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What takes records, and answers what cannot be queued.
pub trait Sink: Send + Sync + 'static {
    /// Takes records, in order. Resolves as soon as there was room for them; the future that comes out
    /// resolves when they are durable, and only then may their sender be told that they were accepted.
    fn take(&self, records: Vec<Record>) -> Now<'_, Result<Taking, Untaken>>;

    /// Asks a question of an agent (its profile tasks, its configuration): passed on, or answered by
    /// nothing, which every agent understands.
    fn ask(&self, question: Question) -> Now<'_, Result<Bytes, Status>>;

    /// Passes on a call of a method that nobody here knows, byte for byte.
    fn pass(&self, request: Request<Body>) -> Now<'_, Response<Body>>;

    /// What whoever is behind this sink said of a service that it will not take anything from; the
    /// agent is told at once, instead of after its reports were spooled in vain.
    fn refuses(&self, service: &str) -> Option<Status> {
        let _ = service;
        None
    }
}

/// Records for which there was room.
pub struct Taking {
    /// Resolves when they are durable.
    pub durable: Later<Result<(), Untaken>>,
    /// What was strange about them.
    pub noticed: Vec<Notice>,
}

impl Taking {
    /// Records about which nothing is strange, or which nobody has looked into.
    pub fn new(durable: impl Future<Output = Result<(), Untaken>> + Send + 'static) -> Self {
        Self { durable: Box::pin(durable), noticed: Vec::new() }
    }
}

impl fmt::Debug for Taking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Taking").field("noticed", &self.noticed).finish_non_exhaustive()
    }
}

/// What is strange about records that were taken all the same.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Notice {
    /// Of which kind they are.
    pub kind: RecordKind,
    /// What it is.
    pub oddity: Oddity,
    /// How many they are.
    pub records: u64,
}

/// A strangeness that is borne.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Oddity {
    /// It was of another time than it can be, so it is kept under the time at which it came.
    ClockSkewed,
    /// It has more tags, names or traces in it, or longer ones, than it will be found by.
    Cut,
}

impl Oddity {
    /// Every one.
    pub const ALL: [Self; 2] = [Self::ClockSkewed, Self::Cut];

    /// Its name in metrics and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClockSkewed => "clock-skewed",
            Self::Cut => "cut",
        }
    }
}

/// A unary call that is passed through.
#[derive(Clone, Debug)]
pub struct Question {
    /// The method: `/skywalking.v3.ProfileTask/getProfileTaskCommands`.
    pub path: String,
    /// What came with it, without what belongs to the connection.
    pub headers: HeaderMap,
    /// The message.
    pub message: Bytes,
}

/// Why records were not taken. None of them is kept.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Untaken {
    /// The process is stopping.
    #[error("the collector is stopping; send again to another, or to this one in a moment")]
    Ending,
    /// There is no room, and the oldest is not to be given up for it.
    #[error(
        "the spool is full ({used} of {limit} bytes), because what is behind it takes nothing; send again later"
    )]
    Full {
        /// Bytes in use.
        used: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// The disk refused.
    #[error("it cannot be written to disk: {0}; nothing was accepted, send again later")]
    Unwritten(String),
}

impl From<Untaken> for Status {
    fn from(untaken: Untaken) -> Self {
        // UNAVAILABLE, whatever the cause: agents keep what they have, and come again.
        Self::new(Code::Unavailable, untaken.to_string())
    }
}
