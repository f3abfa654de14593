//! The newest value of each series: what is offered to Prometheus.

use handfast_proto::otlp::common::v1::{AnyValue, KeyValue, any_value::Value};
use handfast_proto::otlp::metrics::v1::{
    Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics,
    Sum, metric::Data, number_data_point,
};
use handfast_proto::otlp::resource::v1::Resource;
use handfast_proto::skywalking::v3::{
    ClrGc, ClrMetric, ClrMetricCollection, ClrThread, Cpu, Label, MeterBucketValue, MeterData,
    MeterHistogram, MeterSingleValue, meter_data,
};
use handfast_telemetry::keep::{
    Keep, KeepReader, KeepSettings, MOST_OF_SERVICE, Measured, NewestQuery, STALE_AFTER,
};
use handfast_telemetry::protocol::view::{Bucket, MeterNature, MeterValue};
use handfast_telemetry::{Record, RecordKind};

use crate::reports::{NOW, Segment, at, jvm, keep, many_chunks, meter, reported, take};
use crate::support::run;

fn single(service: &str, name: &str, labels: &[(&str, &str)], time: i64, value: f64) -> Record {
    let label =
        |(name, value): &(&str, &str)| Label { name: (*name).into(), value: (*value).into() };
    let labels = labels.iter().map(label).collect();
    let metric = MeterSingleValue { name: name.to_owned(), labels, value };
    let data = MeterData {
        service: service.to_owned(),
        service_instance: format!("{service}-1"),
        timestamp: time,
        metric: Some(meter_data::Metric::SingleValue(metric)),
    };
    reported(RecordKind::Meter, &data, time)
}

fn histogram(time: i64, buckets: &[(f64, i64)]) -> Record {
    let bucket =
        |&(bucket, count): &(f64, i64)| MeterBucketValue { bucket, count, ..Default::default() };
    let data = MeterData {
        service: "shop".to_owned(),
        service_instance: "shop-1".to_owned(),
        timestamp: time,
        metric: Some(meter_data::Metric::Histogram(MeterHistogram {
            name: "latency".to_owned(),
            values: buckets.iter().map(bucket).collect(),
            ..MeterHistogram::default()
        })),
    };
    reported(RecordKind::Meter, &data, time)
}

fn clr(time: i64) -> Record {
    let metric = ClrMetric {
        time,
        cpu: Some(Cpu { usage_percent: 50.0 }),
        gc: Some(ClrGc {
            gen0_collect_count: 1,
            gen2_collect_count: 3,
            heap_memory: 4096,
            ..Default::default()
        }),
        thread: Some(ClrThread {
            available_worker_threads: 5,
            max_worker_threads: 7,
            ..Default::default()
        }),
    };
    let clr = ClrMetricCollection {
        metrics: vec![metric],
        service: "net".to_owned(),
        service_instance: "net-1".to_owned(),
    };
    reported(RecordKind::ClrMetrics, &clr, time)
}

/// A gauge, two sums and a histogram, as an OpenTelemetry SDK sends them.
fn otlp(time: i64) -> Record {
    let said = |key: &str, text: &str| KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(Value::StringValue(text.to_owned())) }),
    };
    let nanos = u64::try_from(time).unwrap() * 1_000_000;
    let point = |value: f64| NumberDataPoint {
        time_unix_nano: nanos,
        attributes: vec![said("http.route", "/otel")],
        value: Some(number_data_point::Value::AsDouble(value)),
        ..NumberDataPoint::default()
    };
    let metric = |name: &str, unit: &str, data: Data| Metric {
        name: name.to_owned(),
        description: format!("what {name} is"),
        unit: unit.to_owned(),
        data: Some(data),
        ..Metric::default()
    };
    let sum = |value: f64, temporality: i32| {
        Data::Sum(Sum {
            data_points: vec![point(value)],
            aggregation_temporality: temporality,
            is_monotonic: true,
        })
    };
    let histogram = Data::Histogram(Histogram {
        data_points: vec![HistogramDataPoint {
            time_unix_nano: nanos,
            count: 6,
            sum: Some(9.5),
            bucket_counts: vec![1, 2, 3],
            explicit_bounds: vec![0.1, 1.0],
            ..HistogramDataPoint::default()
        }],
        aggregation_temporality: 2,
    });
    let metrics = vec![
        metric("memory", "By", Data::Gauge(Gauge { data_points: vec![point(7.0)] })),
        metric("requests", "1", sum(11.0, 2)),
        metric("since", "", sum(2.0, 1)),
        metric("took", "s", histogram),
    ];
    let attributes = vec![said("service.name", "otel"), said("service.instance.id", "otel-1")];
    let resource = ResourceMetrics {
        resource: Some(Resource { attributes, ..Resource::default() }),
        scope_metrics: vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }],
        ..ResourceMetrics::default()
    };
    reported(RecordKind::OtlpMetrics, &resource, time)
}

