//! Who may do what on this node: the policies in force, taken up live, and every decision recorded.
//!
//! The decision itself is `handfast_api::access`; here are its inputs, the audit log, and what waits for
//! a second person.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use handfast_api::access::{
    ApprovalError, Approvals, Caller, Policies, PolicyFault, Principal, Question, Sources, Target,
    TwoPersonRule, Via, Waiting, read_files,
};
use handfast_api::admin::{
    Action, Held, PendingApproval, Permit, PolicyListing, PolicyVerdict, Refusal, RefusalCode,
    TestPolicy,
};
use handfast_api::resources::{Kind, ResourceFault, Resources, Severity};
use handfast_api::status::{ProblemSeverity, ProblemView};
use handfast_authority::Declared;
use handfast_pki::{Entropy as _, Profile, SystemEntropy};
use handfast_store::{AuditRow, HomePaths, IssuedFilter, Ledger as _};

use super::core::Core;
use crate::clock;

/// What decides.
pub(super) struct Access {
    in_force: Arc<Policies>,
    /// What `in_force` was made of; absent while it is only what is built in.
    sources: Option<Sources>,
    faults: Vec<PolicyFault>,
    two_person: TwoPersonRule,
    approvals: Approvals<Kept>,
    local_admins: BTreeSet<u32>,
    /// How many calls were denied since the start, by action.
    denied: BTreeMap<Action, u64>,
}

/// A call that waits. The same call again, by the same person, is the same.
struct Kept(Held);

impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        (self.0.path, &self.0.body) == (other.0.path, &other.0.body)
    }
}

impl Access {
    /// Until a good set of policies was read, only users of this machine may do anything.
    pub(super) fn new(home: &HomePaths) -> Result<Self, Vec<PolicyFault>> {
        let owner = std::fs::metadata(&home.runtime).map(|metadata| metadata.uid()).ok();
        let own = rustix::process::geteuid().as_raw();
        let local_admins: BTreeSet<u32> =
            [Some(0), Some(own), owner].into_iter().flatten().collect();
        let nobody = Sources { local_admins: local_admins.clone(), ..Sources::default() };
        Ok(Self {
            in_force: Arc::new(Policies::new(&nobody)?),
            sources: None,
            faults: Vec::new(),
            two_person: TwoPersonRule::default(),
            approvals: Approvals::default(),
            local_admins,
            denied: BTreeMap::new(),
        })
    }

    /// How many calls were denied since the start, by action.
    pub(super) fn denied(&self) -> &BTreeMap<Action, u64> {
        &self.denied
    }

    /// Takes up what the user declares now. Whatever is wrong with any of it leaves everything as it was.
    fn take_up(
        &mut self,
        resources: &Resources,
        faults: &[ResourceFault],
        declared: Option<&Declared>,
        home: &HomePaths,
    ) {
        let settings = resources.site.as_ref().and_then(|site| site.spec.settings().ok());
        let Some((settings, declared)) = settings.zip(declared) else { return };
        self.two_person = TwoPersonRule::of(&settings, declared);
        let broken = |fault: &&ResourceFault| {
            fault.kind == Some(Kind::Policy) && fault.severity == Severity::Error
        };
        if let Some(fault) = faults.iter().find(broken) {
            // The resource's own fault says what is wrong with it.
            self.faults = vec![PolicyFault {
                file: fault.file.display().to_string(),
                line: fault.line,
                what: "a Policy cannot be used, so the policies that were good last stay in force"
                    .to_owned(),
                remedy: fault.remedy.clone(),
            }];
            return;
        }
        let files = match read_files(&home.input_policies) {
            Ok(files) => files,
            Err(faults) => return self.stay(faults),
        };
        let admins = self.local_admins.clone();
        let Some(sources) = Sources::of(resources, declared, files, admins) else { return };
        if self.sources.as_ref() == Some(&sources) {
            self.faults.clear();
            return;
        }
        match Policies::new(&sources) {
            Ok(policies) => {
                tracing::info!(policies = policies.listing().len(), "the policies are in force");
                self.in_force = Arc::new(policies);
                self.sources = Some(sources);
                self.faults.clear();
            }
            Err(faults) => self.stay(faults),
        }
    }

    fn stay(&mut self, faults: Vec<PolicyFault>) {
        if self.faults != faults {
            for fault in &faults {
                tracing::error!(%fault, "the policies that were good last stay in force");
            }
        }
        self.faults = faults;
    }
}

