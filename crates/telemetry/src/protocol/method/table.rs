//! The methods, one row each.

use super::{Handling, Method, Reply, Shape};
use crate::RecordKind;
use crate::protocol::claim::Claimed;

/// What agents report: records of a kind, each a message.
const fn report(path: &'static str, kind: RecordKind, shape: Shape) -> Method {
    let handling = Handling::Report(kind);
    Method {
        path,
        handling,
        shape,
        reply: Reply::Commands,
        claimed: Claimed::of(kind),
        twin: false,
    }
}

/// What agents report several of in one message.
const fn collection(path: &'static str, kind: RecordKind, shape: Shape, reply: Reply) -> Method {
    let handling = Handling::Collection(kind);
    Method { path, handling, shape, reply, claimed: Claimed::of(kind), twin: false }
}

/// What agents ask.
const fn ask(path: &'static str, claimed: Claimed) -> Method {
    let (handling, shape, reply) = (Handling::Ask, Shape::Unary, Reply::Commands);
    Method { path, handling, shape, reply, claimed, twin: false }
}

const fn health(path: &'static str, shape: Shape) -> Method {
    let (handling, reply) = (Handling::Health, Reply::Health);
    Method { path, handling, shape, reply, claimed: Claimed::Nowhere, twin: false }
}

const fn named(message: &'static str, service: u32, instance: u32) -> Claimed {
    Claimed::Fields { message, path: &[], service, instance }
}

const fn below(
    message: &'static str,
    path: &'static [&'static [u32]],
    service: u32,
    instance: u32,
) -> Claimed {
    Claimed::Fields { message, path, service, instance }
}

impl Method {
    const fn with_twin(self) -> Self {
        Self { twin: true, ..self }
    }

    const fn replied(self, reply: Reply) -> Self {
        Self { reply, ..self }
    }

    const fn both_ways(self, reply: Reply) -> Self {
        Self { shape: Shape::Bidi, reply, ..self }
    }
}

