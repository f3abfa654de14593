//! Whoever watches how a collector does is told when that changes, and holds nobody up.

use std::time::Duration;

use bytes::Bytes;
use handfast_telemetry::forward::Dialect;
use handfast_telemetry::grpc::{Code, Coding, MESSAGE_LIMIT, Messages, Status};
use handfast_telemetry::journal::JournalSettings;
use handfast_telemetry::port::Mode;
use handfast_telemetry::station::Output;
use handfast_telemetry::upstream::Upstream;
use http::HeaderMap;
use hyper::body::Incoming;

use crate::backend::{Answer, Backend, TAKEN};
use crate::support::{Scene, grpc, plain_caller, report, segment, until};

const CHECK: &str = "/grpc.health.v1.Health/Check";
const WATCH: &str = "/grpc.health.v1.Health/Watch";
const SERVING: &[u8] = b"\x08\x01";
const NOT_SERVING: &[u8] = b"\x08\x02";
/// `HealthCheckRequest{ service: "x" }`, framed.
const QUESTION: &[u8] = b"\0\0\0\0\x03\x0a\x01x";

struct Watch {
    messages: Messages<Incoming>,
    arrived: Vec<Bytes>,
}

impl Watch {
    async fn open(client: &Upstream) -> Result<Self, Status> {
        let question = Bytes::from_static(QUESTION).into();
        let response = client.request(WATCH, &HeaderMap::new(), question).await?;
        if let Some(status) = Status::read(response.headers()) {
            return Err(status);
        }
        let patience = Duration::from_secs(10);
        let body = response.into_body();
        let messages = Messages::new(body, Coding::Identity, MESSAGE_LIMIT, patience);
        Ok(Self { messages, arrived: Vec::new() })
    }

    /// The next answer; none at the end.
    async fn next(&mut self) -> Option<Bytes> {
        let next = self.messages.next(&mut self.arrived);
        let more = tokio::time::timeout(Duration::from_secs(20), next).await.expect("in time");
        more.expect("orderly").then(|| self.arrived.remove(0))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_tells_at_once_how_it_is_and_then_that_it_ends() {
    let scene = Scene::new();
    let collector = scene.collector(Mode::Mtls);
    let client = scene.caller(grpc(&collector), Some(&scene.agent("shop")));
    let mut watch = Watch::open(&client).await.expect("watches");
    assert_eq!(watch.next().await.as_deref(), Some(SERVING));
    // Others go on, over the same connection too.
    report(&client, &[segment("shop", "1")]).await.expect("accepted");
    assert_eq!(client.call(CHECK, &[Bytes::new()]).await.as_deref(), Ok(SERVING));
    let began = tokio::time::Instant::now();
    let stopping = tokio::spawn(collector.stop(Duration::from_secs(30)));
    assert_eq!(watch.next().await.as_deref(), Some(NOT_SERVING));
    assert_eq!(watch.next().await, None);
    let status = watch.messages.trailers().and_then(Status::read).expect("a status");
    assert_eq!(status.code, Code::Unavailable);
    stopping.await.expect("no panic");
    assert!(began.elapsed() < Duration::from_secs(5), "a watch holds up no end");
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_of_a_connection_are_bounded_and_given_back() {
    let scene = Scene::new();
    let collector = scene.start(scene.plan("open", Mode::Plaintext, scene.keep("open")));
    let client = plain_caller(grpc(&collector));
    let mut open = Vec::new();
    let refused = loop {
        match Watch::open(&client).await {
            Ok(mut watch) => {
                assert_eq!(watch.next().await.as_deref(), Some(SERVING));
                open.push(watch);
                assert!(open.len() <= 16, "bounded");
            }
            Err(status) => break status,
        }
    };
    assert_eq!(refused.code, Code::ResourceExhausted, "{refused}");
    // Another connection has its own.
    let mut other = Watch::open(&plain_caller(grpc(&collector))).await.expect("watches");
    assert_eq!(other.next().await.as_deref(), Some(SERVING));
    open.pop();
    let end = tokio::time::Instant::now() + Duration::from_secs(20);
    while Watch::open(&client).await.is_err() {
        assert!(tokio::time::Instant::now() < end, "was never given back");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_with_a_full_spool_does_not_serve_until_it_takes_something_again() {
    let scene = Scene::new();
    let backend = Backend::start(|_| Answer::Status(Code::Unavailable, "away")).await;
    let output = Output::Forward {
        dialect: Dialect::SkyWalking,
        directory: scene.path("relay"),
        spool: JournalSettings { limit_bytes: 1 << 20, ..JournalSettings::default() },
        upstream: Scene::plain_upstream(&[backend.address]),
    };
    let relay = scene.start(scene.plan("relay", Mode::Plaintext, output));
    let agent = plain_caller(grpc(&relay));
    let mut watch = Watch::open(&agent).await.expect("watches");
    assert_eq!(watch.next().await.as_deref(), Some(SERVING));
    let large = segment(&"x".repeat(1000), &"y".repeat(100_000));
    let mut refused = None;
    for _ in 0..100 {
        refused = report(&agent, std::slice::from_ref(&large)).await.err();
        if refused.is_some() {
            break;
        }
    }
    assert_eq!(refused.expect("full").code, Code::Unavailable);
    assert_eq!(watch.next().await.as_deref(), Some(NOT_SERVING));
    assert_eq!(agent.call(CHECK, &[Bytes::new()]).await.as_deref(), Ok(NOT_SERVING));
    backend.answers(|_| TAKEN);
    until("there is room", || relay.status().forward.is_some_and(|it| it.lag_bytes == 0)).await;
    report(&agent, &[segment("shop", "1")]).await.expect("accepted");
    assert_eq!(watch.next().await.as_deref(), Some(SERVING));
}
