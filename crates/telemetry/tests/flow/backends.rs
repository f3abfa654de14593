//! Backends as they are: behind a proxy, with another token, older, full, failing at everything. None of it
//! loses what was accepted, and what is wrong is said.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use handfast_proto::otlp::collector::trace::v1::ExportTraceServiceRequest;
use handfast_proto::skywalking::v3::{ClrMetricCollection, LogData, SegmentObject};
use handfast_telemetry::forward::ForwarderStatus;
use handfast_telemetry::grpc::Code;
use handfast_telemetry::port::Mode;
use handfast_telemetry::station::Station;
use handfast_telemetry::upstream::{Authentication, Security, Upstream};
use handfast_tls::{
    ClientOptions, ClientTrust, Floor, ServerOptions, client_config_trusting, server_config,
};
use prost::Message as _;

use crate::backend::{Answer, Backend, Call, TAKEN};
use crate::support::{SEGMENTS, Scene, accepted, grpc, plain_caller, report, segment, until};

/// A collector in the clear that forwards to these, and an agent of it.
fn forwarding(scene: &Scene, to: &[SocketAddr]) -> (Station, Upstream) {
    let upstream = Scene::plain_upstream(to);
    let station = scene.start(scene.plan("first", Mode::Plaintext, scene.forward(upstream)));
    let agent = plain_caller(grpc(&station));
    (station, agent)
}

fn forward(station: &Station) -> ForwarderStatus {
    station.status().forward.expect("it forwards")
}

fn trouble(station: &Station) -> String {
    forward(station).trouble.map(|status| status.to_string()).unwrap_or_default()
}

fn ids(call: &Call) -> Vec<String> {
    let segment = |bytes: &Bytes| SegmentObject::decode(bytes.clone()).expect("a segment");
    call.messages.iter().map(|message| segment(message).trace_segment_id).collect()
}

