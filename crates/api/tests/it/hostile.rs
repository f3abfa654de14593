//! Hostile bytes on the grant port and the admin socket: nothing panics, hangs or grows.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use handfast_api::admin::Client;
use handfast_api::grants::{GrantLimits, Rate};
use handfast_api::serve::Limits;
use handfast_testkit::authority::TestAuthority;
use handfast_tls::{Attempt, ClientOptions, Clock};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;

use crate::clients::{GrantPort, PATIENCE, hasty, now, read_to_end, serve_admin, status_of};
use crate::grants::East;

/// Limits of time as [`hasty`] has them; of number, none that these tests would meet.
fn limits() -> GrantLimits {
    let unlimited = Rate { burst: 1_000_000, every: Duration::from_micros(1) };
    GrantLimits {
        connection: hasty(),
        connections_per_source: 1000,
        connection_rate: unlimited,
        request_rate: unlimited,
        ..GrantLimits::default()
    }
}

struct Attacker {
    config: Arc<ClientConfig>,
    port: GrantPort,
    ca: String,
}

impl Attacker {
    async fn new(limits: GrantLimits) -> Self {
        let authority = TestAuthority::new("demo.example", now());
        let options = ClientOptions { clock: Clock::fixed(now()), ..ClientOptions::default() };
        let config = handfast_tls::client_config(None, &authority.anchors(), &options)
            .expect("a configuration");
        let port = GrantPort::start(&authority, limits).await;
        Self { config, port, ca: authority.anchors().to_pem() }
    }

    async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.port.address).await.expect("connected")
    }

    async fn tls(&self) -> TlsStream<TcpStream> {
        let attempt = Attempt::client("127.0.0.1", now());
        let config = Arc::clone(&self.config);
        handfast_tls::connect(self.tcp().await, config, "127.0.0.1", attempt, PATIENCE)
            .await
            .expect("a handshake")
    }

    /// The port works for those who behave, and nothing was granted to the others.
    async fn done(self) {
        assert_eq!(self.port.granter.redeemed.load(Ordering::Relaxed), 0);
        East::new().redeem(&self.port.url("good"), &self.ca).await.expect("still served");
        self.port.server.stop().await;
    }
}

/// Bytes that are the same in every run, and like nothing in particular.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

/// Writes as much as the other side takes; being cut off is an answer.
async fn push<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) {
    if stream.write_all(bytes).await.is_ok() {
        stream.flush().await.ok();
    }
}

/// Writes the bytes and returns what comes back until the server closes.
async fn provoke<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    bytes: impl AsRef<[u8]>,
) -> Vec<u8> {
    push(&mut stream, bytes.as_ref()).await;
    read_to_end(&mut stream).await
}

/// All at a time, because some of them are waited for until a time-out.
async fn all_end(provocations: JoinSet<Vec<u8>>) {
    provocations.join_all().await;
}

