//! One accepted message: the unit that is appended, indexed, forwarded and counted. Its body is the
//! protobuf message as it came, so that whatever a newer agent adds arrives unchanged.

use std::fmt;

use bytes::Bytes;
use jiff::Timestamp;

/// What an agent reported in one message, and who said so.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record {
    /// The message, in protobuf. A collection was taken apart: each segment, meter and log is a
    /// record of its own.
    pub body: Bytes,
    /// Which message it is.
    pub kind: RecordKind,
    /// When it was received.
    pub received: Timestamp,
    /// Who reported it: the identity of the certificate, or empty where none was asked for.
    pub reporter: Bytes,
}

/// Which message a [`Record`] holds. The numbers are on disk: they are never given again.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each is the protocol's message of that name")]
pub enum RecordKind {
    Segment = 1,
    SpanAttachedEvent = 2,
    JvmMetrics = 3,
    ClrMetrics = 4,
    Meter = 5,
    Log = 6,
    Event = 7,
    InstanceProperties = 8,
    InstancePing = 9,
    ThreadSnapshot = 10,
    ProfileTaskFinish = 11,
    GoProfile = 12,
    BrowserPerf = 13,
    BrowserWebVitals = 14,
    BrowserResourcePerf = 15,
    BrowserWebInteraction = 16,
    BrowserErrorLog = 17,
    ServiceMesh = 18,
    EbpfAccessLog = 19,
    EbpfProfiling = 20,
    OtlpTraces = 21,
    OtlpMetrics = 22,
    OtlpLogs = 23,
}

impl RecordKind {
    /// Every kind, by number.
    pub const ALL: [Self; 23] = [
        Self::Segment,
        Self::SpanAttachedEvent,
        Self::JvmMetrics,
        Self::ClrMetrics,
        Self::Meter,
        Self::Log,
        Self::Event,
        Self::InstanceProperties,
        Self::InstancePing,
        Self::ThreadSnapshot,
        Self::ProfileTaskFinish,
        Self::GoProfile,
        Self::BrowserPerf,
        Self::BrowserWebVitals,
        Self::BrowserResourcePerf,
        Self::BrowserWebInteraction,
        Self::BrowserErrorLog,
        Self::ServiceMesh,
        Self::EbpfAccessLog,
        Self::EbpfProfiling,
        Self::OtlpTraces,
        Self::OtlpMetrics,
        Self::OtlpLogs,
    ];

    /// Whether it came in OpenTelemetry's protocol. Its body is then what one resource says:
    /// `ResourceSpans`, `ResourceMetrics` or `ResourceLogs`.
    pub fn is_otlp(self) -> bool {
        matches!(self, Self::OtlpTraces | Self::OtlpMetrics | Self::OtlpLogs)
    }

    /// Its name in metrics and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Segment => "segment",
            Self::SpanAttachedEvent => "span_attached_event",
            Self::JvmMetrics => "jvm",
            Self::ClrMetrics => "clr",
            Self::Meter => "meter",
            Self::Log => "log",
            Self::Event => "event",
            Self::InstanceProperties => "instance_properties",
            Self::InstancePing => "instance_ping",
            Self::ThreadSnapshot => "thread_snapshot",
            Self::ProfileTaskFinish => "profile_task_finish",
            Self::GoProfile => "go_profile",
            Self::BrowserPerf => "browser_perf",
            Self::BrowserWebVitals => "browser_web_vitals",
            Self::BrowserResourcePerf => "browser_resource_perf",
            Self::BrowserWebInteraction => "browser_web_interaction",
            Self::BrowserErrorLog => "browser_error_log",
            Self::ServiceMesh => "service_mesh",
            Self::EbpfAccessLog => "ebpf_access_log",
            Self::EbpfProfiling => "ebpf_profiling",
            Self::OtlpTraces => "otlp_traces",
            Self::OtlpMetrics => "otlp_metrics",
            Self::OtlpLogs => "otlp_logs",
        }
    }
}

impl fmt::Display for RecordKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A number that no kind of record has: the file is of a later version, or damaged.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0} is no kind of record that this version knows")]
pub struct UnknownRecordKind(pub u8);

impl TryFrom<u8> for RecordKind {
    type Error = UnknownRecordKind;

    fn try_from(number: u8) -> Result<Self, UnknownRecordKind> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number).ok_or(UnknownRecordKind(number))
    }
}
