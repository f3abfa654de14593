//! The loop that empties a spool: read, sort, send, and step forward as far as everything has arrived.
//!
//! Several batches are on their way, so that one slow call does not hold up what comes after it; what the
//! cursor says is done is what lies before the first of them that is not.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::{JoinError, JoinSet};
use tokio::time::sleep;

use super::gate::Turn;
use super::shipment::{Shipment, Sorted, sort};
use super::verdict::{Case, Verdict, with_remedy};
use super::{Dialect, Shared, lock};
use crate::grpc::{Code, Status};
use crate::journal::{Cursor, Position, Reader};
use crate::protocol::method::{Method, Reply};
use crate::protocol::partial_success;
use crate::record::RecordKind;
use crate::upstream::pause;

/// Ends when the spool closes.
pub(super) async fn run(shared: Arc<Shared>, cursor: Cursor) {
    let mut line = Line::default();
    let mut under_way = JoinSet::new();
    let mut reading: Option<Reading> =
        Some(Box::pin(read(Arc::clone(&shared), shared.spool.reader(cursor.position()))));
    let mut cursor = Some(cursor);
    loop {
        while under_way.len() < TOGETHER
            && let Some((batch, shipment)) = line.waiting.pop_front()
        {
            let (shared, tasks) = (Arc::clone(&shared), shared.tasks.clone());
            under_way.spawn(tasks.track_future(async move {
                deliver(&shared, shipment).await;
                batch
            }));
        }
        tokio::select! {
            Some(arrived) = under_way.join_next() => line.arrived(finished(arrived).await),
            Some((reader, sorted)) = next(&mut reading), if line.batches.len() < AHEAD => {
                let end = reader.position();
                line.add(end, settle(&shared, sorted).await);
                reading = Some(Box::pin(read(Arc::clone(&shared), reader)));
            }
            else => return,
        }
        if let Some(position) = line.step() {
            cursor = step(&shared, cursor, position).await;
        }
    }
}

type Reading = Pin<Box<dyn Future<Output = Option<(Reader, Sorted)>> + Send>>;

/// What is being read, once it is there; nothing more once the spool has closed.
async fn next(reading: &mut Option<Reading>) -> Option<(Reader, Sorted)> {
    let read = reading.as_mut()?.await;
    *reading = None;
    read
}

/// Batches between reading and having arrived.
#[derive(Debug, Default)]
struct Line {
    /// The number of the first of `batches`.
    first: u64,
    batches: VecDeque<Batch>,
    waiting: VecDeque<(u64, Shipment)>,
}

#[derive(Debug)]
struct Batch {
    end: Position,
    /// Shipments that have not arrived.
    left: usize,
}

impl Line {
    fn add(&mut self, end: Position, shipments: Vec<Shipment>) {
        let number = self.first + self.batches.len() as u64;
        self.batches.push_back(Batch { end, left: shipments.len() });
        self.waiting.extend(shipments.into_iter().map(|shipment| (number, shipment)));
    }

    fn arrived(&mut self, number: u64) {
        let at = number.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        if let Some(batch) = at.and_then(|at| self.batches.get_mut(at)) {
            batch.left -= 1;
        }
    }

    /// Where everything before has arrived, if that is further than it was.
    fn step(&mut self) -> Option<Position> {
        let mut position = None;
        while self.batches.front().is_some_and(|batch| batch.left == 0) {
            position = self.batches.pop_front().map(|batch| batch.end);
            self.first += 1;
        }
        position
    }
}

