//! What a flow carries, and how it ends.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc::channel;

use handfast_testkit::traffic::Nobody;

use crate::pair::{PATIENCE, Site, connect, echo, linked, pattern, serve};

fn exchange(front: SocketAddr, sent: &[u8]) -> Vec<u8> {
    let mut socket = connect(front);
    let mut writer = socket.try_clone().unwrap();
    let copy = sent.to_vec();
    let writing = std::thread::spawn(move || {
        writer.write_all(&copy).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut back = Vec::new();
    socket.read_to_end(&mut back).unwrap();
    writing.join().unwrap();
    back
}

#[test]
fn a_small_request_comes_back() {
    let (_west, _east, front) = linked(serve(echo));
    assert_eq!(exchange(front, b"hello"), b"hello");
    assert_eq!(exchange(front, b""), b"");
}

#[test]
fn bulk_comes_back_whole_and_in_order() {
    let (west, east, front) = linked(serve(echo));
    let sent = pattern(40 * 1024 * 1024 + 4321);
    assert!(exchange(front, &sent) == sent, "the bytes differ");
    let at_east = east.until("the flow has ended", |s| s.listeners[0].traffic.open == 0);
    let at_west = west.until("the flow has ended", |s| s.connectors[0].traffic.open == 0);
    let size = sent.len() as u64;
    assert_eq!(
        (at_east.listeners[0].traffic.bytes_in, at_east.listeners[0].traffic.bytes_out),
        (size, size)
    );
    assert_eq!(
        (at_west.connectors[0].traffic.bytes_in, at_west.connectors[0].traffic.bytes_out),
        (size, size)
    );
    assert_eq!((at_east.links[0].bytes_out, at_east.links[0].bytes_in), (size, size));
}

#[test]
fn many_flows_share_a_link_and_none_gets_anothers_bytes() {
    let (_west, _east, front) = linked(serve(echo));
    let threads: Vec<_> = (0..24usize)
        .map(|n| {
            std::thread::spawn(move || {
                for round in 0..8 {
                    let mut sent = pattern(1 + n * 9_973 * (1 + round % 3));
                    for byte in &mut sent {
                        *byte = byte.wrapping_add(n.to_le_bytes()[0]);
                    }
                    assert!(exchange(front, &sent) == sent, "flow {n} got other bytes");
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn each_side_may_end_its_half_first() {
    // The server speaks only after the client's end, then the client still reads.
    let (_west, _east, front) = linked(serve(|mut socket: TcpStream| {
        let mut asked = Vec::new();
        socket.read_to_end(&mut asked).unwrap();
        socket.write_all(format!("{} bytes", asked.len()).as_bytes()).unwrap();
    }));
    assert_eq!(exchange(front, &pattern(100_000)), b"100000 bytes");

    // The server ends first; the client's bytes still arrive.
    let (sender, arrived) = channel();
    let (_west, _east, front) = linked(serve(move |mut socket: TcpStream| {
        socket.write_all(b"go").unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        socket.read_to_end(&mut rest).unwrap();
        sender.send(rest).unwrap();
    }));
    let mut socket = connect(front);
    let mut first = Vec::new();
    socket.read_to_end(&mut first).unwrap();
    assert_eq!(first, b"go");
    socket.write_all(&pattern(50_000)).unwrap();
    socket.shutdown(Shutdown::Write).unwrap();
    assert!(arrived.recv_timeout(PATIENCE).unwrap() == pattern(50_000));
}

fn reset(socket: TcpStream) {
    socket2::SockRef::from(&socket).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    drop(socket);
}

#[test]
fn a_reset_arrives_as_a_reset_in_both_directions() {
    let (sender, seen) = channel();
    let (_west, _east, front) = linked(serve(move |mut socket: TcpStream| {
        let mut buffer = [0; 16];
        socket.read_exact(&mut buffer[..4]).unwrap();
        if &buffer[..4] == b"kill" {
            return reset(socket);
        }
        socket.write_all(b"ok").unwrap();
        sender.send(socket.read(&mut buffer).map_err(|e| e.kind())).unwrap();
    }));
    let mut client = connect(front);
    client.write_all(b"kill").unwrap();
    assert_eq!(client.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionReset);

    let mut client = connect(front);
    client.write_all(b"live").unwrap();
    client.read_exact(&mut [0; 2]).unwrap();
    reset(client);
    assert_eq!(seen.recv_timeout(PATIENCE).unwrap(), Err(ErrorKind::ConnectionReset));
}

#[test]
fn a_server_that_is_not_there_resets_the_client_and_shows_on_the_connector() {
    let nobody = Nobody::listens();
    let (west, _east, front) = linked(nobody.address());
    let mut client = connect(front);
    let error = client.read(&mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let status = west.until("the connector has a fault", |s| s.connectors[0].fault.is_some());
    let fault = status.connectors[0].fault.clone().unwrap();
    assert_eq!(fault.code().as_str(), "unreachable", "{fault}");
    // It comes back by itself when the server does.
    let server = nobody.begins();
    let answered = std::thread::spawn(move || echo(server.accept().unwrap().0));
    assert_eq!(exchange(front, b"hello"), b"hello");
    answered.join().unwrap();
    west.until("the fault is gone", |s| s.connectors[0].fault.is_none());
}

#[test]
fn a_slow_reader_holds_only_its_own_flow_and_little_memory() {
    let (sender, started) = channel();
    let (west, _east, front) = linked(serve(move |mut socket: TcpStream| {
        let mut first = [0; 1];
        socket.read_exact(&mut first).unwrap();
        if first[0] == b's' {
            sender.send(socket).unwrap(); // kept open, never read
        } else {
            socket.write_all(&first).unwrap();
            echo(socket);
        }
    }));
    let mut slow = connect(front);
    slow.set_write_timeout(Some(std::time::Duration::from_millis(500))).unwrap();
    slow.write_all(b"s").unwrap();
    let held = started.recv_timeout(PATIENCE).unwrap();
    // Filled until the back-pressure reaches the client.
    let chunk = pattern(64 * 1024);
    let mut taken = 0usize;
    let refused = loop {
        match slow.write(&chunk) {
            Ok(n) => taken += n,
            Err(error) => break error.kind(),
        }
        assert!(taken < 512 * 1024 * 1024, "nothing held the client back");
    };
    assert!(matches!(refused, ErrorKind::WouldBlock | ErrorKind::TimedOut), "{refused:?}");
    // Others on the same link go on.
    for _ in 0..20 {
        assert!(exchange(front, &chunk) == chunk);
    }
    let flows = west.network.status().unwrap().connectors[0].traffic.open;
    assert!(flows >= 1);
    drop(held);
}

#[test]
fn an_idle_flow_goes_on_after_the_link_has_been_quiet() {
    let (_west, east, front) = linked(serve(echo));
    let mut client = connect(front);
    client.write_all(b"1").unwrap();
    client.read_exact(&mut [0; 1]).unwrap();
    // Longer than it takes to notice a lost link: pings keep a quiet one.
    let since = east.network.status().unwrap().links[0].since;
    let start = std::time::Instant::now();
    east.until("four quiet seconds pass", |_| start.elapsed().as_secs() >= 4);
    client.write_all(b"2").unwrap();
    client.read_exact(&mut [0; 1]).unwrap();
    assert_eq!(east.network.status().unwrap().links[0].since, since);
}

#[test]
fn listener_and_connector_at_the_same_site_need_no_link() {
    let mut site = Site::new("alone");
    site.connector("svc", serve(echo));
    let front = site.listener("svc");
    let sent = pattern(3_000_000);
    assert!(exchange(front, &sent) == sent);
    let status = site.until("the flow has ended", |s| s.listeners[0].traffic.open == 0);
    assert_eq!(status.connectors[0].traffic.bytes_in, 3_000_000);
}

#[test]
fn a_client_of_an_unknown_service_is_reset_at_once() {
    let mut site = Site::new("alone");
    let front = site.listener("nothing");
    let mut client = connect(front);
    assert_eq!(client.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(site.network.status().unwrap().listeners[0].traffic.failed, 1);
}
