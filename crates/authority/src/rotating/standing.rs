//! How every authority stands, for people: its keys, its rotation, and whom that waits for.

use handfast_pki::{Certificate, Fingerprint, Name};
use handfast_store::{CredentialStore, Kind, Ledger, Source, StoreError};
use jiff::Timestamp;

use super::{certificate, is_unfinished, schedule_of};
use crate::aside::KeptKey;
use crate::authority::Authority;
use crate::declared::Declared;
use crate::desired::{DesiredCredential, SignedBy, desired};
use crate::rotation::{Cause, Laggard, Next, Phase, Rotation, next};

/// How one authority stands.
#[derive(Clone, Debug)]
pub struct AuthorityStanding {
    /// Its name.
    pub name: Name,
    /// Who signs it; nobody else for an anchor.
    pub signed_by: Option<Name>,
    /// Whose it is.
    pub source: Source,
    /// Its keys, the newest first.
    pub keys: Vec<KeyStanding>,
    /// The number of the trust bundle that it is in; absent where sites are told none.
    pub sequence: Option<u64>,
    /// Its rotation: the one under way, or the last one.
    pub rotation: Option<Rotation>,
    /// Keys of before that answer for what they signed, and sign nothing else.
    pub kept: Vec<KeptKey>,
    /// Whom the rotation waits for.
    pub laggards: Vec<Laggard>,
    /// When the next step comes by itself: a successor is prepared, or begins to sign.
    pub next_at: Option<Timestamp>,
    /// Why the rotation does not go on, if something fails.
    pub fault: Option<String>,
}

/// How one key of an authority stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyStanding {
    /// Its number: 1 for the authority's first.
    pub generation: u64,
    /// What it is used for.
    pub state: KeyState,
    /// SHA-256 of the authority's certificate with it.
    pub fingerprint: Fingerprint,
    /// Valid from.
    pub not_before: Timestamp,
    /// Valid until.
    pub not_after: Timestamp,
}

/// What a key of an authority is used for (design section 6).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum KeyState {
    /// It signs.
    Active,
    /// It signs no more, and what it signed is good still.
    Draining,
    /// It is trusted and signs nothing yet.
    Prepared,
    /// As draining, and it is in the wrong hands.
    Tainted,
}

impl KeyState {
    /// The stable text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Draining => "draining",
            Self::Prepared => "prepared",
            Self::Tainted => "tainted",
        }
    }
}

impl<S: CredentialStore, L: Ledger> Authority<S, L> {
    /// How every authority of this site stands, the anchor first.
    ///
    /// # Errors
    ///
    /// A failing disk.
    pub fn authorities(
        &self,
        declared: &Declared,
        now: Timestamp,
    ) -> Result<Vec<AuthorityStanding>, StoreError> {
        let wanted = desired(declared);
        let issuers = wanted.iter().filter(|each| each.kind == Kind::Issuer);
        issuers
            .filter_map(|issuer| self.standing(declared, &wanted, issuer, now).transpose())
            .collect()
    }

    fn standing(
        &self,
        declared: &Declared,
        wanted: &[DesiredCredential],
        issuer: &DesiredCredential,
        now: Timestamp,
    ) -> Result<Option<AuthorityStanding>, StoreError> {
        let name = &issuer.name;
        let Some(stored) = self.store.load(Kind::Issuer, name)? else { return Ok(None) };
        let Some(present) = certificate(&stored) else { return Ok(None) };
        let failures = self.memory().failures.get(&(Kind::Issuer, name.clone())).cloned();
        let mut standing = AuthorityStanding {
            name: name.clone(),
            signed_by: match &issuer.signed_by {
                SignedBy::Issuer(signer) => Some(signer.clone()),
                SignedBy::Itself | SignedBy::RemoteSite(_) => None,
            },
            source: stored.source,
            keys: Vec::new(),
            sequence: match self.bundle_domain(issuer) {
                Some(domain) => Some(self.ledger.bundle_sequence(&domain)?),
                None => None,
            },
            rotation: None,
            kept: self.kept_keys_of(name)?,
            laggards: Vec::new(),
            next_at: None,
            fault: failures.map(|failure| failure.what),
        };
        let Some(revisions) = self.revisions_of(name)? else {
            standing.keys.push(key(1, KeyState::Active, &present));
            return Ok(Some(standing));
        };
        let record = self.rotation(name)?;
        let Some(record) = record else {
            standing.keys.push(key(1, KeyState::Active, &present));
            standing.next_at = Some(schedule_of(wanted, issuer, &present).0);
            return Ok(Some(standing));
        };
        if is_unfinished(&record, &revisions) {
            let seen = self.seen(declared, wanted, issuer, &record, &revisions, now)?;
            match next(&record, &seen, now) {
                Next::Wait(laggards) => standing.laggards = laggards,
                Next::WaitUntil(moment) => standing.next_at = Some(moment),
                Next::Mend(_) | Next::Enter(_) | Next::Rest => {}
            }
        } else {
            standing.next_at = Some(schedule_of(wanted, issuer, &present).0);
        }
        let all = [&revisions.staged, &Some(revisions.current.clone()), &revisions.previous];
        let of = |which: Option<Fingerprint>| {
            let found = all.into_iter().flatten().filter_map(certificate);
            found.into_iter().find(|found| Some(found.fingerprint()) == which)
        };
        let (old, new) = match record.phase {
            Phase::Preparing | Phase::RolledBack => (Some(KeyState::Active), None),
            Phase::Prepared => (Some(KeyState::Active), Some(KeyState::Prepared)),
            Phase::Draining if record.cause == Cause::Forced => {
                (Some(KeyState::Tainted), Some(KeyState::Active))
            }
            Phase::Draining => (Some(KeyState::Draining), Some(KeyState::Active)),
            Phase::Revoked => (None, Some(KeyState::Active)),
        };
        for (generation, state, which) in
            [(record.generation, new, record.new), (record.old_generation, old, Some(record.old))]
        {
            if let (Some(state), Some(certificate)) = (state, of(which)) {
                standing.keys.push(key(generation, state, &certificate));
            }
        }
        if standing.keys.is_empty() {
            // Made anew since, by hand or because it was broken.
            standing.keys.push(key(record.active(), KeyState::Active, &present));
        }
        standing.keys.sort_by_key(|key| std::cmp::Reverse(key.generation));
        standing.rotation = Some(record);
        Ok(Some(standing))
    }
}

fn key(generation: u64, state: KeyState, certificate: &Certificate) -> KeyStanding {
    KeyStanding {
        generation,
        state,
        fingerprint: certificate.fingerprint(),
        not_before: certificate.not_before(),
        not_after: certificate.not_after(),
    }
}
