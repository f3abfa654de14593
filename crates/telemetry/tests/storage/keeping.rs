//! What is kept, once, for how long, and what of it survives.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use handfast_proto::skywalking::v3::SegmentObject;
use handfast_telemetry::keep::{
    EventQuery, Keep, KeepReader, KeepSettings, LogQuery, NewestQuery, TraceQuery,
};
use handfast_telemetry::{Record, RecordKind};
use handfast_testkit::eventually::{until, within};
use prost::Message;

use crate::reports::{
    NOW, Segment, at, event, jvm, keep, log, many_chunks, meter, otlp, properties, tag, take,
};
use crate::support::{chunks, read_all, run};

fn numbered(n: u64) -> Record {
    let (trace, id) = (format!("trace-{n}"), format!("segment-{n}"));
    Segment { start: NOW + i64::try_from(n).unwrap(), ..Segment::new(&trace, &id) }.record()
}

fn segments(reader: &KeepReader) -> u64 {
    reader.services().unwrap().iter().map(|service| service.segments).sum()
}

fn indexes(directory: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "index"))
        .collect();
    found.sort();
    found
}

#[test]
fn a_segment_that_comes_again_is_acknowledged_and_kept_once() {
    let directory = tempfile::tempdir().unwrap();
    run(async {
        let keep = keep(directory.path());
        let kept = take(&keep, (0..10).map(numbered).collect()).await;
        assert_eq!((kept.kept, kept.duplicates), (10, 0));
        let again = take(&keep, (5..15).map(numbered).collect()).await;
        assert_eq!((again.kept, again.duplicates), (5, 5));
        let twice = take(&keep, vec![numbered(20), numbered(20)]).await;
        assert_eq!((twice.kept, twice.duplicates), (1, 1));
        let otel = take(&keep, vec![otlp([1, 2]), otlp([1, 2]), otlp([1, 3])]).await;
        assert_eq!((otel.kept, otel.duplicates), (2, 1));
        // The same id of somebody else is something else.
        let other = Segment { service: "bank", ..Segment::new("trace-1", "segment-1") }.record();
        assert_eq!(take(&keep, vec![other]).await.kept, 1);
        assert_eq!(keep.status().kept, 10 + 5 + 1 + 2 + 1);
        assert_eq!(keep.status().duplicates, 5 + 1 + 1);
    });
    run(async {
        let keep = keep(directory.path());
        assert_eq!(take(&keep, (0..21).map(numbered).collect()).await.duplicates, 16);
        assert_eq!(keep.reader().services().unwrap()[2].segments, 21);
        assert_eq!(keep.reader().trace("trace-3").unwrap().len(), 1);
    });
}

#[test]
fn the_same_segments_at_the_same_time_are_kept_once() {
    let directory = tempfile::tempdir().unwrap();
    run(async {
        let keep = keep(directory.path());
        let mut tasks = Vec::new();
        for _ in 0..8 {
            let keep = keep.clone();
            tasks.push(tokio::spawn(async move {
                let mut kept = 0;
                for n in 0..50 {
                    kept += take(&keep, (n * 10..n * 10 + 10).map(numbered).collect()).await.kept;
                }
                kept
            }));
        }
        let mut kept = 0;
        for task in tasks {
            kept += task.await.unwrap();
        }
        assert_eq!(kept, 500);
        assert_eq!(segments(keep.reader()), 500);
        assert_eq!(keep.reader().trace("trace-77").unwrap().len(), 1);
    });
}

/// How often each segment lies in the store, counted in the records themselves: whatever an index or a reader
/// makes of it.
fn raw(keep: &Keep) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for (_, record) in read_all(keep.journal()) {
        if record.kind == RecordKind::Segment {
            let segment = SegmentObject::decode(record.body).unwrap();
            *counts.entry(segment.trace_segment_id).or_default() += 1;
        }
    }
    counts
}

