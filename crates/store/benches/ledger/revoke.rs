//! One revocation more, when there are very many already.

use std::time::{Duration, Instant};

use handfast_pki::{RevocationReason, Serial};
use handfast_store::{AuditRow, Ledger, Revocation, SqliteLedger};

use crate::{directory, disk, ledger_in, now, spread, verdict};

pub(crate) fn run(count: u64) -> bool {
    let directory = directory();
    println!("one synced write of 4 KiB takes {:?} on this disk", disk(directory.path()));
    let path = ledger_in(&directory);
    let ledger = SqliteLedger::open(&path).unwrap();
    let all: Vec<_> = (0..count).map(revocation).collect();
    let begun = Instant::now();
    for part in all.chunks(10_000) {
        ledger.revoke(part, &[], &row("many")).unwrap();
    }
    println!("{count} revoked in {:?}", begun.elapsed());

    let mut times: Vec<_> = (count..count + 500)
        .map(|number| {
            let new = [revocation(number)];
            let begun = Instant::now();
            assert_eq!(ledger.revoke(&new, &[], &row("one")).unwrap(), number + 1);
            begun.elapsed()
        })
        .collect();
    times.sort();
    let p99 = times[times.len() * 99 / 100];
    println!("one more, durable in ledger and journal: {}", spread(times));
    let mut found: Vec<_> = (0..500)
        .map(|step| {
            let wanted = revocation(count / 500 * step);
            let begun = Instant::now();
            let found = ledger.revocation(&wanted.issuer_key_id, &wanted.serial).unwrap();
            let time = begun.elapsed();
            assert!(found.is_some());
            time
        })
        .collect();
    found.sort();
    println!("looked up: {}", spread(found));
    drop(ledger);
    let begun = Instant::now();
    drop(SqliteLedger::open(&path).unwrap());
    println!("opened again in {:?}", begun.elapsed());
    verdict("a revocation takes at most 5 ms (p99)", p99 <= Duration::from_millis(5))
}

fn revocation(number: u64) -> Revocation {
    let scattered = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let serial: Serial = format!("5a{scattered:016x}{number:012x}").parse().unwrap();
    Revocation {
        issuer_key_id: [1; 32],
        serial,
        reason: RevocationReason::KeyCompromise,
        at: now(),
        not_after: Some(now()),
        identity: Some("spiffe://bench.example/component/c1".parse().unwrap()),
        lineage: Some(format!("csr/{number:x}").parse().unwrap()),
    }
}

fn row(subject: &str) -> AuditRow {
    AuditRow {
        at: now(),
        actor: "uid:0".to_owned(),
        action: "certificate.revoke".to_owned(),
        subject: subject.to_owned(),
        outcome: "ok".to_owned(),
        detail: String::new(),
        why: "bench".to_owned(),
    }
}
