//! What a collector keeps, read by every way that there is: the command line, at the node and in the directory; and
//! Prometheus, whose own tool reads the page.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]
#![expect(clippy::print_stdout, reason = "what was skipped is said")]

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use handfast_pki::SystemEntropy;
use handfast_proto::otlp::collector::metrics::v1::ExportMetricsServiceRequest;
use handfast_proto::otlp::common::v1::{AnyValue, KeyValue, any_value::Value as Attribute};
use handfast_proto::otlp::metrics::v1::{
    Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum,
    metric::Data, number_data_point,
};
use handfast_proto::otlp::resource::v1::Resource;
use handfast_proto::skywalking::v3::{
    Event, JvmMetric, JvmMetricCollection, KeyStringValuePair, Label, LogData, LogDataBody,
    LogTags, Memory, MeterBucketValue, MeterData, MeterHistogram, MeterSingleValue, SegmentObject,
    Source, SpanObject, TextLog, TraceContext, log_data_body::Content, meter_data,
};
use handfast_telemetry::upstream::{Backend, Dice, Security, Upstream, UpstreamPlan};
use handfast_testkit::eventually::{eventually, now};
use handfast_testkit::place::{Place, free_port};
use handfast_testkit::site::Site;
use prost::Message;

/// A site with a collector that takes what agents say in the clear.
struct Scene {
    _place: Place,
    west: Site,
    agent: Upstream,
    metrics: u16,
    runtime: tokio::runtime::Runtime,
}

impl Scene {
    fn new() -> Self {
        let place = Place::new(env!("CARGO_BIN_EXE_handfast"));
        let mut west = place.west();
        let (collector, metrics) = (free_port(), free_port());
        west.run_with(&["--metrics", &format!("127.0.0.1:{metrics}")]);
        west.start();
        west.json(&format!(
            "collector create telemetry --host 127.0.0.1 --grpc-port {collector} --http-port 0 --mode plaintext"
        ));
        Self { _place: place, west, agent: agent(collector), metrics, runtime: runtime() }
    }

    fn report(&self, method: &str, messages: &[Bytes]) {
        eventually(&format!("{method} is taken"), || {
            self.runtime.block_on(self.agent.call(method, messages)).ok()
        });
    }

    fn scrape(&self, path: &str) -> (u16, String) {
        scrape(self.metrics, path)
    }
}

fn runtime() -> tokio::runtime::Runtime {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).enable_all().build().unwrap()
}

/// Whoever reports in the clear to this port.
fn agent(port: u16) -> Upstream {
    let plan = UpstreamPlan {
        authentication: None,
        backends: vec![Backend { host: Ipv4Addr::LOCALHOST.to_string(), port }],
        security: Some(Security::Plaintext),
    };
    Upstream::new(plan, Arc::new(now), Dice::new(SystemEntropy))
}

