//! What agents of SkyWalking report reaches a backend that speaks OpenTelemetry only, whole.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use handfast_proto::otlp::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use handfast_proto::skywalking::v3::{
    InstancePingPkg, LogData, SegmentObject, SegmentReference, SpanObject,
};
use handfast_telemetry::grpc::Code;
use handfast_telemetry::keep::TraceQuery;
use handfast_telemetry::port::Mode;
use handfast_telemetry::protocol::view::SegmentView;
use handfast_telemetry::rules::{Rule, Rules};
use handfast_telemetry::station::Station;
use prost::Message as _;

use crate::backend::{Answer, Backend, TAKEN};
use crate::support::{Scene, accepted, grpc, plain_caller, report, segment, until};

const TRACE: &str = "56a5e1c519ae4c76a2b8b11d92cead7f.12.16563474296430001";
const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// A shop that calls a bank, each in a segment of two spans.
fn a_purchase() -> [(&'static str, Bytes); 2] {
    let now = handfast_testkit::eventually::now().as_millisecond();
    let span = |span_id, parent_span_id, span_type, operation: &str| SpanObject {
        span_id,
        parent_span_id,
        span_type,
        operation_name: operation.to_owned(),
        start_time: now + i64::from(span_id),
        end_time: now + 50,
        ..SpanObject::default()
    };
    let segment = |service: &'static str, refs, spans: [SpanObject; 2]| {
        let [mut outer, inner] = spans;
        outer.refs = refs;
        let segment = SegmentObject {
            trace_id: TRACE.to_owned(),
            trace_segment_id: format!("{service}-segment"),
            spans: vec![inner, outer],
            service: service.to_owned(),
            service_instance: format!("{service}-1"),
            ..SegmentObject::default()
        };
        (service, Bytes::from(segment.encode_to_vec()))
    };
    let called = SegmentReference {
        trace_id: TRACE.to_owned(),
        parent_trace_segment_id: "shop-segment".to_owned(),
        parent_span_id: 1,
        parent_service: "shop".to_owned(),
        network_address_used_at_peer: "bank:8080".to_owned(),
        ..SegmentReference::default()
    };
    [
        segment("shop", Vec::new(), [span(0, -1, 0, "/buy"), span(1, 0, 1, "/pay")]),
        segment("bank", vec![called], [span(0, -1, 0, "/pay"), span(1, 0, 2, "book")]),
    ]
}

