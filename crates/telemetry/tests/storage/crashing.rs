//! kill -9 of a real process while it appends: everything it was told is durable is there.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use handfast_telemetry::journal::JournalSettings;
use handfast_testkit::eventually::within;

use crate::support::{number, open, read_all, record, run};

/// Where the child appends; without it, the child is a test like others.
const DIRECTORY: &str = "HANDFAST_TEST_JOURNAL";

fn settings() -> JournalSettings {
    JournalSettings { chunk_bytes: 1 << 20, ..JournalSettings::default() }
}

#[test]
fn child_appends_and_says_what_is_durable() {
    let directory = std::env::var_os(DIRECTORY);
    let own = tempfile::tempdir().unwrap();
    let path = directory.as_deref().map_or(own.path(), Path::new);
    let (journal, _) = open(path, settings());
    let begin = read_all(&journal).iter().map(|(_, r)| number(r) + 1).max().unwrap_or(0);
    let rounds = if directory.is_some() { u64::MAX } else { 20 };
    run(async {
        let mut next = begin;
        let mut waiting = std::collections::VecDeque::new();
        for round in 0..rounds {
            let batch: Vec<_> =
                (next..next + 10).map(|n| record(n, 100 + (n % 700) as usize)).collect();
            next += 10;
            waiting.push_back((next, journal.append(batch).await.unwrap()));
            // Several are always under way.
            if round >= 8 {
                let (end, appended) = waiting.pop_front().unwrap();
                appended.durable().await.unwrap();
                println!("durable {end}");
            }
        }
        for (_, appended) in waiting {
            appended.durable().await.unwrap();
        }
    });
    assert_eq!(read_all(&journal).len() as u64, begin + 200);
}

fn child(directory: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crashing::child_appends_and_says_what_is_durable", "--nocapture"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn what_was_durable_survives_kill_9_again_and_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut durable = 0;
    for round in 1..=6 {
        let mut child = child(directory.path());
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen = 0;
        // Another number of acknowledgements each time, so that the kill falls elsewhere.
        while seen < round * 37 {
            let line = lines.next().expect("the child goes on until it is killed").unwrap();
            if let Some(end) = line.strip_prefix("durable ") {
                durable = end.parse::<u64>().unwrap();
                seen += 1;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines.map_while(Result::ok) {
            if let Some(end) = line.strip_prefix("durable ") {
                durable = end.parse().unwrap_or(durable);
            }
        }
        let journal = within(std::time::Duration::from_secs(30), "the lock is free", || {
            handfast_telemetry::journal::Journal::open(directory.path(), settings()).ok()
        })
        .0;
        let numbers: Vec<u64> = read_all(&journal).iter().map(|(_, r)| number(r)).collect();
        assert!(numbers.len() as u64 >= durable, "{} of {durable}", numbers.len());
        assert!(
            numbers.iter().copied().eq(0..numbers.len() as u64),
            "in order, once, without holes"
        );
        for (_, read) in read_all(&journal) {
            let n = number(&read);
            assert_eq!(read, record(n, 100 + (n % 700) as usize));
        }
    }
    assert!(durable >= 2000);
}
