//! The end of a node, and what it leaves and shows while it lives: drain, logs, private files, loopback.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use handfast_testkit::eventually::{eventually, until};
use handfast_testkit::place::{Place, free_port};
use handfast_testkit::site::{Site, signal};
use handfast_testkit::traffic::{Client, Echo, visit};
use rustix::process::Signal;
use serde_json::Value;

fn place() -> Place {
    Place::new(env!("CARGO_BIN_EXE_handfast"))
}

/// A service at west, reached from east.
fn exposed(west: &Site, east: &Site, service: &Echo) -> u16 {
    let port = free_port();
    west.json(&format!("connector create payments {} --host 127.0.0.1", service.port()));
    east.json(&format!("listener create payments {port} --host 127.0.0.1"));
    eventually("traffic goes through", || visit(port).ok());
    port
}

#[test]
fn sigterm_lets_open_flows_end_and_takes_no_new_ones() {
    let place = place();
    let (mut west, mut east) = place.linked();
    let service = Echo::start("payments");
    let port = exposed(&west, &east, &service);
    for side in ["east", "west"] {
        let node = if side == "east" { &mut east } else { &mut west };
        let mut open = eventually("a connection", || Client::connect(port).ok());
        open.ask(1000).expect("an answer");
        node.terminate();
        if side == "east" {
            until("new clients are refused", || TcpStream::connect(("127.0.0.1", port)).is_err());
        } else {
            until("new links are refused", || {
                TcpStream::connect(("127.0.0.1", node.link_port())).is_err()
            });
        }
        assert!(node.runs(), "it waits for the open flow");
        open.ask(200_000).expect("an open flow goes on while the node drains");
        open.end().expect("an orderly end");
        let told = Instant::now();
        let status = node.ended(Duration::from_secs(15));
        assert_eq!(status.code(), Some(0), "{}", node.log());
        assert!(told.elapsed() < Duration::from_secs(15), "nothing was open any more");
        assert!(!node.path("runtime/admin.sock").exists(), "the socket is taken away");
        node.start();
        if side == "east" {
            until("traffic goes through again", || visit(port).is_ok());
        }
    }
}

#[test]
fn a_flow_that_does_not_end_is_cut_in_bounded_time() {
    let place = place();
    let (mut west, mut east) = place.linked();
    let service = Echo::start("payments");
    let port = exposed(&west, &east, &service);
    let mut open = Client::connect(port).expect("a connection");
    east.terminate();
    west.terminate();
    open.ask(10).expect("still served");
    let start = Instant::now();
    for site in [&mut east, &mut west] {
        let status = site.ended(Duration::from_secs(30));
        assert_eq!(status.code(), Some(0), "{}", site.log());
    }
    // Twenty seconds for flows, and a little for the rest.
    assert!(start.elapsed() < Duration::from_secs(30));
    assert!(open.ask(10).is_err(), "who is gone does not answer");
}

#[test]
fn told_twice_a_node_ends_at_once() {
    let place = place();
    let (mut west, mut east) = place.linked();
    let service = Echo::start("payments");
    let port = exposed(&west, &east, &service);
    let _open = Client::connect(port).expect("a connection");
    let start = Instant::now();
    east.terminate();
    until("it has heard", || east.log().contains("\"signal\":\"SIGTERM\""));
    assert!(east.runs());
    signal(east.pid(), Signal::INT);
    assert_eq!(east.ended(Duration::from_secs(15)).code(), Some(0), "{}", east.log());
    assert!(start.elapsed() < Duration::from_secs(15), "it did not wait for the flow");
    west.stop();
}

#[test]
fn an_idle_pair_ends_promptly_every_time() {
    let place = place();
    let (mut west, mut east) = place.linked();
    for _ in 0..8 {
        let start = Instant::now();
        west.terminate();
        east.terminate();
        for site in [&mut west, &mut east] {
            assert_eq!(site.ended(Duration::from_secs(15)).code(), Some(0), "{}", site.log());
        }
        assert!(start.elapsed() < Duration::from_secs(15), "nothing was open");
        west.start();
        east.start();
    }
}

/// Every file below a directory, links not followed. The nodes run: what goes away meanwhile is not there.
fn files(directory: &Path, visit: &mut impl FnMut(&Path, &fs::Metadata)) {
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let entries = match fs::read_dir(directory) {
        Err(error) if gone(&error) => return,
        entries => entries.expect("a directory"),
    };
    for entry in entries {
        let path = entry.expect("an entry").path();
        let metadata = match fs::symlink_metadata(&path) {
            Err(error) if gone(&error) => continue,
            metadata => metadata.expect("metadata"),
        };
        visit(&path, &metadata);
        if metadata.is_dir() {
            files(&path, visit);
        }
    }
}

/// Base64 lines of every private key, and the code of the token: what must be seen nowhere else.
fn secrets(sites: [&Site; 2], token: &str) -> Vec<String> {
    let mut secrets = Vec::new();
    for site in sites {
        files(&site.path("runtime"), &mut |path, metadata| {
            if metadata.is_file() && path.file_name().is_some_and(|name| name == "tls.key") {
                let pem = fs::read_to_string(path).expect("a key");
                assert!(pem.starts_with("-----BEGIN PRIVATE KEY-----"), "PKCS#8");
                secrets.extend(pem.lines().filter(|line| line.len() > 40).map(str::to_owned));
            }
        });
    }
    assert!(secrets.len() > 8, "keys were found");
    let code = token.lines().find_map(|line| line.trim().strip_prefix("code: ")).expect("a code");
    assert!(code.len() > 20);
    secrets.push(code.to_owned());
    secrets
}

