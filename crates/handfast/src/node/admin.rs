//! The node behind the admin API.

mod aside;
mod revoke;
mod telemetry;

pub(crate) use self::revoke::offline as revoke_offline;
pub(super) use self::telemetry::stations;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use handfast_api::access::{Caller, Target};
use handfast_api::admin::{
    Action, AuditSearch, AuthorityStatus, ExportAudit, ExportPage, FindIssued, Held,
    InstallAuthorities, InstalledAuthorities, IssueCertificate, IssueToken, IssuedCertificate,
    IssuedToken, IssuedView, KeysProtected, Node, PendingApproval, Permit, PolicyListing,
    PolicyVerdict, ProtectKeys, RecordExport, RecordedExport, RedeemToken, RedeemedToken, Refusal,
    RefusalCode, Renew, Renewal, RenewalOutcome, Renewals, RequestAuthorities,
    RequestedAuthorities, Revoke, Revoked, RevokedCertificate, RollBack, Rotate, Taint, TestPolicy,
    VerifyAudit,
};
use handfast_api::audit::{AuditRowView, VerificationView};
use handfast_api::status::{
    ConnectorStatus, CredentialStatus, CredentialSummary, FaultView, Faults, LinkStatus,
    ListenerStatus, NodeState, NodeStatus, ProblemSeverity, RefusalView,
};
use handfast_api::telemetry::{AsideChoice, AsideDealt, Rollout, RolloutQuestion, StationView};
use handfast_authority::{RenewNowError, Report, Selection};
use handfast_network::{NetworkStatus, Unknown};
use handfast_pki::Name;
use handfast_telemetry::forward::Forwarder;
use handfast_telemetry::keep::KeepReader;
use jiff::Timestamp;

use self::aside::Fate;
use super::core::Core;
use super::tokens::parsed;
use super::view;
use crate::clock;

/// The admin API's view of a node.
pub(super) struct Admin {
    core: Arc<Core>,
}

/// How long a renewal on request may take, other sites' part included.
const RENEWAL: Duration = Duration::from_secs(30);

impl Admin {
    pub(super) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// Goes on when the caller hangs up: what was done must be on record.
    async fn deal(
        &self,
        caller: &Caller,
        request: AsideChoice,
        fate: Fate,
    ) -> Result<AsideDealt, Refusal> {
        let work = aside::deal(Arc::clone(&self.core), request, fate, caller.actor());
        tokio::spawn(work).await.unwrap_or_else(|_| {
            Err(Refusal::new(
                RefusalCode::Internal,
                "it was cut short",
                "type it again: what lies aside still is as it was",
            ))
        })
    }

    async fn network_status(&self) -> Result<NetworkStatus, Unknown> {
        self.core.network_status_apart().await
    }

    fn credential_list(&self) -> Vec<CredentialStatus> {
        self.core.credential_facts().iter().map(view::credential).collect()
    }

    fn link_list(&self, status: &NetworkStatus) -> Vec<LinkStatus> {
        let mut links: Vec<_> = status.links.iter().cloned().map(view::link).collect();
        let state = self.core.state();
        for name in state.unready.keys() {
            let Some(link) = state.resources.links.get(name) else { continue };
            let endpoint = link.spec.endpoint().map(|e| format!("{}:{}", e.host, e.port));
            links.push(view::unready(name.as_str(), link.spec.cost, endpoint.unwrap_or_default()));
        }
        links
    }
}

