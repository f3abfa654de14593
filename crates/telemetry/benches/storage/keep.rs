//! How many segments of five spans a second are durable in the store, and what one costs.

use std::time::Instant;

use handfast_telemetry::keep::{Keep, KeepSettings};

use crate::segment::segment;
use crate::{block_on, cpu, directory, now, spread, verdict};

pub(crate) fn run(segments: u64) -> bool {
    let (writers, batch) = (8, 100);
    // Made beforehand: it is not agents that are measured.
    let mut batches: Vec<Vec<Vec<_>>> = (0..writers).map(|_| Vec::new()).collect();
    for n in 0..segments / batch {
        let records = (n * batch..(n + 1) * batch).map(segment).collect();
        batches[usize::try_from(n).unwrap() % writers].push(records);
    }
    let bytes: usize = batches.iter().flatten().flatten().map(|record| record.body.len()).sum();
    let directory = directory();
    let keep = Keep::open(directory.path(), KeepSettings::default(), now()).unwrap();
    let (begun, used) = (Instant::now(), cpu());
    let times = block_on(async {
        let tasks: Vec<_> = batches
            .into_iter()
            .map(|batches| {
                let keep = keep.clone();
                tokio::spawn(async move {
                    let mut times = Vec::new();
                    for batch in batches {
                        let since = Instant::now();
                        let kept = keep.take(batch).await.unwrap().durable().await.unwrap();
                        assert_eq!(kept.duplicates, 0);
                        times.push(since.elapsed());
                    }
                    times
                })
            })
            .collect();
        let mut times = Vec::new();
        for task in tasks {
            times.extend(task.await.unwrap());
        }
        times
    });
    let (took, used) = (begun.elapsed(), cpu().saturating_sub(used));
    let per_second = segments as f64 / took.as_secs_f64();
    println!(
        "keep: {segments} segments of 5 spans ({} bytes each), batches of {batch} from {writers} at once: {per_second:.0}/s durable, {:.1} CPU-microseconds each",
        bytes / usize::try_from(segments).unwrap(),
        used.as_secs_f64() * 1e6 / segments as f64,
    );
    println!("keep: a batch is durable after {}", spread(times));
    drop(keep);
    let begun = Instant::now();
    let keep = Keep::open(directory.path(), KeepSettings::default(), now()).unwrap();
    println!("keep: opened again in {:.2?}", begun.elapsed());
    let there: u64 = keep.reader().services().unwrap().iter().map(|it| it.segments).sum();
    assert_eq!(there, segments / batch * batch);
    verdict("segments durable in the store >= 30,000/s", per_second >= 30_000.0)
}
