//! A backend that is a function from requests to answers, for calls that have to be looked at as they travel and not
//! only as the messages that are in them.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;

use handfast_telemetry::grpc::Body;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

/// It serves until it is dropped.
pub(crate) struct Mirror {
    pub(crate) address: SocketAddr,
    serving: tokio::task::JoinHandle<()>,
}

impl Mirror {
    pub(crate) async fn start<A>(
        answer: impl Fn(Request<Incoming>) -> A + Clone + Send + Sync + 'static,
    ) -> Self
    where
        A: Future<Output = Response<Body>> + Send + 'static,
    {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let serving = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let answer = answer.clone();
                let service = service_fn(move |request| {
                    let answering = answer(request);
                    async move { Ok::<_, Infallible>(answering.await) }
                });
                let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                connections.spawn(async move {
                    // Whoever goes away ends it.
                    let _ = builder.serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        Self { address, serving }
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
