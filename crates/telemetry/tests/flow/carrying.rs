//! What an agent says arrives at the far end, once, over mutual TLS, whatever fails on the way.

use std::time::Duration;

use handfast_telemetry::caller::Transport;
use handfast_telemetry::forward::Dialect;
use handfast_telemetry::grpc::Code;
use handfast_telemetry::journal::JournalSettings;
use handfast_telemetry::port::Mode;
use handfast_telemetry::station::{Output, Station};
use handfast_testkit::traffic::Nobody;

use crate::backend::{Answer, Backend, TAKEN};
use crate::support::{Scene, accepted, grpc, plain_caller, report, segment, until};

#[tokio::test(flavor = "multi_thread")]
async fn from_an_agent_in_the_clear_through_a_relay_over_mutual_tls_to_a_collector() {
    let scene = Scene::new();
    let collector = scene.collector(Mode::Mtls);
    let relay = scene.relay(grpc(&collector), "shop");
    let agent = plain_caller(grpc(&relay));
    for batch in 0..10 {
        let segments: Vec<_> = (0..100).map(|n| segment("shop", &format!("{batch}-{n}"))).collect();
        report(&agent, &segments).await.expect("accepted");
    }
    until("everything arrives", || accepted(&collector, "segment") == 1000).await;
    until("the spool is empty", || {
        relay.status().forward.is_some_and(|forward| forward.lag_bytes == 0)
    })
    .await;
    let forward = relay.status().forward.expect("a relay forwards");
    assert_eq!((forward.sent, forward.set_aside), (1000, 0));
    let reporters = collector.census().reporters();
    assert_eq!(reporters.len(), 1);
    assert_eq!(reporters[0].transport, Transport::Mtls);
    assert_eq!(reporters[0].identity, "spiffe://shop.example/agent/shop");
    assert_eq!(relay.census().reporters()[0].transport, Transport::Plaintext);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_collector_is_away_the_relay_keeps_what_it_accepted() {
    let scene = Scene::new();
    let collector = scene.collector(Mode::Mtls);
    let address = grpc(&collector);
    let relay = scene.relay(address, "shop");
    let agent = plain_caller(grpc(&relay));
    report(&agent, &[segment("shop", "before")]).await.expect("accepted");
    until("the first arrives", || accepted(&collector, "segment") == 1).await;
    collector.stop(Duration::from_secs(5)).await;
    for n in 0..50 {
        report(&agent, &[segment("shop", &format!("away-{n}"))]).await.expect("spooled");
    }
    until("the relay says why nothing moves", || {
        relay.status().forward.is_some_and(|forward| forward.trouble.is_some())
    })
    .await;
    let mut plan = scene.plan("collector", Mode::Mtls, scene.keep("collector"));
    let port = plan.ports.get_mut("grpc").expect("a port");
    port.place = handfast_telemetry::port::Place::Tcp(address);
    let collector = scene.start(plan);
    until("what was kept arrives", || accepted(&collector, "segment") == 50).await;
    until("the relay knows", || relay.status().forward.is_some_and(|forward| forward.sent == 51))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_answered_by_nobodys_commands_and_an_unknown_method_by_a_status() {
    let scene = Scene::new();
    let collector = scene.collector(Mode::Mtls);
    let relay = scene.relay(grpc(&collector), "shop");
    let agent = plain_caller(grpc(&relay));
    let query = segment("x", "y");
    let tasks = "/skywalking.v3.ProfileTask/getProfileTaskCommands";
    // ProfileTaskCommandQuery{1 service, 2 serviceInstance}
    let question = b"\x0a\x04shop\x12\x06shop-1";
    let answer = agent.call(tasks, &[bytes::Bytes::from_static(question)]).await;
    assert_eq!(answer.expect("passed through"), bytes::Bytes::new());
    let unknown = agent.call("/skywalking.v99.New/method", &[query]).await.expect_err("unknown");
    assert_eq!(unknown.code, Code::Unimplemented, "{unknown}");
    assert!(unknown.message.contains("/skywalking.v99.New/method"), "the collector said it");
    let health = agent.call("/grpc.health.v1.Health/Check", &[bytes::Bytes::new()]).await;
    assert_eq!(&health.expect("serving")[..], b"\x08\x01");
}

/// The counter says what was accepted, not what was tried.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_full_spool_refuses_is_not_counted_as_accepted() {
    let scene = Scene::new();
    let nobody = Nobody::listens();
    let output = Output::Forward {
        dialect: Dialect::SkyWalking,
        directory: scene.path("small"),
        spool: JournalSettings { limit_bytes: 16 << 10, ..JournalSettings::default() },
        upstream: Scene::plain_upstream(&[nobody.address()]),
    };
    let relay = scene.start(scene.plan("relay", Mode::Plaintext, output));
    let agent = plain_caller(grpc(&relay));
    let mut taken = 0;
    for number in 0..1000 {
        let sent = report(&agent, &[segment("shop", &number.to_string())]).await;
        taken += u64::from(sent.is_ok());
    }
    assert!((1..900).contains(&taken), "{taken}");
    assert_eq!(accepted(&relay, "segment"), taken);
}

/// Whoever lowers the limit restarts with it. What lies in the spool may be one chunk that is larger than that.
#[tokio::test(flavor = "multi_thread")]
async fn a_spool_that_is_larger_than_its_new_limit_is_emptied_and_takes_again() {
    let scene = Scene::new();
    let backend = Backend::start(|_| Answer::Status(Code::Unavailable, "away")).await;
    let start = |limit_bytes| {
        let output = Output::Forward {
            dialect: Dialect::SkyWalking,
            directory: scene.path("small"),
            spool: JournalSettings { limit_bytes, ..JournalSettings::default() },
            upstream: Scene::plain_upstream(&[backend.address]),
        };
        scene.start(scene.plan("relay", Mode::Plaintext, output))
    };
    let sent = |relay: &Station| relay.status().forward.expect("it forwards").sent;
    let large = |n: u8| segment(&format!("shop{}", "-".repeat(900)), &n.to_string());
    let grace = Duration::from_secs(5);

    let relay = start(1 << 20);
    for n in 0..50 {
        report(&plain_caller(grpc(&relay)), &[large(n)]).await.expect("spooled");
    }
    relay.stop(grace).await;
    let relay = start(16 << 10);
    let agent = plain_caller(grpc(&relay));
    let full = report(&agent, &[large(50)]).await.expect_err("there is no room");
    assert!(full.message.contains("raise the limit"), "{full}");
    backend.answers(|_| TAKEN);
    until("what was accepted arrives", || sent(&relay) == 50).await;
    until("it takes again", || relay.status().forward.is_some_and(|f| f.lag_bytes == 0)).await;
    report(&agent, &[large(51)]).await.expect("there is room again");
    relay.stop(grace).await;

    // The same where everything had been sent before the limit was lowered.
    let relay = start(1 << 20);
    for n in 52..90 {
        report(&plain_caller(grpc(&relay)), &[large(n)]).await.expect("spooled");
    }
    until("all of it is sent", || relay.status().forward.is_some_and(|f| f.lag_bytes == 0)).await;
    relay.stop(grace).await;
    let relay = start(16 << 10);
    report(&plain_caller(grpc(&relay)), &[large(90)]).await.expect("there is room");
    until("it is sent", || sent(&relay) == 1).await;
    let arrived = backend.each(|call| call.messages.concat()).concat();
    for n in (0..50).chain(51..=90) {
        let large = large(n);
        assert!(arrived.windows(large.len()).any(|bytes| bytes == large), "{n} is lost");
    }
}