fn segments(count: usize) -> Vec<Bytes> {
    (0..count).map(|n| segment("shop", &n.to_string())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_is_said_with_the_setting_and_the_right_one_is_brought_by_every_call() {
    let scene = Scene::new();
    // OAP says no more than this.
    let backend = Backend::start(|call| match call.headers.get("authentication") {
        Some(token) if token == "right" => TAKEN,
        _ => Answer::Status(Code::PermissionDenied, ""),
    })
    .await;
    let (first, agent) = forwarding(&scene, &[backend.address]);
    report(&agent, &segments(3)).await.expect("spooled");
    until("it is said", || {
        trouble(&first)
            .starts_with("PERMISSION_DENIED: the token is wrong: `forward.authentication`")
    })
    .await;
    let mut upstream = Scene::plain_upstream(&[backend.address]);
    upstream.authentication = Authentication::token("right");
    let mut first = first;
    first.apply(scene.plan("first", Mode::Plaintext, scene.forward(upstream)));
    until("it has arrived", || forward(&first).sent == 3).await;
    assert_eq!((forward(&first).set_aside, &*trouble(&first)), (0, ""));
    let before = backend.each(|_| ()).len();
    let tasks = "/skywalking.v3.ProfileTask/getProfileTaskCommands";
    agent.call(tasks, &[Bytes::from_static(b"\x0a\x04shop")]).await.expect("passed through");
    agent.call("/a.Method/ofALaterVersion", &[Bytes::new()]).await.expect("passed through");
    let tokens = backend.each(|call| call.headers.get("authentication").cloned());
    assert_eq!(tokens.len(), before + 2);
    assert!(
        tokens[before - 1..].iter().all(|token| token.as_ref().is_some_and(|it| it == "right"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_method_that_an_older_backend_lacks_is_not_called_for_every_record() {
    let scene = Scene::new();
    let backend = Backend::start(|call| match &*call.path {
        SEGMENTS => TAKEN,
        _ => Answer::Status(Code::Unimplemented, "Method not found"),
    })
    .await;
    let (first, agent) = forwarding(&scene, &[backend.address]);
    let log = LogData { service: "shop".to_owned(), ..LogData::default() };
    let logs = vec![Bytes::from(log.encode_to_vec()); 500];
    agent.call("/skywalking.v3.LogReportService/collect", &logs).await.expect("spooled");
    let clr = ClrMetricCollection { service: "shop".to_owned(), ..ClrMetricCollection::default() };
    let clr = Bytes::from(clr.encode_to_vec());
    let unary = "/skywalking.v3.CLRMetricReportService/collect";
    for _ in 0..100 {
        agent.call(unary, std::slice::from_ref(&clr)).await.expect("spooled");
    }
    report(&agent, &segments(10)).await.expect("spooled");
    until("it is done", || {
        let now = forward(&first);
        (now.sent, now.set_aside, now.lag_bytes) == (10, 600, 0)
    })
    .await;
    assert!(backend.asked("LogReportService/collect") <= 8, "once for each call under way");
    assert!(backend.asked(unary) <= 8, "once for each call under way");
}

/// Answers, none of which is a backend's own about what it was sent.
fn not_its_own() -> Vec<(Answer, &'static str)> {
    vec![
        (Answer::Http(404), "HTTP 404"),
        (Answer::Http(400), "HTTP 400"),
        (Answer::Http(502), "HTTP 502"),
        (Answer::Http(403), "HTTP 403"),
        (Answer::Page, "HTTP 200"),
        (Answer::Cut, "does not pass trailers on"),
        (
            Answer::Status(Code::Unimplemented, "unknown service"),
            "is its address that of a collector",
        ),
        (Answer::Status(Code::Unavailable, "no healthy upstream"), "no healthy upstream"),
        (Answer::Status(Code::Unauthenticated, "who?"), "who? (the token is wrong"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_proxy_or_a_stranger_answers_is_said_and_gives_nothing_up() {
    for (answer, said) in not_its_own() {
        let scene = Scene::new();
        let told = answer.clone();
        let backend = Backend::start(move |_| told.clone()).await;
        let (first, agent) = forwarding(&scene, &[backend.address]);
        report(&agent, &segments(20)).await.expect("spooled");
        until(said, || trouble(&first).contains(said)).await;
        until("it goes on trying", || backend.asked(SEGMENTS) > 3).await;
        assert_eq!((forward(&first).sent, forward(&first).set_aside), (0, 0), "{answer:?}");
        backend.answers(|_| TAKEN);
        until("it has arrived", || forward(&first).sent == 20).await;
        until("nothing is left", || forward(&first).lag_bytes == 0).await;
        assert_eq!(trouble(&first), "", "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_record_spoils_is_set_aside_alone_and_a_backend_that_fails_at_everything_empties_nothing()
 {
    let scene = Scene::new();
    let failing = Arc::new(AtomicBool::new(true));
    let fails = Arc::clone(&failing);
    let backend = Backend::start(move |call| {
        let spoilt = ids(call).iter().any(|id| id == "13");
        if fails.load(Ordering::Relaxed) || spoilt {
            return Answer::Status(Code::Internal, "storage");
        }
        TAKEN
    })
    .await;
    let (first, agent) = forwarding(&scene, &[backend.address]);
    report(&agent, &segments(20)).await.expect("spooled");
    until("it has stumbled often", || backend.asked(SEGMENTS) > 6).await;
    assert_eq!(forward(&first).set_aside, 0);
    assert!(trouble(&first).contains("storage"), "{}", trouble(&first));
    failing.store(false, Ordering::Relaxed);
    // That others pass is what says that it is the record.
    let other = segment("bank", "other");
    report(&agent, &[other]).await.expect("spooled");
    until("all but one arrive", || forward(&first).sent == 20).await;
    until("that one is set aside", || forward(&first).set_aside == 1).await;
    until("nothing is left", || forward(&first).lag_bytes == 0).await;
    assert!(backend.asked(SEGMENTS) < 60, "{} calls", backend.asked(SEGMENTS));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_over_the_backends_limit_goes_in_smaller_messages() {
    let scene = Scene::new();
    let backend = Backend::start(|call| {
        let larger = call.messages.iter().any(|message| message.len() > 100_000);
        if larger {
            return Answer::Status(
                Code::ResourceExhausted,
                "grpc: received message larger than max (1 vs. 0)",
            );
        }
        TAKEN
    })
    .await;
    let upstream = Scene::plain_upstream(&[backend.address]);
    let first = scene.start(scene.plan("first", Mode::Plaintext, scene.forward_otlp(upstream)));
    let agent = plain_caller(grpc(&first));
    let mut sent = segments(2000);
    sent.push(segment("shop", &"x".repeat(200_000)));
    report(&agent, &sent).await.expect("spooled");
    until("it is done", || forward(&first).lag_bytes == 0).await;
    assert_eq!((forward(&first).sent, forward(&first).set_aside), (2000, 1));
    let taken: usize = backend
        .each(|call| {
            let fits = call.messages[0].len() <= 100_000;
            let request = ExportTraceServiceRequest::decode(call.messages[0].clone());
            if fits { request.expect("a request").resource_spans.len() } else { 0 }
        })
        .into_iter()
        .sum();
    assert_eq!(taken, 2000, "each once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_is_waited_for() {
    let scene = Scene::new();
    let backend =
        Backend::start(|_| Answer::Status(Code::ResourceExhausted, "quota: 1 message/s")).await;
    let (first, agent) = forwarding(&scene, &[backend.address]);
    report(&agent, &segments(50)).await.expect("spooled");
    until("it has been tried often", || backend.asked(SEGMENTS) > 6).await;
    assert_eq!(forward(&first).set_aside, 0);
    backend.answers(|_| TAKEN);
    until("it has arrived", || forward(&first).sent == 50).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_backend_is_away_one_call_tries_for_all() {
    let scene = Scene::new();
    let backend = Backend::start(|_| Answer::Status(Code::Unavailable, "draining")).await;
    let (first, agent) = forwarding(&scene, &[backend.address]);
    for n in 0..40 {
        report(&agent, &[segment(&format!("service-{n}"), "1")]).await.expect("spooled");
    }
    until("it has been tried", || backend.asked(SEGMENTS) > 5).await;
    // A few of them at first, and then one after each pause, which is longer than this by now.
    let tried = backend.asked(SEGMENTS);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(backend.asked(SEGMENTS) <= tried + 1, "{tried} and {}", backend.asked(SEGMENTS));
    backend.answers(|_| TAKEN);
    until("all have arrived", || forward(&first).sent == 40).await;
}

#[tokio::test]
async fn the_next_backend_serves_while_the_preferred_one_is_away_and_no_longer() {
    let scene = Scene::new();
    let preferred = Backend::start(|_| TAKEN).await;
    let (address, next) = (preferred.address, Backend::start(|_| TAKEN).await);
    let (first, agent) = forwarding(&scene, &[address, next.address]);
    let connected = || forward(&first).upstream.connected.map(|backend| backend.port);
    report(&agent, &segments(1)).await.expect("spooled");
    until("the first has it", || forward(&first).sent == 1).await;
    assert_eq!(connected(), Some(address.port()));

    drop(preferred);
    report(&agent, &segments(1)).await.expect("spooled");
    until("the second has it", || next.asked(SEGMENTS) == 1).await;
    assert_eq!(connected(), Some(next.address.port()));

    let preferred = Backend::start_at(address, |_| TAKEN).await;
    report(&agent, &segments(1)).await.expect("spooled");
    until("the second has it", || next.asked(SEGMENTS) == 2).await;
    // Two minutes later.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(121)).await;
    tokio::time::resume();
    for sent in 0.. {
        report(&agent, &segments(1)).await.expect("spooled");
        if preferred.asked(SEGMENTS) > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(sent < 1000, "it never goes back");
    }
    assert_eq!(connected(), Some(address.port()));
    assert_eq!(forward(&first).upstream.dialled, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_cannot_serve_is_left_for_the_next() {
    let scene = Scene::new();
    let draining = Backend::start(|_| Answer::Http(503)).await;
    let next = Backend::start(|_| TAKEN).await;
    let (first, agent) = forwarding(&scene, &[draining.address, next.address]);
    report(&agent, &segments(20)).await.expect("spooled");
    until("the second has it", || forward(&first).sent == 20).await;
    assert_eq!(draining.asked(SEGMENTS), 3);
    assert_eq!(next.asked(SEGMENTS), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_speaks_no_http2_is_named() {
    // One that closes, and one that answers in HTTP/1.1, as a proxy without gRPC does.
    for answer in [&b""[..], b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"] {
        let scene = Scene::new();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let stranger = tokio::spawn(async move {
            use tokio::io::AsyncWriteExt as _;
            while let Ok((mut socket, _)) = listener.accept().await {
                // The other side may be gone already.
                let _ = socket.write_all(answer).await;
            }
        });
        let (first, agent) = forwarding(&scene, &[address]);
        report(&agent, &segments(1)).await.expect("spooled");
        until("it is said", || forward(&first).upstream.fault.is_some()).await;
        until("nothing moves", || trouble(&first).starts_with("UNAVAILABLE")).await;
        assert_eq!(forward(&first).set_aside, 0);
        stranger.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tls_port_without_http2_is_named() {
    let scene = Scene::new();
    let mut plan = scene.plan("second", Mode::Mtls, scene.keep("second"));
    let options = ServerOptions {
        alpn: vec![b"http/1.1".to_vec()],
        floor: Floor::Tls12,
        ..ServerOptions::default()
    };
    let server = scene.authority.server("west", &["localhost"]);
    for port in plan.ports.values_mut() {
        let tls = port.protection.tls.as_mut().expect("TLS");
        tls.config = server_config(&server, &options).expect("a configuration");
    }
    let second = scene.start(plan);
    let upstream = scene.upstream_plan(grpc(&second), Some(&scene.agent("shop")));
    let first = scene.start(scene.plan("first", Mode::Plaintext, scene.forward(upstream)));
    report(&plain_caller(grpc(&first)), &segments(1)).await.expect("spooled");
    until("it is said", || forward(&first).upstream.fault.is_some()).await;
    let fault = forward(&first).upstream.fault.expect("a fault");
    assert!(matches!(fault.code().as_str(), "alpn-mismatch" | "http2-missing"), "{fault}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_certificate_without_names_is_taken_by_its_pin_only() {
    let scene = Scene::new();
    let nameless = scene.authority.leaf("oap").server(&[]).build();
    let mut plan = scene.plan("second", Mode::Mtls, scene.keep("second"));
    let options = ServerOptions { alpn: vec![b"h2".to_vec()], ..ServerOptions::default() };
    for port in plan.ports.values_mut() {
        let tls = port.protection.tls.as_mut().expect("TLS");
        tls.config = server_config(&nameless, &options).expect("a configuration");
    }
    let second = scene.start(plan);
    let shop = scene.agent("shop");
    let mut upstream = scene.upstream_plan(grpc(&second), Some(&shop));
    let mut first =
        scene.start(scene.plan("first", Mode::Plaintext, scene.forward(upstream.clone())));
    report(&plain_caller(grpc(&first)), &segments(1)).await.expect("spooled");
    until("it is refused", || forward(&first).upstream.fault.is_some()).await;
    let fault = forward(&first).upstream.fault.expect("a fault");
    assert_eq!(fault.code().as_str(), "wrong-name", "{fault}");

    let pin = ClientTrust::Pinned(vec![nameless.leaf().fingerprint()]);
    let options = ClientOptions { alpn: vec![b"h2".to_vec()], ..ClientOptions::default() };
    let config = client_config_trusting(Some(&shop), &pin, &options).expect("a configuration");
    upstream.security = Some(Security::Tls { config, server_name: None });
    first.apply(scene.plan("first", Mode::Plaintext, scene.forward(upstream)));
    until("it has arrived", || accepted(&second, "segment") == 1).await;
}
