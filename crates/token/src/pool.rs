//! A few threads with a session each: signatures are made side by side, and whoever waits for one waits
//! for a bounded time, whatever the token does.
//!
//! Threads are started when there is work for them, and end when the key is not used any more.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use handfast_pki::PublicKey;

use crate::error::TokenError;
use crate::session::Open;
use crate::uri::TokenUri;

/// The sessions of one key.
pub(crate) struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    uri: TokenUri,
    directory: PathBuf,
    expected: PublicKey,
    queue: Mutex<Queue>,
    work: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    idle: usize,
    threads: usize,
    closed: bool,
}

/// What a thread is asked to do.
pub(crate) enum Ask {
    /// Tell whether the key is there.
    Check,
    /// Sign this.
    Sign(Vec<u8>),
}

struct Job {
    ask: Ask,
    answer: SyncSender<Result<Vec<u8>, TokenError>>,
}

impl Pool {
    pub(crate) fn new(uri: TokenUri, directory: PathBuf, expected: PublicKey) -> Self {
        let shared =
            Shared { uri, directory, expected, queue: Mutex::default(), work: Condvar::new() };
        Self { shared: Arc::new(shared) }
    }

    /// Has it done, or says why not within `limit`.
    pub(crate) fn ask(&self, ask: Ask, limit: Duration) -> Result<Vec<u8>, TokenError> {
        let late = || TokenError::TimedOut {
            token: self.shared.uri.token_text(),
            seconds: limit.as_secs(),
        };
        let answer = self.submit(ask).ok_or_else(late)?;
        match answer.recv_timeout(limit) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout) => Err(late()),
        }
    }

    fn submit(&self, ask: Ask) -> Option<Receiver<Result<Vec<u8>, TokenError>>> {
        let (answer, answered) = sync_channel(1);
        let mut queue = self.shared.queue();
        if queue.jobs.len() >= LONGEST_QUEUE {
            return None;
        }
        queue.jobs.push_back(Job { ask, answer });
        if queue.idle < queue.jobs.len() && queue.threads < MOST_THREADS {
            let shared = Arc::clone(&self.shared);
            let started =
                std::thread::Builder::new().name("token".to_owned()).spawn(move || shared.serve());
            match started {
                Ok(_detached) => queue.threads += 1,
                Err(error) => tracing::warn!(%error, "no thread could be started for a token"),
            }
        }
        self.shared.work.notify_one();
        Some(answered)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.queue().closed = true;
        self.shared.work.notify_all();
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One thread's life.
    fn serve(&self) {
        let mut open = None;
        while let Some(job) = self.next() {
            let answer = self.answer(&job.ask, &mut open);
            // Who asked may have given up waiting.
            drop(job.answer.try_send(answer));
        }
    }

    fn next(&self) -> Option<Job> {
        let mut queue = self.queue();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            if queue.closed {
                queue.threads -= 1;
                return None;
            }
            queue.idle += 1;
            queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.idle -= 1;
        }
    }

    /// With the session at hand; with a new one if that failed; with a module started anew if that did
    /// too. Sessions end without telling: when they idle, when the token is pulled.
    fn answer(&self, ask: &Ask, open: &mut Option<Open>) -> Result<Vec<u8>, TokenError> {
        let mut last = None;
        for attempt in 0..3 {
            if attempt == 2 && !Open::restart_module(&self.uri, &self.directory) {
                break;
            }
            match self.attempt(ask, open) {
                Ok(done) => return Ok(done),
                Err(error) => {
                    *open = None;
                    let passing = error.is_passing();
                    last = Some(error);
                    if !passing {
                        break;
                    }
                }
            }
        }
        Err(last
            .unwrap_or_else(|| TokenError::TimedOut { token: self.uri.token_text(), seconds: 0 }))
    }

    fn attempt(&self, ask: &Ask, open: &mut Option<Open>) -> Result<Vec<u8>, TokenError> {
        let session = match open {
            Some(session) => session,
            None => open.insert(Open::new(&self.uri, &self.directory, &self.expected)?),
        };
        match ask {
            Ask::Check => session.check(&self.uri).map(|()| Vec::new()),
            Ask::Sign(message) => session.sign(&self.uri, self.expected.algorithm(), message),
        }
    }
}

/// More sessions than this no token works on at a time; some have room for eight.
const MOST_THREADS: usize = 4;
/// Whoever comes after so many others would not be served in time.
const LONGEST_QUEUE: usize = 4096;
