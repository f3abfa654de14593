//! The values in a record.

use handfast_proto::otlp::collector::metrics::v1::ExportMetricsServiceRequest;
use handfast_proto::otlp::common::v1::KeyValue;
use handfast_proto::otlp::metrics::v1::{Metric, metric::Data, number_data_point::Value};
use handfast_proto::skywalking::v3::{
    ClrMetricCollection, GcPhase, JvmMetric, JvmMetricCollection, MeterData, PoolType,
    meter_data::Metric as Meter,
};
use jiff::Timestamp;
use prost::Message;

use crate::keep::facts::otlp;
use crate::keep::scan::time;
use crate::{Record, RecordKind};

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Point {
    pub(super) service: String,
    pub(super) instance: String,
    pub(super) name: String,
    pub(super) labels: Vec<(String, String)>,
    pub(super) time: Timestamp,
    pub(super) value: f64,
}

/// Calls `found` with each value in a record.
pub(super) fn read(record: &Record, found: &mut dyn FnMut(Point)) {
    let body = record.body.as_ref();
    match record.kind {
        RecordKind::Meter => {
            if let Ok(meter) = MeterData::decode(body) {
                read_meter(meter, record.received, found);
            }
        }
        RecordKind::JvmMetrics => {
            let Ok(jvm) = JvmMetricCollection::decode(body) else { return };
            for metric in &jvm.metrics {
                read_jvm(metric, &mut |name, labels, value| {
                    found(Point {
                        service: jvm.service.clone(),
                        instance: jvm.service_instance.clone(),
                        name: name.to_owned(),
                        labels,
                        time: said(metric.time, record.received),
                        value,
                    });
                });
            }
        }
        RecordKind::ClrMetrics => {
            if let Ok(clr) = ClrMetricCollection::decode(body) {
                read_clr(&clr, record.received, found);
            }
        }
        RecordKind::OtlpMetrics => {
            let Ok(request) = ExportMetricsServiceRequest::decode(body) else { return };
            for resource in request.resource_metrics {
                let (service, instance) = otlp::who(resource.resource.as_ref());
                for metric in resource.scope_metrics.into_iter().flat_map(|scope| scope.metrics) {
                    read_otlp(metric, &mut |name, labels, nanoseconds, value| {
                        found(Point {
                            service: service.clone(),
                            instance: instance.clone(),
                            name,
                            labels,
                            time: said(otlp::milliseconds(nanoseconds), record.received),
                            value,
                        });
                    });
                }
            }
        }
        _ => {}
    }
}

fn read_meter(meter: MeterData, received: Timestamp, found: &mut dyn FnMut(Point)) {
    let time = said(meter.timestamp, received);
    let point = |name: String, labels, value| Point {
        service: meter.service.clone(),
        instance: meter.service_instance.clone(),
        name,
        labels,
        time,
        value,
    };
    match meter.metric {
        Some(Meter::SingleValue(one)) => {
            let labels = one.labels.into_iter().map(|label| (label.name, label.value));
            found(point(one.name, labels.collect(), one.value));
        }
        Some(Meter::Histogram(many)) => {
            let labels: Vec<(String, String)> =
                many.labels.into_iter().map(|label| (label.name, label.value)).collect();
            for bucket in many.values {
                let from = if bucket.is_negative_infinity {
                    "-Inf".to_owned()
                } else {
                    bucket.bucket.to_string()
                };
                let mut labels = labels.clone();
                labels.push(("bucket".to_owned(), from));
                found(point(many.name.clone(), labels, float(bucket.count)));
            }
        }
        None => {}
    }
}

