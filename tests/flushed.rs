//! What was answered was flushed before (rule 9). A process that is killed loses nothing of what it has written, so no kill shows
//! whether it was flushed: a power cut would. Here `strace` tells which files the node flushed; it writes its line
//! before the node goes on, so the line is there when the answer is.
#![expect(clippy::print_stdout, reason = "says that it was skipped, and why")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use handfast_testkit::eventually::now;
use handfast_testkit::place::{Place, free_port};
use handfast_testkit::site::Site;

/// What a node flushes, from some moment on.
struct Flushes {
    strace: Child,
    trace: PathBuf,
}

impl Flushes {
    /// Nothing, and a line that says so, where processes cannot be looked at.
    fn of(site: &Site) -> Option<Self> {
        let trace = site.path("../flushes");
        let strace = Command::new("strace")
            .args(["-f", "-y", "-e", "trace=fsync,fdatasync", "-p", &site.pid().to_string()])
            .arg("-o")
            .arg(&trace)
            .stderr(Stdio::piped())
            .spawn();
        let Ok(mut strace) = strace else {
            println!("skipped: there is no strace");
            return None;
        };
        let mut said = String::new();
        let stderr = strace.stderr.take().expect("a pipe");
        BufReader::new(stderr).read_line(&mut said).expect("strace says what it does");
        if said.contains(" attached") {
            return Some(Self { strace, trace });
        }
        println!("skipped: strace may not look at processes here: {said}");
        strace.wait().expect("it ends");
        None
    }

    /// How often a file was flushed whose path has this in it.
    fn count(&self, file: &str) -> usize {
        let text = fs::read_to_string(&self.trace).expect("a trace");
        text.lines().filter(|line| line.contains("sync(") && line.contains(file)).count()
    }

    #[track_caller]
    fn during(&self, files: &[&str], act: impl FnOnce()) {
        let before: Vec<usize> = files.iter().map(|file| self.count(file)).collect();
        act();
        for (file, before) in files.iter().zip(before) {
            assert!(self.count(file) > before, "answered, and {file} was not flushed");
        }
    }
}

impl Drop for Flushes {
    fn drop(&mut self) {
        drop(self.strace.kill());
        drop(self.strace.wait());
    }
}

#[test]
fn what_is_answered_was_flushed_before() {
    let place = Place::new(env!("CARGO_BIN_EXE_handfast"));
    let (mut west, mut east) = (place.west(), place.lone("east"));
    west.start();
    east.start();
    let (grpc, http) = (free_port(), free_port());
    west.json(&format!(
        "collector create telemetry --host 127.0.0.1 --hosts localhost --grpc-port {grpc} --http-port {http} --mode plaintext"
    ));
    let Some(flushes) = Flushes::of(&west) else { return };

    let token = west.path("../east.token").display().to_string();
    flushes
        .during(&["/runtime/state.db-wal>"], || drop(west.json(&format!("token issue {token}"))));
    flushes.during(&["/runtime/state.db-wal>"], || {
        east.json(&format!("token redeem {token} --timeout 60s"));
    });
    let renewed = ["/runtime/state.db-wal>", "/runtime/certs/handfast-site-server/"];
    flushes.during(&renewed, || drop(west.json("cert renew handfast-site-server")));
    flushes.during(&["/runtime/telemetry/collector-telemetry/"], || report(http));
    let revoked = ["/runtime/state.db-wal>", "/runtime/revocations.log>"];
    flushes.during(&revoked, || {
        west.json("cert revoke --name east --reason superseded");
    });
}

/// An agent that has its segment accepted.
fn report(port: u16) {
    let begin = now().as_millisecond();
    let body = serde_json::json!([{
        "traceId": "t", "traceSegmentId": "s", "service": "shop", "serviceInstance": "shop-1",
        "spans": [{
            "spanId": 0, "parentSpanId": -1, "startTime": begin, "endTime": begin + 40,
            "operationName": "/buy", "spanType": "Entry",
        }],
    }])
    .to_string();
    let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("the collector's port");
    let head = format!(
        "POST /v3/segments HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    socket.write_all(format!("{head}{body}").as_bytes()).expect("it is read");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
