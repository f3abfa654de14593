//! Certificates from requests, by many clients at once.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use handfast_pki::{
    Csr, IssueRequest, Issuer, Overrun, PrivateKey, Profile, Subject, SystemEntropy,
};
use handfast_store::{AuditLog, AuditRow, Issued, Ledger, SqliteLedger};

use crate::{cfssl, directory, disk, ledger_in, now, verdict};

pub(crate) fn run(length: Duration) -> bool {
    let directory = directory();
    println!("one synced write of 4 KiB takes {:?} on this disk", disk(directory.path()));
    let issuer = issuer();
    let requests: Vec<Vec<u8>> = (0..128).map(request).collect();
    let ledger = SqliteLedger::open(ledger_in(&directory)).unwrap();
    let third = length / 3;

    // Interleaved, so that whatever else runs on the machine hits all of them.
    let (mut signed, mut recorded, mut theirs, mut theirs_recorded) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..3 {
        signed.push(rate(2, third, |number| {
            sign(&issuer, pick(&requests, number), round * 1_000_000_000 + number);
        }));
        recorded.push(rate(CLIENTS, third, |number| {
            let issued = sign(&issuer, pick(&requests, number), number);
            ledger.record_issued(&issued, &row(&issued)).unwrap();
        }));
        theirs.extend(cfssl::rate(&issuer, &requests, third, false));
        theirs_recorded.extend(cfssl::rate(&issuer, &requests, third, true));
    }
    let [signed, recorded] = [signed, recorded].map(median);
    println!("signing alone, 2 threads: {signed:.0}/s");
    println!("signed, recorded and audited durably, {CLIENTS} clients: {recorded:.0}/s");
    if theirs.is_empty() {
        println!("skipped: no cfssl here (apt-get install golang-cfssl)");
    } else {
        let [theirs, theirs_recorded] = [theirs, theirs_recorded].map(median);
        println!(
            "cfssl serve over HTTP: {theirs:.0}/s without a database ({:.1} times as many here), \
             {theirs_recorded:.0}/s with its SQLite database ({:.1} times as many here)",
            signed / theirs,
            recorded / theirs_recorded,
        );
    }
    drop(ledger);
    let verified = AuditLog::open(ledger_in(&directory)).unwrap().verify(Vec::new()).unwrap();
    println!("{} audit rows verified", verified.rows);
    let mut good = verdict("the audit log is whole", verified.is_whole());
    good &= verdict("signing alone: at least 10,000/s", signed >= 10_000.0);
    good &= verdict("durable with audit: at least 3,000/s", recorded >= 3_000.0);
    good
}

/// How often a second `work` can be done, by so many threads.
pub(crate) fn rate(threads: u64, length: Duration, work: impl Fn(u64) + Sync) -> f64 {
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    work(done.fetch_add(1, Ordering::Relaxed));
                }
            });
        }
        thread::sleep(length);
        stop.store(true, Ordering::Relaxed);
    });
    done.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64()
}

fn issuer() -> Issuer {
    let key = PrivateKey::generate(handfast_pki::KeyAlgorithm::EcdsaP256).unwrap();
    let request = IssueRequest::new(Profile::Root, Subject::new("bench root"), key.spki_der());
    Issuer::self_signed(&request, key, now(), &mut SystemEntropy).unwrap()
}

fn request(number: u64) -> Vec<u8> {
    let key = PrivateKey::generate(handfast_pki::KeyAlgorithm::EcdsaP256).unwrap();
    Csr::create(&key, &subject(number)).unwrap().der().to_vec()
}

fn subject(number: u64) -> Subject {
    let identity = format!("spiffe://bench.example/component/c{number}").parse().unwrap();
    Subject::new(format!("c{number}")).with_identity(identity)
}

fn pick(requests: &[Vec<u8>], number: u64) -> &[u8] {
    &requests[usize::try_from(number).unwrap() % requests.len()]
}

/// Everything that happens to a request on its way to a certificate.
fn sign(issuer: &Issuer, request: &[u8], number: u64) -> Issued {
    let csr = Csr::from_der(request).unwrap();
    let subject = subject(number % 10_000);
    let request = IssueRequest::new(Profile::Component, subject.clone(), csr.spki_der())
        .with_overrun(Overrun::Truncate);
    let leaf = issuer.issue(&request, now(), &mut SystemEntropy).unwrap();
    Issued {
        issuer_key_id: issuer.key().key_id(),
        serial: leaf.serial().clone(),
        identity: subject.identity,
        names: vec![subject.common_name],
        profile: Profile::Component,
        not_before: leaf.not_before(),
        not_after: leaf.not_after(),
        lineage: format!("csr/{number:016x}").parse().unwrap(),
        fingerprint: leaf.fingerprint(),
        pem: leaf.to_pem(),
    }
}

fn row(issued: &Issued) -> AuditRow {
    AuditRow {
        at: now(),
        actor: "spiffe://bench.example/operator/alice".to_owned(),
        action: "certificate.issue".to_owned(),
        subject: issued.identity.as_ref().map(ToString::to_string).unwrap_or_default(),
        outcome: "ok".to_owned(),
        detail: format!("serial {}, until {}", issued.serial, issued.not_after),
        why: "bench".to_owned(),
    }
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// Blocking clients, as the admin port and links have them.
const CLIENTS: u64 = 64;
