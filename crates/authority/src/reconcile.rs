//! From what is declared to credentials in the store: observe, decide, do, until nothing is left.
//!
//! Everything may be interrupted anywhere: what is on disk afterwards is observed like anything
//! else, and the next reconciliation goes on from there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use handfast_pki::{Certificate, Credential, Name};
use handfast_store::{CredentialStore, IssuedFilter, Kind, Ledger, Source, StoreError, Stored};
use jiff::Timestamp;

use crate::authority::Authority;
use crate::decide::{Action, Key, Situation, decide, key_of, wake_at};
use crate::declared::Declared;
use crate::desired::{DesiredCredential, SignedBy, conflicts, desired};
use crate::enrol::EnrolmentError;
use crate::inspect;
use crate::making::MakingError;
use crate::observed::{Current, Observed, Staged};
use crate::protect::sealed;
use crate::report::{Change, CsrRequest, Report};
use crate::skew::{self, Skew};
use crate::survey;

/// Which credentials to renew now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Selection {
    /// Every managed one, and what signs them; not what signs itself, unless the clock was wrong
    /// when it was made.
    All,
    /// These.
    Named(Vec<Name>),
}

/// Why credentials could not be renewed on request. None was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RenewNowError {
    /// The credential is the user's.
    #[error(
        "`{name}` is supplied in `{directory}`, and supplied credentials are never written: replace the files there"
    )]
    Supplied {
        /// The credential.
        name: Name,
        /// Where it is.
        directory: String,
    },
    /// There is no such credential among those in use.
    #[error("this site has no credential `{name}`: `handfast cert list` shows those it has")]
    Unknown {
        /// What was asked for.
        name: Name,
    },
}

/// What the store holds, judged, with the values that can be used.
struct Sighting {
    observed: Vec<Observed>,
    credentials: BTreeMap<Name, Credential>,
    issuers: BTreeMap<Name, Certificate>,
    /// The names among them that something needs.
    wanted: BTreeSet<Name>,
    /// Where each credential is, for messages.
    directories: BTreeMap<Key, String>,
}

