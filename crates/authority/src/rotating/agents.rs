//! The agents that were enrolled by a token, for the rotation of an anchor. Nobody is connected to them: what they trust and
//! show is what their last answer brought them, and the ledger knows when that was.

use std::collections::BTreeMap;

use handfast_pki::{Fingerprint, Name, Profile, SpiffeId};
use handfast_store::{CredentialStore, Issued, IssuedFilter, Kind, Ledger, Lineage, StoreError};
use jiff::Timestamp;

use super::certificate;
use crate::agent::enrolled_by_token;
use crate::authority::Authority;
use crate::declared::Declared;
use crate::desired::{DesiredCredential, SignedBy};
use crate::rotation::{Consumer, Rotation, Who};

impl<S: CredentialStore, L: Ledger> Authority<S, L> {
    /// The services whose agents lean on this anchor, each with what the last of its agents has.
    ///
    /// An agent that renews while the old key drains is given both anchors and a certificate of the new one; who
    /// has not would find nobody whom it trusts when the old one is gone, and would have to be enrolled anew.
    pub(super) fn agent_consumers(
        &self,
        declared: &Declared,
        wanted: &[DesiredCredential],
        issuer: &DesiredCredential,
        record: &Rotation,
        now: Timestamp,
    ) -> Result<Vec<Consumer>, StoreError> {
        let ca = &declared.names.service_ca;
        let leans = issuer.signed_by == SignedBy::Itself
            && self.anchor_above(wanted, ca).as_ref() == Some(&issuer.name);
        if !leans {
            return Ok(Vec::new());
        }
        let observed = self.observed(wanted, now);
        let signer = observed
            .iter()
            .find(|seen| seen.kind == Kind::Issuer && seen.name == *ca)
            .and_then(|seen| seen.current.usable())
            .and_then(|facts| facts.signer);
        let present = self.store.load(Kind::Issuer, ca)?;
        // The CA as it signs now, once it is below the new anchor.
        let signs = present
            .as_ref()
            .and_then(certificate)
            .filter(|_| signer.is_some() && signer == record.new)
            .map(|ca| (Fingerprint::of(ca.spki_der()).0, ca.not_before()));
        let mut services: BTreeMap<Name, Consumer> = BTreeMap::new();
        for newest in self.newest_of_agents(ca, now)? {
            let Some(service) = newest.identity.as_ref().and_then(SpiffeId::name) else { continue };
            // It was made anew with another key; should it have kept it, its dates tell, to the second.
            let follows = signs.is_some_and(|(key, since)| {
                newest.issuer_key_id == key && newest.not_before >= since
            });
            let consumer = services.entry(service.clone()).or_insert(Consumer {
                who: Who::Agent(service),
                trusts: true,
                sequence: None,
                follows: true,
                reachable: false,
                seen: None,
                expires: None,
            });
            if !follows {
                (consumer.trusts, consumer.follows) = (false, false);
                consumer.expires = consumer.expires.max(Some(newest.not_after));
                consumer.seen = consumer.seen.max(Some(newest.not_before));
            }
        }
        Ok(services.into_values().collect())
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
