//! How links come up, are refused, renewed and lost.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use handfast_network::wire::control::Body;
use handfast_network::wire::{CredentialRequest, Refusal};
use handfast_network::{Direction, LinkState};

use crate::pair::{Domain, Site, connect, echo, linked, serve};

#[test]
fn both_sides_know_who_the_other_is_and_what_was_negotiated() {
    let (west, east, _front) = linked(serve(echo));
    let status = east.network.status().unwrap();
    let link = &status.links[0];
    assert_eq!((link.direction, link.state), (Direction::Outgoing, LinkState::Up));
    assert_eq!(
        link.peer.as_ref().unwrap().identity.as_ref().unwrap().to_string(),
        "spiffe://demo.example/site/west"
    );
    let session = link.session.as_ref().unwrap();
    assert_eq!(
        (session.version, session.group.as_str(), session.resumed),
        ("TLSv1.3", "X25519MLKEM768", false)
    );
    assert_eq!(link.offers, ["svc"]);
    let status = west.network.status().unwrap();
    assert_eq!(status.links[0].direction, Direction::Incoming);
    assert_eq!(status.links[0].remote_site.as_ref().unwrap().as_ref(), "east");
}

#[test]
fn strangers_are_refused_with_the_reason_on_both_sides() {
    let ours = Domain::new("demo.example");
    let theirs = Domain::new("demo.example");
    let other = Domain::new("other.example");
    let mut west = Site::new("west");
    let door = west.open(&ours);
    for (client, at_east, at_west) in [
        // Another CA that calls itself the same: its signatures do not verify here.
        (&theirs, "unknown-issuer", "bad-signature"),
        (&other, "unknown-issuer", "unknown-issuer"),
    ] {
        let mut east = Site::new("east");
        east.link("to-west", door, client);
        let status = east.until("the link has a fault", |s| s.links[0].fault.is_some());
        assert_eq!(status.links[0].fault.as_ref().unwrap().code().as_str(), at_east);
        let status = west.until("west has refused, and says why", |s| {
            s.refusals.iter().any(|refusal| refusal.fault.code().as_str() == at_west)
        });
        assert!(status.links.is_empty());
        east.network.stop(Duration::ZERO);
    }
}

#[test]
fn a_site_cannot_link_to_itself() {
    let domain = Domain::new("demo.example");
    let mut west = Site::new("west");
    let door = west.open(&domain);
    west.link("myself", door, &domain);
    let status = west.until("the link has a fault", |s| s.links[0].fault.is_some());
    assert_eq!(status.links[0].fault.as_ref().unwrap().code().as_str(), "wrong-identity");
}

#[test]
fn new_credentials_replace_the_connections_and_no_flow_notices() {
    let domain = Domain::new("demo.example");
    let mut west = Site::new("west");
    let mut east = Site::new("east");
    let door = west.open(&domain);
    west.connector("svc", serve(echo));
    east.link("to-west", door, &domain);
    let front = east.listener("svc");
    east.until_served("svc");

    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicUsize::new(0));
    let failed = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..4)
        .map(|n| {
            let (stop, done, failed) = (Arc::clone(&stop), Arc::clone(&done), Arc::clone(&failed));
            std::thread::spawn(move || {
                let mut kept = connect(front);
                while !stop.load(Ordering::Relaxed) {
                    // Half keep one connection, half make a new one for each request.
                    if n % 2 == 0 {
                        kept = connect(front);
                    }
                    let mut answer = [0; 4];
                    let ok = kept.write_all(b"ping").and_then(|()| kept.read_exact(&mut answer));
                    if ok.is_ok() && &answer == b"ping" {
                        done.fetch_add(1, Ordering::Relaxed);
                    } else {
                        failed.fetch_add(1, Ordering::Relaxed);
                        kept = connect(front);
                    }
                }
            })
        })
        .collect();
    for _ in 0..5 {
        let before = east.network.status().unwrap().links[0].peer.as_ref().unwrap().serial.clone();
        if let Some(access) = &mut west.plan.access {
            access.tls = domain.server("west");
        }
        west.apply();
        east.link("to-west", door, &domain);
        east.until("the link runs on new certificates", |s| {
            s.links[0].peer.as_ref().is_some_and(|p| p.serial != before)
                && s.links[0].connections > 0
        });
        let so_far = done.load(Ordering::Relaxed);
        east.until("more requests were answered", |_| done.load(Ordering::Relaxed) > so_far + 20);
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().unwrap();
    }
    assert_eq!(failed.load(Ordering::Relaxed), 0);
    // Nothing is left of the connections before, once their flows have ended.
    east.until("the old connections are gone", |s| s.links[0].draining == 0);
}

