//! Whoever opens all the connections he can shuts nobody out.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use handfast_telemetry::port::{Mode, UNKNOWN, WAITING};
use handfast_testkit::traffic::take_descriptors;
use handfast_tls::{Attempt, ClientOptions, client_config};
use hyper::body::Frame;
use prost::Message as _;
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio_rustls::client::TlsStream;

use crate::large::segment_with;
use crate::support::{SEGMENTS, Scene, grpc, http, report, segment, until};

/// One flood at a time: both ends of thousands of connections are in this process, and each has ten seconds for its
/// handshake. What is asked is whom a flood shuts out, not how busy the machine is with two of them.
static TURN: Mutex<()> = Mutex::const_new(());

/// From an address of the loopback network. Another than the usual one is somebody else's; that one is not bound, because
/// then the port would be this socket's alone, and thousands of them leave none over.
async fn connect(from: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    if from != [127, 0, 0, 1] {
        socket.bind((from, 0).into()).expect("bound");
    }
    socket.connect(to).await.expect("connects")
}

/// An agent with a good certificate asks whether anybody is there; how long it takes until it is told.
async fn asks(scene: &Scene, from: [u8; 4], to: SocketAddr) -> Duration {
    let begin = Instant::now();
    let options = ClientOptions { alpn: vec![b"http/1.1".to_vec()], ..ClientOptions::default() };
    let config = client_config(Some(&scene.agent("shop")), &scene.authority.anchors(), &options);
    let socket = connect(from, to).await;
    let attempt = Attempt::client("localhost", handfast_testkit::eventually::now());
    let config: Arc<_> = config.expect("a configuration");
    let limit = Duration::from_secs(20);
    let mut stream = handfast_tls::connect(socket, config, "localhost", attempt, limit)
        .await
        .expect("a handshake");
    let ask = b"GET /healthcheck HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(ask).await.expect("written");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("an answer");
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", answer.escape_ascii());
    begin.elapsed()
}

/// Whether this process may have so many connections, of each of which both ends are in it; it says so where not.
#[expect(clippy::print_stdout, reason = "a part that is skipped says so")]
fn there_is_room_for(connections: usize) -> bool {
    let (needed, limit) = (2 * connections + 1000, take_descriptors());
    let enough = limit >= needed as u64;
    if !enough {
        println!(
            "skipped: {needed} descriptors are needed, and {limit} is the limit (`ulimit -Hn`)"
        );
    }
    enough
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_strangers_from_one_address_keeps_nobody_out_from_another() {
    if !there_is_room_for(UNKNOWN + WAITING) {
        return;
    }
    let _turn = TURN.lock().await;
    let scene = Scene::new();
    let collector = scene.collector(Mode::Mtls);
    let to = http(&collector);
    // All that can be served, all that can wait, and some more. They begin a handshake and go no further. Where that takes
    // so long that the first of them are given up meanwhile, others come in their place.
    let mut flood = VecDeque::new();
    let begin = Instant::now();
    while collector.status().counted.connections_refused < 100 {
        assert!(begin.elapsed() < Duration::from_secs(60), "nobody was refused");
        let mut some = JoinSet::new();
        for _ in 0..100 {
            some.spawn(async move {
                let mut socket = connect([127, 0, 0, 1], to).await;
                // One that is refused already is as good.
                let _ = socket.write_all(&[22, 3, 1]).await;
                socket
            });
        }
        flood.extend(some.join_all().await);
        while flood.len() > UNKNOWN + WAITING + 200 {
            flood.pop_front();
        }
    }
    for agent in 2..12 {
        let took = asks(&scene, [127, 0, 0, agent], to).await;
        assert!(took < Duration::from_secs(1), "{took:?} in a flood");
    }
    drop(flood);
}

/// Comes in as an agent does: it says its first word and hears one. An agent that is itself too slow for the ten seconds of a
/// handshake comes again, as agents do; with thousands of them in this process, and the collector, some may be.
async fn comes_in(config: Arc<ClientConfig>, to: SocketAddr) -> TlsStream<TcpStream> {
    let begin = Instant::now();
    let limit = Duration::from_secs(60);
    loop {
        let socket = connect([127, 0, 0, 1], to).await;
        let attempt = Attempt::client("localhost", handfast_testkit::eventually::now());
        let config = Arc::clone(&config);
        let outcome = handfast_tls::connect(socket, config, "localhost", attempt, limit).await;
        let why = match outcome {
            Ok(mut stream) => {
                let said = stream.write_all(FIRST_WORD).await;
                match said.and(stream.read_u8().await) {
                    Ok(_) => return stream,
                    Err(error) => error.to_string(),
                }
            }
            Err(fault) => fault.one_line(),
        };
        assert!(begin.elapsed() < limit, "{why}");
    }
}

/// A relay host, a NAT: thousands that mean well have one address.
#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_agents_behind_one_address_comes_in_whole() {
    if !there_is_room_for(UNKNOWN + 500) {
        return;
    }
    let _turn = TURN.lock().await;
    let scene = Scene::new();
    let collector = scene.collector(Mode::Mtls);
    let to = grpc(&collector);
    let config = scene.client(Some(&scene.agent("shop")));
    let mut storm = JoinSet::new();
    for _ in 0..UNKNOWN + 500 {
        storm.spawn(comes_in(Arc::clone(&config), to));
    }
    let begin = Instant::now();
    // Others come in meanwhile, at another port.
    let mut others = Vec::new();
    for _ in 0..3 {
        others.push(asks(&scene, [127, 0, 0, 2], http(&collector)).await);
    }
    let mut inside = Vec::new();
    while let Some(agent) = storm.join_next().await {
        inside.push(agent.expect("it comes in"));
    }
    println!("{} agents in {:?}, others in {others:?}", inside.len(), begin.elapsed());
    until("all of them are connected", || {
        let ports = collector.status().ports;
        let open = ports.iter().flat_map(|port| &port.connections).map(|(_, count)| count);
        open.sum::<usize>() >= inside.len()
    })
    .await;
    assert_eq!(collector.status().counted.connections_refused, 0);
}

