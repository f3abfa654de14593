//! Keys of authorities that sign nothing any more and still answer for what they signed: until the last of
//! it has expired, it may have to be revoked, and only the key itself is believed by everybody (a CRL and an
//! OCSP responder under it, a statement over links).
//!
//! Such a key is the previous revision of its authority while that is there, and laid aside in the store
//! afterwards. The key of a trust domain's root is not kept: once it left the bundle, nobody accepts what
//! stands under it. Nor is one that was rotated by force: its certificate is revoked as a whole.

use handfast_pki::{Chain, Fingerprint, Issuer, Name, Profile};
use handfast_store::{CredentialStore, Kind, Ledger, StoreError, Stored};
use jiff::Timestamp;

use crate::authority::Authority;
use crate::decide::key_of;
use crate::desired::DesiredCredential;
use crate::inspect;
use crate::making::key_digest;

/// A key that answers for what it signed, and does nothing else.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct KeptKey {
    /// SHA-256 of the authority's certificate with it.
    pub fingerprint: Fingerprint,
    /// When the last of what it signed expires. Then it goes.
    pub until: Timestamp,
}

impl<S: CredentialStore, L: Ledger> Authority<S, L> {
    /// Has the previous revision of an authority stay in the store, if its key has still to answer for
    /// something. To be called before that revision goes.
    pub(crate) fn lay_previous_aside(
        &self,
        issuer: &DesiredCredential,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if issuer.kind != Kind::Issuer || issuer.profile == Profile::Root {
            return Ok(());
        }
        let name = &issuer.name;
        let Some(previous) = self.store.previous(Kind::Issuer, name)? else { return Ok(()) };
        let Some(old) = key_id(&previous) else { return Ok(()) };
        let current = self.store.load_managed(Kind::Issuer, name)?;
        let staged = self.store.staged(Kind::Issuer, name)?.map(|(_, stored)| stored);
        // The way back of a rotation: it is about to sign again.
        if [current, staged].iter().flatten().any(|other| key_id(other) == Some(old)) {
            return Ok(());
        }
        let Some(until) = self.answers_until(&old)?.filter(|until| *until > now) else {
            return Ok(());
        };
        let detail = format!(
            "its key of before stays until {until}, when the last of what it signed expires: it signs \
             revocations of that, and nothing else"
        );
        self.audit("key.keep", &key_of(issuer), detail, now)?;
        self.store.lay_aside(Kind::Issuer, name)
    }

    /// Lets go of the keys that have nothing to answer for any more; says when the next one will.
    pub(crate) fn let_go_of_keys(
        &self,
        issuer: &DesiredCredential,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        if let Some(current) = self.store.load(Kind::Issuer, &issuer.name)?
            && let Some(key) = key_id(&current)
        {
            // It signs, so that the last of it is not known.
            self.memory().answers_until.remove(&key);
        }
        let mut next: Option<Timestamp> = None;
        for stored in self.store.aside(Kind::Issuer, &issuer.name)? {
            let until = match key_id(&stored) {
                Some(key) => self.answers_until(&key)?,
                None => None,
            };
            if let Some(until) = until.filter(|until| *until > now) {
                next = Some(next.map_or(until, |known| known.min(until)));
                continue;
            }
            let detail = "what its key of before signed has expired".to_owned();
            self.audit("key.discard", &key_of(issuer), detail, now)?;
            self.store.discard_aside(Kind::Issuer, &issuer.name, stored.revision)?;
        }
        Ok(next)
    }

    /// The keys of an authority that were laid aside.
    pub(crate) fn kept_keys_of(&self, name: &Name) -> Result<Vec<KeptKey>, StoreError> {
        let mut kept = Vec::new();
        for stored in self.store.aside(Kind::Issuer, name)? {
            let Some(chain) = chain(&stored) else { continue };
            let until = self.answers_until(&key_digest(chain.leaf().spki_der()))?;
            kept.extend(
                until.map(|until| KeptKey { fingerprint: chain.leaf().fingerprint(), until }),
            );
        }
        Ok(kept)
    }

    /// The authority `name` with the keys that it signs nothing new with, as far as they have to answer
    /// for something at `now`. The root's answers while it is there: what it signed are CAs.
    pub(crate) fn answering(
        &self,
        name: &Name,
        is_root: bool,
        now: Timestamp,
    ) -> Result<Vec<Issuer>, StoreError> {
        let current = self.store.load(Kind::Issuer, name)?;
        let current = current.as_ref().and_then(key_id);
        let mut candidates = Vec::new();
        // What is supplied stands in front of one of ours that signed before.
        candidates.extend(self.store.load_managed(Kind::Issuer, name)?);
        candidates.extend(self.store.previous(Kind::Issuer, name)?);
        candidates.extend(self.store.aside(Kind::Issuer, name)?);
        let mut seen = Vec::from_iter(current);
        let mut answering = Vec::new();
        for stored in candidates {
            let Some(key) = key_id(&stored).filter(|key| !seen.contains(key)) else { continue };
            seen.push(key);
            if !is_root && self.answers_until(&key)?.is_none_or(|until| until <= now) {
                continue;
            }
            match inspect::signer(&stored, &self.keys) {
                Ok(issuer) if issuer.certificate().not_after() > now => answering.push(issuer),
                Ok(_) => {}
                Err(fault) => {
                    tracing::warn!(authority = %name, what = fault.what, "a key of before cannot answer");
                }
            }
        }
        Ok(answering)
    }

    /// When the last leaf that this key signed expires. The key signs no more, so that this is looked up
    /// once.
    fn answers_until(&self, key: &[u8; 32]) -> Result<Option<Timestamp>, StoreError> {
        if let Some(known) = self.memory().answers_until.get(key) {
            return Ok(*known);
        }
        let until = self.ledger.last_leaf_expiry(key)?;
        self.memory().answers_until.insert(*key, until);
        Ok(until)
    }
}

fn chain(stored: &Stored) -> Option<Chain> {
    Chain::from_pem(stored.pem.tls_crt.as_deref()?).ok()
}

fn key_id(stored: &Stored) -> Option<[u8; 32]> {
    chain(stored).map(|chain| key_digest(chain.leaf().spki_der()))
}
