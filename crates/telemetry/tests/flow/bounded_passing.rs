//! What is passed on is bounded as well: by the quota of whoever sends it, and in memory by what the other side takes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{BufMut as _, Bytes, BytesMut};
use handfast_telemetry::grpc::{Body, Code, Status, stream};
use handfast_telemetry::port::Mode;
use handfast_telemetry::quota::Quota;
use http::HeaderMap;
use http_body_util::BodyExt as _;
use hyper::body::Frame;
use tokio::sync::Semaphore;

use crate::backend::{Backend, TAKEN};
use crate::mirror::Mirror;
use crate::support::{Scene, grpc, until};

const UNKNOWN: &str = "/later.Service/method";

#[tokio::test(flavor = "multi_thread")]
async fn a_method_that_nobody_knows_is_no_way_around_a_quota() {
    let scene = Scene::new();
    let backend = Backend::start(|_| TAKEN).await;
    let mut plan = scene.plan(
        "collector",
        Mode::Mtls,
        scene.forward(Scene::plain_upstream(&[backend.address])),
    );
    plan.desk.quota = Quota { streams: 1, bytes_per_second: 100_000, ..Quota::default() };
    let collector = scene.start(plan);
    let shop = scene.caller(grpc(&collector), Some(&scene.agent("shop")));
    let bank = scene.caller(grpc(&collector), Some(&scene.agent("bank")));
    let headers = HeaderMap::new();

    let (sender, body): (_, Body) = stream(1);
    let open = shop.request(UNKNOWN, &headers, body);
    let others = async {
        until("it is passed on", || collector.status().counted.calls_passed == 1).await;
        let second = shop.ask(UNKNOWN, &headers, b"anything").await.expect_err("one is open");
        assert_eq!(second.code, Code::ResourceExhausted, "{second}");
        assert!(second.message.contains("1 streams open"), "{second}");
        bank.ask(UNKNOWN, &headers, b"anything").await.expect("has streams of its own");
        drop(sender);
    };
    let (answer, ()) = tokio::join!(open, others);
    drop(answer.expect("answered"));
    assert_eq!(collector.status().counted.bad_reports.get("over-quota"), Some(&1));

    // A second's worth comes at once, what is above that as fast as it may.
    let begin = Instant::now();
    until("its stream is given back", || collector.status().counted.calls_passed == 2).await;
    let large = Bytes::from(vec![0; 350_000]);
    while let Err(refused) = shop.ask(UNKNOWN, &headers, &large).await {
        assert!(refused.message.contains("streams open"), "{refused}");
        assert!(begin.elapsed() < Duration::from_secs(20), "{refused}");
    }
    let took = begin.elapsed();
    assert!(took > Duration::from_secs(2), "350 kB in {took:?}");
    assert_eq!(backend.each(|call| call.messages.concat()).last(), Some(&large.to_vec()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_that_waits_for_its_answer_is_a_stream_of_its_caller_still() {
    const RECORDING: &str = "/skywalking.v10.PprofTask/collect";

    let scene = Scene::new();
    let heard = Arc::new(Semaphore::new(0));
    let hearing = Arc::clone(&heard);
    let backend = Mirror::start(move |request| {
        let hearing = Arc::clone(&hearing);
        async move {
            request.into_body().collect().await.expect("it ends in order");
            hearing.add_permits(1);
            // It has heard everything, and never answers.
            std::future::pending().await
        }
    })
    .await;
    let output = scene.forward(Scene::plain_upstream(&[backend.address]));
    let mut plan = scene.plan("collector", Mode::Mtls, output);
    plan.desk.quota = Quota { streams: 1, ..Quota::default() };
    let collector = scene.start(plan);
    let shop = scene.caller(grpc(&collector), Some(&scene.agent("shop")));
    let headers = HeaderMap::new();
    let whose = Bytes::from_static(b"\x0a\x06\x0a\x04shop");
    let others = async {
        heard.acquire().await.expect("open").forget();
        let second = shop.ask(RECORDING, &headers, &whose).await.expect_err("one waits");
        assert!(second.message.contains("1 streams open"), "{second}");
    };
    tokio::select! {
        answer = shop.ask(RECORDING, &headers, &whose) => panic!("{answer:?}"),
        () = others => {}
    }
    // Whoever waits no longer gives it back.
    let again = async {
        while let Err(refused) = shop.ask(RECORDING, &headers, &whose).await {
            assert!(refused.message.contains("streams open"), "{refused}");
        }
    };
    tokio::select! {
        () = again => panic!("nobody answers"),
        heard = heard.acquire() => drop(heard.expect("open")),
    }
}

/// Recordings of profilers are messages of megabytes, and go on to somebody who may take nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_recording_that_nobody_takes_is_not_heaped_up() {
    const MESSAGE: usize = 8 << 20;

    let scene = Scene::new();
    let backend = Mirror::start(|request| async move {
        // Its body is neither read nor given up.
        std::future::pending::<()>().await;
        drop(request);
        unreachable!()
    })
    .await;
    let output = scene.forward(Scene::plain_upstream(&[backend.address]));
    let collector = scene.start(scene.plan("collector", Mode::Mtls, output));
    let shop = scene.caller(grpc(&collector), Some(&scene.agent("shop")));
    let (sender, body): (_, Body) = stream(1);
    let headers = HeaderMap::new();
    let recording = shop.request("/skywalking.v10.PprofTask/collect", &headers, body);
    let sending = async {
        let mut framed = BytesMut::new();
        let whose = b"\x0a\x06\x0a\x04shop";
        handfast_telemetry::grpc::encode(whose, &mut framed);
        sender.send(Frame::data(framed.split().freeze())).await.expect("it is read");
        let mut pushed = 0;
        let piece = Bytes::from(vec![0; 64 << 10]);
        loop {
            // Field 2, with so many bytes in it.
            let mut head = BytesMut::new();
            head.put_u8(0);
            head.put_u32(u32::try_from(MESSAGE).expect("small"));
            head.extend_from_slice(b"\x12\xfb\xff\xff\x03");
            let mut left = MESSAGE - 5;
            let mut next = head.freeze();
            while !next.is_empty() {
                let size = next.len();
                let sent = sender.send(Frame::data(next));
                // Whoever takes nothing for so long is full.
                match tokio::time::timeout(Duration::from_secs(3), sent).await {
                    Ok(sent) => sent.expect("it goes on"),
                    Err(_) => return pushed,
                }
                pushed += size;
                next = piece.slice(..left.min(piece.len()));
                left -= next.len();
            }
            assert!(pushed < 20 * MESSAGE, "it takes everything");
        }
    };
    tokio::select! {
        answer = recording => panic!("{:?}", answer.map(|answer| Status::read(answer.headers()))),
        pushed = sending => {
            println!("{pushed} bytes of messages of {MESSAGE} are somewhere in between");
            assert!(pushed < 2 * MESSAGE, "{pushed}");
        }
    }
}
