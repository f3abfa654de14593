//! A second opinion: OpenSSL's s_client and s_server meet our configurations, accepted and
//! refused. Skipped, with one line, where there is no `openssl` command.

use std::io::BufRead;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use handfast_tls::probe::{Material, Probe};
use handfast_tls::{Attempt, FaultCode, Floor, accept, probe};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::forge::{Ca, Domain, Issued, LIMIT, Leaf, now};
use crate::meeting::{link_client, listen, serving};

#[expect(clippy::print_stdout, reason = "a skipped test says so")]
fn openssl_is_there() -> bool {
    let there = Command::new("openssl").arg("version").output().is_ok_and(|o| o.status.success());
    if !there {
        println!("skipped: no `openssl` command");
    }
    there
}

/// Writes `name.crt` (leaf first) and `name.key`.
fn write(directory: &Path, name: &str, issued: &Issued) {
    std::fs::write(directory.join(format!("{name}.crt")), issued.chain_pem()).expect("write");
    std::fs::write(directory.join(format!("{name}.key")), issued.key_pem()).expect("write");
}

/// Runs `openssl s_client` against `addr` in `directory`, with the test's clock.
fn s_client(directory: &Path, addr: SocketAddr, arguments: &[&str]) -> Command {
    let mut command = Command::new("openssl");
    command
        .args(["s_client", "-connect", &addr.to_string(), "-CAfile", "ca.crt"])
        .args(["-attime", &now().as_second().to_string()])
        .args(["-verify_return_error", "-verify_ip", "127.0.0.1", "-ign_eof"])
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Our server of `domain` meets `openssl s_client`: our view, and OpenSSL's output.
async fn openssl_dials(
    domain: &Domain,
    directory: &Path,
    arguments: &[&str],
) -> (Result<(), FaultCode>, String) {
    std::fs::write(directory.join("ca.crt"), domain.anchors().to_pem()).expect("write");
    let listener = listen().await;
    let addr = listener.local_addr().expect("bound");
    let client = s_client(directory, addr, arguments).spawn().expect("openssl");
    let (socket, _) = listener.accept().await.expect("accept");
    let ours = match accept(socket, serving(&domain.server()), Attempt::server(now()), LIMIT).await
    {
        Ok(mut stream) => {
            stream.write_all(b"met\n").await.expect("write");
            stream.shutdown().await.expect("close");
            // How OpenSSL goes is up to it.
            drop(stream.read_to_end(&mut Vec::new()).await);
            Ok(())
        }
        Err(fault) => Err(fault.code()),
    };
    (ours, output(client).await)
}

async fn output(child: Child) -> String {
    let waiting = tokio::task::spawn_blocking(move || child.wait_with_output());
    let Output { stdout, stderr, .. } = waiting.await.expect("joined").expect("openssl ended");
    format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr))
}

