//! What is seen of the world for one rotation: the authority's revisions, this site's credentials,
//! and the sites that hold link credentials of it.

use std::collections::{BTreeMap, BTreeSet};

use handfast_pki::{
    Certificate, Chain, Fingerprint, Name, Profile, Purpose, SpiffeId, TrustAnchors, TrustDomain,
    verify_chain,
};
use handfast_store::{CredentialStore, IssuedFilter, Kind, Ledger, Source, StoreError};
use jiff::Timestamp;

use super::{Revisions, certificate, fingerprint, schedule_of};
use crate::authority::Authority;
use crate::declared::Declared;
use crate::desired::{DesiredCredential, SignedBy};
use crate::observed::{Facts, Observed};
use crate::rotation::{Consumer, Heard, Rotation, Seen, Who};
use crate::skew;

/// What the network sees of a site that links to this one.
#[derive(Clone, Debug)]
pub struct SiteSeen {
    /// The site.
    pub site: Name,
    /// Whether it is linked now.
    pub linked: bool,
    /// When it was last linked, if it is not.
    pub lost_at: Option<Timestamp>,
    /// What it presented on its newest connection, while it is linked.
    pub chain: Option<Chain>,
    /// The newest bundle it acknowledged, and when.
    pub acknowledged: Option<(u64, Timestamp)>,
}

impl<S: CredentialStore, L: Ledger> Authority<S, L> {
    /// Tells what the network sees of the sites that link here, before a reconciliation: what the
    /// rotations wait for.
    pub fn sites_seen(&self, sites: Vec<SiteSeen>) {
        self.memory().sites = sites.into_iter().map(|seen| (seen.site.clone(), seen)).collect();
    }

    /// What a rotation of `issuer` depends on.
    pub(super) fn seen(
        &self,
        declared: &Declared,
        wanted: &[DesiredCredential],
        issuer: &DesiredCredential,
        record: &Rotation,
        revisions: &Revisions,
        now: Timestamp,
    ) -> Result<Seen, StoreError> {
        let current = certificate(&revisions.current);
        let staged = revisions.staged.as_ref().and_then(certificate);
        let old = [&Some(revisions.current.clone()), &revisions.previous]
            .into_iter()
            .flatten()
            .filter_map(certificate)
            .find(|found| found.fingerprint() == record.old);
        let dated = old.as_ref().or(current.as_ref());
        let activate_at =
            dated.map_or(now, |certificate| schedule_of(wanted, issuer, certificate).1);
        let mut consumers = self.own_consumers(wanted, issuer, record, now);
        if self.signs_links(declared, wanted, issuer) {
            let new = [&revisions.staged, &Some(revisions.current.clone())]
                .into_iter()
                .flatten()
                .filter_map(certificate)
                .find(|found| Some(found.fingerprint()) == record.new);
            consumers.extend(self.site_consumers(declared, issuer, record, new.as_ref(), now)?);
        }
        consumers.extend(self.agent_consumers(declared, wanted, issuer, record, now)?);
        Ok(Seen {
            staged_has_new_key: match (&staged, &current) {
                (Some(staged), Some(current)) => staged.spki_der() != current.spki_der(),
                _ => false,
            },
            staged: staged.map(|found| found.fingerprint()),
            current: fingerprint(&revisions.current),
            previous: revisions.previous.as_ref().and_then(fingerprint),
            consumers,
            awaits_absent: issuer.signed_by == SignedBy::Itself,
            activate_at,
            clock_is_sound: self.clock_is_sound(now),
        })
    }

    /// Whether nothing that was issued says that the clock is behind.
    pub(super) fn clock_is_sound(&self, now: Timestamp) -> bool {
        let newest = IssuedFilter { limit: Some(1), ..IssuedFilter::default() };
        let last = self.ledger.issued(&newest).ok().and_then(|issued| issued.into_iter().next());
        skew::detect(&[], last.map(|issued| issued.not_before), now).is_none()
    }

    /// The trust domain whose bundle changes with this issuer, if one does.
    pub(super) fn bundle_domain(&self, issuer: &DesiredCredential) -> Option<TrustDomain> {
        let declared = self.declared()?;
        let names = &declared.names;
        let anchors_links = issuer.signed_by == SignedBy::Itself
            && (issuer.name == names.root || issuer.name == names.site_ca);
        declared.effective_trust_domain().filter(|_| anchors_links)
    }

    /// This site's managed credentials that trust the issuer or hold what it signed.
    fn own_consumers(
        &self,
        wanted: &[DesiredCredential],
        issuer: &DesiredCredential,
        record: &Rotation,
        now: Timestamp,
    ) -> Vec<Consumer> {
        let observed = self.observed(wanted, now);
        let is_anchor = issuer.signed_by == SignedBy::Itself;
        let bundle: BTreeSet<Fingerprint> = std::iter::once(record.old).chain(record.new).collect();
        let facts_of = |kind: Kind, name: &Name| -> Option<&Facts> {
            let seen: &Observed =
                observed.iter().find(|seen| seen.kind == kind && seen.name == *name)?;
            seen.current.usable().filter(|_| seen.current.source() == Some(Source::Managed))
        };
        let mut consumers = Vec::new();
        for each in wanted {
            let SignedBy::Issuer(signer) = &each.signed_by else { continue };
            let direct = *signer == issuer.name;
            let below =
                is_anchor && self.anchor_above(wanted, signer).as_ref() == Some(&issuer.name);
            if !direct && !below {
                continue;
            }
            let Some(facts) = facts_of(each.kind, &each.name) else { continue };
            let follows = if direct {
                facts.signer == record.new
            } else {
                let above = facts_of(Kind::Issuer, signer);
                above.is_none_or(|above| facts.signer == Some(above.fingerprint))
            };
            consumers.push(Consumer {
                who: Who::Credential(each.name.clone()),
                trusts: !is_anchor || facts.anchors == bundle,
                sequence: None,
                follows,
                reachable: true,
                seen: None,
                expires: None,
            });
        }
        consumers
    }

