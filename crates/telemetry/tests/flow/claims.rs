//! Rule: an agent reports as its own service and as nobody else.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use handfast_pki::{IdentityKind, Profile, Subject};
use handfast_proto::otlp::collector::trace::v1::ExportTraceServiceRequest;
use handfast_proto::otlp::common::v1::{AnyValue, KeyValue, any_value};
use handfast_proto::otlp::resource::v1::Resource;
use handfast_proto::otlp::trace::v1::ResourceSpans;
use handfast_proto::skywalking::v3::{MeterData, MeterSingleValue, SegmentObject, meter_data};
use handfast_telemetry::caller::Transport;
use handfast_telemetry::grpc::Code;
use handfast_telemetry::port::Mode;
use handfast_telemetry::quota::Quota;
use handfast_telemetry::rules::{Rule, Rules};
use handfast_telemetry::upstream::Authentication;
use prost::Message as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{Scene, accepted, clock, grpc, http, plain_caller, report, segment};

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
async fn whoever_of_us_is_no_agent_may_not_report() {
    let scene = Scene::new();
    let collector = scene.collector(Mode::Mtls);
    for (kind, profile) in [
        (IdentityKind::Site, Profile::LinkClient),
        (IdentityKind::Operator, Profile::Operator),
        (IdentityKind::Component, Profile::Component),
    ] {
        let identity = scene.authority.identity(kind, "shop");
        let subject = Subject::new("shop").with_identity(identity);
        let credential = scene.authority.issue(profile, subject);
        let other = scene.caller(grpc(&collector), Some(&credential));
        let refused = report(&other, &[segment("shop", "1")]).await.expect_err("no agent");
        assert_eq!(refused.code, Code::PermissionDenied, "{profile}: {refused}");
        let refused = other.call("/some.Unknown/call", &[Bytes::new()]).await;
        let refused = refused.expect_err("no agent");
        assert_eq!(refused.code, Code::PermissionDenied, "{profile}: {refused}");
    }
    assert_eq!(accepted(&collector, "segment"), 0);
}

/// Our authority puts an identity into everything that a client may show. Where the same CA signs for others too, what
/// they show is treated like the certificate of another CA: it reports as nobody, unless a rule says whom its name is for.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_our_ca_without_an_identity_is_nobody_until_a_rule_names_it() {
    let scene = Scene::new();
    let nameless = scene.authority.leaf("shop").without_identity().build();
    let mut plan = scene.plan("collector", Mode::Mtls, scene.keep("collector"));
    let mut collector = scene.start(plan.clone());
    let caller = scene.caller(grpc(&collector), Some(&nameless));
    let refused = report(&caller, &[segment("shop", "1")]).await.expect_err("no identity");
    assert_eq!(refused.code, Code::PermissionDenied, "{refused}");
    let refused = caller.call("/some.Unknown/call", &[Bytes::new()]).await;
    assert_eq!(refused.expect_err("no identity").code, Code::PermissionDenied);

    plan.desk.rules = Rules {
        rules: vec![
            Rule {
                identity: "/agent/*".parse().expect("a pattern"),
                services: vec!["shop".parse().expect("a pattern")],
                instances: Vec::new(),
            },
            Rule {
                identity: "cn:shop".parse().expect("a pattern"),
                services: vec!["guest".parse().expect("a pattern")],
                instances: Vec::new(),
            },
        ],
    };
    assert!(collector.apply(plan).is_empty());
    let refused = report(&caller, &[segment("shop", "2")]).await.expect_err("only what it says");
    assert_eq!(refused.code, Code::PermissionDenied, "{refused}");
    report(&caller, &[segment("guest", "3")]).await.expect("the rule names it");
    // An agent of ours has the same common name, and the rule about names is not about it.
    let ours = scene.caller(grpc(&collector), Some(&scene.agent("shop")));
    let refused =
        report(&ours, &[segment("guest", "4")]).await.expect_err("an identity is no name");
    assert_eq!(refused.code, Code::PermissionDenied, "{refused}");
    report(&ours, &[segment("shop", "5")]).await.expect("its own");
    assert_eq!(accepted(&collector, "segment"), 2);
}

