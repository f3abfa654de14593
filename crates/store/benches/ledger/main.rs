//! What the ledger and the signing in front of it can do, with one command each:
//!
//! ```text
//! benches/ledger issue [seconds]     certificates from requests: signed only, and recorded durably
//! benches/ledger scale [rows]        a ledger of a million certificates: opening, looking up, memory
//! benches/ledger revoke [count]      one revocation more among a hundred thousand
//! ```
//!
//! `issue` asks Debian's cfssl (package golang-cfssl) for the same in the same run, if it is there. Exits with 1 if a figure
//! that the documentation promises is missed.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on panics")]
#![expect(clippy::print_stdout, reason = "what it measured is what it is for")]
#![expect(clippy::cast_precision_loss, reason = "figures for people")]

mod cfssl;
mod issue;
mod revoke;
mod scale;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    let what = words.next().unwrap_or_else(|| "issue".to_owned());
    let number = words.next().map(|word| word.parse::<u64>().expect("a number"));
    let good = match what.as_str() {
        "issue" => issue::run(Duration::from_secs(number.unwrap_or(10))),
        "scale" => scale::run(number.unwrap_or(1_000_000)),
        "revoke" => revoke::run(number.unwrap_or(100_000)),
        other => panic!("`{other}` is none of issue, scale, revoke"),
    };
    ExitCode::from(u8::from(!good))
}

/// A directory on the disk that is measured, not on a file system in memory.
fn directory() -> tempfile::TempDir {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    std::fs::create_dir_all(target).unwrap();
    tempfile::tempdir_in(target).unwrap()
}

fn ledger_in(directory: &tempfile::TempDir) -> PathBuf {
    directory.path().join("state.db")
}

/// The time that everything here happens at.
fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

/// Sorted figures: the middle, the 99th percentile, the largest.
fn spread(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |part: usize| times[(times.len() * part / 100).min(times.len() - 1)];
    format!("p50 {:?}, p99 {:?}, max {:?}", at(50), at(99), at(100))
}

/// How long the disk takes for one small write that lasts.
fn disk(directory: &Path) -> Duration {
    use std::io::Write;
    let mut file = std::fs::File::create(directory.join("probe")).unwrap();
    let mut times: Vec<_> = (0..50)
        .map(|_| {
            let begun = std::time::Instant::now();
            file.write_all(&[1; 4096]).unwrap();
            file.sync_data().unwrap();
            begun.elapsed()
        })
        .collect();
    times.sort();
    times[25]
}

/// Prints whether a figure holds, and returns it.
fn verdict(what: &str, good: bool) -> bool {
    println!("{} {what}", if good { "pass" } else { "FAIL" });
    good
}
