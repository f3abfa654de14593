//! Who may do what on this node: the policies in force, taken up live, and every decision recorded.
//!
//! The decision itself is `handfast_api::access`; here are its inputs, the audit log, and what waits for
//! a second person.

mod kept;
mod waiting;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use handfast_api::access::{
    Approvals, Caller, Policies, PolicyFault, Principal, Question, Sources, Target, TwoPersonRule,
    Via, read_files,
};
use handfast_api::admin::{
    Action, Permit, PolicyListing, PolicyVerdict, Refusal, RefusalCode, TestPolicy,
};
use handfast_api::resources::{Kind, ResourceFault, Resources, Severity};
use handfast_api::status::{ProblemSeverity, ProblemView};
use handfast_authority::Declared;
use handfast_pki::{IdentityKind, Name, Profile, SpiffeId};
use handfast_store::{AuditRow, HomePaths, IssuedFilter, Ledger as _};

use self::waiting::Kept;
use super::core::Core;
use super::rotation::known_role;
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

/// What is declared about who may do what, before it is in force.
#[derive(Default)]
pub(super) struct Prepared {
    two_person: Option<TwoPersonRule>,
    pub(super) policies: PreparedPolicies,
}

/// What an issuer's Policy lacks for an action, all of it at once; nothing where no bounds of identities would help.
fn widened(
    action: Action,
    targets: &[Target],
    allowed: impl Fn(&Target) -> bool,
    forbidden: bool,
) -> Option<String> {
    if forbidden || !matches!(action, Action::CertificateIssue | Action::CertificateRevoke) {
        return None;
    }
    let lacking = targets.iter().filter(|target| !allowed(target)).map(|target| match target {
        Target::Identity(name) if !name.is_empty() => Some(format!("\"{name}\"")),
        _ => None,
    });
    let lacking: Vec<String> = lacking.collect::<Option<_>>()?;
    Some(format!(
        "ask a security admin to add {} to `identities` of a Policy that makes you an issuer (`role: issuer`)",
        lacking.join(" and ")
    ))
}

/// What would come of policies.
#[derive(Default)]
pub(super) enum PreparedPolicies {
    /// There is no site whose policies they could be.
    #[default]
    Nothing,
    /// They are in force.
    Same(Sources),
    /// They cannot be used.
    Stay(Vec<PolicyFault>),
    /// They can be put in force.
    New(Box<Policies>, Sources),
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

    /// What would come of what the user declares now; nothing is different yet.
    fn prepare(
        &self,
        resources: &Resources,
        faults: &[ResourceFault],
        declared: Option<&Declared>,
        home: &HomePaths,
    ) -> Prepared {
        let settings = resources.site.as_ref().and_then(|site| site.spec.settings().ok());
        let Some((settings, declared)) = settings.zip(declared) else { return Prepared::default() };
        let two_person = Some(TwoPersonRule::of(&settings, declared));
        let policies = self.prepare_policies(resources, faults, declared, home);
        Prepared { two_person, policies }
    }

    fn prepare_policies(
        &self,
        resources: &Resources,
        faults: &[ResourceFault],
        declared: &Declared,
        home: &HomePaths,
    ) -> PreparedPolicies {
        let broken = |fault: &&ResourceFault| {
            fault.kind == Some(Kind::Policy) && fault.severity == Severity::Error
        };
        if let Some(fault) = faults.iter().find(broken) {
            // The resource's own fault says what is wrong with it.
            return PreparedPolicies::Stay(vec![PolicyFault {
                file: fault.file.display().to_string(),
                line: fault.line,
                what: "a Policy cannot be used, so the policies that were good last stay in force"
                    .to_owned(),
                remedy: fault.remedy.clone(),
            }]);
        }
        let files = match read_files(&home.input_policies) {
            Ok(files) => files,
            Err(faults) => return PreparedPolicies::Stay(faults),
        };
        let admins = self.local_admins.clone();
        let Some(sources) = Sources::of(resources, declared, files, admins) else {
            return PreparedPolicies::Nothing;
        };
        if self.sources.as_ref() == Some(&sources) {
            return PreparedPolicies::Same(sources);
        }
        match Policies::new(&sources) {
            Ok(policies) => PreparedPolicies::New(Box::new(policies), sources),
            Err(faults) => PreparedPolicies::Stay(faults),
        }
    }

