//! Renewal within an enrolment: what a token began goes on under the same name and in the same lineage, whoever is enrolled.
//!
//! The identity in the new certificate is that of the enrolment, whatever the request asks for. Which enrolment it is, and
//! whether it may be renewed at all, is the caller's to find out from what the peer proved.

use handfast_pki::{
    Certificate, Chain, Csr, CsrError, CsrRefusal, Issuer, Name, Profile, Purpose, SpiffeId,
    Subject, TrustAnchors, verify_chain,
};
use handfast_store::{AuditRow, CredentialStore, Issued, Ledger, Lineage, StoreError};
use jiff::Timestamp;

use crate::authority::Authority;
use crate::declared::Declared;
use crate::issue::Shared;
use crate::making::{Making, MakingError, key_digest, own_lineage};
use crate::redeem::{wish_code, wishes};
use crate::schedule;

/// The answer to a renewal.
#[derive(Clone, Debug)]
pub struct Renewed {
    /// The new certificate with its issuers, leaf first.
    pub chain: Chain,
    /// The anchors it leads to.
    pub anchors: TrustAnchors,
}

/// Why a renewal was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RenewRefusal {
    /// The request is not one, or does not prove that the key is held.
    #[error("the certificate request cannot be used: {0}")]
    BadRequest(#[from] CsrError),
    /// It asks for more than a new certificate of whoever asks.
    #[error(transparent)]
    Asks(#[from] CsrRefusal),
    /// Every certificate of the enrolment has expired.
    #[error(
        "the enrolment of {identity} ended with its last certificate at {at}: redeem a new token \
         made for it"
    )]
    Ended {
        /// The identity.
        identity: SpiffeId,
        /// When it ended.
        at: Timestamp,
    },
    /// The identity is not one that this site enrols.
    #[error("{identity} is not enrolled here: redeem a token of this site first")]
    NotEnrolled {
        /// The identity.
        identity: SpiffeId,
    },
    /// The authority cannot sign at the moment.
    #[error("the site cannot sign at the moment, ask again later: {0}")]
    NotReady(#[from] MakingError),
    /// The enrolment was revoked.
    #[error(
        "the enrolment of {identity} was revoked at {at}, so nothing is renewed under it: ask the \
         operator of this site why, and redeem a new token made for it"
    )]
    Revoked {
        /// The identity.
        identity: SpiffeId,
        /// When.
        at: Timestamp,
    },
    /// The key is that of a certificate that was revoked.
    #[error(
        "a certificate of {identity} with this key was revoked at {at}: make a new key, and ask again"
    )]
    RevokedKey {
        /// The identity.
        identity: SpiffeId,
        /// When.
        at: Timestamp,
    },
    /// The ledger failed.
    #[error("the renewal could not be recorded, so it did not happen; ask again later: {0}")]
    Store(#[from] StoreError),
    /// The peer holds more certificates than it can need.
    #[error(
        "{identity} holds {count} valid certificates, more than it can need: ask again after some have expired"
    )]
    TooMany {
        /// The identity.
        identity: SpiffeId,
        /// How many.
        count: usize,
    },
}

impl RenewRefusal {
    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Asks(wish) => wish_code(wish),
            Self::BadRequest(_) => "bad-request",
            Self::Ended { .. } => "enrolment-ended",
            Self::NotEnrolled { .. } => "not-enrolled",
            Self::NotReady(_) => "not-ready",
            Self::Revoked { .. } => "revoked",
            Self::RevokedKey { .. } => "revoked-key",
            Self::Store(_) => "unavailable",
            Self::TooMany { .. } => "too-many",
        }
    }
}

/// By whom, and as what, certificates of an enrolment are signed.
pub(crate) struct Terms<'a> {
    pub(crate) declared: &'a Declared,
    /// The name of the CA, and the CA itself.
    pub(crate) ca: &'a Name,
    pub(crate) authority: &'a Issuer,
    pub(crate) profile: Profile,
}