#[test]
fn a_change_of_trust_cuts_the_connections_that_it_would_refuse_and_no_other() {
    let domain = Domain::new("demo.example");
    let mut west = Site::new("west");
    let door = west.open(&domain);
    west.connector("svc", serve(echo));
    let mut east = Site::new("east");
    east.link("to-west", door, &domain);
    let front = east.listener("svc");
    east.until_served("svc");
    let mut client = connect(front);
    let mut ping = |expect: bool| {
        let answered = client.write_all(b"x").and_then(|()| client.read_exact(&mut [0; 1]));
        assert_eq!(answered.is_ok(), expect, "{answered:?}");
    };
    ping(true);
    // One more anchor takes nothing away from those that are there.
    let other = Domain::new("other.example");
    if let Some(access) = &mut west.plan.access {
        let more = other.anchors().iter().next().unwrap().clone();
        access.anchors = domain.anchors().with(more);
    }
    west.apply();
    ping(true);
    // The anchor that east's certificate leads to is gone: so are its connections, open flows too.
    if let Some(access) = &mut west.plan.access {
        access.anchors = other.anchors();
        access.tls = other.server("west");
    }
    west.apply();
    west.until("east is cut off", |s| s.links.is_empty());
    ping(false);
}

#[test]
fn a_lost_site_is_noticed_and_dialled_again_when_it_is_back() {
    let domain = Domain::new("demo.example");
    let mut west = Site::new("west");
    let door = west.open(&domain);
    let mut east = Site::new("east");
    east.link("to-west", door, &domain);
    let front = east.listener("svc");
    east.until_up();
    west.network.stop(Duration::ZERO);
    let status = east.until("the link is down", |s| s.links[0].state != LinkState::Up);
    assert!(status.links[0].connections == 0);
    let mut west = Site::new("west");
    west.plan.access = Some(handfast_network::LinkAccess {
        bind: door,
        tls: domain.server("west"),
        anchors: domain.anchors(),
        retired: None,
        bundle: None,
    });
    west.apply();
    west.connector("svc", serve(echo));
    east.until_served("svc");
    let mut client = connect(front);
    client.write_all(b"x").unwrap();
    client.read_exact(&mut [0; 1]).unwrap();
}

/// Passes bytes on until told to fall silent without closing anything: a network that drops packets.
fn mute_relay(target: std::net::SocketAddr, silent: Arc<AtomicBool>) -> std::net::SocketAddr {
    let pass = |mut from: TcpStream, mut to: TcpStream, silent: Arc<AtomicBool>| {
        std::thread::spawn(move || {
            let mut buffer = [0; 16 * 1024];
            while let Ok(n) = from.read(&mut buffer) {
                if n == 0 {
                    break;
                }
                if !silent.load(Ordering::Relaxed) && to.write_all(&buffer[..n]).is_err() {
                    break;
                }
            }
        });
    };
    serve(move |near: TcpStream| {
        let far = TcpStream::connect(target).unwrap();
        pass(near.try_clone().unwrap(), far.try_clone().unwrap(), Arc::clone(&silent));
        pass(far, near, Arc::clone(&silent));
    })
}

#[test]
fn a_silent_link_is_noticed_within_three_seconds() {
    let domain = Domain::new("demo.example");
    let mut west = Site::new("west");
    let door = west.open(&domain);
    let silent = Arc::new(AtomicBool::new(false));
    let relay = mute_relay(door, Arc::clone(&silent));
    let mut east = Site::new("east");
    east.link("to-west", relay, &domain);
    east.until_up();
    silent.store(true, Ordering::Relaxed);
    let start = Instant::now();
    let status = east.until("the link is down", |s| s.links[0].state != LinkState::Up);
    // Three seconds, and what a busy machine may add.
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(status.links[0].fault.as_ref().unwrap().code().as_str(), "timed-out");
    silent.store(false, Ordering::Relaxed);
    east.until_up();
}

