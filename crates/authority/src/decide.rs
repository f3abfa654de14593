//! What to do about the credentials that must exist: a pure function of what is wanted, what is
//! there, what failed before, and the time.
//!
//! The rules are those of design section 5: what exists is used, what is missing is made from its
//! CA, what is the user's is never written, and renewal is staged before it is current. Doing any
//! of it is for [`crate::Authority`], which decides again after every step, until nothing is left.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use handfast_pki::{Fingerprint, Name, Profile};
use handfast_store::Kind;
use jiff::Timestamp;

use crate::desired::{DesiredCredential, SignedBy, is_of_a_generation};
use crate::lifetimes::LEAVES_PER_CA;
use crate::observed::{Current, Facts, Observed, Staged};
use crate::schedule;
use crate::skew::Skew;

/// Everything a decision depends on.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// What must exist; signers before what they sign.
    pub desired: &'a [DesiredCredential],
    /// What is there. A credential that is not listed is missing.
    pub observed: &'a [Observed],
    /// What was tried and failed, by credential.
    pub failures: &'a BTreeMap<Key, Failure>,
    /// What somebody asked to have renewed now.
    pub asked: &'a BTreeSet<Key>,
    /// Issuers that are being rotated: their revisions are the rotation's to move.
    pub held: &'a BTreeSet<Name>,
    /// The anchors that go with what each issuer signs; an issuer that is not listed says so itself.
    pub trust: &'a BTreeMap<Name, BTreeSet<Fingerprint>>,
    /// The keys that sign at the other end of links now, where they are known, by credential.
    pub signers: &'a BTreeMap<Name, [u8; 32]>,
    /// The clock's fault, if it has one.
    pub skew: Option<&'a Skew>,
    /// The time.
    pub now: Timestamp,
}

/// A credential's place in the store.
pub type Key = (Kind, Name);

/// Failures in a row.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failure {
    /// How many.
    pub count: u32,
    /// When the last one happened.
    pub last: Timestamp,
    /// What it was, for people.
    pub what: String,
}

/// One thing to do.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Action {
    /// Put the same certificate to use with other anchors.
    Anchor(Key),
    /// Wait for the other site to answer the request that is staged.
    Await(Key),
    /// Forget what is staged: it does not fit (any more).
    Discard(Key),
    /// Make what is missing.
    Issue(Key),
    /// Prove what is staged, and make it current.
    Prove(Key),
    /// Make a new one beside the one in use.
    Renew(Key, Reason),
    /// Make a new key and a request for the other site to sign.
    Request(Key, Reason),
}

impl Action {
    /// The credential it is about.
    pub fn key(&self) -> &Key {
        match self {
            Self::Anchor(key)
            | Self::Await(key)
            | Self::Discard(key)
            | Self::Issue(key)
            | Self::Prove(key)
            | Self::Renew(key, _)
            | Self::Request(key, _) => key,
        }
    }
}

/// Why a credential is renewed.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Reason {
    /// Somebody asked for it.
    Asked,
    /// Its CA was replaced.
    AuthorityChanged,
    /// It nears its end.
    Due,
    /// It lives longer than the settings allow, or too short for what it has to sign.
    LifetimeChanged,
    /// It must carry other names.
    NamesChanged,
    /// It was revoked.
    Revoked,
    /// What is there cannot be used.
    Unusable,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Asked => "renewal was asked for",
            Self::AuthorityChanged => "its CA was replaced",
            Self::Due => "it nears its end",
            Self::LifetimeChanged => "the settings for lifetimes changed",
            Self::NamesChanged => "the names it must carry changed",
            Self::Revoked => "it was revoked",
            Self::Unusable => "the one on disk cannot be used",
        })
    }
}

/// What to do now. Empty, or only [`Action::Await`], when all is as it should be or cannot be helped
/// before [`wake_at`].
///
/// A credential whose signer has something to do is left for the next call: first the signer,
/// then what it signs.
pub fn decide(situation: &Situation<'_>) -> Vec<Action> {
    let view = View::new(situation);
    let mut busy: BTreeSet<&Name> = BTreeSet::new();
    let mut actions = Vec::new();
    for wanted in situation.desired {
        if let SignedBy::Issuer(signer) = &wanted.signed_by
            && busy.contains(signer)
        {
            if wanted.kind == Kind::Issuer {
                busy.insert(&wanted.name);
            }
            continue;
        }
        if let Some(action) = view.action(wanted) {
            if wanted.kind == Kind::Issuer {
                busy.insert(&wanted.name);
            }
            actions.push(action);
        }
    }
    actions
}