#[tokio::test]
async fn openssl_as_a_client() {
    if !openssl_is_there() {
        return;
    }
    let domain = Domain::new();
    let home = tempfile::tempdir().expect("directory");
    let directory = home.path();
    write(directory, "east", &domain.site.issue(&Leaf::client("east")));
    write(directory, "server", &domain.site.issue(&Leaf::server("east")));
    write(directory, "stranger", &Ca::root("stranger").issue(&Leaf::client("east")));
    let present =
        |name: &str| [format!("{name}.crt"), format!("{name}.key"), format!("{name}.crt")];

    let [crt, key, chain] = present("east");
    let east = ["-cert", &crt, "-key", &key, "-cert_chain", &chain];
    let (ours, theirs) = openssl_dials(&domain, directory, &east).await;
    assert_eq!(ours, Ok(()), "{theirs}");
    assert!(theirs.contains("met"), "{theirs}");
    assert!(theirs.contains("Verify return code: 0 (ok)"), "{theirs}");
    // This OpenSSL may or may not know the hybrid group; it must meet us either way.
    assert!(theirs.contains("TLSv1.3"), "{theirs}");

    for (name, code, alert) in [
        ("stranger", FaultCode::UnknownIssuer, "unknown ca"),
        ("server", FaultCode::WrongEku, "unsupported certificate"),
    ] {
        let [crt, key, chain] = present(name);
        let arguments = ["-cert", &crt, "-key", &key, "-cert_chain", &chain];
        let (ours, theirs) = openssl_dials(&domain, directory, &arguments).await;
        assert_eq!(ours, Err(code), "{theirs}");
        assert!(theirs.contains(alert), "{theirs}");
    }
    let (ours, theirs) = openssl_dials(&domain, directory, &[]).await;
    assert_eq!(ours, Err(FaultCode::NoCertificate), "{theirs}");
    assert!(theirs.contains("certificate required"), "{theirs}");
    let (ours, theirs) = openssl_dials(&domain, directory, &["-tls1_2"]).await;
    assert_eq!(ours, Err(FaultCode::ProtocolMismatch), "{theirs}");
    assert!(theirs.contains("protocol version"), "{theirs}");
}

/// An `openssl s_server` that ends with the value.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Starts `openssl s_server` on a port of its choice and waits until it says which.
async fn s_server(directory: &Path, arguments: &[&str]) -> (Server, u16) {
    let mut child = Command::new("openssl")
        .args(["s_server", "-accept", "127.0.0.1:0", "-CAfile", "ca.crt"])
        .args(["-attime", &now().as_second().to_string()])
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl");
    let stdout = child.stdout.take().expect("piped");
    let server = Server(child);
    let listening = tokio::task::spawn_blocking(move || {
        std::io::BufReader::new(stdout)
            .lines()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("ACCEPT 127.0.0.1:")?.parse().ok())
    });
    let port = tokio::time::timeout(LIMIT, listening).await.expect("in time").expect("joined");
    (server, port.expect("openssl listens"))
}

#[tokio::test]
async fn openssl_as_a_server() {
    if !openssl_is_there() {
        return;
    }
    let domain = Domain::new();
    let home = tempfile::tempdir().expect("directory");
    let directory = home.path();
    std::fs::write(directory.join("ca.crt"), domain.anchors().to_pem()).expect("write");
    write(directory, "west", &domain.site.issue(&Leaf::server("west")));
    write(directory, "link", &domain.site.issue(&Leaf::client("west")));
    write(directory, "stranger", &Ca::root("stranger").issue(&Leaf::server("west")));
    let anchors = domain.anchors();
    let east = Material::of(&domain.client()).expect("key");
    let dial = async |name: &str, floor: &[&str]| {
        let [crt, key] = [format!("{name}.crt"), format!("{name}.key")];
        let mut arguments = vec!["-cert", &crt, "-key", &key, "-cert_chain", &crt];
        arguments.extend(["-Verify", "3", "-verify_return_error", "-alpn", "handfast-link/1"]);
        arguments.extend(floor);
        let (_server, port) = s_server(directory, &arguments).await;
        let mut probe = Probe::new("127.0.0.1", port, Some(&anchors));
        (probe.options, probe.presents) = (link_client(), Some(&east));
        probe.options.floor = Floor::Tls13;
        probe::connect(&probe, now()).await
    };
    let report = dial("west", &[]).await.into_result().expect("sound");
    assert_eq!(report.session.expect("session").version, "TLSv1.3");
    assert_eq!(report.peer.expect("server").label(), "spiffe://demo.example/site/west");
    for (name, floor, code) in [
        ("link", &[][..], FaultCode::WrongEku),
        ("stranger", &[], FaultCode::UnknownIssuer),
        ("west", &["-tls1_2"], FaultCode::ProtocolMismatch),
    ] {
        let fault = dial(name, floor).await.fault.expect(name);
        assert_eq!(fault.code(), code, "{fault}");
    }
}
