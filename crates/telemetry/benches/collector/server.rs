//! A collector, relay or sink as a process of its own, told its part by its arguments.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use handfast_telemetry::Record;
use handfast_telemetry::caller::OwnDomain;
use handfast_telemetry::desk::{Desk, DeskPlan};
use handfast_telemetry::forward::Dialect;
use handfast_telemetry::grpc::{Body, Code, Status, failed};
use handfast_telemetry::journal::JournalSettings;
use handfast_telemetry::keep::KeepSettings;
use handfast_telemetry::port::{Mode, Place, Port, PortTls, Protection, Protocol};
use handfast_telemetry::sink::{Now, Question, Sink, Taking, Untaken};
use handfast_telemetry::station::{Output, PortPlan, Station, StationPlan};
use handfast_telemetry::upstream::{Backend, Clock, Dice, Security, UpstreamPlan};
use handfast_tls::{ClientAuth, Revocations};
use http::{Request, Response};

use crate::material;

/// What a process is to be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// A collector with a store, mutual TLS.
    KeepMutual,
    /// The same in the clear.
    KeepPlain,
    /// A collector, mutual TLS, that forwards to a sink.
    Pass { to: u16 },
    /// A relay: plaintext in, mutual TLS out.
    Relay { to: u16 },
    /// Takes everything, in the clear, and counts.
    Sink,
}

/// A running process.
pub(crate) struct Server {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    port: u16,
    pub(crate) mutual: bool,
}

