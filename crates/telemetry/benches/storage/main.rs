//! What journal and store can do, with one command each:
//!
//! ```text
//! benches/storage journal [MiB]        sequential writing with flushes shared, beside the bare disk
//! benches/storage keep [segments]      segments of five spans, durable and indexed, by eight who wait for each batch
//! benches/storage late [segments]      segments that are older than those that came last, new ones and repeats
//! benches/storage query [segments]     questions to a store of a million segments
//! ```

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on panics")]
#![expect(clippy::print_stdout, reason = "what it measured is what it is for")]
#![expect(clippy::cast_precision_loss, reason = "figures for people")]

mod journal;
mod keep;
mod late;
mod query;
mod segment;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    let what = words.next().unwrap_or_else(|| "journal".to_owned());
    let number = words.next().map(|word| word.parse::<u64>().expect("a number"));
    let good = match what.as_str() {
        "journal" => journal::run(number.unwrap_or(1024) << 20),
        "keep" => keep::run(number.unwrap_or(300_000)),
        "late" => late::run(number.unwrap_or(1_000_000)),
        "query" => query::run(number.unwrap_or(1_000_000)),
        other => panic!("`{other}` is none of journal, keep, late, query"),
    };
    ExitCode::from(u8::from(!good))
}

/// A directory on the disk that is measured, not on a file system in memory.
fn directory() -> tempfile::TempDir {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    std::fs::create_dir_all(target).unwrap();
    tempfile::tempdir_in(target).unwrap()
}

/// The time that everything here happens at.
fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

/// Sorted figures: the middle, the 99th percentile, the largest.
fn spread(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |part: usize| times[(times.len() * part / 100).min(times.len() - 1)];
    format!("p50 {:.2?}, p99 {:.2?}, max {:.2?}", at(50), at(99), at(100))
}

/// Processor time of this process, all threads together.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = stat.rsplit_once(')').unwrap().1;
    let ticks: u64 =
        after_name.split_whitespace().skip(11).take(2).map(|it| it.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

/// Prints whether a figure holds.
fn verdict(what: &str, good: bool) -> bool {
    println!("{} {what}", if good { "pass" } else { "FAIL" });
    good
}