/// The next batch, sorted; none when the spool has closed. Reading and translating take their time: not
/// on a thread that serves.
async fn read(shared: Arc<Shared>, mut reader: Reader) -> Option<(Reader, Sorted)> {
    loop {
        let dialect = shared.dialect;
        let reading = tokio::task::spawn_blocking(move || {
            let batch = reader.next_batch(BATCH_BYTES);
            let sorted = batch.map(|batch| {
                let some = !batch.is_empty();
                some.then(|| sort(batch.into_iter().map(|(_, record)| record), dialect))
            });
            (reader, sorted)
        });
        let (back, sorted) = finished(reading.await).await;
        reader = back;
        match sorted {
            Ok(Some(sorted)) => return Some((reader, sorted)),
            Ok(None) => {
                if !shared.spool.grown(reader.position()).await {
                    return None;
                }
            }
            Err(error) => {
                tracing::error!(%error, "the spool cannot be read; trying again");
                sleep(READ_AGAIN).await;
            }
        }
    }
}

/// Deals with what is not to be sent.
async fn settle(shared: &Shared, sorted: Sorted) -> Vec<Shipment> {
    let Sorted { shipments, without_words, untold } = sorted;
    if !without_words.is_empty() {
        let mut counts = lock(&shared.not_forwarded);
        for (kind, count) in without_words {
            *counts.entry(kind).or_default() += count;
        }
    }
    if let Some((record, why)) = untold.first() {
        let (kind, records) = (record.kind, untold.len());
        tracing::warn!(%kind, records, %why, "set aside: it cannot be told to the backend");
    }
    for (record, why) in untold {
        let reason = format!("it cannot be told in OpenTelemetry's protocol: {why}");
        shared.set_aside(vec![record], &reason).await;
    }
    shipments
}

/// Remembers that everything before `position` has arrived, and gives its room back.
async fn step(shared: &Arc<Shared>, cursor: Option<Cursor>, position: Position) -> Option<Cursor> {
    let worker = Arc::clone(shared);
    let stepping = shared.tasks.spawn_blocking(move || {
        let mut cursor = cursor?;
        // First the room, for on a full disk there may be none to note anything in. After a crash in between it
        // goes on with what is left.
        if let Err(error) = worker.spool.release(position) {
            tracing::warn!(%error, "what was sent cannot be removed from the spool");
        }
        // A place that cannot be noted is noted the next time; until then a crash would send twice.
        if let Err(error) = cursor.commit(position) {
            tracing::warn!(%error, "it cannot be noted how much was sent");
        }
        Some(cursor)
    });
    let cursor = finished(stepping.await).await;
    shared.progress.send_modify(|now| now.done = position);
    cursor
}

/// What came of a task. A runtime that is going away takes its tasks with it: then nothing comes any more, and
/// nobody waits for it.
pub(super) async fn finished<T>(outcome: Result<T, JoinError>) -> T {
    match outcome {
        Ok(outcome) => outcome,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => std::future::pending().await,
    }
}

/// A shipment that has not arrived yet.
struct Load {
    shipment: Shipment,
    failures: u32,
    /// How much had been taken when it failed first.
    taken: Option<u64>,
}

impl Load {
    fn new(shipment: Shipment) -> Self {
        Self { shipment, failures: 0, taken: None }
    }

    /// The halves stand where the whole stood: it need not be found out for each again whether others pass. Only
    /// what took too long gets its time anew.
    fn halves(self, why: &Status) -> Result<[Self; 2], Shipment> {
        let failures = if why.code == Code::DeadlineExceeded { 0 } else { self.failures };
        let taken = self.taken;
        let (first, second) = self.shipment.halves()?;
        Ok([first, second].map(|shipment| Self { shipment, failures, taken }))
    }
}

