//! How this process does, for whoever asks (`grpc.health.v1.Health`): it serves, unless it is stopping or has just been
//! unable to take what was reported. `Check` tells it once, `Watch` as often as it changes.
//!
//! Whatever service is asked for, as OAP has it: all of them are one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
use hyper::body::{Frame, Incoming};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::Desk;
use crate::caller::Caller;
use crate::grpc::{Body, Code, Coding, Messages, Status, encode, failed, streamed};
use crate::quota;
use crate::sink::Untaken;

/// What is known of it.
#[derive(Debug)]
pub(super) struct Health(watch::Sender<State>);

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct State {
    /// Until when it counts as unable: then it is tried again, for who is asked nothing shows nothing.
    unable_until: Option<Instant>,
    stopping: bool,
}

impl State {
    /// A `HealthCheckResponse`.
    fn answer(self) -> &'static [u8] {
        let unable = self.unable_until.is_some_and(|until| Instant::now() < until);
        if self.stopping || unable { NOT_SERVING } else { SERVING }
    }
}

impl Default for Health {
    fn default() -> Self {
        Self(watch::Sender::new(State::default()))
    }
}

impl Health {
    /// Nothing is taken any more.
    pub(super) fn stop(&self) {
        self.0.send_modify(|state| state.stopping = true);
    }

    /// Notes whether something could be taken.
    pub(super) fn note<T>(&self, outcome: Result<T, Untaken>) -> Result<T, Untaken> {
        match &outcome {
            Ok(_) => {
                // Nearly always there is nothing to say, and then nobody is locked out.
                if self.0.borrow().unable_until.is_some() {
                    self.0.send_modify(|state| state.unable_until = None);
                }
            }
            Err(Untaken::Ending) => self.stop(),
            Err(Untaken::Full { .. } | Untaken::Unwritten(_)) => {
                let until = Instant::now() + UNABLE;
                self.0.send_modify(|state| state.unable_until = Some(until));
            }
        }
        outcome
    }
}

pub(super) async fn answer(
    desk: &Desk,
    request: Request<Incoming>,
    caller: &Caller,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let message = match Coding::of(&parts.headers) {
        Ok(coding) => Messages::new(body, coding, QUESTION_BYTES, quota::PATIENCE).only().await,
        Err(status) => Err(status),
    };
    match message {
        Err(status) => {
            desk.blame(caller, parts.uri.path(), &status);
            failed(&status)
        }
        Ok(_) if parts.uri.path().ends_with("/Watch") => watching(desk, caller),
        Ok(_) => crate::grpc::message(desk.health.0.borrow().answer()),
    }
}

fn watching(desk: &Desk, caller: &Caller) -> Response<Body> {
    let Some(place) = Place::take(caller.watches()) else {
        return failed(&Status::new(
            Code::ResourceExhausted,
            format!("a connection may watch {WATCHES} times at once; end one, or use Check"),
        ));
    };
    let (sender, body) = crate::grpc::stream(1);
    tokio::spawn(tell(desk.health.0.subscribe(), sender, place));
    streamed(body)
}

/// Tells every change until the watcher goes away, or this process does.
async fn tell(
    mut health: watch::Receiver<State>,
    sender: mpsc::Sender<Frame<Bytes>>,
    place: Place,
) {
    let mut told: &[u8] = b"";
    loop {
        let state = *health.borrow_and_update();
        let answer = state.answer();
        if answer != told {
            let mut message = BytesMut::new();
            encode(answer, &mut message);
            if sender.send(Frame::data(message.freeze())).await.is_err() {
                break;
            }
            told = answer;
        }
        if state.stopping {
            let mut trailers = HeaderMap::with_capacity(1);
            Status::new(Code::Unavailable, "the collector is stopping").write(&mut trailers);
            // Whoever is gone does not hear it.
            let _ = sender.send(Frame::trailers(trailers)).await;
            break;
        }
        let recovers = async {
            match state.unable_until {
                Some(until) if Instant::now() < until => tokio::time::sleep_until(until).await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = health.changed() => if changed.is_err() { break },
            () = recovers => {}
            () = sender.closed() => break,
        }
    }
    drop(place);
}

/// One of the watches that a connection may have; given back when dropped.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(watches: &Arc<AtomicUsize>) -> Option<Self> {
        let one_more = |open| (open < WATCHES).then_some(open + 1);
        let taken = watches.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        taken.is_ok().then(|| Self(Arc::clone(watches)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// `HealthCheckResponse{ status: SERVING }`.
const SERVING: &[u8] = &[0x08, 0x01];

/// `HealthCheckResponse{ status: NOT_SERVING }`.
const NOT_SERVING: &[u8] = &[0x08, 0x02];

/// It counts as unable for so long after it has been, unless it takes something.
const UNABLE: Duration = Duration::from_secs(10);

/// Watches of one connection at the same time.
const WATCHES: usize = 4;

/// A question is the name of a service. It is no part of any quota, so there is no room in it.
const QUESTION_BYTES: usize = 4096;