/// A collector that takes whatever the forwarding one has the certificate for.
fn second(scene: &Scene) -> Station {
    let mut plan = scene.plan("second", Mode::Mtls, scene.keep("second"));
    plan.desk.rules = Rules {
        rules: vec![Rule {
            identity: "/agent/forwarder".parse().expect("a pattern"),
            services: vec!["*".parse().expect("a pattern")],
            instances: Vec::new(),
        }],
    };
    scene.start(plan)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_of_two_services_is_read_back_whole_behind_a_forwarder_that_speaks_otlp() {
    let scene = Scene::new();
    let second = second(&scene);
    let upstream = scene.upstream_plan(grpc(&second), Some(&scene.agent("forwarder")));
    let first = scene.start(scene.plan("first", Mode::Mtls, scene.forward_otlp(upstream)));
    for (service, segment) in a_purchase() {
        let agent = scene.caller(grpc(&first), Some(&scene.agent(service)));
        report(&agent, &[segment]).await.expect("accepted");
    }
    let shop = scene.caller(grpc(&first), Some(&scene.agent("shop")));
    let log = LogData { service: "shop".to_owned(), ..LogData::default() };
    let log = Bytes::from(log.encode_to_vec());
    shop.call("/skywalking.v3.LogReportService/collect", &[log]).await.expect("accepted");
    let ping = InstancePingPkg { service: "shop".to_owned(), ..InstancePingPkg::default() };
    let ping = Bytes::from(ping.encode_to_vec());
    shop.call("/skywalking.v3.ManagementService/keepAlive", &[ping]).await.expect("accepted");

    until("everything has gone out", || {
        let forward = first.status().forward.expect("it forwards");
        (forward.sent, forward.lag_bytes) == (3, 0) && forward.not_forwarded.len() == 1
    })
    .await;
    let not_forwarded = first.status().forward.expect("it forwards").not_forwarded;
    assert_eq!(not_forwarded, BTreeMap::from([("instance_ping", 1)]));
    assert_eq!((accepted(&second, "otlp_traces"), accepted(&second, "otlp_logs")), (2, 1));
    assert_eq!(first.status().forward.map(|forward| forward.set_aside), Some(0));

    let reader = second.keep().expect("it keeps").reader();
    let wanted = TraceQuery {
        tags: vec![("sw8.trace_id".to_owned(), TRACE.to_owned())],
        ..TraceQuery::default()
    };
    let found = reader.traces(&wanted).expect("read");
    assert_eq!(found.len(), 1, "the agents' own id finds it, and it is one trace: {found:?}");
    assert_eq!((found[0].segments, found[0].spans), (2, 4));
    assert_eq!((&*found[0].service, &*found[0].endpoint), ("shop", "/buy"));
    let trace = reader.trace(&found[0].trace_id).expect("read");
    assert_eq!(shape(&trace), "shop /buy > shop /pay > bank /pay > bank book");
}

/// The spans of a trace from its root on, each below the one before.
fn shape(trace: &[SegmentView]) -> String {
    let spans = trace.iter().flat_map(|part| part.spans.iter().map(move |span| (part, span)));
    let below: BTreeMap<Option<String>, (String, String)> = spans
        .map(|(part, span)| {
            let called = format!("{} {}", part.service, span.operation);
            (span.parent.clone(), (span.id.clone(), called))
        })
        .collect();
    let (mut at, mut line) = (None, Vec::new());
    while let Some((id, called)) = below.get(&at) {
        line.push(called.clone());
        at = Some(id.clone());
    }
    line.join(" > ")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_in_otlp_goes_out_as_it_came_and_agents_are_answered() {
    let scene = Scene::new();
    let backend = Backend::start(|_| TAKEN).await;
    let first = scene.start(scene.plan(
        "first",
        Mode::Plaintext,
        scene.forward_otlp(Scene::plain_upstream(&[backend.address])),
    ));
    let agent = plain_caller(grpc(&first));
    let resource =
        Bytes::from_static(b"\x0a\x16\x0a\x14\x0a\x0cservice.name\x12\x04\x0a\x02xy\xba\x06\x01z");
    let mut request = vec![0x0a, u8::try_from(resource.len()).expect("short")];
    request.extend_from_slice(&resource);
    let request = Bytes::from(request);
    agent.call(EXPORT, std::slice::from_ref(&request)).await.expect("accepted");
    until("it has arrived", || backend.asked("Export") == 1).await;
    assert_eq!(backend.each(|call| call.messages.clone()), [vec![request]]);

    // There is nobody behind who could give tasks.
    let question = Bytes::from_static(b"\x0a\x04shop\x12\x06shop-1");
    let tasks = "/skywalking.v3.ProfileTask/getProfileTaskCommands";
    assert!(agent.call(tasks, &[question]).await.expect("answered").is_empty());
    let refused = agent.call("/skywalking.v99.New/method", &[Bytes::new()]).await;
    assert_eq!(refused.expect_err("unknown").code, Code::Unimplemented);
    let profiles = "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export";
    agent.call(profiles, &[Bytes::new()]).await.expect("passed on");
    assert_eq!(backend.asked(profiles), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_backend_leaves_out_of_a_request_is_counted_and_not_sent_again() {
    let scene = Scene::new();
    let backend = Backend::start(|_| {
        let rejected =
            ExportTracePartialSuccess { rejected_spans: 2, error_message: "too old".to_owned() };
        let answer = ExportTraceServiceResponse { partial_success: Some(rejected) };
        Answer::Taken(answer.encode_to_vec().into())
    })
    .await;
    let first = scene.start(scene.plan(
        "first",
        Mode::Plaintext,
        scene.forward_otlp(Scene::plain_upstream(&[backend.address])),
    ));
    let agent = plain_caller(grpc(&first));
    report(&agent, &[segment("shop", "1"), segment("shop", "2")]).await.expect("accepted");
    until("it was answered", || first.status().forward.is_some_and(|it| it.rejected > 0)).await;
    until("it is done", || first.status().forward.is_some_and(|it| it.lag_bytes == 0)).await;
    let forward = first.status().forward.expect("it forwards");
    assert_eq!((forward.sent, forward.set_aside), (2, 0));
    let spans: Vec<_> = backend
        .each(|call| {
            ExportTraceServiceRequest::decode(call.messages[0].clone()).expect("a request")
        })
        .into_iter()
        .flat_map(|request| request.resource_spans)
        .flat_map(|resource| resource.scope_spans)
        .flat_map(|scope| scope.spans)
        .map(|span| span.span_id)
        .collect();
    assert_eq!(spans.len(), 2);
    assert_eq!(spans.iter().collect::<BTreeSet<_>>().len(), 2, "each was sent once");
}
