//! Certificates on request: a person or a script holds a key and asks for a certificate of one of the
//! profiles that are for users. What may stand in it is decided here, before anything is signed; every
//! answer is in the audit log, refusals among them.
//!
//! Requests are answered side by side: nothing is locked while a signature is made.

mod policy;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use handfast_pki::{
    Certificate, Chain, Csr, CsrError, CsrRefusal, Entropy, Host, IssueError, IssueRequest, Issuer,
    Name, NameError, Profile, SpiffeId, Subject, TrustAnchors,
};
use handfast_store::{
    AuditRow, CredentialStore, Issued, Kind, Ledger, Lineage, Revision, Source, StoreError,
};
use jiff::Timestamp;

use crate::authority::Authority;
use crate::declared::Declared;
use crate::making::{MakingError, key_digest, record, with_cross};
use crate::publish::pointers;
use crate::redeem::{read_request, wish_code};

/// A certificate that somebody asks for.
///
/// Names that are given here are what the certificate may carry: a request that asks for others is
/// refused. Where none is given, those of the request count, as far as policy allows them.
#[derive(Clone, Debug)]
pub struct IssueFor {
    /// What it is for: agent, component, operator, service-client or service-server.
    pub profile: Profile,
    /// The certificate request, PEM or DER.
    pub csr: Vec<u8>,
    /// The identity that it is to prove.
    pub identity: Option<SpiffeId>,
    /// The hosts that it is to be for; servers only.
    pub hosts: Vec<Host>,
    /// The name for people; else that of the request, the identity or the first host.
    pub common_name: Option<String>,
    /// How long it is to live; else what the site's leaves live.
    pub ttl: Option<Duration>,
    /// Which issuer signs; else the one that is meant for the profile.
    pub issuer: Option<Name>,
    /// Who asks, for the audit log.
    pub actor: String,
    /// Why, for the audit log; may be empty.
    pub why: String,
}

/// A certificate that was issued; it is in the ledger.
#[derive(Clone, Debug)]
pub struct IssuedFor {
    /// The certificate and what signed it, leaf first.
    pub chain: Chain,
    /// The anchors it leads up to.
    pub anchors: TrustAnchors,
    /// The issuer's name in this home.
    pub issuer: Name,
    /// Under which its ledger entries and its revocation are found.
    pub lineage: Lineage,
}

