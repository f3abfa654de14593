//! A backend's name that leads somewhere else: whoever is there has to prove the name, and what cannot be sent waits.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use handfast_telemetry::forward::{Dialect, Forwarder};
use handfast_telemetry::journal::JournalSettings;
use handfast_telemetry::port::Mode;
use handfast_telemetry::sink::{Later, Sink as _};
use handfast_telemetry::station::Station;
use handfast_telemetry::upstream::{self, Upstream};
use handfast_telemetry::{Record, RecordKind};
use handfast_tls::{ServerOptions, server_config};

use tokio::sync::Semaphore;

use crate::backend::{Backend, TAKEN};
use crate::support::{SEGMENTS, Scene, clock, dice, grpc, segment, until};

/// A collector whose certificate is for this name.
fn collector_called(scene: &Scene, name: &str, folder: &str) -> Station {
    let mut plan = scene.plan(folder, Mode::Mtls, scene.keep(folder));
    let options = ServerOptions { alpn: vec![b"h2".to_vec()], ..ServerOptions::default() };
    let server = scene.authority.server("west", &[name]);
    for port in plan.ports.values_mut() {
        let tls = port.protection.tls.as_mut().expect("TLS");
        tls.config = server_config(&server, &options).expect("a configuration");
    }
    scene.start(plan)
}

async fn spool(forwarder: &Forwarder, id: &str) {
    let record = Record {
        body: segment("shop", id),
        kind: RecordKind::Segment,
        received: handfast_testkit::eventually::now(),
        reporter: Bytes::new(),
    };
    let taken = forwarder.take(vec![record]).await.expect("room");
    taken.durable.await.expect("durable");
}

