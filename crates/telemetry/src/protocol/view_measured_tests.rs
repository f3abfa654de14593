//! Views of what is measured hold what prost wrote: meters, metrics, and the state of runtimes.

use handfast_proto::otlp::metrics::v1::{
    ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint,
    Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Summary, SummaryDataPoint,
    exponential_histogram_data_point::Buckets, metric::Data, number_data_point,
    summary_data_point::ValueAtQuantile,
};
use handfast_proto::skywalking::v3;
use prost::Message;

use super::tests::{shop, tag, text};
use super::*;

#[test]
fn meters_are_seen_as_they_were_written() {
    let label = v3::Label { name: "pool".into(), value: "old".into() };
    let single = v3::MeterSingleValue { name: "used".into(), labels: vec![label], value: 1.5 };
    let meter = |metric| {
        let (service, service_instance) = ("shop".into(), "shop-1".into());
        let body = v3::MeterData { metric: Some(metric), service, service_instance, timestamp: 7 };
        MeterView::of(RecordKind::Meter, &body.encode_to_vec()).unwrap().remove(0)
    };
    let view = meter(v3::meter_data::Metric::SingleValue(single));
    assert_eq!(
        (view.name.as_str(), view.labels, view.time_ms),
        ("used", vec![tag("pool", "old")], 7)
    );
    assert_eq!(view.value, MeterValue::Single(1.5));
    let values = vec![
        v3::MeterBucketValue { bucket: 0.0, count: 3, is_negative_infinity: true },
        v3::MeterBucketValue { bucket: 10.0, count: 4, is_negative_infinity: false },
    ];
    let histogram = v3::MeterHistogram { name: "took".into(), labels: Vec::new(), values };
    let buckets =
        vec![Bucket { from: f64::NEG_INFINITY, count: 3 }, Bucket { from: 10.0, count: 4 }];
    let view = meter(v3::meter_data::Metric::Histogram(histogram));
    assert_eq!(view.value, MeterValue::Histogram { buckets, sum: None });
    // One that names no value is no meter.
    assert_eq!(MeterView::of(RecordKind::Meter, b""), Ok(Vec::new()));
}

fn metrics(data: Vec<(&str, Data)>) -> Vec<MeterView> {
    let metrics = data
        .into_iter()
        .map(|(name, data)| Metric { name: name.into(), data: Some(data), ..Metric::default() })
        .collect();
    let body = ResourceMetrics {
        resource: Some(shop()),
        scope_metrics: vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }],
        schema_url: String::new(),
    };
    MeterView::of(RecordKind::OtlpMetrics, &body.encode_to_vec()).unwrap()
}

#[test]
fn metrics_are_told_as_meters() {
    let number = |value, attributes| NumberDataPoint {
        time_unix_nano: 7_000_000,
        value: Some(value),
        attributes,
        ..NumberDataPoint::default()
    };
    let gauge = Gauge {
        data_points: vec![
            number(number_data_point::Value::AsInt(-4), vec![text("pool", "old")]),
            number(number_data_point::Value::AsDouble(0.5), Vec::new()),
        ],
    };
    let histogram = HistogramDataPoint {
        sum: Some(9.0),
        bucket_counts: vec![1, 2, 3],
        explicit_bounds: vec![5.0, 10.0],
        ..HistogramDataPoint::default()
    };
    let quantile = ValueAtQuantile { quantile: 0.99, value: 12.0 };
    let summary = SummaryDataPoint {
        count: 2,
        sum: 3.0,
        quantile_values: vec![quantile],
        ..Default::default()
    };
    let views = metrics(vec![
        ("gauge", Data::Gauge(gauge)),
        (
            "took",
            Data::Histogram(Histogram { data_points: vec![histogram], aggregation_temporality: 2 }),
        ),
        ("summed", Data::Summary(Summary { data_points: vec![summary] })),
    ]);
    let told: Vec<_> = views.iter().map(|view| (view.name.as_str(), view.value.clone())).collect();
    let buckets = [(f64::NEG_INFINITY, 1), (5.0, 2), (10.0, 3)];
    let buckets = buckets.map(|(from, count)| Bucket { from, count }).to_vec();
    assert_eq!(
        told,
        [
            ("gauge", MeterValue::Single(-4.0)),
            ("gauge", MeterValue::Single(0.5)),
            ("took", MeterValue::Histogram { buckets, sum: Some(9.0) }),
            ("summed_count", MeterValue::Single(2.0)),
            ("summed_sum", MeterValue::Single(3.0)),
            ("summed", MeterValue::Single(12.0)),
        ]
    );
    assert_eq!((views[0].time_ms, views[0].service.as_str()), (7, "shop"));
    assert_eq!(views[0].labels, [tag("pool", "old")]);
    assert_eq!(views[5].labels, [tag("quantile", "0.99")]);
}