impl Server {
    pub(crate) fn start(place: &Path, kind: Kind, name: &str) -> Self {
        let (word, to) = match kind {
            Kind::Relay { to } => return Self::relay(place, to, name),
            Kind::KeepMutual => ("keep-mutual", 0),
            Kind::KeepPlain => ("keep-plain", 0),
            Kind::Pass { to } => ("pass", to),
            Kind::Sink => ("sink", 0),
        };
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["serve", word, &to.to_string(), name])
            .arg(place)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let port = line.trim().parse().unwrap();
        let mutual = matches!(kind, Kind::KeepMutual | Kind::Pass { .. });
        Self { child, input, output, port, mutual }
    }

    /// What users run, for its memory is that of the whole program.
    fn relay(place: &Path, to: u16, name: &str) -> Self {
        let binary = std::env::var_os("HANDFAST_BINARY").expect("HANDFAST_BINARY: the program");
        let file = |name: &str| place.join(name);
        let mut child = Command::new(binary)
            .args(["relay", "run", "--log-format", "json", "--backend"])
            .arg(format!("127.0.0.1:{to}"))
            .args(["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--ca"])
            .arg(file("ca.crt"))
            .arg("--cert")
            .arg(file("agent.crt"))
            .arg("--key")
            .arg(file("agent.key"))
            .arg("--data")
            .arg(file(name))
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        let bound = |line: String| {
            let address = line.split(r#""port":"grpc","address":"127.0.0.1:"#).nth(1)?;
            address.split('"').next()?.parse().ok()
        };
        let port = said.by_ref().find_map(bound).expect("it says where it listens");
        std::thread::spawn(move || said.for_each(|line| println!("     relay: {line}")));
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, input, output, port, mutual: false }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Seconds of CPU so far.
    pub(crate) fn cpu(&self) -> f64 {
        cpu_of(&self.child.id().to_string())
    }

    /// Resident memory at the moment.
    pub(crate) fn memory_kib(&self) -> u64 {
        self.memory("VmRSS")
    }

    /// What the kernel calls `what` in the status of the process, in KiB.
    pub(crate) fn memory(&self, what: &str) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find(|line| line.starts_with(what)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Waits until a sink has counted so many; says how long that took.
    pub(crate) fn wait_for(mut self, count: u64) -> Duration {
        let start = Instant::now();
        loop {
            writeln!(self.input, "count").unwrap();
            let mut line = String::new();
            self.output.read_line(&mut line).unwrap();
            if line.trim().parse::<u64>().unwrap() >= count {
                return start.elapsed();
            }
            assert!(start.elapsed() < Duration::from_secs(60), "{} of {count}", line.trim());
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Seconds of CPU of a process so far, by what it is called in `/proc`.
pub(crate) fn cpu_of(process: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / 100.0
}

/// The process itself.
pub(crate) fn serve(words: &[String]) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let _inside = runtime.enter();
    let (to, name, place) = (words[1].parse().unwrap(), words[2].as_str(), Path::new(&words[3]));
    let counted = Arc::new(Counting::default());
    let clock: Clock = Arc::new(handfast_testkit::eventually::now);
    let (port, _running): (u16, Box<dyn std::any::Any>) = match words[0].as_str() {
        "sink" => {
            let sink = Arc::clone(&counted);
            let witness = Arc::new(|_| ());
            let desk = Arc::new(Desk::new("sink", DeskPlan::default(), sink, clock, witness));
            let at = Place::Tcp(([127, 0, 0, 1], 0).into());
            let open = Protection { mode: Mode::Plaintext, tls: None };
            let port =
                Port::open("sink", &at, Protocol::Grpc, open, desk, Revocations::new()).unwrap();
            (port.address().unwrap().port(), Box::new(port))
        }
        word => {
            let plan = plan(word, to, name, place);
            let (station, faults) =
                Station::start(plan, Revocations::new(), clock, dice(), Arc::new(|_| ())).unwrap();
            assert!(faults.is_empty(), "{faults:?}");
            (station.address("grpc").unwrap().port(), Box::new(station))
        }
    };
    println!("{port}");
    for line in std::io::stdin().lock().lines() {
        if line.unwrap() == "count" {
            println!("{}", counted.0.load(Ordering::Relaxed));
        }
    }
}

fn plan(word: &str, to: u16, name: &str, place: &Path) -> StationPlan {
    let directory = place.join(name);
    let upstream = |security| UpstreamPlan {
        authentication: None,
        backends: vec![Backend { host: "127.0.0.1".to_owned(), port: to }],
        security: Some(security),
    };
    let (dialect, spool) = (Dialect::SkyWalking, JournalSettings::default());
    let (mode, output) = match word {
        "keep-mutual" => {
            (Mode::Mtls, Output::Keep { directory, settings: KeepSettings::default() })
        }
        "keep-plain" => {
            (Mode::Plaintext, Output::Keep { directory, settings: KeepSettings::default() })
        }
        "pass" => (
            Mode::Mtls,
            Output::Forward { dialect, directory, spool, upstream: upstream(Security::Plaintext) },
        ),
        other => panic!("{other}"),
    };
    let tls = PortTls {
        config: material::server(place, ClientAuth::Required),
        anchors: material::anchors(place),
        own: Some(OwnDomain {
            trust_domain: "bench.example".parse().unwrap(),
            anchors: material::anchors(place),
        }),
    };
    let port = PortPlan {
        place: Place::Tcp(([127, 0, 0, 1], 0).into()),
        protection: Protection { mode, tls: Some(tls) },
        protocol: Protocol::Grpc,
    };
    let ports = BTreeMap::from([("grpc".to_owned(), port)]);
    StationPlan { desk: DeskPlan::default(), name: name.to_owned(), output, ports }
}

pub(crate) fn dice() -> Dice {
    Dice::new(handfast_pki::SystemEntropy)
}

/// Takes records and counts them.
#[derive(Default)]
struct Counting(AtomicU64);

impl Sink for Counting {
    fn take(&self, records: Vec<Record>) -> Now<'_, Result<Taking, Untaken>> {
        self.0.fetch_add(records.len() as u64, Ordering::Relaxed);
        Box::pin(async { Ok(Taking::new(async { Ok(()) })) })
    }

    fn ask(&self, _: Question) -> Now<'_, Result<Bytes, Status>> {
        Box::pin(async { Ok(Bytes::new()) })
    }

    fn pass(&self, _: Request<Body>) -> Now<'_, Response<Body>> {
        Box::pin(async { failed(&Status::new(Code::Unimplemented, "a sink")) })
    }
}
