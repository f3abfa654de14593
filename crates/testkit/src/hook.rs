//! A receiver of notices: a small HTTP server that takes, refuses, hangs or hangs up, as it is told, and
//! keeps what it was sent.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

/// What it does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Answers with 500.
    Fails,
    /// Reads, and answers nothing for a long time.
    Hangs,
    /// Closes the connection at once.
    HangsUp,
    /// Answers with 204.
    Takes,
}

/// The receiver. Its port is closed when it is dropped.
#[derive(Debug)]
pub struct Hook {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    manner: Manner,
    ended: bool,
    taken: Vec<Value>,
    asked: usize,
}

impl Hook {
    /// Serves on a free port of 127.0.0.1.
    pub fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let shared =
            Arc::new(Mutex::new(Shared { manner, ended: false, taken: Vec::new(), asked: 0 }));
        let served = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if served.lock().expect("no panic").ended {
                    break;
                }
                let Ok(client) = client else { continue };
                let shared = Arc::clone(&served);
                // A client that goes away is its own affair.
                std::thread::spawn(move || drop(serve(client, &shared)));
            }
        });
        Self { address, shared }
    }

    /// Where it is, with something that looks like a secret in its path.
    pub fn url(&self) -> String {
        format!("http://{}/hooks/a-secret-path", self.address)
    }

    /// From now on.
    pub fn set(&self, manner: Manner) {
        self.shared.lock().expect("no panic").manner = manner;
    }

    /// What it has taken so far.
    pub fn taken(&self) -> Vec<Value> {
        self.shared.lock().expect("no panic").taken.clone()
    }

    /// How often somebody has asked, whatever came of it.
    pub fn asked(&self) -> usize {
        self.shared.lock().expect("no panic").asked
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        self.shared.lock().expect("no panic").ended = true;
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
    }
}

fn serve(client: TcpStream, shared: &Mutex<Shared>) -> io::Result<()> {
    let manner = {
        let mut shared = shared.lock().expect("no panic");
        shared.asked += 1;
        shared.manner
    };
    if manner == Manner::HangsUp {
        return Ok(());
    }
    let mut reader = BufReader::new(client.try_clone()?);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let answer = match manner {
        Manner::Hangs => {
            std::thread::sleep(Duration::from_secs(60));
            return Ok(());
        }
        Manner::Takes => {
            let notice = serde_json::from_slice(&body).unwrap_or(Value::Null);
            shared.lock().expect("no panic").taken.push(notice);
            "204 No Content"
        }
        _ => "500 Internal Server Error",
    };
    let mut client = client;
    write!(client, "HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
}
