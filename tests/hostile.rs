//! Strangers who mean harm, at everything that can be reached: the link port, the grant port, the admin
//! socket, a listener, the ports of collectors and relays. The node goes on serving, never panics, hangs or grows past a
//! bound.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use handfast_pki::{Credential, SystemEntropy};
use handfast_telemetry::grpc::{Body, Code, MESSAGE_LIMIT, Status, stream};
use handfast_telemetry::quota::HELD_BY_ONE;
use handfast_telemetry::upstream::{Backend, Dice, Security, Upstream, UpstreamPlan};
use handfast_testkit::agents;
use handfast_testkit::eventually::{eventually, now, until, within};
use handfast_testkit::place::{Place, free_port};
use handfast_testkit::site::Site;
use handfast_testkit::traffic::{Echo, Load, connect_from, take_descriptors, visit};
use handfast_tls::{ClientOptions, client_config};
use hyper::HeaderMap;
use hyper::body::Frame;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::task::JoinHandle as Task;

const SEGMENTS: &str = "/skywalking.v3.TraceSegmentReportService/collect";

/// What a node may take on top of what it took when it was quiet. The limits it keeps (connections,
/// handshakes, bodies) allow less; an unbounded queue would be past this in a moment.
const GROWTH_KB: u64 = 32 * 1024;

/// Halves of messages that somebody leaves at each door, and how much of each comes.
const HALVES: usize = 8;
const HALF: usize = 40 << 20;

/// What those may take on top of [`GROWTH_KB`]: as much of messages as one caller may have at the same time over all its
/// calls (a message of the largest size, packed and unpacked), one of them a second time while its buffer grows, and what
/// a connection takes ahead of the call that reads it, 4 MiB. That is less than what is sent, so that it is missed where
/// nobody counts.
const HALVES_KB: u64 = (HELD_BY_ONE + HALF as u64) / 1024 + HALVES as u64 * 4096;
const _: () = assert!(HALVES_KB + GROWTH_KB < (HALVES * HALF) as u64 / 1024);

/// Two linked sites with a service between them, and a client that must not notice anything.
struct Stage {
    place: Place,
    west: Site,
    east: Site,
    _service: Echo,
    port: u16,
    telemetry: Telemetry,
    quiet_kb: u64,
}

/// The ports of collectors and of a relay, gRPC and HTTP: one that wants certificates, one that takes whoever comes, and
/// the relay, in the clear.
#[derive(Clone, Copy)]
struct Telemetry {
    strict: [u16; 2],
    lenient: [u16; 2],
    relay: [u16; 2],
}

impl Telemetry {
    fn at(west: &Site) -> Self {
        let ports = || [free_port(), free_port()];
        let telemetry = Self { strict: ports(), lenient: ports(), relay: ports() };
        for (name, [grpc, http], mode) in
            [("strict", telemetry.strict, "mtls"), ("lenient", telemetry.lenient, "permissive")]
        {
            west.json(&format!(
                "collector create {name} --host 127.0.0.1 --hosts localhost --grpc-port {grpc} --http-port {http} --mode {mode}"
            ));
        }
        let ([backend, _], [grpc, http]) = (telemetry.strict, telemetry.relay);
        west.json(&format!(
            "relay create shop --service shop --backend 127.0.0.1:{backend} --grpc 127.0.0.1:{grpc} --http 127.0.0.1:{http}"
        ));
        telemetry
    }

    fn all(self) -> Vec<u16> {
        [self.strict, self.lenient, self.relay].concat()
    }
}

impl Stage {
    fn set() -> Self {
        take_descriptors();
        let place = Place::new(env!("CARGO_BIN_EXE_handfast"));
        let (west, east) = place.linked();
        let service = Echo::start("payments");
        let port = free_port();
        west.json(&format!("connector create payments {} --host 127.0.0.1", service.port()));
        east.json(&format!("listener create payments {port} --host 127.0.0.1"));
        until("traffic goes through", || visit(port).is_ok());
        let telemetry = Telemetry::at(&west);
        let quiet_kb = west.memory_kb("VmRSS");
        Self { place, west, east, _service: service, port, telemetry, quiet_kb }
    }

    /// Ends the stage: both nodes are well, have not grown, have not panicked, and still stop in order.
    fn struck(self, load: Load) {
        self.struck_within(load, GROWTH_KB);
    }