/// What stands at a path of a metrics port: the status, and the page.
fn scrape(port: u16, path: &str) -> (u16, String) {
    use std::io::{Read as _, Write as _};
    let mut socket = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

fn tag(key: &str, value: &str) -> KeyStringValuePair {
    KeyStringValuePair { key: key.to_owned(), value: value.to_owned() }
}

fn bytes(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

fn segment(begin: i64) -> Bytes {
    let span = SpanObject {
        parent_span_id: -1,
        start_time: begin,
        end_time: begin + 40,
        operation_name: "/shop/buy".to_owned(),
        ..SpanObject::default()
    };
    bytes(&SegmentObject {
        trace_id: "trace-1".to_owned(),
        trace_segment_id: "s1".to_owned(),
        spans: vec![span],
        service: "shop".to_owned(),
        service_instance: "shop-1".to_owned(),
        ..SegmentObject::default()
    })
}

fn log(time: i64, trace: &str, text: &str) -> Bytes {
    bytes(&LogData {
        timestamp: time,
        service: "shop".to_owned(),
        service_instance: "shop-1".to_owned(),
        body: Some(LogDataBody {
            content: Some(Content::Text(TextLog { text: text.to_owned() })),
            ..LogDataBody::default()
        }),
        trace_context: Some(TraceContext { trace_id: trace.to_owned(), ..TraceContext::default() }),
        tags: Some(LogTags { data: vec![tag("level", "ERROR")] }),
        ..LogData::default()
    })
}

fn event(name: &str, kind: i32, start: i64, end: i64) -> Bytes {
    bytes(&Event {
        uuid: format!("event-{name}"),
        source: Some(Source {
            service: "shop".to_owned(),
            service_instance: "shop-1".to_owned(),
            ..Source::default()
        }),
        name: name.to_owned(),
        r#type: kind,
        message: format!("{name} of the shop"),
        parameters: [("opts".to_owned(), "-Xmx1g".to_owned())].into(),
        start_time: start,
        end_time: end,
        ..Event::default()
    })
}

const SEGMENTS: &str = "/skywalking.v3.TraceSegmentReportService/collect";
const LOGS: &str = "/skywalking.v3.LogReportService/collect";
const EVENTS: &str = "/skywalking.v3.EventService/collect";
const METERS: &str = "/skywalking.v3.MeterReportService/collect";
const JVM: &str = "/skywalking.v3.JVMMetricReportService/collect";
const OTLP: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

#[test]
fn events_are_listed_and_a_trace_is_shown_with_what_was_logged_in_it() {
    let scene = Scene::new();
    let west = &scene.west;
    let begin = now().as_millisecond();
    scene.report(SEGMENTS, &[segment(begin)]);
    let mut lines = vec![log(begin + 10, "trace-1", "card refused"), log(begin, "", "elsewhere")];
    lines.extend((0..250).map(|n| log(begin + 20, "trace-1", &format!("retry {n}"))));
    scene.report(LOGS, &lines);
    scene.report(
        EVENTS,
        &[
            event("Start", 0, begin - 5000, begin - 1000),
            event("Shutdown", 1, begin, 0),
            event("Shutdown", 1, 0, begin + 2000),
        ],
    );

    let trace = west.json("trace show trace-1");
    assert_eq!(trace["logs"].as_array().unwrap().len(), 200, "{trace:#}");
    assert_eq!(trace["moreLogs"], true);
    assert_eq!(trace["logs"][199]["level"], "ERROR");
    assert!(!trace.to_string().contains("elsewhere"));
    let drawn = west.run("trace show trace-1").ok().stdout;
    assert!(drawn.contains("Logs") && drawn.contains("+20 ms  shop  ERROR  retry 249"), "{drawn}");
    assert!(drawn.contains("handfast log ls --trace trace-1"), "{drawn}");
    let bare = west.run("trace show trace-1 --no-logs").ok().stdout;
    assert!(bare.contains("/shop/buy") && !bare.contains("retry"), "{bare}");
    assert_eq!(west.json("trace show trace-1 --no-logs")["logs"], serde_json::json!([]));
    let all = west.json("log ls --trace trace-1 --limit 1000");
    assert_eq!(all.as_array().unwrap().len(), 251, "log ls has them all");

    let endpoints = west.json("service endpoints shop");
    assert_eq!(
        (&endpoints[0]["name"], &endpoints[0]["segments"]),
        (&"/shop/buy".into(), &1.into())
    );
    assert_eq!(west.json("service ls")[0]["segments"], 1);
    let events = west.json("event ls");
    let names = |events: &serde_json::Value| -> Vec<String> {
        let all = events.as_array().unwrap().iter();
        all.map(|it| it["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&events), ["Start", "Shutdown"], "the newest last: {events:#}");
    assert_eq!(events[0]["parameters"]["opts"], "-Xmx1g");
    let text = west.run("event ls").ok().stdout;
    assert!(text.contains("Shutdown of the shop") && text.contains("2000 ms"), "{text}");
    for (filter, expect) in [
        ("--type error", vec!["Shutdown"]),
        ("--type normal", vec!["Start"]),
        ("--name Start --service shop --instance shop-1 --since 1h", vec!["Start"]),
        ("--service bank", vec![]),
        ("--instance shop-2", vec![]),
        ("--limit 1", vec!["Shutdown"]),
        ("--until 2020-01-01T00:00:00Z", vec![]),
    ] {
        assert_eq!(names(&west.json(&format!("event ls {filter}"))), expect, "{filter}");
    }
    west.run("event ls --type fatal").exits(2);
    says_what_was_left_off(west);
    let kept = west.home().join("runtime/telemetry/collector-telemetry").display().to_string();
    let read = west.json(&format!("event ls --data {kept}"));
    assert_eq!(read, events, "the directory says the same");
}

/// Rows that were left off are said, beside what programs read; where there are no more, nothing is.
fn says_what_was_left_off(west: &Site) {
    let kept = west.home().join("runtime/telemetry/collector-telemetry").display().to_string();
    for (list, there, which) in
        [("log ls", 252, "newest"), ("event ls", 2, "newest"), ("trace ls", 1, "")]
    {
        for source in [String::new(), format!(" --data {kept}")] {
            let whole = west.run(&format!("{list} --limit {there}{source} -o json")).ok();
            assert_eq!(whole.json().as_array().map(Vec::len), Some(there), "{list}");
            assert_eq!(whole.stderr, "", "{list}: that is all of it");
            if there == 1 {
                continue;
            }
            let limit = there - 1;
            for format in ["json", "text"] {
                let some = west.run(&format!("{list} --limit {limit}{source} -o {format}")).ok();
                let note = format!(
                    "note: showing the {which} {limit}, and there are more: narrow with --service"
                );
                assert!(some.stderr.starts_with(&note), "{list}: {}", some.stderr);
                assert!(some.stderr.contains("--limit"), "{}", some.stderr);
                if format == "json" {
                    // An array as ever, with the newest in it.
                    let (some, all) = (some.json(), whole.json());
                    assert_eq!(
                        some.as_array().unwrap()[..],
                        all.as_array().unwrap()[1..],
                        "{list}"
                    );
                }
            }
        }
    }
}

/// One number of SkyWalking's.
fn single(name: &str, label: (&str, &str), time: i64, value: f64) -> Bytes {
    let labels = vec![Label { name: label.0.to_owned(), value: label.1.to_owned() }];
    let single = MeterSingleValue { name: name.to_owned(), labels, value };
    bytes(&MeterData {
        service: "shop".to_owned(),
        service_instance: "shop-1".to_owned(),
        timestamp: time,
        metric: Some(meter_data::Metric::SingleValue(single)),
    })
}

fn histogram(time: i64) -> Bytes {
    let bucket = |bucket: f64, count: i64| MeterBucketValue { bucket, count, ..Default::default() };
    let histogram = MeterHistogram {
        name: "wait_seconds".to_owned(),
        values: vec![bucket(0.0, 1), bucket(0.5, 2), bucket(1.0, 4)],
        ..MeterHistogram::default()
    };
    bytes(&MeterData {
        service: "shop".to_owned(),
        service_instance: "shop-1".to_owned(),
        timestamp: time,
        metric: Some(meter_data::Metric::Histogram(histogram)),
    })
}

/// What an OpenTelemetry SDK exports: a counter and a histogram.
fn otlp(time: i64) -> Bytes {
    let said = |key: &str, text: &str| KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(Attribute::StringValue(text.to_owned())) }),
    };
    let nanos = u64::try_from(time).unwrap() * 1_000_000;
    let requests = Data::Sum(Sum {
        data_points: vec![NumberDataPoint {
            time_unix_nano: nanos,
            attributes: vec![said("http.route", "/pay")],
            value: Some(number_data_point::Value::AsInt(11)),
            ..NumberDataPoint::default()
        }],
        aggregation_temporality: 2,
        is_monotonic: true,
    });
    let took = Data::Histogram(Histogram {
        data_points: vec![HistogramDataPoint {
            time_unix_nano: nanos,
            count: 3,
            sum: Some(1.5),
            bucket_counts: vec![1, 2],
            explicit_bounds: vec![0.25],
            ..HistogramDataPoint::default()
        }],
        aggregation_temporality: 2,
    });
    let metric = |name: &str, unit: &str, data| Metric {
        name: name.to_owned(),
        description: format!("What {name} counts"),
        unit: unit.to_owned(),
        data: Some(data),
        ..Metric::default()
    };
    let metrics = vec![metric("http.requests", "1", requests), metric("http.took", "s", took)];
    let attributes = vec![said("service.name", "otel"), said("service.instance.id", "otel-1")];
    bytes(&ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(Resource { attributes, ..Resource::default() }),
            scope_metrics: vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }],
            ..ResourceMetrics::default()
        }],
    })
}

