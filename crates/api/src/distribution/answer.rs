//! One request and its answer, cache headers included (RFC 9919, RFC 9110 sections 8.8 and 13.1.3).

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use handfast_pki::ocsp::{OcspRequest, Refusal};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use jiff::Timestamp;
use jiff::fmt::rfc2822::{DateTimeParser, DateTimePrinter};

use super::server::{Answer, Distributor, Document, Shared};
use crate::serve::{self, BodyFault};

const CRL: &str = "application/pkix-crl";
const CERTIFICATE: &str = "application/pkix-cert";
const OCSP: &str = "application/ocsp-response";

type Reply = Response<Full<Bytes>>;

pub(super) async fn answer<D: Distributor>(
    shared: &Shared<D>,
    from: SocketAddr,
    request: Request<Incoming>,
) -> Reply {
    // As it came: the path of an OCSP request is base64, in which a slash is a digit.
    let path = request.uri().path().to_owned();
    let reading = matches!(*request.method(), Method::GET | Method::HEAD);
    if let Some(rest) = path.strip_prefix("/ocsp")
        && (rest.is_empty() || rest.starts_with('/'))
    {
        return match *request.method() {
            Method::POST => posted(shared, from, request).await,
            Method::GET | Method::HEAD => {
                // Some clients write one slash too many; no request begins with one.
                let request_der = OcspRequest::from_url_path(rest.trim_start_matches('/'));
                let headers = request.headers().clone();
                let reply = ocsp(shared, from, request_der).await;
                cached(reply, &headers, shared.distributor.now())
            }
            _ => plain(StatusCode::METHOD_NOT_ALLOWED, "OCSP is asked with GET or POST\n"),
        };
    }
    if !reading {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "this is read with GET\n");
    }
    let now = shared.distributor.now();
    match document(&*shared.distributor, &path) {
        Some((document, kind)) => {
            let good = Some((document.this_update, document.next_update));
            cached(Made { der: document.der, good, kind, wait: None }, request.headers(), now)
        }
        None => plain(StatusCode::NOT_FOUND, "there is no such list or certificate here\n"),
    }
}

/// A response before its headers.
struct Made {
    der: Arc<[u8]>,
    good: Option<(Timestamp, Timestamp)>,
    kind: &'static str,
    wait: Option<Duration>,
}

impl From<Answer> for Made {
    fn from(answer: Answer) -> Self {
        Self { der: answer.der, good: answer.good, kind: OCSP, wait: None }
    }
}

impl From<Refusal> for Made {
    fn from(refusal: Refusal) -> Self {
        Self { der: Arc::from(refusal.to_der()), good: None, kind: OCSP, wait: None }
    }
}

fn document<D: Distributor>(distributor: &D, path: &str) -> Option<(Document, &'static str)> {
    if let Some(name) = path.strip_prefix("/crl/").and_then(|name| name.strip_suffix(".crl")) {
        // An issuer may be called so itself.
        let full = distributor.list(name, false);
        let delta = || distributor.list(name.strip_suffix("-delta")?, true);
        return full.or_else(delta).map(|document| (document, CRL));
    }
    let name = path.strip_prefix("/ca/").and_then(|name| name.strip_suffix(".crt"))?;
    distributor.issuer(name).map(|document| (document, CERTIFICATE))
}

async fn posted<D: Distributor>(
    shared: &Shared<D>,
    from: SocketAddr,
    request: Request<Incoming>,
) -> Reply {
    let body = axum::body::Body::new(request.into_body());
    let der = match serve::body(body, shared.limits).await {
        Ok(der) => der,
        Err(BodyFault::TooLarge) => {
            return plain(StatusCode::PAYLOAD_TOO_LARGE, "an OCSP request is smaller\n");
        }
        Err(BodyFault::TimedOut) => {
            return plain(StatusCode::REQUEST_TIMEOUT, "the request did not come in time\n");
        }
        Err(BodyFault::Broken) => {
            return plain(StatusCode::BAD_REQUEST, "the request could not be read\n");
        }
    };
    let made = ocsp(shared, from, OcspRequest::from_der(&der)).await;
    let mut reply = reply(StatusCode::OK, made.kind, body_of(&made.der));
    if let Some(wait) = made.wait {
        retry_after(&mut reply, wait);
    }
    // Caches do not keep answers to POST, and the answer itself says how long it is good.
    no_store(&mut reply);
    reply
}

