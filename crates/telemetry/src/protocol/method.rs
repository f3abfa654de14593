//! Every method that agents call: what it carries, how it is answered, and what becomes of it.
//!
//! A path that is not here is passed to the upstream byte for byte, so that a method that a later version adds
//! works without us.

mod table;

use super::claim::Claimed;
use crate::RecordKind;

/// One method of one service.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// Its path in HTTP/2, with the package.
    pub path: &'static str,
    /// What becomes of a call.
    pub handling: Handling,
    /// How many messages go which way.
    pub shape: Shape,
    /// What it is answered with.
    pub reply: Reply,
    /// Where its messages say who they come from. Of a collection: where its parts do.
    pub claimed: Claimed,
    /// Whether it is also served without the package, as agents built from the old definitions call it.
    pub twin: bool,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Handling {
    /// The caller wants to be told something: passed to the upstream at once, and the answer back. Never
    /// queued; where there is no upstream, the answer is empty.
    Ask,
    /// Each message is a collection; its parts are records of this kind.
    Collection(RecordKind),
    /// The caller asks how we are.
    Health,
    /// Each message is a record of this kind.
    Report(RecordKind),
}

/// How many messages go which way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shape {
    /// Many each way.
    Bidi,
    /// Many there, one back.
    ClientStream,
    /// One there, many back.
    ServerStream,
    /// One each way.
    Unary,
}

/// The message that a method is answered with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reply {
    /// `AsyncProfilerCollectionResponse`: whether a recording may be sent.
    AsyncProfiler,
    /// `Commands`: what the agent is to do.
    Commands,
    /// `EBPFAccessLogDownstream`, which has no fields.
    EbpfAccessLog,
    /// `EBPFReportProcessDownstream`: the ids of the processes.
    EbpfProcesses,
    /// `HealthCheckResponse`.
    Health,
    /// `MeshProbeDownstream`, which has no fields.
    MeshProbe,
    /// The response to an export, empty where all of it was taken.
    Otlp,
    /// `PprofCollectionResponse`: whether a profile may be sent.
    Pprof,
}

impl Method {
    /// The method at a path, with or without the package.
    pub fn at(path: &str) -> Option<&'static Self> {
        table::METHODS.iter().find(|method| {
            method.path == path || method.twin && twin_of(method.path) == path.strip_prefix('/')
        })
    }

    /// Every method, in the order of the protocol's documents.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        table::METHODS.iter()
    }

    /// The method that reports records of this kind to an upstream that speaks the protocol they came
    /// in. Where it takes a collection, [`collect`](super::collection::collect) makes one.
    ///
    /// # Panics
    ///
    /// Never: every kind has one, which a test goes through.
    pub fn reporting(kind: RecordKind) -> &'static Self {
        let takes = |method: &&Self| match method.handling {
            Handling::Report(reported) => reported == kind,
            // Only where there is no other way: a part of it is no message by itself.
            Handling::Collection(reported) => reported == kind && kind.is_otlp(),
            Handling::Ask | Handling::Health => false,
        };
        table::METHODS.iter().find(takes).expect("every kind has a method that reports it")
    }

    /// The path without the package, where agents call that too.
    pub fn twin_path(&self) -> Option<String> {
        twin_of(self.path).filter(|_| self.twin).map(|path| format!("/{path}"))
    }
}

/// `TraceSegmentReportService/collect` of `/skywalking.v3.TraceSegmentReportService/collect`.
fn twin_of(path: &'static str) -> Option<&'static str> {
    path.strip_prefix("/skywalking.v3.")
}

impl Reply {
    /// The answer, encoded, that says: taken, and there is nothing to do.
    pub fn accepted(self) -> &'static [u8] {
        match self {
            // status: SERVING
            Self::Health => b"\x08\x01",
            _ => b"",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn agents_of_either_age_are_understood() {
        let now = Method::at("/skywalking.v3.TraceSegmentReportService/collect").unwrap();
        let old = Method::at("/TraceSegmentReportService/collect").unwrap();
        assert!(std::ptr::eq(now, old));
        assert_eq!(now.handling, Handling::Report(RecordKind::Segment));
        assert_eq!(now.twin_path().as_deref(), Some("/TraceSegmentReportService/collect"));
        // The package-less protocol never had these.
        assert!(Method::at("/LogReportService/collect").is_none());
        assert!(Method::at("/skywalking.v3.LogReportService/collect").is_some());
    }

    #[test]
    fn what_is_not_known_is_left_alone() {
        for path in [
            "",
            "/",
            "/skywalking.v3.",
            "/skywalking.v11.New/collect",
            "TraceSegmentReportService/collect",
        ] {
            assert!(Method::at(path).is_none(), "{path}");
        }
    }

    #[test]
    fn every_kind_goes_out_as_it_came_in() {
        for kind in RecordKind::ALL {
            let method = Method::reporting(kind);
            assert_eq!(method.claimed, Claimed::of(kind), "{kind}");
            assert_eq!(
                matches!(method.handling, Handling::Collection(_)),
                kind.is_otlp(),
                "{kind}"
            );
        }
        let path = Method::reporting(RecordKind::OtlpLogs).path;
        assert_eq!(path, "/opentelemetry.proto.collector.logs.v1.LogsService/Export");
    }

    #[test]
    fn a_path_is_there_once() {
        let paths: BTreeSet<_> = Method::all().map(|method| method.path).collect();
        assert_eq!(paths.len(), Method::all().count());
        let twins: Vec<_> = Method::all().filter_map(Method::twin_path).collect();
        assert!(twins.iter().all(|twin| !paths.contains(twin.as_str())));
        assert_eq!(twins.len(), 16);
    }

    #[test]
    fn an_accepted_check_of_health_says_serving() {
        let check = Method::at("/grpc.health.v1.Health/Check").unwrap();
        assert_eq!((check.handling, check.shape), (Handling::Health, Shape::Unary));
        assert_eq!(check.reply.accepted(), [8, 1]);
        assert!(Reply::Commands.accepted().is_empty());
    }
}
