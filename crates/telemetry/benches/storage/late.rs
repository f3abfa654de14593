//! What it costs to know segments again that are older than the window of the last ones: a relay that catches up, and
//! one that was not answered and sends again.

use std::time::{Duration, Instant};

use handfast_telemetry::Record;
use handfast_telemetry::keep::{Keep, KeepSettings};
use jiff::Timestamp;

use crate::segment::segment;
use crate::{block_on, directory, now, verdict};

pub(crate) fn run(segments: u64) -> bool {
    let mut good = true;
    let more = segments / 10 / 100 * 100;
    // Relays that catch up from different places: each chunk is of all times.
    let mixed = |n: u64| n.wrapping_mul(0x9e37_79b1) % segments;
    for (what, kept) in [("in order", None), ("mixed", Some(&mixed as &dyn Fn(u64) -> u64))] {
        let directory = directory();
        let settings = KeepSettings { recent_segments: 20_000, ..KeepSettings::default() };
        let keep = Keep::open(directory.path(), settings, now()).unwrap();
        let received = |record: Record| Record { received: soon(segments), ..record };
        let of = |n: u64| received(segment(kept.map_or(n, |mixed| mixed(n)) * 2));
        take(&keep, 0..segments, &of);
        let (new, _) = take(&keep, 0..more, &|n| received(segment((n * 9 % segments) * 2 + 1)));
        let (again, duplicates) = take(&keep, 0..more, &|n| of(n * 9 % segments));
        let per_second = |took: Duration| more as f64 / took.as_secs_f64();
        println!(
            "late, {what}: {segments} segments kept; {more} that are as old and new: {:.0}/s; the same again: {:.0}/s, {duplicates} known",
            per_second(new),
            per_second(again),
        );
        assert_eq!(duplicates as u64, more);
        good &= verdict("late segments >= 10,000/s", per_second(new) >= 10_000.0);
    }
    good
}

/// After all of them were over.
fn soon(segments: u64) -> Timestamp {
    Timestamp::from_millisecond(1_800_000_000_000 + i64::try_from(segments / 10).unwrap() + 60_000)
        .unwrap()
}

/// Takes them in batches of 100, ten at once; how long it took, and how many were known.
fn take(keep: &Keep, which: std::ops::Range<u64>, of: &dyn Fn(u64) -> Record) -> (Duration, usize) {
    let numbers: Vec<u64> = which.collect();
    let mut spent = Duration::ZERO;
    let mut known = 0;
    for thousand in numbers.chunks(1000) {
        let batches: Vec<Vec<Record>> =
            thousand.chunks(100).map(|batch| batch.iter().map(|n| of(*n)).collect()).collect();
        let begun = Instant::now();
        known += block_on(async {
            let mut under_way = Vec::new();
            for batch in batches {
                let keep = keep.clone();
                under_way.push(tokio::spawn(async move {
                    keep.take(batch).await.unwrap().durable().await.unwrap().duplicates
                }));
            }
            let mut known = 0;
            for task in under_way {
                known += task.await.unwrap();
            }
            known
        });
        spent += begun.elapsed();
    }
    (spent, known)
}
