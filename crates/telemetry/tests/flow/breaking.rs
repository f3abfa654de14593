//! A call that is passed on while it comes, and breaks off: by a reset, a revocation, a message that may not be sent. What
//! is behind must not take half a recording for a whole one.

use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use handfast_pki::RevocationReason;
use handfast_telemetry::grpc::{Body, Code, Status, encode, message, stream, streamed};
use handfast_telemetry::port::Mode;
use handfast_telemetry::station::Station;
use handfast_tls::RevokedInfo;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, Incoming};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::frames::{DATA, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, SETTINGS, call_of, frame};
use crate::mirror::Mirror;
use crate::support::{Scene, grpc, until};

const PPROF: &str = "/skywalking.v10.PprofTask/collect";
const ASYNC_PROFILER: &str = "/skywalking.v10.AsyncProfilerTask/collect";
const UNKNOWN: &str = "/later.Service/method";

/// Whose recording it is.
const SHOP: &[u8] = b"\x0a\x06\x0a\x04shop";
const BANK: &[u8] = b"\x0a\x06\x0a\x04bank";

/// What a backend heard of a call.
#[derive(Clone, Debug, Default)]
struct Heard {
    bytes: usize,
    /// Whether it ended well, once it is over.
    whole: Option<bool>,
}

/// The calls that a backend heard, in their order.
type Calls = Arc<Mutex<Vec<Heard>>>;

/// Which backend: one that answers before it has heard everything, as an OAP does, or one that hears it first.
#[derive(Clone, Copy, Debug)]
enum Answers {
    AtOnce,
    InTheEnd,
}

async fn backend(answers: Answers) -> (Mirror, Calls) {
    let calls = Calls::default();
    let noting = Arc::clone(&calls);
    let mirror = Mirror::start(move |request| answer(request, answers, Arc::clone(&noting))).await;
    (mirror, calls)
}

async fn answer(request: Request<Incoming>, answers: Answers, calls: Calls) -> Response<Body> {
    let number = {
        let mut calls = calls.lock().expect("no panic");
        calls.push(Heard::default());
        calls.len() - 1
    };
    let mut body = request.into_body();
    let (says, said) = stream(1);
    // A task of its own: whoever answers is gone as soon as the call is reset.
    let hearing = tokio::spawn(async move {
        let whole = loop {
            match body.frame().await {
                None => break true,
                Some(Err(_)) => break false,
                Some(Ok(frame)) => {
                    let bytes = frame.data_ref().map_or(0, Bytes::len);
                    calls.lock().expect("no panic")[number].bytes += bytes;
                }
            }
        };
        calls.lock().expect("no panic")[number].whole = Some(whole);
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
        // Nobody may be there any more.
        let _ = says.send(Frame::trailers(trailers)).await;
    });
    match answers {
        Answers::AtOnce => streamed(said),
        Answers::InTheEnd => {
            hearing.await.expect("no panic");
            message(b"")
        }
    }
}

fn framed(message: &[u8]) -> Bytes {
    let mut body = BytesMut::new();
    encode(message, &mut body);
    body.freeze()
}

fn heard(calls: &Calls, number: usize) -> Heard {
    calls.lock().expect("no panic").get(number).cloned().unwrap_or_default()
}