/// The preface of HTTP/2, and settings without a setting.
const FIRST_WORD: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// So much each call says that it sends.
const MESSAGE: usize = 40 << 20;

/// One caller fills no memory, however many calls it makes at the same time and whatever it says will come.
#[tokio::test(flavor = "multi_thread")]
async fn half_messages_and_bombs_in_many_streams_are_bounded_for_each_caller() {
    use handfast_telemetry::grpc::{Body, Code, Status, stream};
    use handfast_telemetry::quota::HELD_BY_ONE;

    let _turn = TURN.lock().await;
    let scene = Scene::new();
    let collector = scene.collector(Mode::Mtls);
    let shop = Arc::new(scene.caller(grpc(&collector), Some(&scene.agent("shop"))));
    // Reports, and the dialogues that are passed on.
    for path in [SEGMENTS, "/skywalking.v10.PprofTask/collect"] {
        let mut calls = JoinSet::new();
        let mut senders = Vec::new();
        // Each says that it sends a message of 40 MiB, and sends all of it but the end.
        for _ in 0..8 {
            let (sender, body): (_, Body) = stream(4);
            let shop = Arc::clone(&shop);
            calls.spawn(async move {
                let response = shop.request(path, &::http::HeaderMap::new(), body).await;
                response.ok().and_then(|response| Status::read(response.headers()))
            });
            senders.push(tokio::spawn(async move {
                let mut head = vec![0];
                head.extend(u32::try_from(MESSAGE).expect("small").to_be_bytes());
                let piece = bytes::Bytes::from(vec![0; 1 << 20]);
                let mut sent = sender.send(Frame::data(head.into())).await.is_ok();
                for _ in 0..39 {
                    sent = sent && sender.send(Frame::data(piece.clone())).await.is_ok();
                }
                (sender, sent)
            }));
        }
        let most = HELD_BY_ONE / MESSAGE as u64;
        for _ in 0..8 - most {
            let refused = calls.join_next().await.expect("a call").expect("no panic");
            let refused = refused.expect("a status");
            assert_eq!(refused.code, Code::ResourceExhausted, "{refused}");
            assert!(refused.message.contains("128 MiB"), "{refused}");
        }
        // Others have room, and so has the same one when it is over.
        let bank = scene.caller(grpc(&collector), Some(&scene.agent("bank")));
        report(&bank, &[segment("bank", path)]).await.expect("has room of its own");
        for sender in senders {
            drop(sender.await.expect("no panic"));
        }
        while let Some(refused) = calls.join_next().await {
            refused.expect("no panic");
        }
        report(&shop, &[segment("shop", path)]).await.expect("it goes on");
    }
}

