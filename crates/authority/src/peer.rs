//! Renewal of another site's link credential, asked for over the link that it authenticates.
//!
//! The identity in the new certificate is the one that the peer proved, whatever it asks for, and
//! its enrolment must be in the ledger. How the request travels is the caller's.

use handfast_pki::{IdentityKind, Profile, SpiffeId};
use handfast_store::{CredentialStore, IssuedFilter, Ledger};
use jiff::Timestamp;

use crate::authority::Authority;
use crate::declared::Declared;
use crate::redeem::read_request;
use crate::renewal::{Enrolment, RenewRefusal, Renewed, Terms};

impl<S: CredentialStore, L: Ledger> Authority<S, L> {
    /// Signs a new link certificate for `peer`, the identity that the link's handshake proved.
    ///
    /// The certificate and its audit row are on disk when this returns. The same key asking again
    /// gets the same certificate, until that one is itself due for renewal. The certificates that
    /// the peer holds stay valid.
    ///
    /// # Errors
    ///
    /// [`RenewRefusal`]; nothing was signed then, and the refusal is in the audit log, each kind once an hour.
    pub fn renew_for_peer(
        &self,
        peer: &SpiffeId,
        csr: &[u8],
        now: Timestamp,
    ) -> Result<Renewed, RenewRefusal> {
        let renewed = self.sign_for_peer(peer, csr, now);
        if let Err(refusal) = &renewed {
            self.note_refused_renewal(peer, refusal, now);
        }
        renewed
    }

    fn sign_for_peer(
        &self,
        peer: &SpiffeId,
        csr: &[u8],
        now: Timestamp,
    ) -> Result<Renewed, RenewRefusal> {
        let csr = read_request(csr)?;
        let stranger = || RenewRefusal::NotEnrolled { identity: peer.clone() };
        let site = peer.name().ok_or_else(stranger)?;
        let _turn = self.signing_for(&site);
        let (declared, authority) = self.site_issuer()?;
        let enrolment = self.peer_enrolment(&declared, peer, now)?;
        let ca = &declared.names.site_ca;
        let terms =
            Terms { declared: &declared, ca, authority: &authority, profile: Profile::LinkClient };
        self.renew_within(enrolment, &terms, &csr, now)
    }

    /// The enrolment under which `peer` may renew.
    fn peer_enrolment(
        &self,
        declared: &Declared,
        peer: &SpiffeId,
        now: Timestamp,
    ) -> Result<Enrolment, RenewRefusal> {
        let stranger = || RenewRefusal::NotEnrolled { identity: peer.clone() };
        let site = peer.name().ok_or_else(stranger)?;
        let ours = declared.effective_trust_domain().as_ref() == Some(peer.trust_domain());
        if peer.kind() != Some(IdentityKind::Site) || !ours || site == declared.site {
            return Err(stranger());
        }
        let of_peer = |unexpired_at, limit| IssuedFilter {
            identity: Some(peer.clone()),
            unexpired_at,
            limit,
            ..IssuedFilter::default()
        };
        let newest = self
            .ledger
            .issued(&of_peer(None, Some(1)))?
            .into_iter()
            .next()
            .filter(|issued| issued.profile == Profile::LinkClient)
            .ok_or_else(stranger)?;
        if let Some(at) = self.ledger.lineage_ended(&newest.lineage)? {
            return Err(RenewRefusal::Revoked { identity: peer.clone(), at });
        }
        let mut valid = self.ledger.issued(&of_peer(Some(now), None))?;
        valid.retain(|issued| issued.lineage == newest.lineage);
        if valid.is_empty() {
            return Err(RenewRefusal::Ended { identity: peer.clone(), at: newest.not_after });
        }
        Ok(Enrolment {
            identity: peer.clone(),
            name: site.to_string(),
            lineage: newest.lineage,
            valid,
        })
    }
}
