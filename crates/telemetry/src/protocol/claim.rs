//! Who a message claims to come from: service and instance, found by walking over the outside of the
//! message. What a claim is worth is the rules' business.
//!
//! Every message of SkyWalking names both, except those that are tied to something by its id (profile
//! snapshots, events attached to spans). In a stream of meters only the first element must; later
//! ones that lack them get them from it ([`Carry`]), so that a record can stand alone. A message of OTLP may speak
//! for several resources: each is a claim.

use bytes::Bytes;

use super::method::{Method, Reported};
pub use super::wire::NotProtobuf;
use super::wire::{fields, put_string};
use crate::record::RecordKind;

/// A message whose claim cannot be found.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimError {
    /// It names no service where it must.
    #[error("it names no service")]
    NoService,
    /// It is no message at all.
    #[error(transparent)]
    NotProtobuf(#[from] NotProtobuf),
    /// A name is no UTF-8.
    #[error("its service or instance is no UTF-8")]
    NotUtf8,
    /// A name is longer than any that is meant.
    #[error("a name of {0} bytes is too long for a service or instance; the limit is {NAME_BYTES}")]
    TooLong(usize),
    /// It speaks for too many.
    #[error("it speaks for more than {RESOURCES} resources, or has more than {PARTS} parts")]
    TooMany,
}

/// Calls `found` with each service and instance that a message claims to come from; not at all for
/// kinds that name nobody.
///
/// # Errors
/// It names no service where it must, or cannot be read. `found` may have been called before.
pub fn each(
    kind: RecordKind,
    message: &[u8],
    mut found: impl FnMut(&str, &str),
) -> Result<(), ClaimError> {
    match place(kind) {
        Place::Fields { service, instance } => {
            let (service, instance) = pair(message, service, instance)?;
            if service.is_empty() {
                return Err(ClaimError::NoService);
            }
            found(service, instance);
        }
        Place::Within { field, service, instance } => {
            let inner = last(message, field)?;
            let (service, instance) = pair(inner, service, instance)?;
            if service.is_empty() {
                return Err(ClaimError::NoService);
            }
            found(service, instance);
        }
        Place::Resources => resources(message, &mut found)?,
        Place::Nowhere => {
            // Still it has to be a message.
            fields(message).try_for_each(|field| field.map(drop))?;
        }
    }
    Ok(())
}

/// The first service that a message names; empty if it names none or cannot be read.
pub fn service_of(kind: RecordKind, message: &[u8]) -> String {
    let mut service = String::new();
    // What cannot be read was refused when it came.
    let _ = each(kind, message, |name, _| {
        if service.is_empty() {
            name.clone_into(&mut service);
        }
    });
    service
}

/// Whom a question is about; `None` where questions of this method name nobody.
///
/// # Errors
/// It cannot be read.
pub fn of_question<'a>(
    method: &Method,
    message: &'a [u8],
) -> Result<Option<(&'a str, &'a str)>, ClaimError> {
    let (service, instance) = match method.path {
        "/skywalking.v3.ConfigurationDiscoveryService/fetchConfigurations" => (1, 0),
        "/skywalking.v3.ProfileTask/getProfileTaskCommands"
        | "/skywalking.v10.AsyncProfilerTask/getAsyncProfilerTaskCommands"
        | "/skywalking.v10.PprofTask/getPprofTaskCommands" => (1, 2),
        _ => {
            fields(message).try_for_each(|field| field.map(drop))?;
            return Ok(None);
        }
    };
    let (service, instance) = pair(message, service, instance)?;
    if service.is_empty() { Err(ClaimError::NoService) } else { Ok(Some((service, instance))) }
}

/// Takes a collection apart; its parts are slices of it.
///
/// # Errors
/// It is no message, or has more than [`PARTS`] parts.
pub fn split(
    reported: Reported,
    message: &Bytes,
    into: &mut Vec<(RecordKind, Bytes)>,
) -> Result<(), ClaimError> {
    let kind = match reported {
        Reported::One(kind) => {
            into.push((kind, message.clone()));
            return Ok(());
        }
        Reported::MeterCollection => RecordKind::Meter,
        Reported::SegmentCollection => RecordKind::Segment,
    };
    for field in fields(message) {
        let field = field?;
        if let (1, Some(part)) = (field.number, field.bytes()) {
            if into.len() >= PARTS {
                return Err(ClaimError::TooMany);
            }
            into.push((kind, message.slice_ref(part)));
        }
    }
    Ok(())
}

/// Remembers within one stream what its first meter named.
#[derive(Debug, Default)]
pub struct Carry {
    first: Option<(String, String)>,
}