    fn struck_within(mut self, load: Load, growth_kb: u64) {
        let so_far = load.answered();
        within(Duration::from_secs(60), "the good client is served", || {
            (load.answered() > so_far + 50).then_some(())
        });
        let (answered, failures) = load.finish();
        assert_eq!(failures, Vec::<String>::new(), "of {answered} requests");
        // The high-water mark: what was given back since counts too.
        let grown = self.west.memory_kb("VmHWM").saturating_sub(self.quiet_kb);
        assert!(grown < growth_kb, "west grew by {grown} kB from {} kB", self.quiet_kb);
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

    /// An agent; without a credential in the clear.
    fn agent(port: u16, credential: Option<&Credential>) -> Arc<Upstream> {
        let security = credential.map_or(Security::Plaintext, |credential| {
            let options = ClientOptions { alpn: vec![b"h2".to_vec()], ..ClientOptions::default() };
            let config = client_config(Some(credential), credential.anchors(), &options);
            Security::Tls { config: config.expect("a configuration"), server_name: None }
        });
        let plan = UpstreamPlan {
            authentication: None,
            backends: vec![Backend { host: "localhost".to_owned(), port }],
            security: Some(security),
        };
        Arc::new(Upstream::new(plan, Arc::new(now), Dice::new(SystemEntropy)))
    }

    /// What `agent-certs` makes for an agent of the shop.
    fn shop(&self) -> Credential {
        let directory = self.place.path("certs");
        self.west
            .run(&format!("agent-certs {} --service shop --hosts localhost", directory.display()))
            .ok();
        let read = |name: &str| std::fs::read(directory.join(name)).expect("a file");
        let (chain, key, ca) = (read("client.crt"), read("client.pem"), read("ca.crt"));
        Credential::from_pem(&chain, &key, &ca, None).expect("a credential")
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
    let telemetry = stage.telemetry.all();
    let strangers: Vec<JoinHandle<()>> = (0..3 + telemetry.len())
        .map(|which| {
            let admin = admin.clone();
            let telemetry = which.checked_sub(3).map(|at| telemetry[at]);
            std::thread::spawn(move || {
                let mut noise = Noise(0x5eed_0000 + which as u64 + 1);
                for _ in 0..2 {
                    for bytes in openings(&mut noise) {
                        match (which, telemetry) {
                            (_, Some(port)) => drop(tcp(port).map(|socket| strike(socket, &bytes))),
                            (0, _) => drop(tcp(link).map(|socket| strike(socket, &bytes))),
                            (1, _) => drop(tcp(grant).map(|socket| strike(socket, &bytes))),
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
    let Telemetry { strict: [strict, _], lenient: [_, lenient], relay: [_, relay] } =
        stage.telemetry;
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
        ("grant port", drip(Box::new(tcp(grant).expect("a connection")), hello.clone())),
        (
            "collector's gRPC port",
            drip(Box::new(tcp(strict).expect("a connection")), hello.clone()),
        ),
        ("collector's HTTP port", drip(Box::new(tcp(lenient).expect("a connection")), hello)),
        ("relay's HTTP port", drip(Box::new(tcp(relay).expect("a connection")), request.to_vec())),
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

/// Zeros, packed as small as DEFLATE can: one of them, and then again and again the 258 before. No end is needed: it is
/// given up long before.
fn bomb(unpacked: usize) -> Vec<u8> {
    // The head of gzip (RFC 1952), and a block of fixed codes (RFC 1951, section 3.2.6).
    let mut bytes = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    let (mut octet, mut filled) = (0u8, 0);
    let mut put = |bits: &str| {
        for bit in bits.bytes() {
            octet |= (bit - b'0') << filled;
            filled += 1;
            if filled == 8 {
                bytes.push(std::mem::take(&mut octet));
                filled = 0;
            }
        }
    };
    put("010");
    put("00110000");
    (0..unpacked / 258).for_each(|_| put("1100010100000"));
    bytes
}

/// A message that says it is of the largest size, and of which the rest never comes.
struct Half {
    _rest: mpsc::Sender<Frame<Bytes>>,
    asking: Task<Result<hyper::Response<hyper::body::Incoming>, Status>>,
    /// How it was answered, if it was: it is waited for no more then.
    answer: Option<String>,
}

impl Half {
    async fn leave_at(agent: Arc<Upstream>) -> Self {
        let (frames, body) = stream(1);
        let mut asking =
            tokio::spawn(async move { agent.request(SEGMENTS, &HeaderMap::new(), body).await });
        let length = u32::try_from(MESSAGE_LIMIT).expect("small").to_be_bytes();
        let mut piece = Bytes::from([&[0][..], &length].concat());
        let feeding = async {
            for _ in 0..=HALF >> 20 {
                if frames.send(Frame::data(piece)).await.is_err() {
                    return false;
                }
                piece = Bytes::from(vec![b'x'; 1 << 20]);
            }
            true
        };
        let answer = tokio::select! {
            answer = &mut asking => Some(answer),
            all = feeding => if all { None } else { Some((&mut asking).await) },
        };
        let mut half = Self { _rest: frames, asking, answer: None };
        if let Some(answer) = answer {
            half.answered(answer.expect("no panic"));
        }
        half
    }

    fn answered(&mut self, answer: Result<hyper::Response<hyper::body::Incoming>, Status>) {
        let told = match answer {
            Ok(answer) => Status::read(answer.headers())
                .map_or_else(|| format!("{answer:?}"), |status| format!("{status:?}")),
            Err(status) => format!("{status:?}"),
        };
        self.answer = Some(told);
    }

    /// Whether it is still waited for, as far as is known here by now.
    async fn is_held(&mut self) -> bool {
        if self.answer.is_none() && self.asking.is_finished() {
            let answer = (&mut self.asking).await.expect("no panic");
            self.answered(answer);
        }
        self.answer.is_none()
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        self.asking.abort();
    }
}

fn segment(id: &str) -> Bytes {
    agents::segment("shop", id).encode_to_vec().into()
}

#[test]
fn bombs_and_halves_of_messages_take_no_more_room_than_a_caller_has() {
    let stage = Stage::set();
    let load = Load::start(stage.port, 1, 1);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let shop = stage.shop();
    let Telemetry { strict, lenient, relay } = stage.telemetry;
    let doors =
        [("strict", strict, Some(&shop)), ("lenient", lenient, None), ("relay", relay, None)];

    let bomb = bomb(60 << 20);
    let length = u32::try_from(bomb.len()).expect("small").to_be_bytes();
    let message = Bytes::from([&[1][..], &length, &bomb].concat());
    let gzip = "gzip".parse().expect("visible");
    let headers = HeaderMap::from_iter([("grpc-encoding".parse().expect("a name"), gzip)]);
    for (door, [grpc, http], credential) in doors {
        let agent = Stage::agent(grpc, credential);
        let body = Body::from(message.clone());
        let answer = runtime.block_on(agent.request(SEGMENTS, &headers, body)).expect("answered");
        let refused = Status::read(answer.headers()).expect("refused");
        assert_eq!(refused.code, Code::ResourceExhausted, "{door}: {refused}");
        if credential.is_some() {
            continue;
        }
        let mut socket = tcp(http).expect("a connection");
        let head = format!(
            "POST /v3/segments HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n",
            bomb.len()
        );
        socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a time-out");
        socket.write_all(&[head.as_bytes(), &bomb].concat()).expect("sent");
        let mut answer = String::new();
        drop(socket.read_to_string(&mut answer));
        assert!(answer.starts_with("HTTP/1.1 413"), "{door}: {answer}");
    }

    for (door, [grpc, _], credential) in doors {
        let agents: Vec<_> = (0..HALVES).map(|_| Stage::agent(grpc, credential)).collect();
        let mut halves = runtime.block_on(async {
            let mut halves = Vec::new();
            for agent in agents {
                halves.push(Half::leave_at(agent).await);
            }
            halves
        });
        // A refusal may be on its way still.
        let fit = usize::try_from(HELD_BY_ONE).expect("in memory") / HALF;
        until("those that fit are held, and no others", || {
            let mut held = 0;
            for half in &mut halves {
                held += usize::from(runtime.block_on(half.is_held()));
                let answer = half.answer.as_deref().unwrap_or_default();
                let refused =
                    answer.contains("ResourceExhausted") && answer.contains("at the same time");
                assert!(refused || answer.is_empty(), "{door}: {answer}");
            }
            held == fit
        });
        // What is small goes through meanwhile, even of the same caller.
        let agent = Stage::agent(grpc, credential);
        let taken = runtime.block_on(agent.call(SEGMENTS, &[segment(door)]));
        assert!(taken.is_ok(), "{door}: {taken:?}");
        drop(halves);
        // And when they are gone, large ones are taken again.
        let whole = Bytes::from(vec![0xff; HALF]);
        eventually("there is room again", || {
            let told = runtime
                .block_on(agent.call(SEGMENTS, std::slice::from_ref(&whole)))
                .expect_err("no protobuf");
            (told.code == Code::InvalidArgument).then_some(())
        });
    }
    for door in ["strict", "lenient", "relay"] {
        until("what is well is kept", || {
            stage.west.run(&format!("trace show trace-{door}")).code == 0
        });
    }
    stage.struck_within(load, GROWTH_KB + HALVES_KB);
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

/// Most systems give 1,024 to begin with, and many more to whoever asks.
#[test]
fn whoever_serves_takes_all_the_descriptors_that_it_may_have() {
    let place = Place::new(env!("CARGO_BIN_EXE_handfast"));
    let (grpc, http) = (free_port(), free_port());
    let data = place.path("data").display().to_string();
    let script = format!(
        "ulimit -Sn 256 && exec {} collector run --data {data} --grpc 127.0.0.1:{grpc} --http 127.0.0.1:{http} --mode plaintext",
        place.binary().display()
    );
    let mut child =
        std::process::Command::new("sh").args(["-c", &script]).spawn().expect("a shell");
    until("it listens", || TcpStream::connect(("127.0.0.1", grpc)).is_ok());
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", child.id())).expect("limits");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a line");
    let [soft, hard]: [&str; 2] =
        line.split_whitespace().skip(3).take(2).collect::<Vec<_>>().try_into().expect("two");
    let outcome = (soft == hard, soft != "256");
    // It may have ended by itself.
    drop(child.kill());
    drop(child.wait());
    assert_eq!(outcome, (true, true), "{line}");
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
