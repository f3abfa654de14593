//! Strangers who mean harm, at everything that can be reached: the link port, the grant port, the admin
//! socket, a listener. The node goes on serving, never panics, hangs or grows past a bound.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use handfast_testkit::eventually::{eventually, until, within};
use handfast_testkit::place::{Place, free_port};
use handfast_testkit::site::Site;
use handfast_testkit::traffic::{Echo, Load, connect_from, visit};

/// What a node may take on top of what it took when it was quiet. The limits it keeps (connections,
/// handshakes, bodies) allow less; an unbounded queue would be past this in a moment.
const GROWTH_KB: u64 = 32 * 1024;

/// Two linked sites with a service between them, and a client that must not notice anything.
struct Stage {
    place: Place,
    west: Site,
    east: Site,
    _service: Echo,
    port: u16,
    quiet_kb: u64,
}

impl Stage {
    fn set() -> Self {
        let place = Place::new(env!("CARGO_BIN_EXE_handfast"));
        let (west, east) = place.linked();
        let service = Echo::start("payments");
        let port = free_port();
        west.json(&format!("connector create payments {} --host 127.0.0.1", service.port()));
        east.json(&format!("listener create payments {port} --host 127.0.0.1"));
        until("traffic goes through", || visit(port).is_ok());
        let quiet_kb = west.memory_kb("VmRSS");
        Self { place, west, east, _service: service, port, quiet_kb }
    }

    /// Ends the stage: both nodes are well, have not grown, have not panicked, and still stop in order.
    fn struck(mut self, load: Load) {
        let so_far = load.answered();
        within(Duration::from_secs(60), "the good client is served", || {
            (load.answered() > so_far + 50).then_some(())
        });
        let (answered, failures) = load.finish();
        assert_eq!(failures, Vec::<String>::new(), "of {answered} requests");
        // The high-water mark: what was given back since counts too.
        let grown = self.west.memory_kb("VmHWM").saturating_sub(self.quiet_kb);
        assert!(grown < GROWTH_KB, "west grew by {grown} kB from {} kB", self.quiet_kb);
        let token = self.place.path("afterwards.token");
        eventually("tokens are issued and redeemed", || {
            drop(std::fs::remove_file(&token));
            self.west.json(&format!("token issue {} --site east", token.display()));
            (self.east.run(&format!("token redeem {} --timeout 20s", token.display())).code == 0)
                .then_some(())
        });
        for site in [&mut self.west, &mut self.east] {
            assert!(site.runs(), "{}", site.log());
            let log = site.log();
            assert!(!log.contains("panicked") && !log.contains("BUG"), "{log}");
            site.stop();
        }
    }
}

/// Bytes that are different every time and the same in every run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next().to_le_bytes()[3]).collect()
    }
}

/// What a stranger might begin with.
fn openings(noise: &mut Noise) -> Vec<Vec<u8>> {
    let hello = |length: usize, noise: &mut Noise| {
        // A TLS record header that promises a ClientHello, and something else behind it.
        let mut bytes = vec![0x16, 3, 1];
        bytes.extend(u16::try_from(length).expect("short").to_be_bytes());
        bytes.extend([1, 0, 0xff, 0xff, 3, 3]);
        bytes.extend(noise.bytes(length.saturating_sub(6)));
        bytes
    };
    vec![
        Vec::new(),
        vec![0],
        vec![0x16],
        vec![0x16, 3, 1, 0xff, 0xff],
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(),
        b"POST /v1/grants/west-00000000 HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n{".to_vec(),
        b"POST /v1/tokens HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n".to_vec(),
        b"GET /v1/status HTTP/1.1\r\nHost: x\r\n".iter().copied().chain(b"A: b\r\n".repeat(4000)).collect(),
        vec![b'A'; 300_000],
        hello(512, noise),
        hello(16_000, noise),
        noise.bytes(64),
        noise.bytes(5000),
        noise.bytes(200_000),
    ]
}

/// Sends, and reads whatever comes for as long as the other side allows. Returns when it has closed.
fn strike(mut socket: impl Read + Write, bytes: &[u8]) {
    // Being cut off is what should happen.
    drop(socket.write_all(bytes));
    let mut buffer = [0; 4096];
    while socket.read(&mut buffer).is_ok_and(|count| count > 0) {}
}

fn tcp(port: u16) -> io::Result<TcpStream> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let socket = TcpStream::connect_timeout(&address, Duration::from_secs(10))?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    socket.set_write_timeout(Some(Duration::from_secs(1)))?;
    Ok(socket)
}

