//! Nobody waits for somebody else's large message: what takes long to read is not read by the thread that serves.
//! Here there is one such thread, with callers and collector on it.

use std::cell::Cell;
use std::io::Write as _;
use std::time::{Duration, Instant};

use ::http::HeaderMap;
use bytes::{BufMut as _, Bytes, BytesMut};
use handfast_pki::RevocationReason;
use handfast_proto::skywalking::v3::{SegmentObject, SpanObject};
use handfast_telemetry::RecordKind;
use handfast_telemetry::grpc::{Code, Status, stream};
use handfast_telemetry::port::Mode;
use handfast_telemetry::protocol::claim::claims;
use handfast_telemetry::protocol::json::Endpoint;
use handfast_telemetry::upstream::Upstream;
use handfast_tls::RevokedInfo;
use hyper::body::Frame;
use prost::Message as _;

use crate::posting::post;
use crate::support::{SEGMENTS, Scene, accepted, grpc, http, report, segment, until};

const LARGE: usize = 40_000_000;

/// A segment in JSON, with some hundred thousand tags.
fn in_json() -> Bytes {
    let tag = format!(r#"{{"key":"k","value":"{}"}}"#, "v".repeat(80));
    let tags = vec![tag; 64].join(",");
    let span = format!(r#"{{"spanId":0,"parentSpanId":-1,"tags":[{tags}]}},"#);
    let mut body = String::from(
        r#"[{"traceId":"t","traceSegmentId":"s","service":"shop","serviceInstance":"1","spans":["#,
    );
    while body.len() < LARGE {
        body.push_str(&span);
    }
    body.truncate(body.len() - 1);
    body.push_str("]}]");
    body.into()
}

/// A segment in protobuf, with millions of spans of which each says little.
fn in_protobuf() -> Bytes {
    let mut body = segment("shop", "many").to_vec();
    let span = SpanObject { span_id: 300, ..SpanObject::default() };
    let said = SegmentObject { spans: vec![span], ..SegmentObject::default() };
    let said = said.encode_to_vec();
    body.extend(said.repeat(LARGE / said.len()));
    body.into()
}

/// How long work takes here that would hold up everybody.
fn time_of<T>(work: impl FnOnce() -> T) -> Duration {
    let begin = Instant::now();
    std::hint::black_box(work());
    begin.elapsed()
}

/// Asks again and again while somebody else's call goes on; the longest that one answer took.
async fn longest_wait(bystander: &Upstream, call: impl Future<Output = ()>) -> Duration {
    let over = Cell::new(false);
    let calling = async {
        call.await;
        over.set(true);
    };
    let asking = async {
        let mut longest = Duration::ZERO;
        while !over.get() {
            let begin = Instant::now();
            let answer = bystander.call("/grpc.health.v1.Health/Check", &[Bytes::new()]).await;
            assert_eq!(answer.expect("answered"), b"\x08\x01"[..]);
            longest = longest.max(begin.elapsed());
        }
        longest
    };
    let ((), longest) = tokio::join!(calling, asking);
    longest
}

/// What others may wait for beside work that took so long before, and so long after: the machine may have other things to
/// do at either time.
fn assert_prompt(longest: Duration, before: Duration, after: Duration) {
    let work = before.max(after);
    assert!(work > Duration::from_millis(400), "{work:?} would hold up nobody");
    assert!(longest < work / 2, "{longest:?} beside work of {work:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn json_of_40_mb_holds_up_nobody() {
    let scene = Scene::new();
    let collector = scene.collector(Mode::Mtls);
    let shop = scene.caller(http(&collector), Some(&scene.agent("shop")));
    let bank = scene.caller(grpc(&collector), Some(&scene.agent("bank")));
    let body = in_json();
    let endpoint = Endpoint::at("/v3/segments").expect("an endpoint");
    let work = || time_of(|| endpoint.read(&body).expect("read"));
    let before = work();
    let json = [("content-type", "application/json")];
    let longest = Box::pin(longest_wait(&bank, async {
        let (status, said) = post(&shop, "/v3/segments", &json, body.clone()).await;
        assert_eq!(status, 200, "{said}");
    }));
    assert_prompt(longest.await, before, work());
    assert_eq!(accepted(&collector, "segment"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn forty_mb_of_protobuf_packed_hold_up_nobody_and_keep_their_order() {
    let scene = Scene::new();
    let collector = scene.collector(Mode::Mtls);
    let shop = scene.caller(grpc(&collector), Some(&scene.agent("shop")));
    let bank = scene.caller(grpc(&collector), Some(&scene.agent("bank")));
    let message = in_protobuf();
    let work = || time_of(|| claims(RecordKind::Segment, &message).map(drop).expect("read"));
    let before_it = work();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&message).expect("memory");
    let packed = packed.finish().expect("memory");
    let mut body = BytesMut::new();
    let mut put = |packed: bool, message: &[u8]| {
        body.put_u8(packed.into());
        body.put_u32(u32::try_from(message.len()).expect("small"));
        body.extend_from_slice(message);
    };
    let (before, after) = (segment("shop", "before"), segment("shop", "coming after"));
    put(false, &before);
    put(true, &packed);
    put(false, &after);
    let mut headers = HeaderMap::new();
    headers.insert("grpc-encoding", "gzip".parse().expect("visible"));
    let body = body.freeze();
    let longest = Box::pin(longest_wait(&bank, async {
        let answer = shop.request(SEGMENTS, &headers, body.into()).await.expect("answered");
        assert!(Status::read(answer.headers()).is_none(), "{:?}", answer.headers());
    }));
    assert_prompt(longest.await, before_it, work());
    until("all of it is taken", || accepted(&collector, "segment") == 3).await;
    let journal = collector.keep().expect("a store").journal();
    let mut reader = journal.reader(handfast_telemetry::journal::Position::START);
    let mut lengths = Vec::new();
    while lengths.len() < 3 {
        let batch = reader.next_batch(1 << 30).expect("read");
        assert!(!batch.is_empty(), "{lengths:?}");
        lengths.extend(batch.into_iter().map(|(_, record)| record.body.len()));
    }
    assert_eq!(lengths, [before.len(), message.len(), after.len()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn whoever_is_revoked_is_cut_within_a_second_while_his_message_is_read() {
    let scene = Scene::new();
    let collector = scene.collector(Mode::Mtls);
    let credential = scene.agent("shop");
    let shop = scene.caller(http(&collector), Some(&credential));
    let bank = scene.caller(grpc(&collector), Some(&scene.agent("bank")));
    let (sender, body) = stream(1);
    let mut headers = HeaderMap::new();
    headers.insert("content-type", "application/json".parse().expect("visible"));
    let calling = async {
        let answer = shop.request("/v3/segments", &headers, body).await;
        (answer.map(|answer| answer.status()), Instant::now())
    };
    let revoking = async {
        sender.send(Frame::data(in_json())).await.expect("it is read");
        drop(sender);
        // It is there as soon as there is nothing left to send, and takes much longer than this to read.
        report(&bank, &[segment("bank", "1")]).await.expect("well");
        let path = credential.chain().certificate_ids(&scene.authority.anchors()).expect("a path");
        let (at, reason) = (handfast_testkit::eventually::now(), RevocationReason::KeyCompromise);
        scene.revocations.record([(path[0].clone(), RevokedInfo { at, reason })]);
        Instant::now()
    };
    let ((answer, ended), revoked) = tokio::join!(calling, revoking);
    let took = ended.saturating_duration_since(revoked);
    println!("cut after {took:?}: {answer:?}");
    assert_eq!(answer.expect_err("it is cut").code, Code::Unavailable);
    assert!(took < Duration::from_secs(1), "{took:?}");
    report(&bank, &[segment("bank", "2")]).await.expect("others go on");
    assert_eq!(accepted(&collector, "segment"), 2, "nothing of it is taken");
}
