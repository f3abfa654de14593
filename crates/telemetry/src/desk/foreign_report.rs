//! Reports over HTTP in words that are neither SkyWalking's nor OpenTelemetry's: Zipkin's tracers, Telegraf, Amazon
//! Data Firehose. They are told in OpenTelemetry's and from then on judged as strictly as those; what is answered is
//! what each of these clients expects.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use jiff::Timestamp;

use super::http_report::{refuse, status_of, whole};
use super::report::{Intake, malformed};
use super::stream_quota::StreamQuota;
use super::{Desk, plain};
use crate::RecordKind;
use crate::caller::Caller;
use crate::grpc::{Body, Code, Flaw, Status};
use crate::protocol::firehose::Delivery;
use crate::protocol::json::BodyError;
use crate::protocol::{telegraf, zipkin};

/// A path that others post to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Foreign {
    Firehose,
    Telegraf,
    ZipkinOne,
    ZipkinTwo,
}

impl Foreign {
    pub(super) fn at(path: &str) -> Option<Self> {
        match path {
            "/api/v1/spans" => Some(Self::ZipkinOne),
            "/api/v2/spans" => Some(Self::ZipkinTwo),
            "/aws/firehose/metrics" => Some(Self::Firehose),
            "/telegraf" => Some(Self::Telegraf),
            _ => None,
        }
    }

    fn kind(self) -> RecordKind {
        match self {
            Self::Firehose | Self::Telegraf => RecordKind::OtlpMetrics,
            Self::ZipkinOne | Self::ZipkinTwo => RecordKind::OtlpTraces,
        }
    }

    /// How a body is written, or why it cannot be read.
    fn encoding(self, headers: &HeaderMap) -> Result<zipkin::Encoding, &'static str> {
        let kind = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
        let is = |known: &str| {
            let (start, rest) = kind.split_at_checked(known.len()).unwrap_or((b"", b""));
            start.eq_ignore_ascii_case(known.as_bytes()) && matches!(rest, [] | [b';' | b' ', ..])
        };
        let is_protobuf = is("application/x-protobuf") || is("application/protobuf");
        match self {
            _ if is("application/x-thrift") || is("application/vnd.apache.thrift.binary") => Err(
                "spans in Thrift are not taken; have the tracer send JSON or protobuf of version 2 to /api/v2/spans",
            ),
            Self::ZipkinTwo if is_protobuf => Ok(zipkin::Encoding::Protobuf),
            _ if is_protobuf => {
                Err("only JSON is taken here; protobuf of version 2 goes to /api/v2/spans")
            }
            Self::ZipkinOne => Ok(zipkin::Encoding::JsonOne),
            Self::Firehose | Self::Telegraf | Self::ZipkinTwo => Ok(zipkin::Encoding::JsonTwo),
        }
    }
}

pub(super) async fn answer(
    desk: &Arc<Desk>,
    foreign: Foreign,
    request: Request<Incoming>,
    caller: &Arc<Caller>,
) -> Response<Body> {
    // Whoever delivers wants its id back, whatever comes of it.
    let mut delivery = request_id(request.headers());
    let on = request.uri().path().to_owned();
    let encoding = foreign.encoding(request.headers());
    if let Err(said) = encoding {
        let status = Status::new(Code::InvalidArgument, said).flawed(Flaw::Malformed);
        desk.blame(caller, &on, &status);
    }
    let encoding = match encoding {
        Ok(encoding) => encoding,
        Err(said) if foreign == Foreign::Firehose => {
            return delivered(desk, &delivery, StatusCode::UNSUPPORTED_MEDIA_TYPE, Some(said));
        }
        Err(said) => {
            let said = serde_json::Value::from(said);
            return plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("{{\"message\":{said}}}"));
        }
    };
    let outcome = report(desk, foreign, encoding, request, caller, &mut delivery).await;
    if let Err(status) = &outcome {
        desk.blame(caller, &on, status);
    }
    match (foreign, outcome) {
        (Foreign::Firehose, Ok(())) => delivered(desk, &delivery, StatusCode::OK, None),
        (Foreign::Firehose, Err(status)) => {
            delivered(desk, &delivery, status_of(&status), Some(&status.message))
        }
        (Foreign::Telegraf, Ok(())) => plain(StatusCode::OK, "{}".to_owned()),
        (Foreign::ZipkinOne | Foreign::ZipkinTwo, Ok(())) => {
            let mut response = Response::new(Body::Empty);
            *response.status_mut() = StatusCode::ACCEPTED;
            response
        }
        (_, Err(status)) => refuse(&status),
    }
}

