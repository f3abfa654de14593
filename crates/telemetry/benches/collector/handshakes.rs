//! What a handshake of mutual TLS computes, and what a resumed one would: in memory, both ends on one core.
//!
//! Nothing resumes here (rule 5), so the second figure is of configurations that exist in this file only. It says what
//! the rule costs.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use handfast_tls::ClientAuth;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::server::ServerSessionMemoryCache;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, ServerConfig, ServerConnection};

use crate::material;

/// Prints how many there are in a second of one core, full and resumed.
pub(crate) fn compare(place: &Path, life: Duration) {
    let (server, client) = (material::server(place, ClientAuth::Required), material::client(place));
    let (full, kind) = rate(&server, &client, life);
    assert_eq!(kind, HandshakeKind::Full, "nothing resumes");
    let mut server = (*server).clone();
    server.send_tls13_tickets = 1;
    server.session_storage = ServerSessionMemoryCache::new(64);
    let mut client = (*client).clone();
    client.resumption = Resumption::in_memory_sessions(64);
    let (resumed, kind) = rate(&Arc::new(server), &Arc::new(client), life);
    assert_eq!(kind, HandshakeKind::Resumed);
    println!(
        "     handshakes/s of one core, both ends on it: {full:.0} full; {resumed:.0} if they resumed, which they do not ({:.1}x)",
        resumed / full
    );
}

/// Handshakes in a second, and of what kind the last one was.
fn rate(
    server: &Arc<ServerConfig>,
    client: &Arc<ClientConfig>,
    life: Duration,
) -> (f64, HandshakeKind) {
    let (start, mut count) = (Instant::now(), 0_u32);
    loop {
        let kind = handshake(server, client);
        count += 1;
        if start.elapsed() > life {
            return (f64::from(count) / start.elapsed().as_secs_f64(), kind);
        }
    }
}

fn handshake(server: &Arc<ServerConfig>, client: &Arc<ClientConfig>) -> HandshakeKind {
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
    // What is written last is the ticket, if there is one.
    while client.wants_write() || server.wants_write() {
        let mut flight = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut flight).unwrap();
        }
        let mut rest = flight.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets().unwrap();
        }
        let mut flight = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut flight).unwrap();
        }
        let mut rest = flight.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets().unwrap();
        }
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    server.handshake_kind().unwrap()
}
