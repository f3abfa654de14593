//! Which certificates still count for somebody. What is revoked, by itself or with the CA that signed it, opens no door any
//! more, so that nobody is waited for because of it.

use std::collections::BTreeSet;

use handfast_pki::{Chain, Name};
use handfast_store::{CredentialStore, Issued, Ledger, StoreError};
use jiff::Timestamp;

use crate::authority::Authority;
use crate::making::key_digest;
use crate::making::own_lineage;

/// The keys of a CA of this home whose every certificate is revoked.
pub(super) struct DeadKeys(BTreeSet<[u8; 32]>);

impl<S: CredentialStore, L: Ledger> Authority<S, L> {
    /// Of the keys that `ca` ever signed with, those that nobody has to believe any more.
    pub(super) fn dead_keys(&self, ca: &Name, now: Timestamp) -> Result<DeadKeys, StoreError> {
        let (mut dead, mut sound) = (BTreeSet::new(), BTreeSet::new());
        for issued in self.ledger.lineage(&own_lineage(ca.as_str()))? {
            let Ok(chain) = Chain::from_pem(issued.pem.as_bytes()) else { continue };
            if !issued.profile.is_ca() || issued.not_after <= now {
                continue;
            }
            let key = key_digest(chain.leaf().spki_der());
            let revoked = self.ledger.revocation(&issued.issuer_key_id, &issued.serial)?.is_some();
            if revoked {
                dead.insert(key)
            } else {
                sound.insert(key)
            };
        }
        Ok(DeadKeys(dead.difference(&sound).copied().collect()))
    }

    /// Whether a certificate that has not expired still counts: neither it is revoked, nor what signed it.
    pub(super) fn counts(&self, issued: &Issued, dead: &DeadKeys) -> Result<bool, StoreError> {
        if dead.0.contains(&issued.issuer_key_id) {
            return Ok(false);
        }
        Ok(self.ledger.revocation(&issued.issuer_key_id, &issued.serial)?.is_none())
    }
}
