//! Many agents: all of them come back in the same moment, and all of them stay.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Semaphore;

use crate::judge;
use crate::load::{SEGMENTS, agent, segment};
use crate::server::{Kind, Server};

/// Every agent dials, proves itself, reports once; one stream of somebody else goes on meanwhile.
pub(crate) async fn storm(place: &Path, agents: usize) -> bool {
    let server = Server::start(place, Kind::KeepMutual, "storm");
    let bystander = agent(place, &server);
    bystander.call(SEGMENTS, &[segment(1 << 50).into()]).await.unwrap();
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let watch = tokio::spawn(async move {
        let mut worst = Duration::ZERO;
        let mut number = (1 << 50) + 1;
        while stopped.try_recv().is_err() {
            let begin = Instant::now();
            bystander.call(SEGMENTS, &[segment(number).into()]).await.unwrap();
            worst = worst.max(begin.elapsed());
            number += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        worst
    });
    let callers: Vec<_> = (0..agents).map(|_| agent(place, &server)).collect();
    let before = server.cpu();
    let start = Instant::now();
    let mut storm = tokio::task::JoinSet::new();
    // Agents come within two seconds of each other: what their own check interval spreads them over
    // is 30 s, so this is fifteen times as hard.
    for (number, caller) in callers.into_iter().enumerate() {
        let at = Duration::from_secs(2) * u32::try_from(number).unwrap() / u32::try_from(agents).unwrap();
        storm.spawn(async move {
            tokio::time::sleep_until((start + at).into()).await;
            let begin = Instant::now();
            caller.call(SEGMENTS, &[segment((1 << 51) + number as u64).into()]).await.unwrap();
            begin.elapsed()
        });
    }
    let mut took = Vec::new();
    while let Some(done) = storm.join_next().await {
        took.push(done.unwrap());
    }
    let whole = start.elapsed();
    let _ = stop.send(());
    let worst = watch.await.unwrap();
    took.sort();
    let p99 = took[took.len() * 99 / 100];
    println!(
        "     {agents} agents in {:.1} s: {} full handshakes/s with both ends on these cores, {:.2} ms of CPU of the collector each; nothing resumes",
        whole.as_secs_f64(),
        (agents as f64 / whole.as_secs_f64()) as u64,
        (server.cpu() - before) * 1e3 / agents as f64,
    );
    let figure = format!("p50 {:.0?}, p99 {p99:.0?}", took[took.len() / 2]);
    let quick = judge("a storm of reconnecting agents, until each is heard", &figure, p99 < Duration::from_secs(2));
    let figure = format!("its slowest call took {worst:.0?}");
    judge("somebody else's stream meanwhile", &figure, worst < Duration::from_secs(1)) && quick
}

/// So many connections at the same time, each of which has reported once.
pub(crate) async fn crowd(place: &Path, agents: usize) -> bool {
    let server = Server::start(place, Kind::KeepMutual, "crowd");
    agent(place, &server).call(SEGMENTS, &[segment(1 << 52).into()]).await.unwrap();
    let before = server.memory_kib();
    let gate = Arc::new(Semaphore::new(64));
    let mut crowd = tokio::task::JoinSet::new();
    for number in 0..agents {
        let (caller, gate) = (agent(place, &server), Arc::clone(&gate));
        crowd.spawn(async move {
            let _turn = gate.acquire().await.unwrap();
            caller.call(SEGMENTS, &[segment((1 << 53) + number as u64).into()]).await.unwrap();
            caller
        });
    }
    let mut callers = Vec::new();
    while let Some(done) = crowd.join_next().await {
        callers.push(done.unwrap());
    }
    let each = (server.memory_kib() - before) as f64 / agents as f64;
    // Every one of them is still served.
    let begin = Instant::now();
    let ping: [Bytes; 1] = [Bytes::from_static(b"\x0a\x04shop\x12\x06shop-1")];
    for caller in callers.iter().step_by(10) {
        caller.call("/skywalking.v3.ManagementService/keepAlive", &ping).await.unwrap();
        assert_eq!(caller.status().dialled, 1, "the connection held");
    }
    let figure = format!(
        "{each:.1} KiB each; {} keep-alives over them in {:.1?}",
        callers.len() / 10,
        begin.elapsed()
    );
    judge(&format!("{agents} connections at the same time"), &figure, each < 100.0)
}