impl Node for Admin {
    async fn status(&self) -> NodeStatus {
        let network = self.network_status().await;
        let mut problems = self.core.problems();
        let credentials = self.credential_list();
        let network_unknown = network.as_ref().err().map(ToString::to_string);
        if let Err(unknown) = network
            && !self.core.state().draining
        {
            problems.insert(0, view::not_known(unknown));
        }
        let links = network.as_ref().map(|network| self.link_list(network)).unwrap_or_default();
        let state = self.core.state();
        let declared = state.declared.as_ref();
        NodeStatus {
            site: declared.map(|d| d.site.to_string()),
            trust_domain: declared.and_then(|d| d.trust_domain.as_ref().map(ToString::to_string)),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            home: self.core.paths.root.display().to_string(),
            started_at: self.core.started,
            state: match (state.draining, declared) {
                (true, _) => NodeState::Draining,
                (false, None) => NodeState::Starting,
                (false, Some(_))
                    if network
                        .as_ref()
                        .is_ok_and(|network| view::closed_port(network).is_some())
                        || problems.iter().any(|p| p.severity == ProblemSeverity::Error) =>
                {
                    NodeState::Degraded
                }
                (false, Some(_)) => NodeState::Ready,
            },
            accesses: {
                drop(state);
                let accesses = |network| view::accesses(&self.core, network);
                network.as_ref().map(accesses).unwrap_or_default()
            },
            links,
            connectors: network.as_ref().map(view::connectors).unwrap_or_default(),
            listeners: network.map(view::listeners).unwrap_or_default(),
            network_unknown,
            credentials: CredentialSummary::of(&credentials),
            problems,
        }
    }

    async fn links(&self) -> Result<Vec<LinkStatus>, Refusal> {
        let status = self.network_status().await.map_err(view::unanswered)?;
        Ok(self.link_list(&status))
    }

    async fn listeners(&self) -> Result<Vec<ListenerStatus>, Refusal> {
        Ok(view::listeners(self.network_status().await.map_err(view::unanswered)?))
    }

    async fn connectors(&self) -> Result<Vec<ConnectorStatus>, Refusal> {
        Ok(view::connectors(&self.network_status().await.map_err(view::unanswered)?))
    }

    async fn stations(&self) -> Vec<StationView> {
        stations(&self.core)
    }

    async fn rollout(&self, question: RolloutQuestion) -> Rollout {
        telemetry::rollout(&self.core, question)
    }

    async fn kept(&self) -> Vec<KeepReader> {
        telemetry::kept(&self.core)
    }

    async fn forwarder(&self, station: &str) -> Result<Arc<Forwarder>, Refusal> {
        aside::forwarder(&self.core, station)
    }

    async fn retry_aside(
        &self,
        caller: &Caller,
        request: AsideChoice,
    ) -> Result<AsideDealt, Refusal> {
        self.deal(caller, request, Fate::Retried).await
    }

    async fn drop_aside(
        &self,
        caller: &Caller,
        request: AsideChoice,
    ) -> Result<AsideDealt, Refusal> {
        self.deal(caller, request, Fate::Dropped).await
    }

    async fn credentials(&self) -> Result<Vec<CredentialStatus>, Refusal> {
        Ok(self.credential_list())
    }

    async fn issued(&self, search: FindIssued) -> Result<Vec<IssuedView>, Refusal> {
        self.core.issued(search).await
    }

    async fn audit_rows(&self, search: AuditSearch) -> Result<Vec<AuditRowView>, Refusal> {
        self.core.audit_rows(search).await
    }

    async fn export_audit(&self, question: ExportAudit) -> Result<ExportPage, Refusal> {
        self.core.export_audit(question).await
    }

    async fn verify_audit(&self, question: VerifyAudit) -> Result<VerificationView, Refusal> {
        self.core.verify_audit(question).await
    }

    async fn authorities(&self) -> Result<Vec<AuthorityStatus>, Refusal> {
        self.core.authority_list().await
    }

    async fn rotate(&self, caller: &Caller, request: Rotate) -> Result<AuthorityStatus, Refusal> {
        self.core.rotate(request, &caller.actor()).await
    }

    async fn taint(&self, caller: &Caller, request: Taint) -> Result<AuthorityStatus, Refusal> {
        self.core.taint(request, &caller.actor()).await
    }

    async fn roll_back(
        &self,
        caller: &Caller,
        request: RollBack,
    ) -> Result<AuthorityStatus, Refusal> {
        self.core.roll_back(request, &caller.actor()).await
    }

