//! The admin port: the admin API for operators elsewhere, over mutual TLS 1.3. Who calls is what the
//! verified certificate says, and it is asked about anew with every request.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use handfast_tls::{Attempt, Fault, Peer};
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::rustls::ServerConfig;
use tokio_util::sync::CancellationToken;

use super::message::{Refusal, RefusalCode};
use super::node::Node;
use super::router::router as api_router;
use super::routes::refused;
use crate::access::{Caller, Principal, Via};
use crate::gate::{Gate, Place, Rate};
use crate::serve::{self, Limits};

/// Application protocol of the admin port (RFC 7301).
pub const ADMIN_ALPN: &[u8] = b"http/1.1";

/// A bound admin port.
#[derive(Debug)]
pub struct AdminPort {
    listener: TcpListener,
    limits: Limits,
}

impl AdminPort {
    /// Binds `address`; port 0 chooses a free one.
    ///
    /// # Errors
    ///
    /// The system refused.
    pub async fn bind(address: SocketAddr, limits: Limits) -> Result<Self, AdminPortError> {
        match TcpListener::bind(address).await {
            Ok(listener) => Ok(Self { listener, limits }),
            Err(source) => Err(AdminPortError::Bind { address, source }),
        }
    }

    /// The address as bound.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves `node` until `shutdown`. `tls` is asked anew for every connection; it has to demand a
    /// client certificate of an operator. `refused` is told of every handshake that failed.
    pub async fn serve<N, T, R>(self, node: Arc<N>, tls: T, refused: R, shutdown: CancellationToken)
    where
        N: Node,
        T: Fn() -> Option<Arc<ServerConfig>> + Send + Sync + 'static,
        R: Fn(SocketAddr, Fault) + Send + Sync + 'static,
    {
        let limits = self.limits;
        let api = api_router(Arc::clone(&node), limits);
        let refused = Arc::new(refused);
        let gate = Gate::new(OPEN_PER_SOURCE, RATE, SOURCES);
        serve::accept(self.listener, limits, shutdown.clone(), move |stream, from| {
            let Some(place) = gate.enter(from.ip()) else {
                tracing::debug!(%from, "too many connections to the admin port from this address");
                return None;
            };
            let one = Connection {
                node: Arc::clone(&node),
                api: api.clone(),
                refused: Arc::clone(&refused),
                limits,
                shutdown: shutdown.clone(),
            };
            let config = tls()?;
            Some(one.serve(stream, from, config, place))
        })
        .await;
    }
}

/// What serves one connection.
struct Connection<N, R> {
    node: Arc<N>,
    api: Router,
    refused: Arc<R>,
    limits: Limits,
    shutdown: CancellationToken,
}

impl<N: Node, R: Fn(SocketAddr, Fault)> Connection<N, R> {
    async fn serve(
        self,
        stream: TcpStream,
        from: SocketAddr,
        config: Arc<ServerConfig>,
        place: Place,
    ) {
        let attempt =
            Attempt::server(self.node.now()).with_subject("admin port").with_alpn(&[ADMIN_ALPN]);
        let accepted = handfast_tls::accept(stream, config, attempt, self.limits.handshake).await;
        let stream = match accepted {
            Ok(stream) => stream,
            Err(fault) => return (self.refused)(from, fault),
        };
        let router = match Peer::of(stream.get_ref().1).and_then(|peer| caller(&peer)) {
            Some(caller) => {
                place.proved();
                self.api.layer(Extension(caller))
            }
            // The configuration lets nobody else in; should it ever, he gets nothing.
            None => refuse_everyone(),
        };
        serve::http(stream, router, self.limits, self.shutdown).await;
        drop(place);
    }
}

/// Who a verified peer is: an operator, or nobody.
fn caller(peer: &Peer) -> Option<Caller> {
    let principal = Principal::operator(peer.identity.clone()?)?;
    let via = Via::Port { serial: peer.serial.clone(), not_after: peer.not_after };
    Some(Caller { principal, via, approved_by: None })
}

fn refuse_everyone() -> Router {
    Router::new().fallback(async || {
        refused(Refusal::new(
            RefusalCode::NotAllowed,
            "only operators may use the admin port",
            "present a certificate with an identity like spiffe://<trust domain>/operator/<name>",
        ))
    })
}

/// Why the admin port could not be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AdminPortError {
    /// The system refused.
    #[error(
        "cannot serve the admin API on {address}: {source}; free the port, or set `settings.admin-port` of the Site"
    )]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// Connections of strangers from one address over time; each costs a handshake. An operator's count
/// only until it is known that they are his: what a script of his does in a loop is not refused.
const RATE: Rate = Rate { burst: 500, every: Duration::from_millis(10) };

/// Connections open at a time from one address.
const OPEN_PER_SOURCE: usize = 32;

/// Addresses that are remembered.
const SOURCES: usize = 4096;
