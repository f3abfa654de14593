//! The agents that were enrolled by a token, for the rotation of what they lean on. Nobody is connected to them: what they trust
//! and show is what their last answer brought them, and the ledger knows when that was. Those that ask when to renew hear of it,
//! and can be reached in that sense.

use std::collections::BTreeMap;

use handfast_pki::{Certificate, Fingerprint, Name, Profile, SpiffeId};
use handfast_store::{CredentialStore, Issued, IssuedFilter, Kind, Ledger, Lineage, StoreError};
use jiff::Timestamp;

use super::certificate;
use crate::agent::enrolled_by_token;
use crate::authority::Authority;
use crate::declared::Declared;
use crate::desired::{DesiredCredential, SignedBy, desired};
use crate::hint::Lean;
use crate::rotation::{Cause, Consumer, Phase, Rotation, Who};
use crate::schedule::issued_at;

impl<S: CredentialStore, L: Ledger> Authority<S, L> {
    /// The services whose agents lean on this authority so that its old key cannot go without them, each with what the last
    /// of its agents has.
    ///
    /// An agent that renews while an old anchor drains is given both anchors and a certificate of the new one; who
    /// has not would find nobody whom it trusts when the old one is gone, and would have to be enrolled anew. Where the CA
    /// that signed it is tainted, its certificate is revoked with that, and so would be the next step.
    pub(super) fn agent_consumers(
        &self,
        declared: &Declared,
        wanted: &[DesiredCredential],
        issuer: &DesiredCredential,
        record: &Rotation,
        now: Timestamp,
    ) -> Result<Vec<Consumer>, StoreError> {
        let Some(leans) = self.agents_lean(declared, wanted, issuer, record) else {
            return Ok(Vec::new());
        };
        let signs = match leans {
            Leans::Anchor => self.signs_agents(declared, wanted, record, now)?,
            Leans::Signer => {
                self.signer_of_agents(declared)?.filter(|_| record.is_past_promotion())
            }
            Leans::Port => None,
        };
        let mut services: BTreeMap<Name, Consumer> = BTreeMap::new();
        for newest in self.newest_of_agents(&declared.names.service_ca, now)? {
            let Some(service) = newest.identity.as_ref().and_then(SpiffeId::name) else { continue };
            // Every answer says what is trusted as of then.
            let told = issued_at(newest.not_before, newest.not_after) >= record.since;
            let follows = match leans {
                Leans::Anchor | Leans::Signer => signs.is_some_and(|it| it.signed(&newest)),
                Leans::Port => told && record.is_past_promotion(),
            };
            let trusts = follows || leans == Leans::Signer || (told && !record.is_past_promotion());
            let consumer = services.entry(service.clone()).or_insert(Consumer {
                who: Who::Agent(service),
                trusts: true,
                sequence: None,
                follows: true,
                reachable: false,
                seen: None,
                expires: None,
            });
            consumer.trusts &= trusts;
            consumer.follows &= follows;
            if !follows {
                consumer.expires = consumer.expires.max(Some(newest.not_after));
                consumer.seen = consumer.seen.max(Some(newest.not_before));
            }
            // Those that lack what this step waits for.
            let moved = trusts && (follows || !record.is_past_promotion());
            if !moved {
                consumer.reachable |=
                    self.memory().agents_heard.is_about(&newest.lineage, record.began, now);
            }
        }
        Ok(services.into_values().collect())
    }

    /// How agents lean on this authority, if its rotation has to mind them.
    fn agents_lean(
        &self,
        declared: &Declared,
        wanted: &[DesiredCredential],
        issuer: &DesiredCredential,
        record: &Rotation,
    ) -> Option<Leans> {
        let (ca, port_ca) = (&declared.names.service_ca, &declared.names.site_ca);
        let is_above = |ca: &Name| self.anchor_above(wanted, ca).as_ref() == Some(&issuer.name);
        match issuer.signed_by {
            SignedBy::Itself if is_above(ca) => Some(Leans::Anchor),
            SignedBy::Itself if is_above(port_ca) => Some(Leans::Port),
            // What it signed is good until it expires, unless that is what must not be.
            SignedBy::Issuer(_) if issuer.name == *ca && record.cause == Cause::Forced => {
                Some(Leans::Signer)
            }
            SignedBy::Itself | SignedBy::Issuer(_) | SignedBy::RemoteSite(_) => None,
        }
    }

    fn signer_of_agents(&self, declared: &Declared) -> Result<Option<SignsNow>, StoreError> {
        let present = self.store.load(Kind::Issuer, &declared.names.service_ca)?;
        Ok(present.as_ref().and_then(certificate).map(|ca| SignsNow::of(&ca)))
    }