#[test]
fn duplicates_from_before_the_window_are_kept_and_counted_once() {
    let directory = tempfile::tempdir().unwrap();
    let settings = KeepSettings { recent_segments: 10, ..many_chunks() };
    let open = || Keep::open(directory.path(), settings.clone(), at(NOW)).unwrap();
    let all_once = |keep: &Keep, count: usize| {
        let raw = raw(keep);
        assert_eq!((raw.len(), raw.values().max()), (count, Some(&1)), "{raw:?}");
        assert_eq!(segments(keep.reader()), count as u64);
    };
    run(async {
        let keep = open();
        for n in 0..100 {
            assert_eq!(take(&keep, vec![numbered(n)]).await.kept, 1);
        }
        // In chunks that are in files by now, in chunks that are not, and in the open one.
        for n in (0..100).rev() {
            let again = take(&keep, vec![numbered(n)]).await;
            assert_eq!((again.kept, again.duplicates), (0, 1), "{n}");
        }
        // Several at once, with new ones among them that are as old.
        let late =
            |n: u64| Segment { start: NOW + 3, ..Segment::new("late", &format!("late-{n}")) };
        let mixed =
            vec![numbered(3), late(1).record(), numbered(99), late(2).record(), numbered(0)];
        let mixed = take(&keep, mixed).await;
        assert_eq!((mixed.kept, mixed.duplicates), (2, 3));
        // Of a clock that is wrong by years; what is believed is when it came.
        let wrong = Segment { start: 1, ..Segment::new("wrong", "wrong") };
        let wrong = |received| Record { received: at(received), ..skewed_record(&wrong) };
        assert_eq!(take(&keep, vec![wrong(NOW + 200)]).await.kept, 1);
        for n in 200..230 {
            assert_eq!(take(&keep, vec![numbered(n)]).await.kept, 1);
        }
        assert_eq!(take(&keep, vec![wrong(NOW + 9000)]).await.duplicates, 1);
        // OpenTelemetry's are known by all that they say.
        assert_eq!(take(&keep, vec![otlp([1, 2])]).await.kept, 1);
        for n in 230..260 {
            assert_eq!(take(&keep, vec![numbered(n)]).await.kept, 1);
        }
        let otel = take(&keep, vec![otlp([1, 2]), otlp([1, 3])]).await;
        assert_eq!((otel.kept, otel.duplicates), (1, 1));
        assert_eq!(keep.status().duplicates, 100 + 3 + 1 + 1);
    });
    run(async {
        let keep = open();
        for n in (0..100).chain(200..260) {
            assert_eq!(take(&keep, vec![numbered(n)]).await.duplicates, 1, "{n}");
        }
        let raw = raw(&keep);
        assert_eq!((raw.len(), raw.values().max()), (163, Some(&1)));
    });
    // Without its indexes the same.
    for index in indexes(directory.path()) {
        std::fs::remove_file(index).unwrap();
    }
    run(async {
        let keep = open();
        assert_eq!(take(&keep, vec![numbered(7), numbered(8)]).await.duplicates, 2);
    });
    let other = tempfile::tempdir().unwrap();
    run(async {
        let keep = Keep::open(other.path(), settings.clone(), at(NOW)).unwrap();
        for n in (0..300).map(|n| n * 7 % 100) {
            take(&keep, vec![numbered(n)]).await;
        }
        all_once(&keep, 100);
    });
}

#[test]
fn what_is_too_old_goes_and_the_rest_stays() {
    let directory = tempfile::tempdir().unwrap();
    let hour = Duration::from_secs(3600);
    let settings = KeepSettings { retention: hour, ..many_chunks() };
    run(async {
        let keep = Keep::open(directory.path(), settings.clone(), at(NOW)).unwrap();
        for n in 0..100 {
            let (trace, id) = (format!("old-{n}"), format!("o{n}"));
            take(&keep, vec![Segment::new(&trace, &id).record()]).await;
        }
        until("indexes are written", || indexes(directory.path()).len() > 5);
        let later = NOW + 3_000_000;
        for n in 0..20 {
            let (trace, id) = (format!("new-{n}"), format!("n{n}"));
            let new = Segment { start: later, ..Segment::new(&trace, &id) };
            take(&keep, vec![new.record()]).await;
        }
        assert_eq!(keep.sweep(at(NOW + 3_000_000)).unwrap(), 0, "nothing is an hour old");
        assert!(keep.sweep(at(NOW + 4_000_000)).unwrap() > 10_000);
        let query = TraceQuery { limit: 1000, ..TraceQuery::default() };
        let left = keep.reader().traces(&query).unwrap();
        assert!(left.iter().all(|it| it.trace_id.starts_with("new-")), "{left:?}");
        assert_eq!(left.len(), 20);
        assert!(keep.reader().trace("old-99").unwrap().is_empty(), "not even where it lies still");
        assert!(indexes(directory.path()).len() <= chunks(directory.path()).len());
        // Everything is old: nothing is shown, though the open chunk is there.
        keep.sweep(at(NOW + 40_000_000)).unwrap();
        assert!(keep.reader().traces(&query).unwrap().is_empty());
        assert!(keep.reader().services().unwrap().is_empty());
    });
    let keep = Keep::open(directory.path(), settings, at(NOW + 40_000_000)).unwrap();
    assert!(keep.reader().traces(&TraceQuery::default()).unwrap().is_empty());
}

