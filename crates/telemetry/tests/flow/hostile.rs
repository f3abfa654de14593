//! What strangers send is refused or bounded, and nobody else notices.

use std::io::Write as _;

use bytes::Bytes;
use handfast_telemetry::grpc::Code;
use handfast_telemetry::port::Mode;
use handfast_telemetry::station::Station;
use http::HeaderMap;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{SEGMENTS, Scene, accepted, grpc, http, plain_caller, report, segment, until};

#[tokio::test(flavor = "multi_thread")]
async fn broken_messages_and_bombs_are_refused_with_the_reason() {
    let scene = Scene::new();
    let collector = scene.collector(Mode::Plaintext);
    let agent = plain_caller(grpc(&collector));
    let broken = agent.call(SEGMENTS, &[Bytes::from_static(b"\xff\xff\xff")]).await;
    assert_eq!(broken.expect_err("no protobuf").code, Code::InvalidArgument);
    let nobody = agent.call(SEGMENTS, &[Bytes::new()]).await.expect_err("names nobody");
    assert!(nobody.message.contains("service"), "{nobody}");

    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(&vec![0; 60 << 20]).expect("memory");
    let packed = packed.finish().expect("memory");
    let mut body = vec![1];
    body.extend(u32::try_from(packed.len()).expect("small").to_be_bytes());
    body.extend(packed);
    let mut headers = HeaderMap::new();
    headers.insert("grpc-encoding", "gzip".parse().expect("visible"));
    let response = agent.request(SEGMENTS, &headers, Bytes::from(body).into()).await;
    let status = handfast_telemetry::grpc::Status::read(response.expect("answered").headers());
    assert_eq!(status.expect("refused").code, Code::ResourceExhausted);

    let mut body = vec![0];
    body.extend((51_u32 << 20).to_be_bytes());
    let response = agent.request(SEGMENTS, &HeaderMap::new(), Bytes::from(body).into()).await;
    let status = handfast_telemetry::grpc::Status::read(response.expect("answered").headers());
    assert_eq!(status.expect("refused").code, Code::ResourceExhausted);

    report(&agent, &[segment("shop", "1")]).await.expect("everybody else goes on");
    assert_eq!(accepted(&collector, "segment"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn absurd_names_and_floods_of_headers_are_refused() {
    let scene = Scene::new();
    let collector = scene.collector(Mode::Plaintext);
    let agent = plain_caller(grpc(&collector));
    let refused = report(&agent, &[segment(&"x".repeat(2000), "1")]).await.expect_err("too long");
    assert_eq!(refused.code, Code::InvalidArgument, "{refused}");
    let mut headers = HeaderMap::new();
    for n in 0..200 {
        let name: http::HeaderName = format!("x-{n}").parse().expect("a name");
        headers.insert(name, "y".repeat(200).parse().expect("visible"));
    }
    let flood = agent.request(SEGMENTS, &headers, Bytes::new().into()).await;
    let code = flood.map(|response| response.status().as_u16());
    assert!(!matches!(code, Ok(200)), "{code:?}");
    report(&plain_caller(grpc(&collector)), &[segment("shop", "1")]).await.expect("others go on");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_tls_at_a_tls_port_and_tls_at_a_plain_one_is_told_apart() {
    let scene = Scene::new();
    let secured = scene.collector(Mode::Mtls);
    let mut socket = TcpStream::connect(http(&secured)).await.expect("connects");
    socket.write_all(b"POST /v3/segments HTTP/1.1\r\n\r\n").await.expect("written");
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.expect("closed");
    let open = scene.start(scene.plan("open", Mode::Plaintext, scene.keep("open")));
    let refused = report(&scene.caller(grpc(&open), None), &[segment("shop", "1")]).await;
    refused.expect_err("a plain port speaks no TLS");
    refused_for(&secured, "plaintext-to-tls").await;
    refused_for(&open, "tls-to-plaintext").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_certificate_nobody_gets_into_a_port_with_mutual_tls() {
    let scene = Scene::new();
    let collector = scene.collector(Mode::Mtls);
    let refused = report(&scene.caller(grpc(&collector), None), &[segment("shop", "1")]).await;
    let refused = refused.expect_err("no certificate");
    assert_eq!(refused.code, Code::Unavailable, "{refused}");
    let expired = scene.authority.leaf("shop").expired().build();
    let other = handfast_testkit::authority::TestAuthority::new(
        "evil.example",
        handfast_testkit::eventually::now(),
    );
    let stranger = other.client("shop");
    let options = handfast_tls::ClientOptions {
        alpn: vec![b"h2".to_vec()],
        ..handfast_tls::ClientOptions::default()
    };
    for (credential, code) in [(expired, "expired"), (stranger, "unknown-issuer")] {
        let config =
            handfast_tls::client_config(Some(&credential), &scene.authority.anchors(), &options)
                .expect("a configuration");
        let mut plan = scene.upstream_plan(grpc(&collector), None);
        plan.security =
            Some(handfast_telemetry::upstream::Security::Tls { config, server_name: None });
        let caller = handfast_telemetry::upstream::Upstream::new(
            plan,
            crate::support::clock(),
            crate::support::dice(),
        );
        report(&caller, &[segment("shop", "1")]).await.expect_err(code);
        refused_for(&collector, code).await;
    }
    assert_eq!(accepted(&collector, "segment"), 0);
}

/// The side that refuses knows why, as soon as it is done with the client that it refused.
async fn refused_for(station: &Station, code: &str) {
    until(code, || {
        let refusals = station.census().refusals();
        let found = refusals.iter().find(|refusal| refusal.fault.code().as_str() == code);
        // What is said to do is for agents, not for those who link sites.
        found.is_some_and(|refusal| !refusal.fault.remedy().contains("token redeem"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_a_killed_process_left_is_taken_over_and_one_in_use_is_not() {
    let scene = Scene::new();
    let path = scene.path("agents.sock");
    let place = || handfast_telemetry::port::Place::Unix(path.clone());
    // A listener's file outlives it: that is what kill -9 leaves.
    drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
    let mut plan = scene.plan("first", Mode::Plaintext, scene.keep("first"));
    plan.ports.get_mut("grpc").expect("a port").place = place();
    let first = scene.start(plan);
    std::os::unix::net::UnixStream::connect(&path).expect("somebody listens");
    let open = handfast_telemetry::port::Protection { mode: Mode::Plaintext, tls: None };
    let mut second = scene.start(scene.plan("second", Mode::Plaintext, scene.keep("second")));
    let mut plan = scene.plan("second", Mode::Plaintext, scene.keep("second"));
    plan.ports.insert(
        "unix".to_owned(),
        handfast_telemetry::station::PortPlan {
            place: place(),
            protection: open,
            protocol: handfast_telemetry::port::Protocol::Grpc,
        },
    );
    let faults = second.apply(plan);
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].to_string().contains("agents.sock"), "{}", faults[0]);
    drop(first);
}