    async fn faults(&self) -> Faults {
        let network = self.network_status().await;
        let mut problems = self.core.problems();
        if let Err(unknown) = network
            && !self.core.state().draining
        {
            problems.insert(0, view::not_known(unknown));
        }
        let refusals = network.map(|network| network.refusals).unwrap_or_default();
        let mut refusals: Vec<_> = refusals
            .iter()
            .map(|refusal| RefusalView {
                at: refusal.at,
                peer: refusal.peer.to_string(),
                on: "link port".to_owned(),
                fault: FaultView::from(&refusal.fault),
            })
            .collect();
        refusals.extend(self.core.state().refusals.iter().cloned());
        refusals.sort_by_key(|refusal| std::cmp::Reverse(refusal.at));
        Faults { problems, refusals }
    }

    async fn authorize(
        &self,
        caller: &Caller,
        action: Action,
        targets: &[Target],
    ) -> Result<Permit, Refusal> {
        self.core.authorize(caller, action, targets).await
    }

    fn now(&self) -> Timestamp {
        clock::now()
    }

    async fn hold(&self, held: Held) -> Result<PendingApproval, Refusal> {
        let core = Arc::clone(&self.core);
        tokio::task::spawn_blocking(move || core.hold(held)).await.unwrap_or_else(|_| {
            Err(Refusal::new(RefusalCode::Internal, "the request was cut short", "ask again"))
        })
    }

    async fn approvals(&self) -> Vec<PendingApproval> {
        self.core.approvals()
    }

    async fn approve(&self, second: &Caller, id: &str) -> Result<Held, Refusal> {
        self.core.approve(second, id).await
    }

    async fn policies(&self) -> PolicyListing {
        self.core.policies()
    }

    async fn test_policy(&self, request: TestPolicy) -> Result<PolicyVerdict, Refusal> {
        self.core.test_policy(&request)
    }

    async fn issue_certificate(
        &self,
        caller: &Caller,
        request: IssueCertificate,
    ) -> Result<IssuedCertificate, Refusal> {
        self.core.issue_certificate(request, &caller.actor()).await
    }

    async fn record_export(
        &self,
        caller: &Caller,
        request: RecordExport,
    ) -> Result<RecordedExport, Refusal> {
        self.core.record_export(request, caller.actor()).await
    }

    async fn issue_token(
        &self,
        caller: &Caller,
        request: IssueToken,
    ) -> Result<IssuedToken, Refusal> {
        self.core.issue_token(request, &caller.actor()).await
    }

    async fn redeem_token(
        &self,
        _caller: &Caller,
        request: RedeemToken,
    ) -> Result<RedeemedToken, Refusal> {
        let core = Arc::clone(&self.core);
        // Goes on when the caller hangs up: what the other site has signed must be stored.
        tokio::spawn(async move { core.redeem(&request).await }).await.unwrap_or_else(|_| {
            Err(Refusal::new(
                RefusalCode::Internal,
                "the redemption was cut short",
                "redeem it again",
            ))
        })
    }

    async fn protect_keys(
        &self,
        caller: &Caller,
        request: ProtectKeys,
    ) -> Result<KeysProtected, Refusal> {
        let done = self.core.protect(request, caller.actor()).await?;
        // Whoever looks next sees how the keys lie now.
        self.core.turn(None).await;
        Ok(done)
    }

    async fn request_authorities(
        &self,
        caller: &Caller,
        request: RequestAuthorities,
    ) -> Result<RequestedAuthorities, Refusal> {
        self.core.request_authorities(request, caller.actor()).await
    }

    async fn install_authorities(
        &self,
        caller: &Caller,
        request: InstallAuthorities,
    ) -> Result<InstalledAuthorities, Refusal> {
        self.core.install_authorities(request, caller.actor()).await
    }