impl Core {
    /// Takes up policies; to be called in every turn.
    pub(super) fn take_up_policies(
        &self,
        resources: &Resources,
        faults: &[ResourceFault],
        declared: Option<&Declared>,
    ) -> Vec<ProblemView> {
        let mut access = self.access();
        access.take_up(resources, faults, declared, &self.paths);
        let problems = access.faults.iter().map(problem).collect();
        let expired = access.approvals.expire(clock::now());
        drop(access);
        for (id, waiting) in expired {
            let row = row(&waiting.what.0, "expired", format!("nobody approved {id} in time"));
            if let Err(error) = self.authority().ledger().audit(&row) {
                tracing::error!(%error, id, "an expired request could not be recorded");
            }
        }
        problems
    }

    /// Decides, and records the decision before anything comes of it.
    pub(super) async fn authorize(
        self: &Arc<Self>,
        caller: &Caller,
        action: Action,
        targets: &[Target],
    ) -> Result<Permit, Refusal> {
        let core = Arc::clone(self);
        let (caller, targets) = (caller.clone(), targets.to_vec());
        let work =
            tokio::task::spawn_blocking(move || core.authorize_now(&caller, action, &targets));
        work.await.unwrap_or_else(|_| {
            Err(Refusal::new(RefusalCode::Internal, "the decision was cut short", "try again"))
        })
    }

    fn authorize_now(
        &self,
        caller: &Caller,
        action: Action,
        targets: &[Target],
    ) -> Result<Permit, Refusal> {
        let targets = self.resolved(targets)?;
        let denied = |reason: String| self.deny(caller, action, &targets, reason);
        if let Some(reason) = self.no_longer_valid(caller)? {
            return Err(denied(reason));
        }
        let (policies, second) = {
            let access = self.access();
            let second = access.two_person.wants(action, &targets);
            (Arc::clone(&access.in_force), second && caller.approved_by.is_none())
        };
        let mut by = BTreeSet::new();
        for target in &targets {
            let decision = policies.decide(&Question::of(caller, action, target));
            if !decision.allowed {
                return Err(denied(format!("{target}: {}", decision.reason)));
            }
            by.extend(decision.policies);
        }
        if second {
            return Ok(Permit::WithSecond);
        }
        if action.acts() {
            let by = by.into_iter().collect::<Vec<_>>().join(", ");
            let row = decided(caller, action, &targets, "allowed", format!("permitted by {by}"));
            self.authority().ledger().audit(&row).map_err(|error| unrecorded(&error))?;
        }
        Ok(Permit::Alone)
    }

    /// Why the caller's certificate no longer counts, although the connection was made with it: asked
    /// with every request, so that a connection does not outlive an end or a revocation.
    fn no_longer_valid(&self, caller: &Caller) -> Result<Option<String>, Refusal> {
        let Via::Port { serial, not_after } = &caller.via else { return Ok(None) };
        if *not_after < clock::now() {
            return Ok(Some("the operator's certificate has expired".to_owned()));
        }
        let ledger = self.authority().ledger();
        let filter = IssuedFilter { serial: Some(serial.clone()), ..IssuedFilter::default() };
        for issued in ledger.issued(&filter).map_err(|error| unreadable(&error))? {
            let revoked = ledger
                .revocation(&issued.issuer_key_id, &issued.serial)
                .map_err(|error| unreadable(&error))?;
            if let Some(recorded) = revoked {
                let reason = recorded.revocation.reason;
                return Ok(Some(format!("the operator's certificate is revoked ({reason})")));
            }
            let ended =
                ledger.lineage_ended(&issued.lineage).map_err(|error| unreadable(&error))?;
            if ended.is_some() {
                return Ok(Some("the operator's enrolment has ended".to_owned()));
            }
        }
        Ok(None)
    }

    /// Whose a serial number is, as far as the ledger knows.
    fn resolved(&self, targets: &[Target]) -> Result<Vec<Target>, Refusal> {
        let mut resolved = Vec::new();
        for target in targets {
            let Target::Serial(serial) = target else {
                resolved.push(target.clone());
                continue;
            };
            let found = match serial.parse() {
                Ok(serial) => {
                    let filter = IssuedFilter { serial: Some(serial), ..IssuedFilter::default() };
                    self.authority().ledger().issued(&filter).map_err(|error| unreadable(&error))?
                }
                Err(_) => Vec::new(),
            };
            if found.is_empty() {
                resolved.push(target.clone());
            }
            for issued in found {
                resolved.push(match (issued.profile, issued.identity) {
                    (Profile::Root, _) => Target::Authority("root".to_owned()),
                    (Profile::SiteCa, _) => Target::Authority("site".to_owned()),
                    (_, Some(identity)) => Target::Identity(identity.to_string()),
                    (_, None) => {
                        Target::Identity(issued.names.first().cloned().unwrap_or_default())
                    }
                });
            }
        }
        Ok(resolved)
    }

