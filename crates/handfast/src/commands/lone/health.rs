//! How a collector or relay by itself is, for supervisors and Prometheus.

use handfast_api::health::{Health, NothingMeasured};
use handfast_api::telemetry::StationView;

use super::lists::Due;
use super::{Lone, Trouble, word};
use crate::clock;
use crate::node;

/// What is asked.
pub(super) struct LoneHealth {
    pub(super) lone: Lone,
    pub(super) troubles: Vec<Trouble>,
    pub(super) due: Due,
}

impl Health for LoneHealth {
    fn healthy(&self) -> Result<(), String> {
        let stopping = || format!("the {} is stopping", word(self.lone.kind));
        let status = self.lone.status().ok_or_else(stopping)?;
        for trouble in &self.troubles {
            if let Some(trouble) = &*trouble.borrow() {
                return Err(format!("what was good last stays in use: {trouble}"));
            }
        }
        if let Some((until, issuer)) = &*self.due.borrow()
            && *until < clock::now()
        {
            return Err(format!("the revocation list of {issuer} was to be replaced by {until}"));
        }
        let Some(forward) = status.forward else { return Ok(()) };
        if let Some(fault) = forward.upstream.fault {
            return Err(format!("no backend can be reached: {}", fault.one_line()));
        }
        match forward.trouble {
            Some(trouble) => {
                Err(format!("the backend takes nothing, and what comes waits: {trouble}"))
            }
            None => Ok(()),
        }
    }

    fn metrics(&self) -> String {
        let view = |status| StationView::of(self.lone.kind, status, Vec::new());
        let views: Vec<StationView> = self.lone.status().map(view).into_iter().collect();
        node::metrics_of_stations(&views)
    }

    async fn measured(&self, collector: &str) -> Result<String, NothingMeasured> {
        let keep = self.lone.keep().filter(|_| collector == word(self.lone.kind));
        node::page_of_measured(keep.ok_or(NothingMeasured::NoSuchStore)?).await
    }
}
