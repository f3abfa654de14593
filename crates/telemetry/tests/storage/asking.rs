//! Every question that a store answers.

use std::time::Duration;

use handfast_telemetry::keep::{
    EventQuery, KeepReader, KeepSettings, LogQuery, MetricQuery, TraceOrder, TraceQuery,
};

use crate::reports::{
    NOW, Segment, at, event, jvm, keep, log, many_chunks, meter, otlp, ping, properties, tag, take,
};
use crate::support::run;

/// A trace through three services, one that failed slowly, and many that are like each other.
fn shop() -> Vec<handfast_telemetry::Record> {
    let mut records = vec![
        Segment { duration: 90, ..Segment::new("t-three", "s1") }.record(),
        Segment {
            service: "bank",
            instance: "bank-1",
            endpoint: "/charge",
            start: NOW + 10,
            parent: Some("s1"),
            tags: vec![tag("http.status_code", "200")],
            ..Segment::new("t-three", "s2")
        }
        .record(),
        Segment {
            service: "ledger",
            instance: "ledger-1",
            endpoint: "/book",
            start: NOW + 20,
            duration: 10,
            parent: Some("s2"),
            ..Segment::new("t-three", "s3")
        }
        .record(),
        Segment {
            start: NOW - 60_000,
            duration: 5_000,
            error: true,
            tags: vec![tag("http.status_code", "500"), tag("db.type", "sql")],
            ..Segment::new("t-slow", "s4")
        }
        .record(),
    ];
    for n in 0..40 {
        let (trace, id) = (format!("t-{n}"), format!("u{n}"));
        let many = Segment {
            service: "many",
            instance: if n % 2 == 0 { "many-a" } else { "many-b" },
            endpoint: "/many",
            start: NOW - 600_000 + n * 1000,
            ..Segment::new(&trace, &id)
        };
        records.push(many.record());
    }
    records
}

/// The question, to a store whose chunks are in memory, in files, and read by somebody else.
fn everywhere(records: Vec<handfast_telemetry::Record>, ask: impl Fn(&KeepReader)) {
    for small in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let settings = if small { many_chunks() } else { KeepSettings::default() };
        let open =
            || handfast_telemetry::keep::Keep::open(directory.path(), settings.clone(), at(NOW));
        let records = records.clone();
        run(async {
            let keep = open().unwrap();
            // Several batches, so that small chunks fill up.
            for batch in records.chunks(3) {
                take(&keep, batch.to_vec()).await;
            }
            assert!(!small || keep.status().journal.chunks > 3);
            ask(keep.reader());
            ask(&KeepReader::open(directory.path()).unwrap());
        });
        ask(open().unwrap().reader());
        ask(&KeepReader::open(directory.path()).unwrap());
    }
}

fn ids(reader: &KeepReader, query: &TraceQuery) -> Vec<String> {
    reader.traces(query).unwrap().into_iter().map(|it| it.trace_id).collect()
}

