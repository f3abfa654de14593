//! Revocation and a change of modes reach connections that are open.

use std::time::{Duration, Instant};

use handfast_pki::RevocationReason;
use handfast_telemetry::grpc::{Body, stream};
use handfast_telemetry::port::Mode;
use handfast_tls::RevokedInfo;
use hyper::body::Frame;

use crate::support::{
    SEGMENTS, Scene, accepted, grpc, plain_caller, refused_anew, report, segment, until,
};

fn framed(message: &[u8]) -> Frame<bytes::Bytes> {
    let mut body = bytes::BytesMut::new();
    handfast_telemetry::grpc::encode(message, &mut body);
    Frame::data(body.freeze())
}

#[tokio::test(flavor = "multi_thread")]
async fn revocation_cuts_an_open_stream_within_a_second_and_keeps_it_out() {
    let scene = Scene::new();
    let collector = scene.collector(Mode::Mtls);
    let credential = scene.agent("shop");
    let shop = scene.caller(grpc(&collector), Some(&credential));
    let bystander = scene.caller(grpc(&collector), Some(&scene.agent("bank")));
    let (sender, body): (_, Body) = stream(4);
    sender.send(framed(&segment("shop", "1"))).await.expect("room");
    let open = tokio::spawn(async move {
        let headers = http::HeaderMap::new();
        let response = shop.request(SEGMENTS, &headers, body).await;
        (shop, response.map(drop))
    });
    // A stream that never ends is taken as it comes.
    until("the first message is taken", || accepted(&collector, "segment") == 1).await;
    let (bank, body) = stream(4);
    let others = tokio::spawn(async move {
        let headers = http::HeaderMap::new();
        bystander.request(SEGMENTS, &headers, body).await.map(drop)
    });
    bank.send(framed(&segment("bank", "1"))).await.expect("room");
    until("the bystander is in", || accepted(&collector, "segment") == 2).await;

    let chain = credential.chain();
    let path = chain.certificate_ids(&scene.authority.anchors()).expect("a path");
    let info = RevokedInfo {
        at: handfast_testkit::eventually::now(),
        reason: RevocationReason::KeyCompromise,
    };
    let told = Instant::now();
    scene.revocations.record([(path[0].clone(), info)]);
    let (shop, outcome) = tokio::time::timeout(Duration::from_secs(20), open)
        .await
        .expect("it is cut")
        .expect("no panic");
    let took = told.elapsed();
    assert!(outcome.is_err(), "the stream did not end well");
    println!("cut {} ms after the revocation was known", took.as_millis());
    assert!(took < Duration::from_secs(1), "{took:?}");
    // It is cut first and counted then.
    until("it is counted", || collector.status().counted.connections_cut == 1).await;

    let refused = report(&shop, &[segment("shop", "2")]).await.expect_err("revoked");
    assert!(refused.message.contains("revoked"), "{refused}");
    bank.send(framed(&segment("bank", "2"))).await.expect("room");
    until("the bystander goes on", || accepted(&collector, "segment") == 3).await;
    drop(bank);
    others.await.expect("no panic").expect("ends in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_turns_to_mutual_tls_ends_the_others_and_turns_back() {
    let scene = Scene::new();
    let mut collector = scene.collector(Mode::Permissive);
    let to = grpc(&collector);
    let plain = plain_caller(to);
    report(&plain, &[segment("shop", "1")]).await.expect("plaintext");
    let mutual = scene.caller(to, Some(&scene.agent("bank")));
    report(&mutual, &[segment("bank", "1")]).await.expect("mutual TLS");
    let before = mutual.status().dialled;

    assert!(collector.apply(scene.plan("collector", Mode::Mtls, scene.keep("x"))).is_empty());
    assert_eq!(grpc(&collector), to, "the port was never closed");
    until("plaintext connections are ended", || {
        collector
            .status()
            .ports
            .iter()
            .all(|port| port.connections.iter().all(|(transport, _)| transport.as_str() == "mtls"))
    })
    .await;
    report(&plain, &[segment("shop", "2")]).await.expect_err("plaintext is over");
    // Over the connection that was ended, if its end had not come here yet; this one comes anew.
    report(&plain_caller(to), &[segment("shop", "2")]).await.expect_err("plaintext is over");
    report(&mutual, &[segment("bank", "2")]).await.expect("mutual TLS");
    assert_eq!(mutual.status().dialled, before, "its connection was left alone");
    until("the refusal is told", || {
        let refusals = collector.census().refusals();
        refusals.iter().any(|refusal| refusal.fault.code().as_str() == "plaintext-to-tls")
    })
    .await;

    assert!(collector.apply(scene.plan("collector", Mode::Permissive, scene.keep("x"))).is_empty());
    report(&plain, &[segment("shop", "3")]).await.expect("plaintext again");
}

/// The configuration of TLS is the same, and so is whom it trusts: what was worked out of certificates before is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_our_own_domain_asks_for_everybody_anew() {
    let scene = Scene::new();
    let ours = scene.plan("collector", Mode::Mtls, scene.keep("collector"));
    let mut theirs = ours.clone();
    let mut nobodys = ours.clone();
    for port in theirs.ports.values_mut() {
        let own = port.protection.tls.as_mut().and_then(|tls| tls.own.as_mut()).expect("a domain");
        own.trust_domain = "other.example".parse().expect("a trust domain");
    }
    for port in nobodys.ports.values_mut() {
        port.protection.tls.as_mut().expect("TLS").own = None;
    }
    let mut collector = scene.start(ours.clone());
    let shop = scene.caller(grpc(&collector), Some(&scene.agent("shop")));
    report(&shop, &[segment("shop", "1")]).await.expect("one of ours");
    for plan in [theirs, nobodys] {
        assert!(collector.apply(plan).is_empty());
        until("its connection is cut", || {
            collector.status().ports.iter().all(|port| port.connections.is_empty())
        })
        .await;
        let refused = refused_anew(&shop, &segment("shop", "2")).await;
        assert_eq!(refused.code, handfast_telemetry::grpc::Code::PermissionDenied, "{refused}");
        assert!(collector.apply(ours.clone()).is_empty());
        // Nobody was put out who only becomes more than he was.
        report(
            &scene.caller(grpc(&collector), Some(&scene.agent("shop"))),
            &[segment("shop", "3")],
        )
        .await
        .expect("one of ours again");
        report(&shop, &[segment("shop", "4")])
            .await
            .expect_err("known as before, as long as it stays");
        shop.set(scene.upstream_plan(grpc(&collector), Some(&scene.agent("shop"))));
        report(&shop, &[segment("shop", "5")]).await.expect("one of ours again");
    }
}
