//! Swapping credentials while connections run (rule 7): open connections keep what they have, new
//! ones get the new certificate, and what is broken never goes live.

use std::sync::Arc;

use handfast_tls::{Attempt, Fault, FaultCode, Live, Peer, accept, connect};
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::forge::{Ca, DAY, Domain, HOUR, LIMIT, Leaf, now};
use crate::meeting::{dialling, link_client, link_server, listen, serving};

/// Serves every connection with the configuration that is current then, echoing its bytes.
async fn echo(listener: tokio::net::TcpListener, live: Arc<Live<ServerConfig>>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        let config = live.load();
        connections.spawn(async move {
            let stream = accept(socket, config, Attempt::server(now()), LIMIT).await?;
            let (mut reader, mut writer) = tokio::io::split(stream);
            tokio::io::copy(&mut reader, &mut writer).await.expect("echo");
            Ok::<(), Fault>(())
        });
    }
}

type Client = tokio_rustls::client::TlsStream<TcpStream>;

async fn open(addr: std::net::SocketAddr, live: &Live<ClientConfig>) -> Client {
    let socket = TcpStream::connect(addr).await.expect("loopback");
    let attempt = Attempt::client("127.0.0.1", now());
    connect(socket, live.load(), "127.0.0.1", attempt, LIMIT).await.expect("accepted")
}

async fn say(client: &mut Client, word: &[u8; 4]) {
    client.write_all(word).await.expect("write");
    let mut echoed = [0; 4];
    client.read_exact(&mut echoed).await.expect("read");
    assert_eq!(&echoed, word);
}

fn server_serial(client: &Client) -> String {
    Peer::of(client.get_ref().1).expect("server").serial.to_string()
}

#[tokio::test]
async fn a_renewed_certificate_serves_new_connections_and_leaves_old_ones_alone() {
    let ours = Domain::new();
    let (old, new) = (ours.server(), ours.server());
    let server = Arc::new(Live::new(serving(&old)));
    let client = Live::new(dialling(&ours.client()));
    let listener = listen().await;
    let addr = listener.local_addr().expect("bound");
    let serving = tokio::task::LocalSet::new();
    serving.spawn_local(echo(listener, Arc::clone(&server)));
    serving
        .run_until(async {
            let mut first = open(addr, &client).await;
            say(&mut first, b"one ").await;
            assert_eq!(server_serial(&first), old.leaf().serial().to_string());

            let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
            server.offer(&new, &link_server(), &names, now()).expect("good");
            client.offer(&ours.client(), &link_client(), now()).expect("good");
            let mut second = open(addr, &client).await;
            say(&mut second, b"two ").await;
            assert_eq!(server_serial(&second), new.leaf().serial().to_string());
            say(&mut first, b"more").await;

            // What is broken never goes live; the last good configuration goes on serving.
            let anchors = ours.anchors();
            let stale = Leaf::server("west").valid(-DAY, -HOUR);
            let foreign = Ca::root("stranger").issue(&Leaf::server("west"));
            for (broken, code) in [
                (ours.site.issue(&stale).credential(&anchors), FaultCode::Expired),
                (foreign.credential(&anchors), FaultCode::UnknownIssuer),
                (ours.client(), FaultCode::WrongEku),
            ] {
                let fault =
                    server.offer(&broken, &link_server(), &names, now()).expect_err("broken");
                assert_eq!(fault.code(), code, "{fault}");
            }
            let mut third = open(addr, &client).await;
            say(&mut third, b"last").await;
            assert_eq!(server_serial(&third), new.leaf().serial().to_string());
            say(&mut first, b"more").await;
            say(&mut second, b"more").await;
        })
        .await;
}

#[tokio::test]
async fn a_change_of_trust_counts_for_the_next_connection() {
    let (ours, theirs) = (Domain::new(), Domain::new());
    let live = Live::new(serving(&ours.server()));
    let old = live.load();
    live.set(serving(&theirs.server()));
    let stranger = dialling(&ours.client());
    let views = crate::meeting::meet(live.load(), Arc::clone(&stranger), "localhost").await;
    assert_eq!(views.faults().0.code(), FaultCode::UnknownIssuer);
    // Whoever still holds the old configuration has the old trust: callers load per connection.
    crate::meeting::meet(old, stranger, "localhost").await.met();
}