#[test]
fn traces_are_found_by_what_their_segments_say() {
    everywhere(shop(), |reader| {
        let of = |service: &str| TraceQuery {
            service: Some(service.to_owned()),
            ..TraceQuery::default()
        };
        assert_eq!(ids(reader, &of("shop")), ["t-three", "t-slow"], "newest first");
        assert_eq!(
            ids(reader, &TraceQuery { order: TraceOrder::Longest, ..of("shop") }),
            ["t-slow", "t-three"]
        );
        assert_eq!(ids(reader, &TraceQuery { errors_only: true, ..of("shop") }), ["t-slow"]);
        assert_eq!(ids(reader, &of("ledger")), ["t-three"]);
        assert_eq!(ids(reader, &of("nobody")), [""; 0]);
        assert_eq!(
            ids(reader, &TraceQuery { endpoint: Some("/charge".into()), ..TraceQuery::default() }),
            ["t-three"]
        );
        let second = Some(Duration::from_secs(1));
        assert_eq!(ids(reader, &TraceQuery { min_duration: second, ..of("shop") }), ["t-slow"]);
        assert_eq!(ids(reader, &TraceQuery { max_duration: second, ..of("shop") }), ["t-three"]);
        let with = |key: &str, value: &str| TraceQuery {
            tags: vec![(key.to_owned(), value.to_owned())],
            ..TraceQuery::default()
        };
        assert_eq!(ids(reader, &with("http.status_code", "500")), ["t-slow"]);
        assert_eq!(ids(reader, &with("http.status_code", "200")), ["t-three"]);
        assert_eq!(ids(reader, &with("http.status_code", "404")), [""; 0]);
        let both = TraceQuery {
            tags: vec![("http.status_code".into(), "500".into()), ("db.type".into(), "sql".into())],
            trace_id: Some("t-slow".into()),
            ..TraceQuery::default()
        };
        assert_eq!(ids(reader, &both), ["t-slow"]);
        let by_id = TraceQuery { trace_id: Some("t-17".into()), ..TraceQuery::default() };
        assert_eq!(ids(reader, &by_id), ["t-17"]);
        assert_eq!(ids(reader, &TraceQuery { service: Some("shop".into()), ..by_id }), [""; 0]);

        // All at once: a tag, a duration and a time; and each of them wrong.
        let slow = TraceQuery {
            min_duration: second,
            max_duration: Some(Duration::from_secs(6)),
            from: Some(at(NOW - 61_000)),
            to: Some(at(NOW - 59_000)),
            service: Some("shop".into()),
            ..with("http.status_code", "500")
        };
        assert_eq!(ids(reader, &slow), ["t-slow"]);
        for none in [
            TraceQuery { tags: vec![("http.status_code".into(), "200".into())], ..slow.clone() },
            TraceQuery { min_duration: Some(Duration::from_millis(5001)), ..slow.clone() },
            TraceQuery { max_duration: Some(Duration::from_millis(4999)), ..slow.clone() },
            TraceQuery { from: Some(at(NOW - 54_000)), to: None, ..slow.clone() },
            TraceQuery { to: Some(at(NOW - 60_001)), ..slow.clone() },
            TraceQuery { service: Some("many".into()), ..slow.clone() },
        ] {
            assert_eq!(ids(reader, &none), [""; 0], "{none:?}");
        }

        let window = TraceQuery {
            from: Some(at(NOW - 600_000 + 10_000)),
            to: Some(at(NOW - 600_000 + 19_950)),
            limit: 100,
            ..of("many")
        };
        let expected: Vec<String> = (10..20).rev().map(|n| format!("t-{n}")).collect();
        assert_eq!(ids(reader, &window), expected);
        assert_eq!(ids(reader, &TraceQuery { limit: 3, ..window.clone() }), expected[..3]);
        let of_b = TraceQuery { instance: Some("many-b".into()), ..window };
        assert_eq!(ids(reader, &of_b), ["t-19", "t-17", "t-15", "t-13", "t-11"]);
        assert_eq!(ids(reader, &TraceQuery::default()).len(), 20, "a page, if nobody says more");
    });
}

#[test]
fn a_trace_is_read_back_whole_and_summarised() {
    everywhere(shop(), |reader| {
        let segments = reader.trace("t-three").unwrap();
        let services: Vec<&str> = segments.iter().map(|it| it.service.as_str()).collect();
        assert_eq!(services, ["shop", "bank", "ledger"]);
        assert_eq!(segments[1].spans[0].refs[0].segment_id, "s1");
        assert!(reader.trace("t-nothing").unwrap().is_empty());

        let query = TraceQuery { trace_id: Some("t-three".into()), ..TraceQuery::default() };
        let summary = reader.traces(&query).unwrap().remove(0);
        assert_eq!(summary.service, "shop");
        assert_eq!(summary.endpoint, "GET:/pay");
        assert_eq!(summary.services, ["bank", "ledger", "shop"]);
        assert_eq!((summary.segments, summary.spans, summary.errors), (3, 6, 0));
        assert_eq!(summary.start, at(NOW));
        assert_eq!(summary.duration, Duration::from_millis(110));
        assert!(summary.whole);
    });
}

