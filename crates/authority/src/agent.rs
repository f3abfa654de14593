//! Renewal of an agent's certificate by the certificate itself: agents have no link that could carry a request, so they
//! come to the grant port and show what they have.
//!
//! Agents of one service share an identity, and each has an enrolment of its own: what is renewed is the enrolment of
//! the certificate that was shown, whose key the handshake proved, whatever the request asks for. Only what a token
//! enrolled is renewed; a certificate that was issued for a time of somebody's choosing ends when it ends.

use handfast_pki::{
    IdentityKind, Profile, Purpose, Serial, SpiffeId, Subject, TrustAnchors, verify_chain,
};
use handfast_store::{AuditRow, CredentialStore, Issued, IssuedFilter, Kind, Ledger};
use jiff::Timestamp;

use crate::authority::Authority;
use crate::declared::Declared;
use crate::issue::Shared;
use crate::making::{Making, MakingError};
use crate::peer::{Enrolment, MAX_VALID, RenewRefusal, Renewed};
use crate::redeem::{read_request, wishes};

/// The certificate of an agent, as a completed handshake proved it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PresentedAgent {
    /// Its identity.
    pub identity: SpiffeId,
    /// Its serial number.
    pub serial: Serial,
}

impl<S: CredentialStore, L: Ledger> Authority<S, L> {
    /// Signs a new certificate for the agent that showed `presented`, in the same enrolment.
    ///
    /// The certificate and its audit row are on disk when this returns. The same key asking again gets the same
    /// certificate, until that one is itself due for renewal. What the agent holds stays valid.
    ///
    /// # Errors
    ///
    /// [`RenewRefusal`]; nothing was signed then, and the refusal is in the audit log, each kind once an hour.
    pub fn renew_for_agent(
        &self,
        presented: &PresentedAgent,
        csr: &[u8],
        now: Timestamp,
    ) -> Result<Renewed, RenewRefusal> {
        let renewed = self.sign_for_agent(presented, csr, now);
        if let Err(refusal) = &renewed {
            self.note_refused_renewal(&presented.identity, refusal, now);
        }
        renewed
    }

    fn sign_for_agent(
        &self,
        presented: &PresentedAgent,
        csr: &[u8],
        now: Timestamp,
    ) -> Result<Renewed, RenewRefusal> {
        let identity = &presented.identity;
        let stranger = || RenewRefusal::NotEnrolled { identity: identity.clone() };
        let csr = read_request(csr)?;
        let service = identity.name().ok_or_else(stranger)?;
        let _turn = self.signing_for(&service);
        let declared = self.declared().ok_or(MakingError::NotReconciled)?;
        let enrolment = self.agent_enrolment(&declared, presented, now)?;
        wishes(&csr, identity)?;
        if let Some(at) = self.revoked_key(&enrolment, csr.spki_der())? {
            return Err(RenewRefusal::RevokedKey { identity: identity.clone(), at });
        }

        let ca = &declared.names.service_ca;
        let authority = self.issuer(ca)?;
        if let Some(before) = enrolment.made_for(csr.spki_der(), now)
            && let Some(chain) = self.chain_of(ca, &authority, before)?
            // What leads to an anchor that was given up is no answer any more.
            && verify_chain(&chain, authority.anchors(), Purpose::Client, now).is_ok()
        {
            return Ok(Renewed { chain, anchors: authority.anchors().clone() });
        }
        if enrolment.valid.len() >= MAX_VALID {
            let count = enrolment.valid.len();
            return Err(RenewRefusal::TooMany { identity: identity.clone(), count });
        }

        let making = Making {
            authority: &authority,
            cross: self.cross_for(ca)?,
            profile: Profile::Agent,
            subject: Subject::new(enrolment.name).with_identity(identity.clone()),
            ttl: declared.settings.leaf(),
            lineage: enrolment.lineage.to_string(),
            now,
            distribution: declared.distribution.as_deref(),
        };
        let made = making.sign(csr.spki_der(), &mut Shared(&self.entropy))?;
        self.ledger.record_issued(
            &made.issued,
            &AuditRow {
                at: now,
                actor: identity.to_string(),
                action: "certificate.renew".to_owned(),
                subject: identity.to_string(),
                outcome: "ok".to_owned(),
                detail: format!(
                    "serial {}, until {}, enrolment {}",
                    made.issued.serial, made.issued.not_after, enrolment.lineage
                ),
                why: String::new(),
            },
        )?;
        Ok(Renewed { chain: made.chain, anchors: authority.anchors().clone() })
    }

    /// The anchors under which agents prove who they are.
    ///
    /// # Errors
    ///
    /// A service CA that is not there or cannot be used.
    pub fn agent_anchors(&self) -> Result<TrustAnchors, MakingError> {
        let declared = self.declared().ok_or(MakingError::NotReconciled)?;
        let name = &declared.names.service_ca;
        if let Some(anchors) = self.anchors_for(name)? {
            return Ok(anchors);
        }
        // The user's own says itself what goes with it; its key is not needed for that.
        let unusable = |why: String| MakingError::Issuer { name: name.clone(), why };
        let stored = self.store.load(Kind::Issuer, name)?;
        let anchors = stored.and_then(|stored| stored.pem.ca_crt);
        let anchors = anchors.ok_or_else(|| unusable("it does not exist yet".to_owned()))?;
        TrustAnchors::from_pem(&anchors).map_err(|error| unusable(error.to_string()))
    }

    /// The enrolment that the presented certificate belongs to.
    fn agent_enrolment(
        &self,
        declared: &Declared,
        presented: &PresentedAgent,
        now: Timestamp,
    ) -> Result<Enrolment, RenewRefusal> {
        let identity = &presented.identity;
        let stranger = || RenewRefusal::NotEnrolled { identity: identity.clone() };
        let name = identity.name().ok_or_else(stranger)?;
        let ours = declared.effective_trust_domain().as_ref() == Some(identity.trust_domain());
        if identity.kind() != Some(IdentityKind::Agent) || !ours {
            return Err(stranger());
        }
        let shown = self.ledger.issued(&IssuedFilter {
            identity: Some(identity.clone()),
            serial: Some(presented.serial.clone()),
            ..IssuedFilter::default()
        })?;
        let shown = shown.into_iter().find(enrolled_by_token).ok_or_else(stranger)?;
        if let Some(at) = self.ledger.lineage_ended(&shown.lineage)? {
            return Err(RenewRefusal::Revoked { identity: identity.clone(), at });
        }
        // A connection may be older than the revocation of the certificate that opened it.
        let revoked = self.ledger.revocation(&shown.issuer_key_id, &shown.serial)?;
        if let Some(recorded) = revoked {
            let at = recorded.revocation.at;
            return Err(RenewRefusal::Revoked { identity: identity.clone(), at });
        }
        if shown.not_after < now {
            return Err(RenewRefusal::Ended { identity: identity.clone(), at: shown.not_after });
        }
        let valid = self.ledger.issued(&IssuedFilter {
            lineage: Some(shown.lineage.clone()),
            unexpired_at: Some(now),
            ..IssuedFilter::default()
        })?;
        Ok(Enrolment { name: name.to_string(), lineage: shown.lineage, valid })
    }
}

pub(crate) fn enrolled_by_token(issued: &Issued) -> bool {
    issued.profile == Profile::Agent && issued.lineage.as_str().starts_with("grant/")
}
