//! What is passed on: calls of methods that nobody here knows arrive byte for byte and come back so, in whatever order
//! the two sides speak; and the headers of a foreign trace stay behind where they are to.

use std::future::ready;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use handfast_telemetry::desk::DeskPlan;
use handfast_telemetry::grpc::{Body, stream};
use handfast_telemetry::port::Mode;
use handfast_telemetry::protocol::sw8;
use handfast_telemetry::station::Station;
use handfast_telemetry::upstream::Upstream;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, Incoming};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::backend::{Backend, TAKEN};
use crate::mirror::Mirror;
use crate::support::{Scene, grpc, plain_caller};

/// A call as an agent of a later version could make it.
#[derive(Clone, Debug)]
struct Call {
    method: String,
    metadata: HeaderMap,
    /// Cut as it pleases, and not where messages end.
    pieces: Vec<Bytes>,
    trailers: HeaderMap,
    /// What the backend says at the end.
    end: HeaderMap,
    /// It says that at once, and nothing else.
    refused: bool,
}

fn calls() -> impl Strategy<Value = Call> {
    let piece = proptest::collection::vec(any::<u8>(), 1..30_000).prop_map(Bytes::from);
    let pieces = proptest::collection::vec(piece, 0..5);
    let refused = prop_oneof![4 => Just(false), 1 => Just(true)];
    ("[A-Za-z0-9_.]{1,20}/[A-Za-z]{1,9}", headers("x-"), pieces, headers("t-"), ends(), refused)
        .prop_map(|(method, metadata, pieces, trailers, end, refused)| {
            let method = format!("/later.{method}");
            Call { method, metadata, pieces, trailers, end, refused }
        })
}

/// Headers, some of them more than once.
fn headers(prefix: &'static str) -> impl Strategy<Value = HeaderMap> {
    let one = ("[a-c]{1,2}(-bin)?", "[!-~]([ -~]{0,40}[!-~])?");
    proptest::collection::vec(one, 0..8).prop_map(move |list| {
        let mut headers = HeaderMap::new();
        for (name, value) in list {
            let name: HeaderName = format!("{prefix}{name}").parse().expect("a name");
            headers.append(name, value.parse().expect("visible"));
        }
        headers
    })
}

/// A status with its message and details.
fn ends() -> impl Strategy<Value = HeaderMap> {
    (0..17_u8, "(%[0-9A-F]{2}|[a-z ,.]){0,30}[a-z]", "[A-Za-z0-9+/]{4,40}", headers("t-")).prop_map(
        |(code, message, details, mut end)| {
            let value = |text: &str| HeaderValue::from_str(text.trim()).expect("visible");
            end.insert("grpc-status", value(&code.to_string()));
            end.insert("grpc-message", value(&message));
            end.insert("grpc-status-details-bin", value(&details));
            end
        },
    )
}

/// What the backend was asked last, and what it is to say at the end.
#[derive(Default)]
struct Notes {
    asked: Option<Call>,
    end: HeaderMap,
    refuses: bool,
}

/// Says what it hears while it hears it: metadata, each piece, the trailers; then how it ends.
fn echo(request: Request<Incoming>, notes: Arc<Mutex<Notes>>) -> Response<Body> {
    let (parts, mut heard) = request.into_parts();
    let (end, refused) = {
        let notes = notes.lock().expect("no panic");
        (notes.end.clone(), notes.refuses)
    };
    let mut answer = Response::new(Body::Empty);
    answer.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc+later"));
    for (name, value) in parts.headers.iter().filter(|(name, _)| name.as_str().starts_with("x-")) {
        answer.headers_mut().append(name, value.clone());
    }
    let method = parts.uri.path_and_query().expect("a path").to_string();
    let mut asked = Call {
        method,
        metadata: parts.headers,
        pieces: Vec::new(),
        trailers: HeaderMap::new(),
        end: end.clone(),
        refused,
    };
    if refused {
        answer.headers_mut().extend(end);
        notes.lock().expect("no panic").asked = Some(asked);
        return answer;
    }
    let (says, body) = stream(1);
    tokio::spawn(async move {
        while let Some(frame) = heard.frame().await {
            match frame.expect("it arrives whole").into_data() {
                Ok(piece) => {
                    asked.pieces.push(piece.clone());
                    says.send(Frame::data(piece)).await.expect("it listens");
                }
                Err(frame) => asked.trailers = frame.into_trailers().expect("trailers"),
            }
        }
        let mut trailers = asked.trailers.clone();
        for (name, value) in &end {
            trailers.append(name, value.clone());
        }
        notes.lock().expect("no panic").asked = Some(asked);
        says.send(Frame::trailers(trailers)).await.expect("it listens");
    });
    answer.map(|_: Body| body)
}