    /// Whether link credentials are signed by this issuer, or by one below it.
    fn signs_links(
        &self,
        declared: &Declared,
        wanted: &[DesiredCredential],
        issuer: &DesiredCredential,
    ) -> bool {
        let site_ca = &declared.names.site_ca;
        let is_above = || self.anchor_above(wanted, site_ca).as_ref() == Some(&issuer.name);
        issuer.name == *site_ca || is_above()
    }

    /// The sites that hold link credentials of this one, linked or away.
    fn site_consumers(
        &self,
        declared: &Declared,
        issuer: &DesiredCredential,
        record: &Rotation,
        new: Option<&Certificate>,
        now: Timestamp,
    ) -> Result<Vec<Consumer>, StoreError> {
        let is_anchor = issuer.signed_by == SignedBy::Itself;
        let sites = self.memory().sites.clone();
        let consumers = self.enrolled(declared, now)?.into_iter().map(|(name, enrolled)| {
            let seen = sites.get(&name);
            let acknowledged = seen
                .and_then(|seen| seen.acknowledged)
                .or_else(|| record.heard.get(&name).map(|heard| (heard.sequence, heard.at)));
            let linked = seen.is_some_and(|seen| seen.linked);
            let shows = seen.and_then(|seen| seen.chain.as_ref());
            Consumer {
                trusts: !is_anchor
                    || acknowledged.is_some_and(|(sequence, _)| sequence >= record.sequence),
                sequence: acknowledged.map(|(sequence, _)| sequence),
                follows: match (shows, new) {
                    (Some(chain), Some(new)) if is_anchor => {
                        let anchors = TrustAnchors::new(new.clone());
                        verify_chain(chain, &anchors, Purpose::Client, chain.leaf().not_before())
                            .is_ok()
                    }
                    (Some(chain), Some(new)) => chain.rest().contains(new),
                    _ => false,
                },
                reachable: linked,
                seen: if linked {
                    None
                } else {
                    seen.and_then(|seen| seen.lost_at).or(Some(enrolled.renewed_at))
                },
                expires: Some(enrolled.expires),
                who: Who::Site(name),
            }
        });
        Ok(consumers.collect())
    }

    /// Every site with a link credential of this one that has neither expired nor been revoked.
    fn enrolled(
        &self,
        declared: &Declared,
        now: Timestamp,
    ) -> Result<BTreeMap<Name, Enrolled>, StoreError> {
        let domain = declared.effective_trust_domain();
        let valid = IssuedFilter { unexpired_at: Some(now), ..IssuedFilter::default() };
        let dead = self.dead_keys(&declared.names.site_ca, now)?;
        let mut sites: BTreeMap<Name, Enrolled> = BTreeMap::new();
        for issued in self.ledger.issued(&valid)? {
            let identity =
                issued.identity.as_ref().filter(|_| issued.profile == Profile::LinkClient);
            let Some(site) = identity
                .filter(|identity| Some(identity.trust_domain()) == domain.as_ref())
                .and_then(SpiffeId::name)
            else {
                continue;
            };
            if !self.counts(&issued, &dead)? {
                continue;
            }
            let entry = sites
                .entry(site)
                .or_insert(Enrolled { expires: issued.not_after, renewed_at: issued.not_before });
            entry.expires = entry.expires.max(issued.not_after);
            entry.renewed_at = entry.renewed_at.max(issued.not_before);
        }
        Ok(sites)
    }

    /// Writes down what sites acknowledged since, as evidence that outlives this process.
    pub(super) fn note_acknowledged(
        &self,
        issuer: &DesiredCredential,
        record: Rotation,
        now: Timestamp,
    ) -> Result<Rotation, StoreError> {
        if self.bundle_domain(issuer).is_none() {
            return Ok(record);
        }
        let mut heard = record.heard.clone();
        for seen in self.memory().sites.values() {
            if let Some((sequence, at)) = seen.acknowledged
                && heard.get(&seen.site).is_none_or(|known| known.sequence < sequence)
            {
                heard.insert(seen.site.clone(), Heard { sequence, at });
            }
        }
        if heard == record.heard {
            return Ok(record);
        }
        let noted = Rotation { heard, ..record };
        self.keep(&issuer.name, &noted, now)?;
        Ok(noted)
    }
}

/// What the ledger says of one site.
struct Enrolled {
    expires: Timestamp,
    renewed_at: Timestamp,
}
