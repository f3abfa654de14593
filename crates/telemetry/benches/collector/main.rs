//! How fast a collector and a relay are, with one command: `benches/collector [seconds] [agents]`, or `--smoke`;
//! `benches/collector [seconds] [agents] PART` measures one of `throughput`, `relay`, `storm` and `crowd` only.
//!
//! Collector, relay and sink are processes of their own; the load shares the two cores with them. Plaintext and
//! mutual TLS do the same work in interleaved rounds, and the comparison is their ratio. Fails if a figure
//! that the documentation promises is missed.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on panics")]
#![expect(clippy::print_stdout, reason = "what it measured is what it is for")]
#![expect(clippy::cast_precision_loss, reason = "figures for people")]
#![expect(clippy::cast_possible_truncation, reason = "figures for people")]
#![expect(clippy::cast_sign_loss, reason = "figures for people")]

mod agents;
mod delay;
mod handshakes;
mod load;
mod material;
mod server;

use std::process::ExitCode;
use std::time::Duration;

use agents::Wave;
use load::Rate;
use server::{Kind, Server};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if words.first().is_some_and(|word| word == "serve") {
        server::serve(&words[1..]);
        return ExitCode::SUCCESS;
    }
    let number =
        |at: usize, usual: u64| words.get(at).map_or(usual, |w| w.parse().expect("a number"));
    let (seconds, agents) = (number(0, 5), usize::try_from(number(1, 5000)).unwrap());
    let life = Duration::from_secs(seconds);
    let place = tempfile::tempdir().unwrap();
    material::write(place.path());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut good = true;
    let part = words.get(2).map_or("", String::as_str);
    let wanted = |name: &str| ["", "smoke", name].contains(&part);
    runtime.block_on(async {
        if wanted("throughput") {
            good &= throughput(place.path(), life).await;
            good &= passing(place.path(), life).await;
        }
        if wanted("relay") {
            good &= relay(place.path(), life).await;
        }
        if wanted("storm") {
            handshakes::compare(place.path(), life / 2);
            for wave in [Wave::Spread, Wave::AtOnce] {
                good &= agents::storm(place.path(), agents, wave).await;
            }
        }
        if wanted("crowd") {
            good &= agents::crowd(place.path(), 2 * agents).await;
        }
    });
    let judged = part != "smoke";
    ExitCode::from(u8::from(judged && !good))
}

/// Prints one figure and whether it holds.
fn judge(what: &str, figure: &str, holds: bool) -> bool {
    println!("{} {what}: {figure}", if holds { "pass" } else { "FAIL" });
    holds
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

async fn throughput(place: &std::path::Path, life: Duration) -> bool {
    let (mut plain, mut mutual, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let mut rates = Vec::new();
        for kind in [Kind::KeepPlain, Kind::KeepMutual] {
            let server = Server::start(place, kind, &format!("{kind:?}-{round}"));
            let before = server.cpu();
            let rate = load::segments(place, &server, life).await;
            let cpu = server.cpu() - before;
            println!(
                "     {kind:?}: {} segments/s, {:.1} CPU s of the collector per million, {} MiB",
                rate.per_second() as u64,
                cpu * 1e6 / rate.count as f64,
                server.memory_kib() / 1024
            );
            rates.push(rate.per_second());
        }
        plain.push(rates[0]);
        mutual.push(rates[1]);
        ratios.push(rates[1] / rates[0]);
    }
    let rate = median(mutual);
    let figure = format!("{} segments/s (of 5 spans, {} octets)", rate as u64, load::size());
    let enough = judge("accepted and durable over mutual TLS", &figure, rate >= 30_000.0);
    let ratio = median(ratios);
    judge("mutual TLS beside plaintext, the same work", &format!("{ratio:.2}x"), ratio >= 0.9)
        && enough
}

async fn passing(place: &std::path::Path, life: Duration) -> bool {
    let mut rates = Vec::new();
    for round in 0..ROUNDS {
        let sink = Server::start(place, Kind::Sink, &format!("sink-{round}"));
        let kind = Kind::Pass { to: sink.port() };
        let collector = Server::start(place, kind, &format!("pass-{round}"));
        let Rate { count, took } = load::segments(place, &collector, life).await;
        let arrived = sink.wait_for(count);
        let rate = count as f64 / (took + arrived).as_secs_f64();
        println!("     passed through a spool to a sink: {} segments/s", rate as u64);
        rates.push(rate);
    }
    let rate = median(rates);
    judge(
        "mutual TLS in, passed on to a sink",
        &format!("{} segments/s", rate as u64),
        rate >= 60_000.0,
    )
}

async fn relay(place: &std::path::Path, life: Duration) -> bool {
    let sink = Server::start(place, Kind::KeepMutual, "far");
    let relay = Server::start(place, Kind::Relay { to: sink.port() }, "relay");
    let added = delay::added(place, &sink, &relay, life).await;
    let figure = format!("p50 {:.0} us", added.as_secs_f64() * 1e6);
    let quick = judge(
        "a relay adds to a call (answered when it is durable)",
        &figure,
        added < Duration::from_micros(300),
    );
    let rate = load::steady(place, &relay, 10_000, life).await.per_second();
    let [most, own, code] = ["VmHWM", "RssAnon", "RssFile"].map(|what| relay.memory(what));
    let figure = format!(
        "{:.1} MiB at the most, of which {:.1} MiB are its own and {:.1} MiB the program's file, at {} messages/s",
        most as f64 / 1024.0,
        own as f64 / 1024.0,
        code as f64 / 1024.0,
        rate.round() as u64
    );
    judge("memory of a relay", &figure, most * 1024 <= 25_000_000 && rate >= 9_900.0) && quick
}

const ROUNDS: usize = 3;
