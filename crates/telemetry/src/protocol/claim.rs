//! Who a message says it comes from, read out of its bytes.
//!
//! The claim is judged against the certificate of whoever sent the message; this module only finds
//! it. What it finds is what every later reader of the same bytes will find: of a field that is there
//! twice the last counts, as protobuf has it, and what readers could disagree about is refused.

use std::borrow::Cow;

use super::otlp::Resource;
use super::wire::{Fault, Field, Fields, Malformed};
use crate::RecordKind;

/// Who a message says it comes from. Empty where it says nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Claim<'a> {
    /// The service. OpenTelemetry's is `namespace/name` where it has a namespace, for a name is
    /// unique only within it.
    pub service: Cow<'a, str>,
    /// The instance of the service.
    pub instance: &'a str,
}

/// Every claim that a message makes: mostly one. None where a message is tied by the id of a segment
/// or of a task to others that make one.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Claims<'a> {
    first: Option<Claim<'a>>,
    others: Vec<Claim<'a>>,
}

impl<'a> Claims<'a> {
    /// One after the other, in the order in which they came. Equal neighbours are told once.
    pub fn iter(&self) -> impl Iterator<Item = &Claim<'a>> {
        self.first.iter().chain(&self.others)
    }

    fn push(&mut self, claim: Claim<'a>) -> Result<(), Fault> {
        match &self.first {
            None => self.first = Some(claim),
            Some(first) if *self.others.last().unwrap_or(first) == claim => {}
            Some(_) if self.others.len() + 1 == MAX_CLAIMS => {
                return Err(Fault::TooMany(MAX_CLAIMS));
            }
            Some(_) => self.others.push(claim),
        }
        Ok(())
    }
}

/// Where a message has its claim.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Claimed {
    /// In two fields of the messages at the end of a path.
    Fields {
        /// The message's name, for faults.
        message: &'static str,
        /// The numbers of the fields to go through, outermost first; at each step any of these.
        path: &'static [&'static [u32]],
        /// The number of the field with the service.
        service: u32,
        /// That of the field with the instance; 0 where there is none.
        instance: u32,
    },
    /// In each call that a mesh saw: the side on which it was seen.
    Mesh,
    /// Nowhere.
    Nowhere,
    /// In the attributes of an OpenTelemetry resource.
    Resource {
        /// The message's name, for faults.
        message: &'static str,
    },
}

impl Claimed {
    const fn direct(message: &'static str, service: u32, instance: u32) -> Self {
        Self::Fields { message, path: &[], service, instance }
    }

    /// Where records of this kind have theirs.
    pub const fn of(kind: RecordKind) -> Self {
        match kind {
            RecordKind::Segment => Self::direct("SegmentObject", 4, 5),
            RecordKind::JvmMetrics => Self::direct("JVMMetricCollection", 2, 3),
            RecordKind::ClrMetrics => Self::direct("CLRMetricCollection", 2, 3),
            RecordKind::Meter => Self::direct("MeterData", 3, 4),
            RecordKind::Log => Self::direct("LogData", 2, 3),
            RecordKind::Event => {
                Self::Fields { message: "Event", path: &[&[2]], service: 1, instance: 2 }
            }
            RecordKind::InstanceProperties => Self::direct("InstanceProperties", 1, 2),
            RecordKind::InstancePing => Self::direct("InstancePingPkg", 1, 2),
            RecordKind::ProfileTaskFinish => Self::direct("ProfileTaskFinishReport", 1, 2),
            RecordKind::BrowserPerf => Self::direct("BrowserPerfData", 1, 2),
            RecordKind::BrowserWebVitals => Self::direct("BrowserWebVitalsPerfData", 1, 2),
            RecordKind::BrowserResourcePerf => Self::direct("BrowserResourcePerfData", 1, 2),
            RecordKind::BrowserWebInteraction => {
                Self::direct("BrowserWebInteractionsPerfData", 1, 2)
            }
            RecordKind::BrowserErrorLog => Self::direct("BrowserErrorLog", 2, 3),
            RecordKind::ServiceMesh => Self::Mesh,
            // The process that was watched: connection, its local end, where that is known.
            RecordKind::EbpfAccessLog => Self::Fields {
                message: "EBPFAccessLogMessage",
                path: &[&[2], &[1], &[1]],
                service: 1,
                instance: 2,
            },
            RecordKind::SpanAttachedEvent
            | RecordKind::ThreadSnapshot
            | RecordKind::GoProfile
            | RecordKind::EbpfProfiling => Self::Nowhere,
            RecordKind::OtlpTraces => Self::Resource { message: "ResourceSpans" },
            RecordKind::OtlpMetrics => Self::Resource { message: "ResourceMetrics" },
            RecordKind::OtlpLogs => Self::Resource { message: "ResourceLogs" },
        }
    }