    /// Records a denial; what cannot be recorded is refused all the same.
    fn deny(&self, caller: &Caller, action: Action, targets: &[Target], reason: String) -> Refusal {
        tracing::warn!(actor = %caller.actor(), %action, reason, "denied");
        *self.access().denied.entry(action).or_default() += 1;
        let row = decided(caller, action, targets, "denied", reason.clone());
        if let Err(error) = self.authority().ledger().audit(&row) {
            return unrecorded(&error);
        }
        Refusal::new(
            RefusalCode::NotAllowed,
            format!("{} may not do {action}: {reason}", caller.principal),
            "ask a security admin for a role that may (see `handfast policy test`)",
        )
    }

    /// Keeps a call until somebody else approves it.
    pub(super) fn hold(&self, held: Held) -> Result<PendingApproval, Refusal> {
        let now = clock::now();
        let mut bytes = [0; 4];
        SystemEntropy.fill(&mut bytes);
        let [a, b, c, d] = bytes;
        let id = format!("{:08x}", u32::from_be_bytes([a, b, c, d]));
        let person = held.requested_by.principal.clone();
        let mut access = self.access();
        let (id, waiting) =
            access.approvals.hold(id, Kept(held), person, now).map_err(|error| not_held(&error))?;
        let pending = pending(&id, waiting);
        let detail = format!("waits for a second person as {id}, until {}", pending.expires_at);
        let row = row(&waiting.what.0, "pending", detail);
        // Under the lock: nobody approves what is not recorded yet.
        if let Err(error) = self.authority().ledger().audit(&row) {
            access.approvals.forget(&id);
            return Err(unrecorded(&error));
        }
        tracing::info!(
            id,
            action = pending.action,
            by = pending.requested_by,
            "waits for a second person"
        );
        Ok(pending)
    }

    /// What waits.
    pub(super) fn approvals(&self) -> Vec<PendingApproval> {
        self.access()
            .approvals
            .list(clock::now())
            .map(|(id, waiting)| pending(id, waiting))
            .collect()
    }

    /// Hands over what waits, if `second` may approve it.
    pub(super) async fn approve(
        self: &Arc<Self>,
        second: &Caller,
        id: &str,
    ) -> Result<Held, Refusal> {
        let now = clock::now();
        let held = {
            let access = self.access();
            access.approvals.get(id, now).map(|waiting| waiting.what.0.clone())
        };
        let unknown = ApprovalError::Unknown { id: id.chars().take(40).collect() };
        let held = held.ok_or_else(|| not_held(&unknown))?;
        // Who could not do it alone, under another rule, cannot approve it.
        let _: Permit = self.authorize(second, held.action, &held.targets).await?;
        let core = Arc::clone(self);
        let (second, id) = (second.clone(), id.to_owned());
        let work = tokio::task::spawn_blocking(move || core.approve_now(&second, &id));
        work.await.unwrap_or_else(|_| {
            Err(Refusal::new(RefusalCode::Internal, "the approval was cut short", "try again"))
        })
    }

    fn approve_now(&self, second: &Caller, id: &str) -> Result<Held, Refusal> {
        let mut access = self.access();
        match access.approvals.approve(id, &second.principal, clock::now()) {
            Ok(Waiting { what: Kept(held), .. }) => {
                drop(access);
                let both = Caller {
                    approved_by: Some(second.principal.clone()),
                    ..held.requested_by.clone()
                };
                let detail = format!("request {id} is carried out");
                let row = decided(&both, held.action, &held.targets, "approved", detail);
                self.authority().ledger().audit(&row).map_err(|error| unrecorded(&error))?;
                Ok(held)
            }
            Err(error @ ApprovalError::SamePerson { .. }) => {
                drop(access);
                let row = decided(second, Action::ApprovalGive, &[], "denied", error.to_string());
                self.authority().ledger().audit(&row).map_err(|error| unrecorded(&error))?;
                Err(not_held(&error))
            }
            Err(error) => Err(not_held(&error)),
        }
    }

    /// The policies in force.
    pub(super) fn policies(&self) -> PolicyListing {
        let access = self.access();
        PolicyListing {
            policies: access.in_force.listing().to_vec(),
            faults: access.faults.iter().map(ToString::to_string).collect(),
        }
    }

