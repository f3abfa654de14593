//! Metrics of Telegraf become gauges of the host that they were measured at.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::RecordKind;
use crate::protocol::claim::claims;
use crate::protocol::view::{MeterValue, MeterView};

fn views(body: &Value) -> Vec<MeterView> {
    let records = read(body.to_string().as_bytes()).unwrap();
    let of = |record: &Bytes| MeterView::of(RecordKind::OtlpMetrics, record).unwrap();
    records.iter().flat_map(of).collect()
}

fn refused(body: &str) -> String {
    read(body.as_bytes()).unwrap_err().to_string()
}

fn cpu() -> Value {
    json!({ "fields": { "usage_user": 12.5, "usage_idle": 80, "up": true, "model": "x86", "nothing": null },
        "name": "cpu", "tags": { "cpu": "cpu0", "host": "web-1" }, "timestamp": 1_458_229_140 })
}

#[test]
fn a_metric_is_a_gauge_for_each_field_that_is_a_number() {
    let views = views(&cpu());
    let told: Vec<_> = views.iter().map(|view| (&*view.name, &view.value)).collect();
    let single = MeterValue::Single;
    let expected = [
        ("cpu_up", &single(1.0)),
        ("cpu_usage_idle", &single(80.0)),
        ("cpu_usage_user", &single(12.5)),
    ];
    assert_eq!(told, expected);
    let view = &views[0];
    assert_eq!((&*view.service, &*view.instance), ("web-1", ""));
    assert_eq!(view.time_ms, 1_458_229_140_000);
    let labels: Vec<_> = view.labels.iter().map(|tag| (&*tag.key, &*tag.value)).collect();
    assert_eq!(labels, [("cpu", "cpu0"), ("host", "web-1")], "rules of OAP find the host there");
}

#[test]
fn a_batch_is_a_record_for_each_host() {
    let of = |host: &str| json!({ "fields": { "load1": 1 }, "name": "system", "tags": { "host": host }, "timestamp": 1 });
    let batch = json!({ "metrics": [of("a"), of("b"), of("a")] });
    let records = read(batch.to_string().as_bytes()).unwrap();
    let services: Vec<_> = records
        .iter()
        .map(|it| {
            claims(RecordKind::OtlpMetrics, it).unwrap().iter().next().unwrap().service.to_string()
        })
        .collect();
    assert_eq!(services, ["a", "b"]);
    assert_eq!(views(&batch).len(), 3);
    assert_eq!(views(&json!([of("a")])).len(), 1);
    assert!(read(b"{\"metrics\":[]}").unwrap().is_empty());
}

#[test]
fn times_are_of_the_unit_that_they_look_like() {
    for (timestamp, nanoseconds) in [
        (1_458_229_140, 1_458_229_140_000_000_000),
        (1_458_229_140_001, 1_458_229_140_001_000_000),
        (1_458_229_140_000_001, 1_458_229_140_000_001_000),
        (1_458_229_140_000_000_001, 1_458_229_140_000_000_001),
        (-1, 0),
    ] {
        assert_eq!(nanos(timestamp), nanoseconds, "{timestamp}");
    }
}

#[test]
fn what_is_no_metric_is_refused_with_the_place() {
    for (body, expected) in [
        (
            "{\"name\":\"a\",\"timestamp\":1,\"tags\":{},\"fields\":{}}",
            "Metric.tags, byte 48: expected the tag `host`",
        ),
        ("{\"name\":\"a\",\"tags\":{\"host\":\"h\"}}", "Metric.timestamp"),
        ("{\"metrics\":[{\"timestamp\":1}]}", "Metric.name"),
        ("{\"timestamp\":\"2020-01-01\"}", "Metric.timestamp, byte 25: expected a time in seconds"),
        (
            "{\"fields\":{\"a\":1e999}}",
            "Metric.fields, byte 20: expected a number that a double holds",
        ),
        ("{\"tags\":{\"a\":1}}", "Metric.tags"),
        ("7", "Metric.(body)"),
        ("{\"metrics\":[]}{", "more after the end"),
    ] {
        let told = refused(body);
        assert!(told.contains(expected), "{body}: {told}");
    }
}

#[test]
fn there_is_not_too_much_of_anything() {
    let many = |count: usize| -> serde_json::Map<_, _> {
        (0..count).map(|at| (format!("k{at:04}"), Value::from(1))).collect()
    };
    let tags = |count: usize, value: &str| -> serde_json::Map<_, _> {
        let host = std::iter::once(("host".to_owned(), Value::from("h")));
        host.chain((1..count).map(|at| (format!("k{at}"), Value::from(value)))).collect()
    };
    let metric =
        |fields, tags| json!({ "name": "a", "timestamp": 1, "fields": fields, "tags": tags });
    let told = refused(&metric(many(MAX_FIELDS + 1), tags(1, "")).to_string());
    assert_eq!(told, "Metric.fields holds more than 4096; send fewer at a time");
    let told = refused(&metric(many(1), tags(MAX_TAGS + 1, "")).to_string());
    assert_eq!(told, "Metric.tags holds more than 256; send fewer at a time");
    // Each of many fields has all of the tags.
    let told = refused(&metric(many(MAX_FIELDS), tags(MAX_TAGS, &"x".repeat(50))).to_string());
    assert!(told.contains("takes more than 52428800 bytes"), "{told}");
    // What is many is in several records, so that all of it is found.
    let whole = metric(many(MAX_FIELDS), tags(10, "x"));
    assert!(read(whole.to_string().as_bytes()).unwrap().len() > 1);
    assert_eq!(views(&whole).len(), MAX_FIELDS);
}

proptest! {
    #[test]
    fn every_number_is_read_back(
        metrics in prop::collection::vec(
            ("[a-z]{1,5}", prop::collection::btree_map("[a-z]{1,3}", any::<i32>(), 0..5), "[a-d]", 0_i64..9_000_000_000),
            0..20,
        ),
    ) {
        let written: Vec<_> = metrics
            .iter()
            .map(|(name, fields, host, at)| json!({ "name": name, "fields": fields, "tags": { "host": host }, "timestamp": at }))
            .collect();
        let mut back: Vec<_> = views(&json!({ "metrics": written }))
            .into_iter()
            .map(|view| {
                let MeterValue::Single(value) = view.value else { panic!("a gauge") };
                (view.service, view.name, view.time_ms, value.to_bits())
            })
            .collect();
        let mut said: Vec<_> = metrics
            .iter()
            .flat_map(|(name, fields, host, at)| {
                fields.iter().map(move |(field, value)| {
                    (host.clone(), format!("{name}_{field}"), at * 1000, f64::from(*value).to_bits())
                })
            })
            .collect();
        back.sort_unstable();
        said.sort_unstable();
        prop_assert_eq!(back, said);
    }

    #[test]
    fn any_bytes_end(bytes: Vec<u8>, text in r#"[\[\]{}:,"0-9a-t]{0,40}"#) {
        let _ = (read(&bytes), read(text.as_bytes()));
    }
}
