//! Every method that agents call, and what is done with it. A method that is not here is passed through
//! byte for byte.
//!
//! Agents built from the oldest definitions call the same methods without a package; they are the same here.

use bytes::Bytes;

use crate::record::RecordKind;

/// What is done with the calls of a method.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Handling {
    /// A question: passed on as it comes, never queued.
    Ask,
    /// Answered here.
    Health,
    /// Passed on as a stream of bytes: its answers are part of a dialogue.
    Pass,
    /// A report: judged, made durable, answered.
    Report(Reported),
}

/// What the messages of a reporting method are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reported {
    /// `MeterDataCollection`: taken apart.
    MeterCollection,
    /// One kind of record.
    One(RecordKind),
    /// `SegmentCollection`: taken apart.
    SegmentCollection,
}

/// What a reporting method is answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reply {
    /// An empty message of whatever type: `Commands` without commands, a response that says nothing.
    Empty,
}

impl Reply {
    /// The message.
    pub fn message(self) -> Bytes {
        match self {
            Self::Empty => Bytes::new(),
        }
    }
}

/// A method that is known here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Method {
    /// What is done with its calls.
    pub handling: Handling,
    /// The path of its calls, with its package.
    pub path: &'static str,
    /// What it is answered, if it reports.
    pub reply: Reply,
    /// Whether the caller sends a stream of messages.
    pub streams: bool,
}

/// The method of a path, with or without its package.
pub fn look_up(path: &str) -> Option<&'static Method> {
    let found = METHODS.iter().find(|method| method.path == path);
    found.or_else(|| {
        let bare = path.strip_prefix('/')?;
        METHODS.iter().find(|method| {
            method.path.strip_prefix(V3).is_some_and(|known| known == bare)
        })
    })
}

/// The method that takes records of this kind, for whoever sends them on.
pub fn report_of(kind: RecordKind) -> &'static Method {
    METHODS
        .iter()
        .find(|method| method.handling == Handling::Report(Reported::One(kind)))
        .unwrap_or(&METHODS[0])
}

const V3: &str = "/skywalking.v3.";

const fn stream(path: &'static str, kind: RecordKind) -> Method {
    let handling = Handling::Report(Reported::One(kind));
    Method { handling, path, reply: Reply::Empty, streams: true }
}

const fn unary(path: &'static str, kind: RecordKind) -> Method {
    let handling = Handling::Report(Reported::One(kind));
    Method { handling, path, reply: Reply::Empty, streams: false }
}

const fn ask(path: &'static str) -> Method {
    Method { handling: Handling::Ask, path, reply: Reply::Empty, streams: false }
}

const fn pass(path: &'static str) -> Method {
    Method { handling: Handling::Pass, path, reply: Reply::Empty, streams: true }
}

const fn taken_apart(path: &'static str, reported: Reported, streams: bool) -> Method {
    Method { handling: Handling::Report(reported), path, reply: Reply::Empty, streams }
}

const fn health(path: &'static str) -> Method {
    Method { handling: Handling::Health, path, reply: Reply::Empty, streams: false }
}

