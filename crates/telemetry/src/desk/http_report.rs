//! Reports over HTTP: JSON of the protocol's messages, and OTLP in protobuf or JSON. Judged as strictly as over
//! gRPC.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::timeout;

use super::report::{Intake, malformed};
use super::stream_quota::StreamQuota;
use super::{Desk, plain};
use crate::caller::Caller;
use crate::grpc::{Body, Code, MESSAGE_LIMIT, Status};
use crate::protocol::json::{self, Endpoint, Format};

pub(super) async fn answer(
    desk: &Desk,
    request: Request<Incoming>,
    caller: &Arc<Caller>,
) -> Response<Body> {
    let path = request.uri().path();
    if request.method() == Method::GET && matches!(path, "/healthcheck" | "/internal/l7check") {
        return plain(StatusCode::OK, "{\"status\":\"ok\"}".to_owned());
    }
    let Some(endpoint) = json::endpoint(path) else {
        return refuse(&Status::new(
            Code::NotFound,
            format!("nothing is reported at {}", path.escape_debug()),
        ));
    };
    if request.method() != Method::POST {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, String::new());
        response.headers_mut().insert(header::ALLOW, http::HeaderValue::from_static("POST"));
        return response;
    }
    match report(desk, endpoint, request, caller).await {
        Ok((format, body)) => {
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
        Err(status) => refuse(&status),
    }
}

async fn report(
    desk: &Desk,
    endpoint: Endpoint,
    request: Request<Incoming>,
    caller: &Caller,
) -> Result<(Format, Bytes), Status> {
    desk.admit(&request)?;
    let (parts, body) = request.into_parts();
    let format = endpoint.format(parts.headers.get(header::CONTENT_TYPE).map(|v| v.as_bytes()));
    let quota = StreamQuota::open(desk, caller.name())?;
    let body = whole(body, &parts.headers).await?;
    let mut intake = Intake::new(desk, caller, &parts.headers, quota);
    for (kind, message) in endpoint.read(format, &body).map_err(|error| malformed(&error))? {
        intake.add_record(kind, message)?;
    }
    intake.finish().await?;
    let answer = match format {
        Format::Json => Bytes::from_static(b"{}"),
        Format::Protobuf => Bytes::new(),
    };
    Ok((format, answer))
}

/// The body, unpacked, within its limits of size and time.
async fn whole(mut body: Incoming, headers: &HeaderMap) -> Result<Bytes, Status> {
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
                    ));
                }
                bytes.extend_from_slice(&data);
            }
        }
        Ok(bytes.freeze())
    };
    let bytes = timeout(BODY, reading).await.map_err(|_| {
        Status::new(
            Code::DeadlineExceeded,
            format!("the body did not come within {} s", BODY.as_secs()),
        )
    })??;
    match headers.get(header::CONTENT_ENCODING).map(|value| value.as_bytes()) {
        None | Some(b"identity") => Ok(bytes),
        Some(b"gzip") => crate::grpc::gunzip(&bytes, MESSAGE_LIMIT),
        Some(other) => Err(Status::new(
            Code::InvalidArgument,
            format!("a body in {} cannot be read; use gzip or none", other.escape_ascii()),
        )),
    }
}

fn refuse(status: &Status) -> Response<Body> {
    let message = serde_json::Value::from(status.message.as_str());
    let http = match status.code {
        Code::DeadlineExceeded => StatusCode::REQUEST_TIMEOUT,
        Code::ResourceExhausted if status.message.contains("bytes") => StatusCode::PAYLOAD_TOO_LARGE,
        code => code.http(),
    };
    plain(http, format!("{{\"code\":\"{}\",\"message\":{message}}}", status.code))
}

/// A body has to be there within this time.
const BODY: Duration = Duration::from_secs(30);