    /// What the policies in force say of a case.
    pub(super) fn test_policy(&self, request: &TestPolicy) -> Result<PolicyVerdict, Refusal> {
        let invalid = |what: String| {
            Refusal::new(
                RefusalCode::Invalid,
                what,
                "correct the question; see docs/book/access.md",
            )
        };
        let principal: Principal =
            request.principal.parse().map_err(|error| invalid(format!("{error}")))?;
        let action: Action = request.action.parse().map_err(|error| invalid(format!("{error}")))?;
        let target: Target = match &request.resource {
            Some(resource) => resource.parse().map_err(|error| invalid(format!("{error}")))?,
            None => Target::Site,
        };
        let targets = self.resolved(&[target])?;
        let access = self.access();
        let locally = matches!(principal, Principal::Local { .. });
        let needs_second_person = access.two_person.wants(action, &targets);
        let mut verdict = PolicyVerdict {
            allowed: true,
            policies: Vec::new(),
            reason: String::new(),
            needs_second_person,
        };
        for target in &targets {
            let question =
                Question { principal: &principal, action, target, locally, approved: false };
            let decision = access.in_force.decide(&question);
            verdict = PolicyVerdict {
                allowed: decision.allowed,
                policies: decision.policies,
                reason: decision.reason,
                needs_second_person,
            };
            if !verdict.allowed {
                break;
            }
        }
        Ok(verdict)
    }
}

/// The audit row of a call that waits, or waited.
fn row(held: &Held, outcome: &str, detail: String) -> AuditRow {
    decided(&held.requested_by, held.action, &held.targets, outcome, detail)
}

/// Root, whoever runs this process, and whoever owns the home.
pub(crate) fn local_admins(home: &HomePaths) -> BTreeSet<u32> {
    let owner = std::fs::metadata(&home.runtime).map(|metadata| metadata.uid()).ok();
    let own = rustix::process::geteuid().as_raw();
    [Some(0), Some(own), owner].into_iter().flatten().collect()
}

/// The audit row of a decision.
fn decided(
    caller: &Caller,
    action: Action,
    targets: &[Target],
    outcome: &str,
    detail: String,
) -> AuditRow {
    let subject = targets.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let via = match &caller.via {
        Via::Port { serial, .. } => format!("admin port, certificate {serial}"),
        Via::Socket => "admin socket".to_owned(),
    };
    AuditRow {
        at: clock::now(),
        actor: caller.actor(),
        action: action.to_string(),
        subject: subject.chars().take(SUBJECT).filter(|one| !one.is_control()).collect(),
        outcome: outcome.to_owned(),
        detail: format!("{detail}; over the {via}"),
        why: String::new(),
    }
}

fn pending(id: &str, waiting: &Waiting<Kept>) -> PendingApproval {
    let held = &waiting.what.0;
    PendingApproval {
        id: id.to_owned(),
        action: held.action.to_string(),
        targets: held.targets.iter().map(ToString::to_string).collect(),
        requested_by: waiting.requested_by.to_string(),
        requested_at: waiting.requested_at,
        expires_at: waiting.expires_at,
    }
}

fn not_held(error: &ApprovalError) -> Refusal {
    let (code, remedy) = match error {
        ApprovalError::SamePerson { .. } => {
            (RefusalCode::NotAllowed, "have another operator run `handfast approve`")
        }
        ApprovalError::Unknown { .. } => (RefusalCode::NotFound, "see `handfast approve list`"),
        _ => (RefusalCode::Conflict, "approve what waits, or wait until it expires"),
    };
    Refusal::new(code, error.to_string(), remedy)
}

fn unrecorded(error: &handfast_store::StoreError) -> Refusal {
    tracing::error!(%error, "the audit log cannot be written, so nothing is done");
    Refusal::new(
        RefusalCode::Internal,
        format!("the audit log cannot be written, so nothing is done: {error}"),
        "make room, or mend the disk of the node's home, and try again",
    )
}

fn unreadable(error: &handfast_store::StoreError) -> Refusal {
    Refusal::new(
        RefusalCode::Internal,
        format!("the ledger cannot be read, so nothing is done: {error}"),
        "mend the disk of the node's home, and try again",
    )
}

fn problem(fault: &PolicyFault) -> ProblemView {
    ProblemView {
        severity: ProblemSeverity::Error,
        subject: "policies".to_owned(),
        file: Some(fault.file.clone()),
        line: fault.line,
        message: fault.what.clone(),
        remedy: fault.remedy.clone(),
    }
}

/// Most characters of the subject of an audit row.
const SUBJECT: usize = 1000;
