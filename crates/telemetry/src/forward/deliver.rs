//! The loop that empties a spool: read, sort, send, and only then step forward.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::task::{JoinHandle, JoinSet};

use super::shipment::{Shipment, Verdict, sort, verdict};
use super::{Shared, lock};
use crate::grpc::Status;
use crate::journal::{Cursor, Position, Reader};
use crate::record::Record;
use crate::upstream::pause;

/// Never ends by itself.
pub(super) async fn run(shared: Arc<Shared>, cursor: Cursor) {
    let mut reader = shared.spool.reader(cursor.position());
    let mut cursor = Some(cursor);
    loop {
        let (back, batch) = read(reader).await;
        reader = back;
        if batch.is_empty() {
            if !shared.spool.grown(reader.position()).await {
                return;
            }
            continue;
        }
        let mut under_way = JoinSet::new();
        for shipment in sort(batch) {
            if under_way.len() >= TOGETHER {
                under_way.join_next().await;
            }
            under_way.spawn(deliver(Arc::clone(&shared), shipment));
        }
        while under_way.join_next().await.is_some() {}
        cursor = step(&shared, cursor, reader.position()).await;
    }
}

async fn read(mut reader: Reader) -> (Reader, Vec<Record>) {
    let reading = tokio::task::spawn_blocking(move || {
        let batch = reader.next_batch(BATCH_BYTES);
        (reader, batch)
    });
    let (reader, batch) = finished(reading).await;
    match batch {
        Ok(batch) => (reader, batch.into_iter().map(|(_, record)| record).collect()),
        Err(error) => {
            tracing::error!(%error, "the spool cannot be read; trying again");
            tokio::time::sleep(READ_AGAIN).await;
            (reader, Vec::new())
        }
    }
}

/// Remembers that everything before `position` has arrived, and gives its room back.
async fn step(shared: &Arc<Shared>, cursor: Option<Cursor>, position: Position) -> Option<Cursor> {
    let worker = Arc::clone(shared);
    let stepping = tokio::task::spawn_blocking(move || {
        let mut cursor = cursor?;
        // A place that cannot be noted is noted the next time; until then a crash would send twice.
        match cursor.commit(position) {
            Ok(()) => {
                if let Err(error) = worker.spool.release(position) {
                    tracing::warn!(%error, "what was sent cannot be removed from the spool");
                }
            }
            Err(error) => tracing::warn!(%error, "it cannot be noted how much was sent"),
        }
        Some(cursor)
    });
    shared.done.store(position.as_u64(), Ordering::Relaxed);
    finished(stepping).await
}

/// What came of work on the disk. A runtime that is going away takes its work with it: then nothing comes
/// any more, and nobody waits for it.
async fn finished<T>(work: JoinHandle<T>) -> T {
    match work.await {
        Ok(outcome) => outcome,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => std::future::pending().await,
    }
}

/// Sends a shipment until it has arrived or was set aside.
async fn deliver(shared: Arc<Shared>, shipment: Shipment) {
    let mut waiting = vec![(shipment, 0_u32)];
    while let Some((shipment, failures)) = waiting.pop() {
        let count = shipment.records.len() as u64;
        let Err(status) = shared.upstream.call(shipment.method.path, &shipment.messages()).await
        else {
            shared.sent.fetch_add(count, Ordering::Relaxed);
            lock(&shared.trouble).take();
            continue;
        };
        match verdict(&status, failures + 1) {
            Verdict::Again => {
                let news = lock(&shared.trouble).replace(status.clone()).is_none();
                if news {
                    tracing::warn!(%status, "nothing is taken at the moment; what comes is spooled");
                }
                tokio::time::sleep(pause(failures, dice(failures))).await;
                waiting.push((shipment, failures.saturating_add(1)));
            }
            Verdict::Halve => match shipment.halves() {
                Ok((first, second)) => {
                    waiting.push((second, failures + 1));
                    waiting.push((first, failures + 1));
                }
                Err(single) => set_aside(&shared, single, &status).await,
            },
            Verdict::Never => set_aside(&shared, shipment, &status).await,
        }
    }
}

async fn set_aside(shared: &Shared, shipment: Shipment, status: &Status) {
    let Shipment { method, service, records } = shipment;
    let count = records.len() as u64;
    tracing::warn!(method = method.path, %service, records = count, %status, "set aside: it will never be taken");
    if !service.is_empty() {
        let mut refused = lock(&shared.refused);
        if refused.len() >= REFUSED {
            refused.clear();
        }
        refused.insert(service, (status.clone(), Instant::now() + REFUSE_FOR));
    }
    // Not kept in line for it: what cannot even be set aside is said above, and the line moves on.
    match shared.aside.append(records).await {
        Ok(appended) => {
            if let Err(error) = appended.durable().await {
                tracing::error!(%error, "what was to be set aside is lost");
            }
        }
        Err(error) => tracing::error!(%error, "what was to be set aside is lost"),
    }
    shared.set_aside.fetch_add(count, Ordering::Relaxed);
}

/// Chance that needs no source: when exactly the pause began.
fn dice(failures: u32) -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one((Instant::now(), failures))
}

/// What is read and sent before the next step.
const BATCH_BYTES: usize = 4 << 20;

/// Calls at the same time.
const TOGETHER: usize = 8;

const READ_AGAIN: Duration = Duration::from_secs(1);

/// Services whose refusal is remembered.
const REFUSED: usize = 1024;

/// So long the agent is told at once what the backend said; then it is asked again.
const REFUSE_FOR: Duration = Duration::from_secs(30);
