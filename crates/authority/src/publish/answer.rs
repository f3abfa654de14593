//! OCSP answers: from the ledger, signed once and kept for as long as they are fresh.

use std::collections::HashMap;
use std::sync::Arc;

use handfast_pki::Certificate;
use handfast_pki::ocsp::{AnswerTimes, CertId, CertStatus, IdHash, OcspRequest, Refusal};
use handfast_store::{CredentialStore, IssuedFilter, Ledger, StoreError};
use jiff::Timestamp;

use super::issuer::answer_life;
use super::{Published, PublishedIssuer, Publisher, lock};
use crate::authority::Authority;

/// An OCSP response and for how long it may be kept.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OcspAnswer {
    /// The response in DER.
    pub der: Arc<[u8]>,
    /// From when until when it is good. `None` for a response that must not be kept: one with a nonce, or a
    /// refusal.
    pub good: Option<(Timestamp, Timestamp)>,
}

/// Answers that were given, ready to be given again.
#[derive(Debug, Default)]
pub(super) struct Answers {
    kept: HashMap<CertId, OcspAnswer>,
    /// Counts up whenever everything is forgotten.
    generation: u64,
}

impl Answers {
    /// The most answers kept: some 2 MB.
    const MOST: usize = 4096;

    pub(super) fn forget(&mut self) {
        self.kept.clear();
        self.generation += 1;
    }

    /// Keeps an answer that was worked out while nothing changed.
    fn keep(&mut self, generation: u64, id: &CertId, answer: &OcspAnswer) {
        if generation != self.generation {
            return;
        }
        if self.kept.len() >= Self::MOST {
            self.kept.clear();
        }
        self.kept.insert(id.clone(), answer.clone());
    }
}

impl From<Refusal> for OcspAnswer {
    fn from(refusal: Refusal) -> Self {
        Self { der: Arc::from(refusal.to_der()), good: None }
    }
}

impl Publisher {
    /// The answer that is at hand without asking the ledger or signing: for requests without a nonce, while
    /// the answer is in the first half of its life.
    pub fn kept_answer(&self, request: &OcspRequest, now: Timestamp) -> Option<OcspAnswer> {
        if request.nonce.is_some() {
            return None;
        }
        let answer = lock(&self.answers).kept.get(&request.cert_id).cloned()?;
        let (from, _) = answer.good?;
        (from <= now && now < from + self.interval).then_some(answer)
    }
}

impl Published {
    /// The CA that a request means.
    fn asked(&self, id: &CertId) -> Option<&Arc<PublishedIssuer>> {
        self.issuers.values().find(|issuer| id.is_of(&issuer.certificate))
    }
}

impl<S: CredentialStore, L: Ledger> Authority<S, L> {
    /// Answers an OCSP request: good if the certificate was issued here, unknown if this CA never did, revoked
    /// with time and reason. A CA that is not published here is refused (`unauthorized`).
    ///
    /// Blocks on the ledger, and signs.
    pub fn answer_ocsp(
        &self,
        publisher: &Publisher,
        request: &OcspRequest,
        now: Timestamp,
    ) -> OcspAnswer {
        if let Some(kept) = publisher.kept_answer(request, now) {
            return kept;
        }
        let generation = lock(&publisher.answers).generation;
        let published = publisher.published();
        let Some(issuer) = published.asked(&request.cert_id) else {
            return Refusal::Unauthorized.into();
        };
        let status = match self.status_of(&issuer.key_id, &request.cert_id) {
            Ok(status) => status,
            Err(error) => {
                tracing::warn!(%error, "an OCSP request could not be answered");
                return Refusal::TryLater.into();
            }
        };
        let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
        let signer_ends = issuer.signer.certificate().not_after();
        let next_update = (now + answer_life(publisher.interval)).min(signer_ends);
        let times = AnswerTimes { produced_at: now, this_update: now, next_update };
        let der = match issuer.signer.answer(request, status, times) {
            Ok(der) => Arc::from(der),
            Err(error) => {
                tracing::error!(%error, "an OCSP answer could not be signed");
                return Refusal::InternalError.into();
            }
        };
        if request.nonce.is_some() {
            return OcspAnswer { der, good: None };
        }
        let answer = OcspAnswer { der, good: Some((now, next_update)) };
        // Unknown ones can be asked for without end, and may be issued the next moment.
        if status != CertStatus::Unknown {
            lock(&publisher.answers).keep(generation, &request.cert_id, &answer);
        }
        answer
    }

    /// The answer to staple to a handshake with `certificate`, if its CA is published here and knows it. SHA-1
    /// names it, because that is what every client knows.
    pub fn staple(
        &self,
        publisher: &Publisher,
        certificate: &Certificate,
        now: Timestamp,
    ) -> Option<Arc<[u8]>> {
        let published = publisher.published();
        let issuer = published.issuers.values().find(|issuer| {
            certificate.names_issuer(&issuer.certificate)
                && certificate.authority_key_id() == issuer.certificate.subject_key_id()
        })?;
        let cert_id = CertId::new(IdHash::Sha1, &issuer.certificate, certificate.serial());
        match self.status_of(&issuer.key_id, &cert_id) {
            Ok(CertStatus::Unknown) | Err(_) => None,
            Ok(_) => {
                let request = OcspRequest { cert_id, nonce: None };
                Some(self.answer_ocsp(publisher, &request, now).der)
            }
        }
    }

    fn status_of(&self, issuer: &[u8; 32], id: &CertId) -> Result<CertStatus, StoreError> {
        if let Some(recorded) = self.ledger.revocation(issuer, id.serial())? {
            let (at, reason) = (recorded.revocation.at, recorded.revocation.reason);
            return Ok(CertStatus::Revoked { at, reason });
        }
        let filter = IssuedFilter {
            issuer_key_id: Some(*issuer),
            serial: Some(id.serial().clone()),
            limit: Some(1),
            ..IssuedFilter::default()
        };
        let issued = !self.ledger.issued(&filter)?.is_empty();
        Ok(if issued { CertStatus::Good } else { CertStatus::Unknown })
    }
}