/// Makes one call by hand, says who speaks, and ends it by `end` when the backend has heard that.
async fn call(to: &Station, path: &str, end: &[u8], calls: &Calls, number: usize) {
    let mut socket = TcpStream::connect(grpc(to)).await.expect("connects");
    socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("written");
    let first = framed(SHOP);
    let frames = [
        frame(SETTINGS, 0, 0, b""),
        frame(HEADERS, END_HEADERS, 1, &call_of(path)),
        frame(DATA, 0, 1, &first),
    ];
    socket.write_all(&frames.concat()).await.expect("written");
    until("the backend hears it", || heard(calls, number).bytes == first.len()).await;
    socket.write_all(end).await.expect("written");
    until("it is over", || heard(calls, number).whole.is_some()).await;
    // Whatever was answered.
    socket.shutdown().await.expect("shut");
    let _ = socket.read_to_end(&mut Vec::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_that_breaks_off_is_not_whole_for_whoever_is_behind() {
    let reset = |code: u32| frame(RST_STREAM, 0, 1, &code.to_be_bytes());
    let ends = [
        ("ends in order", frame(DATA, END_STREAM, 1, b""), [true, true]),
        ("is cancelled", reset(8), [false, false]),
        ("fails", reset(2), [false, false]),
        ("is reset without an error", reset(0), [false, false]),
        // What is in a call that nobody knows is not looked into.
        ("ends within a message", frame(DATA, END_STREAM, 1, &[0, 0, 0, 0, 9, 1]), [false, true]),
    ];
    for answers in [Answers::AtOnce, Answers::InTheEnd] {
        let scene = Scene::new();
        let (mirror, calls) = backend(answers).await;
        let output = scene.forward(Scene::plain_upstream(&[mirror.address]));
        let collector = scene.start(scene.plan("collector", Mode::Mtls, output));
        let relay = scene.relay(grpc(&collector), "shop");
        let mut number = 0;
        for (how, end, whole) in &ends {
            for path in [PPROF, ASYNC_PROFILER, UNKNOWN] {
                call(&relay, path, end, &calls, number).await;
                let expected = whole[usize::from(path == UNKNOWN)];
                let ended = heard(&calls, number).whole;
                assert_eq!(ended, Some(expected), "{path} {how}; {answers:?}");
                number += 1;
            }
        }
        assert_eq!(calls.lock().expect("no panic").len(), number, "each came once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_revocation_cuts_is_not_whole_for_whoever_is_behind() {
    for answers in [Answers::AtOnce, Answers::InTheEnd] {
        for (number, path) in [PPROF, UNKNOWN].into_iter().enumerate() {
            let scene = Scene::new();
            let (mirror, calls) = backend(answers).await;
            let output = scene.forward(Scene::plain_upstream(&[mirror.address]));
            let collector = scene.start(scene.plan("collector", Mode::Mtls, output));
            let credential = scene.agent("shop");
            let shop = scene.caller(grpc(&collector), Some(&credential));
            let (sender, body): (_, Body) = stream(1);
            sender.send(Frame::data(framed(SHOP))).await.expect("room");
            let (headers, heard_first) = (HeaderMap::new(), framed(SHOP).len());
            let revoking = async {
                until("the backend hears it", || heard(&calls, 0).bytes == heard_first).await;
                let path = credential.chain().certificate_ids(&scene.authority.anchors());
                let info = RevokedInfo {
                    at: handfast_testkit::eventually::now(),
                    reason: RevocationReason::KeyCompromise,
                };
                scene.revocations.record([(path.expect("a path")[0].clone(), info)]);
                until("it is over", || heard(&calls, 0).whole.is_some()).await;
            };
            let (_answer, ()) = tokio::join!(shop.request(path, &headers, body), revoking);
            assert_eq!(heard(&calls, 0).whole, Some(false), "{number} {answers:?}");
            drop(sender);
        }
    }
}

/// Whoever is refused in the middle of it is told so, whether the backend had answered already or not; and it is not
/// the backend that is at fault.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_says_what_he_may_not_is_told_and_the_backend_has_no_whole_recording() {
    for answers in [Answers::AtOnce, Answers::InTheEnd] {
        let scene = Scene::new();
        let (mirror, calls) = backend(answers).await;
        let output = scene.forward(Scene::plain_upstream(&[mirror.address]));
        let collector = scene.start(scene.plan("collector", Mode::Mtls, output));
        let shop = scene.caller(grpc(&collector), Some(&scene.agent("shop")));
        let (sender, body): (_, Body) = stream(1);
        let headers = HeaderMap::new();
        let says = async {
            sender.send(Frame::data(framed(SHOP))).await.expect("room");
            until("the backend hears it", || heard(&calls, 0).bytes == framed(SHOP).len()).await;
            sender.send(Frame::data(framed(BANK))).await.expect("room");
        };
        let (answer, ()) = tokio::join!(shop.request(PPROF, &headers, body), says);
        let (parts, body) = answer.expect("an answer").into_parts();
        let told = if let Some(status) = Status::read(&parts.headers) {
            status
        } else {
            let body = body.collect().await.expect("it ends in order");
            Status::read(body.trailers().expect("trailers")).expect("a status")
        };
        assert_eq!(told.code, Code::PermissionDenied, "{answers:?}: {told}");
        assert!(told.message.contains("reported as bank"), "{told}");
        until("it is over there", || heard(&calls, 0).whole.is_some()).await;
        let Heard { bytes, whole } = heard(&calls, 0);
        assert_eq!((bytes, whole), (framed(SHOP).len(), Some(false)), "{answers:?}");
        assert_eq!(collector.status().counted.calls_passed, 1);
        drop(sender);
    }
}
