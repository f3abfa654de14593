//! What tracers of Zipkin, Telegraf and Amazon Data Firehose post is judged, kept and passed on as everything else,
//! and they are answered as they expect it.

use std::io::Write as _;
use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use handfast_proto::otlp::collector::metrics::v1::ExportMetricsServiceRequest;
use handfast_proto::otlp::common::v1::{AnyValue, KeyValue, any_value};
use handfast_proto::otlp::metrics::v1::{
    Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric, number_data_point,
};
use handfast_proto::otlp::resource::v1::Resource;
use handfast_telemetry::keep::MetricQuery;
use handfast_telemetry::port::Mode;
use handfast_telemetry::station::Station;
use handfast_telemetry::upstream::Upstream;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::BodyExt as _;
use prost::Message as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::backend::{Backend, TAKEN};
use crate::support::{Scene, accepted, grpc, http, until};

const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");
const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");

/// Posts over HTTP/2, with the client's certificate.
pub(crate) async fn post(
    client: &Upstream,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> (u16, String) {
    let mut sent = HeaderMap::new();
    for (name, value) in headers {
        let name: HeaderName = name.parse().expect("a name");
        sent.insert(name, HeaderValue::from_str(value).expect("visible"));
    }
    let response = client.request(path, &sent, body.into().into()).await.expect("answered");
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("whole").to_bytes();
    (status, String::from_utf8(body.to_vec()).expect("text"))
}

/// Posts over HTTP/1.1 in the clear, as most of them do.
async fn post_plain(to: SocketAddr, path: &str, headers: &str, body: &[u8]) -> String {
    let mut socket = TcpStream::connect(to).await.expect("connects");
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n",
        body.len()
    );
    socket.write_all(head.as_bytes()).await.expect("written");
    socket.write_all(body).await.expect("written");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.expect("an answer");
    answer
}

fn now_us() -> i64 {
    handfast_testkit::eventually::now().as_microsecond()
}

fn spans(service: &str) -> Value {
    json!([
        { "traceId": "5af7183fb1d4cf5f", "id": "6b221d5bc9e6496c", "kind": "SERVER", "name": "get /buy",
          "timestamp": now_us(), "duration": 9000, "localEndpoint": { "serviceName": service, "ipv4": "10.0.0.7" },
          "tags": { "http.method": "GET", "error": "no money" } },
        { "traceId": "5af7183fb1d4cf5f", "parentId": "6b221d5bc9e6496c", "id": "352bff9a74ca9ad2", "kind": "CLIENT",
          "name": "post /pay", "timestamp": now_us(), "duration": 4000, "localEndpoint": { "serviceName": service },
          "remoteEndpoint": { "serviceName": "bank", "port": 443 } }
    ])
}

fn telegraf(host: &str) -> Value {
    let seconds = handfast_testkit::eventually::now().as_second();
    json!({ "metrics": [{ "name": "cpu", "tags": { "host": host, "cpu": "cpu0" },
        "fields": { "usage_user": 12.5, "model": "x86" }, "timestamp": seconds }] })
}

/// A delivery of a metric stream of an account.
fn firehose(account: &str) -> Value {
    let text = |key: &str, value: &str| KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) }),
    };
    let now = u64::try_from(now_us()).expect("after 1970") * 1000;
    let point = NumberDataPoint {
        time_unix_nano: now,
        value: Some(number_data_point::Value::AsDouble(3.0)),
        ..NumberDataPoint::default()
    };
    let metric = Metric {
        name: "amazonaws.com/AWS/S3/BucketSizeBytes".to_owned(),
        data: Some(metric::Data::Gauge(Gauge { data_points: vec![point] })),
        ..Metric::default()
    };
    let resource =
        Resource { attributes: vec![text("cloud.account.id", account)], ..Resource::default() };
    let request = ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(resource),
            scope_metrics: vec![ScopeMetrics { metrics: vec![metric], ..ScopeMetrics::default() }],
            ..ResourceMetrics::default()
        }],
    };
    let data = STANDARD.encode(request.encode_length_delimited_to_vec());
    json!({ "requestId": "ed4acda5-034f-9f42", "timestamp": 1, "records": [{ "data": data }] })
}