#[test]
fn what_is_too_old_is_not_counted_or_listed_though_it_lies_beside_younger() {
    let directory = tempfile::tempdir().unwrap();
    let hour = Duration::from_secs(3600);
    let settings = KeepSettings { retention: hour, ..KeepSettings::default() };
    run(async {
        let keep = Keep::open(directory.path(), settings.clone(), at(NOW)).unwrap();
        let later = NOW + 1_800_000;
        let of = |id: &str, start: i64, endpoint: &'static str| {
            Segment { endpoint, start, ..Segment::new(&format!("trace-{id}"), id) }.record()
        };
        let mut records = vec![of("old", NOW, "/gone"), of("both", NOW, "/pay")];
        records.push(of("new", later, "/pay"));
        for time in [NOW, later] {
            let text = format!("said at {}", time - NOW);
            let name = if time == NOW { "old" } else { "new" };
            records.extend([log("", time, &text), meter(name, time, 1.0), jvm(time, 7)]);
            records.extend([event(name, time, time + 1, &text), properties(time, name)]);
        }
        take(&keep, records).await;
        let counts = |now: i64| {
            keep.sweep(at(now)).unwrap();
            let reader = keep.reader();
            let services = reader.services().unwrap();
            let (records, segments) =
                services.first().map(|it| (it.records, it.segments)).unwrap_or_default();
            let metrics = reader.metric_names("shop").unwrap();
            assert_eq!(
                metrics.iter().filter(|it| ["old", "new"].contains(&it.name.as_str())).count(),
                reader.newest(&NewestQuery::default()).unwrap().len().saturating_sub(12),
                "the newest values and the names agree"
            );
            (
                (records, segments),
                reader.endpoints("shop", "").unwrap().len(),
                reader.instances("shop").unwrap().len(),
                reader.traces(&TraceQuery::default()).unwrap().len(),
                reader.logs(&LogQuery::default()).unwrap().len(),
                reader.events(&EventQuery::default()).unwrap().len(),
            )
        };
        assert_eq!(counts(NOW), ((13, 3), 2, 1, 3, 2, 2));
        // Three quarters of an hour later nothing is too old; then half of it is; then all.
        assert_eq!(counts(NOW + 2_700_000), ((13, 3), 2, 1, 3, 2, 2));
        assert_eq!(counts(NOW + 3_600_000 + 60_000), ((6, 1), 1, 1, 1, 1, 1));
        assert_eq!(counts(later + 3_600_000 + 60_000), ((0, 0), 0, 0, 0, 0, 0));
    });
}

#[test]
fn a_full_store_gives_up_its_oldest() {
    let directory = tempfile::tempdir().unwrap();
    let settings = KeepSettings { limit_bytes: 40_000, ..many_chunks() };
    run(async {
        let keep = Keep::open(directory.path(), settings, at(NOW)).unwrap();
        for n in 0..500 {
            take(&keep, vec![numbered(n)]).await;
            assert!(keep.status().journal.bytes <= 40_000);
        }
        assert_eq!(keep.reader().trace("trace-499").unwrap().len(), 1);
        assert!(keep.reader().trace("trace-0").unwrap().is_empty());
        let left = keep.reader().traces(&TraceQuery { limit: 1000, ..TraceQuery::default() });
        let left = left.unwrap().len() as u64;
        keep.sweep(at(NOW)).unwrap();
        assert_eq!(segments(keep.reader()), left);
        assert!(keep.status().journal.dropped_records >= 500 - left);
        until("no index without a chunk", || {
            keep.sweep(at(NOW)).unwrap();
            indexes(directory.path()).len() <= chunks(directory.path()).len()
        });
    });
}