    /// The CA of agents as it signs now, once it is below the new anchor.
    fn signs_agents(
        &self,
        declared: &Declared,
        wanted: &[DesiredCredential],
        record: &Rotation,
        now: Timestamp,
    ) -> Result<Option<SignsNow>, StoreError> {
        let ca = &declared.names.service_ca;
        let observed = self.observed(wanted, now);
        let signer = observed
            .iter()
            .find(|seen| seen.kind == Kind::Issuer && seen.name == *ca)
            .and_then(|seen| seen.current.usable())
            .and_then(|facts| facts.signer);
        let below = self.signer_of_agents(declared)?;
        Ok(below.filter(|_| signer.is_some() && signer == record.new))
    }

    /// The rotations, under way or over, of what an agent's certificate leans on: of the CA that signed it, of the anchor
    /// above that, and of the anchor by which the grant port is known. Each with whether it follows already.
    pub(crate) fn leanings_of_agent(
        &self,
        declared: &Declared,
        issued: &Issued,
        now: Timestamp,
    ) -> Result<Vec<(Rotation, Lean, bool)>, StoreError> {
        let wanted = desired(declared);
        let (ca, port_ca) = (&declared.names.service_ca, &declared.names.site_ca);
        let anchor = self.anchor_above(&wanted, ca);
        let mut leanings = Vec::new();
        if let Some(rotation) = self.rotation(ca)?.filter(|_| anchor.as_ref() != Some(ca)) {
            let present = self.signer_of_agents(declared)?;
            let follows = present.is_none_or(|signs| signs.key == issued.issuer_key_id);
            leanings.push((rotation, Lean::Signer, follows));
        }
        if let Some(anchor) = &anchor
            && let Some(rotation) = self.rotation(anchor)?
        {
            // That is not read where it decides nothing.
            let follows = rotation.phase != Phase::Draining
                || self
                    .signs_agents(declared, &wanted, &rotation, now)?
                    .is_some_and(|signs| signs.signed(issued));
            leanings.push((rotation, Lean::Anchor, follows));
        }
        let port_anchor =
            self.anchor_above(&wanted, port_ca).filter(|it| Some(it) != anchor.as_ref());
        if let Some(port_anchor) = port_anchor
            && let Some(rotation) = self.rotation(&port_anchor)?
        {
            // What is told with a renewal is what the port is known by then.
            let follows = issued_at(issued.not_before, issued.not_after) >= rotation.since;
            leanings.push((rotation, Lean::Anchor, follows));
        }
        Ok(leanings)
    }

    /// Of each enrolment that was not ended, the newest certificate that has neither expired nor been revoked.
    fn newest_of_agents(&self, ca: &Name, now: Timestamp) -> Result<Vec<Issued>, StoreError> {
        let valid = IssuedFilter { unexpired_at: Some(now), ..IssuedFilter::default() };
        let dead = self.dead_keys(ca, now)?;
        let mut newest: BTreeMap<Lineage, Issued> = BTreeMap::new();
        for issued in self.ledger.issued(&valid)? {
            if issued.profile != Profile::Agent || !enrolled_by_token(&issued) {
                continue;
            }
            if !self.counts(&issued, &dead)? {
                continue;
            }
            match newest.get(&issued.lineage) {
                Some(known) if known.not_before >= issued.not_before => {}
                _ => drop(newest.insert(issued.lineage.clone(), issued)),
            }
        }
        let mut living = Vec::new();
        for (lineage, issued) in newest {
            if self.ledger.lineage_ended(&lineage)?.is_none() {
                living.push(issued);
            }
        }
        Ok(living)
    }
}

/// How agents lean on an authority.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Leans {
    /// It is above what signed them.
    Anchor,
    /// It is above the certificate of the port that they renew at, and not above theirs.
    Port,
    /// It signed them.
    Signer,
}

/// The CA of agents as it signs now.
#[derive(Clone, Copy)]
struct SignsNow {
    key: [u8; 32],
    since: Timestamp,
}

impl SignsNow {
    fn of(ca: &Certificate) -> Self {
        Self { key: Fingerprint::of(ca.spki_der()).0, since: ca.not_before() }
    }

    /// Whether it signed this. It was made anew with another key; should it have kept it, its dates tell, to the second.
    fn signed(self, issued: &Issued) -> bool {
        issued.issuer_key_id == self.key && issued.not_before >= self.since
    }
}
