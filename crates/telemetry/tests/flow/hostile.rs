//! What strangers send is refused or bounded, and nobody else notices.

use std::io::Write as _;

use ::http::HeaderMap;
use bytes::Bytes;
use handfast_proto::skywalking::v3::{KeyStringValuePair, SegmentObject};
use handfast_telemetry::grpc::{Code, Status};
use handfast_telemetry::port::Mode;
use handfast_telemetry::station::Station;
use handfast_telemetry::upstream::{Authentication, Security, Upstream};
use handfast_tls::FaultCode;
use prost::Message as _;
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
    let status = Status::read(response.expect("answered").headers());
    assert_eq!(status.expect("refused").code, Code::ResourceExhausted);

    let mut body = vec![0];
    body.extend((51_u32 << 20).to_be_bytes());
    let response = agent.request(SEGMENTS, &HeaderMap::new(), Bytes::from(body).into()).await;
    let status = Status::read(response.expect("answered").headers());
    assert_eq!(status.expect("refused").code, Code::ResourceExhausted);

    report(&agent, &[segment("shop", "1")]).await.expect("everybody else goes on");
    assert_eq!(accepted(&collector, "segment"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn absurd_names_are_refused() {
    let scene = Scene::new();
    let collector = scene.collector(Mode::Plaintext);
    let agent = plain_caller(grpc(&collector));
    let refused = report(&agent, &[segment(&"x".repeat(2000), "1")]).await.expect_err("too long");
    assert_eq!(refused.code, Code::InvalidArgument, "{refused}");
}

/// So many headers of 200 bytes.
fn headers(count: usize) -> HeaderMap {
    let named = (0..count).map(|n| {
        let name: ::http::HeaderName = format!("x-{n}").parse().expect("a name");
        (name, "y".repeat(200).parse().expect("visible"))
    });
    named.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_headers_are_refused_and_no_other_connection_is_lost() {
    let scene = Scene::new();
    let collector = scene.collector(Mode::Mtls);
    let bystander = scene.caller(grpc(&collector), Some(&scene.agent("bank")));
    report(&bystander, &[segment("bank", "before")]).await.expect("well");
    let shop = scene.caller(grpc(&collector), Some(&scene.agent("shop")));
    let response = shop.request(SEGMENTS, &headers(200), Bytes::new().into()).await;
    let response = response.expect("its connection goes on");
    assert_eq!(response.status().as_u16(), 431);
    let told = Status::read(response.headers()).expect("in gRPC's words, too");
    assert_eq!(told.code, Code::ResourceExhausted, "{told}");
    assert!(told.message.contains("headers"), "{told}");
    assert_eq!(blamed(&collector, "/agent/shop"), [("too-large".to_owned(), 1)]);
    // More than anybody would look at.
    let response = shop.request(SEGMENTS, &headers(1500), Bytes::new().into()).await;
    match response.map(|response| response.status().as_u16()) {
        Ok(code) => assert_eq!(code, 431),
        // It was told, and not just lost.
        Err(status) => assert!(status.message.contains("error received"), "{status}"),
    }
    let open = scene.start(scene.plan("open", Mode::Plaintext, scene.keep("open")));
    let mut socket = TcpStream::connect(http(&open)).await.expect("connects");
    let flood = "x-flood: yyyyyyyyyyyyyyyyyyyy\r\n".repeat(1000);
    let head = format!("POST /v3/segments HTTP/1.1\r\nhost: x\r\n{flood}\r\n");
    socket.write_all(head.as_bytes()).await.expect("written");
    let mut answer = Vec::new();
    // A reset after the answer is no matter.
    let _ = socket.read_to_end(&mut answer).await;
    assert!(answer.starts_with(b"HTTP/1.1 431 "), "{}", answer.escape_ascii());
    report(&bystander, &[segment("bank", "after")]).await.expect("well");
    assert_eq!(bystander.status().dialled, 1, "over the same connection");
    assert_eq!(accepted(&collector, "segment"), 2);
}

/// What somebody is on record for: reasons, and how often each.
fn blamed(station: &Station, who: &str) -> Vec<(String, u64)> {
    let mut reasons = std::collections::BTreeMap::<String, u64>::new();
    for refusal in station.census().refusals() {
        if refusal.from.ends_with(who) && refusal.fault.code() == FaultCode::BadReport {
            let reason = refusal.fault.evidence_of("reason").expect("a reason");
            assert!(refusal.fault.what().contains(who), "{}", refusal.fault);
            *reasons.entry(reason.to_owned()).or_default() += refusal.times;
        }
    }
    reasons.into_iter().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_sends_rubbish_is_counted_by_the_reason_and_named() {
    let scene = Scene::new();
    let mut plan = scene.plan("collector", Mode::Mtls, scene.keep("collector"));
    plan.desk.authentication = Some("open sesame".into());
    let collector = scene.start(plan);
    let agent = |service: &str, port, token: &str| {
        let mut plan = scene.upstream_plan(port, Some(&scene.agent(service)));
        plan.authentication = Authentication::token(token);
        Upstream::new(plan, crate::support::clock(), crate::support::dice())
    };
    let bank = agent("bank", grpc(&collector), "open sesame");
    report(&bank, &[segment("bank", "1")]).await.expect("well");

    let shop = agent("shop", grpc(&collector), "open sesame");
    for _ in 0..3 {
        let broken = shop.call(SEGMENTS, &[Bytes::from_static(b"\xff\xff\xff")]).await;
        broken.expect_err("no protobuf");
    }
    shop.call(SEGMENTS, &[Bytes::new()]).await.expect_err("names nobody");
    shop.call("/skywalking.v3.ProfileTask/getProfileTaskCommands", &[Bytes::from_static(b"\xff")])
        .await
        .expect_err("no protobuf");
    for body in [vec![7, 0, 0, 0, 1, 1], vec![0, 0, 0, 0, 9, 1]] {
        // No frame of gRPC, and one that ends too early.
        let answer = shop.request(SEGMENTS, &HeaderMap::new(), Bytes::from(body).into()).await;
        Status::read(answer.expect("answered").headers()).expect("refused");
    }
    assert_eq!(blamed(&collector, "/agent/shop"), [("malformed".to_owned(), 7)]);

    let mut head = vec![0];
    head.extend((51_u32 << 20).to_be_bytes());
    let answer = shop.request(SEGMENTS, &HeaderMap::new(), Bytes::from(head).into()).await;
    Status::read(answer.expect("answered").headers()).expect("refused");
    let over_http = agent("shop", http(&collector), "open sesame");
    for (path, kind, body) in [
        ("/v3/segments", "application/json", "[{"),
        ("/v1/traces", "application/x-protobuf", "\u{7f}\u{7f}"),
        ("/api/v2/spans", "application/json", "nothing"),
        ("/telegraf", "application/x-thrift", "x"),
    ] {
        let (code, said) =
            crate::posting::post(&over_http, path, &[("content-type", kind)], body).await;
        assert!((400..500).contains(&code), "{path}: {code} {said}");
    }
    let guesser = agent("shop", grpc(&collector), "open barley");
    report(&guesser, &[segment("shop", "2")]).await.expect_err("another token");
    let made_up = guesser.call("/x.Made/up", &[Bytes::new()]).await;
    made_up.expect_err("another token");

    let expected = [("malformed", 11), ("too-large", 1), ("wrong-token", 2)];
    let named = expected.map(|(reason, times)| (reason.to_owned(), times));
    assert_eq!(blamed(&collector, "/agent/shop"), named);
    let counted = collector.status().counted;
    let counts: Vec<(&str, u64)> = counted.bad_reports.into_iter().collect();
    assert_eq!(counts, expected);
    // What somebody makes up is not put on record.
    let refusals = collector.census().refusals();
    assert!(refusals.iter().all(|refusal| !refusal.on.contains("Made")), "{refusals:?}");
    assert!(refusals.iter().all(|refusal| !refusal.fault.one_line().contains("sesame")));

    report(&bank, &[segment("bank", "3")]).await.expect("well");
    assert_eq!(blamed(&collector, "/agent/bank"), []);
    assert_eq!(bank.status().dialled, 1);
    assert_eq!(accepted(&collector, "segment"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_never_ends_is_given_up_and_its_sender_named() {
    let scene = Scene::new();
    let collector = scene.collector(Mode::Mtls);
    let shop = scene.caller(grpc(&collector), Some(&scene.agent("shop")));
    let over_http = scene.caller(http(&collector), Some(&scene.agent("shop")));
    let endless = |caller: Upstream,
                   (path, kind): (&'static str, &'static str),
                   begin: &'static [u8]| async move {
        let (sender, body) = handfast_telemetry::grpc::stream(4);
        let mut headers = HeaderMap::new();
        headers.insert("content-type", kind.parse().expect("visible"));
        let asked = caller.request(path, &headers, body);
        let drips = async {
            let begin = hyper::body::Frame::data(Bytes::from_static(begin));
            sender.send(begin).await.expect("it is read");
            let drop = || hyper::body::Frame::data(Bytes::from_static(b" "));
            // A byte now and then, for as long as somebody listens.
            while sender.send(drop()).await.is_ok() {
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
        };
        tokio::select! {
            answer = asked => answer.expect("answered"),
            () = drips => panic!("it was not told why"),
        }
    };
    let bystander = scene.caller(grpc(&collector), Some(&scene.agent("bank")));
    let (by_grpc, by_http) = tokio::join!(
        endless(shop, (SEGMENTS, "application/grpc"), &[0, 0, 1, 0, 0]),
        endless(over_http, ("/v3/segments", "application/json"), b"["),
    );
    let told = Status::read(by_grpc.headers()).expect("refused");
    assert_eq!(told.code, Code::DeadlineExceeded, "{told}");
    assert_eq!(by_http.status().as_u16(), 408);
    assert_eq!(blamed(&collector, "/agent/shop"), [("too-slow".to_owned(), 2)]);
    report(&bystander, &[segment("bank", "1")]).await.expect("others go on");
    assert_eq!(blamed(&collector, "/agent/bank"), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_says_from_which_address_rubbish_comes() {
    let scene = Scene::new();
    let collector = scene.collector(Mode::Mtls);
    let relay = scene.relay(grpc(&collector), "shop");
    let agent = plain_caller(grpc(&relay));
    agent.call(SEGMENTS, &[Bytes::from_static(b"\xff")]).await.expect_err("no protobuf");
    assert_eq!(blamed(&relay, "127.0.0.1"), [("malformed".to_owned(), 1)]);
    assert_eq!(relay.status().counted.bad_reports.get("malformed"), Some(&1));
    report(&agent, &[segment("shop", "1")]).await.expect("well");
    until("it goes on", || accepted(&collector, "segment") == 1).await;
    assert!(collector.status().counted.bad_reports.is_empty(), "it never left the relay");
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_of_another_time_and_tags_without_end_are_kept_and_counted() {
    let scene = Scene::new();
    let collector = scene.collector(Mode::Mtls);
    let shop = scene.caller(grpc(&collector), Some(&scene.agent("shop")));
    let now = handfast_testkit::eventually::now().as_millisecond();
    let made = |id: &str, begin: i64, tags: usize| {
        let mut made = SegmentObject::decode(segment("shop", id)).expect("a segment");
        let span = &mut made.spans[0];
        (span.start_time, span.end_time) = (begin, begin + 10);
        let tag = |n| KeyStringValuePair { key: format!("key{n}"), value: "x".to_owned() };
        span.tags = (0..tags).map(tag).collect();
        Bytes::from(made.encode_to_vec())
    };
    report(&shop, &[made("good", now, 64)]).await.expect("well");
    let counted = collector.status().counted;
    assert!(counted.clock_skewed.is_empty() && counted.cut.is_empty(), "{counted:?}");
    let day = 24 * 3_600_000;
    let odd = [
        made("past", 1, 0),
        made("long-ago", now - 15 * day, 0),
        made("future", now + day, 0),
        made("many", now, 65),
        made("absurd", now, 20_000),
    ];
    report(&shop, &odd).await.expect("they are taken all the same");
    let counted = collector.status().counted;
    assert_eq!(counted.clock_skewed.into_iter().collect::<Vec<_>>(), [("segment", 3)]);
    assert_eq!(counted.cut.into_iter().collect::<Vec<_>>(), [("segment", 2)]);
    assert_eq!(accepted(&collector, "segment"), 6);
    let keep = collector.keep().expect("a store").status();
    assert_eq!(keep.kept, 6);
    assert!(counted.bad_reports.is_empty(), "nothing was refused");
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
        plan.security = Some(Security::Tls { config, server_name: None });
        let caller = Upstream::new(plan, crate::support::clock(), crate::support::dice());
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
