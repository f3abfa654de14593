//! A ledger with very many certificates in it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use handfast_pki::{Fingerprint, Profile};
use handfast_store::{AuditLog, AuditRow, Issued, IssuedFilter, Ledger, SqliteLedger};
use jiff::SignedDuration;

use crate::{directory, ledger_in, now, spread, verdict};

pub(crate) fn run(rows: u64) -> bool {
    let directory = directory();
    let path = ledger_in(&directory);
    let begun = Instant::now();
    fill(&path, rows);
    let size = std::fs::metadata(&path).unwrap().len();
    println!(
        "{rows} certificates recorded in {:.1} s ({:.0}/s, without signing them), {} MiB",
        begun.elapsed().as_secs_f64(),
        rows as f64 / begun.elapsed().as_secs_f64(),
        size >> 20
    );

    let before = memory();
    let begun = Instant::now();
    let ledger = SqliteLedger::open(&path).unwrap();
    let opened = begun.elapsed();
    println!("opened in {opened:?}");

    let lookups: Vec<(&str, Vec<Duration>)> = vec![
        (
            "serial",
            times(
                |step| IssuedFilter {
                    serial: Some(certificate(spot(rows, step)).serial),
                    ..IssuedFilter::default()
                },
                &ledger,
            ),
        ),
        (
            "identity",
            times(
                |step| IssuedFilter {
                    identity: certificate(spot(rows, step)).identity,
                    limit: Some(100),
                    ..IssuedFilter::default()
                },
                &ledger,
            ),
        ),
        (
            "expiry, a window of a minute",
            times(
                |step| {
                    let from = certificate(spot(rows, step)).not_after;
                    IssuedFilter {
                        unexpired_at: Some(from),
                        expires_before: Some(from + SignedDuration::from_secs(60)),
                        limit: Some(100),
                        ..IssuedFilter::default()
                    }
                },
                &ledger,
            ),
        ),
        (
            "the newest hundred",
            times(|_| IssuedFilter { limit: Some(100), ..IssuedFilter::default() }, &ledger),
        ),
    ];
    let mut slowest = Duration::ZERO;
    for (what, mut times) in lookups {
        times.sort();
        slowest = slowest.max(times[times.len() * 99 / 100]);
        println!("by {what}: {}", spread(times));
    }

    // Everything, page by page, and the whole audit log verified: never more than a page in memory.
    let begun = Instant::now();
    let (mut read, mut next) = (0, None);
    loop {
        let filter =
            IssuedFilter { before_number: next, limit: Some(1000), ..IssuedFilter::default() };
        let page = ledger.recorded_issued(&filter).unwrap();
        let Some(last) = page.last() else { break };
        next = Some(last.number);
        read += page.len() as u64;
    }
    println!("all {read} read in pages in {:?}", begun.elapsed());
    let begun = Instant::now();
    let verified = AuditLog::open(&path).unwrap().verify(Vec::new()).unwrap();
    println!("{} audit rows verified in {:?}", verified.rows, begun.elapsed());
    let grown = memory().saturating_sub(before);
    println!("memory: {} MiB more than before the ledger was opened", grown >> 10);

    let mut good = verdict("every certificate was there", read == rows && verified.is_whole());
    good &= verdict("opened in less than 2 s", opened < Duration::from_secs(2));
    good &= verdict("looked up in less than 10 ms (p99)", slowest < Duration::from_millis(10));
    good &= verdict("less than 64 MiB of memory", grown < 64 << 10);
    good
}

/// Many writers, so that they share commits.
fn fill(path: &std::path::Path, rows: u64) {
    let ledger = SqliteLedger::open(path).unwrap();
    let next = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..256 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= rows {
                        return;
                    }
                    ledger.record_issued(&certificate(number), &row(number)).unwrap();
                }
            });
        }
    });
}

/// Serials and fingerprints all over the place, as random ones are.
fn certificate(number: u64) -> Issued {
    let scattered = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut fingerprint = [0; 32];
    fingerprint[..8].copy_from_slice(&scattered.to_be_bytes());
    fingerprint[8..16].copy_from_slice(&number.to_be_bytes());
    let life = SignedDuration::from_hours(24);
    let not_before = now() + SignedDuration::from_millis(i64::try_from(number * 100).unwrap());
    Issued {
        issuer_key_id: [1; 32],
        serial: format!("5a{scattered:016x}{number:012x}").parse().unwrap(),
        identity: Some(
            format!("spiffe://bench.example/component/c{}", number % 50_000).parse().unwrap(),
        ),
        names: vec![format!("c{}", number % 50_000)],
        profile: Profile::Component,
        not_before,
        not_after: not_before + life,
        lineage: format!("csr/{:08x}", number % 50_000).parse().unwrap(),
        fingerprint: Fingerprint(fingerprint),
        pem: "x".repeat(900),
    }
}

fn row(number: u64) -> AuditRow {
    AuditRow {
        at: now(),
        actor: "spiffe://bench.example/operator/alice".to_owned(),
        action: "certificate.issue".to_owned(),
        subject: format!("spiffe://bench.example/component/c{}", number % 50_000),
        outcome: "ok".to_owned(),
        detail: format!("certificate {number}"),
        why: String::new(),
    }
}

fn spot(rows: u64, step: u64) -> u64 {
    rows / 500 * step + step % 7
}

fn times(filter: impl Fn(u64) -> IssuedFilter, ledger: &SqliteLedger) -> Vec<Duration> {
    (0..499)
        .map(|step| {
            let filter = filter(step);
            let begun = Instant::now();
            let found = ledger.issued(&filter).unwrap();
            let time = begun.elapsed();
            assert!(!found.is_empty(), "{filter:?}");
            time
        })
        .collect()
}

/// What this process has in memory, in KiB.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