/// Ids of the segments that a collector keeps of those that were sent.
fn kept(collector: &Station, ids: &[&str]) -> Vec<usize> {
    let keep = collector.keep().expect("it keeps");
    ids.iter().map(|id| keep.reader().trace(&format!("trace-{id}")).expect("read").len()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_looked_up_at_each_dialling_and_proven_wherever_it_leads() {
    const NAME: &str = "oap.shop.example";
    let scene = Scene::new();
    let first = collector_called(&scene, NAME, "first");
    let second = collector_called(&scene, NAME, "second");
    let other = collector_called(&scene, "bank.shop.example", "other");

    let leads_to: Arc<Mutex<Option<SocketAddr>>> = Arc::new(Mutex::new(Some(grpc(&first))));
    let asked = Arc::new(AtomicUsize::new(0));
    let (leading, asking) = (Arc::clone(&leads_to), Arc::clone(&asked));
    let lookup = move |backend: &upstream::Backend| {
        assert_eq!(backend.to_string(), "oap.shop.example:11800");
        asking.fetch_add(1, Ordering::Relaxed);
        let found = *leading.lock().expect("no panic");
        let none = || io::Error::new(io::ErrorKind::NotFound, "no such name");
        Box::pin(async move { found.map(|address| vec![address]).ok_or_else(none) }) as Later<_>
    };
    let move_to = |address| *leads_to.lock().expect("no panic") = address;

    let mut plan = scene.upstream_plan(grpc(&first), Some(&scene.agent("shop")));
    plan.backends = upstream::Backend::list("oap.shop.example:11800").expect("a backend");
    let upstream = Upstream::new(plan, clock(), dice()).looking_up(Arc::new(lookup));
    let settings = JournalSettings::default();
    let directory = scene.path("forward");
    let (forwarder, _) =
        Forwarder::start(&directory, settings, Dialect::SkyWalking, Arc::new(upstream), dice())
            .expect("a spool");
    let sent = || forwarder.status().sent;
    let fault = || forwarder.status().upstream.fault.map(|fault| fault.code().as_str());

    spool(&forwarder, "a").await;
    until("it has arrived", || sent() == 1).await;
    assert_eq!(kept(&first, &["a"]), [1]);

    // It moves; the connection that there is goes on until the first is gone.
    move_to(Some(grpc(&second)));
    spool(&forwarder, "b").await;
    until("that too has arrived", || sent() == 2).await;
    assert_eq!(kept(&first, &["a", "b"]), [1, 1]);
    assert_eq!(asked.load(Ordering::Relaxed), 1, "it was dialled once");
    first.stop(Duration::from_secs(5)).await;
    spool(&forwarder, "c").await;
    until("it arrives at the second", || sent() == 3).await;
    assert_eq!(kept(&second, &["a", "b", "c"]), [0, 0, 1]);

    // It leads to somebody who is not called so.
    move_to(Some(grpc(&other)));
    second.stop(Duration::from_secs(5)).await;
    spool(&forwarder, "d").await;
    until("the other is refused", || fault() == Some("wrong-name")).await;
    let refused = asked.load(Ordering::Relaxed);
    until("it is tried again", || asked.load(Ordering::Relaxed) > refused + 2).await;
    assert_eq!(fault(), Some("wrong-name"));
    let status = other.status();
    assert!(status.counted.accepted.is_empty(), "nothing was sent: {:?}", status.counted);
    assert_eq!((sent(), forwarder.status().set_aside), (3, 0));
    assert!(forwarder.status().lag_bytes > 0, "it waits");

    // Nowhere, and then back.
    move_to(None);
    until("no such name", || fault() == Some("host-not-found")).await;
    let again = collector_called(&scene, NAME, "second");
    move_to(Some(grpc(&again)));
    until("it has arrived", || sent() == 4).await;
    assert_eq!(kept(&again, &["a", "b", "c", "d"]), [0, 0, 1, 1], "each once");
    until("all is sent", || forwarder.status().lag_bytes == 0).await;
    assert_eq!(fault(), None);
}

/// Whoever waited for somebody else's dialling goes by the plan of the time when it is its turn: what it makes is used from
/// then on, and must not be of a plan that was given up.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_waited_through_a_change_of_plan_dials_by_the_new_one() {
    let backend = Backend::start(|_| TAKEN).await;
    let port = backend.address.port();
    let (gate, asked) = (Arc::new(Semaphore::new(0)), Arc::new(Mutex::new(Vec::new())));
    let (waits, told) = (Arc::clone(&gate), Arc::clone(&asked));
    let lookup = move |backend: &upstream::Backend| {
        told.lock().expect("no panic").push(backend.host.clone());
        let (old, waits) = (backend.host == "old.example", Arc::clone(&waits));
        Box::pin(async move {
            if old {
                waits.acquire().await.expect("open").forget();
                return Err(io::Error::new(io::ErrorKind::NotFound, "no such name"));
            }
            Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))])
        }) as Later<_>
    };
    let plan = |host: &str| {
        let mut plan = Scene::plain_upstream(&[]);
        plan.backends = vec![upstream::Backend { host: host.to_owned(), port }];
        plan
    };
    let upstream = Upstream::new(plan("old.example"), clock(), dice());
    let upstream = upstream.looking_up(Arc::new(lookup));
    let segments = [segment("shop", "1")];
    let mut first = pin!(upstream.call(SEGMENTS, &segments));
    let mut second = pin!(upstream.call(SEGMENTS, &segments));
    assert!(has_to_wait(first.as_mut()).await, "it dials");
    assert!(has_to_wait(second.as_mut()).await, "it lets the first one dial");
    upstream.set(plan("new.example"));
    gate.add_permits(2);
    let (first, second) = tokio::join!(first, second);
    first.expect_err("nobody is of that name");
    second.expect("it goes where it should now");
    assert_eq!(*asked.lock().expect("no panic"), ["old.example", "new.example"]);
}

/// Lets it come as far as it comes by itself; whether it has to wait there.
async fn has_to_wait<F: Future>(mut future: Pin<&mut F>) -> bool {
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_pending())).await
}
