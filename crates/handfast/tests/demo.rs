//! `handfast demo` as its audience meets it: that it holds, that what it says to type works, and that it never leaves
//! a process or a file behind, whatever happens to it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// One demo at a time: each runs two nodes and a load, and is judged by what it does, not by how busy the machine is.
static TURN: Mutex<()> = Mutex::new(());

/// A temporary directory for one demo, empty again when it has gone.
struct Hall {
    directory: tempfile::TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Hall {
    fn new() -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = tempfile::Builder::new().prefix("hfd").tempdir().expect("a directory");
        Self { directory, _turn: turn }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_handfast"));
        command
            .args(arguments)
            .env("TMPDIR", self.path())
            .env_remove("HANDFAST_HOME")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// What the demo made: its directory, if it is there.
    fn made(&self) -> Option<PathBuf> {
        let entries = fs::read_dir(self.path()).expect("a readable directory");
        entries.map(|entry| entry.expect("an entry").path()).next()
    }

    /// The processes that work in this directory or below.
    fn processes(&self) -> Vec<i32> {
        let processes = fs::read_dir("/proc").expect("a /proc").filter_map(Result::ok);
        processes
            .filter(|entry| {
                fs::read_link(entry.path().join("cwd"))
                    .is_ok_and(|cwd| cwd.starts_with(self.path()))
            })
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect()
    }

    #[track_caller]
    fn must_be_empty(&self) {
        assert_eq!(self.made(), None, "the demo left files");
        assert_eq!(self.processes(), Vec::<i32>::new(), "the demo left processes");
    }
}

fn told(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}\n{output:?}"))
}

fn step<'a>(told: &'a Value, name: &str) -> &'a Value {
    let steps = told["steps"].as_array().expect("a list of steps");
    steps
        .iter()
        .find(|step| step["name"] == name)
        .unwrap_or_else(|| panic!("no step `{name}` in {told:#}"))
}

#[track_caller]
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within 30 s");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn signal(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process id");
    kill_process(pid, signal).expect("the demo runs");
}

fn get(url: &str) -> String {
    let address =
        url.strip_prefix("http://").and_then(|rest| rest.strip_suffix('/')).expect("a URL");
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: payments\r\nConnection: close\r\n\r\n")
        .expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn every_step_holds_and_nothing_is_left() {
    let hall = Hall::new();
    let output = hall.command(&["demo", "-o", "json"]).output().expect("the demo runs");
    let told = told(&output);
    assert_eq!((output.status.code(), &told["ok"]), (Some(0), &Value::Bool(true)), "{told:#}");
    let names: Vec<&str> = told["steps"]
        .as_array()
        .expect("steps")
        .iter()
        .filter_map(|step| step["name"].as_str())
        .collect();
    assert_eq!(
        names,
        [
            "site-west",
            "site-east",
            "node-west",
            "node-east",
            "token-issue",
            "token-redeem",
            "link",
            "service",
            "connector",
            "listener",
            "traffic",
            "no-certificate",
            "other-ca",
            "link-certificate-as-server",
            "spent-token",
            "collector",
            "enrol",
            "relay",
            "trace",
            "spoofing",
            "renewal",
            "root-rotation",
            "site-branch",
            "revocation",
            "audit",
            "cleanup"
        ]
    );
    let trace = step(&told, "trace");
    assert_eq!(trace["facts"]["reportedBy"], "spiffe://demo.example/agent/shop");
    assert_eq!(trace["facts"]["transport"], "mtls");
    let drawn = trace["lines"].to_string();
    assert!(drawn.contains("POST:/checkout") && drawn.contains("send receipt"), "{drawn}");
    let spoofing = step(&told, "spoofing")["fault"].as_str().expect("a fault").to_owned();
    assert!(spoofing.contains("wrong-identity") && spoofing.contains("bank"), "{spoofing}");
    let link = &step(&told, "link")["facts"];
    assert_eq!(link["eastSees"], "spiffe://demo.example/site/west");
    assert_eq!(link["westSees"], "spiffe://demo.example/site/east");
    assert_eq!(
        (&link["protocol"], &link["keyExchange"]),
        (&"TLSv1.3".into(), &"X25519MLKEM768".into())
    );
    assert!(
        step(&told, "traffic")["facts"]["bytesCarried"].as_u64().expect("a number") >= 1024 * 1024
    );
    let renewal = &step(&told, "renewal")["facts"];
    assert_eq!(renewal["failed"], 0, "{renewal:#}");
    for (name, word) in [
        ("no-certificate", "[no-certificate]"),
        ("other-ca", "[unknown-issuer]"),
        ("link-certificate-as-server", "[wrong-eku]"),
        ("spent-token", "[spent]"),
    ] {
        let fault = step(&told, name)["fault"].as_str().unwrap_or_default();
        assert!(fault.contains(word), "{name}: {fault}");
    }
    hall.must_be_empty();
}

#[test]
fn what_it_says_to_type_by_hand_works_when_typed() {
    if Command::new("bash").arg("--version").output().is_err() {
        println!("skipped: bash is not installed");
        return;
    }
    let hall = Hall::new();
    let told = told(&hall.command(&["demo", "-o", "json"]).output().expect("the demo runs"));
    assert_eq!(told["ok"], true, "{told:#}");
    hall.must_be_empty();

    // As the demo says: an alias. (A function would put a shell between `jobs -p` and the node.)
    let mut script = vec![
        "shopt -s expand_aliases".to_owned(),
        format!("alias handfast={}", env!("CARGO_BIN_EXE_handfast")),
    ];
    for line in told["commands"].as_array().expect("commands").iter().filter_map(Value::as_str) {
        let program = line.split(' ').next().unwrap_or_default();
        // The service and the client are whatever the user has; here they may not be installed.
        if line.starts_with('#') {
            let port = line
                .split(' ')
                .find(|word| word.parse::<u16>().is_ok())
                .expect("the service's port");
            script.push(format!("handfast demo-service {port} &"));
        } else if !is_installed(program) {
            println!("skipped: `{line}`, for {program} is not installed");
        } else if line.contains("# refused") {
            script.push(format!("if {line}\nthen echo 'NOT REFUSED: {line}'; fi"));
        } else {
            script.push(format!("{line}\n[ $? -eq 0 ] || echo 'FAILED: {line}'"));
        }
    }
    script.push("wait".to_owned());
    let script = script.join("\n");
    let typed = Command::new("bash")
        .args(["-c", &script])
        .current_dir(hall.path())
        .env_remove("HANDFAST_HOME")
        .output()
        .expect("bash runs");
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&typed.stdout),
        String::from_utf8_lossy(&typed.stderr)
    );
    assert!(!said.contains("FAILED:") && !said.contains("NOT REFUSED:"), "{script}\n{said}");
    assert_eq!(hall.processes(), Vec::<i32>::new(), "{said}");
}