    /// The claims of a message, each of which has to be judged.
    pub fn claims(self, body: &[u8]) -> Result<Claims<'_>, Malformed> {
        let mut claims = Claims::default();
        match self {
            Self::Nowhere => {}
            Self::Fields { message, path, service, instance } => {
                let place = Ends { message, service, instance };
                place.walk(Fields::of(message, body), path, &mut claims)?;
            }
            Self::Mesh => mesh(body, &mut claims)?,
            Self::Resource { message } => {
                let resource = Resource::of(message, body)?;
                claims.first =
                    Some(Claim { service: resource.service(), instance: resource.instance });
            }
        }
        Ok(claims)
    }
}

/// The claims of a record.
pub fn claims(kind: RecordKind, body: &[u8]) -> Result<Claims<'_>, Malformed> {
    Claimed::of(kind).claims(body)
}

struct Ends {
    message: &'static str,
    service: u32,
    instance: u32,
}

impl Ends {
    /// As deep as the path is long, which is ours and not the sender's.
    fn walk<'a>(
        &self,
        fields: Fields<'a>,
        path: &[&[u32]],
        claims: &mut Claims<'a>,
    ) -> Result<(), Malformed> {
        let Some((step, path)) = path.split_first() else {
            return self.end(fields, claims);
        };
        for field in fields {
            let field = field?;
            if step.contains(&field.number) {
                self.walk(field.nested("(path to the service)", self.message)?, path, claims)?;
            }
        }
        Ok(())
    }

    fn end<'a>(&self, fields: Fields<'a>, claims: &mut Claims<'a>) -> Result<(), Malformed> {
        let (mut service, mut instance) = ("", "");
        for field in fields {
            let field = field?;
            if field.number == self.service {
                service = name(&field, "service")?;
            } else if field.number == self.instance {
                instance = name(&field, "serviceInstance")?;
            }
        }
        let claim = Claim { service: Cow::Borrowed(service), instance };
        claims.push(claim).map_err(|fault| Malformed {
            message: self.message,
            field: super::wire::Place::Name("service"),
            fault,
        })
    }
}

/// Calls over HTTP have the side that saw them in field 12, connections in field 7.
fn mesh<'a>(body: &'a [u8], claims: &mut Claims<'a>) -> Result<(), Malformed> {
    for field in Fields::of("ServiceMeshMetrics", body) {
        let field = field?;
        let seen_by = match field.number {
            1 => 12,
            2 => 7,
            _ => continue,
        };
        for metric in field.nested("metrics", "ServiceMeshMetrics")? {
            let metric = metric?;
            if metric.number == 1 {
                let call = metric.nested("metrics", "ServiceMeshMetric")?;
                let claim = call_claim(call, seen_by)?;
                claims.push(claim).map_err(|fault| metric.malformed("metrics", fault))?;
            }
        }
    }
    Ok(())
}

fn call_claim(call: Fields<'_>, seen_by: u32) -> Result<Claim<'_>, Malformed> {
    let (mut source, mut dest, mut by_client) = (("", ""), ("", ""), true);
    for field in call {
        let field = field?;
        match field.number {
            3 => source.0 = name(&field, "sourceServiceName")?,
            4 => source.1 = name(&field, "sourceServiceInstance")?,
            5 => dest.0 = name(&field, "destServiceName")?,
            6 => dest.1 = name(&field, "destServiceInstance")?,
            number if number == seen_by => by_client = field.uint64("detectPoint")? == 0,
            _ => {}
        }
    }
    let (service, instance) = if by_client { source } else { dest };
    Ok(Claim { service: Cow::Borrowed(service), instance })
}

/// The name of a service or instance: text, and not endless, for it is compared, kept and counted.
pub(super) fn name<'a>(field: &Field<'a>, called: &'static str) -> Result<&'a str, Malformed> {
    let name = field.text(called)?;
    if name.len() > MAX_NAME {
        return Err(field.malformed(called, Fault::TooLong(MAX_NAME)));
    }
    Ok(name)
}

/// Bytes of the name of a service or instance. OAP cuts them at 70 characters; Kubernetes' longest is 253.
pub const MAX_NAME: usize = 1024;

/// Different claims in one message. Only a mesh's proxy speaks of several services at all.
pub const MAX_CLAIMS: usize = 1024;

#[cfg(test)]
#[path = "claim_tests.rs"]
mod tests;