/// Nor does he by many small ones that never come to their end.
#[tokio::test(flavor = "multi_thread")]
async fn beginnings_of_thousands_of_small_messages_are_bounded_for_each_caller() {
    use handfast_telemetry::grpc::{Body, Code, Status, stream};

    let _turn = TURN.lock().await;
    let scene = Scene::new();
    let collector = scene.collector(Mode::Mtls);
    let credential = scene.agent("shop");
    let (mut calls, mut senders) = (JoinSet::new(), Vec::new());
    let mut begin = vec![0, 0, 0, 0xff, 0xff];
    begin.resize(60_000, 0);
    let begin = bytes::Bytes::from(begin);
    // 135 MB in 2,250 calls over ten connections.
    for _ in 0..10 {
        let shop = Arc::new(scene.caller(grpc(&collector), Some(&credential)));
        for _ in 0..225 {
            let (sender, body): (_, Body) = stream(1);
            let shop = Arc::clone(&shop);
            calls.spawn(async move {
                let response = shop.request(SEGMENTS, &::http::HeaderMap::new(), body).await;
                response.ok().and_then(|response| Status::read(response.headers()))
            });
            sender.send(Frame::data(begin.clone())).await.expect("there is room for one");
            senders.push(sender);
        }
    }
    let refused = tokio::time::timeout(Duration::from_secs(20), calls.join_next()).await;
    let refused = refused.expect("in time").expect("a call").expect("no panic");
    let refused = refused.expect("a status");
    assert_eq!(refused.code, Code::ResourceExhausted, "{refused}");
    assert!(refused.message.contains("128 MiB"), "{refused}");
    let bank = scene.caller(grpc(&collector), Some(&scene.agent("bank")));
    report(&bank, &[segment("bank", "1")]).await.expect("others do not notice");
}

/// Neither plaintext nor TLS without a certificate is enough to hold a connection for ever without a word.
#[tokio::test(flavor = "multi_thread")]
async fn half_a_first_word_is_not_waited_for_forever() {
    let scene = Scene::new();
    let collector = scene.collector(Mode::Permissive);
    let mut plain = connect([127, 0, 0, 1], grpc(&collector)).await;
    plain.write_all(b"PRI * HTTP/2.0").await.expect("written");
    let socket = connect([127, 0, 0, 1], grpc(&collector)).await;
    let attempt = Attempt::client("localhost", handfast_testkit::eventually::now());
    let limit = Duration::from_secs(20);
    let mut silent = handfast_tls::connect(socket, scene.client(None), "localhost", attempt, limit)
        .await
        .expect("a handshake");
    let mut rest = Vec::new();
    let both = async {
        // Reset or closed: both are an end.
        let _ = plain.read_to_end(&mut rest).await;
        let _ = silent.read_to_end(&mut rest).await;
    };
    tokio::time::timeout(limit, both).await.expect("they are ended");
    // Whoever has said it may be silent for longer.
    let caller = crate::support::plain_caller(grpc(&collector));
    report(&caller, &[segment("shop", "1")]).await.expect("goes on");
}

/// A quota of 1 MiB in a second, and a snapshot of 5: it is taken, and paid off by whoever sent it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_larger_than_a_quota_is_taken_and_what_can_never_pass_is_told_so() {
    use handfast_telemetry::grpc::Code;
    use handfast_telemetry::quota::Quota;

    let scene = Scene::new();
    let mut plan = scene.plan("collector", Mode::Mtls, scene.keep("collector"));
    plan.desk.quota = Quota { bytes_per_second: 1 << 20, ..Quota::default() };
    let mut collector = scene.start(plan.clone());
    let shop = scene.caller(grpc(&collector), Some(&scene.agent("shop")));
    let bank = scene.caller(grpc(&collector), Some(&scene.agent("bank")));
    let large = |id| bytes::Bytes::from(segment_with(5 << 20, id).encode_to_vec());

    let begin = Instant::now();
    report(&shop, &[large("snapshot")]).await.expect("however large it is");
    assert!(begin.elapsed() >= Duration::from_secs(2), "it waits");
    let refused = report(&shop, &[large("another")]).await.expect_err("not a second one");
    assert_eq!(refused.code, Code::ResourceExhausted, "{refused}");
    assert!(refused.message.contains("it may go on in "), "{refused}");
    report(&bank, &[segment("bank", "1")]).await.expect("others do not notice");
    let again = || async { report(&shop, &[segment("shop", "small")]).await.is_ok() };
    let paid = async { while !again().await {} };
    tokio::time::timeout(Duration::from_secs(20), paid).await.expect("it is paid off");

    plan.desk.quota = Quota { bytes_per_second: 50_000, ..Quota::default() };
    collector.apply(plan);
    let never = report(&shop, &[large("never")]).await.expect_err("more than a minute's worth");
    assert_eq!(never.code, Code::ResourceExhausted, "{never}");
    assert!(never.message.contains("can never pass"), "{never}");
    assert!(never.message.contains("`quotas.bytesPerSecond` of the Collector to 873"), "{never}");
    let counted = collector.status().counted;
    assert_eq!(counted.bad_reports.get("too-large"), Some(&1));
    assert_eq!(counted.bad_reports.get("over-quota"), Some(&counted.over_quota.saturating_sub(1)));
}
