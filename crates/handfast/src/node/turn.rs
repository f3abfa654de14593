//! One turn of the node: read what is declared, reconcile, and make the network so.

use std::sync::Arc;
use std::time::Duration;

use handfast_api::grants::GrantServerError;
use handfast_api::resources::{ResourceFault, Resources};
use handfast_api::status::{ProblemSeverity, ProblemView};
use handfast_authority::{CredentialFacts, Declared, RenewNowError, Report, Selection};
use handfast_network::{Clock, Network, Plan, Settings};
use handfast_store::{Ledger as _, StoreError};
use jiff::Timestamp;

use super::core::{Core, Turning};
use super::grants::GrantPort;
use super::plan::{self, Planned};
use crate::clock;

/// When something that is tried again is tried again.
const SOON: Duration = Duration::from_secs(2);

impl Core {
    /// One turn. With a selection, those credentials are renewed now; the error is about the
    /// selection, and nothing was renewed then.
    pub(super) async fn renew_turn(
        self: &Arc<Self>,
        selection: Selection,
    ) -> Result<Arc<Report>, RenewNowError> {
        self.turn_with(Some(selection)).await
    }

    /// One turn, in which nothing special was asked for.
    pub(super) async fn turn(self: &Arc<Self>, selection: Option<Selection>) {
        if let Err(error) = self.turn_with(selection).await {
            tracing::warn!(%error, "nothing was renewed");
        }
    }

    async fn turn_with(
        self: &Arc<Self>,
        selection: Option<Selection>,
    ) -> Result<Arc<Report>, RenewNowError> {
        let mut turning = self.turning.lock().await;
        self.refresh_key_secrets();
        let (resources, faults) = self.read_resources();
        let taken = self.take_up(&mut turning.configuration, resources, &faults).await;
        let super::configuration::Taken { resources, wanted, unrecorded, .. } = taken;
        let mut problems: Vec<ProblemView> = faults.iter().map(ProblemView::from).collect();
        problems.extend(taken.problems);
        let soon = || unrecorded.then(|| clock::now() + SOON);
        let Some(wanted) = wanted.map(Arc::new) else {
            let mut state = self.state();
            problems.push(no_site());
            log_new(&state.problems, &problems);
            state.resources = resources;
            state.problems = problems;
            state.next_wake = soon();
            return Ok(Arc::new(empty_report()));
        };
        log_new(&self.state().problems, &problems);
        if let Err(error) = self.catch_up_with_revocations().await {
            tracing::error!(%error, "what is revoked cannot be read, so nothing is changed");
            let mut state = self.state();
            problems.push(unread_revocations(&error));
            state.resources = resources;
            state.problems = problems;
            state.next_wake = Some(clock::now() + SOON);
            return Ok(state.report.clone().unwrap_or_else(|| Arc::new(empty_report())));
        }
        if taken.untouched {
            let mut state = self.state();
            state.resources = resources;
            state.problems = problems;
            state.next_wake = soon();
            return Ok(state.report.clone().unwrap_or_else(|| Arc::new(empty_report())));
        }
        let report = self.reconcile(Arc::clone(&wanted), selection).await?;
        let report = Arc::new(report);
        self.announce(&report);
        problems.extend(self.lists_of(&report).await);
        let planned = {
            let retired = self.state().retired.clone();
            plan::plan(&resources, &wanted, &report, &retired, &mut turning.tls)
        };
        problems.extend(planned.problems.iter().cloned());
        {
            let mut state = self.state();
            state.resources = Arc::clone(&resources);
            state.declared = Some(Arc::clone(&wanted));
            state.problems = problems;
            // A disk that cannot be written is looked at again soon.
            let again = state.disk.fault.as_ref().map(|_| clock::now() + SOON).or_else(soon);
            state.next_wake = Some(again.map_or(report.next_wake, |at| at.min(report.next_wake)));
            state.unready.clone_from(&planned.unready);
            state.report = Some(Arc::clone(&report));
        }
        self.put_in_place(planned, &mut turning).await;
        // What a forced rotation revoked: cut once what took its place is presented, not at the next turn.
        if let Err(error) = self.catch_up_with_revocations().await {
            tracing::error!(%error, "what this turn revoked cannot be read, and is not enforced yet");
            self.state().next_wake = Some(clock::now() + SOON);
        }
        if !self.state().no_network {
            let fault = self.place_admin_port(&resources, &wanted, &report, &mut turning).await;
            self.note_admin_fault(fault);
            let faults = self.place_telemetry(&resources, &wanted, &report, &mut turning).await;
            self.note_telemetry_faults(faults);
            self.staple_rest(&turning).await;
            self.redeem_declared(&resources, &mut turning.attempts);
            self.ask_other_sites(&report);
            self.issue_declared(&resources).await;
            self.notify(&resources, &report, &mut turning.notifiers).await;
        }
        Ok(report)
    }