#[test]
fn what_services_measure_is_read_by_prometheus_and_listed() {
    let scene = Scene::new();
    let west = &scene.west;
    let time = now().as_millisecond();
    let meters = [
        single("queue_depth", ("queue", "orders"), time - 1000, 1.0),
        single("queue_depth", ("queue", "orders"), time, 2.5),
        single("queue_depth", ("queue", "\"mails\\\n"), time, 3.0),
        single("handfast_up", ("job", "handfast"), time, 0.0),
        histogram(time),
    ];
    scene.report(METERS, &meters);
    let sample = JvmMetric {
        time,
        memory: vec![Memory { is_heap: true, used: 1 << 20, ..Memory::default() }],
        ..JvmMetric::default()
    };
    let jvm = JvmMetricCollection {
        metrics: vec![sample],
        service: "shop".to_owned(),
        service_instance: "shop-1".to_owned(),
    };
    scene.report(JVM, &[bytes(&jvm)]);
    scene.report(OTLP, &[otlp(time)]);

    let (status, page) = scene.scrape("/metrics/telemetry/telemetry");
    assert_eq!(status, 200, "{page}");
    for line in [
        "# TYPE queue_depth untyped",
        "queue_depth{service=\"shop\",instance=\"shop-1\",queue=\"orders\"} 2.5",
        "queue_depth{service=\"shop\",instance=\"shop-1\",queue=\"\\\"mails\\\\\\n\"} 3.0",
        "reported_handfast_up{service=\"shop\",instance=\"shop-1\",exported_job=\"handfast\"} 0.0",
        "# TYPE wait_seconds histogram",
        "wait_seconds_bucket{service=\"shop\",instance=\"shop-1\",le=\"0.5\"} 1",
        "wait_seconds_bucket{service=\"shop\",instance=\"shop-1\",le=\"+Inf\"} 7",
        "wait_seconds_count{service=\"shop\",instance=\"shop-1\"} 7",
        "# TYPE jvm_memory_used_bytes gauge",
        "jvm_memory_used_bytes{service=\"shop\",instance=\"shop-1\",area=\"heap\"} 1048576.0",
        "# HELP http_requests_total What http.requests counts",
        "# TYPE http_requests_total counter",
        "http_requests_total{service=\"otel\",instance=\"otel-1\",http_route=\"/pay\"} 11.0",
        "http_took_seconds_bucket{service=\"otel\",instance=\"otel-1\",le=\"0.25\"} 1",
        "http_took_seconds_sum{service=\"otel\",instance=\"otel-1\"} 1.5",
    ] {
        assert!(page.lines().any(|it| it == line), "no {line} in\n{page}");
    }
    assert!(!page.lines().any(|line| line.starts_with("handfast_")), "{page}");
    assert_eq!(scene.scrape("/metrics/telemetry/other").0, 404);
    promtool(&page);

    // Handfast's own page says how many they are, and has none of them.
    let (_, own) = scene.scrape("/metrics");
    assert!(!own.contains("queue_depth"), "{own}");
    let of = "{station=\"collector\",name=\"telemetry\"}";
    let count = own.lines().find_map(|line| {
        line.strip_prefix(&format!("handfast_telemetry_series{of} "))?.parse::<f64>().ok()
    });
    assert!(count.is_some_and(|count| count > 15.0), "{own}");
    assert!(own.contains(&format!("handfast_telemetry_series_left_out_total{of} 0.0")), "{own}");
    let pages = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operating.md");
    let documented = std::fs::read_to_string(pages).unwrap();
    for sample in own.lines().filter(|line| line.starts_with("handfast_telemetry_")) {
        let name = sample.split(['{', ' ']).next().unwrap();
        assert!(documented.contains(&format!("| `{name}` |")), "{name} is not documented");
    }

    let listed = west.json("metric ls --service shop --name queue_depth");
    assert_eq!(listed.as_array().unwrap().len(), 2, "{listed:#}");
    assert_eq!(listed[1]["labels"]["queue"], "orders");
    assert_eq!((&listed[1]["value"], &listed[1]["type"]), (&2.5.into(), &"unknown".into()));
    let otel = west.json("metric ls --service otel");
    assert_eq!(otel[0]["exposed"], "http_requests_total", "{otel:#}");
    assert_eq!(otel[1]["buckets"].as_array().unwrap().len(), 2, "{otel:#}");
    let text = west.run("metric ls --since 1h").ok().stdout;
    assert!(text.contains("http.took") && text.contains("3 values, together 1.5"), "{text}");
    let of_service = west.json("service metrics shop --name jvm_memory_used_bytes");
    assert!(of_service.to_string().contains("\"area\":\"heap\""), "{of_service:#}");
    assert_eq!(west.json("metric ls --instance nobody"), serde_json::json!([]));
    let kept = west.home().join("runtime/telemetry/collector-telemetry").display().to_string();
    let read = west.json(&format!("metric ls --service otel --data {kept}"));
    assert_eq!(read, otel, "the directory says the same");
}

