//! What Amazon Data Firehose delivers of a metric stream of CloudWatch, told in OpenTelemetry's words of today: from
//! then on it is judged, kept and passed on as everything else that comes in them.
//!
//! A delivery is JSON with records in base64; each holds export requests, each behind its length, in
//! OpenTelemetry's protocol 0.7 or 1.0, as the stream is set. Such a stream names an account and no service, so it claims
//! to be the service `aws-cloudwatch-<account>`, instance `<region>/<stream>`; what names a service itself claims that.

mod metrics;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::collection::{MAX_PARTS, Parts};
use super::json::reader::{Read, Reader};
use super::json::{BodyError, JsonError, JsonFault};
use super::wire::{Fault, Malformed, Place};

/// What was delivered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Delivery {
    /// The delivery's own id, as far as it could be read: the answer has to repeat it.
    pub request_id: String,
    /// The records that it holds: a `ResourceMetrics` each.
    pub records: Result<Vec<Bytes>, BodyError>,
}

impl Delivery {
    /// Of a body.
    pub fn read(body: &[u8]) -> Self {
        let (mut request_id, mut messages) = (String::new(), Vec::new());
        let records = json(body, &mut request_id, &mut messages).and_then(|()| told(messages));
        Self { request_id, records }
    }
}

/// The records that the data of one record of a delivery holds.
///
/// # Errors
/// It is no row of export requests.
pub fn requests(data: &[u8]) -> Result<Vec<Bytes>, BodyError> {
    let mut messages = Vec::new();
    split(data, &mut messages)?;
    told(messages)
}

fn told(messages: Vec<Bytes>) -> Result<Vec<Bytes>, BodyError> {
    messages.into_iter().try_fold(Vec::new(), resources)
}

fn json(body: &[u8], id: &mut String, requests: &mut Vec<Bytes>) -> Result<(), BodyError> {
    let text = str::from_utf8(body).map_err(|fault| JsonError {
        message: "Delivery",
        field: "(body)",
        at: fault.valid_up_to(),
        fault: JsonFault::Utf8,
    })?;
    let (mut reader, mut stopped, mut has_records) = (Reader::of(text), None, false);
    let read = reader.object(|reader, name| match name {
        "requestId" => {
            let said = reader.string().map_err(|fail| fail.within("Delivery", "requestId"))?;
            if said.len() > MAX_ID {
                return Err(reader.expected("a shorter id").within("Delivery", "requestId"));
            }
            *id = said.into_owned();
            Ok(())
        }
        "records" => {
            has_records = true;
            let read = reader.array(|reader| {
                if let Err(error) = data(reader)?.map_or(Ok(()), |data| split(&data, requests)) {
                    stopped = Some(error);
                    return Err(reader.expected("export requests"));
                }
                Ok(())
            });
            read.map_err(|fail| fail.within("Delivery", "records"))
        }
        _ => reader.pass_over(),
    });
    let read = read.and_then(|()| reader.end());
    match (read, stopped) {
        (_, Some(error)) => Err(error),
        (Err(fail), None) => Err(fail.error("Delivery", "(body)").into()),
        (Ok(()), None) if !has_records => {
            Err(reader.expected("records").error("Delivery", "records").into())
        }
        (Ok(()), None) => Ok(()),
    }
}

fn data(reader: &mut Reader<'_>) -> Read<Option<Vec<u8>>> {
    let mut data = None;
    reader.object(|reader, name| {
        if name != "data" {
            return reader.pass_over();
        }
        let text = reader.string().map_err(|fail| fail.within("Record", "data"))?;
        let bytes = STANDARD.decode(text.as_bytes());
        let bytes = bytes.map_err(|_| reader.expected("base64").within("Record", "data"))?;
        data = Some(bytes);
        Ok(())
    })?;
    Ok(data)
}

/// The messages of a record, each behind its length.
fn split(data: &[u8], requests: &mut Vec<Bytes>) -> Result<(), BodyError> {
    let malformed = |fault| Malformed { message: "Record", field: Place::Name("data"), fault };
    let mut rest = data;
    while !rest.is_empty() {
        let mut length: u64 = 0;
        let mut ended = false;
        for at in 0..5 {
            let (byte, after) = rest.split_first().ok_or(malformed(Fault::Truncated))?;
            length |= u64::from(byte & 0x7f) << (7 * at);
            rest = after;
            if byte & 0x80 == 0 {
                ended = true;
                break;
            }
        }
        if !ended {
            return Err(malformed(Fault::Overflow).into());
        }
        let split = usize::try_from(length).ok().and_then(|at| rest.split_at_checked(at));
        let (message, after) = split.ok_or(malformed(Fault::Truncated))?;
        if requests.len() == MAX_PARTS {
            return Err(BodyError::TooMany(MAX_PARTS));
        }
        requests.push(Bytes::copy_from_slice(message));
        rest = after;
    }
    Ok(())
}

/// Adds what an export request says, resource by resource.
fn resources(mut records: Vec<Bytes>, request: Bytes) -> Result<Vec<Bytes>, BodyError> {
    for part in Parts::of("ExportMetricsServiceRequest", request) {
        if records.len() == MAX_PARTS {
            return Err(BodyError::TooMany(MAX_PARTS));
        }
        records.push(metrics::resource(&part?)?);
    }
    Ok(records)
}

/// Bytes of a delivery's id, which is a UUID.
const MAX_ID: usize = 256;

#[cfg(test)]
#[path = "firehose/tests.rs"]
mod tests;
