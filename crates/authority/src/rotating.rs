//! Carrying rotations out: the ledger's record first, then the disk, one step at a time.
//!
//! What to do next is the pure [`crate::rotation::next`]'s to say. Everything here may be interrupted
//! anywhere; the next call finds record and disk as they are, and goes on.

mod agents;
mod consumers;
mod living;
mod order;
mod standing;

use handfast_pki::{Certificate, Chain, Fingerprint, Name, RevocationReason, TrustAnchors};
use handfast_store::{
    AuditRow, CredentialStore, Kind, Ledger, Revocation, Source, StoreError, Stored,
};
use jiff::Timestamp;

use crate::authority::{Authority, own_audit};
use crate::bundle::with_anchors;
use crate::decide::longest_below;
use crate::declared::Declared;
use crate::desired::{DesiredCredential, SignedBy, desired};
use crate::inspect;
use crate::making::{self, MakingError, key_digest, own_lineage};
use crate::rotation::{Cause, Mend, Next, Phase, Rotation, Waiver, next, scheduled};

pub use consumers::SiteSeen;
pub use order::{RotateError, RotateOrder};
pub use standing::{AuthorityStanding, KeyStanding, KeyState};

/// Steps that one call takes for one authority at most: from the first to the last, with a margin.
const STEPS: usize = 12;

/// What is known of one authority on disk.
struct Revisions {
    staged: Option<Stored>,
    current: Stored,
    previous: Option<Stored>,
}

impl<S: CredentialStore, L: Ledger> Authority<S, L> {
    /// Takes every rotation as far as it goes now; true if something was done, so that credentials
    /// have to follow.
    pub(crate) fn advance_rotations(
        &self,
        declared: &Declared,
        wanted: &[DesiredCredential],
        now: Timestamp,
    ) -> bool {
        self.memory().agents_heard.forget(now);
        let mut moved = false;
        let mut wake: Option<Timestamp> = None;
        for issuer in wanted.iter().filter(|each| each.kind == Kind::Issuer) {
            let advanced = self
                .advance(declared, wanted, issuer, now, &mut wake)
                .and_then(|did| Ok((did, self.let_go_of_keys(issuer, now)?)));
            match advanced {
                Ok((did, next)) => {
                    moved |= did;
                    wake = [wake, next].into_iter().flatten().min();
                }
                Err(error) => {
                    self.failed(&(Kind::Issuer, issuer.name.clone()), error.to_string(), now);
                }
            }
        }
        self.memory().rotation_wake = wake;
        moved
    }

    fn advance(
        &self,
        declared: &Declared,
        wanted: &[DesiredCredential],
        issuer: &DesiredCredential,
        now: Timestamp,
        wake: &mut Option<Timestamp>,
    ) -> Result<bool, MakingError> {
        let mut moved = false;
        for _ in 0..STEPS {
            let Some(revisions) = self.revisions_of(&issuer.name)? else { return Ok(moved) };
            let record = self.rotation(&issuer.name)?;
            let Some(record) = record.filter(|record| is_unfinished(record, &revisions)) else {
                return Ok(self.begin_when_due(wanted, issuer, &revisions, now, wake)? || moved);
            };
            let record = self.note_acknowledged(issuer, record, now)?;
            let seen = self.seen(declared, wanted, issuer, &record, &revisions, now)?;
            match next(&record, &seen, now) {
                Next::Mend(mend) => self.mend(issuer, &record, &revisions, mend, now)?,
                Next::Enter(phase) => self.enter(issuer, &record, &revisions, phase, now)?,
                Next::WaitUntil(moment) => {
                    *wake = Some(wake.map_or(moment, |known| known.min(moment)));
                    return Ok(moved);
                }
                Next::Wait(_) | Next::Rest => return Ok(moved),
            }
            moved = true;
        }
        Ok(moved)
    }

    /// Whether an issuer's revisions are a rotation's to move, and nobody else's.
    pub(crate) fn is_held(&self, issuer: &Name) -> bool {
        match (self.rotation(issuer), self.store.staged(Kind::Issuer, issuer)) {
            (Ok(None), _) => false,
            (Ok(Some(record)), Ok(staged)) => {
                let staged = staged.and_then(|(_, stored)| fingerprint(&stored));
                let leftover = staged.is_some() && staged == record.new;
                record.is_under_way() || (record.phase == Phase::RolledBack && leftover)
            }
            // What cannot be read is not meddled with.
            _ => true,
        }
    }

