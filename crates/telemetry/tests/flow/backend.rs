//! A backend that answers as it is told, and remembers what it was asked: an OAP, a proxy in front of it, or
//! somebody else's port.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use handfast_telemetry::grpc::{
    Body, Code, Coding, MESSAGE_LIMIT, Messages, Status, failed, message,
};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

/// What was asked.
pub(crate) struct Call {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) messages: Vec<Bytes>,
}

/// What is answered.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// A message, and that all is well.
    Taken(Bytes),
    Status(Code, &'static str),
    /// An answer that is none of gRPC.
    Http(u16),
    /// A page that says that it works.
    Page,
    /// A message, and no status after it.
    Cut,
}

pub(crate) const TAKEN: Answer = Answer::Taken(Bytes::new());

type Script = Box<dyn FnMut(&Call) -> Answer + Send>;

pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    script: Arc<Mutex<Script>>,
    calls: Arc<Mutex<Vec<Call>>>,
    serving: tokio::task::JoinHandle<()>,
}

impl Backend {
    pub(crate) async fn start(script: impl FnMut(&Call) -> Answer + Send + 'static) -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into(), script).await
    }

    pub(crate) async fn start_at(
        address: SocketAddr,
        script: impl FnMut(&Call) -> Answer + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(Box::new(script)));
        let calls = Arc::new(Mutex::new(Vec::new()));
        let (asked, noted) = (Arc::clone(&script), Arc::clone(&calls));
        let serving = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let (asked, noted) = (Arc::clone(&asked), Arc::clone(&noted));
                let service = service_fn(move |request| {
                    let (asked, noted) = (Arc::clone(&asked), Arc::clone(&noted));
                    async move {
                        Ok::<_, std::convert::Infallible>(answer(request, &asked, &noted).await)
                    }
                });
                let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                connections.spawn(async move {
                    // Whoever goes away ends it; the test looks at what was asked.
                    let _ = builder.serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        Self { address, script, calls, serving }
    }

    /// From now on it answers so.
    pub(crate) fn answers(&self, script: impl FnMut(&Call) -> Answer + Send + 'static) {
        *self.script.lock().expect("no panic") = Box::new(script);
    }

    /// How often a method was called whose path ends so.
    pub(crate) fn asked(&self, path: &str) -> usize {
        let calls = self.calls.lock().expect("no panic");
        calls.iter().filter(|call| call.path.ends_with(path)).count()
    }

    /// What was asked, all of it.
    pub(crate) fn each<T>(&self, mut read: impl FnMut(&Call) -> T) -> Vec<T> {
        self.calls.lock().expect("no panic").iter().map(&mut read).collect()
    }
}

impl Drop for Backend {
    /// Its connections end with it.
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(
    request: Request<Incoming>,
    script: &Mutex<Script>,
    calls: &Mutex<Vec<Call>>,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let coding = Coding::of(&parts.headers).expect("a coding");
    let mut body = Messages::new(body, coding, MESSAGE_LIMIT, Duration::from_secs(10));
    let mut messages = Vec::new();
    loop {
        match body.next(&mut messages).await {
            Ok(true) => {}
            Ok(false) => break,
            // What broke off was not asked.
            Err(status) => return failed(&status),
        }
    }
    let call = Call { path: parts.uri.path().to_owned(), headers: parts.headers, messages };
    let answer = (script.lock().expect("no panic"))(&call);
    calls.lock().expect("no panic").push(call);
    match answer {
        Answer::Taken(bytes) => message(&bytes),
        Answer::Status(code, said) => failed(&Status::new(code, said)),
        Answer::Http(status) => {
            let mut response = Response::new(Body::from(Bytes::from_static(b"<h1>no</h1>")));
            *response.status_mut() = StatusCode::from_u16(status).expect("a status");
            response
        }
        Answer::Page => {
            let mut response = Response::new(Body::from(Bytes::from_static(b"<h1>It works!</h1>")));
            let html = HeaderValue::from_static("text/html");
            response.headers_mut().insert(header::CONTENT_TYPE, html);
            response
        }
        Answer::Cut => message(b"").map(|_| Body::from(Bytes::from_static(&[0; 5]))),
    }
}