impl Carry {
    /// The message, with service and instance of the stream's first one if it names none itself.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn apply(&mut self, kind: RecordKind, message: Bytes) -> Result<Bytes, ClaimError> {
        let Place::Fields { service: at, instance: instance_at } = place(kind) else {
            return Ok(message);
        };
        if kind != RecordKind::Meter {
            return Ok(message);
        }
        let (service, instance) = pair(&message, at, instance_at)?;
        match &self.first {
            _ if !service.is_empty() => {
                let known =
                    self.first.as_ref().is_some_and(|(s, i)| s == service && i == instance);
                if !known {
                    self.first = Some((service.to_owned(), instance.to_owned()));
                }
                Ok(message)
            }
            // The judge of claims says what is missing.
            None => Ok(message),
            Some((service, instance)) => {
                // A later field of the same number wins, and here there is none: appending is setting.
                let mut whole = message.to_vec();
                put_string(at, service.as_bytes(), &mut whole);
                put_string(instance_at, instance.as_bytes(), &mut whole);
                Ok(whole.into())
            }
        }
    }
}

/// Where a message says who it comes from.
#[derive(Clone, Copy)]
enum Place {
    /// In two fields; 0 is a field that there is not.
    Fields { service: u32, instance: u32 },
    /// Nowhere: it is tied to something else by its id.
    Nowhere,
    /// In the attributes of OTLP's resources.
    Resources,
    /// In two fields of the message in a field.
    Within { field: u32, service: u32, instance: u32 },
}

fn place(kind: RecordKind) -> Place {
    match kind {
        RecordKind::Segment => Place::Fields { service: 4, instance: 5 },
        RecordKind::JvmMetrics | RecordKind::ClrMetrics | RecordKind::Log => {
            Place::Fields { service: 2, instance: 3 }
        }
        RecordKind::Meter => Place::Fields { service: 3, instance: 4 },
        RecordKind::InstanceProperties
        | RecordKind::InstancePing
        | RecordKind::ProfileTaskFinish => Place::Fields { service: 1, instance: 2 },
        RecordKind::Event => Place::Within { field: 2, service: 1, instance: 2 },
        RecordKind::BrowserPerf
        | RecordKind::BrowserWebVitals
        | RecordKind::BrowserResourcePerf
        | RecordKind::BrowserWebInteraction => Place::Fields { service: 1, instance: 2 },
        RecordKind::BrowserErrorLog => Place::Fields { service: 2, instance: 3 },
        RecordKind::OtlpTraces | RecordKind::OtlpMetrics | RecordKind::OtlpLogs => {
            Place::Resources
        }
        RecordKind::SpanAttachedEvent
        | RecordKind::ThreadSnapshot
        | RecordKind::GoProfile
        | RecordKind::ServiceMesh
        | RecordKind::EbpfAccessLog
        | RecordKind::EbpfProfiling => Place::Nowhere,
    }
}

/// Two strings of a message; where a field stands twice, the last one counts, as everywhere.
fn pair(message: &[u8], service: u32, instance: u32) -> Result<(&str, &str), ClaimError> {
    let (mut of_service, mut of_instance) = (&[][..], &[][..]);
    for field in fields(message) {
        let field = field?;
        if let Some(bytes) = field.bytes() {
            if field.number == service {
                of_service = bytes;
            } else if field.number == instance {
                of_instance = bytes;
            }
        }
    }
    Ok((name(of_service)?, name(of_instance)?))
}

fn last(message: &[u8], number: u32) -> Result<&[u8], ClaimError> {
    let mut found = &[][..];
    for field in fields(message) {
        let field = field?;
        if let (true, Some(bytes)) = (field.number == number, field.bytes()) {
            found = bytes;
        }
    }
    Ok(found)
}

fn name(bytes: &[u8]) -> Result<&str, ClaimError> {
    if bytes.len() > NAME_BYTES {
        return Err(ClaimError::TooLong(bytes.len()));
    }
    std::str::from_utf8(bytes).map_err(|_| ClaimError::NotUtf8)
}

/// Export requests of all three signals: 1 resource*{1 resource{1 attributes*{1 key, 2 value{1 string}}}}.
fn resources(message: &[u8], found: &mut impl FnMut(&str, &str)) -> Result<(), ClaimError> {
    let mut count = 0;
    for field in fields(message) {
        let field = field?;
        let (1, Some(of_resource)) = (field.number, field.bytes()) else { continue };
        count += 1;
        if count > RESOURCES {
            return Err(ClaimError::TooMany);
        }
        let (mut service, mut instance) = ("", "");
        for attribute in fields(last(of_resource, 1)?) {
            let attribute = attribute?;
            let (1, Some(attribute)) = (attribute.number, attribute.bytes()) else { continue };
            let key = last(attribute, 1)?;
            let target = match key {
                b"service.name" => &mut service,
                b"service.instance.id" => &mut instance,
                _ => continue,
            };
            *target = name(last(last(attribute, 2)?, 1)?)?;
        }
        // What the specification calls a service without a name.
        found(if service.is_empty() { "unknown_service" } else { service }, instance);
    }
    Ok(())
}

/// Longest name of a service or instance, in bytes.
pub const NAME_BYTES: usize = 1024;

/// Most resources in one message of OTLP.
pub const RESOURCES: usize = 1000;

/// Most parts of one collection.
pub const PARTS: usize = 100_000;