/// When to decide again if nothing happens before: the next renewal, retry or expiry.
pub fn wake_at(situation: &Situation<'_>) -> Timestamp {
    let now = situation.now;
    let view = View::new(situation);
    let mut wake = schedule::later(now, LONGEST_SLEEP);
    if situation.skew.is_some() {
        wake = wake.min(schedule::later(now, SKEWED_SLEEP));
    }
    for wanted in situation.desired {
        let key = key_of(wanted);
        let current = view.current(&key);
        let mut moments = Vec::new();
        if let Some(facts) = current.facts() {
            moments.push(facts.not_after);
            moments.push(if current.is_supplied() { warn_at(facts) } else { facts.renew_at() });
        }
        if matches!(current, Current::Locked { .. }) {
            // Secrets and tokens come back without telling anybody.
            moments.push(schedule::later(now, LOCKED_SLEEP));
        }
        if let Some(failure) = situation.failures.get(&key) {
            moments.push(retry(failure, current.facts()));
        }
        wake = moments.into_iter().filter(|moment| *moment > now).fold(wake, Timestamp::min);
    }
    wake.max(schedule::later(now, SHORTEST_SLEEP))
}

/// From when on the user is warned that a supplied credential expires: the last fifth of its
/// life, thirty days at most.
pub(crate) fn warn_at(facts: &Facts) -> Timestamp {
    let life = schedule::span(facts.not_before, facts.not_after);
    let ahead = (life / 5).min(WARN_AHEAD);
    schedule::later(facts.not_before, life.saturating_sub(ahead))
}

/// When something that failed is tried again.
pub(crate) fn retry(failure: &Failure, current: Option<&Facts>) -> Timestamp {
    schedule::retry_at(failure.count, failure.last, current.map(|facts| facts.not_after))
}

/// Whether something that failed is left alone for now. A failure in the future is one from before
/// the clock was set back: nobody waits until that time comes again.
pub(crate) fn rests(failure: &Failure, current: Option<&Facts>, now: Timestamp) -> bool {
    failure.last <= now && retry(failure, current) > now
}

/// The longest life of what an issuer signs.
pub(crate) fn longest_below(desired: &[DesiredCredential], issuer: &Name) -> Option<Duration> {
    let below = desired.iter().filter(|each| each.signed_by == SignedBy::Issuer(issuer.clone()));
    below.map(|each| each.ttl).max()
}

pub(crate) fn key_of(wanted: &DesiredCredential) -> Key {
    (wanted.kind, wanted.name.clone())
}

/// The situation, indexed.
struct View<'a> {
    situation: &'a Situation<'a>,
    observed: BTreeMap<(Kind, &'a Name), &'a Observed>,
    /// Issuers that something of ours is, or will be, signed by.
    needed: BTreeSet<&'a Name>,
}

impl<'a> View<'a> {
    fn new(situation: &'a Situation<'a>) -> Self {
        let observed: BTreeMap<_, _> =
            situation.observed.iter().map(|seen| ((seen.kind, &seen.name), seen)).collect();
        let mut needed = BTreeSet::new();
        // From the leaves up, so that an issuer nobody needs does not keep its own signer needed.
        for wanted in situation.desired.iter().rev() {
            if let SignedBy::Issuer(signer) = &wanted.signed_by {
                let supplied = observed
                    .get(&(wanted.kind, &wanted.name))
                    .is_some_and(|seen| seen.current.is_supplied());
                let wanted_itself =
                    wanted.kind == Kind::Certificate || needed.contains(&wanted.name);
                // The site CA signs for other sites too, so it is needed even if nothing here is.
                if !supplied && (wanted_itself || wanted.profile == Profile::SiteCa) {
                    needed.insert(signer);
                }
            }
        }
        Self { situation, observed, needed }
    }