fn number(all: &[Measured], name: &str, label: &str) -> Option<f64> {
    let mut found = all.iter().filter(|it| {
        it.name == name && (label.is_empty() || it.labels.iter().any(|tag| tag.value == label))
    });
    let one = found.next()?;
    assert!(found.next().is_none(), "{name} {label} is there twice");
    match one.value {
        MeterValue::Single(number) => Some(number),
        MeterValue::Histogram { .. } => panic!("{name} is a histogram"),
    }
}

#[test]
fn each_series_has_its_newest_value_whatever_reported_it() {
    let directory = tempfile::tempdir().unwrap();
    run(async {
        let keep = Keep::open(directory.path(), many_chunks(), at(NOW)).unwrap();
        for n in 0..60 {
            let time = NOW + n * 1000;
            let value = f64::from(i32::try_from(n).unwrap());
            let (trace, id) = (format!("t{n}"), format!("s{n}"));
            let segment = Segment { start: time, ..Segment::new(&trace, &id) }.record();
            let records = vec![
                segment,
                meter("queue", time, value),
                single("shop", "by", &[("pool", "a")], time, value),
                single("shop", "by", &[("pool", "b")], time, -value),
                histogram(time, &[(0.0, n), (0.5, 2 * n)]),
                jvm(time, 1000 + n),
                clr(time),
                otlp(time),
            ];
            take(&keep, records).await;
            if n % 20 == 7 {
                // Whoever looks in between sees what there is by then.
                assert_eq!(number(&keep.newest(at(time)).unwrap(), "queue", ""), Some(value));
            }
        }
        let check = |all: &[Measured]| {
            assert_eq!(number(all, "queue", ""), Some(59.0));
            assert_eq!((number(all, "by", "a"), number(all, "by", "b")), (Some(59.0), Some(-59.0)));
            assert_eq!(number(all, "jvm_memory_used_bytes", "heap"), Some(1059.0));
            assert_eq!(number(all, "clr_cpu_ratio", ""), Some(0.5));
            assert_eq!(number(all, "clr_gc_collections", "2"), Some(3.0));
            assert_eq!(number(all, "clr_threads_max", "worker"), Some(7.0));
            assert_eq!(number(all, "memory", "/otel"), Some(7.0));
            let of = |name: &str| all.iter().find(|it| it.name == name).unwrap();
            assert_eq!(
                (of("memory").nature, of("memory").unit.as_str()),
                (MeterNature::Gauge, "By")
            );
            assert_eq!(of("requests").nature, MeterNature::Counter);
            assert_eq!(of("requests").description, "what requests is");
            assert_eq!(of("since").nature, MeterNature::Delta);
            assert_eq!(of("queue").nature, MeterNature::Unknown);
            let buckets = |bounds: &[(f64, u64)]| {
                bounds.iter().map(|&(from, count)| Bucket { from, count }).collect::<Vec<_>>()
            };
            let lows = buckets(&[(0.0, 59), (0.5, 118)]);
            assert_eq!(of("latency").value, MeterValue::Histogram { buckets: lows, sum: None });
            let lows = buckets(&[(f64::NEG_INFINITY, 1), (0.1, 2), (1.0, 3)]);
            let took = MeterValue::Histogram { buckets: lows, sum: Some(9.5) };
            assert_eq!(of("took").value, took);
            assert!(all.iter().all(|it| it.at == at(NOW + 59_000)), "{all:?}");
        };
        let now = at(NOW + 60_000);
        let all = keep.newest(now).unwrap();
        check(&all);
        check(&keep.reader().newest(&NewestQuery::default()).unwrap());
        check(
            &KeepReader::open(directory.path()).unwrap().newest(&NewestQuery::default()).unwrap(),
        );
        assert!(keep.status().series.series > all.len(), "a histogram is several");
        assert_eq!(keep.status().series.left_out, 0);

        let of_net = NewestQuery {
            service: Some("net".into()),
            instance: Some("net-1".into()),
            name: Some("clr_cpu_ratio".into()),
            from: Some(at(NOW)),
        };
        assert_eq!(keep.reader().newest(&of_net).unwrap().len(), 1);
        let nobody = NewestQuery { service: Some("nobody".into()), ..of_net };
        assert!(keep.reader().newest(&nobody).unwrap().is_empty());
    });
    // What was there before the process is there after it.
    let keep = Keep::open(directory.path(), many_chunks(), at(NOW + 61_000)).unwrap();
    assert_eq!(number(&keep.newest(at(NOW + 61_000)).unwrap(), "queue", ""), Some(59.0));
}

