//! Lets a server and a client meet on a loopback socket and hands back what each side says.

use std::net::SocketAddr;
use std::sync::Arc;

use handfast_pki::{Credential, TrustDomain};
use handfast_tls::{
    Attempt, ClientOptions, Clock, Fault, IdentityRule, LINK_ALPN, Peer, ServerOptions, Session,
    accept, client_config, connect, fault_of_io, server_config,
};
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::forge::{LIMIT, now};

/// What one side knows after a handshake that held.
#[derive(Debug)]
pub(crate) struct Met {
    pub(crate) peer: Option<Peer>,
    pub(crate) session: Session,
}

/// Both sides' views of one meeting.
#[derive(Debug)]
pub(crate) struct Views {
    pub(crate) client: Result<Met, Fault>,
    pub(crate) server: Result<Met, Fault>,
}

impl Views {
    /// Both refused; their faults.
    #[track_caller]
    pub(crate) fn faults(self) -> (Fault, Fault) {
        match (self.client, self.server) {
            (Err(client), Err(server)) => (client, server),
            (client, server) => panic!("not refused: client {client:?}, server {server:?}"),
        }
    }

    /// Both content; what they know.
    #[track_caller]
    pub(crate) fn met(self) -> (Met, Met) {
        match (self.client, self.server) {
            (Ok(client), Ok(server)) => (client, server),
            (client, server) => panic!("refused:\nclient {client:?}\nserver {server:?}"),
        }
    }
}

/// Client dials `localhost` by the address 127.0.0.1, expecting the name `name`.
pub(crate) async fn meet(
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    name: &str,
) -> Views {
    let alpn = |protocols: &[Vec<u8>]| protocols.to_vec();
    let listener = listen().await;
    let addr = listener.local_addr().expect("bound");
    let mut attempt = Attempt::server(now()).with_subject("test server");
    attempt.alpn = alpn(&server.alpn_protocols);
    let accepting = async move {
        let (socket, _) = listener.accept().await.expect("accept");
        serve(socket, server, attempt).await
    };
    let mut attempt = Attempt::client(name, now()).with_subject("test client");
    attempt.alpn = alpn(&client.alpn_protocols);
    let dialling = dial(addr, client, name, attempt);
    let (server, client) = tokio::join!(accepting, dialling);
    Views { client, server }
}

/// Accepts, greets with one byte, and waits for the client to go.
pub(crate) async fn serve(
    socket: TcpStream,
    config: Arc<ServerConfig>,
    attempt: Attempt,
) -> Result<Met, Fault> {
    let mut stream = accept(socket, config, attempt.clone(), LIMIT).await?;
    let state = stream.get_ref().1;
    let met = Met { peer: Peer::of(state), session: Session::of(state).expect("complete") };
    stream.write_all(b"!").await.map_err(|error| fault_of_io(&error, &attempt))?;
    stream.flush().await.map_err(|error| fault_of_io(&error, &attempt))?;
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.map_err(|error| fault_of_io(&error, &attempt))?;
    Ok(met)
}

/// Dials and waits for the server's greeting: the first moment at which a client knows that it was
/// not refused.
pub(crate) async fn dial(
    addr: SocketAddr,
    config: Arc<ClientConfig>,
    name: &str,
    attempt: Attempt,
) -> Result<Met, Fault> {
    let socket = TcpStream::connect(addr).await.expect("loopback");
    let attempt = attempt.with_peer_addr(addr);
    let mut stream = connect(socket, config, name, attempt.clone(), LIMIT).await?;
    let state = stream.get_ref().1;
    let met = Met { peer: Peer::of(state), session: Session::of(state).expect("complete") };
    stream.read_u8().await.map_err(|error| fault_of_io(&error, &attempt))?;
    stream.shutdown().await.map_err(|error| fault_of_io(&error, &attempt))?;
    Ok(met)
}

pub(crate) async fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("loopback port")
}

pub(crate) fn domain() -> TrustDomain {
    "demo.example".parse().expect("trust domain")
}

/// Options of a link's accepting side, at [`now`].
pub(crate) fn link_server() -> ServerOptions {
    ServerOptions { clock: Clock::fixed(now()), ..ServerOptions::link(domain()) }
}

/// Options of a link's dialling side, at [`now`].
pub(crate) fn link_client() -> ClientOptions {
    ClientOptions { clock: Clock::fixed(now()), ..ClientOptions::link(domain()) }
}

/// As [`link_server`], for any identity.
pub(crate) fn open_server() -> ServerOptions {
    ServerOptions { identities: IdentityRule::any(), ..link_server() }
}

/// As [`link_client`], for any identity.
pub(crate) fn open_client() -> ClientOptions {
    ClientOptions { identities: IdentityRule::any(), ..link_client() }
}

pub(crate) fn serving(credential: &Credential) -> Arc<ServerConfig> {
    server_config(credential, &link_server()).expect("good credential")
}

pub(crate) fn dialling(credential: &Credential) -> Arc<ClientConfig> {
    client_config(Some(credential), credential.anchors(), &link_client()).expect("good credential")
}

/// The link protocol as a list of protocols.
pub(crate) fn link_alpn() -> Vec<Vec<u8>> {
    vec![LINK_ALPN.to_vec()]
}
