//! `/healthz`, `/metrics` and what services measured over plain HTTP on loopback, for supervisors and Prometheus. Tells
//! nothing secret, and is refused on any other address.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::routing::get;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::serve::{self, Limits};
use crate::telemetry::TEXT_FORMAT;

/// What the health server asks of the node. Both are called for every request and must be quick.
pub trait Health: Send + Sync + 'static {
    /// Whether the node does what is declared; `Err` with one line of reason when it does not.
    fn healthy(&self) -> Result<(), String>;

    /// The metrics, in OpenMetrics text format.
    fn metrics(&self) -> String;

    /// What services have measured and reported to a collector, in Prometheus' text format. It may take as long as its
    /// disk does.
    fn measured(
        &self,
        collector: &str,
    ) -> impl Future<Output = Result<String, NothingMeasured>> + Send {
        let _ = collector;
        async { Err(NothingMeasured::NoSuchStore) }
    }
}

/// Why there is no page of what services measured.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum NothingMeasured {
    /// Nothing of this name keeps anything.
    #[error(
        "no collector of this name runs here and keeps what it takes; see `handfast collector status`"
    )]
    NoSuchStore,
    /// The store cannot be read.
    #[error("what is kept cannot be read: {0}")]
    Unreadable(String),
}

/// A bound health port.
#[derive(Debug)]
pub struct HealthServer {
    listener: TcpListener,
}

impl HealthServer {
    /// Binds `address`, which must be a loopback address; port 0 chooses a free one.
    pub async fn bind(address: SocketAddr) -> Result<Self, HealthError> {
        if !address.ip().is_loopback() {
            return Err(HealthError::NotLoopback { address });
        }
        match TcpListener::bind(address).await {
            Ok(listener) => Ok(Self { listener }),
            Err(source) => Err(HealthError::Bind { address, source }),
        }
    }

    /// The address as bound.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown`.
    pub async fn serve<H: Health>(self, health: Arc<H>, shutdown: CancellationToken) {
        let limits = Limits::HEALTH;
        let (metrics, measured) = (Arc::clone(&health), Arc::clone(&health));
        let router =
            Router::new()
                .route(
                    "/healthz",
                    get(move || async move {
                        match health.healthy() {
                            Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
                            Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
                        }
                    }),
                )
                .route(
                    "/metrics",
                    get(move || async move {
                        ([(header::CONTENT_TYPE, OPEN_METRICS)], metrics.metrics())
                    }),
                )
                .route(
                    "/metrics/telemetry/{collector}",
                    get(move |Path(collector): Path<String>| async move {
                        let kind = [(header::CONTENT_TYPE, TEXT_FORMAT)];
                        match measured.measured(&collector).await {
                            Ok(page) => (StatusCode::OK, kind, page),
                            Err(why @ NothingMeasured::NoSuchStore) => {
                                (StatusCode::NOT_FOUND, kind, format!("{why}\n"))
                            }
                            Err(why) => (StatusCode::SERVICE_UNAVAILABLE, kind, format!("{why}\n")),
                        }
                    }),
                );
        serve::accept(self.listener, limits, shutdown.clone(), move |stream, _source| {
            Some(serve::http(stream, router.clone(), limits, shutdown.clone()))
        })
        .await;
    }
}

/// Why the health port could not be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HealthError {
    /// The system refused.
    #[error("cannot listen for health and metrics on {address}: {source}; choose another port")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The address can be reached from elsewhere.
    #[error(
        "health and metrics are served on loopback only, not on {address}; use 127.0.0.1 or [::1]"
    )]
    NotLoopback {
        /// Where.
        address: SocketAddr,
    },
}

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