/// Makes the call, and says nothing further before it has heard what it said.
async fn converse(agent: &Upstream, call: &Call, notes: &Mutex<Notes>) {
    {
        let mut notes = notes.lock().expect("no panic");
        *notes = Notes { asked: None, end: call.end.clone(), refuses: call.refused };
    }
    let mut sent = call.metadata.clone();
    sent.insert("content-type", HeaderValue::from_static("application/grpc+later"));
    sent.insert("user-agent", HeaderValue::from_static("grpc-later/99"));
    let (says, body) = stream(1);
    let response = agent.request(&call.method, &sent, body).await.expect("answered");
    let (parts, mut heard) = response.into_parts();
    let mut expected = call.metadata.clone();
    expected.insert("content-type", HeaderValue::from_static("application/grpc+later"));
    let mut got = parts.headers;
    got.remove("date");
    if call.refused {
        expected.extend(call.end.clone());
        assert_eq!(got, expected, "the answer's headers, with the status");
        assert!(heard.frame().await.is_none(), "and nothing else");
    } else {
        assert_eq!(got, expected, "the answer's headers");
        for piece in &call.pieces {
            says.send(Frame::data(piece.clone())).await.expect("it listens");
            let mut back = Vec::new();
            while back.len() < piece.len() {
                let frame = heard.frame().await.expect("more").expect("unbroken");
                back.extend_from_slice(&frame.into_data().expect("no trailers yet"));
            }
            assert!(back == *piece, "what was said comes back before more is said");
        }
        if !call.trailers.is_empty() {
            says.send(Frame::trailers(call.trailers.clone())).await.expect("it listens");
        }
        drop(says);
        let frame = heard.frame().await.expect("the end").expect("unbroken");
        let mut expected = call.trailers.clone();
        for (name, value) in &call.end {
            expected.append(name, value.clone());
        }
        assert_eq!(frame.into_trailers().expect("trailers"), expected);
        assert!(heard.frame().await.is_none());
    }
    let asked = notes.lock().expect("no panic").asked.take().expect("asked");
    assert_eq!(asked.method, call.method);
    // What belongs to the connection, and nothing else of ours.
    sent.insert("te", HeaderValue::from_static("trailers"));
    assert_eq!(asked.metadata, sent, "the headers at the backend");
    if !call.refused {
        assert!(asked.pieces.concat() == call.pieces.concat(), "the bytes at the backend");
        assert_eq!(asked.trailers, call.trailers, "the trailers at the backend");
    }
}

#[test]
fn what_nobody_knows_is_passed_on_and_answered_byte_for_byte() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let scene = Scene::new();
    let notes = Arc::<Mutex<Notes>>::default();
    let noting = Arc::clone(&notes);
    let (relay, _collector, _mirror) = runtime.block_on(async {
        let mirror = Mirror::start(move |request| ready(echo(request, Arc::clone(&noting)))).await;
        let output = scene.forward(Scene::plain_upstream(&[mirror.address]));
        let collector = scene.start(scene.plan("collector", Mode::Mtls, output));
        (scene.relay(grpc(&collector), "shop"), collector, mirror)
    });
    let agent = plain_caller(grpc(&relay));
    let mut runner = TestRunner::new(Config { cases: 48, ..Config::default() });
    let outcome = runner.run(&calls(), |call| {
        let conversation = converse(&agent, &call, &notes);
        runtime.block_on(async {
            let within = tokio::time::timeout(Duration::from_secs(20), conversation);
            within.await.expect("in time");
        });
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    runtime.block_on(relay.stop(Duration::from_secs(5)));
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_a_foreign_trace_stay_behind_where_they_are_to() {
    let scene = Scene::new();
    let backend = Backend::start(|_| TAKEN).await;
    let plan = |strip_trace_context| {
        let output = scene.forward(Scene::plain_upstream(&[backend.address]));
        let mut plan = scene.plan("collector", Mode::Plaintext, output);
        plan.desk = DeskPlan { strip_trace_context, ..DeskPlan::default() };
        plan
    };
    let mut collector: Station = scene.start(plan(false));
    let agent = plain_caller(grpc(&collector));
    let mut headers = HeaderMap::new();
    for name in sw8::HEADERS.into_iter().chain(["x-other"]) {
        headers.append(name, HeaderValue::from_static("1-YQ==-YQ==-0-YQ==-YQ==-YQ==-YQ=="));
    }
    // A question, a method that nobody knows, and both dialogues.
    let calls: [(&str, &[u8]); 4] = [
        ("/skywalking.v3.ProfileTask/getProfileTaskCommands", b"\x0a\x04shop\x12\x06shop-1"),
        ("/later.Service/method", b"anything"),
        ("/skywalking.v10.AsyncProfilerTask/collect", b"\x0a\x06\x0a\x04shop"),
        ("/skywalking.v10.PprofTask/collect", b"\x0a\x06\x0a\x04shop"),
    ];
    for strips in [false, true, false] {
        assert!(collector.apply(plan(strips)).is_empty());
        for (path, message) in calls {
            let before = backend.each(|_| ()).len();
            agent.ask(path, &headers, message).await.expect(path);
            let came = backend.each(|call| (call.path.clone(), call.headers.clone()));
            let [(at, came)] = &came[before..] else { panic!("{path}: asked once") };
            assert_eq!(at, path);
            assert!(came.contains_key("x-other"), "{path}");
            for name in sw8::HEADERS {
                assert_eq!(came.contains_key(name), !strips, "{path}: {name}, strips: {strips}");
            }
        }
    }
}