async fn ocsp<D: Distributor>(
    shared: &Shared<D>,
    from: SocketAddr,
    request: Result<OcspRequest, handfast_pki::ocsp::OcspError>,
) -> Made {
    let request = match request {
        Ok(request) => request,
        Err(error) => {
            tracing::debug!(%from, %error, "an OCSP request could not be read");
            return Refusal::from(&error).into();
        }
    };
    if let Some(kept) = shared.distributor.kept_answer(&request) {
        return kept.into();
    }
    match shared.take(from) {
        Ok(()) => shared.distributor.answer(request).await.into(),
        Err(wait) => Made { wait: Some(wait), ..Refusal::TryLater.into() },
    }
}

/// A reply to a GET, with what lets caches keep it; 304 if the client has it already.
fn cached(made: Made, asked: &HeaderMap, now: Timestamp) -> Reply {
    let Made { der, good, kind, wait } = made;
    let Some((this_update, next_update)) = good else {
        let mut reply = reply(StatusCode::OK, kind, body_of(&der));
        no_store(&mut reply);
        if let Some(wait) = wait {
            retry_after(&mut reply, wait);
        }
        return reply;
    };
    let tag = tag(&der);
    let mut reply = if is_known(asked, &tag, this_update) {
        reply(StatusCode::NOT_MODIFIED, kind, Bytes::new())
    } else {
        reply(StatusCode::OK, kind, body_of(&der))
    };
    let left = next_update.duration_since(now).as_secs().max(0);
    let headers = reply.headers_mut();
    let mut set = |name, value: String| {
        // Digits, dates and hex digits.
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    };
    set(header::CACHE_CONTROL, format!("max-age={left}, public, no-transform, must-revalidate"));
    set(header::ETAG, tag);
    for (name, at) in [(header::LAST_MODIFIED, this_update), (header::EXPIRES, next_update)] {
        if let Ok(date) = DateTimePrinter::new().timestamp_to_rfc9110_string(&at) {
            set(name, date);
        }
    }
    reply
}

/// Whether the client's copy is the one it would get (RFC 9110 sections 13.1.2 and 13.1.3).
fn is_known(asked: &HeaderMap, tag: &str, made: Timestamp) -> bool {
    let text = |name| asked.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    if let Some(tags) = text(header::IF_NONE_MATCH) {
        return tags.split(',').any(|known| known.trim() == tag);
    }
    text(header::IF_MODIFIED_SINCE)
        .and_then(|date| DateTimeParser::new().parse_timestamp(date).ok())
        .is_some_and(|since| made <= since)
}

/// The end of the signature tells what is handed out apart from anything else.
fn tag(der: &[u8]) -> String {
    let mut tag = String::from("\"");
    for octet in der.iter().rev().take(16) {
        let _ = write!(tag, "{octet:02x}");
    }
    tag.push('"');
    tag
}

fn body_of(der: &Arc<[u8]>) -> Bytes {
    // Lists are megabytes: shared, not copied.
    Bytes::from_owner(Arc::clone(der))
}

fn plain(status: StatusCode, text: &'static str) -> Reply {
    let mut reply = reply(status, "text/plain; charset=utf-8", Bytes::from_static(text.as_bytes()));
    no_store(&mut reply);
    if status == StatusCode::METHOD_NOT_ALLOWED {
        reply.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST"));
    }
    reply
}

fn reply(status: StatusCode, kind: &'static str, body: Bytes) -> Reply {
    let mut reply = Response::new(Full::new(body));
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    reply
}

fn no_store(reply: &mut Reply) {
    reply.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

fn retry_after(reply: &mut Reply, wait: Duration) {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    reply.headers_mut().insert(header::RETRY_AFTER, seconds.into());
}
