//! What SkyWalking's agents report, told in OpenTelemetry's words, for a backend that knows no others.
//!
//! Pure, and the same for the same record, whoever tells it and however often: ids are derived from the
//! agents' own, so that the segments of one trace find each other although they were told one by one,
//! by different collectors even. Names of attributes are those of OpenTelemetry's semantic
//! conventions where there is one, and else those that the OpenTelemetry Collector's own reader of
//! SkyWalking uses (`sw8.segment_id`), so that a backend shows both alike.
//!
//! | SkyWalking | OpenTelemetry |
//! |---|---|
//! | segment | spans |
//! | meter, state of a JVM or of a .NET runtime | metrics |
//! | log, event, event attached to a span | log records |
//! | everything else | nothing: see [`export`] |

pub(in crate::protocol) mod attributes;
mod ids;
mod lines;
mod metrics;
mod spans;

use bytes::Bytes;
use prost::Message;

use self::attributes::Attributes;
use super::view::{
    AttachedEventView, ClrView, EventView, JvmView, LogView, MeterView, SegmentView,
};
use super::wire::Malformed;
use crate::{Record, RecordKind};
use handfast_proto::otlp::common::v1::InstrumentationScope;
use handfast_proto::otlp::resource::v1::Resource;

/// A record in OpenTelemetry's words: a part of an export request of this kind.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Exported {
    /// `ResourceSpans`, `ResourceMetrics` or `ResourceLogs`.
    pub body: Bytes,
    /// Which of them.
    pub kind: RecordKind,
}

/// Why a record cannot be told.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unexportable {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Malformed(#[from] Malformed),
    /// Part of it would be lost.
    #[error("it holds {0} spans, tags, logs and references more than are told at once")]
    TooMany(usize),
}

/// Tells a record in OpenTelemetry's words; what came in them is passed on as it is.
///
/// `None` for what has no counterpart: profiles, what a browser, a mesh or the kernel saw, properties and
/// signs of life of instances. A meter without a value says nothing either.
///
/// # Errors
/// It cannot be read, or is absurdly large.
pub fn export(record: &Record) -> Result<Option<Exported>, Unexportable> {
    let exported = |kind, body: Vec<u8>| Some(Exported { body: body.into(), kind });
    let Record { body, kind, received, .. } = record;
    Ok(match kind {
        kind if kind.is_otlp() => Some(Exported { body: body.clone(), kind: *kind }),
        RecordKind::Segment => {
            let mut told = None;
            for segment in SegmentView::of(*kind, body)? {
                if segment.left_out > 0 {
                    return Err(Unexportable::TooMany(segment.left_out));
                }
                told = exported(RecordKind::OtlpTraces, spans::tell(segment).encode_to_vec());
            }
            told
        }
        RecordKind::Log => LogView::of(*kind, body)?.into_iter().next().and_then(|line| {
            exported(RecordKind::OtlpLogs, lines::tell_log(line, *received).encode_to_vec())
        }),
        RecordKind::Event => {
            let event = lines::tell_event(EventView::of(body)?, *received);
            exported(RecordKind::OtlpLogs, event.encode_to_vec())
        }
        RecordKind::Meter => MeterView::of(*kind, body)?.into_iter().next().and_then(|meter| {
            exported(RecordKind::OtlpMetrics, metrics::tell_meter(meter).encode_to_vec())
        }),
        RecordKind::JvmMetrics => {
            let state = JvmView::of(body)?;
            exported(RecordKind::OtlpMetrics, metrics::tell_jvm(&state).encode_to_vec())
        }
        RecordKind::ClrMetrics => {
            let state = ClrView::of(body)?;
            exported(RecordKind::OtlpMetrics, metrics::tell_clr(&state).encode_to_vec())
        }
        RecordKind::SpanAttachedEvent => {
            let event = lines::tell_attached(AttachedEventView::of(body)?, *received);
            exported(RecordKind::OtlpLogs, event.encode_to_vec())
        }
        _ => None,
    })
}

/// Who reported. The layer is what OAP files a service under; it takes `GENERAL` where nobody says.
fn resource(service: String, instance: String, layer: String) -> Resource {
    let mut attributes = Attributes::default();
    attributes.text("service.name", service);
    attributes.some("service.instance.id", instance);
    attributes.text("service.layer", if layer.is_empty() { GENERAL.to_owned() } else { layer });
    Resource { attributes: attributes.finish(), ..Resource::default() }
}

fn scope() -> InstrumentationScope {
    InstrumentationScope { name: SCOPE.to_owned(), ..InstrumentationScope::default() }
}

/// Nanoseconds, of milliseconds; a time before 1970 is none.
fn nanos(ms: i64) -> u64 {
    u64::try_from(ms).unwrap_or_default().saturating_mul(1_000_000)
}

const GENERAL: &str = "GENERAL";

/// As whose work the spans are told.
const SCOPE: &str = "skywalking";

#[cfg(test)]
#[path = "otlp_export/tests.rs"]
mod tests;
