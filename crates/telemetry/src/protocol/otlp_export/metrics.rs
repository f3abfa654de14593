//! Meters, and the state of a Java virtual machine or a .NET runtime, as metrics.

use handfast_proto::otlp::metrics::v1::metric::Data;
use handfast_proto::otlp::metrics::v1::number_data_point::Value;
use handfast_proto::otlp::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
    ResourceMetrics, ScopeMetrics, Sum,
};

use super::attributes::Attributes;
use super::{nanos, resource, scope};
use crate::protocol::view::{
    Bucket, ClrSample, ClrView, JvmSample, JvmView, MemoryUse, MeterValue, MeterView, PoolThreads,
};

pub(super) fn tell_meter(meter: MeterView) -> ResourceMetrics {
    let MeterView { service, instance, name, labels, time_ms, value, .. } = meter;
    let mut attributes = Attributes::default();
    for label in labels {
        attributes.tag(label, &[]);
    }
    let (attributes, time) = (attributes.finish(), nanos(time_ms));
    let data = match value {
        MeterValue::Single(number) => Data::Gauge(Gauge {
            data_points: vec![NumberDataPoint {
                time_unix_nano: time,
                attributes,
                value: Some(Value::AsDouble(number)),
                ..NumberDataPoint::default()
            }],
        }),
        MeterValue::Histogram { buckets, sum } => {
            let (explicit_bounds, bucket_counts) = ladder(buckets);
            Data::Histogram(Histogram {
                data_points: vec![HistogramDataPoint {
                    time_unix_nano: time,
                    count: bucket_counts.iter().fold(0, |all: u64, some| all.saturating_add(*some)),
                    sum,
                    bucket_counts,
                    explicit_bounds,
                    attributes,
                    ..HistogramDataPoint::default()
                }],
                // Agents count from their start on.
                aggregation_temporality: AggregationTemporality::Cumulative.into(),
            })
        }
    };
    told(vec![Metric { name, data: Some(data), ..Metric::default() }], service, instance)
}

/// Buckets by their lower bounds as bounds between buckets: one bound less than counts, each larger than
/// the one before.
fn ladder(mut buckets: Vec<Bucket>) -> (Vec<f64>, Vec<u64>) {
    buckets.retain(|bucket| !bucket.from.is_nan());
    buckets.sort_by(|one, other| one.from.total_cmp(&other.from));
    let (mut bounds, mut counts): (Vec<f64>, Vec<u64>) = (Vec::new(), vec![0]);
    for Bucket { from, count } in buckets {
        let is_lowest = from == f64::NEG_INFINITY;
        // 0 and -0 are one bound.
        if !is_lowest && bounds.last().is_none_or(|last| *last < from) {
            bounds.push(from);
            counts.push(0);
        }
        if let Some(last) = counts.last_mut() {
            *last = last.saturating_add(count);
        }
    }
    (bounds, counts)
}

pub(super) fn tell_jvm(state: &JvmView) -> ResourceMetrics {
    let metrics =
        JVM.iter().filter_map(|series| series.tell(&timed(&state.samples, |it| it.time_ms)));
    told(metrics.collect(), state.service.clone(), state.instance.clone())
}

pub(super) fn tell_clr(state: &ClrView) -> ResourceMetrics {
    let metrics =
        CLR.iter().filter_map(|series| series.tell(&timed(&state.samples, |it| it.time_ms)));
    told(metrics.collect(), state.service.clone(), state.instance.clone())
}

/// Samples with the time of each, in nanoseconds.
fn timed<S>(samples: &[S], time_ms: fn(&S) -> i64) -> Vec<(u64, &S)> {
    samples.iter().map(|sample| (nanos(time_ms(sample)), sample)).collect()
}

fn told(metrics: Vec<Metric>, service: String, instance: String) -> ResourceMetrics {
    let scope_metrics = ScopeMetrics { scope: Some(scope()), metrics, ..ScopeMetrics::default() };
    ResourceMetrics {
        resource: Some(resource(service, instance, String::new())),
        scope_metrics: vec![scope_metrics],
        ..ResourceMetrics::default()
    }
}

/// A metric of a runtime: how to read its points off a sample.
struct Series<S> {
    name: &'static str,
    unit: &'static str,
    nature: Nature,
    points: fn(&S) -> Vec<Point>,
}