    fn note_admin_fault(&self, fault: Option<ProblemView>) {
        let mut state = self.state();
        if fault.is_some() {
            let again = clock::now() + SOON;
            state.next_wake = Some(state.next_wake.map_or(again, |wake| wake.min(again)));
        }
        state.admin_fault = fault;
    }

    fn note_telemetry_faults(&self, faults: Vec<ProblemView>) {
        let mut state = self.state();
        if !faults.is_empty() {
            let again = clock::now() + SOON;
            state.next_wake = Some(state.next_wake.map_or(again, |wake| wake.min(again)));
        }
        state.telemetry_faults = faults;
    }

    fn read_resources(&self) -> (Resources, Vec<ResourceFault>) {
        let (mut resources, mut faults) = Resources::load(&self.paths.input_resources);
        let (own, own_faults) = Resources::load(&self.own_resources());
        for (name, link) in own.links {
            // What the user declares comes first.
            resources.links.entry(name).or_insert(link);
        }
        faults.extend(own_faults);
        (resources, faults)
    }

    async fn reconcile(
        self: &Arc<Self>,
        wanted: Arc<Declared>,
        selection: Option<Selection>,
    ) -> Result<Report, RenewNowError> {
        let core = Arc::clone(self);
        let work = tokio::task::spawn_blocking(move || {
            core.look_at_disk(false);
            core.tell_sites();
            let now = clock::now();
            let report = match selection {
                Some(selection) => core.authority().renew_now(&wanted, &selection, now),
                None => Ok(core.authority().reconcile(&wanted, now)),
            }?;
            let has_failed = |facts: &CredentialFacts| {
                facts.failure.as_ref().is_some_and(|failure| failure.last >= now)
            };
            if report.credentials.iter().any(has_failed) {
                core.look_at_disk(true);
            }
            // Not asked for at a scrape, which must not wait for a disk.
            if let Ok(authorities) = core.authority().authorities(&wanted, now) {
                core.state().authorities = Arc::new(authorities);
            }
            if let Ok(head) = core.authority().ledger().audit_head() {
                core.state().audit_rows = Some(head.map_or(0, |head| head.head.size));
            }
            Ok(report)
        });
        match work.await {
            Ok(report) => report,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// What others publish as revoked, before anything is opened.
    async fn lists_of(self: &Arc<Self>, report: &Arc<Report>) -> Vec<ProblemView> {
        let (core, report) = (Arc::clone(self), Arc::clone(report));
        match tokio::task::spawn_blocking(move || core.take_over_lists(&report)).await {
            Ok(problems) => problems,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// What was revoked since the last turn, by whomever, before anything is decided or opened.
    async fn catch_up_with_revocations(self: &Arc<Self>) -> Result<(), StoreError> {
        let core = Arc::clone(self);
        match tokio::task::spawn_blocking(move || core.take_over_revocations()).await {
            Ok(done) => done.map(drop),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// Logs problems when they are news.
    fn announce(&self, report: &Report) {
        let known = self.state().report.clone();
        for problem in &report.problems {
            if known.as_ref().is_none_or(|known| !known.problems.contains(problem)) {
                tracing::warn!(credential = %problem.name, "{problem}");
            }
        }
    }

    async fn put_in_place(self: &Arc<Self>, planned: Planned, turning: &mut Turning) {
        if self.state().no_network {
            return;
        }
        let Planned { plan, grants, distribution, .. } = planned;
        self.place_grant_port(grants, turning).await;
        self.hand_out(distribution, turning).await;
        let Some(network) = self.network_for(&plan) else { return };
        let applied = tokio::task::spawn_blocking(move || network.apply(plan));
        if applied.await.is_err() {
            tracing::error!("the network did not take the plan");
        }
    }

    fn network_for(&self, plan: &Plan) -> Option<Arc<Network>> {
        let mut state = self.state();
        if state.draining {
            return None;
        }
        if state.network.is_none() {
            let clock: Clock = Arc::new(clock::now);
            let settings = Settings {
                revocations: self.revoked.view.clone(),
                feed: self.revoked.feed.clone(),
                ..Settings::new(clock)
            };
            match Network::start(plan.site.clone(), &settings) {
                Ok((network, requests)) => {
                    state.network = Some(Arc::new(network));
                    state.requests = Some(requests);
                }
                Err(error) => {
                    tracing::error!(%error, "the network cannot be started");
                    return None;
                }
            }
        }
        state.network.clone()
    }

    async fn place_grant_port(
        self: &Arc<Self>,
        wanted: Option<(std::net::SocketAddr, Arc<rustls::ServerConfig>)>,
        turning: &mut Turning,
    ) {
        let Some((address, tls)) = wanted else {
            if let Some(port) = turning.grant_port.take() {
                port.close();
            }
            self.state().grant_fault = None;
            return;
        };
        if let Some(port) = &turning.grant_port
            && port.address() == address
        {
            port.present(tls);
            return;
        }
        if let Some(port) = turning.grant_port.take() {
            port.close();
        }
        match GrantPort::open(address, tls, Arc::clone(self)).await {
            Ok(port) => {
                tracing::info!(%address, "tokens are redeemed");
                turning.grant_port = Some(port);
                self.state().grant_fault = None;
            }
            Err(error) => {
                let mut state = self.state();
                if state.grant_fault.is_none() {
                    tracing::error!(%error, "no token can be redeemed");
                }
                state.grant_fault = Some(ProblemView {
                    severity: ProblemSeverity::Error,
                    subject: "grant port".to_owned(),
                    file: None,
                    line: None,
                    message: match &error {
                        GrantServerError::Bind { source, .. } => {
                            format!(
                                "no token can be redeemed: cannot listen on {address}: {source}"
                            )
                        }
                        other => other.to_string(),
                    },
                    remedy: "free the port, or set another `grant-port` in the RouterAccess"
                        .to_owned(),
                });
                let again = clock::now() + SOON;
                state.next_wake = Some(state.next_wake.map_or(again, |wake| wake.min(again)));
            }
        }
    }
}

fn unread_revocations(error: &StoreError) -> ProblemView {
    ProblemView {
        severity: ProblemSeverity::Error,
        subject: "ledger".to_owned(),
        file: None,
        line: None,
        message: format!("what is revoked cannot be read: {error}"),
        remedy:
            "look for a full or failing disk under the node's home; it is tried again by itself"
                .to_owned(),
    }
}

/// Whoever reads the log alone has to see what `status` shows, once.
fn log_new(known: &[ProblemView], problems: &[ProblemView]) {
    for problem in problems.iter().filter(|problem| !known.contains(problem)) {
        tracing::warn!(
            subject = problem.subject,
            file = problem.file.as_deref(),
            line = problem.line,
            to_do = problem.remedy,
            "{}",
            problem.message
        );
    }
}

fn no_site() -> ProblemView {
    ProblemView {
        severity: ProblemSeverity::Warning,
        subject: "Site".to_owned(),
        file: None,
        line: None,
        message: "no site is declared, so there is nothing to run yet".to_owned(),
        remedy: "type `handfast site create NAME`".to_owned(),
    }
}

pub(super) fn empty_report() -> Report {
    Report {
        changed: Vec::new(),
        waiting: Vec::new(),
        problems: Vec::new(),
        credentials: Vec::new(),
        live: std::collections::BTreeMap::new(),
        issuers: std::collections::BTreeMap::new(),
        bundle: None,
        agents: None,
        next_wake: Timestamp::MAX,
        skew: None,
    }
}
