//! What agents post over HTTP: JSON of the same messages, made into their protobuf.
//!
//! Written as it is read, in one pass and without building anything, so that a body costs what it was
//! sent with, however it nests. That is why the reader is our own; `serde_json` is the second opinion in its tests.
//!
//! As protobuf's JSON has it: names in camel case or as in the definitions, enums by name or number,
//! 64-bit numbers as numbers or strings, bytes in base64 (OpenTelemetry's ids in hexadecimal), `null` is absent, what
//! is not known is passed over. Agents use all of that.

pub(super) mod message;
pub(super) mod reader;
mod schema;

use bytes::Bytes;
pub use reader::{JsonError, JsonFault};

use self::reader::Reader;
use self::schema::{Message, otlp, skywalking};
use super::claim::Claimed;
use super::collection::{MAX_PARTS, Parts};
use super::wire::Malformed;
use crate::RecordKind;

/// A path that agents post to.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint {
    /// The path.
    pub path: &'static str,
    /// What the records of a body are.
    pub kind: RecordKind,
    /// What bodies are, by the protocol's documents. The other is understood as well.
    pub expects: Expects,
    message: &'static Message,
}

/// What a body is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Expects {
    /// Many messages.
    Array,
    /// An export request of OpenTelemetry: JSON, or protobuf for [`Endpoint::parts`].
    Export,
    /// One message.
    Object,
}

/// Why a body cannot be read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// It is no JSON, or not that of the message.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// It is no protobuf, or not that of the message.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// It is too long.
    #[error("the body is longer than {0} bytes; send less at a time")]
    TooLong(usize),
    /// It holds too many messages.
    #[error("the body holds more than {0} messages; send fewer at a time")]
    TooMany(usize),
    /// What it means is too much, as where many values share many tags.
    #[error("what the body says takes more than {0} bytes; send less at a time")]
    TooMuch(usize),
    /// Something in it is there too often.
    #[error("{message}.{field} holds more than {limit}; send fewer at a time")]
    TooManyIn {
        /// The message.
        message: &'static str,
        /// Its field.
        field: &'static str,
        /// How many it may hold.
        limit: usize,
    },
}

impl Endpoint {
    /// The endpoint at a path.
    pub fn at(path: &str) -> Option<&'static Self> {
        ENDPOINTS.iter().find(|endpoint| endpoint.path == path)
    }

    /// Every endpoint.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        ENDPOINTS.iter()
    }

    /// Where its records say who they come from.
    pub fn claimed(&self) -> Claimed {
        Claimed::of(self.kind)
    }

    /// The records that a body in JSON holds, in protobuf.
    pub fn read(&self, body: &[u8]) -> Result<Vec<Bytes>, BodyError> {
        if body.len() > MAX_BODY {
            return Err(BodyError::TooLong(MAX_BODY));
        }
        let text = str::from_utf8(body).map_err(|fault| JsonError {
            message: self.message.name,
            field: "(body)",
            at: fault.valid_up_to(),
            fault: JsonFault::Utf8,
        })?;
        let mut reader = Reader::of(text);
        let mut records = Vec::new();
        let mut too_many = false;
        let mut read_one = |reader: &mut Reader<'_>| {
            let mut record = Vec::new();
            message::write(reader, self.message, &mut record)?;
            too_many |= records.len() == MAX_PARTS;
            if !too_many {
                records.push(Bytes::from(record));
            }
            Ok(())
        };
        let read = match reader.peek() {
            Some(b'[') => reader.array(&mut read_one),
            _ => read_one(&mut reader),
        };
        read.and_then(|()| reader.end()).map_err(|fail| fail.error(self.message.name, "(body)"))?;
        if too_many {
            return Err(BodyError::TooMany(MAX_PARTS));
        }
        match self.expects {
            Expects::Array | Expects::Object => Ok(records),
            Expects::Export => records.into_iter().flat_map(|export| self.parts(export)).collect(),
        }
    }

    /// The records of an export request in protobuf.
    pub fn parts(&self, export: Bytes) -> impl Iterator<Item = Result<Bytes, BodyError>> {
        Parts::of(self.message.name, export).map(|part| part.map_err(BodyError::from))
    }
}

/// Bytes of a body: OAP's own limit of a message.
pub const MAX_BODY: usize = 50 << 20;

const fn endpoint(
    path: &'static str,
    kind: RecordKind,
    expects: Expects,
    message: &'static Message,
) -> Endpoint {
    Endpoint { path, kind, expects, message }
}

static ENDPOINTS: [Endpoint; 15] = {
    use Expects::{Array, Export, Object};
    [
        endpoint("/v3/segments", RecordKind::Segment, Array, &skywalking::SEGMENT),
        endpoint("/v3/segment", RecordKind::Segment, Object, &skywalking::SEGMENT),
        endpoint("/v3/logs", RecordKind::Log, Array, &skywalking::LOG_DATA),
        endpoint("/v3/events", RecordKind::Event, Array, &skywalking::EVENT),
        endpoint(
            "/v3/management/reportProperties",
            RecordKind::InstanceProperties,
            Object,
            &skywalking::INSTANCE_PROPERTIES,
        ),
        endpoint(
            "/v3/management/keepAlive",
            RecordKind::InstancePing,
            Object,
            &skywalking::INSTANCE_PING,
        ),
        endpoint("/browser/perfData", RecordKind::BrowserPerf, Object, &skywalking::BROWSER_PERF),
        endpoint(
            "/browser/perfData/webVitals",
            RecordKind::BrowserWebVitals,
            Object,
            &skywalking::BROWSER_WEB_VITALS,
        ),
        endpoint(
            "/browser/perfData/resources",
            RecordKind::BrowserResourcePerf,
            Array,
            &skywalking::BROWSER_RESOURCE,
        ),
        endpoint(
            "/browser/perfData/webInteractions",
            RecordKind::BrowserWebInteraction,
            Object,
            &skywalking::BROWSER_WEB_INTERACTION,
        ),
        endpoint(
            "/browser/errorLog",
            RecordKind::BrowserErrorLog,
            Object,
            &skywalking::BROWSER_ERROR,
        ),
        endpoint(
            "/browser/errorLogs",
            RecordKind::BrowserErrorLog,
            Array,
            &skywalking::BROWSER_ERROR,
        ),
        endpoint("/v1/traces", RecordKind::OtlpTraces, Export, &otlp::EXPORT_TRACES),
        endpoint("/v1/metrics", RecordKind::OtlpMetrics, Export, &otlp::EXPORT_METRICS),
        endpoint("/v1/logs", RecordKind::OtlpLogs, Export, &otlp::EXPORT_LOGS),
    ]
};

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
