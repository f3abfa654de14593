//! Plain TCP services and clients on both ends of a network under test. Threads and blocking sockets:
//! what they see is what an ordinary application sees.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

/// Answers every connection with its name and a line feed, then with what it is sent.
#[derive(Debug)]
pub struct Echo {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
}

impl Echo {
    /// Serves on a free port of 127.0.0.1 until dropped.
    pub fn start(name: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let ended = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ended);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if told.load(Ordering::Relaxed) {
                    break;
                }
                let Ok(client) = client else { continue };
                // A client that goes away is its own affair.
                std::thread::spawn(move || drop(serve(client, name)));
            }
        });
        Self { address, ended }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
    }
}

fn serve(mut client: TcpStream, name: &str) -> io::Result<()> {
    client.set_nodelay(true)?;
    client.write_all(format!("{name}\n").as_bytes())?;
    io::copy(&mut client.try_clone()?, &mut client)?;
    client.shutdown(Shutdown::Write)
}

/// A port of 127.0.0.1 at which nobody listens: who connects is refused. It is taken, so that nobody else gets it as long as
/// the value lives; a port that was only given back may be another test's a moment later.
#[derive(Debug)]
pub struct Nobody(Socket);

impl Nobody {
    /// Takes a port.
    pub fn listens() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a port");
        Self(socket)
    }

    /// Where.
    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("bound").as_socket().expect("an address of the Internet")
    }

    /// Listens there from now on.
    pub fn begins(self) -> TcpListener {
        self.0.listen(8).expect("it listens");
        self.0.into()
    }
}

/// A connection to an [`Echo`] through the network.
#[derive(Debug)]
pub struct Client {
    socket: TcpStream,
    /// The name of the service that answered.
    pub service: String,
}

impl Client {
    /// Connects to a port of 127.0.0.1 and reads the service's name.
    pub fn connect(port: u16) -> io::Result<Self> {
        let mut socket = TcpStream::connect(("127.0.0.1", port))?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(ANSWER))?;
        socket.set_write_timeout(Some(ANSWER))?;
        let mut service = Vec::new();
        loop {
            let mut byte = [0];
            socket.read_exact(&mut byte)?;
            if byte == *b"\n" {
                break;
            }
            service.push(byte[0]);
        }
        Ok(Self { socket, service: String::from_utf8_lossy(&service).into_owned() })
    }

    /// Sends `size` bytes and takes them back.
    pub fn ask(&mut self, size: usize) -> io::Result<()> {
        let question: Vec<u8> = (0..size).map(|at| u8::try_from(at % 251).unwrap_or(0)).collect();
        let mut writer = self.socket.try_clone()?;
        let sent = question.clone();
        // Written and read at the same time, since both ways have finite buffers.
        let writing =
            (size > 64 * 1024).then(|| std::thread::spawn(move || writer.write_all(&sent)));
        if writing.is_none() {
            self.socket.write_all(&question)?;
        }
        let mut answer = vec![0; size];
        self.socket.read_exact(&mut answer)?;
        if let Some(writing) = writing {
            writing.join().map_err(|_| io::Error::other("the writer failed"))??;
        }
        if answer == question { Ok(()) } else { Err(io::Error::other("the answer differs")) }
    }

    /// Half-closes, and returns when the service has closed its half as well.
    pub fn end(mut self) -> io::Result<()> {
        self.socket.shutdown(Shutdown::Write)?;
        let mut rest = Vec::new();
        self.socket.read_to_end(&mut rest)?;
        if rest.is_empty() { Ok(()) } else { Err(io::Error::other("more came than was asked for")) }
    }
}

/// One connection, one question, one end.
pub fn visit(port: u16) -> io::Result<String> {
    let mut client = Client::connect(port)?;
    client.ask(100)?;
    let service = client.service.clone();
    client.end()?;
    Ok(service)
}

/// A connection to a port of 127.0.0.1 that comes from another address of this machine (127.0.0.0/8 is
/// all local on Linux).
pub fn connect_from(source: Ipv4Addr, port: u16) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    socket.connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into(), ANSWER)?;
    Ok(socket.into())
}

/// Lets this process open as many sockets as the system allows without asking, and says how many that are. Most systems give
/// 1,024 to begin with, and the tests of one file share them.
pub fn take_descriptors() -> u64 {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("up to the maximum");
    maximum.unwrap_or(u64::MAX)
}

/// Clients that keep asking, on kept connections and on new ones.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    /// `kept` clients ask on one connection each, `fresh` ones make a new connection for every question.
    pub fn start(port: u16, kept: usize, fresh: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicU64::new(0));
        let spawn = |work: fn(u16, &AtomicBool, &AtomicU64) -> Vec<String>| {
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
            std::thread::spawn(move || work(port, &stop, &done))
        };
        let clients = (0..kept)
            .map(|_| spawn(keep_asking))
            .chain((0..fresh).map(|_| spawn(keep_coming)))
            .collect();
        Self { stop, done, clients }
    }

    /// Questions answered so far.
    pub fn answered(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Ends all clients; how many questions were answered, and what went wrong.
    pub fn finish(self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let failures =
            self.clients.into_iter().flat_map(|client| client.join().expect("a client")).collect();
        (self.done.load(Ordering::Relaxed), failures)
    }
}

fn keep_asking(port: u16, stop: &AtomicBool, done: &AtomicU64) -> Vec<String> {
    let mut failures = Vec::new();
    let mut client = match Client::connect(port) {
        Ok(client) => client,
        Err(error) => return vec![format!("kept connection: {error}")],
    };
    let mut size = 1;
    while !stop.load(Ordering::Relaxed) {
        if let Err(error) = client.ask(size) {
            failures.push(format!("kept connection: {error}"));
            match Client::connect(port) {
                Ok(again) => client = again,
                Err(_) => std::thread::sleep(PACE),
            }
            continue;
        }
        done.fetch_add(1, Ordering::Relaxed);
        size = if size < 40_000 { size * 3 } else { 1 };
        std::thread::sleep(PACE);
    }
    if let Err(error) = client.end() {
        failures.push(format!("kept connection, at its end: {error}"));
    }
    failures
}

fn keep_coming(port: u16, stop: &AtomicBool, done: &AtomicU64) -> Vec<String> {
    let mut failures = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        match visit(port) {
            Ok(_) => drop(done.fetch_add(1, Ordering::Relaxed)),
            Err(error) => failures.push(format!("new connection: {error}")),
        }
        std::thread::sleep(PACE);
    }
    failures
}

/// An answer that takes longer is counted as none.
const ANSWER: Duration = Duration::from_secs(20);
/// Between two questions: a test is to find failures, not limits.
const PACE: Duration = Duration::from_millis(4);
