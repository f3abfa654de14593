//! Renewal of an agent's certificate by the certificate itself: agents have no link that could carry a request, so they
//! come to the grant port and show what they have.
//!
//! Agents of one service share an identity, and each has an enrolment of its own: what is renewed is the enrolment of
//! the certificate that was shown, whose key the handshake proved, whatever the request asks for. Only what a token
//! enrolled is renewed; a certificate that was issued for a time of somebody's choosing ends when it ends.

use std::collections::BTreeMap;
use std::time::Duration;

use handfast_pki::{IdentityKind, Profile, Serial, SpiffeId, TrustAnchors};
use handfast_store::{CredentialStore, Issued, IssuedFilter, Kind, Ledger, Lineage};
use jiff::Timestamp;

use crate::authority::Authority;
use crate::declared::Declared;
use crate::hint::{AskedAbout, Leaning, RenewalHint, hint};
use crate::making::MakingError;
use crate::redeem::read_request;
use crate::renewal::{Enrolment, RenewRefusal, Renewed, Terms};
use crate::schedule::span;

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
        let ca = &declared.names.service_ca;
        let authority = self.issuer(ca)?;
        let terms =
            Terms { declared: &declared, ca, authority: &authority, profile: Profile::Agent };
        self.renew_within(enrolment, &terms, &csr, now)
    }

    /// When the agent that showed `presented` should renew it. Reads, and changes nothing but the memory of who asked.
    ///
    /// # Errors
    ///
    /// [`RenewRefusal`], as a renewal would be refused.
    pub fn renewal_hint(
        &self,
        presented: &PresentedAgent,
        now: Timestamp,
    ) -> Result<RenewalHint, RenewRefusal> {
        let declared = self.declared().ok_or(MakingError::NotReconciled)?;
        let shown = self.shown_by_agent(&declared, presented, now)?;
        let asking = self.memory().agents_heard.hear(&shown.lineage, now);
        let leanings = self.leanings_of_agent(&declared, &shown, now)?;
        let leanings: Vec<Leaning<'_>> = leanings
            .iter()
            .map(|(rotation, on, follows)| Leaning { rotation, on: *on, follows: *follows })
            .collect();
        let certificate = AskedAbout { not_before: shown.not_before, not_after: shown.not_after };
        Ok(hint(certificate, &leanings, asking))
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
        let shown = self.shown_by_agent(declared, presented, now)?;
        let valid = self.ledger.issued(&IssuedFilter {
            lineage: Some(shown.lineage.clone()),
            unexpired_at: Some(now),
            ..IssuedFilter::default()
        })?;
        Ok(Enrolment {
            identity: presented.identity.clone(),
            name: name.to_string(),
            lineage: shown.lineage,
            valid,
        })
    }

    /// The presented certificate as it was issued, if it may be renewed.
    fn shown_by_agent(
        &self,
        declared: &Declared,
        presented: &PresentedAgent,
        now: Timestamp,
    ) -> Result<Issued, RenewRefusal> {
        let identity = &presented.identity;
        let stranger = || RenewRefusal::NotEnrolled { identity: identity.clone() };
        let ours = declared.effective_trust_domain().as_ref() == Some(identity.trust_domain());
        if identity.kind() != Some(IdentityKind::Agent) || !ours {
            return Err(stranger());
        }
        // By the serial alone: thousands of agents may share the identity.
        let of_serial = self.ledger.issued(&IssuedFilter {
            serial: Some(presented.serial.clone()),
            ..IssuedFilter::default()
        })?;
        let shown = of_serial
            .into_iter()
            .find(|issued| issued.identity.as_ref() == Some(identity) && enrolled_by_token(issued))
            .ok_or_else(stranger)?;
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
        Ok(shown)
    }
}

/// Which enrolments asked when to renew, and when they did last. Only those of the ledger get in; it is forgotten when the
/// process ends.
#[derive(Debug, Default)]
pub(crate) struct AgentsHeard {
    last: BTreeMap<Lineage, Timestamp>,
    /// Since when it is listened, in this process.
    since: Option<Timestamp>,
}

impl AgentsHeard {
    /// Notes that this one asked, and says how many did lately.
    fn hear(&mut self, lineage: &Lineage, now: Timestamp) -> usize {
        if self.last.len() >= MOST_HEARD && !self.last.contains_key(lineage) {
            self.last.retain(|_, at| is_lately(*at, now));
        }
        if self.last.len() < MOST_HEARD || self.last.contains_key(lineage) {
            self.last.insert(lineage.clone(), now);
        }
        self.last.len()
    }

    /// Whether this one asked lately, as far as is known: who was there before a process that came into the middle of a
    /// rotation, nobody knows, and it would be shut out for good.
    pub(crate) fn is_about(&self, lineage: &Lineage, rotation: Timestamp, now: Timestamp) -> bool {
        self.last.get(lineage).is_some_and(|at| is_lately(*at, now))
            || self.since.is_none_or(|since| since > rotation)
    }

    /// Forgets who has not asked for long.
    pub(crate) fn forget(&mut self, now: Timestamp) {
        self.since.get_or_insert(now);
        self.last.retain(|_, at| is_lately(*at, now));
    }
}

fn is_lately(at: Timestamp, now: Timestamp) -> bool {
    span(at, now) <= LATELY
}

/// Who asked within this counts as somebody who will ask again: twice the usual time between two questions, and a margin.
pub(crate) const LATELY: Duration = Duration::from_secs(25 * 60);

/// Enrolments that are remembered. Beyond that a rotation by force does not wait for whoever comes new.
const MOST_HEARD: usize = 65_536;

pub(crate) fn enrolled_by_token(issued: &Issued) -> bool {
    issued.profile == Profile::Agent && issued.lineage.as_str().starts_with("grant/")
}