fn read_jvm(metric: &JvmMetric, found: &mut dyn FnMut(&str, Vec<(String, String)>, f64)) {
    if let Some(cpu) = &metric.cpu {
        found("instance_jvm_cpu", Vec::new(), cpu.usage_percent);
    }
    for memory in &metric.memory {
        let (used, max) = if memory.is_heap {
            ("instance_jvm_memory_heap", "instance_jvm_memory_heap_max")
        } else {
            ("instance_jvm_memory_noheap", "instance_jvm_memory_noheap_max")
        };
        found(used, Vec::new(), float(memory.used));
        found(max, Vec::new(), float(memory.max));
    }
    for pool in &metric.memory_pool {
        let name = PoolType::try_from(pool.r#type).map_or("UNKNOWN", |pool| pool.as_str_name());
        let labels = vec![("pool".to_owned(), name.to_owned())];
        found("instance_jvm_memory_pool", labels, float(pool.used));
    }
    for gc in &metric.gc {
        let (count, spent) = match GcPhase::try_from(gc.phase) {
            Ok(GcPhase::New) => ("instance_jvm_young_gc_count", "instance_jvm_young_gc_time"),
            Ok(GcPhase::Old) => ("instance_jvm_old_gc_count", "instance_jvm_old_gc_time"),
            _ => ("instance_jvm_normal_gc_count", "instance_jvm_normal_gc_time"),
        };
        found(count, Vec::new(), float(gc.count));
        found(spent, Vec::new(), float(gc.time));
    }
    if let Some(thread) = &metric.thread {
        for (name, value) in [
            ("instance_jvm_thread_live_count", thread.live_count),
            ("instance_jvm_thread_daemon_count", thread.daemon_count),
            ("instance_jvm_thread_peak_count", thread.peak_count),
            ("instance_jvm_thread_runnable_state_thread_count", thread.runnable_state_thread_count),
            ("instance_jvm_thread_blocked_state_thread_count", thread.blocked_state_thread_count),
            ("instance_jvm_thread_waiting_state_thread_count", thread.waiting_state_thread_count),
            (
                "instance_jvm_thread_timed_waiting_state_thread_count",
                thread.timed_waiting_state_thread_count,
            ),
        ] {
            found(name, Vec::new(), float(value));
        }
    }
    if let Some(class) = &metric.clazz {
        found("instance_jvm_class_loaded_class_count", Vec::new(), float(class.loaded_class_count));
    }
}

fn read_clr(clr: &ClrMetricCollection, received: Timestamp, found: &mut dyn FnMut(Point)) {
    for metric in &clr.metrics {
        let mut values = Vec::new();
        if let Some(cpu) = &metric.cpu {
            values.push(("instance_clr_cpu", cpu.usage_percent));
        }
        if let Some(gc) = &metric.gc {
            values.push(("instance_clr_heap_memory", float(gc.heap_memory)));
        }
        if let Some(thread) = &metric.thread {
            let free = f64::from(thread.available_worker_threads);
            values.push(("instance_clr_available_worker_threads", free));
        }
        for (name, value) in values {
            found(Point {
                service: clr.service.clone(),
                instance: clr.service_instance.clone(),
                name: name.to_owned(),
                labels: Vec::new(),
                time: said(metric.time, received),
                value,
            });
        }
    }
}

type FoundOtlp<'a> = &'a mut dyn FnMut(String, Vec<(String, String)>, u64, f64);

fn read_otlp(metric: Metric, found: FoundOtlp<'_>) {
    let name = metric.name;
    match metric.data {
        Some(Data::Gauge(gauge)) => numbers(&name, &gauge.data_points, found),
        Some(Data::Sum(sum)) => numbers(&name, &sum.data_points, found),
        Some(Data::Histogram(histogram)) => {
            for point in histogram.data_points {
                let at = point.time_unix_nano;
                distribution(&name, &point.attributes, (at, point.count, point.sum), found);
            }
        }
        Some(Data::ExponentialHistogram(histogram)) => {
            for point in histogram.data_points {
                let at = point.time_unix_nano;
                distribution(&name, &point.attributes, (at, point.count, point.sum), found);
            }
        }
        Some(Data::Summary(summary)) => {
            for point in summary.data_points {
                let at = point.time_unix_nano;
                distribution(&name, &point.attributes, (at, point.count, Some(point.sum)), found);
            }
        }
        None => {}
    }
}

fn numbers(
    name: &str,
    points: &[handfast_proto::otlp::metrics::v1::NumberDataPoint],
    found: FoundOtlp<'_>,
) {
    for point in points {
        let value = match point.value {
            Some(Value::AsDouble(value)) => value,
            Some(Value::AsInt(value)) => float(value),
            None => continue,
        };
        found(name.to_owned(), labels(&point.attributes), point.time_unix_nano, value);
    }
}

/// Of a distribution, how many and how much; its shape is in the record.
fn distribution(
    name: &str,
    attributes: &[KeyValue],
    (at, count, sum): (u64, u64, Option<f64>),
    found: FoundOtlp<'_>,
) {
    let with = |of: &str| {
        let mut labels = labels(attributes);
        labels.push(("of".to_owned(), of.to_owned()));
        labels
    };
    found(name.to_owned(), with("count"), at, float(i64::try_from(count).unwrap_or(i64::MAX)));
    if let Some(sum) = sum {
        found(name.to_owned(), with("sum"), at, sum);
    }
}

fn labels(attributes: &[KeyValue]) -> Vec<(String, String)> {
    let mut labels = Vec::new();
    for attribute in attributes {
        if let Some(value) = attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
            labels.push((attribute.key.clone(), otlp::text(value).into_owned()));
        }
    }
    labels
}

fn said(milliseconds: i64, received: Timestamp) -> Timestamp {
    if milliseconds > 0 { time(milliseconds) } else { received }
}

#[expect(clippy::cast_precision_loss, reason = "a metric is a float; beyond 2^53 it is rounded")]
fn float(number: i64) -> f64 {
    number as f64
}

/// What a Java virtual machine's report is listed as.
pub(super) const JVM_NAMES: [&str; 20] = [
    "instance_jvm_class_loaded_class_count",
    "instance_jvm_cpu",
    "instance_jvm_memory_heap",
    "instance_jvm_memory_heap_max",
    "instance_jvm_memory_noheap",
    "instance_jvm_memory_noheap_max",
    "instance_jvm_memory_pool",
    "instance_jvm_normal_gc_count",
    "instance_jvm_normal_gc_time",
    "instance_jvm_old_gc_count",
    "instance_jvm_old_gc_time",
    "instance_jvm_thread_blocked_state_thread_count",
    "instance_jvm_thread_daemon_count",
    "instance_jvm_thread_live_count",
    "instance_jvm_thread_peak_count",
    "instance_jvm_thread_runnable_state_thread_count",
    "instance_jvm_thread_timed_waiting_state_thread_count",
    "instance_jvm_thread_waiting_state_thread_count",
    "instance_jvm_young_gc_count",
    "instance_jvm_young_gc_time",
];

/// And a .NET runtime's.
pub(super) const CLR_NAMES: [&str; 3] =
    ["instance_clr_available_worker_threads", "instance_clr_cpu", "instance_clr_heap_memory"];