/// A segment of an instance.
fn segment_of(service: &str, instance: &str, id: &str) -> Bytes {
    let mut segment = SegmentObject::decode(segment(service, id)).expect("a segment");
    instance.clone_into(&mut segment.service_instance);
    segment.encode_to_vec().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_binds_to_instances_and_a_stream_may_not_change_to_another() {
    let scene = Scene::new();
    let mut plan = scene.plan("collector", Mode::Mtls, scene.keep("collector"));
    plan.desk.rules = Rules {
        rules: vec![Rule {
            identity: "/agent/shop".parse().expect("a pattern"),
            services: vec!["shop".parse().expect("a pattern")],
            instances: vec!["*@east".parse().expect("a pattern")],
        }],
    };
    let collector = scene.start(plan);
    let shop = scene.caller(grpc(&collector), Some(&scene.agent("shop")));
    let both = [segment_of("shop", "a@east", "1"), segment_of("shop", "b@east", "2")];
    report(&shop, &both).await.expect("both are of the east");
    let refused = report(&shop, &[segment_of("shop", "a@west", "3")]).await;
    let refused = refused.expect_err("not of the east");
    assert_eq!(refused.code, Code::PermissionDenied);
    assert!(refused.message.contains("a@west"), "{refused}");

    // Within a stream the instance is looked at each time, not only where it begins.
    let switch = [segment_of("shop", "a@east", "4"), segment_of("shop", "a@west", "5")];
    let refused = report(&shop, &switch).await.expect_err("it has changed to the west");
    assert_eq!(refused.code, Code::PermissionDenied, "{refused}");
    let back = [
        segment_of("shop", "a@east", "6"),
        segment_of("shop", "a@west", "7"),
        segment_of("shop", "a@east", "8"),
    ];
    report(&shop, &back).await.expect_err("and back does not help");
    assert_eq!(collector.status().counted.refused.get("segment"), Some(&3));
    let denied: Vec<String> = {
        let denials = scene.denials.lock().expect("no panic");
        denials.iter().map(|denial| denial.instance.clone()).collect()
    };
    assert_eq!(denied, ["a@west"; 3]);
    let instances: Vec<String> =
        collector.census().reporters().into_iter().map(|one| one.instance).collect();
    assert_eq!(instances, ["a@east", "b@east"], "whoever was refused was not heard");
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

/// Posts a segment of a service over HTTP/1.1; the first line of the answer.
async fn posted(mut stream: impl AsyncRead + AsyncWrite + Unpin, service: &str) -> String {
    let body = format!(
        "[{{\"traceId\":\"t-{service}\",\"traceSegmentId\":\"s-{service}\",\"service\":\"{service}\",\
         \"serviceInstance\":\"{service}-1\",\"spans\":[]}}]"
    );
    let head = format!(
        "POST /v3/segments HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.expect("written");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("an answer");
    let answer = String::from_utf8(answer).expect("text");
    answer.lines().next().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permissive_port_for_http_takes_all_three_and_binds_whoever_has_a_certificate() {
    let scene = Scene::new();
    let collector = scene.collector(Mode::Permissive);
    let to = http(&collector);
    let secured = async |credential: Option<&handfast_pki::Credential>| {
        let options = handfast_tls::ClientOptions {
            alpn: vec![b"http/1.1".to_vec()],
            ..handfast_tls::ClientOptions::default()
        };
        let config = handfast_tls::client_config(credential, &scene.authority.anchors(), &options);
        let config = config.expect("a configuration");
        let socket = TcpStream::connect(to).await.expect("connects");
        let attempt = handfast_tls::Attempt::client("localhost", clock()());
        let limit = Duration::from_secs(20);
        handfast_tls::connect(socket, config, "localhost", attempt, limit).await.expect("let in")
    };
    let socket = TcpStream::connect(to).await.expect("connects");
    assert!(posted(socket, "plain").await.contains(" 200 "), "plaintext");
    assert!(posted(secured(None).await, "oneway").await.contains(" 200 "), "TLS");
    let agent = scene.agent("both");
    assert!(posted(secured(Some(&agent)).await, "both").await.contains(" 200 "), "mutual TLS");
    let another = posted(secured(Some(&agent)).await, "plain").await;
    assert!(another.contains(" 403 "), "it has an identity, which is not this one: {another}");
    let seen: Vec<_> = collector
        .census()
        .reporters()
        .into_iter()
        .map(|reporter| (reporter.service, reporter.transport, reporter.identity))
        .collect();
    let expected = [
        ("both", Transport::Mtls, "spiffe://shop.example/agent/both"),
        ("oneway", Transport::Tls, ""),
        ("plain", Transport::Plaintext, ""),
    ];
    let expected = expected.map(|(name, by, id)| (name.to_owned(), by, id.to_owned()));
    assert_eq!(seen, expected);
    assert_eq!(accepted(&collector, "segment"), 3);
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

/// Eight streams of one caller report as much as they can for two seconds, and another caller reports meanwhile. How long
/// that took for him at most, how much he reported, and why the flood was refused.
async fn flood(quota: Quota) -> (Duration, u64, Vec<String>, handfast_telemetry::station::Station) {
    let scene = Scene::new();
    let mut plan = scene.plan("collector", Mode::Mtls, scene.keep("collector"));
    plan.desk.quota = quota;
    let collector = scene.start(plan);
    let bystander = scene.caller(grpc(&collector), Some(&scene.agent("bank")));
    report(&bystander, &[segment("bank", "first")]).await.expect("nobody else is there");
    let flood = Arc::new(scene.caller(grpc(&collector), Some(&scene.agent("shop"))));
    let until = Instant::now() + Duration::from_secs(2);
    let mut streams = tokio::task::JoinSet::new();
    for stream in 0..8 {
        let flood = Arc::clone(&flood);
        streams.spawn(async move {
            let mut refused = Vec::new();
            let mut call = 0;
            while Instant::now() < until {
                let id = |n: u32| format!("{stream}-{call}-{n}");
                let segments: Vec<_> = (0..40).map(|n| segment("shop", &id(n))).collect();
                match report(&flood, &segments).await {
                    Ok(_) => {}
                    Err(status) if status.code == Code::ResourceExhausted => {
                        refused.push(status.message);
                    }
                    // Whoever has too many calls refused while he still sends loses his own connection, too.
                    Err(status) => assert_eq!(status.code, Code::Unavailable, "{status}"),
                }
                call += 1;
            }
            refused
        });
    }
    let (mut slowest, mut calls) = (Duration::ZERO, 1);
    while Instant::now() < until {
        let begin = Instant::now();
        let id = format!("bystander-{calls}");
        report(&bystander, &[segment("bank", &id)]).await.expect("has a quota of its own");
        slowest = slowest.max(begin.elapsed());
        calls += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let refused = streams.join_all().await.concat();
    assert_eq!(bystander.status().dialled, 1, "over the same connection");
    assert!(calls > 2, "{calls} calls in two seconds");
    let refusals = collector.census().refusals();
    let by = |who: &str| {
        let of: Vec<_> = refusals.iter().filter(|refusal| refusal.from.ends_with(who)).collect();
        of.iter().map(|refusal| refusal.times).sum::<u64>()
    };
    let on_record = by("/agent/shop");
    assert!(on_record >= refused.len() as u64, "each is: {refusals:?}");
    assert_eq!(by("/agent/bank"), 0);
    let over = collector.status().counted.bad_reports.get("over-quota").copied();
    assert_eq!(over.unwrap_or_default(), on_record);
    (slowest, calls, refused, collector)
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_flood_is_held_back_by_messages_others_are_served_at_once() {
    const RATE: u64 = 100;
    let begin = Instant::now();
    let quota = Quota { messages_per_second: RATE, ..Quota::default() };
    let (slowest, calls, refused, collector) = flood(quota).await;
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    assert!(!refused.is_empty());
    let came = accepted(&collector, "segment") - calls;
    // What a bucket holds, and what may wait.
    let most = RATE * (begin.elapsed().as_secs() + 1 + 3);
    assert!((1..=most).contains(&came), "{came} of {most}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_flood_is_held_back_by_bytes_others_are_served_at_once() {
    const RATE: u64 = 10_000;
    let begin = Instant::now();
    let quota = Quota { bytes_per_second: RATE, ..Quota::default() };
    let (slowest, calls, refused, collector) = flood(quota).await;
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    assert!(refused.iter().any(|said| said.contains("quota")), "{refused:?}");
    let of_bystander = calls * segment("bank", "bystander-100").len() as u64;
    let most = RATE * (begin.elapsed().as_secs() + 1 + 3) + of_bystander;
    let came = collector.status().counted.bytes;
    assert!(came <= most, "{came} of {most}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_flood_has_too_many_streams_others_are_served_at_once() {
    let quota = Quota { streams: 2, ..Quota::default() };
    let (slowest, _, refused, _) = flood(quota).await;
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    assert!(refused.iter().any(|said| said.contains("2 streams open")), "{refused:?}");
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
    let identity = other.identity(IdentityKind::Agent, "shop");
    let subject = Subject::new("shop").with_identity(identity);
    let forged = other.issue(Profile::Agent, subject);
    let forger = scene.caller(grpc(&collector), Some(&forged));
    let refused = report(&forger, &[segment("shop", "1")]).await.expect_err("not our agent");
    assert_eq!(refused.code, Code::PermissionDenied, "{refused}");
    report(&forger, &[segment("guest", "2")]).await.expect("bound by its own name");
    let ours = scene.caller(grpc(&collector), Some(&scene.agent("shop")));
    report(&ours, &[segment("shop", "3")]).await.expect("our agent");
}