#[tokio::test]
async fn noise_and_plaintext_on_the_grant_port() {
    let attacker = Attacker::new(limits()).await;
    let mut noises = JoinSet::new();
    for seed in 0..40_u8 {
        let bytes = noise(seed.into(), 1 + 97 * usize::from(seed));
        noises.spawn(provoke(attacker.tcp().await, bytes));
    }
    all_end(noises).await;
    // A record header that promises more than comes, and one of a handshake that never fits.
    provoke(attacker.tcp().await, [0x16, 3, 1, 0xff, 0xff, 1]).await;
    provoke(attacker.tcp().await, [&[0x16, 3, 1, 0x40, 0][..], &[1; 0x4000]].concat()).await;
    provoke(attacker.tcp().await, b"POST /v1/grants/good HTTP/1.1\r\nhost: a\r\n\r\n").await;
    // The granter is told after the connection is closed.
    let told = async {
        let is_told = || {
            let refusals = attacker.port.granter.refusals.lock().expect("unpoisoned");
            refusals.iter().any(|fault| fault.code().to_string() == "plaintext-to-tls")
        };
        while !is_told() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("the granter is told");
    attacker.done().await;
}

#[tokio::test]
async fn noise_inside_tls_on_the_grant_port() {
    let attacker = Attacker::new(limits()).await;
    let mut noises = JoinSet::new();
    for seed in 0..20_u8 {
        let bytes = noise(seed.into(), 1 + 997 * usize::from(seed));
        noises.spawn(provoke(attacker.tls().await, bytes));
    }
    all_end(noises).await;
    for (request, status) in [
        ("GARBAGE\r\n\r\n".to_owned(), Some(400)),
        ("GET /v1/grants/good HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(), Some(405)),
        ("POST /v1/grants/%00%ff HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}".to_owned(), Some(400)),
        ("POST /v1/grants/good HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}".to_owned(), Some(400)),
        ("POST /v1/grants/good HTTP/1.1\r\nhost: a\r\ncontent-length: 7\r\n\r\n\u{0}\u{1}[[[[{".to_owned(), Some(400)),
        ("POST /v1/grants/good HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n".to_owned(), Some(400)),
        ("POST /v1/grants/good HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}".to_owned(), Some(400)),
        ("POST /v1/grants/good HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n".to_owned(), Some(400)),
        // JSON nested deeper than any parser likes.
        (format!("POST /v1/grants/good HTTP/1.1\r\nhost: a\r\ncontent-length: 60000\r\n\r\n{}", "[".repeat(60000)), Some(400)),
        // Larger than is accepted: promised, and really sent, in one piece or in chunks.
        ("POST /v1/grants/good HTTP/1.1\r\nhost: a\r\ncontent-length: 9999999999\r\n\r\n{}".to_owned(), Some(413)),
        (format!("POST /v1/grants/good HTTP/1.1\r\nhost: a\r\ncontent-length: 300000\r\n\r\n{}", " ".repeat(300_000)), Some(413)),
        (format!("POST /v1/grants/good HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{}", format!("1000\r\n{}\r\n", " ".repeat(4096)).repeat(40)), Some(413)),
        // Headers without end: one long, and many.
        (format!("POST /v1/grants/good HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(100_000)), Some(431)),
        (format!("POST /v1/grants/good HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(500)), Some(431)),
        (format!("POST /{} HTTP/1.1\r\nhost: a\r\n\r\n", "y".repeat(100_000)), None),
    ] {
        let answer = provoke(attacker.tls().await, request.as_bytes()).await;
        let shown: String = request.chars().take(90).collect();
        match status {
            Some(status) => assert_eq!(status_of(&answer), Some(status), "{shown:?}"),
            None => assert!(matches!(status_of(&answer), Some(414 | 431)), "{shown:?}"),
        }
    }
    attacker.done().await;
}

#[tokio::test]
async fn a_slow_client_is_cut_off_at_every_stage() {
    let attacker = Attacker::new(limits()).await;
    // Nothing at all; half a handshake; a handshake and nothing; half a header.
    let mut slow = JoinSet::new();
    slow.spawn(provoke(attacker.tcp().await, b""));
    slow.spawn(provoke(attacker.tcp().await, [0x16, 3, 1, 2, 0, 1]));
    slow.spawn(provoke(attacker.tls().await, b""));
    slow.spawn(provoke(attacker.tls().await, b"POST /v1/grants/good HTTP/1.1\r\nhost:"));
    // One byte at a time, always in time for a limit that starts anew with each byte.
    let mut drip = attacker.tls().await;
    slow.spawn(async move {
        let started = tokio::time::Instant::now();
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        while drip.write_all(b"x").await.is_ok() && drip.flush().await.is_ok() {
            assert!(started.elapsed() < PATIENCE, "a dripping client is served for ever");
            ticks.tick().await;
        }
        Vec::new()
    });
    // Half a body is answered.
    let half = b"POST /v1/grants/good HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n{";
    assert_eq!(status_of(&provoke(attacker.tls().await, half).await), Some(408));
    all_end(slow).await;
    attacker.done().await;
}

#[tokio::test]
async fn those_who_hold_connections_open_do_not_keep_others_out() {
    let few = Limits { connections: 8, ..hasty() };
    let attacker = Attacker::new(GrantLimits { connection: few, ..limits() }).await;
    let mut held = Vec::new();
    for _ in 0..24 {
        held.push(attacker.tcp().await);
    }
    // Served while they are all still open on their side.
    East::new().redeem(&attacker.port.url("good"), &attacker.ca).await.expect("served");
    attacker.port.granter.redeemed.store(0, Ordering::Relaxed);
    drop(held);
    attacker.done().await;

    // One address gets no more than its share at a time.
    let attacker = Attacker::new(GrantLimits { connections_per_source: 2, ..limits() }).await;
    let first = attacker.tls().await;
    let second = attacker.tls().await;
    read_to_end(&mut attacker.tcp().await).await;
    drop((first, second));
    // The places come back when the server has seen them close, at the latest after its limits.
    let attempts = async {
        while East::new().redeem(&attacker.port.url("good"), &attacker.ca).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, attempts).await.expect("places come back");
    attacker.port.server.stop().await;
}

/// Memory is a matter of the whole process, so this runs in one of its own.
#[test]
fn memory_does_not_grow_with_hostile_connections() {
    const ALONE: &str = "HANDFAST_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        return runtime.block_on(measure_memory());
    }
    let output = std::process::Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "hostile::memory_does_not_grow_with_hostile_connections", "--nocapture"])
        .env(ALONE, "1")
        .output()
        .expect("it runs");
    print!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
async fn measure_memory() {
    let attacker = Attacker::new(limits()).await;
    let huge = format!(
        "POST /v1/grants/good HTTP/1.1\r\nhost: a\r\ncontent-length: 60000\r\n\r\n{}",
        "[".repeat(60_000)
    );
    let round = async || {
        for seed in 0..100 {
            provoke(attacker.tcp().await, noise(seed, 2000)).await;
            provoke(attacker.tls().await, huge.as_bytes()).await;
        }
    };
    round().await;
    let Some(before) = resident_kib() else {
        println!("skipped: no /proc/self/status to read memory from");
        return;
    };
    for _ in 0..3 {
        round().await;
    }
    let after = resident_kib().unwrap_or(before);
    // 300 leaks of a request's 60 kB would be 18 MiB, 600 of a connection's buffers more.
    assert!(after < before + 8 * 1024, "{before} KiB before, {after} KiB after");
    attacker.done().await;
}

fn resident_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[tokio::test]
async fn hostile_bytes_on_the_admin_socket() {
    let home = tempfile::tempdir().expect("a directory");
    let path = home.path().join("admin.sock");
    let server = serve_admin(&path, Limits { connections: 4, ..hasty() }).await;
    let connect = async || UnixStream::connect(&path).await.expect("connected");

    let mut noises = JoinSet::new();
    for seed in 0..40_u8 {
        let bytes = noise(seed.into(), 1 + 997 * usize::from(seed));
        noises.spawn(provoke(connect().await, bytes));
    }
    all_end(noises).await;
    // Slow at every stage, more of them than places.
    let mut held = Vec::new();
    for _ in 0..8 {
        let mut stream = connect().await;
        push(&mut stream, b"GET /v1/st").await;
        held.push(stream);
    }
    for mut stream in held {
        read_to_end(&mut stream).await;
    }
    for (request, status) in [
        ("GET /v2/status HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(), 404),
        ("DELETE /v1/status HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(), 405),
        (
            "POST /v1/tokens HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nnonsense!".to_owned(),
            400,
        ),
        (
            "POST /v1/tokens HTTP/1.1\r\nhost: a\r\ncontent-length: 16\r\n\r\n{\"unknown\":true}"
                .to_owned(),
            400,
        ),
        ("POST /v1/tokens HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n{".to_owned(), 504),
        (
            "POST /v1/tokens HTTP/1.1\r\nhost: a\r\ncontent-length: 9999999999\r\n\r\n{".to_owned(),
            413,
        ),
        (format!("POST /v1/tokens HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(100_000)), 431),
        (
            format!(
                "POST /v1/renewals HTTP/1.1\r\nhost: a\r\ncontent-length: 400000\r\n\r\n{}",
                "[".repeat(400_000)
            ),
            413,
        ),
    ] {
        let answer = provoke(connect().await, request.as_bytes()).await;
        let shown: String = request.chars().take(80).collect();
        assert_eq!(status_of(&answer), Some(status), "{shown:?}");
    }
    Client::new(&path).status().await.expect("still served");
    server.stop().await;
}

/// What a peer sent is not repeated to it, or to the log, where it could hold a code.
#[tokio::test]
async fn answers_to_broken_requests_quote_nothing() {
    let attacker = Attacker::new(limits()).await;
    let secret = "hunter2-hunter2";
    for body in [
        format!("{{\"code\": [\"{secret}\"], \"site\": \"east\", \"csr\": \"\"}}"),
        format!("{{\"{secret}\": 1}}"),
        format!("{{\"code\": \"{secret}\", \"site\": \"east\", \"csr\": \"nonsense\"}}"),
        format!("{{\"code\": \"{secret}\", \"site\": 5, \"csr\": \"\"}}"),
    ] {
        let request = format!(
            "POST /v1/grants/good HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = provoke(attacker.tls().await, request.as_bytes()).await;
        assert_eq!(status_of(&answer), Some(400));
        let text = String::from_utf8_lossy(&answer);
        assert!(!text.contains(secret), "{text}");
    }
    attacker.done().await;
}