    fn revisions_of(&self, name: &Name) -> Result<Option<Revisions>, StoreError> {
        let current = self.store.load(Kind::Issuer, name)?;
        let Some(current) = current.filter(|stored| stored.source == Source::Managed) else {
            return Ok(None);
        };
        Ok(Some(Revisions {
            staged: self.store.staged(Kind::Issuer, name)?.map(|(_, stored)| stored),
            current,
            previous: self.store.previous(Kind::Issuer, name)?,
        }))
    }

    /// Begins a scheduled rotation, if its time has come and nothing stands against it.
    fn begin_when_due(
        &self,
        wanted: &[DesiredCredential],
        issuer: &DesiredCredential,
        revisions: &Revisions,
        now: Timestamp,
        wake: &mut Option<Timestamp>,
    ) -> Result<bool, StoreError> {
        let Some(certificate) = certificate(&revisions.current) else { return Ok(false) };
        if self.cannot_rotate(issuer, revisions, &certificate).is_some() {
            return Ok(false);
        }
        let (prepare_at, _) = schedule_of(wanted, issuer, &certificate);
        if now < prepare_at {
            *wake = Some(wake.map_or(prepare_at, |known| known.min(prepare_at)));
            return Ok(false);
        }
        if !self.clock_is_sound(now) || self.related_is_held(wanted, issuer) {
            return Ok(false);
        }
        let last = self.rotation(&issuer.name)?;
        let why = format!("the key's certificate ends at {}", certificate.not_after());
        let record = Rotation::begin(
            certificate.fingerprint(),
            last.as_ref(),
            Cause::Scheduled,
            "node",
            &why,
            now,
        );
        self.keep(&issuer.name, &record, now)?;
        Ok(true)
    }

    /// Why no successor can be made here, if that is so.
    fn cannot_rotate(
        &self,
        issuer: &DesiredCredential,
        revisions: &Revisions,
        certificate: &Certificate,
    ) -> Option<String> {
        if revisions.staged.is_some() {
            return Some("something else waits to take its place already".to_owned());
        }
        match &issuer.signed_by {
            SignedBy::Issuer(signer) => self.issuer(signer).err().map(|error| error.to_string()),
            SignedBy::Itself if !certificate.is_self_signed() => Some(
                "it was signed elsewhere: make a request with `handfast ca request`, and have that signed"
                    .to_owned(),
            ),
            SignedBy::Itself | SignedBy::RemoteSite(_) => {
                inspect::signer(&revisions.current, &self.keys).err().map(|fault| fault.what)
            }
        }
    }

    /// Whether the authority above, or one below, is being rotated: one at a time, for each moves
    /// what the other builds on.
    fn related_is_held(&self, wanted: &[DesiredCredential], issuer: &DesiredCredential) -> bool {
        wanted.iter().filter(|each| each.kind == Kind::Issuer).any(|other| {
            let related = other.signed_by == SignedBy::Issuer(issuer.name.clone())
                || issuer.signed_by == SignedBy::Issuer(other.name.clone());
            related && self.is_held(&other.name)
        })
    }

    fn mend(
        &self,
        issuer: &DesiredCredential,
        record: &Rotation,
        revisions: &Revisions,
        mend: Mend,
        now: Timestamp,
    ) -> Result<(), MakingError> {
        let name = &issuer.name;
        match mend {
            Mend::Make => self.make_successor(issuer, record.generation, now)?,
            Mend::Adopt(new) => {
                let prepared = Rotation { new: Some(new), ..record.entering(Phase::Prepared, now) };
                let sequence = self.next_sequence(issuer, &prepared, now)?;
                self.keep(name, &Rotation { sequence, ..prepared }, now)?;
            }
            Mend::Promote => self.prove_and_promote(issuer, now)?,
            Mend::Restage => {
                let files = revisions.previous.as_ref().and_then(|stored| {
                    let anchors = TrustAnchors::from_pem(stored.pem.ca_crt.as_deref()?).ok()?;
                    with_anchors(stored, &anchors)
                });
                if let Some(files) = files {
                    self.store.stage(Kind::Issuer, name, &files)?;
                }
            }
            Mend::DiscardStaged => {
                if let Some((revision, _)) = self.store.staged(Kind::Issuer, name)? {
                    self.store.discard(Kind::Issuer, name, revision)?;
                }
            }
            Mend::DiscardPrevious => {
                if record.cause != Cause::Forced {
                    self.lay_previous_aside(issuer, now)?;
                }
                self.store.discard_previous(Kind::Issuer, name)?;
            }
        }
        Ok(())
    }

