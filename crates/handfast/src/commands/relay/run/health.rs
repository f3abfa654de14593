//! How a relay by itself is, for supervisors and Prometheus.

use std::sync::PoisonError;

use handfast_api::health::Health;
use handfast_api::telemetry::{StationKind, StationView};
use handfast_telemetry::station::StationStatus;
use tokio::sync::watch;

use super::Shared;
use crate::node;

/// What is asked.
pub(super) struct RelayHealth {
    pub(super) station: Shared,
    /// Why the certificates, or the token, that lie there are not in use.
    pub(super) faults: [watch::Receiver<Option<String>>; 2],
}

impl RelayHealth {
    fn status(&self) -> Option<StationStatus> {
        let station = self.station.lock().unwrap_or_else(PoisonError::into_inner);
        station.as_ref().map(handfast_telemetry::station::Station::status)
    }
}

impl Health for RelayHealth {
    fn healthy(&self) -> Result<(), String> {
        let status = self.status().ok_or_else(|| "the relay is stopping".to_owned())?;
        for fault in &self.faults {
            if let Some(fault) = &*fault.borrow() {
                return Err(format!("what was good last stays in use: {fault}"));
            }
        }
        match status.forward.and_then(|forward| forward.upstream.fault) {
            Some(fault) => Err(format!("no backend can be reached: {}", fault.one_line())),
            None => Ok(()),
        }
    }

    fn metrics(&self) -> String {
        let views: Vec<StationView> = self
            .status()
            .map(|status| StationView::of(StationKind::Relay, status, Vec::new()))
            .into_iter()
            .collect();
        node::metrics_of_stations(&views)
    }
}
