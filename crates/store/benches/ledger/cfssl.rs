//! The same requests to cfssl's server, as Debian has it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use handfast_pki::{Csr, Issuer};
use rusqlite::Connection;

use crate::directory;
use crate::issue;

/// How many certificates a second it signs, with or without recording them; nothing without cfssl.
pub(crate) fn rate(
    issuer: &Issuer,
    requests: &[Vec<u8>],
    length: Duration,
    recording: bool,
) -> Option<f64> {
    let directory = directory();
    let server = Server::start(issuer, directory.path(), recording)?;
    let bodies: Vec<String> = requests
        .iter()
        .map(|request| {
            let pem = Csr::from_der(request).unwrap().to_pem().replace('\n', "\\n");
            format!("{{\"certificate_request\":\"{pem}\",\"hosts\":[\"c.bench.example\"]}}")
        })
        .collect();
    let connections: Vec<_> = (0..CLIENTS).map(|_| Mutex::new(server.connect().unwrap())).collect();
    let rate = issue::rate(CLIENTS, length, |number| {
        let number = usize::try_from(number).unwrap();
        // With as many connections as threads there is always a free one.
        let mut connection = connections
            .iter()
            .cycle()
            .skip(number % connections.len())
            .find_map(|connection| connection.try_lock().ok())
            .unwrap();
        sign(&mut connection, &bodies[number % bodies.len()]);
    });
    Some(rate)
}

fn sign(connection: &mut BufReader<TcpStream>, body: &str) {
    let length = body.len();
    let request = format!(
        "POST /api/v1/cfssl/sign HTTP/1.1\r\nHost: cfssl\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    connection.get_mut().write_all(request.as_bytes()).unwrap();
    let (mut line, mut length) = (String::new(), 0);
    loop {
        line.clear();
        connection.read_line(&mut line).unwrap();
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut answer = vec![0; length];
    connection.read_exact(&mut answer).unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.contains("\"success\":true"), "{answer}");
}

struct Server {
    process: Child,
    port: u16,
}

impl Server {
    fn start(issuer: &Issuer, directory: &Path, recording: bool) -> Option<Self> {
        let write = |name: &str, text: &str| std::fs::write(directory.join(name), text).unwrap();
        write("ca.pem", &issuer.certificate().to_pem());
        write("ca.key", &issuer.key().software().unwrap().to_pkcs8_pem());
        write(
            "config.json",
            "{\"signing\":{\"default\":{\"expiry\":\"24h\",\"usages\":[\"digital signature\",\
             \"client auth\"]}}}",
        );
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new("cfssl");
        command
            .current_dir(directory)
            .args(["serve", "-loglevel", "4", "-address", "127.0.0.1", "-port"])
            .arg(port.to_string())
            .args(["-ca", "ca.pem", "-ca-key", "ca.key", "-config", "config.json"])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if recording {
            let database = Connection::open(directory.join("certs.db")).unwrap();
            database.execute_batch(SCHEMA).unwrap();
            write("db.json", "{\"driver\":\"sqlite3\",\"data_source\":\"certs.db\"}");
            command.args(["-db-config", "db.json"]);
        }
        let process = command.spawn().ok()?;
        let server = Self { process, port };
        let deadline = Instant::now() + Duration::from_secs(30);
        while server.connect().is_none() {
            assert!(Instant::now() < deadline, "cfssl does not come up");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(server)
    }

    fn connect(&self) -> Option<BufReader<TcpStream>> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_nodelay(true).unwrap();
        Some(BufReader::new(stream))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// What cfssl expects to find in its database.
const SCHEMA: &str = "
CREATE TABLE certificates (
    serial_number blob NOT NULL, authority_key_identifier blob NOT NULL, ca_label blob,
    status blob NOT NULL, reason int, expiry timestamp, revoked_at timestamp, pem blob NOT NULL,
    PRIMARY KEY (serial_number, authority_key_identifier)
);
CREATE TABLE ocsp_responses (
    serial_number blob NOT NULL, authority_key_identifier blob NOT NULL, body blob NOT NULL,
    expiry timestamp,
    PRIMARY KEY (serial_number, authority_key_identifier)
);";

/// Its database refuses writers that come at the same time, rather than letting them wait.
const CLIENTS: u64 = 4;