/// The failure of one action, whatever kind of work it was.
#[derive(Debug, thiserror::Error)]
enum ActionError {
    #[error(transparent)]
    Enrolment(#[from] EnrolmentError),
    #[error(transparent)]
    Making(#[from] MakingError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl<S: CredentialStore, L: Ledger> Authority<S, L> {
    /// Brings the store in line with what is declared, as far as that is possible now.
    ///
    /// Never fails: what could not be done is in the report, with the remedy, and is tried again
    /// at [`Report::next_wake`]. To be called then, when the declaration changed, when the store
    /// changed, and when a link came up.
    pub fn reconcile(&self, declared: &Declared, now: Timestamp) -> Report {
        let _turn = self.reconciling();
        self.reconcile_in_turn(declared, now)
    }

    /// Renews credentials now, whatever their age, and reports as [`Authority::reconcile`] does.
    ///
    /// Those that another site signs are among [`Report::waiting`] then.
    ///
    /// # Errors
    ///
    /// A name that is unknown or supplied; nothing was renewed then.
    pub fn renew_now(
        &self,
        declared: &Declared,
        selection: &Selection,
        now: Timestamp,
    ) -> Result<Report, RenewNowError> {
        let _turn = self.reconciling();
        let wanted = desired(declared);
        let sighting = self.observe(&wanted, now);
        let skewed = self.skew(&sighting.observed, now).is_some();
        let asked = match selection {
            Selection::All => everything(&wanted, &sighting.observed, skewed),
            Selection::Named(names) => named(&wanted, &sighting, names)?,
        };
        {
            let mut memory = self.memory();
            memory.failures.retain(|key, _| !asked.contains(key));
            memory.asked.extend(asked);
        }
        Ok(self.reconcile_in_turn(declared, now))
    }

    fn reconcile_in_turn(&self, declared: &Declared, now: Timestamp) -> Report {
        let wanted = desired(declared);
        self.remember(declared, &wanted);
        let mut changed = Vec::new();
        self.advance_rotations(declared, &wanted, now);
        // The credentials follow the rotations, and the rotations wait for the credentials.
        for _ in 0..MAX_ROUNDS {
            self.settle(&wanted, now, &mut changed);
            if !self.advance_rotations(declared, &wanted, now) {
                break;
            }
        }
        self.memory_of_asked_ends();
        self.report(declared, &wanted, changed, now)
    }

    /// Does what is to be done for the credentials, until nothing is left or can be helped.
    fn settle(&self, wanted: &[DesiredCredential], now: Timestamp, changed: &mut Vec<Change>) {
        // Each pass does at least one thing, or counts a failure that holds it back; the bound is
        // for the day when that is not true.
        for _ in 0..MAX_PASSES {
            let sighting = self.observe(wanted, now);
            let actions = self.decide_on(wanted, &sighting.observed, now);
            let mut worked = false;
            for action in actions {
                let Some(credential) = wanted.iter().find(|each| key_of(each) == *action.key())
                else {
                    continue;
                };
                if let Action::Await(key) = &action {
                    self.memory().asked.remove(key);
                    continue;
                }
                worked = true;
                self.carry_out(credential, &action, now, changed);
            }
            if !worked {
                break;
            }
        }
    }

    fn remember(&self, declared: &Declared, wanted: &[DesiredCredential]) {
        let keys: BTreeSet<Key> = wanted.iter().map(key_of).collect();
        let mut memory = self.memory();
        if memory.declared.as_deref() != Some(declared) {
            memory.declared = Some(Arc::new(declared.clone()));
        }
        memory.failures.retain(|key, _| keys.contains(key));
        memory.tallies.retain(|key, _| keys.contains(key));
        memory.live.retain(|name, _| {
            declared.used.contains(name) || keys.contains(&(Kind::Certificate, name.clone()))
        });
    }

    /// What was asked for is done, or is tried again as a failure, or can never be done.
    fn memory_of_asked_ends(&self) {
        let mut memory = self.memory();
        let failing: BTreeSet<Key> = memory.failures.keys().cloned().collect();
        memory.asked.retain(|key| failing.contains(key));
    }

    fn decide_on(
        &self,
        wanted: &[DesiredCredential],
        observed: &[Observed],
        now: Timestamp,
    ) -> Vec<Action> {
        let skew = self.skew(observed, now);
        let (held, trust) = (self.held(wanted), self.trust(wanted));
        let memory = self.memory();
        decide(&Situation {
            desired: wanted,
            observed,
            failures: &memory.failures,
            asked: &memory.asked,
            held: &held,
            trust: &trust,
            signers: &memory.signers,
            skew: skew.as_ref(),
            now,
        })
    }

    fn carry_out(
        &self,
        wanted: &DesiredCredential,
        action: &Action,
        now: Timestamp,
        changed: &mut Vec<Change>,
    ) {
        let key = action.key();
        match self.attempt(wanted, action, now) {
            Ok(Some(change)) => {
                let mut memory = self.memory();
                memory.failures.remove(key);
                memory.asked.remove(key);
                let tally = memory.tallies.entry(key.clone()).or_default();
                tally.renewed = tally.renewed.saturating_add(1);
                changed.push(change);
            }
            Ok(None) => {}
            Err(error) => {
                self.failed(key, error.to_string(), now);
                self.give_up_unprovable(wanted, action);
            }
        }
    }

    fn attempt(
        &self,
        wanted: &DesiredCredential,
        action: &Action,
        now: Timestamp,
    ) -> Result<Option<Change>, ActionError> {
        let change = |reason| Some(Change { kind: wanted.kind, name: wanted.name.clone(), reason });
        match action {
            Action::Anchor(_) => {
                self.re_anchored(wanted)?;
                self.prove_and_promote(wanted, now)?;
                Ok(None)
            }
            Action::Await(_) => Ok(None),
            Action::Discard(_) => {
                if let Some((revision, _)) = self.store.staged(wanted.kind, &wanted.name)? {
                    self.store.discard(wanted.kind, &wanted.name, revision)?;
                }
                Ok(None)
            }
            Action::Issue(_) => {
                self.make(wanted, None, now)?;
                self.prove_and_promote(wanted, now)?;
                Ok(change(None))
            }
            Action::Prove(_) => {
                self.prove_and_promote(wanted, now)?;
                Ok(change(None))
            }
            Action::Renew(_, reason) => {
                self.make(wanted, Some(*reason), now)?;
                self.prove_and_promote(wanted, now)?;
                Ok(change(Some(*reason)))
            }
            Action::Request(key, _) => {
                if let SignedBy::RemoteSite(_) = &wanted.signed_by {
                    self.stage_renewal(&wanted.name, now)?;
                }
                self.memory().asked.remove(key);
                Ok(None)
            }
        }
    }

    /// One of ours that cannot be proven time and again is made anew; another site's is kept, for
    /// it may be the link that is down.
    fn give_up_unprovable(&self, wanted: &DesiredCredential, action: &Action) {
        let tries = self.memory().failures.get(action.key()).map_or(0, |failure| failure.count);
        let ours = !matches!(wanted.signed_by, SignedBy::RemoteSite(_));
        if matches!(action, Action::Prove(_)) && ours && tries >= PROOFS_BEFORE_REMAKING {
            let staged = self.store.staged(wanted.kind, &wanted.name);
            if let Ok(Some((revision, _))) = staged
                && let Err(error) = self.store.discard(wanted.kind, &wanted.name, revision)
            {
                tracing::warn!(name = %wanted.name, %error, "a staged credential stays behind");
            }
        }
    }

    /// What is there, for who needs no more than that.
    pub(crate) fn observed(&self, wanted: &[DesiredCredential], now: Timestamp) -> Vec<Observed> {
        self.observe(wanted, now).observed
    }

    /// The issuers that rotations hold.
    fn held(&self, wanted: &[DesiredCredential]) -> BTreeSet<Name> {
        let issuers = wanted.iter().filter(|each| each.kind == Kind::Issuer);
        issuers.map(|each| each.name.clone()).filter(|name| self.is_held(name)).collect()
    }

    fn observe(&self, wanted: &[DesiredCredential], now: Timestamp) -> Sighting {
        let mut sighting = Sighting {
            observed: Vec::new(),
            credentials: BTreeMap::new(),
            issuers: BTreeMap::new(),
            wanted: BTreeSet::new(),
            directories: BTreeMap::new(),
        };
        for credential in wanted {
            sighting.look(&credential.name, credential.kind, Some(credential), self, now);
        }
        // What is there without being wanted is only listed.
        for kind in [Kind::Certificate, Kind::Issuer] {
            let names = self.store.list(kind).unwrap_or_default();
            for name in names {
                if !wanted.iter().any(|each| each.kind == kind && each.name == name) {
                    sighting.look(&name, kind, None, self, now);
                }
            }
        }
        self.keys.note_sealed(sealed(&sighting.observed));
        sighting
    }

    fn skew(&self, observed: &[Observed], now: Timestamp) -> Option<Skew> {
        let newest = IssuedFilter { limit: Some(1), ..IssuedFilter::default() };
        let last = self.ledger.issued(&newest).ok().and_then(|issued| issued.into_iter().next());
        skew::detect(observed, last.map(|issued| issued.not_before), now)
    }

    fn report(
        &self,
        declared: &Declared,
        wanted: &[DesiredCredential],
        changed: Vec<Change>,
        now: Timestamp,
    ) -> Report {
        let mut sighting = self.observe(wanted, now);
        let skew = self.skew(&sighting.observed, now);
        let live = self.publish(&mut sighting);
        let issuers = self.publish_issuers(&mut sighting);
        let (waiting, unreadable) = self.waiting(wanted, &sighting.observed, now);
        let (held, trust) = (self.held(wanted), self.trust(wanted));
        let (bundle, agents) = (self.bundle(declared), self.agent_anchors().ok());
        let memory = self.memory();
        let situation = Situation {
            desired: wanted,
            observed: &sighting.observed,
            failures: &memory.failures,
            asked: &memory.asked,
            held: &held,
            trust: &trust,
            signers: &memory.signers,
            skew: skew.as_ref(),
            now,
        };
        let mut problems = survey::problems(&situation);
        problems.extend(conflicts(declared).iter().map(survey::conflict));
        problems.extend(unreadable);
        problems.extend(survey::broken_though_used(&declared.used, wanted, &sighting.observed));
        problems.extend(self.unprotected(&sighting.observed));
        self.keys.sweep();
        Report {
            changed,
            waiting,
            problems,
            credentials: survey::credentials(&situation, &memory.tallies),
            live,
            issuers,
            bundle,
            agents,
            next_wake: memory
                .rotation_wake
                .map_or(wake_at(&situation), |wake| wake_at(&situation).min(wake)),
            skew: skew.clone(),
        }
    }

    /// Takes over every good credential as the live one; what is broken now stays as it was.
    fn publish(&self, sighting: &mut Sighting) -> BTreeMap<Name, Arc<Credential>> {
        let mut memory = self.memory();
        let mut wanted: BTreeSet<Name> = sighting.wanted.clone();
        wanted.extend(memory.declared.iter().flat_map(|declared| declared.used.iter().cloned()));
        for (name, credential) in std::mem::take(&mut sighting.credentials) {
            if !wanted.contains(&name) {
                continue;
            }
            let same = memory.live.get(&name).is_some_and(|live| same_files(live, &credential));
            if !same {
                memory.live.insert(name, Arc::new(credential));
            }
        }
        memory.live.clone()
    }

    /// The same for issuers that are trusted by their names.
    fn publish_issuers(&self, sighting: &mut Sighting) -> BTreeMap<Name, Certificate> {
        let mut memory = self.memory();
        let used = memory.declared.as_ref().map(|declared| declared.used.clone());
        let used = used.unwrap_or_default();
        memory.issuers.retain(|name, _| used.contains(name));
        let seen = std::mem::take(&mut sighting.issuers);
        memory.issuers.extend(seen.into_iter().filter(|(name, _)| used.contains(name)));
        memory.issuers.clone()
    }

    fn waiting(
        &self,
        wanted: &[DesiredCredential],
        observed: &[Observed],
        now: Timestamp,
    ) -> (Vec<CsrRequest>, Vec<crate::report::Problem>) {
        let mut waiting = Vec::new();
        let mut problems = Vec::new();
        for credential in wanted {
            let SignedBy::RemoteSite(link) = &credential.signed_by else { continue };
            let asked = observed.iter().any(|seen| {
                seen.kind == Kind::Certificate
                    && seen.name == credential.name
                    && seen.staged == Staged::Request
                    && seen.current.usable().is_some_and(|facts| facts.not_after > now)
            });
            if !asked {
                continue;
            }
            match self.staged_request(link, &credential.name, now) {
                Ok(request) => waiting.extend(request),
                Err(error) => problems.push(survey::unreadable(credential, &error)),
            }
        }
        (waiting, problems)
    }
}

impl Sighting {
    fn look<S: CredentialStore, L: Ledger>(
        &mut self,
        name: &Name,
        kind: Kind,
        wanted: Option<&DesiredCredential>,
        authority: &Authority<S, L>,
        now: Timestamp,
    ) {
        let key = (kind, name.clone());
        if wanted.is_some() && kind == Kind::Certificate {
            self.wanted.insert(name.clone());
        }
        let current = match authority.store.load(kind, name) {
            Ok(Some(stored)) => self.judge(&key, &stored, wanted, authority, now),
            Ok(None) => Current::Missing,
            // Whatever it is, it may be the user's: it is not written.
            Err(error) => Current::Broken {
                source: Source::Supplied,
                what: error.to_string(),
                remedy: "Make the files readable; the change is noticed at once.".to_owned(),
                facts: None,
            },
        };
        let staged = match authority.store.staged(kind, name) {
            Ok(Some((_, stored))) => inspect::staged(&stored, &authority.keys),
            Ok(None) => Staged::Nothing,
            Err(_) => Staged::Unreadable,
        };
        self.observed.push(Observed { kind, name: name.clone(), current, staged });
    }

    fn judge<S: CredentialStore, L: Ledger>(
        &mut self,
        key: &Key,
        stored: &Stored,
        wanted: Option<&DesiredCredential>,
        authority: &Authority<S, L>,
        now: Timestamp,
    ) -> Current {
        self.directories.insert(key.clone(), stored.directory.display().to_string());
        let mut inspected = inspect::current(stored, wanted, &authority.keys, now);
        if let Some(facts) = inspected.current.facts_mut() {
            facts.revoked = facts.id.as_ref().and_then(|id| (authority.revoked)(id));
        }
        if let Some(credential) = inspected.credential {
            self.credentials.insert(key.1.clone(), credential);
        }
        if key.0 == Kind::Issuer
            && matches!(inspected.current, Current::Usable { .. } | Current::Locked { .. })
            && let Ok((chain, _)) = inspect::issuer_chain(stored)
        {
            self.issuers.insert(key.1.clone(), chain.leaf().clone());
        }
        inspected.current
    }
}

/// Everything that can be renewed on request.
fn everything(wanted: &[DesiredCredential], observed: &[Observed], skewed: bool) -> BTreeSet<Key> {
    let managed: BTreeSet<(Kind, &Name)> = observed
        .iter()
        .filter(|seen| seen.current.source() == Some(Source::Managed))
        .map(|seen| (seen.kind, &seen.name))
        .collect();
    wanted
        .iter()
        .filter(|each| managed.contains(&(each.kind, &each.name)))
        .filter(|each| skewed || each.signed_by != SignedBy::Itself)
        .map(key_of)
        .collect()
}

/// The credentials of these names, certificates before issuers where both have one.
fn named(
    wanted: &[DesiredCredential],
    sighting: &Sighting,
    names: &[Name],
) -> Result<BTreeSet<Key>, RenewNowError> {
    let mut asked = BTreeSet::new();
    for name in names {
        let key = wanted
            .iter()
            .filter(|each| each.name == *name)
            .map(key_of)
            .min()
            .ok_or_else(|| RenewNowError::Unknown { name: name.clone() })?;
        let supplied = sighting
            .observed
            .iter()
            .any(|seen| (seen.kind, &seen.name) == (key.0, &key.1) && seen.current.is_supplied());
        if supplied {
            let directory = sighting.directories.get(&key).cloned().unwrap_or_default();
            return Err(RenewNowError::Supplied { name: name.clone(), directory });
        }
        asked.insert(key);
    }
    Ok(asked)
}

/// Whether two credentials have the same certificate chain and anchors (and so the same key).
fn same_files(one: &Credential, other: &Credential) -> bool {
    one.chain().to_pem() == other.chain().to_pem()
        && one.anchors().to_pem() == other.anchors().to_pem()
}

/// Root, CA and leaf, each with something to discard, to make and to prove, and a margin.
const MAX_PASSES: usize = 16;
/// Prepared, active, revoked, and then the one that waited for it; and a margin.
const MAX_ROUNDS: usize = 12;
/// After so many failed proofs, a credential of ours is taken to be at fault itself.
const PROOFS_BEFORE_REMAKING: u32 = 3;