#[test]
fn a_damaged_or_missing_index_is_made_again() {
    let directory = tempfile::tempdir().unwrap();
    let all = |keep: &Keep| {
        let query = TraceQuery { limit: 1000, ..TraceQuery::default() };
        assert_eq!(keep.reader().traces(&query).unwrap().len(), 200);
        assert_eq!(segments(keep.reader()), 200);
        assert!((0..200).all(|n| keep.reader().trace(&format!("trace-{n}")).unwrap().len() == 1));
    };
    let open = || Keep::open(directory.path(), many_chunks(), at(NOW)).unwrap();
    run(async {
        let keep = open();
        for n in 0..200 {
            take(&keep, vec![numbered(n)]).await;
        }
    });
    let files = indexes(directory.path());
    assert!(files.len() > 8, "those of full chunks are written when it closes: {files:?}");
    let was = std::fs::read(&files[4]).unwrap();
    std::fs::remove_file(&files[0]).unwrap();
    std::fs::write(&files[1], b"").unwrap();
    for (file, byte) in [(&files[2], 20), (&files[3], 300), (&files[5], 700)] {
        let mut bytes = std::fs::read(file).unwrap();
        bytes[byte] ^= 0x20;
        std::fs::write(file, bytes).unwrap();
    }
    let mut short = std::fs::read(&files[4]).unwrap();
    short.truncate(short.len() - 5);
    std::fs::write(&files[4], short).unwrap();
    std::fs::write(directory.path().join("00000000000000000007.index"), b"orphan").unwrap();

    let looked = KeepReader::open(directory.path()).unwrap();
    assert_eq!(segments(&looked), 200, "who only looks makes it in memory");
    all(&open());
    assert_eq!(std::fs::read(&files[4]).unwrap().len(), was.len(), "and it is written again");
    assert!(!directory.path().join("00000000000000000007.index").exists());
    all(&open());
}

#[test]
fn absurd_segments_are_bounded() {
    let directory = tempfile::tempdir().unwrap();
    run(async {
        let keep = keep(directory.path());
        // Tags without end, a name without end.
        let endless = Segment {
            tags: (0..100_000).map(|n| tag(&format!("key{n}"), "value")).collect(),
            ..Segment::new("t-tags", "s-tags")
        };
        let mut object = endless.object();
        object.spans[0].operation_name = "ü".repeat(100_000);
        let body = object.encode_to_vec();
        let record = Record { body: body.into(), ..endless.record() };
        take(&keep, vec![record]).await;
        let found = |key: &str| {
            let tags = vec![(key.to_owned(), "value".to_owned())];
            keep.reader().traces(&TraceQuery { tags, ..TraceQuery::default() }).unwrap().len()
        };
        assert_eq!((found("key0"), found("key63")), (1, 1));
        assert_eq!(found("key99999"), 0, "further ones are kept, and not found by");
        let endpoint = Some("ü".repeat(100_000));
        let query = TraceQuery { endpoint, ..TraceQuery::default() };
        assert_eq!(keep.reader().traces(&query).unwrap().len(), 1);
        assert!(keep.reader().endpoints("shop", "").unwrap()[0].name.len() <= 512);

        // Clocks that are wrong: they are found where they arrived, and do not stretch time for others.
        for (id, start, duration) in [
            ("s-past", 1, 100),
            ("s-future", NOW * 100, 100),
            ("s-negative", -NOW, 100),
            ("s-backwards", NOW, -5_000),
            ("s-endless", NOW, i64::MAX - NOW),
        ] {
            let skewed = Segment { start, duration, ..Segment::new("t-skew", id) };
            let received = at(NOW + 500);
            take(&keep, vec![Record { received, ..skewed_record(&skewed) }]).await;
        }
        let query = TraceQuery {
            trace_id: Some("t-skew".into()),
            from: Some(at(NOW - 1000)),
            to: Some(at(NOW + 1000)),
            ..TraceQuery::default()
        };
        let summary = keep.reader().traces(&query).unwrap().remove(0);
        assert_eq!(summary.segments, 5);
        assert!(summary.start >= at(NOW - 1000), "{summary:?}");
        let services = keep.reader().services().unwrap();
        assert!(services[0].first_seen >= at(NOW) && services[0].last_seen <= at(NOW + 500));

        // What is no message of its kind is kept under what could be read, and breaks nothing.
        let nonsense =
            Record { body: vec![0xff; 50].into(), kind: RecordKind::Segment, ..numbered(1) };
        assert_eq!(take(&keep, vec![nonsense]).await.kept, 1);
        assert_eq!(segments(keep.reader()), 6);
    });
}

