//! Revocations heard from other sites, and this site's own that come back to it.
//!
//! Whether a statement is to be believed was decided before; here it is recorded, and what it means
//! for enrolments of this site is done: a ledger that was restored from a backup has forgotten that
//! it ended them.

use std::collections::BTreeSet;

use handfast_pki::{CertificateId, Issuer, RevocationReason, SpiffeId};
use handfast_store::{
    AuditRow, CredentialStore, Issued, IssuedFilter, Kind, Ledger, Lineage, Revocation, StoreError,
};
use jiff::Timestamp;

use crate::authority::Authority;
use crate::inspect;
use crate::revoke::{is_own, revocation};

/// A revocation that another site told of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HeardRevocation {
    /// Which certificate.
    pub certificate: CertificateId,
    /// Why.
    pub reason: RevocationReason,
    /// Since when.
    pub at: Timestamp,
    /// When the certificate expires, if that is known.
    pub not_after: Option<Timestamp>,
    /// The enrolment that it belongs to was ended with it.
    pub enrolment_ended: bool,
    /// The identity it proved, if that is known.
    pub identity: Option<SpiffeId>,
}

impl<S: CredentialStore, L: Ledger> Authority<S, L> {
    /// Records a believed statement: on disk, all of it or nothing, when this returns. Says how many
    /// certificates were not known to be revoked before.
    ///
    /// Where it is about certificates of this site's own issuers, the ledger has lost them: an
    /// enrolment that was ended is ended again, together with what was renewed under it meanwhile.
    ///
    /// # Errors
    /// If the ledger failed; nothing was recorded then.
    pub fn record_heard(
        &self,
        statement: &[u8],
        heard: &[HeardRevocation],
        from: &str,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        let _turn = self.signing();
        let mut news: Vec<Revocation> = Vec::new();
        let mut ended: BTreeSet<Lineage> = BTreeSet::new();
        for each in heard {
            let id = &each.certificate;
            let issued = self.ledger.issued(&IssuedFilter {
                issuer_key_id: Some(id.issuer_key_id),
                serial: Some(id.serial.clone()),
                limit: Some(1),
                ..IssuedFilter::default()
            })?;
            let lineage = issued.first().map(|issued| issued.lineage.clone());
            if let Some(lineage) = lineage.as_ref().filter(|lineage| !is_own(lineage))
                && each.enrolment_ended
                && self.ledger.lineage_ended(lineage)?.is_none()
            {
                ended.insert(lineage.clone());
            }
            if self.ledger.revocation(&id.issuer_key_id, &id.serial)?.is_none() {
                news.push(Revocation {
                    issuer_key_id: id.issuer_key_id,
                    serial: id.serial.clone(),
                    reason: each.reason,
                    at: each.at,
                    not_after: each.not_after,
                    identity: each.identity.clone(),
                    lineage,
                });
            }
        }
        let known: BTreeSet<_> = news.iter().map(|each| each.serial.clone()).collect();
        for lineage in &ended {
            let renewed: Vec<Issued> = self.ledger.issued(&IssuedFilter {
                lineage: Some(lineage.clone()),
                unexpired_at: Some(now),
                ..IssuedFilter::default()
            })?;
            for issued in renewed.iter().filter(|issued| !known.contains(&issued.serial)) {
                news.push(revocation(issued, RevocationReason::CessationOfOperation, now));
            }
        }
        if news.is_empty() && ended.is_empty() {
            return Ok(0);
        }
        let lineages: Vec<Lineage> = ended.into_iter().collect();
        let audit = AuditRow {
            at: now,
            actor: from.to_owned(),
            action: "revocation.heard".to_owned(),
            subject: format!("{} certificates", news.len()),
            outcome: "ok".to_owned(),
            detail: format!(
                "signed by their issuer, told by {from}; {} enrolments ended",
                lineages.len()
            ),
            why: String::new(),
        };
        self.ledger.keep_statement(statement, &news, &lineages, &audit)?;
        Ok(news.len())
    }

    /// The issuers of this home that can sign now, those in use first, then what each was before its
    /// last renewal, and what was laid aside to answer for what it signed.
    pub fn signers(&self) -> Vec<Issuer> {
        let names = self.store.list(Kind::Issuer).unwrap_or_default();
        let current = names.iter().filter_map(|name| self.store.load(Kind::Issuer, name).ok()?);
        let previous =
            names.iter().filter_map(|name| self.store.previous(Kind::Issuer, name).ok()?);
        let aside =
            names.iter().flat_map(|name| self.store.aside(Kind::Issuer, name).unwrap_or_default());
        current
            .chain(previous)
            .chain(aside)
            .filter_map(|stored| inspect::signer(&stored, &self.keys).ok())
            .collect()
    }
}