#[test]
fn services_instances_and_endpoints_are_listed() {
    let mut records = shop();
    records.extend([properties(NOW, "python"), ping(NOW + 5_000), properties(NOW + 9_000, "java")]);
    everywhere(records, |reader| {
        let services = reader.services().unwrap();
        let names: Vec<&str> = services.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["bank", "ledger", "many", "shop"]);
        let many = &services[2];
        assert_eq!((many.segments, many.instances, many.errors), (40, 2, 0));
        assert_eq!((many.first_seen, many.last_seen), (at(NOW - 600_000), at(NOW - 561_000)));
        let shop = &services[3];
        assert_eq!((shop.segments, shop.errors, shop.records), (2, 1, 5));

        let instances = reader.instances("shop").unwrap();
        assert_eq!(instances.len(), 1);
        assert_eq!(instances[0].name, "shop-1");
        assert_eq!(instances[0].last_ping, Some(at(NOW + 5_000)));
        assert_eq!(instances[0].properties[0].value, "java", "what was said last");
        assert_eq!(instances[0].layer, "GENERAL");
        assert_eq!(reader.instances("many").unwrap().len(), 2);

        let endpoints = reader.endpoints("many", "").unwrap();
        assert_eq!((endpoints[0].name.as_str(), endpoints[0].segments), ("/many", 40));
        assert_eq!(reader.endpoints("shop", "PAY").unwrap()[0].name, "GET:/pay");
        assert!(reader.endpoints("shop", "refund").unwrap().is_empty());
    });
}

#[test]
fn logs_are_found_by_who_said_what_in_which_trace() {
    let mut records = shop();
    for n in 0..50 {
        let text = format!("line {n} of the day");
        records.push(log(if n % 10 == 0 { "t-three" } else { "" }, NOW + n * 100, &text));
    }
    everywhere(records, |reader| {
        let texts = |query: &LogQuery| -> Vec<String> {
            reader.logs(query).unwrap().into_iter().map(|it| it.content).collect()
        };
        let of_trace = LogQuery { trace_id: Some("t-three".into()), ..LogQuery::default() };
        assert_eq!(texts(&of_trace).len(), 5);
        assert_eq!(texts(&of_trace)[0], "line 40 of the day");
        let said = LogQuery { text: Some("line 7 ".into()), ..LogQuery::default() };
        assert_eq!(texts(&said), ["line 7 of the day"]);
        let newest = LogQuery { limit: 3, ..LogQuery::default() };
        assert_eq!(texts(&newest), [49, 48, 47].map(|n| format!("line {n} of the day")));
        let window = LogQuery {
            service: Some("shop".into()),
            instance: Some("shop-1".into()),
            from: Some(at(NOW + 500)),
            to: Some(at(NOW + 799)),
            tags: vec![("level".into(), "WARN".into())],
            ..LogQuery::default()
        };
        assert_eq!(texts(&window), [7, 6, 5].map(|n| format!("line {n} of the day")));
        let other = LogQuery { service: Some("bank".into()), ..LogQuery::default() };
        assert!(texts(&other).is_empty());
    });
}

#[test]
fn metrics_have_names_a_latest_value_and_a_past() {
    let mut records = Vec::new();
    for n in 0..60 {
        let value = f64::from(n);
        let time = NOW + i64::from(n) * 1000;
        records.extend([
            meter("queue", time, value),
            meter("threads", time, 2.0),
            jvm(time, 1 << 20),
        ]);
    }
    everywhere(records, |reader| {
        let names: Vec<String> =
            reader.metric_names("shop").unwrap().into_iter().map(|it| it.name).collect();
        assert!(names.contains(&"queue".to_owned()) && names.contains(&"threads".to_owned()));
        assert!(names.contains(&"jvm_memory_used_bytes".to_owned()), "{names:?}");
        assert!(reader.metric_names("nobody").unwrap().is_empty());

        let queue = MetricQuery {
            name: Some("queue".into()),
            service: Some("shop".into()),
            ..MetricQuery::default()
        };
        let series = reader.metrics(&queue).unwrap();
        assert_eq!(series.len(), 1);
        assert_eq!(series[0].points.len(), 60);
        assert_eq!(series[0].latest(), Some((at(NOW + 59_000), 59.0)));
        let window = MetricQuery {
            from: Some(at(NOW + 10_000)),
            to: Some(at(NOW + 12_000)),
            ..queue.clone()
        };
        let points = &reader.metrics(&window).unwrap()[0].points;
        assert_eq!(points.iter().map(|point| point.1).collect::<Vec<_>>(), [10.0, 11.0, 12.0]);
        let last = MetricQuery { limit: 2, ..queue };
        assert_eq!(reader.metrics(&last).unwrap()[0].points.len(), 2);

        let heap = MetricQuery {
            name: Some("jvm_memory_used_bytes".into()),
            instance: Some("shop-1".into()),
            limit: 10_000,
            ..MetricQuery::default()
        };
        let series = reader.metrics(&heap).unwrap();
        let heap = series.iter().find(|it| it.labels.iter().any(|it| it.value == "heap")).unwrap();
        assert_eq!(heap.latest(), Some((at(NOW + 59_000), f64::from(1 << 20))));
        assert_eq!(heap.points.len(), 60);
    });
}

