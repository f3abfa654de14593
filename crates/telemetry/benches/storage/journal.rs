//! How much the journal writes in a second, beside what the disk does with the same flushes.

use std::io::Write;
use std::time::{Duration, Instant};

use bytes::Bytes;
use handfast_telemetry::journal::{Journal, JournalSettings, Position};
use handfast_telemetry::{Record, RecordKind};

use crate::{block_on, cpu, directory, now, spread, verdict};

pub(crate) fn run(bytes: u64) -> bool {
    let mib = bytes as f64 / f64::from(1 << 20);
    let bare = bare_disk(bytes);
    println!(
        "bare disk: {mib:.0} MiB, writes of 8 MiB each flushed: {:.0} MB/s",
        rate(bytes, bare)
    );
    let directory = directory();
    let settings = JournalSettings { limit_bytes: 2 * bytes, ..JournalSettings::default() };
    let (journal, _) = Journal::open(directory.path(), settings).unwrap();
    let body = Bytes::from(vec![7; 1300]);
    let (writers, batch) = (16, 64);
    let rounds = bytes / 1330 / writers / batch;
    let (begun, used) = (Instant::now(), cpu());
    let times = block_on(async {
        let mut tasks = Vec::new();
        for _ in 0..writers {
            let (journal, body) = (journal.clone(), body.clone());
            tasks.push(tokio::spawn(async move {
                let mut times = Vec::new();
                let mut under_way = std::collections::VecDeque::new();
                for _ in 0..rounds {
                    let records = (0..batch).map(|_| Record {
                        body: body.clone(),
                        kind: RecordKind::Segment,
                        received: now(),
                        reporter: Bytes::new(),
                    });
                    let records = records.collect();
                    under_way.push_back((Instant::now(), journal.append(records).await.unwrap()));
                    if under_way.len() > 4 {
                        let (since, appended) = under_way.pop_front().unwrap();
                        appended.durable().await.unwrap();
                        times.push(since.elapsed());
                    }
                }
                for (_, appended) in under_way {
                    appended.durable().await.unwrap();
                }
                times
            }));
        }
        let mut times = Vec::new();
        for task in tasks {
            times.extend(task.await.unwrap());
        }
        times
    });
    let (took, used) = (begun.elapsed(), cpu().saturating_sub(used));
    let written = journal.status().bytes;
    println!(
        "journal: {:.0} MB/s durable in records of 1.3 KB, batches of {batch} from {writers} at once; {:.2} of the bare disk; {:.2} CPU-seconds per GB",
        rate(written, took),
        rate(written, took) / rate(bytes, bare),
        used.as_secs_f64() / (written as f64 / 1e9),
    );
    println!("journal: a batch is durable after {}", spread(times));

    let begun = Instant::now();
    let mut reader = journal.reader(Position::START);
    let mut records = 0;
    loop {
        let batch = reader.next_batch(1 << 20).unwrap();
        if batch.is_empty() {
            break;
        }
        records += batch.len();
    }
    println!("journal: read back {records} records at {:.0} MB/s", rate(written, begun.elapsed()));
    verdict("spool write >= 200 MB/s, or all that the disk gives", {
        rate(written, took) >= 200.0 || rate(written, took) >= 0.8 * rate(bytes, bare)
    })
}

fn bare_disk(bytes: u64) -> Duration {
    let directory = directory();
    let piece = vec![7; 8 << 20];
    let begun = Instant::now();
    let mut left = bytes;
    let mut number = 0;
    while left > 0 {
        // Files as large as chunks.
        let mut file = std::fs::File::create(directory.path().join(number.to_string())).unwrap();
        for _ in 0..8 {
            file.write_all(&piece).unwrap();
            file.sync_data().unwrap();
            left = left.saturating_sub(piece.len() as u64);
        }
        number += 1;
    }
    begun.elapsed()
}

fn rate(bytes: u64, took: Duration) -> f64 {
    bytes as f64 / 1e6 / took.as_secs_f64()
}