    fn current(&self, key: &Key) -> &'a Current {
        self.observed.get(&(key.0, &key.1)).map_or(&Current::Missing, |seen| &seen.current)
    }

    fn staged(&self, key: &Key) -> &'a Staged {
        self.observed.get(&(key.0, &key.1)).map_or(&Staged::Nothing, |seen| &seen.staged)
    }

    fn action(&self, wanted: &DesiredCredential) -> Option<Action> {
        let key = key_of(wanted);
        let current = self.current(&key);
        if current.is_supplied() {
            return None;
        }
        if let Some(failure) = self.situation.failures.get(&key)
            && rests(failure, current.usable(), self.situation.now)
        {
            return None;
        }
        match &wanted.signed_by {
            SignedBy::RemoteSite(_) => self.remote(wanted, key, current),
            SignedBy::Issuer(signer) if self.can_sign(signer) => self.local(wanted, key, current),
            // Signed elsewhere, brought here, and interrupted before it was put to use.
            SignedBy::Issuer(_) => match self.staged(&key) {
                Staged::Complete(facts)
                    if wanted.kind == Kind::Issuer && facts.not_after > self.situation.now =>
                {
                    Some(Action::Prove(key))
                }
                _ => None,
            },
            SignedBy::Itself => self.local(wanted, key, current),
        }
    }

    /// What is signed in this home.
    fn local(&self, wanted: &DesiredCredential, key: Key, current: &Current) -> Option<Action> {
        let is_issuer = wanted.kind == Kind::Issuer;
        if is_issuer && self.situation.held.contains(&wanted.name) && *current != Current::Missing {
            return None;
        }
        match self.staged(&key) {
            Staged::Complete(facts) if self.fits(wanted, facts, current) => {
                return Some(Action::Prove(key));
            }
            Staged::Nothing => {}
            Staged::Locked => return None,
            Staged::Complete(_) | Staged::Request | Staged::Unreadable => {
                return Some(Action::Discard(key));
            }
        }
        match current {
            // With its key it may be as good as ever: to make another would be an outage.
            Current::Locked { .. } => None,
            Current::Missing | Current::Broken { .. } if self.held() => None,
            Current::Missing => self.is_needed(wanted).then_some(Action::Issue(key)),
            // A new key would end the trust in all it signed: that is for the operator to want.
            Current::Broken { .. } if wanted.signed_by == SignedBy::Itself => None,
            Current::Broken { .. } => Some(Action::Renew(key, Reason::Unusable)),
            Current::Usable { facts, .. } => match self.reason(wanted, &key, facts) {
                Some(reason) => Some(Action::Renew(key, reason)),
                None if !self.held() && !self.anchors_fit(wanted, facts) => {
                    Some(Action::Anchor(key))
                }
                None => None,
            },
        }
    }

    /// What another site signs. Without a usable current one there is nobody to ask over: the
    /// user redeems a token, and what is staged for that is left alone.
    fn remote(&self, wanted: &DesiredCredential, key: Key, current: &Current) -> Option<Action> {
        match self.staged(&key) {
            Staged::Complete(facts) if facts.not_after > self.situation.now => {
                return Some(Action::Prove(key));
            }
            Staged::Complete(_) | Staged::Unreadable => return Some(Action::Discard(key)),
            Staged::Request => {
                let facts = current.usable()?;
                let can_ask = facts.not_after > self.situation.now && facts.revoked.is_none();
                return can_ask.then_some(Action::Await(key));
            }
            Staged::Locked => return None,
            Staged::Nothing => {}
        }
        let facts = current.usable()?;
        // A revoked one opens no link to ask over.
        if facts.not_after <= self.situation.now || facts.revoked.is_some() {
            return None;
        }
        let reason = self.reason(wanted, &key, facts)?;
        Some(Action::Request(key, reason))
    }

    /// Why a usable managed credential is to be renewed, if it is.
    fn reason(&self, wanted: &DesiredCredential, key: &Key, facts: &Facts) -> Option<Reason> {
        if self.situation.asked.contains(key) {
            return Some(Reason::Asked);
        }
        if facts.revoked.is_some() && wanted.signed_by != SignedBy::Itself {
            return Some(Reason::Revoked);
        }
        if self.held() {
            return None;
        }
        if !names_fit(wanted, facts) {
            Some(Reason::NamesChanged)
        } else if !self.authority_fits(wanted, facts) {
            Some(Reason::AuthorityChanged)
        } else if !self.lifetime_fits(wanted, facts) {
            Some(Reason::LifetimeChanged)
        } else if facts.renew_at() <= self.situation.now {
            Some(Reason::Due)
        } else {
            None
        }
    }

    /// Whether what is staged is what would be made now, and newer than what is in use.
    fn fits(&self, wanted: &DesiredCredential, facts: &Facts, current: &Current) -> bool {
        let newer = current.usable().is_none_or(|used| {
            used.fingerprint != facts.fingerprint || used.anchors != facts.anchors
        });
        newer
            && self.anchors_fit(wanted, facts)
            && names_fit(wanted, facts)
            && self.authority_fits(wanted, facts)
            && self.lifetime_fits(wanted, facts)
            && facts.renew_at() > self.situation.now
            && facts.not_before <= self.situation.now
    }

    fn authority_fits(&self, wanted: &DesiredCredential, facts: &Facts) -> bool {
        let signer = match &wanted.signed_by {
            SignedBy::Issuer(signer) => signer,
            SignedBy::Itself => return true,
            SignedBy::RemoteSite(_) => {
                let known = self.situation.signers.get(&wanted.name);
                return known.is_none_or(|known| facts.signer_key == Some(*known));
            }
        };
        match self.current(&(Kind::Issuer, signer.clone())) {
            Current::Usable { facts: authority, .. } => facts.signer == Some(authority.fingerprint),
            // Nothing to compare with: it keeps serving.
            Current::Broken { .. } | Current::Locked { .. } | Current::Missing => true,
        }
    }

    /// Whether it comes with the anchors that go with what its signer signs.
    fn anchors_fit(&self, wanted: &DesiredCredential, facts: &Facts) -> bool {
        let SignedBy::Issuer(signer) = &wanted.signed_by else { return true };
        match (self.situation.trust.get(signer), self.current(&(Kind::Issuer, signer.clone()))) {
            (Some(trust), _) => facts.anchors == *trust,
            (None, Current::Usable { facts: authority, .. }) => facts.anchors == authority.anchors,
            (None, Current::Broken { .. } | Current::Locked { .. } | Current::Missing) => true,
        }
    }

    fn lifetime_fits(&self, wanted: &DesiredCredential, facts: &Facts) -> bool {
        if matches!(wanted.signed_by, SignedBy::RemoteSite(_)) {
            return true;
        }
        let life = schedule::lifetime(facts.not_before, facts.not_after);
        let slack = wanted.ttl / 100 + Duration::from_secs(2);
        if life > wanted.ttl + slack {
            return false;
        }
        // A CA must have room for six of what it signs, unless its own signer cut it short.
        let Some(leaf) = self.longest_leaf(wanted) else { return true };
        life + slack >= leaf * LEAVES_PER_CA || self.is_cut_short(wanted, facts)
    }

    /// The longest life of a leaf that this issuer is to sign.
    fn longest_leaf(&self, wanted: &DesiredCredential) -> Option<Duration> {
        if wanted.kind != Kind::Issuer || wanted.profile == Profile::Root {
            return None;
        }
        longest_below(self.situation.desired, &wanted.name)
    }

    fn is_cut_short(&self, wanted: &DesiredCredential, facts: &Facts) -> bool {
        let SignedBy::Issuer(signer) = &wanted.signed_by else { return false };
        self.current(&(Kind::Issuer, signer.clone()))
            .usable()
            .is_some_and(|authority| facts.not_after >= authority.not_after)
    }

    /// Whether the issuer can sign now.
    fn can_sign(&self, signer: &Name) -> bool {
        self.current(&(Kind::Issuer, signer.clone()))
            .usable()
            .is_some_and(|facts| facts.can_sign && facts.not_after > self.situation.now)
    }

    /// Issuers are made only to generate what is missing; certificates always.
    fn is_needed(&self, wanted: &DesiredCredential) -> bool {
        wanted.kind == Kind::Certificate
            || wanted.profile == Profile::SiteCa
            || self.needed.contains(&wanted.name)
    }

    /// Whether the clock is so wrong that nothing is made unless somebody asks for it.
    fn held(&self) -> bool {
        self.situation.skew.is_some()
    }
}

/// Whether the certificate carries exactly the names that it must.
///
/// A certificate that another site signs carries what that site decided.
fn names_fit(wanted: &DesiredCredential, facts: &Facts) -> bool {
    if matches!(wanted.signed_by, SignedBy::RemoteSite(_)) {
        return true;
    }
    let subject = &wanted.subject;
    let common_name = facts.common_name.as_deref().is_some_and(|found| match wanted.profile {
        Profile::Root => is_of_a_generation(found, &subject.common_name),
        _ => found == subject.common_name,
    });
    facts.identity == subject.identity
        && common_name
        && facts.dns == subject.dns.iter().cloned().collect()
        && facts.ips == subject.ips.iter().copied().collect()
}

/// A suspended or re-dated machine is noticed after this long at the latest.
const LONGEST_SLEEP: Duration = Duration::from_secs(600);
const SKEWED_SLEEP: Duration = Duration::from_secs(30);
const SHORTEST_SLEEP: Duration = Duration::from_millis(100);
const LOCKED_SLEEP: Duration = Duration::from_secs(5);
const WARN_AHEAD: Duration = Duration::from_secs(30 * 86_400);