#[test]
fn random_and_hostile_bytes_at_every_door() {
    let stage = Stage::set();
    let load = Load::start(stage.port, 1, 1);
    let (link, grant) = (stage.west.link_port(), stage.west.grant_port());
    let admin = stage.west.path("runtime/admin.sock");
    let strangers: Vec<JoinHandle<()>> = (0..3u64)
        .map(|which| {
            let admin = admin.clone();
            std::thread::spawn(move || {
                let mut noise = Noise(0x5eed_0000 + which + 1);
                for _ in 0..2 {
                    for bytes in openings(&mut noise) {
                        match which {
                            0 => drop(tcp(link).map(|socket| strike(socket, &bytes))),
                            1 => drop(tcp(grant).map(|socket| strike(socket, &bytes))),
                            _ => {
                                let Ok(socket) = UnixStream::connect(&admin) else { continue };
                                drop(socket.set_read_timeout(Some(Duration::from_secs(1))));
                                drop(socket.set_write_timeout(Some(Duration::from_secs(1))));
                                strike(socket, &bytes);
                            }
                        }
                    }
                }
            })
        })
        .collect();
    for stranger in strangers {
        stranger.join().expect("a stranger");
    }
    stage.struck(load);
}

#[test]
fn bytes_that_come_one_by_one_are_not_waited_for_forever() {
    let stage = Stage::set();
    let load = Load::start(stage.port, 1, 1);
    let admin = stage.west.path("runtime/admin.sock");
    let (link, grant) = (stage.west.link_port(), stage.west.grant_port());
    let hello = [&[0x16u8, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 400]].concat();
    let request = b"POST /v1/tokens HTTP/1.1\r\nHost: x\r\nX-Slow: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    // One byte every 100 ms: without a time limit on the whole, this would go on for over half a minute.
    let drip = |mut socket: Box<dyn Write + Send>, bytes: Vec<u8>| {
        std::thread::spawn(move || {
            let start = Instant::now();
            for byte in bytes.iter().cycle().take(400) {
                if socket.write_all(&[*byte]).is_err() {
                    return start.elapsed();
                }
                std::thread::sleep(Duration::from_millis(100));
            }
            start.elapsed()
        })
    };
    let drips = [
        ("link port", drip(Box::new(tcp(link).expect("a connection")), hello.clone())),
        ("grant port", drip(Box::new(tcp(grant).expect("a connection")), hello)),
        (
            "admin socket",
            drip(Box::new(UnixStream::connect(&admin).expect("a connection")), request.to_vec()),
        ),
    ];
    for (door, drip) in drips {
        let lasted = drip.join().expect("a stranger");
        assert!(lasted < Duration::from_secs(30), "the {door} listened for {lasted:?}");
    }
    stage.struck(load);
}

/// A relay, a NAT: who floods may have the same address as who means well.
#[test]
fn a_flood_from_its_own_address_does_not_keep_a_link_out() {
    let mut stage = Stage::set();
    stage.east.stop();
    let port = stage.west.link_port();
    let idle: Vec<_> =
        (0..200).filter_map(|_| connect_from(Ipv4Addr::LOCALHOST, port).ok()).collect();
    let begin = Instant::now();
    stage.east.start();
    let link = stage.east.json("link status")[0]["name"].as_str().expect("a link").to_owned();
    stage.east.link_up(&link);
    let took = begin.elapsed();
    assert_eq!(idle.len(), 200);
    // Before they are given up for their slowness.
    assert!(took < Duration::from_secs(8), "{took:?}");
}

#[test]
fn floods_of_idle_connections_leave_room_for_good_ones() {
    let mut stage = Stage::set();
    let load = Load::start(stage.port, 1, 1);
    // From other addresses of this machine, as strangers have.
    let mut idle = Vec::new();
    let mut local = Vec::new();
    for source in 2..10 {
        let source = Ipv4Addr::new(127, 0, 0, source);
        for port in [stage.west.link_port(), stage.west.grant_port()] {
            idle.extend((0..60).filter_map(|_| connect_from(source, port).ok()));
        }
    }
    assert!(idle.len() > 700, "only {} connections", idle.len());
    let admin = stage.west.path("runtime/admin.sock");
    local.extend((0..60).filter_map(|_| UnixStream::connect(&admin).ok()));
    stage.west.run("status").ok();

    // A link is made in the middle of it: east's node is new, and so is its connection.
    stage.east.stop();
    let stopped = load.finish();
    assert!(stopped.0 > 0);
    stage.east.start();
    let link = stage.east.json("link status")[0]["name"].as_str().expect("a link").to_owned();
    stage.east.link_up(&link);
    until("traffic goes through", || visit(stage.port).is_ok());
    let load = Load::start(stage.port, 1, 1);

    // They are all let go of in the end; nothing was said to them.
    for socket in &mut idle {
        socket.set_read_timeout(Some(Duration::from_secs(40))).expect("a time-out");
        let mut byte = [0];
        let read = socket.read(&mut byte);
        let timed_out = read.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        assert!(!timed_out, "an idle connection is kept for over 40 s");
    }
    drop((idle, local));
    stage.struck(load);
}