#[test]
fn what_is_stale_or_late_is_not_offered_as_if_it_were_of_now() {
    let directory = tempfile::tempdir().unwrap();
    run(async {
        let keep = keep(directory.path());
        let stale = i64::try_from(STALE_AFTER.as_millis()).unwrap();
        take(&keep, vec![meter("first", NOW, 1.0), meter("second", NOW + 1000, 2.0)]).await;
        let names = |now: i64| -> Vec<String> {
            keep.newest(at(now)).unwrap().into_iter().map(|it| it.name).collect()
        };
        assert_eq!(names(NOW + 2000), ["first", "second"]);
        assert_eq!(names(NOW + stale), ["first", "second"]);
        assert_eq!(names(NOW + stale + 1), ["second"]);
        assert_eq!(keep.status().series.series, 1);
        // Out of a relay's spool: of long ago, received now.
        let now = NOW + 10 * stale;
        let late = Record { received: at(now), ..meter("late", NOW + stale, 3.0) };
        let ahead = Record { received: at(now), ..meter("ahead", now + stale, 4.0) };
        take(&keep, vec![late, ahead]).await;
        assert_eq!(names(now), ["ahead"]);
        // A clock that is ahead does not make it live longer.
        assert_eq!(names(now + stale + 1), [""; 0]);
        // An older value that comes later does not replace the newer one.
        let again = now + stale + 5000;
        take(&keep, vec![meter("order", again, 5.0)]).await;
        let older = Record { received: at(again + 1), ..meter("order", again - 2000, 6.0) };
        take(&keep, vec![older]).await;
        assert_eq!(number(&keep.newest(at(again + 2)).unwrap(), "order", ""), Some(5.0));
    });
}

#[test]
fn one_service_with_series_without_end_leaves_room_for_the_others() {
    let directory = tempfile::tempdir().unwrap();
    run(async {
        let settings = KeepSettings { chunk_bytes: 1 << 20, ..KeepSettings::default() };
        let keep = Keep::open(directory.path(), settings, at(NOW)).unwrap();
        let flood = MOST_OF_SERVICE + 500;
        for batch in (0..flood).collect::<Vec<_>>().chunks(1000) {
            let records = batch
                .iter()
                .map(|n| single("loud", "requests", &[("user", &n.to_string())], NOW, 1.0));
            take(&keep, records.collect()).await;
        }
        let long = "x".repeat(5000);
        let too_long = single("shop", "long", &[("path", &long)], NOW, 1.0);
        take(&keep, vec![too_long, meter("queue", NOW, 2.0)]).await;
        let all = keep.newest(at(NOW)).unwrap();
        assert_eq!(all.iter().filter(|it| it.service == "loud").count(), MOST_OF_SERVICE);
        assert_eq!(number(&all, "queue", ""), Some(2.0));
        let counts = keep.status().series;
        assert_eq!((counts.series, counts.left_out), (MOST_OF_SERVICE + 1, 501));
        // What was read is not read again.
        assert_eq!(keep.newest(at(NOW)).unwrap().len(), all.len());
        assert_eq!(keep.status().series.left_out, 501);
    });
}
