//! Rule: an agent reports as its own service and as nobody else.

use bytes::Bytes;
use handfast_proto::otlp::collector::trace::v1::ExportTraceServiceRequest;
use handfast_proto::otlp::common::v1::{AnyValue, KeyValue, any_value};
use handfast_proto::otlp::resource::v1::Resource;
use handfast_proto::otlp::trace::v1::ResourceSpans;
use handfast_proto::skywalking::v3::{MeterData, MeterSingleValue, meter_data};
use handfast_telemetry::caller::Transport;
use handfast_telemetry::grpc::Code;
use handfast_telemetry::port::Mode;
use handfast_telemetry::quota::Quota;
use handfast_telemetry::rules::{Rule, Rules};
use handfast_telemetry::upstream::Authentication;
use prost::Message as _;

use crate::support::{Scene, accepted, grpc, plain_caller, report, segment};

#[tokio::test(flavor = "multi_thread")]
async fn who_speaks_for_another_is_refused_counted_and_put_on_record() {
    let scene = Scene::new();
    let collector = scene.collector(Mode::Mtls);
    let shop = scene.caller(grpc(&collector), Some(&scene.agent("shop")));
    report(&shop, &[segment("shop", "1")]).await.expect("its own");
    let refused = report(&shop, &[segment("bank", "2")]).await.expect_err("not its own");
    assert_eq!(refused.code, Code::PermissionDenied);
    for part in ["wrong-identity", "bank", "spiffe://shop.example/agent/shop", "identities"] {
        assert!(refused.message.contains(part), "{part}: {}", refused.message);
    }
    assert_eq!(accepted(&collector, "segment"), 1);
    assert_eq!(collector.status().counted.refused.get("segment"), Some(&1));
    let denials = scene.denials.lock().expect("no panic");
    assert_eq!(denials.len(), 1);
    assert_eq!(
        (&*denials[0].service, &*denials[0].caller),
        ("bank", "spiffe://shop.example/agent/shop")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_judges_and_twins_without_a_package_are_the_same_method() {
    let scene = Scene::new();
    let collector = scene.collector(Mode::Mtls);
    let shop = scene.caller(grpc(&collector), Some(&scene.agent("shop")));
    // Fields 1..3 all say "bank": whichever the method looks at.
    let bank = b"\x0a\x04bank\x12\x04bank\x1a\x04bank\x22\x04bank";
    for path in [
        "/skywalking.v3.ManagementService/keepAlive",
        "/ManagementService/keepAlive",
        "/skywalking.v3.ManagementService/reportInstanceProperties",
        "/skywalking.v3.JVMMetricReportService/collect",
        "/JVMMetricReportService/collect",
        "/skywalking.v3.CLRMetricReportService/collect",
        "/skywalking.v3.LogReportService/collect",
        "/skywalking.v3.MeterReportService/collect",
        "/MeterReportService/collect",
        "/TraceSegmentReportService/collect",
        "/skywalking.v3.ProfileTask/getProfileTaskCommands",
        "/skywalking.v3.ProfileTask/reportTaskFinish",
        "/skywalking.v3.ConfigurationDiscoveryService/fetchConfigurations",
        "/skywalking.v10.PprofTask/getPprofTaskCommands",
        "/skywalking.v3.BrowserPerfService/collectErrorLogs",
    ] {
        let refused = shop.call(path, &[Bytes::from_static(bank)]).await.expect_err(path);
        assert_eq!(refused.code, Code::PermissionDenied, "{path}: {refused}");
    }
    // The requests of all signals have the same outside.
    let otlp = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource {
                attributes: vec![KeyValue {
                    key: "service.name".to_owned(),
                    value: Some(AnyValue {
                        value: Some(any_value::Value::StringValue("bank".to_owned())),
                    }),
                }],
                ..Default::default()
            }),
            ..Default::default()
        }],
    };
    let otlp = Bytes::from(otlp.encode_to_vec());
    for signal in ["trace.v1.TraceService", "metrics.v1.MetricsService", "logs.v1.LogsService"] {
        let path = format!("/opentelemetry.proto.collector.{signal}/Export");
        let refused = shop.call(&path, std::slice::from_ref(&otlp)).await.expect_err(signal);
        assert_eq!(refused.code, Code::PermissionDenied, "{signal}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_or_an_operator_is_no_agent() {
    let scene = Scene::new();
    let collector = scene.collector(Mode::Mtls);
    let site = scene.caller(grpc(&collector), Some(&scene.authority.client("shop")));
    let refused = report(&site, &[segment("shop", "1")]).await.expect_err("a site");
    assert_eq!(refused.code, Code::PermissionDenied, "{refused}");
    let refused = site.call("/some.Unknown/call", &[Bytes::new()]).await.expect_err("a site");
    assert_eq!(refused.code, Code::PermissionDenied, "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_binds_a_relay_to_several_services() {
    let scene = Scene::new();
    let mut plan = scene.plan("collector", Mode::Mtls, scene.keep("collector"));
    plan.desk.rules = Rules {
        rules: vec![Rule {
            identity: "/agent/relay".parse().expect("a pattern"),
            services: vec!["shop".parse().expect("a pattern"), "pay-*".parse().expect("a pattern")],
            instances: Vec::new(),
        }],
    };
    let collector = scene.start(plan);
    let relay = scene.caller(grpc(&collector), Some(&scene.agent("relay")));
    let segments = [segment("shop", "1"), segment("pay-cards", "2")];
    report(&relay, &segments).await.expect("both are its own");
    report(&relay, &[segment("bank", "3")]).await.expect_err("not its own");
    assert_eq!(accepted(&collector, "segment"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn later_meters_of_a_stream_are_those_of_the_first_and_every_record_says_so() {
    let scene = Scene::new();
    let collector = scene.collector(Mode::Mtls);
    let shop = scene.caller(grpc(&collector), Some(&scene.agent("shop")));
    let meter = |service: &str, name: &str| {
        let value = MeterSingleValue { name: name.to_owned(), value: 1.0, ..Default::default() };
        let meter = MeterData {
            metric: Some(meter_data::Metric::SingleValue(value)),
            service: service.to_owned(),
            service_instance: service.to_owned(),
            timestamp: 1,
        };
        Bytes::from(meter.encode_to_vec())
    };
    let path = "/skywalking.v3.MeterReportService/collect";
    shop.call(path, &[meter("shop", "a"), meter("", "b"), meter("", "c")]).await.expect("its own");
    assert_eq!(accepted(&collector, "meter"), 3);
    let refused = shop.call(path, &[meter("", "a")]).await.expect_err("names nobody");
    assert_eq!(refused.code, Code::InvalidArgument, "{refused}");
    let refused = shop.call(path, &[meter("shop", "a"), meter("bank", "b")]).await;
    assert_eq!(refused.expect_err("switches").code, Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_permissive_port_everybody_comes_in_as_what_they_are() {
    let scene = Scene::new();
    let collector = scene.collector(Mode::Permissive);
    let to = grpc(&collector);
    report(&plain_caller(to), &[segment("plain", "1")]).await.expect("plaintext");
    report(&scene.caller(to, None), &[segment("oneway", "2")]).await.expect("TLS");
    report(&scene.caller(to, Some(&scene.agent("both"))), &[segment("both", "3")])
        .await
        .expect("mutual TLS");
    let seen: Vec<_> = collector
        .census()
        .reporters()
        .into_iter()
        .map(|reporter| (reporter.service, reporter.transport))
        .collect();
    let expected = [
        ("both".to_owned(), Transport::Mtls),
        ("oneway".to_owned(), Transport::Tls),
        ("plain".to_owned(), Transport::Plaintext),
    ];
    assert_eq!(seen, expected);
    let shut_out = collector.census().outlook(Mode::Mtls);
    let shut_out: Vec<_> =
        shut_out.iter().filter(|o| o.needs.is_some()).map(|o| &*o.reporter.service).collect();
    assert_eq!(shut_out, ["oneway", "plain"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_refused_and_others_are_not() {
    let scene = Scene::new();
    let mut plan = scene.plan("collector", Mode::Mtls, scene.keep("collector"));
    plan.desk.quota = Quota { messages_per_second: 100, ..Quota::default() };
    let collector = scene.start(plan);
    let flood = scene.caller(grpc(&collector), Some(&scene.agent("shop")));
    let other = scene.caller(grpc(&collector), Some(&scene.agent("bank")));
    let segments: Vec<_> = (0..1000).map(|n| segment("shop", &n.to_string())).collect();
    let refused = report(&flood, &segments).await.expect_err("ten seconds' worth at once");
    assert_eq!(refused.code, Code::ResourceExhausted, "{refused}");
    assert!(refused.message.contains("quota"), "{refused}");
    report(&other, &[segment("bank", "b")]).await.expect("has a quota of its own");
    assert!(collector.status().counted.over_quota > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_asked_for_on_every_call_and_compared() {
    let scene = Scene::new();
    let mut plan = scene.plan("collector", Mode::Permissive, scene.keep("collector"));
    plan.desk.authentication = Some("open sesame".into());
    let collector = scene.start(plan);
    let mut upstream = scene.upstream_plan(grpc(&collector), None);
    let without = scene.caller(grpc(&collector), None);
    for path in ["/skywalking.v3.TraceSegmentReportService/collect", "/x.Unknown/y"] {
        let refused = without.call(path, &[segment("shop", "1")]).await.expect_err("no token");
        assert_eq!(refused.code, Code::PermissionDenied);
        assert!(!refused.message.contains("sesame"), "the token is not told");
    }
    for wrong in [Authentication::token("open"), Authentication::bearer("Bearer")] {
        upstream.authentication = wrong;
        without.set(upstream.clone());
        report(&without, &[segment("shop", "1")]).await.expect_err("another token");
    }
    // As agents of SkyWalking bring it, and as clients of OpenTelemetry do.
    for right in [Authentication::token("open sesame"), Authentication::bearer("open sesame")] {
        upstream.authentication = right;
        without.set(upstream.clone());
        report(&without, &[segment("shop", "1")]).await.expect("the right token");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_ca_that_is_trusted_cannot_speak_for_our_agents() {
    let scene = Scene::new();
    // The same trust domain in its certificates, but a CA of its own.
    let other = handfast_testkit::authority::TestAuthority::new(
        "shop.example",
        handfast_testkit::eventually::now(),
    );
    let mut plan = scene.plan("collector", Mode::Mtls, scene.keep("collector"));
    scene.trust_too(&mut plan, &other);
    plan.desk.rules = Rules {
        rules: vec![Rule {
            identity: "cn:shop".parse().expect("a pattern"),
            services: vec!["guest".parse().expect("a pattern")],
            instances: Vec::new(),
        }],
    };
    let collector = scene.start(plan);
    let identity = other.identity(handfast_pki::IdentityKind::Agent, "shop");
    let subject = handfast_pki::Subject::new("shop").with_identity(identity);
    let forged = other.issue(handfast_pki::Profile::Agent, subject);
    let forger = scene.caller(grpc(&collector), Some(&forged));
    let refused = report(&forger, &[segment("shop", "1")]).await.expect_err("not our agent");
    assert_eq!(refused.code, Code::PermissionDenied, "{refused}");
    report(&forger, &[segment("guest", "2")]).await.expect("bound by its own name");
    let ours = scene.caller(grpc(&collector), Some(&scene.agent("shop")));
    report(&ours, &[segment("shop", "3")]).await.expect("our agent");
}