    async fn renew(&self, _caller: &Caller, request: Renew) -> Result<Renewals, Refusal> {
        let selection = selection(&request)?;
        let before = self.core.state().report.clone();
        let report =
            self.core.renew_turn(selection.clone()).await.map_err(|error| match error {
                RenewNowError::Supplied { .. } => Refusal::new(
                    RefusalCode::Conflict,
                    error.to_string(),
                    "a change of the files there is taken by itself",
                ),
                RenewNowError::Unknown { .. } => {
                    Refusal::new(RefusalCode::NotFound, error.to_string(), "check the name")
                }
                _ => Refusal::new(RefusalCode::Internal, error.to_string(), "see the node's log"),
            })?;
        let asked: BTreeSet<Name> = match &selection {
            Selection::Named(names) => names.iter().cloned().collect(),
            Selection::All => report
                .credentials
                .iter()
                .filter(|facts| facts.source == handfast_store::Source::Managed)
                .map(|facts| facts.name.clone())
                .collect(),
        };
        let pending: BTreeSet<Name> = report.waiting.iter().map(|w| w.credential.clone()).collect();
        let deadline = Instant::now() + RENEWAL;
        let serial = |report: &Report, name: &Name| {
            report.credentials.iter().find(|f| f.name == *name).and_then(|f| f.serial.clone())
        };
        let old = |name: &Name| before.as_ref().and_then(|report| serial(report, name));
        // What other sites sign comes with a later turn.
        let mut now = report;
        while pending.iter().any(|name| asked.contains(name) && serial(&now, name) == old(name))
            && Instant::now() < deadline
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if let Some(latest) = self.core.state().report.clone() {
                now = latest;
            }
        }
        let renewals = now
            .credentials
            .iter()
            .filter(|facts| asked.contains(&facts.name))
            .filter(|facts| matches!(selection, Selection::Named(_)) || !signs_itself(facts))
            .map(|facts| {
                let old_serial = old(&facts.name);
                let renewed = facts.serial.is_some() && facts.serial != old_serial;
                let problem = now.problems.iter().find(|problem| problem.name == facts.name);
                Renewal {
                    name: facts.name.to_string(),
                    outcome: if renewed { RenewalOutcome::Renewed } else { RenewalOutcome::Failed },
                    old_serial,
                    credential: Some(view::credential(facts)),
                    message: match (renewed, problem) {
                        (true, _) => None,
                        (false, Some(problem)) => Some(problem.what.clone()),
                        (false, None) => {
                            Some("it was not renewed in time; the old one is in use".into())
                        }
                    },
                }
            })
            .collect();
        Ok(Renewals { renewals })
    }

    async fn revocations(&self) -> Result<Vec<RevokedCertificate>, Refusal> {
        let core = Arc::clone(&self.core);
        tokio::task::spawn_blocking(move || revoke::list(&core)).await.unwrap_or_else(|_| {
            Err(Refusal::new(RefusalCode::Internal, "the list was cut short", "try again"))
        })
    }

    async fn revoke(&self, caller: &Caller, request: Revoke) -> Result<Revoked, Refusal> {
        let (core, actor) = (Arc::clone(&self.core), caller.actor());
        // Goes on when the caller hangs up: what is on disk must be enforced.
        let work = async move { revoke::revoke(&core, &request, &actor).await };
        tokio::spawn(work).await.unwrap_or_else(|_| {
            Err(Refusal::new(
                RefusalCode::Internal,
                "the revocation was cut short",
                "type it again: what was revoked already stays so",
            ))
        })
    }
}

/// A CA that nobody above signs is not renewed with the rest: others have to trust it first.
fn signs_itself(facts: &handfast_authority::CredentialFacts) -> bool {
    facts.kind == handfast_store::Kind::Issuer && facts.issuer.is_some() && {
        let identity = facts.identity.as_deref().unwrap_or_default();
        facts.issuer.as_deref().is_some_and(|issuer| issuer.trim_start_matches("CN=") == identity)
    }
}

fn selection(request: &Renew) -> Result<Selection, Refusal> {
    match (request.all, request.names.is_empty()) {
        (true, true) => Ok(Selection::All),
        (false, false) => {
            let names = request.names.iter().map(|name| parsed("name", name));
            Ok(Selection::Named(names.collect::<Result<_, _>>()?))
        }
        _ => Err(Refusal::new(
            RefusalCode::Invalid,
            "either names or all of them",
            "give the names to renew, or `--all`",
        )),
    }
}