#[test]
fn hostile_bytes_at_the_link_port_change_nothing() {
    let (west, east, front) = linked(serve(echo));
    let door = west.plan.access.as_ref().unwrap().bind;
    let mut idle = Vec::new();
    for n in 0..200u32 {
        let mut socket = TcpStream::connect(door).unwrap();
        let junk: Vec<u8> = (0..500).map(|i| (i * 7 + n * 13).to_le_bytes()[0]).collect();
        let bytes: &[u8] = match n % 4 {
            0 => b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            1 => &junk,
            2 => &[0x16, 0x03, 0x01, 0x40, 0x00, 0x01, 0x00, 0x3f, 0xfc],
            _ => b"",
        };
        let _ = socket.write_all(bytes);
        if n % 4 >= 2 {
            idle.push(socket); // says no more and stays
        }
    }
    let status = west.until("plaintext was recognised", |s| {
        s.refusals.iter().any(|r| r.fault.code().as_str() == "plaintext-to-tls")
    });
    assert!(status.refusals.len() <= 64);
    // A new link is still let in, and flows go on.
    let mut client = connect(front);
    client.write_all(b"x").unwrap();
    client.read_exact(&mut [0; 1]).unwrap();
    let mut third = Site::new("third");
    third.link("to-west", door, &Domain::new("demo.example"));
    third.until("an answer came", |s| s.links[0].fault.is_some());
    assert_eq!(east.network.status().unwrap().links[0].state, LinkState::Up);
}

#[test]
fn a_question_over_the_link_is_answered_by_the_other_node() {
    let (mut west, east, _front) = linked(serve(echo));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let question = Body::CredentialRequest(CredentialRequest {
            name: "to-west".into(),
            csr_pem: "x".repeat(40_000),
        });
        let asking = east.network.request("to-west".parse().unwrap(), question.clone());
        let answering = async {
            let request = west.requests.recv().await.unwrap();
            assert_eq!(
                request.peer.identity.as_ref().unwrap().to_string(),
                "spiffe://demo.example/site/east"
            );
            assert_eq!(request.body, question);
            request.responder.refuse(Refusal { code: "no".into(), ..Refusal::default() });
        };
        let (answer, ()) = tokio::join!(asking, answering);
        assert_eq!(answer, Ok(Body::Refusal(Refusal { code: "no".into(), ..Refusal::default() })));
        let nobody = east.network.request("elsewhere".parse().unwrap(), question).await;
        assert_eq!(nobody, Err(handfast_network::RequestError::LinkDown));
    });
}

#[test]
fn a_port_in_use_is_refused_and_taken_when_it_is_free() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut site = Site::new("west");
    site.plan.listeners.push(handfast_network::ListenerPlan {
        name: "svc".parse().unwrap(),
        host: address.ip().to_string(),
        port: address.port(),
        routing_key: "svc".into(),
    });
    site.connector("svc", serve(echo));
    let status = site.network.status().unwrap();
    let fault = status.listeners[0].fault.as_ref().unwrap();
    assert_eq!(fault.code().as_str(), "port-in-use", "{fault}");
    // Two sites of ours do not share a port by accident either.
    drop(taken);
    site.until("the listener is open", |s| s.listeners[0].bound.is_some());
    let mut second = Site::new("other");
    second.plan.listeners.clone_from(&site.plan.listeners);
    second.apply();
    let status = second.network.status().unwrap();
    assert_eq!(status.listeners[0].fault.as_ref().unwrap().code().as_str(), "port-in-use");
}

/// Its port is its own: neither another routing key nor another name stands in its way, and who deletes it has the port back.
#[test]
fn a_listener_that_leads_elsewhere_or_has_another_name_keeps_its_port() {
    let mut site = Site::new("west");
    let front = site.listener("first");
    for (name, key) in [("first", "second"), ("other", "second"), ("first", "first")].repeat(20) {
        let listener = &mut site.plan.listeners[0];
        (listener.name, listener.port) = (name.parse().unwrap(), front.port());
        key.clone_into(&mut listener.routing_key);
        site.apply();
        let status = site.network.status().unwrap();
        assert_eq!(status.listeners.len(), 1, "{status:#?}");
        assert!(status.listeners[0].fault.is_none(), "{name} {key}: {status:#?}");
        assert_eq!(status.listeners[0].bound, Some(front));
    }
    site.plan.listeners.clear();
    site.apply();
    std::net::TcpListener::bind(front).expect("the port is free");
}

#[test]
fn stopping_lets_open_flows_end_and_refuses_new_ones() {
    let (_west, east, front) = linked(serve(echo));
    let mut client = connect(front);
    client.write_all(b"1").unwrap();
    client.read_exact(&mut [0; 1]).unwrap();
    let stopping = std::thread::spawn(move || east.network.stop(Duration::from_secs(20)));
    let start = Instant::now();
    while TcpStream::connect(front).is_ok() {
        assert!(start.elapsed() < Duration::from_secs(10), "the listener stays open");
    }
    client.write_all(b"2").unwrap();
    client.read_exact(&mut [0; 1]).unwrap();
    drop(client);
    stopping.join().unwrap();
    assert!(
        start.elapsed() < Duration::from_secs(15),
        "it waited although the last flow had ended"
    );
}
