//! What is counted, for metrics: numbers that only grow, read without stopping anybody.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use handfast_tls::FaultCode;

use crate::grpc::Flaw;
use crate::record::RecordKind;
use crate::sink::Oddity;

/// Counters of one collector or relay.
#[derive(Debug, Default)]
pub struct Counts {
    accepted: [AtomicU64; KINDS],
    refused: [AtomicU64; KINDS],
    bad_reports: [AtomicU64; Flaw::ALL.len()],
    bytes: AtomicU64,
    calls_passed: AtomicU64,
    connections_refused: AtomicU64,
    connections_cut: AtomicU64,
    odd: [[AtomicU64; KINDS]; Oddity::ALL.len()],
    over_quota: AtomicU64,
    handshakes_refused: Mutex<BTreeMap<FaultCode, u64>>,
}

/// The same at one moment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Counted {
    /// Records that were accepted, by kind.
    pub accepted: BTreeMap<&'static str, u64>,
    /// Calls that were refused for what was sent, whoever it was, by the reason.
    pub bad_reports: BTreeMap<&'static str, u64>,
    /// Bytes of the messages that were accepted.
    pub bytes: u64,
    /// Calls that were passed through.
    pub calls_passed: u64,
    /// Open connections that were cut because of revocation.
    pub connections_cut: u64,
    /// Connections beyond the number that is allowed.
    pub connections_refused: u64,
    /// Records that have more in them than is looked for, by kind: they are kept whole, and found by a part of it.
    pub cut: BTreeMap<&'static str, u64>,
    /// Handshakes that were refused, by the fault's code.
    pub handshakes_refused: BTreeMap<FaultCode, u64>,
    /// Calls that were refused because a quota was exceeded.
    pub over_quota: u64,
    /// Records that were of another time than they can be, by kind: they are kept under the time at which they came.
    pub clock_skewed: BTreeMap<&'static str, u64>,
    /// Records whose sender may not speak for whom they claim, by kind.
    pub refused: BTreeMap<&'static str, u64>,
}

impl Counts {
    pub(crate) fn accepted(&self, kind: RecordKind, records: u64, bytes: u64) {
        self.accepted[kind as usize].fetch_add(records, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn refused(&self, kind: RecordKind) {
        self.refused[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn flawed(&self, flaw: Flaw) {
        self.bad_reports[flaw as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn odd(&self, oddity: Oddity, kind: RecordKind, records: u64) {
        self.odd[oddity as usize][kind as usize].fetch_add(records, Ordering::Relaxed);
    }

    pub(crate) fn passed(&self) {
        self.calls_passed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn connection_refused(&self) {
        self.connections_refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn cut(&self, count: u64) {
        self.connections_cut.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn over_quota(&self) {
        self.over_quota.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn handshake_refused(&self, code: FaultCode) {
        let mut refused = self.handshakes_refused.lock().unwrap_or_else(PoisonError::into_inner);
        *refused.entry(code).or_default() += 1;
    }

    /// Reads all of them.
    pub fn read(&self) -> Counted {
        let of = |counters: &[AtomicU64; KINDS]| {
            RecordKind::ALL
                .into_iter()
                .map(|kind| (kind.as_str(), counters[kind as usize].load(Ordering::Relaxed)))
                .filter(|(_, count)| *count > 0)
                .collect()
        };
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counted {
            accepted: of(&self.accepted),
            bad_reports: Flaw::ALL
                .into_iter()
                .map(|flaw| (flaw.as_str(), read(&self.bad_reports[flaw as usize])))
                .filter(|(_, count)| *count > 0)
                .collect(),
            bytes: read(&self.bytes),
            calls_passed: read(&self.calls_passed),
            connections_cut: read(&self.connections_cut),
            connections_refused: read(&self.connections_refused),
            clock_skewed: of(&self.odd[Oddity::ClockSkewed as usize]),
            cut: of(&self.odd[Oddity::Cut as usize]),
            handshakes_refused: self
                .handshakes_refused
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
            over_quota: read(&self.over_quota),
            refused: of(&self.refused),
        }
    }
}

/// Kinds of records, and the number that none has.
const KINDS: usize = RecordKind::ALL.len() + 1;
