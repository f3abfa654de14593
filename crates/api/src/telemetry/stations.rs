//! Collectors and relays as `GET /v1/telemetry` lists them.

use std::collections::BTreeMap;
use std::fmt;

use handfast_telemetry::caller::Transport;
use handfast_telemetry::station::{PortStatus, StationStatus};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::status::{EdgeState, FaultView, ProblemSeverity, ProblemView};

/// A collector or a relay.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct StationView {
    /// Which of them.
    pub kind: StationKind,
    /// Its name.
    pub name: String,
    /// How it is: `failed` where something declared does not work, `waiting` where no backend answers.
    pub state: EdgeState,
    /// Its ports that are open.
    pub ports: Vec<PortView>,
    /// Why ports that are declared are not open.
    #[serde(default)]
    pub closed: Vec<FaultView>,
    /// Records that were accepted since it started, by kind.
    pub accepted: BTreeMap<String, u64>,
    /// Records whose sender may not speak for whom they claim, by kind.
    pub refused: BTreeMap<String, u64>,
    /// Handshakes that were refused, by the fault's code.
    pub handshakes_refused: BTreeMap<String, u64>,
    /// Calls that were refused because a quota was exceeded.
    pub over_quota: u64,
    /// Calls that were refused for what was sent, whoever it was, by the reason: `malformed`, `over-quota`, `too-large`,
    /// `too-slow`, `wrong-token`.
    #[serde(default)]
    pub bad_reports: BTreeMap<String, u64>,
    /// Records that were of another time than they can be, by kind: kept under the time at which they came.
    #[serde(default)]
    pub clock_skewed: BTreeMap<String, u64>,
    /// Records that have more or longer names and tags than they are found by, by kind: kept whole.
    #[serde(default)]
    pub cut: BTreeMap<String, u64>,
    /// Bytes of the messages that were accepted.
    pub bytes: u64,
    /// Calls that were passed through.
    pub calls_passed: u64,
    /// Open connections that were cut because of revocation.
    pub connections_cut: u64,
    /// Connections beyond the number that is allowed.
    pub connections_refused: u64,
    /// The store, where what is accepted is kept.
    pub store: Option<StoreView>,
    /// The way on, where what is accepted is sent on.
    pub forward: Option<ForwardView>,
    /// What stands in its way.
    pub problems: Vec<ProblemView>,
}

/// Which kind of station.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum StationKind {
    /// It knows who reports, and keeps or forwards.
    Collector,
    /// It stands beside agents and carries what they say.
    Relay,
}

impl fmt::Display for StationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Collector => "Collector",
            Self::Relay => "Relay",
        })
    }
}

/// A port of a station.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct PortView {
    /// Its name: `grpc`, `http`, `sharing-grpc`, `sharing-http`, `unix`.
    pub name: String,
    /// Where it listens; absent for a Unix socket.
    pub address: Option<String>,
    /// `plaintext`, `tls`, `permissive` or `mtls`.
    pub mode: String,
    /// Connections that are open.
    pub connections: ConnectionCounts,
}

/// Connections by how they are protected.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ConnectionCounts {
    /// Not at all.
    pub plaintext: usize,
    /// By TLS, the caller without a certificate.
    pub tls: usize,
    /// By TLS, both with certificates.
    pub mtls: usize,
}

/// A collector's own store.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct StoreView {
    /// Bytes on the disk.
    pub bytes: u64,
    /// Records that were kept since it was opened.
    pub kept: u64,
    /// Segments that came again and were not kept twice.
    pub duplicates: u64,
    /// Records that went before their time because it was full.
    pub dropped: u64,
    /// Batches that were refused because of the disk.
    pub refused_batches: u64,
    /// Fresh series of metrics, as of when they were read last.
    #[serde(default)]
    pub series: usize,
    /// Values of which there were too many series, or a too long one, so that they are not offered.
    #[serde(default)]
    pub series_left_out: u64,
}

/// The way to the backends.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ForwardView {
    /// The backend that is connected, if one is.
    pub connected: Option<String>,
    /// Since when it is connected, or is not.
    pub since: Option<Timestamp>,
    /// Connections that were made since the start.
    pub dialled: u64,
    /// Bytes that the backend does not have yet.
    pub lag_bytes: u64,
    /// Records that the backend has.
    pub sent: u64,
    /// Records that it refused for good since the start, which were laid beside the spool.
    pub set_aside: u64,
    /// Records that lie there now.
    #[serde(default)]
    pub aside: u64,
    /// Records that lay there and went because there was no room for more: nobody has them.
    #[serde(default)]
    pub aside_dropped: u64,
    /// Records that were not sent because OpenTelemetry's protocol has no words for them.
    pub not_forwarded: u64,
    /// The same, by kind.
    #[serde(default)]
    pub not_forwarded_kinds: BTreeMap<String, u64>,
    /// Spans, points and lines that the backend left out of what it took.
    pub rejected: u64,
    /// Records that went unsent because the spool was full.
    pub dropped: u64,
    /// Batches that were refused because the spool was full, or the disk.
    pub refused_batches: u64,
    /// Why nothing moves at the moment, if so, and what to do about it.
    pub trouble: Option<String>,
    /// Why no backend can be reached, if so.
    pub fault: Option<FaultView>,
}