#[test]
fn exponential_buckets_get_their_bounds() {
    let point = ExponentialHistogramDataPoint {
        // Base 2: the bounds are 1, 2, 4, 8.
        scale: 0,
        zero_count: 5,
        positive: Some(Buckets { offset: 1, bucket_counts: vec![1, 2] }),
        negative: Some(Buckets { offset: 0, bucket_counts: vec![3, 4] }),
        ..Default::default()
    };
    let data = ExponentialHistogram { data_points: vec![point], aggregation_temporality: 2 };
    let views = metrics(vec![("took", Data::ExponentialHistogram(data))]);
    let MeterValue::Histogram { buckets, .. } = &views[0].value else { panic!("{views:?}") };
    let told: Vec<_> = buckets.iter().map(|bucket| (bucket.from, bucket.count)).collect();
    assert_eq!(told, [(-4.0, 4), (-2.0, 3), (0.0, 5), (2.0, 1), (4.0, 2)]);
}

#[test]
fn the_state_of_a_jvm_is_seen_as_it_was_written() {
    let memory = |is_heap, used| v3::Memory { is_heap, init: 1, max: -1, used, committed: 4 };
    let metric = v3::JvmMetric {
        time: 7,
        cpu: Some(v3::Cpu { usage_percent: 12.5 }),
        memory: vec![memory(true, 100), memory(false, 50)],
        memory_pool: vec![v3::MemoryPool { r#type: 2, used: 80, ..Default::default() }],
        gc: vec![v3::Gc { phase: 1, count: 2, time: 30 }],
        thread: Some(v3::Thread {
            live_count: 9,
            timed_waiting_state_thread_count: 3,
            ..Default::default()
        }),
        clazz: Some(v3::Class { loaded_class_count: 11, ..Default::default() }),
    };
    let body = v3::JvmMetricCollection {
        metrics: vec![metric],
        service: "shop".into(),
        service_instance: "shop-1".into(),
    };
    let view = JvmView::of(&body.encode_to_vec()).unwrap();
    assert_eq!((view.service.as_str(), view.instance.as_str()), ("shop", "shop-1"));
    let sample = &view.samples[0];
    assert_eq!(
        (sample.time_ms, sample.heap.used, sample.heap.max, sample.non_heap.used),
        (7, 100, -1, 50)
    );
    let series = sample.series();
    for wanted in [
        ("jvm_cpu_ratio", None, 0.125),
        ("jvm_memory_pool_used_bytes", Some(("pool", "oldgen")), 80.0),
        ("jvm_gc_seconds", Some(("generation", "old")), 0.03),
        ("jvm_threads_state", Some(("state", "timed_waiting")), 3.0),
        ("jvm_classes_loaded", None, 11.0),
    ] {
        assert!(series.contains(&wanted), "{wanted:?} is not in {series:?}");
    }
}

#[test]
fn the_state_of_a_clr_is_seen_as_it_was_written() {
    let metric = v3::ClrMetric {
        time: 7,
        cpu: Some(v3::Cpu { usage_percent: 12.5 }),
        gc: Some(v3::ClrGc {
            gen0_collect_count: 4,
            gen1_collect_count: 5,
            gen2_collect_count: 6,
            heap_memory: 100,
        }),
        thread: Some(v3::ClrThread {
            available_completion_port_threads: 1,
            available_worker_threads: 2,
            max_completion_port_threads: 3,
            max_worker_threads: -4,
        }),
    };
    let body = v3::ClrMetricCollection {
        metrics: vec![v3::ClrMetric::default(), metric],
        service: "shop".into(),
        service_instance: "shop-1".into(),
    };
    let view = ClrView::of(&body.encode_to_vec()).unwrap();
    assert_eq!((view.service.as_str(), view.instance.as_str()), ("shop", "shop-1"));
    assert_eq!(view.samples[0], ClrSample::default());
    let sample = &view.samples[1];
    assert_eq!((sample.time_ms, sample.collections, sample.heap_bytes), (7, [4, 5, 6], 100));
    assert_eq!(sample.workers, PoolThreads { available: 2, max: -4 });
    assert_eq!(sample.completion_ports, PoolThreads { available: 1, max: 3 });
    let series = sample.series();
    for wanted in [
        ("clr_cpu_ratio", None, 0.125),
        ("clr_gc_collections", Some(("generation", "1")), 5.0),
        ("clr_heap_memory_bytes", None, 100.0),
        ("clr_threads_available", Some(("pool", "worker")), 2.0),
        ("clr_threads_max", Some(("pool", "completion_port")), 3.0),
    ] {
        assert!(series.contains(&wanted), "{wanted:?} is not in {series:?}");
    }
    let named: Vec<&str> = series.iter().map(|(name, ..)| *name).collect();
    assert!(ClrSample::NAMES.iter().all(|name| named.contains(name)), "{named:?}");
}
