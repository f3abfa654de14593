//! How fast revocation is handed out, with one command: `benches/revocation [revoked] [seconds]`.
//!
//! A site with a ledger of 100,000 revocations: reading them at the start, one revocation more and the list made
//! anew, OCSP answers from a warm responder in process and over HTTP, and signed one by one. Fails if a figure
//! that the documentation promises is missed.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on panics")]
#![expect(clippy::print_stdout, reason = "what it measured is what it is for")]
#![expect(clippy::cast_precision_loss, reason = "figures for people")]

mod place;
mod web;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use handfast_pki::Crl;
use handfast_pki::ocsp::{CertId, IdHash, OcspRequest};

use place::Place;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    let mut number = |usual| words.next().map_or(usual, |word| word.parse().expect("a number"));
    let (count, seconds): (u64, u64) = (number(100_000), number(5));
    let place = Place::new();
    place.revoke(count);
    let mut good = lists(&place, count);
    good &= answers(&place, Duration::from_secs(seconds));
    ExitCode::from(u8::from(!good))
}

/// Prints one figure and whether it holds.
fn judge(what: &str, figure: &str, holds: bool) -> bool {
    println!("{} {what}: {figure}", if holds { "pass" } else { "FAIL" });
    holds
}

fn lists(place: &Place, count: u64) -> bool {
    place.pass_an_hour();
    let start = Instant::now();
    place.publish();
    println!(
        "     {count} revocations read, and all lists made, at the start: {:.0?}",
        start.elapsed()
    );
    let mut took = Vec::new();
    for _ in 0..9 {
        place.revoke(1);
        let start = Instant::now();
        place.publish();
        took.push(start.elapsed());
    }
    took.sort();
    let issuer = place.issuer();
    let (full, delta) = (Crl::from_der(&issuer.full.der[..]).unwrap(), issuer.delta.der.len());
    assert_eq!(full.len() as u64, count + 9);
    assert_eq!(full.verify_signed_by(&issuer.certificate), Ok(()));
    let median = took[took.len() / 2];
    let worst = took[took.len() - 1];
    let (size, entries) = (full.der().len(), full.len());
    judge(
        "one revocation more: full list and delta made anew, signed",
        &format!(
            "median {median:.1?}, worst {worst:.1?} ({entries} entries, {size} octets; delta {delta} octets)"
        ),
        worst < Duration::from_secs(1),
    )
}

fn answers(place: &Place, life: Duration) -> bool {
    let issuer = place.issuer();
    let ask = |serial, nonce: Option<Vec<u8>>| OcspRequest {
        cert_id: CertId::new(IdHash::Sha256, &issuer.certificate, serial),
        nonce,
    };
    let serials = place.issued();
    let requests: Vec<_> = serials.iter().map(|serial| ask(serial, None)).collect();
    let now = place.now();
    for request in &requests {
        place.authority().answer_ocsp(place.publisher(), request, now);
    }
    let each: Vec<Vec<u8>> = requests.iter().map(OcspRequest::to_der).collect();
    let (start, mut done) = (Instant::now(), 0_u64);
    while start.elapsed() < life {
        for der in &each {
            let request = OcspRequest::from_der(der).unwrap();
            assert!(place.publisher().kept_answer(&request, now).is_some());
            done += 1;
        }
    }
    let rate = done as f64 / start.elapsed().as_secs_f64();
    let mut good = judge(
        "OCSP, warm, in process, one thread (request parsed, answer found)",
        &format!("{rate:.0} responses/s"),
        rate >= 20_000.0,
    );
    let (start, mut done) = (Instant::now(), 0_u64);
    while start.elapsed() < life {
        for serial in &serials {
            let nonce = Some(done.to_be_bytes().repeat(4));
            place.authority().answer_ocsp(place.publisher(), &ask(serial, nonce), now);
            done += 1;
        }
    }
    let rate = done as f64 / start.elapsed().as_secs_f64();
    println!(
        "     OCSP with a nonce: looked up in the ledger and signed, one thread: {rate:.0} responses/s"
    );
    let rate = web::rate(place, &requests, life);
    good &= judge(
        "OCSP, warm, over HTTP (GET, 16 kept connections, client on the same cores)",
        &format!("{rate:.0} responses/s"),
        rate >= 20_000.0,
    );
    good
}