fn skewed_record(of: &Segment) -> Record {
    let mut object: SegmentObject = Segment { start: NOW, duration: 100, ..of.clone() }.object();
    for span in &mut object.spans {
        span.start_time = of.start;
        span.end_time = of.start.wrapping_add(of.duration);
    }
    crate::reports::reported(RecordKind::Segment, &object, NOW)
}

/// Where the child keeps; without it, the child is a test like others.
const DIRECTORY: &str = "HANDFAST_TEST_KEEP";

#[test]
fn child_keeps_and_says_what_it_was_told() {
    let given = std::env::var_os(DIRECTORY);
    let own = tempfile::tempdir().unwrap();
    let directory = given.as_deref().map_or(own.path(), Path::new);
    let settings = KeepSettings { chunk_bytes: 64 << 10, ..KeepSettings::default() };
    run(async {
        let keep = Keep::open(directory, settings, at(NOW)).unwrap();
        let begin = segments(keep.reader());
        // The last ones again, as a relay would that was not answered.
        let mut next = begin.saturating_sub(50);
        while given.is_some() || next < 500 {
            let mut tasks = Vec::new();
            for part in 0..4 {
                let batch = (next + part * 25..next + part * 25 + 25).map(numbered).collect();
                tasks.push(keep.take(batch).await.unwrap());
            }
            for task in tasks {
                task.durable().await.unwrap();
            }
            next += 100;
            println!("durable {next}");
        }
        assert_eq!(segments(keep.reader()), 500);
    });
}

#[test]
fn every_accepted_segment_counts_once_after_kill_9() {
    let directory = tempfile::tempdir().unwrap();
    let mut accepted = 0;
    for round in 1..=4 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "keeping::child_keeps_and_says_what_it_was_told", "--nocapture"])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen = 0;
        while seen < round * 9 {
            let line = lines.next().expect("the child goes on until it is killed").unwrap();
            if let Some(next) = line.strip_prefix("durable ") {
                accepted = next.parse::<u64>().unwrap();
                seen += 1;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines.map_while(Result::ok) {
            if let Some(next) = line.strip_prefix("durable ") {
                accepted = next.parse().unwrap_or(accepted);
            }
        }
        let settings = KeepSettings { chunk_bytes: 64 << 10, ..KeepSettings::default() };
        let keep = within(Duration::from_secs(30), "the lock is free", || {
            Keep::open(directory.path(), settings.clone(), at(NOW)).ok()
        });
        let there = segments(keep.reader());
        assert!(there >= accepted, "{there} of {accepted}");
        // A batch that was not answered may be there or not, but not twice.
        let query = TraceQuery { limit: 10_000, ..TraceQuery::default() };
        assert_eq!(keep.reader().traces(&query).unwrap().len() as u64, there);
        let raw = raw(&keep);
        assert_eq!(raw.len() as u64, there);
        for n in 0..accepted {
            assert_eq!(raw.get(&format!("segment-{n}")), Some(&1), "{n}");
            assert_eq!(keep.reader().trace(&format!("trace-{n}")).unwrap().len(), 1, "{n}");
        }
        assert_eq!(raw.values().max(), Some(&1), "and nothing else twice");
    }
    assert!(accepted >= 3000);
}
