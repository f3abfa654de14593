//! The lists and the OCSP responder of one CA.

use std::sync::Arc;
use std::time::Duration;

use handfast_pki::ocsp::OcspSigner;
use handfast_pki::{Certificate, Issuer, Name, PrivateKey, Profile, Subject};
use handfast_store::{CredentialStore, Kind, Ledger};
use jiff::Timestamp;

use super::{Document, Lists, PublishError, PublishedIssuer, Publisher, State, pointers};
use crate::authority::{Authority, own_audit};
use crate::making::{Making, key_digest, own_lineage};

/// A responder that a CA appointed. Its key is made here, lives in memory only, and is made anew with its
/// certificate at half of that one's life.
#[derive(Clone, Debug)]
pub(super) struct Signer {
    signer: OcspSigner,
}

impl Signer {
    pub(super) fn renew_at(&self) -> Timestamp {
        renew_at(self.signer.certificate())
    }

    fn is_good(&self, issuer: &Issuer, now: Timestamp) -> bool {
        let begun = self.signer.certificate().not_before();
        self.signer.issuer() == issuer.certificate() && (begun..self.renew_at()).contains(&now)
    }
}

/// When a responder is made anew: at half of its life.
pub(super) fn renew_at(certificate: &Certificate) -> Timestamp {
    let life = certificate.not_after().duration_since(certificate.not_before());
    certificate.not_before().checked_add(life / 2).unwrap_or(certificate.not_after())
}

impl<S: CredentialStore, L: Ledger> Authority<S, L> {
    /// Makes what is due of one key of a CA; `None` if nothing is.
    pub(super) fn publish_issuer(
        &self,
        publisher: &Publisher,
        state: &mut State,
        name: &Name,
        issuer: &Issuer,
        base: &str,
        now: Timestamp,
    ) -> Result<Option<PublishedIssuer>, PublishError> {
        let key_id = key_digest(issuer.certificate().spki_der());
        let lists = state.lists.entry(key_id).or_default();
        let signer = lists.signer.clone().filter(|signer| signer.is_good(issuer, now));
        let lists_due = lists.news || publisher.due(lists.made, now);
        if signer.is_some() && !lists_due {
            return Ok(None);
        }
        let signer = match signer {
            Some(signer) => signer,
            None => self.appoint(issuer, name, now)?,
        };
        lists.signer = Some(signer.clone());
        let number = self.ledger.next_crl_number(&key_id)?;
        let (full, delta) = lists.make(number, publisher, base, issuer, key_id, now)?;
        tracing::info!(issuer = %name, number, revoked = lists.builder.len(), "revocation lists were made");
        Ok(Some(PublishedIssuer {
            name: name.clone(),
            certificate: issuer.certificate().clone(),
            number,
            full,
            delta,
            revoked: lists.builder.len(),
            signer: signer.signer,
            key_id,
        }))
    }

    /// Makes a responder for a CA: a new key, and a certificate for nothing but OCSP answers.
    fn appoint(
        &self,
        issuer: &Issuer,
        name: &Name,
        now: Timestamp,
    ) -> Result<Signer, PublishError> {
        let declared = self.declared().ok_or(crate::MakingError::NotReconciled)?;
        let key = PrivateKey::generate(self.key_algorithm).map_err(crate::MakingError::from)?;
        let common_name: String = format!("{name} OCSP").chars().take(64).collect();
        let making = Making {
            authority: issuer,
            cross: None,
            profile: Profile::OcspSigner,
            subject: Subject::new(common_name),
            ttl: declared.settings.leaf().min(issuer.max_leaf_ttl()),
            lineage: own_lineage(&format!("{name}-ocsp")).to_string(),
            now,
            // Nobody looks up the responder at the responder.
            distribution: None,
        };
        let made = making.sign(key.spki_der(), &mut **self.entropy())?;
        let detail = format!(
            "serial {}, until {}: answers OCSP requests for it",
            made.issued.serial, made.issued.not_after
        );
        let audit = own_audit("certificate.issue", &(Kind::Issuer, name.clone()), detail, now);
        self.ledger.record_issued(&made.issued, &audit)?;
        let certificate = made.chain.leaf().clone();
        let signer = OcspSigner::new(issuer.certificate().clone(), certificate, key)?;
        Ok(Signer { signer })
    }
}

impl Lists {
    /// A full list and the delta beside it, with the same number and the same knowledge.
    fn make(
        &mut self,
        number: u64,
        publisher: &Publisher,
        base: &str,
        issuer: &Issuer,
        key_id: [u8; 32],
        now: Timestamp,
    ) -> Result<(Document, Document), PublishError> {
        let scheduled = publisher.due(self.base_made, now);
        if let (true, Some(listed)) = (scheduled, self.made) {
            self.builder.prune(listed);
        }
        let freshest = pointers::freshest(base, &key_id);
        let validity = |times| (now, now + publisher.interval * times);
        let document = |der: Vec<u8>, times| Document {
            der: Arc::from(der),
            this_update: now,
            next_update: validity(times).1,
        };
        let full = self.builder.full(number, validity(FULL_INTERVALS), &freshest, issuer)?;
        // Whoever has the full list of the time before gets along with the delta.
        let mut delta = self.builder.delta(number, validity(DELTA_INTERVALS), issuer)?;
        if scheduled {
            self.builder.set_base(number);
            self.base_made = Some(now);
        }
        if delta.is_none() {
            delta = self.builder.delta(number, validity(DELTA_INTERVALS), issuer)?;
        }
        (self.made, self.news) = (Some(now), false);
        let delta = delta.unwrap_or_default();
        Ok((document(full, FULL_INTERVALS), document(delta, DELTA_INTERVALS)))
    }
}

/// For how many intervals a full list is good.
const FULL_INTERVALS: u32 = 4;

/// For how many intervals a delta is good.
const DELTA_INTERVALS: u32 = 2;

const _: () = assert!(FULL_INTERVALS >= 2 && DELTA_INTERVALS >= 2, "one missed time breaks nobody");

/// For how long an OCSP answer is good.
pub(super) fn answer_life(interval: Duration) -> Duration {
    interval * DELTA_INTERVALS
}