/// One that lets each agent report as its own service, over mutual TLS.
fn collector(scene: &Scene) -> Station {
    scene.collector(Mode::Mtls)
}

fn denied(scene: &Scene) -> Vec<String> {
    let denials = scene.denials.lock().expect("no panic");
    denials.iter().map(|denial| denial.service.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_of_zipkin_are_kept_under_their_service_and_nobody_elses() {
    let scene = Scene::new();
    let collector = collector(&scene);
    let shop = scene.caller(http(&collector), Some(&scene.agent("shop")));
    let own = spans("shop").to_string();
    assert_eq!(post(&shop, "/api/v2/spans", &[JSON], own).await, (202, String::new()));
    let reader = collector.keep().expect("it keeps").reader();
    let trace = reader.trace("00000000000000005af7183fb1d4cf5f").expect("read");
    assert_eq!(reader.trace("5af7183fb1d4cf5f").expect("read"), trace, "as Zipkin wrote it");
    let told: Vec<_> = trace
        .iter()
        .flat_map(|part| {
            part.spans.iter().map(|span| (&*part.service, &*part.instance, &*span.operation))
        })
        .collect();
    assert_eq!(told, [("shop", "10.0.0.7", "get /buy"), ("shop", "", "post /pay")]);
    assert!(trace.iter().any(|part| part.is_error));

    let (status, said) = post(&shop, "/api/v2/spans", &[JSON], spans("bank").to_string()).await;
    assert_eq!(status, 403);
    for part in ["wrong-identity", "bank", "may-report-as"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    // The second of two: nothing of such a body is kept.
    let mut mixed = spans("shop");
    mixed[1]["localEndpoint"]["serviceName"] = "bank".into();
    assert_eq!(post(&shop, "/api/v2/spans", &[JSON], mixed.to_string()).await.0, 403);
    assert_eq!(accepted(&collector, "otlp_traces"), 2);
    assert_eq!(collector.status().counted.refused.get("otlp_traces"), Some(&2));
    assert_eq!(denied(&scene), ["bank", "bank"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_write_spans_is_understood_but_thrift() {
    let scene = Scene::new();
    let collector = collector(&scene);
    let shop = scene.caller(http(&collector), Some(&scene.agent("shop")));
    // ListOfSpans{Span{trace_id, id, local_endpoint{service_name}}}
    let list = b"\x0a\x1c\x0a\x08abcdefgh\x1a\x08ijklmnop\x42\x06\x0a\x04shop";
    let list = Bytes::from_static(list);
    assert_eq!(post(&shop, "/api/v2/spans", &[PROTOBUF], list).await.0, 202);
    let old = json!([{ "traceId": "a", "id": "b", "name": "get", "annotations": [
        { "timestamp": now_us(), "value": "sr", "endpoint": { "serviceName": "shop" } }] }]);
    assert_eq!(post(&shop, "/api/v1/spans", &[JSON], old.to_string()).await.0, 202);
    let mut bank = old.clone();
    bank[0]["annotations"][0]["endpoint"]["serviceName"] = "bank".into();
    assert_eq!(post(&shop, "/api/v1/spans", &[JSON], bank.to_string()).await.0, 403);

    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(spans("shop").to_string().as_bytes()).expect("memory");
    let packed = packed.finish().expect("memory");
    let gzip = [JSON, ("content-encoding", "gzip")];
    assert_eq!(post(&shop, "/api/v2/spans", &gzip, packed).await.0, 202);
    assert_eq!(accepted(&collector, "otlp_traces"), 4);

    for (path, kind) in [
        ("/api/v1/spans", "application/x-thrift"),
        ("/api/v2/spans", "application/x-thrift"),
        ("/api/v1/spans", "application/x-protobuf"),
    ] {
        let (status, said) = post(&shop, path, &[("content-type", kind)], "x").await;
        assert_eq!(status, 415, "{path} {kind}");
        assert!(said.contains("/api/v2/spans"), "what to do: {said}");
    }
    for (path, body, place) in [
        ("/api/v2/spans", "[{\"id\":\"1\"}]", "Span.traceId"),
        ("/api/v2/spans", "[{\"traceId\":\"1\",\"id\":\"1\"}]", "names no service"),
        ("/api/v1/spans", "[1]", "Span"),
        ("/telegraf", "{\"name\":\"cpu\"}", "Metric.timestamp"),
    ] {
        let (status, said) = post(&shop, path, &[JSON], body).await;
        assert_eq!(status, 400, "{said}");
        assert!(said.contains(place), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_of_telegraf_are_those_of_its_host() {
    let scene = Scene::new();
    let collector = collector(&scene);
    let host = scene.caller(http(&collector), Some(&scene.agent("web-1")));
    let (status, said) = post(&host, "/telegraf", &[JSON], telegraf("web-1").to_string()).await;
    assert_eq!((status, &*said), (200, "{}"));
    let one = telegraf("web-1")["metrics"][0].to_string();
    assert_eq!(post(&host, "/telegraf", &[JSON], one).await.0, 200);
    let reader = collector.keep().expect("it keeps").reader();
    let wanted = MetricQuery { service: Some("web-1".to_owned()), ..MetricQuery::default() };
    let series = reader.metrics(&wanted).expect("read");
    assert_eq!((series.len(), &*series[0].name), (1, "cpu_usage_user"));
    assert_eq!(series[0].latest().map(|(_, value)| value), Some(12.5));

    let (status, said) = post(&host, "/telegraf", &[JSON], telegraf("web-2").to_string()).await;
    assert_eq!(status, 403);
    assert!(said.contains("wrong-identity") && said.contains("web-2"), "{said}");
    assert_eq!(
        (denied(&scene), accepted(&collector, "otlp_metrics")),
        (vec!["web-2".to_owned()], 2)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_gets_its_id_back_whatever_comes_of_it() {
    let scene = Scene::new();
    let mut plan = scene.plan("collector", Mode::Mtls, scene.keep("collector"));
    plan.desk.authentication = Some("open sesame".into());
    let collector = scene.start(plan);
    let service = "aws-cloudwatch-123456789012";
    let stream = scene.caller(http(&collector), Some(&scene.agent(service)));
    let key = ("x-amz-firehose-access-key", "open sesame");
    let id = ("x-amz-firehose-request-id", "of-the-header");
    let path = "/aws/firehose/metrics";
    let answer = |(status, said): (u16, String)| {
        let said: Value = serde_json::from_str(&said).expect("JSON");
        assert!(said["timestamp"].as_i64().is_some_and(|at| at > 1_700_000_000_000), "{said}");
        let fault = said["errorMessage"].as_str().unwrap_or_default().to_owned();
        (status, said["requestId"].as_str().expect("always").to_owned(), fault)
    };
    let own = firehose("123456789012").to_string();
    let taken = answer(post(&stream, path, &[JSON, key, id], own.clone()).await);
    assert_eq!(taken, (200, "ed4acda5-034f-9f42".to_owned(), String::new()));
    let reader = collector.keep().expect("it keeps").reader();
    let names = reader.metric_names(service).expect("read");
    assert_eq!(names[0].name, "amazonaws.com/AWS/S3/BucketSizeBytes");

    let other = firehose("210987654321").to_string();
    let (status, request, fault) = answer(post(&stream, path, &[JSON, key, id], other).await);
    assert_eq!((status, &*request), (403, "ed4acda5-034f-9f42"));
    assert!(fault.contains("wrong-identity"), "{fault}");
    assert_eq!(denied(&scene), ["aws-cloudwatch-210987654321"]);

    for key in [("x-amz-firehose-access-key", "sesame"), ("x-other", "")] {
        let (status, request, fault) =
            answer(post(&stream, path, &[JSON, key, id], own.clone()).await);
        assert_eq!((status, &*request), (401, "of-the-header"));
        assert!(fault.contains("access key") && !fault.contains("sesame"), "{fault}");
    }
    let broken = "{\"requestId\":\"r\",\"records\":[{\"data\":\"*\"}]}";
    let (status, request, fault) = answer(post(&stream, path, &[JSON, key, id], broken).await);
    assert_eq!((status, &*request), (400, "r"));
    assert!(fault.contains("Record.data"), "{fault}");
    let kind = ("content-type", "application/x-protobuf");
    assert_eq!(answer(post(&stream, path, &[kind, key, id], own).await).0, 415);
    assert_eq!(accepted(&collector, "otlp_metrics"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_posted_goes_on_to_a_backend_in_opentelemetrys_words() {
    let scene = Scene::new();
    let backend = Backend::start(|_| TAKEN).await;
    let upstream = Scene::plain_upstream(&[backend.address]);
    // To an OAP it goes over the same methods.
    for output in [scene.forward_otlp(upstream.clone()), scene.forward(upstream)] {
        let before = backend.asked("TraceService/Export") + backend.asked("MetricsService/Export");
        let first = scene.start(scene.plan("first", Mode::Plaintext, output));
        let to = http(&first);
        for (path, body) in [
            ("/api/v2/spans", spans("shop")),
            ("/telegraf", telegraf("web-1")),
            ("/aws/firehose/metrics", firehose("123456789012")),
        ] {
            let answer = post_plain(to, path, "", body.to_string().as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 20"), "{path}: {answer}");
        }
        until("everything has gone out", || {
            first.status().forward.is_some_and(|it| (it.sent, it.lag_bytes) == (4, 0))
        })
        .await;
        let asked = backend.asked("TraceService/Export") + backend.asked("MetricsService/Export");
        assert!(asked > before, "{asked}");
        first.stop(std::time::Duration::from_secs(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn through_a_relay_it_comes_with_the_relays_identity() {
    let scene = Scene::new();
    let collector = collector(&scene);
    let relay = scene.relay(grpc(&collector), "shop");
    let own = spans("shop").to_string();
    let answer = post_plain(http(&relay), "/api/v2/spans", "", own.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    until("it arrives", || accepted(&collector, "otlp_traces") == 2).await;
    let reporters = collector.census().reporters();
    assert_eq!(reporters[0].identity, "spiffe://shop.example/agent/shop");
    // Of another host than the relay's certificate says: refused there, and set aside here.
    let other = telegraf("web-1").to_string();
    let answer = post_plain(http(&relay), "/telegraf", "", other.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    until("it is set aside", || relay.status().forward.is_some_and(|it| it.set_aside == 1)).await;
    assert_eq!(denied(&scene), ["web-1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn bombs_and_other_methods_are_refused_here_too() {
    let scene = Scene::new();
    let open = scene.start(scene.plan("open", Mode::Plaintext, scene.keep("open")));
    let to = http(&open);
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(&vec![b' '; 60 << 20]).expect("memory");
    let packed = packed.finish().expect("memory");
    for path in ["/api/v1/spans", "/api/v2/spans", "/telegraf", "/aws/firehose/metrics"] {
        let answer = post_plain(to, path, "content-encoding: gzip\r\n", &packed).await;
        assert!(answer.starts_with("HTTP/1.1 413"), "{path}: {answer}");
        let mut socket = TcpStream::connect(to).await.expect("connects");
        let get = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        socket.write_all(get.as_bytes()).await.expect("written");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 405"), "{path}: {answer}");
    }
    let answer = post_plain(to, "/telegraf", "", telegraf("web-1").to_string().as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "others go on: {answer}");
}
