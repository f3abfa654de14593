//! The outcome of a call: a code and a sentence, carried in trailers, or in headers where there is no body.

use std::fmt;
use std::fmt::Write as _;

use http::{HeaderMap, HeaderValue};

use super::flaw::Flaw;

/// How a call ended.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Status {
    /// The code.
    pub code: Code,
    /// What is wrong with the call itself, where it is that; known to whoever refuses it, and not told in so many words.
    pub flaw: Option<Flaw>,
    /// For people; UTF-8 of any content.
    pub message: String,
}

impl Status {
    /// A status with a sentence.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, flaw: None, message: message.into() }
    }

    /// The same, because of what was sent.
    #[must_use]
    pub fn flawed(self, flaw: Flaw) -> Self {
        Self { flaw: Some(flaw), ..self }
    }

    /// Writes the two trailers.
    pub fn write(&self, headers: &mut HeaderMap) {
        headers.insert("grpc-status", HeaderValue::from(self.code as u16));
        if !self.message.is_empty()
            && let Ok(value) = HeaderValue::from_str(&escape(&self.message))
        {
            headers.insert("grpc-message", value);
        }
    }

    /// Reads them; `None` if there is no status.
    pub fn read(headers: &HeaderMap) -> Option<Self> {
        let code = headers.get("grpc-status")?.to_str().ok()?.parse().ok().map(Code::from_number);
        let message = headers.get("grpc-message").map(HeaderValue::as_bytes).map(unescape);
        Some(Self::new(code.unwrap_or(Code::Unknown), message.unwrap_or_default()))
    }

    /// The status of an answer that is no answer of gRPC: of a proxy in between, or of somebody else
    /// altogether.
    ///
    /// gRPC's own table (`http-grpc-status-mapping.md`) makes `UNIMPLEMENTED` of 404 and `INTERNAL` of 400. Here
    /// both are `UNAVAILABLE`: an ingress without a route says nothing of what is behind it, and what
    /// is meant for that must not be given up.
    pub fn of_http(status: http::StatusCode) -> Self {
        let code = match status.as_u16() {
            401 => Code::Unauthenticated,
            403 => Code::PermissionDenied,
            413 => Code::ResourceExhausted,
            _ => Code::Unavailable,
        };
        let large = if code == Code::ResourceExhausted { "message too large: " } else { "" };
        Self::new(
            code,
            format!(
                "{large}the other side answered HTTP {status}, which is not gRPC: the port is another's, or \
                 what stands in between does not pass gRPC on"
            ),
        )
    }
}

/// Codes of gRPC (`statuscodes.md`).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[repr(u16)]
#[expect(missing_docs, reason = "the protocol's names")]
pub enum Code {
    Ok = 0,
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

impl Code {
    const ALL: [Self; 17] = [
        Self::Ok,
        Self::Cancelled,
        Self::Unknown,
        Self::InvalidArgument,
        Self::DeadlineExceeded,
        Self::NotFound,
        Self::AlreadyExists,
        Self::PermissionDenied,
        Self::ResourceExhausted,
        Self::FailedPrecondition,
        Self::Aborted,
        Self::OutOfRange,
        Self::Unimplemented,
        Self::Internal,
        Self::Unavailable,
        Self::DataLoss,
        Self::Unauthenticated,
    ];

    /// The code of this number; what later versions may add counts as unknown.
    pub fn from_number(number: u16) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or(Self::Unknown)
    }

    /// The name that the documentation uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Cancelled => "CANCELLED",
            Self::Unknown => "UNKNOWN",
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::NotFound => "NOT_FOUND",
            Self::AlreadyExists => "ALREADY_EXISTS",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Self::FailedPrecondition => "FAILED_PRECONDITION",
            Self::Aborted => "ABORTED",
            Self::OutOfRange => "OUT_OF_RANGE",
            Self::Unimplemented => "UNIMPLEMENTED",
            Self::Internal => "INTERNAL",
            Self::Unavailable => "UNAVAILABLE",
            Self::DataLoss => "DATA_LOSS",
            Self::Unauthenticated => "UNAUTHENTICATED",
        }
    }

    /// The status of HTTP that says the same to a caller without gRPC.
    pub fn http(self) -> http::StatusCode {
        match self {
            Self::Ok => http::StatusCode::OK,
            Self::InvalidArgument | Self::OutOfRange | Self::FailedPrecondition => {
                http::StatusCode::BAD_REQUEST
            }
            Self::Unauthenticated => http::StatusCode::UNAUTHORIZED,
            Self::PermissionDenied => http::StatusCode::FORBIDDEN,
            Self::NotFound | Self::Unimplemented => http::StatusCode::NOT_FOUND,
            Self::ResourceExhausted => http::StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable | Self::Cancelled => http::StatusCode::SERVICE_UNAVAILABLE,
            Self::DeadlineExceeded => http::StatusCode::GATEWAY_TIMEOUT,
            _ => http::StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Whether the same call may succeed later, unchanged.
    pub fn is_passing(self) -> bool {
        matches!(
            self,
            Self::Aborted
                | Self::Cancelled
                | Self::DeadlineExceeded
                | Self::Internal
                | Self::ResourceExhausted
                | Self::Unauthenticated
                | Self::Unavailable
                | Self::Unknown
        )
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Percent-encodes what may not stand in a header, and bounds it.
fn escape(message: &str) -> String {
    let mut text = String::with_capacity(message.len());
    for byte in message.bytes().take(MESSAGE_BYTES) {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            text.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

fn unescape(text: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = &text[..text.len().min(3 * MESSAGE_BYTES)];
    while let Some((first, after)) = rest.split_first() {
        let escaped = (*first == b'%')
            .then(|| after.get(..2))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        if let Some(byte) = escaped {
            bytes.push(byte);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// More of a message is cut off: headers are small.
const MESSAGE_BYTES: usize = 2048;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_status_survives_the_trailers(number in 0_u16..17, message in ".{0,300}") {
            let status = Status::new(Code::from_number(number), message);
            let mut headers = HeaderMap::new();
            status.write(&mut headers);
            let expected = String::from_utf8_lossy(
                &status.message.as_bytes()[..status.message.len().min(MESSAGE_BYTES)],
            ).into_owned();
            let read = Status::read(&headers).expect("a status");
            prop_assert_eq!(read, Status::new(status.code, expected));
        }

        #[test]
        fn any_header_is_read(number in "[ -~]{0,10}", message in "[ -~]{0,100}") {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-status", number.parse().expect("visible"));
            headers.insert("grpc-message", message.parse().expect("visible"));
            prop_assert!(Status::read(&headers).is_some());
        }
    }
}