/// The most frequent first: a look-up walks the list.
static METHODS: [Method; 38] = [
    stream("/skywalking.v3.TraceSegmentReportService/collect", RecordKind::Segment),
    stream("/skywalking.v3.MeterReportService/collect", RecordKind::Meter),
    stream("/skywalking.v3.LogReportService/collect", RecordKind::Log),
    unary("/skywalking.v3.JVMMetricReportService/collect", RecordKind::JvmMetrics),
    unary("/skywalking.v3.ManagementService/keepAlive", RecordKind::InstancePing),
    unary(
        "/skywalking.v3.ManagementService/reportInstanceProperties",
        RecordKind::InstanceProperties,
    ),
    ask("/skywalking.v3.ConfigurationDiscoveryService/fetchConfigurations"),
    ask("/skywalking.v3.ProfileTask/getProfileTaskCommands"),
    unary(
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        RecordKind::OtlpTraces,
    ),
    unary(
        "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        RecordKind::OtlpMetrics,
    ),
    unary("/opentelemetry.proto.collector.logs.v1.LogsService/Export", RecordKind::OtlpLogs),
    taken_apart(
        "/skywalking.v3.TraceSegmentReportService/collectInSync",
        Reported::SegmentCollection,
        false,
    ),
    taken_apart(
        "/skywalking.v3.MeterReportService/collectBatch",
        Reported::MeterCollection,
        true,
    ),
    stream("/skywalking.v3.SpanAttachedEventReportService/collect", RecordKind::SpanAttachedEvent),
    unary("/skywalking.v3.CLRMetricReportService/collect", RecordKind::ClrMetrics),
    stream("/skywalking.v3.EventService/collect", RecordKind::Event),
    stream("/skywalking.v3.ProfileTask/collectSnapshot", RecordKind::ThreadSnapshot),
    stream("/skywalking.v3.ProfileTask/goProfileReport", RecordKind::GoProfile),
    unary("/skywalking.v3.ProfileTask/reportTaskFinish", RecordKind::ProfileTaskFinish),
    unary("/skywalking.v3.BrowserPerfService/collectPerfData", RecordKind::BrowserPerf),
    unary(
        "/skywalking.v3.BrowserPerfService/collectWebVitalsPerfData",
        RecordKind::BrowserWebVitals,
    ),
    unary(
        "/skywalking.v3.BrowserPerfService/collectResourcePerfData",
        RecordKind::BrowserResourcePerf,
    ),
    unary(
        "/skywalking.v3.BrowserPerfService/collectWebInteractionsPerfData",
        RecordKind::BrowserWebInteraction,
    ),
    stream("/skywalking.v3.BrowserPerfService/collectErrorLogs", RecordKind::BrowserErrorLog),
    stream("/skywalking.v3.ServiceMeshMetricService/collect", RecordKind::ServiceMesh),
    stream("/skywalking.v3.EBPFAccessLogService/collect", RecordKind::EbpfAccessLog),
    stream("/skywalking.v3.EBPFProfilingService/collectProfilingData", RecordKind::EbpfProfiling),
    ask("/skywalking.v3.EBPFProcessService/reportProcesses"),
    ask("/skywalking.v3.EBPFProcessService/keepAlive"),
    ask("/skywalking.v3.EBPFProfilingService/queryTasks"),
    ask("/skywalking.v3.ContinuousProfilingService/queryPolicies"),
    ask("/skywalking.v3.ContinuousProfilingService/reportProfilingTask"),
    ask("/skywalking.v10.AsyncProfilerTask/getAsyncProfilerTaskCommands"),
    ask("/skywalking.v10.PprofTask/getPprofTaskCommands"),
    pass("/skywalking.v10.AsyncProfilerTask/collect"),
    pass("/skywalking.v10.PprofTask/collect"),
    health("/grpc.health.v1.Health/Check"),
    health("/grpc.health.v1.Health/Watch"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_method_is_found_with_and_without_its_package() {
        for (path, kind) in [
            ("/skywalking.v3.TraceSegmentReportService/collect", RecordKind::Segment),
            ("/TraceSegmentReportService/collect", RecordKind::Segment),
            ("/ManagementService/keepAlive", RecordKind::InstancePing),
            ("/JVMMetricReportService/collect", RecordKind::JvmMetrics),
        ] {
            let method = look_up(path).expect(path);
            assert_eq!(method.handling, Handling::Report(Reported::One(kind)), "{path}");
        }
        for path in ["", "/", "TraceSegmentReportService/collect", "/AsyncProfilerTask/collect", "/x/y"] {
            assert_eq!(look_up(path), None, "{path}");
        }
    }

    #[test]
    fn every_kind_of_record_has_one_way_on_and_every_path_is_there_once() {
        for kind in RecordKind::ALL {
            assert_eq!(report_of(kind).handling, Handling::Report(Reported::One(kind)), "{kind}");
        }
        let paths: BTreeSet<&str> = METHODS.iter().map(|method| method.path).collect();
        assert_eq!(paths.len(), METHODS.len());
    }
}
