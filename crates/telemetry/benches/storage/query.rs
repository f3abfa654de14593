//! How long questions take in a store of a million segments.

use std::time::{Duration, Instant};

use handfast_telemetry::keep::{Keep, KeepReader, KeepSettings, TraceOrder, TraceQuery};
use jiff::Timestamp;

use crate::segment::segment;
use crate::{block_on, directory, now, spread, verdict};

pub(crate) fn run(segments: u64) -> bool {
    let directory = directory();
    let keep = Keep::open(directory.path(), KeepSettings::default(), now()).unwrap();
    block_on(async {
        for n in 0..segments / 1000 {
            let records = (n * 1000..(n + 1) * 1000).map(segment).collect();
            let _ = keep.take(records).await.unwrap().durable().await.unwrap();
        }
    });
    drop(keep);
    let size = |ending: &str| -> u64 {
        let entries = std::fs::read_dir(directory.path()).unwrap().map(|it| it.unwrap());
        let of_kind = entries.filter(|it| it.path().extension().is_some_and(|it| it == ending));
        of_kind.map(|it| it.metadata().unwrap().len()).sum()
    };
    println!(
        "query: {segments} segments, {} MB of records, {} MB of indexes",
        size("chunk") / 1_000_000,
        size("index") / 1_000_000
    );
    let begun = Instant::now();
    let keep = Keep::open(directory.path(), KeepSettings::default(), now()).unwrap();
    println!("query: opened in {:.2?}", begun.elapsed());
    let reader = keep.reader();
    let begun = Instant::now();
    reader.services().unwrap();
    println!("query: first question, with every index looked through: {:.2?}", begun.elapsed());

    let service = || Some("service-3".to_owned());
    let at =
        |n: u64| Timestamp::from_millisecond(1_800_000_000_000 + i64::try_from(n / 30).unwrap());
    let by_id = measure("a trace by its id", reader, |reader, round| {
        let trace = (round * 7919) % (segments / 3);
        let id = format!("{trace:032x}.71.1800000000000000");
        assert_eq!(reader.trace(&id).unwrap().len(), 3);
    });
    let newest = measure("20 newest traces of a service", reader, |reader, _| {
        let query = TraceQuery { service: service(), ..TraceQuery::default() };
        assert_eq!(reader.traces(&query).unwrap().len(), 20);
    });
    measure("20 longest traces of a service", reader, |reader, _| {
        let query =
            TraceQuery { service: service(), order: TraceOrder::Longest, ..TraceQuery::default() };
        assert_eq!(reader.traces(&query).unwrap().len(), 20);
    });
    let by_tag = measure("20 newest traces with a tag and an error", reader, |reader, _| {
        let query = TraceQuery {
            errors_only: true,
            tags: vec![("http.status_code".into(), "500".into())],
            ..TraceQuery::default()
        };
        assert_eq!(reader.traces(&query).unwrap().len(), 20);
    });
    measure("traces of a tag that there is not", reader, |reader, _| {
        let query =
            TraceQuery { tags: vec![("no".into(), "such".into())], ..TraceQuery::default() };
        assert!(reader.traces(&query).unwrap().is_empty());
    });
    measure("slow traces of a service in a window of time", reader, |reader, round| {
        let from = (round * 7919) % (segments / 2);
        let query = TraceQuery {
            service: service(),
            min_duration: Some(Duration::from_millis(800)),
            from: Some(at(from).unwrap()),
            to: Some(at(from + segments / 100).unwrap()),
            ..TraceQuery::default()
        };
        reader.traces(&query).unwrap();
    });
    let services = measure("services", reader, |reader, _| {
        assert_eq!(reader.services().unwrap().len(), 20);
    });
    measure("endpoints of a service", reader, |reader, _| {
        assert_eq!(reader.endpoints("service-3", "orders").unwrap().len(), 12);
    });
    let mut good = verdict("a trace by its id in 20 ms", by_id < Duration::from_millis(20));
    good &= verdict("a page of traces of a service in 100 ms", newest < Duration::from_millis(100));
    good &= verdict("a page of traces by tag in 300 ms", by_tag < Duration::from_millis(300));
    good & verdict("services in 20 ms", services < Duration::from_millis(20))
}

/// Asks again and again; says how long the slowest but one took.
fn measure(what: &str, reader: &KeepReader, ask: impl Fn(&KeepReader, u64)) -> Duration {
    let mut times: Vec<Duration> = (0..50)
        .map(|round| {
            let begun = Instant::now();
            ask(reader, round);
            begun.elapsed()
        })
        .collect();
    println!("query: {what}: {}", spread(times.clone()));
    times.sort();
    times[times.len() - 2]
}