impl StationView {
    /// One that is declared and does not run.
    pub fn not_running(kind: StationKind, name: &str, problems: Vec<ProblemView>) -> Self {
        Self {
            kind,
            name: name.to_owned(),
            state: EdgeState::Failed,
            ports: Vec::new(),
            closed: Vec::new(),
            accepted: BTreeMap::new(),
            refused: BTreeMap::new(),
            handshakes_refused: BTreeMap::new(),
            over_quota: 0,
            bad_reports: BTreeMap::new(),
            clock_skewed: BTreeMap::new(),
            cut: BTreeMap::new(),
            bytes: 0,
            calls_passed: 0,
            connections_cut: 0,
            connections_refused: 0,
            store: None,
            forward: None,
            problems,
        }
    }

    /// One that runs.
    pub fn of(kind: StationKind, status: StationStatus, problems: Vec<ProblemView>) -> Self {
        let StationStatus { closed, counted, forward, keep, name, ports } = status;
        let waits = forward.as_ref().is_some_and(|forward| forward.upstream.fault.is_some());
        let fails = !closed.is_empty()
            || problems.iter().any(|problem| problem.severity == ProblemSeverity::Error);
        let state = match (fails, waits) {
            (true, _) => EdgeState::Failed,
            (false, true) => EdgeState::Waiting,
            (false, false) => EdgeState::Ready,
        };
        let named = |counts: BTreeMap<&'static str, u64>| {
            counts.into_iter().map(|(kind, count)| (kind.to_owned(), count)).collect()
        };
        let handshakes = counted.handshakes_refused.iter();
        Self {
            kind,
            name,
            state,
            ports: ports.iter().map(PortView::of).collect(),
            closed: closed.iter().map(FaultView::from).collect(),
            handshakes_refused: handshakes.map(|(code, n)| (code.to_string(), *n)).collect(),
            accepted: named(counted.accepted),
            refused: named(counted.refused),
            over_quota: counted.over_quota,
            bad_reports: named(counted.bad_reports),
            clock_skewed: named(counted.clock_skewed),
            cut: named(counted.cut),
            bytes: counted.bytes,
            calls_passed: counted.calls_passed,
            connections_cut: counted.connections_cut,
            connections_refused: counted.connections_refused,
            store: keep.map(|keep| StoreView {
                bytes: keep.journal.bytes,
                kept: keep.kept,
                duplicates: keep.duplicates,
                dropped: keep.journal.dropped_records,
                refused_batches: keep.journal.refused_batches,
                series: keep.series.series,
                series_left_out: keep.series.left_out,
            }),
            forward: forward.map(|forward| ForwardView {
                connected: forward.upstream.connected.as_ref().map(ToString::to_string),
                since: forward.upstream.since,
                dialled: forward.upstream.dialled,
                lag_bytes: forward.lag_bytes,
                sent: forward.sent,
                set_aside: forward.set_aside,
                aside: forward.aside,
                aside_dropped: forward.aside_dropped,
                not_forwarded: forward.not_forwarded.values().sum(),
                not_forwarded_kinds: named(forward.not_forwarded),
                rejected: forward.rejected,
                dropped: forward.spool.dropped_records,
                refused_batches: forward.spool.refused_batches,
                trouble: forward.trouble.map(|status| status.to_string()),
                fault: forward.upstream.fault.as_ref().map(FaultView::from),
            }),
            problems,
        }
    }

    /// The port of this name.
    pub fn port(&self, name: &str) -> Option<&PortView> {
        self.ports.iter().find(|port| port.name == name)
    }
}

impl PortView {
    fn of(port: &PortStatus) -> Self {
        let open = |wanted: Transport| {
            let of_it = port.connections.iter().filter(|(transport, _)| *transport == wanted);
            of_it.map(|(_, count)| count).sum()
        };
        Self {
            name: port.name.clone(),
            address: port.address.map(|address| address.to_string()),
            mode: port.mode.to_string(),
            connections: ConnectionCounts {
                plaintext: open(Transport::Plaintext),
                tls: open(Transport::Tls),
                mtls: open(Transport::Mtls),
            },
        }
    }
}