impl<S: CredentialStore, L: Ledger> Authority<S, L> {
    /// Signs a new certificate for the key of `csr` in `enrolment`; it and its audit row are on disk when this returns.
    /// The same key asking again gets the same certificate, until that one is itself due for renewal.
    pub(crate) fn renew_within(
        &self,
        enrolment: Enrolment,
        terms: &Terms<'_>,
        csr: &Csr,
        now: Timestamp,
    ) -> Result<Renewed, RenewRefusal> {
        wishes(csr, &enrolment.identity)?;
        let spki = csr.spki_der();
        let Terms { declared, ca, authority, profile } = *terms;
        if let Some(at) = self.revoked_key(&enrolment, spki)? {
            return Err(RenewRefusal::RevokedKey { identity: enrolment.identity, at });
        }
        if let Some(before) = enrolment.made_for(spki, now)
            && let Some(chain) = self.chain_of(ca, authority, before)?
            // What leads to an anchor that was given up is no answer any more.
            && verify_chain(&chain, authority.anchors(), Purpose::Client, now).is_ok()
        {
            return Ok(Renewed { chain, anchors: authority.anchors().clone() });
        }
        let Enrolment { identity, name, lineage, valid } = enrolment;
        if valid.len() >= MAX_VALID {
            return Err(RenewRefusal::TooMany { identity, count: valid.len() });
        }
        let making = Making {
            authority,
            cross: self.cross_for(ca)?,
            profile,
            subject: Subject::new(name).with_identity(identity.clone()),
            ttl: declared.settings.leaf(),
            lineage: lineage.to_string(),
            now,
            distribution: declared.distribution.as_deref(),
        };
        let made = making.sign(spki, &mut Shared(&self.entropy))?;
        self.ledger.record_issued(
            &made.issued,
            &AuditRow {
                at: now,
                actor: identity.to_string(),
                action: "certificate.renew".to_owned(),
                subject: identity.to_string(),
                outcome: "ok".to_owned(),
                detail: format!(
                    "serial {}, until {}, enrolment {lineage}",
                    made.issued.serial, made.issued.not_after
                ),
                why: String::new(),
            },
        )?;
        Ok(Renewed { chain: made.chain, anchors: authority.anchors().clone() })
    }

    /// Since when a certificate of this enrolment with this key is revoked, if one is.
    fn revoked_key(
        &self,
        enrolment: &Enrolment,
        spki: &[u8],
    ) -> Result<Option<Timestamp>, StoreError> {
        for issued in enrolment.valid.iter().take(REMEMBERED).filter(|each| is_for(each, spki)) {
            let recorded = self.ledger.revocation(&issued.issuer_key_id, &issued.serial)?;
            if let Some(recorded) = recorded {
                return Ok(Some(recorded.revocation.at));
            }
        }
        Ok(None)
    }

    /// The chain that an earlier certificate was handed out with, if its issuer is still known.
    fn chain_of(
        &self,
        ca: &Name,
        authority: &Issuer,
        before: &Issued,
    ) -> Result<Option<Chain>, RenewRefusal> {
        let signed_by =
            |issuer: &Certificate| key_digest(issuer.spki_der()) == before.issuer_key_id;
        let Ok(leaf) = Chain::from_pem(before.pem.as_bytes()).map(|chain| chain.leaf().clone())
        else {
            return Ok(None);
        };
        if signed_by(authority.certificate()) {
            return Ok(Some(authority.chain_for(leaf)));
        }
        // The CA was renewed since; the ledger has the one before.
        let lineage: Lineage = own_lineage(ca.as_str());
        for issued in self.ledger.lineage(&lineage)? {
            let Ok(found) = Chain::from_pem(issued.pem.as_bytes()) else { continue };
            if signed_by(found.leaf()) {
                return Ok(Some(Chain::new(leaf, vec![found.leaf().clone()])));
            }
        }
        Ok(None)
    }
}

/// What the ledger knows of an enrolment.
pub(crate) struct Enrolment {
    /// Who is enrolled.
    pub(crate) identity: SpiffeId,
    /// The name in it.
    pub(crate) name: String,
    pub(crate) lineage: Lineage,
    /// Its certificates that have not expired, the newest first.
    pub(crate) valid: Vec<Issued>,
}

impl Enrolment {
    /// A certificate for this key that is not yet due for renewal. Only the newest are looked at:
    /// a peer asks again with the key it asked with last.
    fn made_for(&self, spki: &[u8], now: Timestamp) -> Option<&Issued> {
        self.valid.iter().take(REMEMBERED).find(|issued| {
            let due = schedule::renew_at(
                issued.not_before,
                issued.not_after,
                issued.fingerprint.as_bytes(),
            );
            due > now && is_for(issued, spki)
        })
    }
}

/// Whether a certificate was issued for this key.
fn is_for(issued: &Issued, spki: &[u8]) -> bool {
    Chain::from_pem(issued.pem.as_bytes()).is_ok_and(|chain| chain.leaf().spki_der() == spki)
}

/// Renewals happen a few times in a certificate's life; more valid ones at a time than this are a
/// peer gone wrong, and would only fill the ledger.
const MAX_VALID: usize = 256;
const REMEMBERED: usize = 16;