/// Why no certificate was issued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssueRefusal {
    /// The request is not one, or does not prove that the key is held.
    #[error("the certificate request cannot be used: {0}")]
    BadRequest(#[from] CsrError),
    /// The request asks for more than the one who sent it was given.
    #[error(transparent)]
    Csr(#[from] CsrRefusal),
    /// The issuer or the profile does not allow it.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// Identities of this kind are not made from a name like this.
    #[error("no identity can be made of {name:?}: {source}; name it with --identity")]
    Name {
        /// The text.
        name: String,
        /// What is wrong with it.
        source: NameError,
    },
    /// What was issued for the key was revoked as a whole.
    #[error("what was issued for this key was revoked at {at}: make a new key")]
    KeyRevoked {
        /// When.
        at: Timestamp,
    },
    /// The authority cannot sign at the moment.
    #[error("the site cannot sign at the moment: {0}")]
    NotReady(#[from] MakingError),
    /// Against the rules of the house.
    #[error(transparent)]
    Policy(#[from] PolicyViolation),
    /// The ledger failed.
    #[error("the certificate could not be recorded, so it was not issued: {0}")]
    Store(#[from] StoreError),
}

impl IssueRefusal {
    /// A stable word for programs, metrics and the audit log.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadRequest(_) => "bad-request",
            Self::Csr(wish) => wish_code(wish),
            Self::Issue(IssueError::WeakKey { .. } | IssueError::PublicKey(_)) => "weak-key",
            Self::Issue(IssueError::LifeTooLong { .. } | IssueError::BeyondIssuer { .. }) => {
                "life-too-long"
            }
            Self::Issue(IssueError::Wildcard { .. }) => "wildcard",
            Self::Issue(IssueError::IdentityKind { .. }) => "wrong-identity",
            Self::Issue(_) => "not-allowed",
            Self::KeyRevoked { .. } => "key-revoked",
            Self::Name { .. } => "bad-name",
            Self::NotReady(_) => "not-ready",
            Self::Policy(violation) => violation.code(),
            Self::Store(_) => "unavailable",
        }
    }

    /// Whether the same request may be granted later; the others never will.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::NotReady(_) | Self::Store(_))
    }
}

pub use policy::PolicyViolation;

impl<S: CredentialStore, L: Ledger> Authority<S, L> {
    /// Decides on a request and signs it. The certificate and its audit row are on disk when this
    /// returns. May be called from many threads at a time.
    ///
    /// # Errors
    ///
    /// [`IssueRefusal`]; nothing was signed then, and the refusal is in the audit log.
    pub fn issue_for(&self, request: &IssueFor, now: Timestamp) -> Result<IssuedFor, IssueRefusal> {
        let issued = self.decide_and_sign(request, now);
        if let Err(refusal) = &issued {
            self.note_refusal(request, refusal, now)?;
        }
        issued
    }

    fn decide_and_sign(
        &self,
        request: &IssueFor,
        now: Timestamp,
    ) -> Result<IssuedFor, IssueRefusal> {
        let declared = self.declared().ok_or(MakingError::NotReconciled)?;
        policy::profile(request.profile)?;
        let csr = read_request(&request.csr)?;
        let subject = subject(request, &csr, &declared)?;
        csr.check(&subject)?;
        policy::subject(&subject, &declared)?;

        let lineage = lineage(request.profile, csr.spki_der());
        if let Some(at) =
            lineage.parse().ok().map(|it| self.ledger.lineage_ended(&it)).transpose()?.flatten()
        {
            return Err(IssueRefusal::KeyRevoked { at });
        }

        let name = match &request.issuer {
            Some(name) => name.clone(),
            None => default_issuer(request.profile, &declared),
        };
        let ready = self.ready_issuer(&name)?;
        let issuer = &ready.issuer;
        let ttl = match request.ttl {
            Some(ttl) => policy::ttl(ttl)?,
            None => declared.settings.leaf().min(issuer.max_leaf_ttl()),
        };
        let key_id = key_digest(issuer.certificate().spki_der());
        let distribution = declared.distribution.as_deref().map(|base| pointers(base, &key_id));
        let asked = IssueRequest::new(request.profile, subject.clone(), csr.spki_der())
            .with_ttl(ttl)
            .with_distribution(distribution.unwrap_or_default());
        let leaf = issuer.issue(&asked, now, &mut Shared(&self.entropy))?;
        let chain = with_cross(issuer.chain_for(leaf), ready.cross.as_ref());
        let issued = record(&chain, request.profile, &subject, &lineage, key_id);
        self.ledger.record_issued(&issued, &granted(request, &issued, &name, now))?;
        Ok(IssuedFor {
            chain,
            anchors: issuer.anchors().clone(),
            issuer: name,
            lineage: issued.lineage,
        })
    }

    /// A refusal that cannot be recorded is an error of its own: somebody may be trying something.
    fn note_refusal(
        &self,
        request: &IssueFor,
        refusal: &IssueRefusal,
        now: Timestamp,
    ) -> Result<(), IssueRefusal> {
        let wanted = match (&request.identity, request.hosts.first()) {
            (Some(identity), _) => identity.to_string(),
            (None, Some(host)) => host.to_string(),
            (None, None) => request.common_name.clone().unwrap_or_default(),
        };
        let row = AuditRow {
            at: now,
            actor: request.actor.clone(),
            action: ACTION.to_owned(),
            subject: format!("{} {wanted}", request.profile),
            outcome: "refused".to_owned(),
            detail: format!("{}: {refusal}", refusal.code()),
            why: request.why.clone(),
        };
        self.ledger.audit(&row)?;
        Ok(())
    }

    /// The issuer, read and checked once for each of its revisions and each step of a rotation.
    fn ready_issuer(&self, name: &Name) -> Result<Arc<ReadyIssuer>, MakingError> {
        let unusable = |why: &str| MakingError::Issuer { name: name.clone(), why: why.to_owned() };
        let stored = self
            .store
            .load(Kind::Issuer, name)?
            .ok_or_else(|| unusable("this home has no issuer of that name"))?;
        let state = (stored.source, stored.revision);
        if let Some(known) = self.ready.of(name, state) {
            return Ok(known);
        }
        let ready =
            Arc::new(ReadyIssuer { issuer: self.issuer(name)?, cross: self.cross_for(name)? });
        self.ready.keep(name, state, &ready);
        Ok(ready)
    }
}

/// Issuers that have been read, by name, each with the state it was read in.
#[derive(Default)]
pub(crate) struct ReadyIssuers(Mutex<BTreeMap<Name, (State, Arc<ReadyIssuer>)>>);

/// An issuer with what goes with all that it signs.
struct ReadyIssuer {
    issuer: Issuer,
    /// While the anchor above drains: the new one, certified by the old.
    cross: Option<Certificate>,
}

type State = (Source, Revision);

impl ReadyIssuers {
    fn of(&self, name: &Name, state: State) -> Option<Arc<ReadyIssuer>> {
        let ready = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ready.get(name).filter(|(known, _)| *known == state).map(|(_, issuer)| Arc::clone(issuer))
    }

    /// Forgets them all: what goes with them has changed.
    pub(crate) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn keep(&self, name: &Name, state: State, issuer: &Arc<ReadyIssuer>) {
        let mut ready = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ready.insert(name.clone(), (state, Arc::clone(issuer)));
    }
}

/// Randomness that is locked only while it is drawn, not while somebody signs with it.
pub(crate) struct Shared<'a>(pub(crate) &'a Mutex<Box<dyn Entropy + Send>>);

