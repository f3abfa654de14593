//! Reports over HTTP: JSON of the protocol's messages, and OTLP in protobuf or JSON. Judged as strictly as over
//! gRPC.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::timeout;

use super::foreign_report::{self, Foreign};
use super::report::{Intake, malformed};
use super::stream_quota::{Held, StreamQuota};
use super::{Desk, plain};
use crate::caller::Caller;
use crate::grpc::{Body, Code, Flaw, MESSAGE_LIMIT, Room as _, Status};
use crate::protocol::json::{Endpoint, Expects};

pub(super) async fn answer(
    desk: &Arc<Desk>,
    request: Request<Incoming>,
    caller: &Arc<Caller>,
) -> Response<Body> {
    let path = request.uri().path();
    if request.method() == Method::GET && matches!(path, "/healthcheck" | "/internal/l7check") {
        return plain(StatusCode::OK, "{\"status\":\"ok\"}".to_owned());
    }
    let (endpoint, foreign) = (Endpoint::at(path), Foreign::at(path));
    if request.method() != Method::POST && (endpoint.is_some() || foreign.is_some()) {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, String::new());
        response.headers_mut().insert(header::ALLOW, http::HeaderValue::from_static("POST"));
        return response;
    }
    if let Some(foreign) = foreign {
        return foreign_report::answer(desk, foreign, request, caller).await;
    }
    let Some(endpoint) = endpoint else {
        return refuse(&Status::new(
            Code::NotFound,
            format!("nothing is reported at {}", path.escape_debug()),
        ));
    };
    let on = path.to_owned();
    match report(desk, endpoint, request, caller).await {
        Ok(format) => {
            // An empty message says the same in protobuf.
            let body = match format {
                Format::Json => Bytes::from_static(b"{}"),
                Format::Protobuf => Bytes::new(),
            };
            let mut response = Response::new(Body::from(body));
            let kind = match format {
                Format::Json => "application/json",
                Format::Protobuf => "application/x-protobuf",
            };
            response
                .headers_mut()
                .insert(header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
            response
        }
        Err(status) => {
            desk.blame(caller, &on, &status);
            refuse(&status)
        }
    }
}

/// Whether something is reported at this path.
pub(super) fn takes(path: &str) -> bool {
    Endpoint::at(path).is_some() || Foreign::at(path).is_some()
}

/// How a body is written.
#[derive(Clone, Copy)]
enum Format {
    Json,
    Protobuf,
}

impl Format {
    /// OpenTelemetry sends protobuf unless it says JSON; everybody else sends JSON, whatever they say.
    fn of(endpoint: &Endpoint, headers: &HeaderMap) -> Self {
        let kind = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
        if endpoint.expects == Expects::Export && !kind.starts_with(b"application/json") {
            Self::Protobuf
        } else {
            Self::Json
        }
    }
}

async fn report(
    desk: &Arc<Desk>,
    endpoint: &'static Endpoint,
    request: Request<Incoming>,
    caller: &Arc<Caller>,
) -> Result<Format, Status> {
    desk.admit(&request)?;
    let (parts, body) = request.into_parts();
    let format = Format::of(endpoint, &parts.headers);
    let quota = StreamQuota::open(desk, caller.account())?;
    let mut held = quota.held();
    let body = whole(body, &parts.headers, &mut held).await?;
    let size = body.len();
    let intake = Intake::new(desk, caller, &parts.headers, quota);
    let add = move |intake: &mut Intake| {
        match format {
            Format::Json => {
                for message in endpoint.read(&body).map_err(|error| malformed(&error))? {
                    intake.add_record(endpoint.kind, message)?;
                }
            }
            Format::Protobuf => {
                for message in endpoint.parts(body) {
                    let message = message.map_err(|error| malformed(&error))?;
                    intake.add_record(endpoint.kind, message)?;
                }
            }
        }
        Ok(())
    };
    let (intake, _held, ()) = intake.read(size, held, add).await?;
    intake.finish().await?;
    Ok(format)
}

/// The body, unpacked, within its limits of size and time.
pub(super) async fn whole(
    mut body: Incoming,
    headers: &HeaderMap,
    held: &mut Held,
) -> Result<Bytes, Status> {
    let reading = async {
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                Status::new(Code::InvalidArgument, format!("the body broke off: {error}"))
            })?;
            if let Ok(data) = frame.into_data() {
                if bytes.len() + data.len() > MESSAGE_LIMIT {
                    return Err(Status::new(
                        Code::ResourceExhausted,
                        format!("a body of more than {MESSAGE_LIMIT} bytes is not taken"),
                    )
                    .flawed(Flaw::TooLarge));
                }
                bytes.extend_from_slice(&data);
                held.hold(bytes.len())?;
            }
        }
        Ok(bytes.freeze())
    };
    let bytes = timeout(BODY, reading).await.map_err(|_| {
        Status::new(
            Code::DeadlineExceeded,
            format!("the body did not come within {} s", BODY.as_secs()),
        )
        .flawed(Flaw::TooSlow)
    })??;
    match headers.get(header::CONTENT_ENCODING).map(http::HeaderValue::as_bytes) {
        None | Some(b"identity") => Ok(bytes),
        Some(b"gzip") => {
            let packed = bytes.len();
            crate::grpc::gunzip(bytes, MESSAGE_LIMIT, |plain| held.hold(packed + plain)).await
        }
        Some(other) => Err(Status::new(
            Code::InvalidArgument,
            format!("a body in {} cannot be read; use gzip or none", other.escape_ascii()),
        )
        .flawed(Flaw::Malformed)),
    }
}

pub(super) fn refuse(status: &Status) -> Response<Body> {
    plain(status_of(status), told(status))
}

/// A status in JSON.
pub(super) fn told(status: &Status) -> String {
    let message = serde_json::Value::from(status.message.as_str());
    format!("{{\"code\":\"{}\",\"message\":{message}}}", status.code)
}

/// The status of HTTP that says the same.
pub(super) fn status_of(status: &Status) -> StatusCode {
    match status.code {
        Code::DeadlineExceeded => StatusCode::REQUEST_TIMEOUT,
        Code::ResourceExhausted if status.flaw == Some(Flaw::TooLarge) => {
            StatusCode::PAYLOAD_TOO_LARGE
        }
        code => code.http(),
    }
}

/// A body has to be there within this time.
const BODY: Duration = Duration::from_secs(30);