fn is_installed(program: &str) -> bool {
    let programs_of_the_shell = ["handfast", "kill"];
    programs_of_the_shell.contains(&program)
        || Command::new(program).arg("--version").output().is_ok()
}

#[test]
fn kept_it_goes_on_until_it_is_stopped_as_it_says() {
    let hall = Hall::new();
    let output = hall.command(&["demo", "--keep", "-o", "json"]).output().expect("the demo runs");
    let told = told(&output);
    assert_eq!(told["ok"], true, "{told:#}");
    let kept = &told["kept"];
    assert_eq!(hall.processes().len(), 4, "three nodes and the service: {kept:#}");
    let answer = get(kept["url"].as_str().expect("a URL"));
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("payments at west"), "{answer}");

    let stop = kept["stop"].as_str().expect("a command");
    let stopped = Command::new("sh").args(["-c", stop]).status().expect("a shell");
    assert!(stopped.success(), "{stop}");
    until("the kept processes end", || hall.processes().is_empty().then_some(()));
    until("their files are gone", || {
        // A node that was still writing while `rm` ran may have left something: removing it is what the user would do.
        hall.made().is_none_or(|left| fs::remove_dir_all(left).is_ok()).then_some(())
    });
}

#[test]
fn interrupted_it_still_cleans_up() {
    for (kind, mark) in [
        (Signal::INT, "west.log"),
        (Signal::TERM, "east.log"),
        (Signal::HUP, "west.token"),
        (Signal::INT, "south"),
    ] {
        let hall = Hall::new();
        let demo = hall.command(&["demo"]).spawn().expect("the demo starts");
        until(mark, || hall.made().filter(|made| made.join(mark).exists()));
        signal(&demo, kind);
        let output = demo.wait_with_output().expect("the demo ends");
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{kind:?} at {mark}: {text}");
        assert!(text.contains("Interrupted after"), "{kind:?} at {mark}: {text}");
        hall.must_be_empty();
    }
}

#[test]
fn a_step_that_does_not_hold_is_told_and_everything_is_stopped() {
    let hall = Hall::new();
    let demo = hall.command(&["demo", "-o", "json"]).spawn().expect("the demo starts");
    // Somebody kills west's node in the middle of it.
    let lock = until("west runs and east is about to", || {
        let made = hall.made().filter(|made| made.join("east.log").exists())?;
        fs::read_to_string(made.join("west/runtime/lock")).ok()?.trim().parse::<i32>().ok()
    });
    let west = Pid::from_raw(lock).expect("a process id");
    kill_process(west, Signal::KILL).expect("west runs");
    let output = demo.wait_with_output().expect("the demo ends");
    let told = told(&output);
    assert_eq!((output.status.code(), &told["ok"]), (Some(1), &Value::Bool(false)), "{told:#}");
    let failed: Vec<&Value> = told["steps"]
        .as_array()
        .expect("steps")
        .iter()
        .filter(|step| step["ok"] == false)
        .collect();
    assert!(!failed.is_empty() && told["kept"].is_null(), "{told:#}");
    assert!(
        failed.iter().all(|step| step["detail"].as_str().is_some_and(|detail| !detail.is_empty())),
        "{told:#}"
    );
    hall.must_be_empty();
}

#[test]
fn without_a_place_to_write_it_says_so() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_handfast"));
    let output = command.arg("demo").env("TMPDIR", "/nonexistent").output().expect("the demo runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("/nonexistent"), "{error}");
}