impl Entropy for Shared<'_> {
    fn fill(&mut self, out: &mut [u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill(out);
    }
}

/// The names that the certificate will carry: those of the order, and where it has none those of the
/// request.
fn subject(request: &IssueFor, csr: &Csr, declared: &Declared) -> Result<Subject, IssueRefusal> {
    let asked = csr.subject();
    let hosts: Vec<Host> = if request.hosts.is_empty() {
        let dns = asked.dns.iter().cloned().map(Host::Dns);
        dns.chain(asked.ips.iter().copied().map(Host::Ip)).collect()
    } else {
        request.hosts.clone()
    };
    let identity = match request.identity.clone().or_else(|| asked.identity.clone()) {
        Some(identity) => Some(identity),
        None => policy::identity_of(request, asked, declared)?,
    };
    let common_name = request
        .common_name
        .clone()
        .or_else(|| Some(asked.common_name.clone()).filter(|name| !name.is_empty()))
        .or_else(|| identity.as_ref()?.name().map(|name| name.to_string()))
        .or_else(|| hosts.first().map(|host| host.to_string().chars().take(64).collect()))
        .unwrap_or_default();
    let mut subject = Subject::new(common_name).with_hosts(hosts);
    subject.identity = identity;
    Ok(subject)
}

/// Who signs what, unless another issuer is asked for.
fn default_issuer(profile: Profile, declared: &Declared) -> Name {
    match profile {
        Profile::Operator => declared.names.local_ca.clone(),
        _ => declared.names.service_ca.clone(),
    }
}

/// Everything issued for one key is one enrolment: it is revoked together.
fn lineage(profile: Profile, spki: &[u8]) -> String {
    let digest = key_digest(spki);
    let label = digest.iter().take(16).fold(0_u128, |label, byte| (label << 8) | u128::from(*byte));
    format!("issue/{profile}/{label:032x}")
}

fn granted(request: &IssueFor, issued: &Issued, issuer: &Name, now: Timestamp) -> AuditRow {
    let subject = match &issued.identity {
        Some(identity) => identity.to_string(),
        None => issued.names.first().cloned().unwrap_or_default(),
    };
    AuditRow {
        at: now,
        actor: request.actor.clone(),
        action: ACTION.to_owned(),
        subject,
        outcome: "ok".to_owned(),
        detail: format!(
            "{} by {issuer}, serial {}, until {}, enrolment {}",
            request.profile, issued.serial, issued.not_after, issued.lineage
        ),
        why: request.why.clone(),
    }
}

const ACTION: &str = "certificate.issue";
