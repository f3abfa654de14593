//! The handle to a running data plane.

use std::io;
use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use handfast_pki::{Name, SystemEntropy};
use handfast_proto::link::v1::control::Body;
use handfast_tls::Revocations;
use jiff::Timestamp;

use crate::control::{Control, Input, Parts};
use crate::exchange::{PeerRequest, RequestError};
use crate::gate::Gate;
use crate::plan::Plan;
use crate::revocations::RevocationFeed;
use crate::status::{NetworkStatus, Unknown};
use crate::worker::{Shared, Worker};

/// Where the time of day comes from.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// How the data plane runs.
#[derive(Clone)]
pub struct Settings {
    /// Worker threads. Default: one for each processor that the process may use.
    pub workers: NonZeroUsize,
    /// Stamps events and judges certificates.
    pub clock: Clock,
    /// What is revoked: connections whose peer is among it do not stand. The TLS configurations of the
    /// plans look it up by themselves.
    pub revocations: Revocations,
    /// What of it other sites are told.
    pub feed: RevocationFeed,
}

impl Settings {
    /// The defaults, on this clock.
    pub fn new(clock: Clock) -> Self {
        let workers = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Self { workers, clock, revocations: Revocations::new(), feed: RevocationFeed::new() }
    }
}

/// Inputs that may wait for the control thread; who sends more waits.
const INPUTS: usize = 4096;
/// How soon a full queue is looked at again.
const ROOM: Duration = Duration::from_millis(5);
/// Questions of other sites that may wait for the node.
const REQUESTS: usize = 256;

/// A running data plane. Dropping it without [`Network::stop`] leaves its threads to end with the
/// process.
#[derive(Debug)]
pub struct Network {
    inputs: SyncSender<Input>,
    threads: Vec<JoinHandle<()>>,
}

impl Network {
    /// Starts the threads; nothing listens and nothing is dialled until a plan is applied. The
    /// receiver gets what other sites ask.
    pub fn start(
        site: Name,
        settings: &Settings,
    ) -> io::Result<(Self, tokio::sync::mpsc::Receiver<PeerRequest>)> {
        let (inputs, receiver) = sync_channel(INPUTS);
        let (requests, asked) = tokio::sync::mpsc::channel(REQUESTS);
        let peers = Arc::new(OnceLock::new());
        let shared = Shared {
            routes: Arc::default(),
            presence: Arc::default(),
            events: inputs.clone(),
            peers: Arc::clone(&peers),
        };
        let mut threads = Vec::new();
        let mut workers = Vec::new();
        for index in 0..settings.workers.get() {
            let (worker, handle) = Worker::new(index, &shared)?;
            workers.push(handle);
            threads.push(spawn(format!("worker-{index}"), move || worker.run())?);
        }
        // Set once, before any worker can have a client to hand over.
        let _ = peers.set(workers.clone()).is_ok();
        let (gate, handle) = Gate::new(inputs.clone(), Arc::clone(&settings.clock))?;
        threads.push(spawn("gate".into(), move || gate.run())?);
        let control = Control::new(Parts {
            clock: Arc::clone(&settings.clock),
            entropy: Box::new(SystemEntropy),
            inputs: receiver,
            sender: inputs.clone(),
            gate: handle,
            workers,
            routes: shared.routes,
            presence: shared.presence,
            requests,
            revocations: settings.revocations.clone(),
            feed: settings.feed.clone(),
            site,
        });
        threads.push(spawn("control".into(), move || control.run())?);
        Ok((Self { inputs, threads }, asked))
    }

    /// Makes the network what the plan says, touching only what differs. Returns when listeners are
    /// open or have a fault to show; links come up later.
    pub fn apply(&self, plan: Plan) {
        let (done, applied) = std::sync::mpsc::channel();
        if self.inputs.send(Input::Apply(Box::new(plan), done)).is_ok() {
            let _ = applied.recv().is_ok();
        }
    }

    /// Has connections cut that what is revoked by now concerns, and other sites told of it; says how
    /// many connections are cut. To be called after every change of [`Settings::revocations`] and
    /// [`Settings::feed`].
    ///
    /// # Errors
    ///
    /// [`Unknown`]: it is not known how many. They are cut as soon as the data plane comes to it.
    pub fn revocations_changed(&self) -> Result<usize, Unknown> {
        let (answer, cut) = std::sync::mpsc::channel();
        self.inputs.send(Input::Revoked(answer)).map_err(|_| Unknown::Ended)?;
        heard(&cut, Unknown::PATIENCE)
    }

    /// How everything is now. Blocks until that is known, and no longer than [`Unknown::PATIENCE`].
    ///
    /// # Errors
    ///
    /// [`Unknown`]: nothing is known then, which is not the same as that nothing is there or up.
    pub fn status(&self) -> Result<NetworkStatus, Unknown> {
        self.status_within(Unknown::PATIENCE)
    }

    fn status_within(&self, patience: Duration) -> Result<NetworkStatus, Unknown> {
        let deadline = Instant::now() + patience;
        let (answer, status) = std::sync::mpsc::channel();
        let mut question = Input::Status(answer);
        loop {
            question = match self.inputs.try_send(question) {
                Ok(()) => break,
                Err(TrySendError::Disconnected(_)) => return Err(Unknown::Ended),
                Err(TrySendError::Full(question)) => question,
            };
            if Instant::now() >= deadline {
                return Err(Unknown::Silent);
            }
            std::thread::sleep(ROOM);
        }
        heard(&status, deadline.saturating_duration_since(Instant::now()))
    }

    /// Asks the site at the other end of a link that we dialled.
    pub async fn request(&self, link: Name, body: Body) -> Result<Body, RequestError> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let request = Input::Request { link, body, answer };
        self.inputs.try_send(request).map_err(|_| RequestError::Stopping)?;
        answered.await.unwrap_or(Err(RequestError::LinkDown))
    }

    /// Winds down: accepts nothing new, lets flows end for up to `grace`, then cuts what is left.
    /// Blocks until all threads have ended.
    pub fn stop(mut self, grace: Duration) {
        if self.inputs.send(Input::Stop(Instant::now() + grace)).is_err() {
            return;
        }
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the data plane panicked");
            }
        }
    }
}

fn heard<T>(answer: &Receiver<T>, patience: Duration) -> Result<T, Unknown> {
    answer.recv_timeout(patience).map_err(|error| match error {
        RecvTimeoutError::Disconnected => Unknown::Ended,
        RecvTimeoutError::Timeout => Unknown::Silent,
    })
}

fn spawn(name: String, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name).spawn(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One whose control thread is somebody else.
    fn deaf(room: usize) -> (Network, Receiver<Input>) {
        let (inputs, receiver) = sync_channel(room);
        (Network { inputs, threads: Vec::new() }, receiver)
    }

    #[test]
    fn who_gets_no_answer_is_not_told_that_nothing_is_there() {
        let patience = Duration::from_millis(20);
        let (network, asked) = deaf(1);
        assert_eq!(network.status_within(patience).unwrap_err(), Unknown::Silent);
        // The question waits there still, and there is no room for another one.
        assert_eq!(network.status_within(patience).unwrap_err(), Unknown::Silent);
        drop(asked);
        assert_eq!(network.status().unwrap_err(), Unknown::Ended);
    }

    #[test]
    fn who_is_not_answered_any_more_knows_that_too() {
        let (network, asked) = deaf(1);
        let ends = std::thread::spawn(move || drop(asked.recv()));
        assert_eq!(network.status().unwrap_err(), Unknown::Ended);
        ends.join().unwrap();
    }
}