    /// Puts in force what was prepared. Whatever is wrong with any of it leaves everything as it was.
    fn take_up(&mut self, prepared: Prepared) {
        if let Some(two_person) = prepared.two_person {
            self.two_person = two_person;
        }
        match prepared.policies {
            PreparedPolicies::Nothing => {}
            PreparedPolicies::Same(_) => self.faults.clear(),
            PreparedPolicies::Stay(faults) => self.stay(faults),
            PreparedPolicies::New(policies, sources) => {
                tracing::info!(policies = policies.listing().len(), "the policies are in force");
                self.in_force = Arc::from(policies);
                self.sources = Some(sources);
                self.faults.clear();
            }
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
    /// What would come of the policies that are declared now.
    pub(super) fn prepare_policies(
        &self,
        resources: &Resources,
        faults: &[ResourceFault],
        declared: Option<&Declared>,
    ) -> Prepared {
        self.access().prepare(resources, faults, declared, &self.paths)
    }

    /// Puts policies in force; what is wrong with them is a problem.
    pub(super) fn take_up_policies(&self, prepared: Option<Prepared>) -> Vec<ProblemView> {
        let mut access = self.access();
        if let Some(prepared) = prepared {
            access.take_up(prepared);
        }
        let problems = access.faults.iter().map(problem).collect();
        drop(access);
        self.forget_what_expired();
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
        let targets = self.resolved(action, targets)?;
        if let Some(reason) = self.no_longer_valid(caller)? {
            return Err(self.deny(caller, action, &targets, reason));
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
                let mut refusal =
                    self.deny(caller, action, &targets, format!("{target}: {}", decision.reason));
                let allowed = |target: &Target| {
                    policies.decide(&Question::of(caller, action, target)).allowed
                };
                if let Some(remedy) =
                    widened(action, &targets, allowed, !decision.policies.is_empty())
                {
                    refusal.remedy = remedy;
                }
                return Err(refusal);
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

    /// Whose a serial number is, as far as the ledger knows; and which CA is meant by the issuer of a certificate to be revoked, in the word
    /// that policies and the two-person rule know, however it was named.
    fn resolved(&self, action: Action, targets: &[Target]) -> Result<Vec<Target>, Refusal> {
        let mut resolved = Vec::new();
        for target in targets {
            if let (Action::CertificateRevoke, Target::Authority(issuer)) = (action, target)
                && let Ok((name, _)) = self.authority().issuer_meant(issuer)
            {
                let known = self.state().declared.as_ref().and_then(|it| known_role(it, &name));
                resolved.push(Target::Authority(known.map_or(name.to_string(), str::to_owned)));
                continue;
            }
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

    /// The policies in force.
    pub(super) fn policies(&self) -> PolicyListing {
        let access = self.access();
        PolicyListing {
            policies: access.in_force.listing().to_vec(),
            faults: access.faults.iter().map(ToString::to_string).collect(),
        }
    }

    /// Who is meant; a name alone is an operator of this site.
    fn principal(&self, text: &str) -> Result<Principal, String> {
        let state = self.state();
        let declared = state.declared.as_ref();
        let trust_domain = declared.and_then(|declared| declared.effective_trust_domain());
        if let (Ok(name), Some(trust_domain)) = (text.parse::<Name>(), trust_domain) {
            let identity = SpiffeId::new(trust_domain, IdentityKind::Operator, &name);
            return Ok(Principal::Operator { identity });
        }
        text.parse().map_err(|error| format!("{error}"))
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
        let principal = self.principal(&request.principal).map_err(invalid)?;
        let action: Action = request.action.parse().map_err(|error| invalid(format!("{error}")))?;
        let target: Target = match &request.resource {
            Some(resource) => resource.parse().map_err(|error| invalid(format!("{error}")))?,
            None => Target::Site,
        };
        let targets = self.resolved(action, &[target])?;
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