#[test]
fn an_event_that_was_told_twice_is_one() {
    let mut records = shop();
    records.extend([
        event("e1", NOW, 0, "it begins"),
        event("e2", NOW + 1000, NOW + 2000, "another"),
        event("e1", 0, NOW + 9000, ""),
    ]);
    everywhere(records, |reader| {
        let events = reader.events(&EventQuery::default()).unwrap();
        assert_eq!(events.len(), 2);
        assert_eq!(events[0].uuid, "e1");
        assert_eq!((events[0].start_ms, events[0].end_ms), (NOW, NOW + 9000));
        assert_eq!(events[0].message, "it begins");
        let query = EventQuery { service: Some("shop".into()), limit: 1, ..EventQuery::default() };
        assert_eq!(reader.events(&query).unwrap().len(), 1);
        let query = EventQuery { name: Some("Deploy".into()), ..EventQuery::default() };
        assert!(reader.events(&query).unwrap().is_empty());
        for (errors, expect) in [(true, vec![]), (false, vec!["e1", "e2"])] {
            let query = EventQuery { errors: Some(errors), ..EventQuery::default() };
            let found = reader.events(&query).unwrap();
            assert_eq!(found.iter().map(|it| it.uuid.as_str()).collect::<Vec<_>>(), expect);
        }
        let window = EventQuery { from: Some(at(NOW + 2500)), ..EventQuery::default() };
        let ended = reader.events(&window).unwrap();
        assert_eq!(ended.len(), 1);
        assert_eq!((ended[0].start_ms, ended[0].message.as_str()), (NOW, "it begins"));
    });
}

#[test]
fn spans_of_opentelemetry_are_traces_too() {
    let mut records = shop();
    records.extend([otlp([1, 2]), otlp([3, 4])]);
    everywhere(records, |reader| {
        let query = TraceQuery { service: Some("otel".into()), ..TraceQuery::default() };
        assert_eq!(ids(reader, &query).len(), 4);
        let id = "02".repeat(16);
        let segments = reader.trace(&id).unwrap();
        assert_eq!(segments.len(), 1, "only its own spans");
        assert_eq!(segments[0].endpoint, "GET /otel");
        let query = TraceQuery {
            tags: vec![("http.route".into(), "/otel".into())],
            trace_id: Some(id),
            ..TraceQuery::default()
        };
        assert_eq!(reader.traces(&query).unwrap()[0].spans, 1);
        assert_eq!(reader.endpoints("otel", "").unwrap()[0].segments, 4);
        assert_eq!(reader.instances("otel").unwrap()[0].name, "otel-1");
    });
}

#[test]
fn the_store_is_asked_while_it_is_written() {
    let directory = tempfile::tempdir().unwrap();
    run(async {
        let keep = keep(directory.path());
        let writing = tokio::spawn({
            let keep = keep.clone();
            async move {
                for n in 0..300 {
                    let (trace, id) = (format!("t{n}"), format!("s{n}"));
                    take(&keep, vec![Segment::new(&trace, &id).record()]).await;
                    // Who was answered finds it.
                    assert_eq!(keep.reader().trace(&trace).unwrap().len(), 1);
                }
            }
        });
        while !writing.is_finished() {
            let reader = keep.reader().clone();
            tokio::task::spawn_blocking(move || reader.services().map(drop))
                .await
                .unwrap()
                .unwrap();
        }
        writing.await.unwrap();
        assert_eq!(keep.reader().services().unwrap()[0].segments, 300);
    });
}