#[test]
fn logs_are_json_and_neither_they_nor_processes_nor_files_give_a_secret_away() {
    let place = place();
    let (mut west, mut east) = (place.west(), place.lone("east"));
    for site in [&mut west, &mut east] {
        site.set("HANDFAST_LOG", "trace");
        site.start();
    }
    place.link(&west, &east);
    let token = fs::read_to_string(place.path("west-east.token")).expect("the token");
    assert_eq!(
        fs::metadata(place.path("west-east.token")).expect("it").permissions().mode() & 0o777,
        0o600
    );
    west.json("cert renew --all");
    east.json("cert renew --all");
    // Refused, so that errors are written as well.
    east.run(&format!("token redeem {} -o json", place.path("west-east.token").display())).exits(5);
    let secrets = secrets([&west, &east], &token);

    let commands = fs::read_dir("/proc")
        .expect("/proc")
        .filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).into_owned())
        .collect::<String>();
    for site in [&west, &east] {
        let environment = fs::read(format!("/proc/{}/environ", site.pid())).expect("ours");
        let environment = String::from_utf8_lossy(&environment).into_owned();
        let log = site.log();
        // The last line may be half written: the node goes on.
        let whole = log.rfind('\n').map_or("", |end| &log[..end]);
        for line in whole.lines() {
            let line: Value =
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert!(line["timestamp"].is_string() && line["level"].is_string(), "{line}");
        }
        assert!(
            log.contains("\"level\":\"TRACE\"") || log.contains("\"level\":\"DEBUG\""),
            "all of it is on"
        );
        let everything = [
            ("the log", log),
            ("processes", commands.clone()),
            ("environment", environment),
            ("status", site.run("status -o json").stdout + &site.run("status").stdout),
            ("cert list", site.run("cert list -o json").stdout),
        ];
        for (place, text) in everything {
            for secret in &secrets {
                assert!(!text.contains(secret.as_str()), "{}: a secret is in {place}", site.name());
            }
        }
        let ledger = fs::read(site.path("runtime/state.db")).expect("the ledger");
        let journal = fs::read(site.path("runtime/state.db-wal")).unwrap_or_default();
        let code = secrets.last().expect("the code").as_bytes();
        let holds = |bytes: &[u8]| bytes.windows(code.len()).any(|window| window == code);
        assert!(!holds(&ledger) && !holds(&journal), "the code is kept as a hash only");

        let owner = fs::metadata(site.home()).expect("the home").uid();
        files(&site.path("runtime"), &mut |path, metadata| {
            assert_eq!(metadata.uid(), owner, "{}", path.display());
            let mode = metadata.permissions().mode() & 0o777;
            if metadata.is_dir() {
                assert_eq!(mode, 0o700, "{}", path.display());
            } else if metadata.is_file() || metadata.file_type().is_socket() {
                assert_eq!(mode, 0o600, "{}", path.display());
            }
        });
        assert_eq!(
            fs::metadata(site.path("runtime")).expect("it").permissions().mode() & 0o777,
            0o700
        );
    }
}

fn get(port: u16, path: &str) -> String {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
    write!(socket, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .expect("sent");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn metrics_and_health_are_served_on_loopback_only() {
    let place = place();
    let mut west = place.west();
    let port = free_port();
    west.run_with(&["--metrics", &format!("127.0.0.1:{port}")]);
    west.start();
    let health = get(port, "/healthz");
    assert!(health.starts_with("HTTP/1.1 200"), "{health}");
    let metrics = get(port, "/metrics");
    for family in ["handfast_build", "handfast_credential_not_after_timestamp", "handfast_problems"]
    {
        assert!(metrics.contains(family), "no {family} in {metrics}");
    }
    assert!(get(port, "/anything").starts_with("HTTP/1.1 404"));

    // The address of this machine that others would use; nothing is sent to learn it.
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    if socket.connect("192.0.2.1:9").is_ok() {
        let own = socket.local_addr().expect("an address").ip();
        assert!(TcpStream::connect((own, port)).is_err(), "reachable at {own}");
    }

    // A problem makes it unhealthy, and the end of the problem healthy.
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let busy = taken.local_addr().expect("bound").port();
    west.declare("broken.yaml", "apiVersion: handfast.dev/v1alpha1\nkind: Listener\nmetadata: {name: x}\nspec: {port: nine}\n");
    until("the problem shows", || get(port, "/healthz").starts_with("HTTP/1.1 503"));
    fs::remove_file(west.path("input/resources/broken.yaml")).expect("removed");
    until("it is over", || get(port, "/healthz").starts_with("HTTP/1.1 200"));

    // So does a declared port that somebody else has.
    west.declare("busy.yaml", &format!("apiVersion: handfast.dev/v1alpha1\nkind: Listener\nmetadata: {{name: x}}\nspec: {{routingKey: x, host: 127.0.0.1, port: {busy}}}\n"));
    until("the closed port shows", || get(port, "/healthz").contains("the port is in use"));
    assert_eq!(west.status()["state"], "degraded");
    fs::remove_file(west.path("input/resources/busy.yaml")).expect("removed");
    until("it is over", || get(port, "/healthz").starts_with("HTTP/1.1 200"));
    west.stop();

    // Any other address is refused before anything is served.
    for (address, code) in
        [(format!("0.0.0.0:{port}"), None), (format!("127.0.0.1:{busy}"), Some(8))]
    {
        let error = west.run(&format!("run --metrics {address} -o json"));
        assert_ne!(error.code, 0);
        assert!(code.is_none_or(|code| error.code == code), "{error:#?}");
        assert!(error.stderr.contains(&address), "{error:#?}");
    }
}
