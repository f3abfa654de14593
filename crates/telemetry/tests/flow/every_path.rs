//! Every path that agents post to, in each way in which they write: enums by name and by number, what is long as a number and
//! as text.

use bytes::Bytes;
use handfast_proto::otlp::collector::trace::v1::ExportTraceServiceRequest;
use handfast_telemetry::port::Mode;
use handfast_telemetry::protocol::json::Endpoint;
use prost::Message as _;
use serde_json::{Value, json};

use crate::posting::post;
use crate::support::{Scene, accepted, http};

/// What is posted at each path for a service, in every spelling; and what it is counted as.
fn posted(service: &str) -> Vec<(&'static str, &'static str, Vec<Value>)> {
    let span = |kind: Value, layer: Value, ref_type: Value, time: Value| {
        json!({ "spanId": 0, "parentSpanId": -1, "startTime": time, "endTime": time, "operationName": "/",
            "spanType": kind, "spanLayer": layer, "refs": [{ "refType": ref_type, "traceId": "t" }] })
    };
    let now = handfast_testkit::eventually::now().as_millisecond();
    let segment = |id: &str, span: Value| json!({ "traceId": "t", "traceSegmentId": id, "service": service, "serviceInstance": "i", "spans": [span] });
    let named =
        |id| segment(id, span("Exit".into(), "Http".into(), "CrossThread".into(), now.into()));
    let numbered = |id| segment(id, span(1.into(), 3.into(), 1.into(), now.to_string().into()));
    let event = |kind: Value| json!({ "uuid": "u", "source": { "service": service }, "type": kind, "startTime": now });
    let error = |category: Value| json!({ "service": service, "category": category, "time": now });
    let of = || json!({ "service": service });
    let otlp = |inner: &str, data: Value| {
        let attributes = json!([{ "key": "service.name", "value": { "stringValue": service } }]);
        json!({ format!("resource{inner}"): [{ "resource": { "attributes": attributes }, format!("scope{inner}"): [data] }] })
    };
    let kind = |kind: Value| json!({ "spans": [{ "traceId": "00".repeat(15) + "01", "spanId": "0000000000000001", "kind": kind }] });
    let severity = |number: Value| json!({ "logRecords": [{ "severityNumber": number, "timeUnixNano": "5" }] });
    let sum = |temporality: Value| {
        let points = json!([{ "asInt": "7", "timeUnixNano": 5 }]);
        json!({ "metrics": [{ "name": "m", "sum": { "aggregationTemporality": temporality, "dataPoints": points } }] })
    };
    vec![
        ("/v3/segments", "segment", vec![json!([named("1"), numbered("2")])]),
        ("/v3/segment", "segment", vec![named("3"), numbered("4")]),
        (
            "/v3/logs",
            "log",
            vec![
                json!([{ "service": service, "timestamp": now.to_string() }]),
                json!([{ "service": service, "timestamp": now }]),
            ],
        ),
        ("/v3/events", "event", vec![json!([event("Error".into()), event(1.into())])]),
        ("/v3/management/reportProperties", "instance_properties", vec![of()]),
        ("/v3/management/keepAlive", "instance_ping", vec![of()]),
        ("/browser/perfData", "browser_perf", vec![of()]),
        ("/browser/perfData/webVitals", "browser_web_vitals", vec![of()]),
        ("/browser/perfData/resources", "browser_resource_perf", vec![json!([of()])]),
        ("/browser/perfData/webInteractions", "browser_web_interaction", vec![of()]),
        ("/browser/errorLog", "browser_error_log", vec![error("js".into()), error(4.into())]),
        (
            "/browser/errorLogs",
            "browser_error_log",
            vec![json!([error("js".into()), error(4.into())])],
        ),
        (
            "/v1/traces",
            "otlp_traces",
            vec![otlp("Spans", kind("SPAN_KIND_SERVER".into())), otlp("Spans", kind(2.into()))],
        ),
        (
            "/v1/metrics",
            "otlp_metrics",
            vec![
                otlp("Metrics", sum("AGGREGATION_TEMPORALITY_DELTA".into())),
                otlp("Metrics", sum(1.into())),
            ],
        ),
        (
            "/v1/logs",
            "otlp_logs",
            vec![
                otlp("Logs", severity("SEVERITY_NUMBER_WARN".into())),
                otlp("Logs", severity(13.into())),
            ],
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_path_is_taken_for_its_own_service_and_refused_for_anothers() {
    let scene = Scene::new();
    let collector = scene.collector(Mode::Mtls);
    let shop = scene.caller(http(&collector), Some(&scene.agent("shop")));
    let json = [("content-type", "application/json")];
    let own = posted("shop");
    assert_eq!(own.len(), Endpoint::all().count(), "none is forgotten");
    for ((path, kind, bodies), (_, _, others)) in own.into_iter().zip(posted("bank")) {
        for body in bodies {
            let records = body.as_array().map_or(1, Vec::len) as u64;
            let before = accepted(&collector, kind);
            let answer = post(&shop, path, &json, body.to_string()).await;
            assert_eq!(answer, (200, "{}".to_owned()), "{path} {body}");
            assert_eq!(accepted(&collector, kind), before + records, "{path} {body}");
        }
        let before = accepted(&collector, kind);
        for body in others {
            let (status, said) = post(&shop, path, &json, body.to_string()).await;
            assert_eq!(
                (status, said.contains("may-report-as=shop")),
                (403, true),
                "{path}: {said}"
            );
        }
        assert_eq!(accepted(&collector, kind), before);
    }
    // In either spelling it is the same.
    let reader = collector.keep().expect("it keeps").reader();
    let spans = reader.trace("t").expect("read");
    assert_eq!(spans.len(), 4);
    for part in &spans {
        let span = &part.spans[0];
        assert_eq!((span.kind.as_str(), span.layer.as_str()), ("Exit", "Http"));
        assert!(span.refs[0].same_process);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exports_in_protobuf_are_answered_in_protobuf() {
    let scene = Scene::new();
    let collector = scene.collector(Mode::Mtls);
    let shop = scene.caller(http(&collector), Some(&scene.agent("shop")));
    let body = posted("shop").remove(12).2.remove(0).to_string();
    let records = Endpoint::at("/v1/traces").expect("known").read(body.as_bytes()).expect("read");
    let mut request = ExportTraceServiceRequest::default().encode_to_vec();
    request.extend([0x0a, u8::try_from(records[0].len()).expect("short")]);
    request.extend_from_slice(&records[0]);
    let kind = [("content-type", "application/x-protobuf")];
    let answer = post(&shop, "/v1/traces", &kind, Bytes::from(request)).await;
    assert_eq!(answer, (200, String::new()));
    assert_eq!(accepted(&collector, "otlp_traces"), 1);
}