async fn report(
    desk: &Arc<Desk>,
    foreign: Foreign,
    encoding: zipkin::Encoding,
    mut request: Request<Incoming>,
    caller: &Arc<Caller>,
    delivery: &mut String,
) -> Result<(), Status> {
    // A delivery has the token where its service lets one be set.
    let key = request.headers().get(ACCESS_KEY).cloned();
    if let (Foreign::Firehose, Some(key)) = (foreign, key) {
        request.headers_mut().entry("authentication").or_insert(key);
    }
    desk.admit(&request).map_err(|status| match foreign {
        Foreign::Firehose => Status::new(
            Code::Unauthenticated,
            "the access key is missing or wrong: set that of the Firehose stream to the token of this collector",
        )
        .flawed(Flaw::WrongToken),
        _ => status,
    })?;
    let (parts, body) = request.into_parts();
    let quota = StreamQuota::open(desk, caller.account())?;
    let mut held = quota.held();
    let body = whole(body, &parts.headers, &mut held).await?;
    let received = desk.now();
    let size = body.len();
    let intake = Intake::new(desk, caller, &parts.headers, quota);
    let add = move |intake: &mut Intake| {
        let (id, records) = read(foreign, encoding, &body, received);
        let added = records.map_err(|error| malformed(&error)).and_then(|records| {
            records.into_iter().try_for_each(|record| intake.add_record(foreign.kind(), record))
        });
        // Its id is wanted whatever comes of it.
        Ok((id, added))
    };
    let (intake, _held, (id, added)) = intake.read(size, held, add).await?;
    if let Some(id) = id {
        *delivery = id;
    }
    added?;
    intake.finish().await
}

/// The records in a body, and what a delivery calls itself in it.
fn read(
    foreign: Foreign,
    encoding: zipkin::Encoding,
    body: &[u8],
    received: Timestamp,
) -> (Option<String>, Result<Vec<Bytes>, BodyError>) {
    match foreign {
        Foreign::Firehose => {
            let Delivery { request_id, records } = Delivery::read(body);
            (Some(request_id).filter(|id| !id.is_empty()), records)
        }
        Foreign::Telegraf => (None, telegraf::read(body)),
        Foreign::ZipkinOne | Foreign::ZipkinTwo => (None, zipkin::read(encoding, body, received)),
    }
}

/// What a delivery calls itself in its headers, too.
fn request_id(headers: &HeaderMap) -> String {
    let said = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
    said.filter(|id| id.len() <= MAX_ID).unwrap_or_default().to_owned()
}

/// The answer to a delivery. Anything else than this is a failure to it, and tried again.
fn delivered(desk: &Desk, id: &str, status: StatusCode, fault: Option<&str>) -> Response<Body> {
    let mut answer = serde_json::Map::new();
    answer.insert("requestId".to_owned(), id.into());
    answer.insert("timestamp".to_owned(), desk.now().as_millisecond().into());
    if let Some(fault) = fault {
        answer.insert("errorMessage".to_owned(), fault.into());
    }
    let text = serde_json::Value::Object(answer).to_string();
    let mut response = Response::new(Body::from(Bytes::from(text)));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

const ACCESS_KEY: HeaderName = HeaderName::from_static("x-amz-firehose-access-key");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amz-firehose-request-id");

/// Bytes of a delivery's id, which is a UUID.
const MAX_ID: usize = 256;