#[derive(Clone, Copy)]
enum Nature {
    /// A state.
    Gauge,
    /// A state that can be added up over instances.
    Level,
    /// Only grows, since the start.
    Total,
    /// How much was added since the report before.
    Added,
}

/// Attributes and a value.
type Point = (Vec<(&'static str, &'static str)>, f64);

impl<S> Series<S> {
    fn tell(&self, samples: &[(u64, &S)]) -> Option<Metric> {
        let points = samples.iter().flat_map(|(time_unix_nano, sample)| {
            let time_unix_nano = *time_unix_nano;
            (self.points)(sample).into_iter().map(move |(names, value)| {
                let mut attributes = Attributes::default();
                for (key, text) in names {
                    attributes.text(key, text);
                }
                NumberDataPoint {
                    time_unix_nano,
                    attributes: attributes.finish(),
                    value: Some(Value::AsDouble(value)),
                    ..NumberDataPoint::default()
                }
            })
        });
        let data_points: Vec<_> = points.collect();
        if data_points.is_empty() {
            return None;
        }
        let sum = |data_points, temporality: AggregationTemporality, is_monotonic| {
            let aggregation_temporality = temporality.into();
            Data::Sum(Sum { data_points, aggregation_temporality, is_monotonic })
        };
        let data = match self.nature {
            Nature::Gauge => Data::Gauge(Gauge { data_points }),
            Nature::Level => sum(data_points, AggregationTemporality::Cumulative, false),
            Nature::Total => sum(data_points, AggregationTemporality::Cumulative, true),
            Nature::Added => sum(data_points, AggregationTemporality::Delta, true),
        };
        Some(Metric {
            name: self.name.to_owned(),
            unit: self.unit.to_owned(),
            data: Some(data),
            ..Metric::default()
        })
    }
}

/// A use of the heap, and of everything else.
fn memory(sample: &JvmSample, read: fn(&MemoryUse) -> i64) -> Vec<Point> {
    [("heap", &sample.heap), ("non_heap", &sample.non_heap)]
        .into_iter()
        .filter_map(|(kind, memory)| at_least_none(vec![("jvm.memory.type", kind)], read(memory)))
        .collect()
}

fn pools(sample: &JvmSample, read: fn(&MemoryUse) -> i64) -> Vec<Point> {
    let point = |(name, memory): &(&'static str, MemoryUse)| {
        at_least_none(vec![("jvm.memory.pool.name", name)], read(memory))
    };
    sample.pools.iter().filter_map(point).collect()
}

/// A number below zero says that there is none.
#[expect(clippy::cast_precision_loss, reason = "memory of more than 8 PiB")]
fn at_least_none(names: Vec<(&'static str, &'static str)>, number: i64) -> Option<Point> {
    (number >= 0).then_some((names, number as f64))
}

#[expect(clippy::cast_precision_loss, reason = "counts of threads and classes")]
fn plain(number: i64) -> Vec<Point> {
    vec![(Vec::new(), number as f64)]
}

fn threads(sample: &JvmSample) -> Vec<Point> {
    let threads = &sample.threads;
    [
        ("runnable", threads.runnable),
        ("blocked", threads.blocked),
        ("waiting", threads.waiting),
        ("timed_waiting", threads.timed_waiting),
    ]
    .into_iter()
    .filter_map(|(state, count)| at_least_none(vec![("jvm.thread.state", state)], count))
    .collect()
}

fn collections(
    sample: &JvmSample,
    read: fn(&crate::protocol::view::Collection) -> i64,
) -> Vec<Point> {
    let collections = sample.collections.iter();
    collections
        .filter_map(|it| at_least_none(vec![("jvm.gc.generation", it.generation)], read(it)))
        .collect()
}