pub(super) static METHODS: &[Method] = &[
    report(
        "/skywalking.v3.ManagementService/reportInstanceProperties",
        RecordKind::InstanceProperties,
        Shape::Unary,
    )
    .with_twin(),
    report("/skywalking.v3.ManagementService/keepAlive", RecordKind::InstancePing, Shape::Unary)
        .with_twin(),
    report(
        "/skywalking.v3.TraceSegmentReportService/collect",
        RecordKind::Segment,
        Shape::ClientStream,
    )
    .with_twin(),
    collection(
        "/skywalking.v3.TraceSegmentReportService/collectInSync",
        RecordKind::Segment,
        Shape::Unary,
        Reply::Commands,
    )
    .with_twin(),
    report(
        "/skywalking.v3.SpanAttachedEventReportService/collect",
        RecordKind::SpanAttachedEvent,
        Shape::ClientStream,
    ),
    report("/skywalking.v3.JVMMetricReportService/collect", RecordKind::JvmMetrics, Shape::Unary)
        .with_twin(),
    report("/skywalking.v3.CLRMetricReportService/collect", RecordKind::ClrMetrics, Shape::Unary)
        .with_twin(),
    report("/skywalking.v3.MeterReportService/collect", RecordKind::Meter, Shape::ClientStream)
        .with_twin(),
    collection(
        "/skywalking.v3.MeterReportService/collectBatch",
        RecordKind::Meter,
        Shape::ClientStream,
        Reply::Commands,
    ),
    report("/skywalking.v3.LogReportService/collect", RecordKind::Log, Shape::ClientStream),
    report("/skywalking.v3.EventService/collect", RecordKind::Event, Shape::ClientStream),
    ask(
        "/skywalking.v3.ConfigurationDiscoveryService/fetchConfigurations",
        named("ConfigurationSyncRequest", 1, 0),
    ),
    ask(
        "/skywalking.v3.ProfileTask/getProfileTaskCommands",
        named("ProfileTaskCommandQuery", 1, 2),
    )
    .with_twin(),
    report(
        "/skywalking.v3.ProfileTask/collectSnapshot",
        RecordKind::ThreadSnapshot,
        Shape::ClientStream,
    )
    .with_twin(),
    report(
        "/skywalking.v3.ProfileTask/goProfileReport",
        RecordKind::GoProfile,
        Shape::ClientStream,
    )
    .with_twin(),
    report(
        "/skywalking.v3.ProfileTask/reportTaskFinish",
        RecordKind::ProfileTaskFinish,
        Shape::Unary,
    )
    .with_twin(),
    report(
        "/skywalking.v3.BrowserPerfService/collectPerfData",
        RecordKind::BrowserPerf,
        Shape::Unary,
    )
    .with_twin(),
    report(
        "/skywalking.v3.BrowserPerfService/collectWebVitalsPerfData",
        RecordKind::BrowserWebVitals,
        Shape::Unary,
    )
    .with_twin(),
    report(
        "/skywalking.v3.BrowserPerfService/collectResourcePerfData",
        RecordKind::BrowserResourcePerf,
        Shape::Unary,
    )
    .with_twin(),
    report(
        "/skywalking.v3.BrowserPerfService/collectWebInteractionsPerfData",
        RecordKind::BrowserWebInteraction,
        Shape::Unary,
    )
    .with_twin(),
    report(
        "/skywalking.v3.BrowserPerfService/collectErrorLogs",
        RecordKind::BrowserErrorLog,
        Shape::ClientStream,
    )
    .with_twin(),
    report(
        "/skywalking.v3.ServiceMeshMetricService/collect",
        RecordKind::ServiceMesh,
        Shape::ClientStream,
    )
    .replied(Reply::MeshProbe),
    ask(
        "/skywalking.v3.EBPFProcessService/reportProcesses",
        below("EBPFProcessReportList", &[&[1], &[1, 2], &[1]], 2, 3),
    )
    .replied(Reply::EbpfProcesses),
    ask(
        "/skywalking.v3.EBPFProcessService/keepAlive",
        below("EBPFProcessPingPkgList", &[&[1], &[1]], 2, 3),
    ),
    ask("/skywalking.v3.EBPFProfilingService/queryTasks", Claimed::Nowhere),
    report(
        "/skywalking.v3.EBPFProfilingService/collectProfilingData",
        RecordKind::EbpfProfiling,
        Shape::ClientStream,
    ),
    ask(
        "/skywalking.v3.ContinuousProfilingService/queryPolicies",
        below("ContinuousProfilingPolicyQuery", &[&[1]], 1, 0),
    ),
    ask(
        "/skywalking.v3.ContinuousProfilingService/reportProfilingTask",
        named("ContinuousProfilingReport", 2, 3),
    ),
    report(
        "/skywalking.v3.EBPFAccessLogService/collect",
        RecordKind::EbpfAccessLog,
        Shape::ClientStream,
    )
    .replied(Reply::EbpfAccessLog),
    ask("/skywalking.v10.AsyncProfilerTask/collect", below("AsyncProfilerData", &[&[1]], 1, 2))
        .both_ways(Reply::AsyncProfiler),
    ask(
        "/skywalking.v10.AsyncProfilerTask/getAsyncProfilerTaskCommands",
        named("AsyncProfilerTaskCommandQuery", 1, 2),
    ),
    ask("/skywalking.v10.PprofTask/collect", below("PprofData", &[&[1]], 1, 2))
        .both_ways(Reply::Pprof),
    ask("/skywalking.v10.PprofTask/getPprofTaskCommands", named("PprofTaskCommandQuery", 1, 2)),
    collection(
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        RecordKind::OtlpTraces,
        Shape::Unary,
        Reply::Otlp,
    ),
    collection(
        "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        RecordKind::OtlpMetrics,
        Shape::Unary,
        Reply::Otlp,
    ),
    collection(
        "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
        RecordKind::OtlpLogs,
        Shape::Unary,
        Reply::Otlp,
    ),
    health("/grpc.health.v1.Health/Check", Shape::Unary),
    health("/grpc.health.v1.Health/Watch", Shape::ServerStream),
];