/// Sends a shipment until it has arrived or was set aside.
async fn deliver(shared: &Shared, shipment: Shipment) {
    let mut waiting = vec![Load::new(shipment)];
    while let Some(mut load) = waiting.pop() {
        let method = load.shipment.method;
        if let Some(status) = shared.said.misses(method.path) {
            set_aside(shared, load.shipment, &status).await;
            continue;
        }
        let turn = shared.gate.turn(&shared.dice).await;
        let status = match shared.upstream.call(method.path, &load.shipment.messages()).await {
            Ok(answer) => {
                shared.moves();
                shared.sent.fetch_add(load.shipment.count() as u64, Ordering::Relaxed);
                look_at(shared, method, &answer);
                continue;
            }
            Err(status) => status,
        };
        let taken = *load.taken.get_or_insert_with(|| shared.sent.load(Ordering::Relaxed));
        load.failures = load.failures.saturating_add(1);
        let case = Case {
            times: load.failures,
            records: load.shipment.count(),
            bytes: load.shipment.bytes(),
            others_pass: shared.sent.load(Ordering::Relaxed) > taken,
        };
        match case.verdict(&status) {
            Verdict::Again => {
                drop(turn);
                sleep(pause(load.failures - 1, shared.dice.throw())).await;
                waiting.push(load);
            }
            Verdict::NoMethod if is_a_backend(shared).await => {
                drop(turn);
                shared.said.miss(method.path, status.clone());
                set_aside(shared, load.shipment, &status).await;
            }
            Verdict::Away | Verdict::NoMethod => {
                held_up(shared, turn, status);
                waiting.push(load);
            }
            Verdict::Halve => {
                drop(turn);
                match load.halves(&status) {
                    Ok([first, second]) => {
                        waiting.push(second);
                        waiting.push(first);
                    }
                    Err(single) => set_aside(shared, single, &status).await,
                }
            }
            Verdict::Never => {
                drop(turn);
                let service = load.shipment.service.clone();
                set_aside(shared, load.shipment, &status).await;
                if !service.is_empty() {
                    shared.said.refuse(service, status);
                }
            }
        }
    }
}

fn held_up(shared: &Shared, turn: Turn<'_>, status: Status) {
    shared.gate.shut(turn);
    shared.held_up(with_remedy(status));
}

/// Whether who does not know a method is a backend at all: it has taken something before, or takes an empty
/// report of traces, which every backend does.
async fn is_a_backend(shared: &Shared) -> bool {
    if shared.is_understood() {
        return true;
    }
    let (kind, messages) = match shared.dialect {
        Dialect::SkyWalking => (RecordKind::Segment, &[][..]),
        Dialect::Otlp => (RecordKind::OtlpTraces, &[Bytes::new()][..]),
    };
    let path = Method::reporting(kind).path;
    match shared.upstream.call(path, messages).await {
        Ok(_) => true,
        // Whoever looks into what was reported knows the method.
        Err(status) => status.code == Code::InvalidArgument,
    }
}

async fn set_aside(shared: &Shared, shipment: Shipment, status: &Status) {
    let (path, service, records) = (shipment.method.path, &shipment.service, shipment.count());
    tracing::warn!(path, %service, records, %status, "set aside: it will never be taken");
    shared.set_aside(shipment.into_records(), &status.to_string()).await;
}

/// A backend of OpenTelemetry may take a request and leave out some of it: that is final, and only
/// counted.
fn look_at(shared: &Shared, method: &Method, answer: &[u8]) {
    if method.reply != Reply::Otlp {
        return;
    }
    // What cannot be read leaves nothing out.
    let (count, why) = partial_success(answer).unwrap_or_default();
    shared.rejected.fetch_add(count, Ordering::Relaxed);
    if count == 0 && why.is_empty() {
        return;
    }
    let mut last = lock(&shared.rejection);
    if *last != why {
        tracing::warn!(path = method.path, rejected = count, %why, "the backend took it in part");
        why.clone_into(&mut last);
    }
}

/// What is read and sent before the next step. In memory it is three times as much, for each of [`AHEAD`]: a relay that has
/// caught up with an outage has not grown over it.
const BATCH_BYTES: usize = 1 << 20;

/// Batches that are on their way at the same time.
const AHEAD: usize = 4;

/// Calls at the same time.
const TOGETHER: usize = 8;

const READ_AGAIN: Duration = Duration::from_secs(1);