/// With the names of the semantic conventions, as far as they have one. The conventions know memory by
/// pool only; here `jvm.memory.used` is the whole, and pools are apart, so that a sum over either is right.
const JVM: &[Series<JvmSample>] = &[
    Series {
        name: "jvm.cpu.recent_utilization",
        unit: "1",
        nature: Nature::Gauge,
        points: |sample| vec![(Vec::new(), sample.cpu_percent / 100.0)],
    },
    Series {
        name: "jvm.memory.used",
        unit: "By",
        nature: Nature::Level,
        points: |sample| memory(sample, |it| it.used),
    },
    Series {
        name: "jvm.memory.committed",
        unit: "By",
        nature: Nature::Level,
        points: |sample| memory(sample, |it| it.committed),
    },
    Series {
        name: "jvm.memory.limit",
        unit: "By",
        nature: Nature::Level,
        points: |sample| memory(sample, |it| it.max),
    },
    Series {
        name: "jvm.memory.init",
        unit: "By",
        nature: Nature::Level,
        points: |sample| memory(sample, |it| it.init),
    },
    Series {
        name: "jvm.memory.pool.used",
        unit: "By",
        nature: Nature::Level,
        points: |sample| pools(sample, |it| it.used),
    },
    Series {
        name: "jvm.memory.pool.committed",
        unit: "By",
        nature: Nature::Level,
        points: |sample| pools(sample, |it| it.committed),
    },
    Series {
        name: "jvm.memory.pool.limit",
        unit: "By",
        nature: Nature::Level,
        points: |sample| pools(sample, |it| it.max),
    },
    Series {
        name: "jvm.gc.count",
        unit: "{collection}",
        nature: Nature::Added,
        points: |sample| collections(sample, |it| it.count),
    },
    Series {
        name: "jvm.gc.time",
        unit: "ms",
        nature: Nature::Added,
        points: |sample| collections(sample, |it| it.time_ms),
    },
    Series {
        name: "jvm.thread.live",
        unit: "{thread}",
        nature: Nature::Level,
        points: |sample| plain(sample.threads.live),
    },
    Series {
        name: "jvm.thread.daemon",
        unit: "{thread}",
        nature: Nature::Level,
        points: |sample| plain(sample.threads.daemon),
    },
    Series {
        name: "jvm.thread.peak",
        unit: "{thread}",
        nature: Nature::Gauge,
        points: |sample| plain(sample.threads.peak),
    },
    Series { name: "jvm.thread.count", unit: "{thread}", nature: Nature::Level, points: threads },
    Series {
        name: "jvm.class.count",
        unit: "{class}",
        nature: Nature::Level,
        points: |sample| plain(sample.classes.loaded),
    },
    Series {
        name: "jvm.class.loaded",
        unit: "{class}",
        nature: Nature::Total,
        points: |sample| plain(sample.classes.total_loaded),
    },
    Series {
        name: "jvm.class.unloaded",
        unit: "{class}",
        nature: Nature::Total,
        points: |sample| plain(sample.classes.total_unloaded),
    },
];

/// Of each generation that was collected at all.
fn generations(sample: &ClrSample) -> Vec<Point> {
    let generations = ["gen0", "gen1", "gen2"].into_iter().zip(sample.collections);
    generations
        .filter_map(|(name, count)| at_least_none(vec![("dotnet.gc.heap.generation", name)], count))
        .collect()
}

fn pool(sample: &ClrSample, count: fn(PoolThreads) -> i64) -> Vec<Point> {
    let kinds = [("completion_port", sample.completion_ports), ("worker", sample.workers)];
    kinds
        .into_iter()
        .map(|(kind, threads)| (kind, count(threads)))
        .filter_map(|(kind, count)| {
            at_least_none(vec![("dotnet.thread_pool.thread.type", kind)], count)
        })
        .collect()
}

/// With the names of the semantic conventions, as far as they have one: they know neither the bytes of the heap in use
/// between two collections nor the pool's idle threads and their limit.
const CLR: &[Series<ClrSample>] = &[
    Series {
        name: "process.cpu.utilization",
        unit: "1",
        nature: Nature::Gauge,
        points: |sample| vec![(Vec::new(), sample.cpu_percent / 100.0)],
    },
    Series {
        name: "dotnet.gc.collections",
        unit: "{collection}",
        nature: Nature::Added,
        points: generations,
    },
    Series {
        name: "dotnet.gc.heap.used",
        unit: "By",
        nature: Nature::Level,
        points: |sample| at_least_none(Vec::new(), sample.heap_bytes).into_iter().collect(),
    },
    Series {
        name: "dotnet.thread_pool.thread.available",
        unit: "{thread}",
        nature: Nature::Level,
        points: |sample| pool(sample, |threads| threads.available),
    },
    Series {
        name: "dotnet.thread_pool.thread.limit",
        unit: "{thread}",
        nature: Nature::Level,
        points: |sample| pool(sample, |threads| threads.max),
    },
];