    fn enter(
        &self,
        issuer: &DesiredCredential,
        record: &Rotation,
        revisions: &Revisions,
        phase: Phase,
        now: Timestamp,
    ) -> Result<(), MakingError> {
        let mut entering = record.entering(phase, now);
        // What was made and not adopted yet is the successor too, and goes with it.
        entering.new = record.new.or_else(|| revisions.staged.as_ref().and_then(fingerprint));
        match phase {
            Phase::Draining => entering.cross = self.cross(issuer, record, revisions, now),
            Phase::Revoked => {
                entering.cross = None;
                entering.sequence = self.next_sequence(issuer, record, now)?;
                let old = [&revisions.previous, &revisions.staged]
                    .into_iter()
                    .flatten()
                    .filter_map(certificate)
                    .find(|found| found.fingerprint() == record.old);
                if record.cause == Cause::Forced
                    && let Some(old) = &old
                {
                    self.revoke_tainted(issuer, old, record, now)?;
                }
                self.retire(issuer, old, record.cause);
            }
            Phase::RolledBack if record.phase == Phase::Prepared => {
                entering.sequence = self.next_sequence(issuer, record, now)?;
            }
            Phase::Preparing | Phase::Prepared | Phase::RolledBack => {}
        }
        self.keep(&issuer.name, &entering, now)?;
        tracing::info!(authority = %issuer.name, %phase, "the rotation went on");
        Ok(())
    }

    /// Below an anchor, leaving the bundle does not shut a key out: its certificate is revoked, and with
    /// it everything that it signed, or that a thief signs with it.
    fn revoke_tainted(
        &self,
        issuer: &DesiredCredential,
        old: &Certificate,
        record: &Rotation,
        now: Timestamp,
    ) -> Result<(), MakingError> {
        let SignedBy::Issuer(signer) = &issuer.signed_by else { return Ok(()) };
        let above = self.issuer(signer)?;
        let revocation = Revocation {
            issuer_key_id: key_digest(above.certificate().spki_der()),
            serial: old.serial().clone(),
            reason: RevocationReason::CaCompromise,
            at: now,
            not_after: Some(old.not_after()),
            identity: None,
            lineage: None,
        };
        let mut audit = transition(&issuer.name, record, now);
        "certificate.revoke".clone_into(&mut audit.action);
        self.ledger.revoke(&[revocation], &[], &audit)?;
        Ok(())
    }

    /// The anchor that goes with what `signer` signs, certified by the one that drains.
    pub(crate) fn cross_for(&self, signer: &Name) -> Result<Option<Certificate>, StoreError> {
        let Some(declared) = self.declared() else { return Ok(None) };
        let wanted = desired(&declared);
        let Some(anchor) = self.anchor_above(&wanted, signer) else { return Ok(None) };
        let record = self.rotation(&anchor)?.filter(|record| record.phase == Phase::Draining);
        Ok(record.and_then(|record| {
            Some(Chain::from_pem(record.cross?.as_bytes()).ok()?.leaf().clone())
        }))
    }

    /// What was retired in order may finish; what was tainted may not.
    fn retire(&self, issuer: &DesiredCredential, old: Option<Certificate>, cause: Cause) {
        let mut memory = self.memory();
        match old.filter(|_| cause != Cause::Forced && issuer.signed_by == SignedBy::Itself) {
            Some(old) => {
                let known = memory.retired.remove(&issuer.name);
                let all = known.map_or_else(
                    || TrustAnchors::new(old.clone()),
                    |known| known.with(old.clone()),
                );
                memory.retired.insert(issuer.name.clone(), all);
            }
            None => {
                memory.retired.remove(&issuer.name);
            }
        }
    }