#[test]
fn a_collector_by_itself_offers_what_services_measure() {
    let place = Place::new(env!("CARGO_BIN_EXE_handfast"));
    let (grpc, http, metrics) = (free_port(), free_port(), free_port());
    let [grpc_at, http_at, metrics_at] =
        [grpc, http, metrics].map(|port| format!("127.0.0.1:{port}"));
    let data = place.path("kept").display().to_string();
    let words = [
        "collector",
        "run",
        "--data",
        &data,
        "--grpc",
        &grpc_at,
        "--http",
        &http_at,
        "--metrics",
        &metrics_at,
    ];
    let log = std::fs::File::create(place.path("collector.log")).unwrap();
    let mut child = Ended(place.command(&words).stderr(log).spawn().unwrap());
    let (runtime, agent) = (runtime(), agent(grpc));
    let time = now().as_millisecond();
    eventually("it takes reports", || {
        let meter = [single("queue_depth", ("queue", "orders"), time, 2.5)];
        runtime.block_on(agent.call(METERS, &meter)).ok()
    });
    let (status, page) = scrape(metrics, "/metrics/telemetry/collector");
    let line = "queue_depth{service=\"shop\",instance=\"shop-1\",queue=\"orders\"} 2.5";
    assert!(status == 200 && page.lines().any(|it| it == line), "{page}");
    assert_eq!(scrape(metrics, "/metrics/telemetry/telemetry").0, 404);
    assert!(child.0.try_wait().unwrap().is_none());
}

/// A process that does not outlive its test.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Prometheus' own tool reads the page and finds nothing to say.
fn promtool(page: &str) {
    use std::io::Write as _;
    let unpacked = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../prometheus/usr/bin/promtool");
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&paths).map(|path| path.join("promtool"));
    let Some(tool): Option<PathBuf> =
        places.find(|path| path.is_file()).or_else(|| unpacked.is_file().then_some(unpacked))
    else {
        println!("skipped: promtool is not here; tests/suites/prometheus.sh fetches it");
        return;
    };
    let mut child = Command::new(tool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let said = child.wait_with_output().unwrap();
    let text = [said.stdout, said.stderr].map(|it| String::from_utf8_lossy(&it).into_owned());
    assert!(said.status.success(), "{}\n{page}", text.concat());
}
