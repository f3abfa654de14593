//! Many agents: all of them come back in the same moment, and all of them stay.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use handfast_telemetry::upstream::Upstream;
use tokio::sync::Semaphore;

use crate::judge;
use crate::load::{SEGMENTS, agent, segment};
use crate::server::{Kind, Server};

/// How the agents of a storm come.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wave {
    /// All of them begin to connect in the same instant: nothing spreads them.
    AtOnce,
    /// Evenly over [`SPREAD`].
    Spread,
}

impl Wave {
    fn spread(self) -> Duration {
        match self {
            Self::AtOnce => Duration::ZERO,
            Self::Spread => SPREAD,
        }
    }
}

/// Every agent dials, proves itself, reports once; one stream of somebody else goes on meanwhile, in a
/// thread of its own, so that it does not wait for the agents of this process. What an agent takes is
/// counted from the moment at which it was to come, also where this process was late to let it.
pub(crate) async fn storm(place: &Path, agents: usize, wave: Wave) -> bool {
    let server = Server::start(place, Kind::KeepMutual, &format!("storm-{wave:?}"));
    let ended = Arc::new(AtomicBool::new(false));
    let watch = bystander(agent(place, &server), Arc::clone(&ended));
    let callers: Vec<_> = (0..agents).map(|_| agent(place, &server)).collect();
    let (before, before_here) = (server.cpu(), crate::server::cpu_of("self"));
    // So that the first does not begin before the last is ready to.
    let start = Instant::now() + Duration::from_millis(200);
    let mut storm = tokio::task::JoinSet::new();
    for (number, caller) in callers.into_iter().enumerate() {
        let at =
            start + wave.spread() * u32::try_from(number).unwrap() / u32::try_from(agents).unwrap();
        storm.spawn(async move {
            tokio::time::sleep_until(at.into()).await;
            let report = [segment((1 << 51) + number as u64).into()];
            let mut again = 0_u64;
            // Whoever is not let in in time comes again, as agents do, and is as late as that makes it.
            while caller.call(SEGMENTS, &report).await.is_err() {
                again += 1;
            }
            (at.elapsed(), again)
        });
    }
    let (mut took, mut again) = (Vec::new(), 0);
    while let Some(done) = storm.join_next().await {
        let (each, more) = done.unwrap();
        took.push(each);
        again += more;
    }
    let whole = start.elapsed();
    ended.store(true, Ordering::Relaxed);
    let mut others = watch.join().unwrap();
    others.sort();
    took.sort();
    let p99 = took[took.len() * 99 / 100];
    let (collector, here) = (server.cpu() - before, crate::server::cpu_of("self") - before_here);
    println!(
        "     {agents} agents within {:.1} s: {} full handshakes/s, both ends on these cores; CPU for each {:.2} ms of the collector, {:.2} ms of the agents; {again} tries more; nothing resumes",
        whole.as_secs_f64(),
        (agents as f64 / whole.as_secs_f64()) as u64,
        collector * 1e3 / agents as f64,
        here * 1e3 / agents as f64,
    );
    let p50 = took[took.len() / 2];
    let how = match wave {
        Wave::AtOnce => "all of them in the same instant",
        Wave::Spread => "spread over five seconds",
    };
    let share = collector / (collector + here);
    let quick = judge(
        &format!("a storm of reconnecting agents, {how}, until each is heard"),
        &format!(
            "p50 {p50:.0?}, p99 {p99:.0?}; {:.0} % of the CPU was the collector's",
            share * 100.0
        ),
        p99 < STORM,
    );
    let (p50, worst) = (others[others.len() / 2], others[others.len() - 1]);
    let figure = format!("p50 {p50:.1?}, its slowest call of {} took {worst:.0?}", others.len());
    judge("somebody else's calls meanwhile", &figure, worst < Duration::from_secs(1)) && quick
}

fn bystander(agent: Upstream, ended: Arc<AtomicBool>) -> std::thread::JoinHandle<Vec<Duration>> {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut took = Vec::new();
            let mut number = 1 << 50;
            while !ended.load(Ordering::Relaxed) {
                let begin = Instant::now();
                agent.call(SEGMENTS, &[segment(number).into()]).await.unwrap();
                took.push(begin.elapsed());
                number += 1;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            took
        })
    })
}

/// So soon almost every agent is heard again.
const STORM: Duration = Duration::from_secs(2);

/// Agents look after their connection every 30 s, so that is what a collector that comes back sees them
/// spread over; here they come six times as fast.
const SPREAD: Duration = Duration::from_secs(5);

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
    for caller in &callers {
        caller.call("/skywalking.v3.ManagementService/keepAlive", &ping).await.unwrap();
        assert_eq!(caller.status().dialled, 1, "the connection held");
    }
    let figure = format!(
        "{each:.1} KiB each; {} keep-alives over them in {:.1?}",
        callers.len(),
        begin.elapsed()
    );
    judge(&format!("{agents} connections at the same time"), &figure, each < 100.0)
}