    /// The new key certified by the old one, for who was away meanwhile and knows only the old one.
    /// Nobody vouches with a key that is in the wrong hands.
    fn cross(
        &self,
        issuer: &DesiredCredential,
        record: &Rotation,
        revisions: &Revisions,
        now: Timestamp,
    ) -> Option<String> {
        if issuer.signed_by != SignedBy::Itself || record.cause == Cause::Forced {
            return None;
        }
        let new = revisions.staged.as_ref().and_then(certificate)?;
        let old = inspect::signer(&revisions.current, &self.keys).ok()?;
        let made = old.cross_sign(&new, now, &mut **self.entropy());
        let kept = made.map_err(MakingError::from).and_then(|cross| {
            let lineage = own_lineage(issuer.name.as_str()).to_string();
            let signer = key_digest(old.certificate().spki_der());
            let chain = Chain::from(cross.clone());
            let issued = making::record(&chain, issuer.profile, &issuer.subject, &lineage, signer);
            let key = (Kind::Issuer, issuer.name.clone());
            let detail = format!("serial {}: the old key vouches for the new one", issued.serial);
            let audit = own_audit("certificate.issue", &key, detail, now);
            self.ledger.record_issued(&issued, &audit)?;
            Ok(cross.to_pem())
        });
        // Without it the rotation goes on: only who is away is the worse for it.
        kept.inspect_err(|error| {
            tracing::warn!(authority = %issuer.name, %error, "no cross certificate was made");
        })
        .ok()
    }

    /// The number of the bundle that comes with a change of the set; 0 for what is no anchor of a
    /// trust domain.
    fn next_sequence(
        &self,
        issuer: &DesiredCredential,
        record: &Rotation,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let Some(domain) = self.bundle_domain(issuer) else { return Ok(record.sequence) };
        let mut audit = transition(&issuer.name, record, now);
        "bundle.change".clone_into(&mut audit.action);
        self.ledger.next_bundle_sequence(&domain, &audit)
    }

    /// Writes down where a rotation stands, with the evidence.
    fn keep(&self, name: &Name, record: &Rotation, now: Timestamp) -> Result<(), StoreError> {
        let audit = transition(name, record, now);
        self.ledger.keep_rotation(name, Some(&record.to_text()), &audit)?;
        self.ready.clear();
        Ok(())
    }
}

/// The moments of an issuer's schedule: prepare, activate.
fn schedule_of(
    wanted: &[DesiredCredential],
    issuer: &DesiredCredential,
    certificate: &Certificate,
) -> (Timestamp, Timestamp) {
    let longest = longest_below(wanted, &issuer.name).unwrap_or_default();
    scheduled(certificate.not_before(), certificate.not_after(), longest)
}

/// Whether something is left to do for a rotation.
fn is_unfinished(record: &Rotation, revisions: &Revisions) -> bool {
    let holds = |stored: &Option<Stored>, which: Option<Fingerprint>| {
        which.is_some() && stored.as_ref().and_then(fingerprint) == which
    };
    match record.phase {
        Phase::Revoked => holds(&revisions.previous, Some(record.old)),
        Phase::RolledBack => holds(&revisions.staged, record.new),
        Phase::Preparing | Phase::Prepared | Phase::Draining => true,
    }
}

fn certificate(stored: &Stored) -> Option<Certificate> {
    Some(Chain::from_pem(stored.pem.tls_crt.as_deref()?).ok()?.leaf().clone())
}

fn fingerprint(stored: &Stored) -> Option<Fingerprint> {
    certificate(stored).map(|certificate| certificate.fingerprint())
}

/// The audit row of a transition: who, why, and the evidence that it was time.
fn transition(name: &Name, record: &Rotation, now: Timestamp) -> AuditRow {
    let heard: Vec<String> = record
        .heard
        .iter()
        .map(|(site, heard)| format!("{site} has {} since {}", heard.sequence, heard.at))
        .collect();
    let mut detail = format!(
        "key {} follows key {} ({}), bundle {}",
        record.generation, record.old_generation, record.cause, record.sequence
    );
    if !heard.is_empty() {
        detail.push_str("; acknowledged: ");
        detail.push_str(&heard.join(", "));
    }
    if let Some(Waiver { by, why, .. }) = &record.waiver {
        detail.push_str("; laggards left behind by ");
        detail.push_str(by);
        detail.push_str(": ");
        detail.push_str(why);
    }
    AuditRow {
        at: now,
        actor: record.by.clone(),
        action: format!("rotation.{}", record.phase),
        subject: format!("{} {name}", Kind::Issuer),
        outcome: "ok".to_owned(),
        detail,
        why: record.why.clone(),
    }
}
