//! The CRLs of many issuers at once, the newest of each: what a relying party holds.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Crl, CrlError, CrlNumber, CrlView};
use crate::fingerprint::sha256;
use crate::{Certificate, RevokedEntry};

/// CRLs whose signature has been checked, the newest full list and the newest delta of each issuer (and of
/// each part, where an issuer splits its list).
#[derive(Clone, Debug, Default)]
pub struct CrlSet {
    lists: BTreeMap<Key, Held>,
}

/// SHA-256 of the issuer's public key, and the scope.
type Key = ([u8; 32], Vec<String>, bool, bool);

#[derive(Clone, Debug, Default)]
struct Held {
    full: Option<Crl>,
    delta: Option<Crl>,
    view: Option<CrlView>,
}

/// What the CRLs at hand say of a certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CrlStatus {
    /// Not revoked, as of the number.
    Good {
        /// The number of the newest list looked at.
        number: CrlNumber,
    },
    /// No list of its issuer is at hand.
    Missing,
    /// Only a delta of its issuer is at hand, which cannot be used without the full list it continues.
    OnlyDelta {
        /// The delta's number.
        number: CrlNumber,
    },
    /// Revoked. (Also if the list is out of date: revocation is for ever.)
    Revoked(RevokedEntry),
    /// Not listed, but the list is out of date.
    Stale {
        /// When the next list was promised.
        next_update: Timestamp,
    },
}

impl CrlSet {
    /// Adds a list that `issuer` signed, and says whether it is news: older numbers than those at hand are
    /// passed over. Whether `issuer` is trusted is the caller's to know.
    pub fn add(&mut self, crl: Crl, issuer: &Certificate) -> Result<bool, CrlError> {
        crl.verify_signed_by(issuer)?;
        let (partition, leaves_only, cas_only) = crl.0.extensions.scope();
        let key = (sha256(issuer.spki_der()), partition.to_vec(), leaves_only, cas_only);
        let held = self.lists.entry(key).or_default();
        let place = if crl.is_delta() { &mut held.delta } else { &mut held.full };
        let newer = place.as_ref().is_none_or(|old| {
            (crl.number(), crl.this_update()) > (old.number(), old.this_update())
        });
        if newer {
            *place = Some(crl);
            held.merge();
        }
        Ok(newer)
    }

    /// What is known of `certificate`, issued by `issuer`, at `now`.
    pub fn status(
        &self,
        certificate: &Certificate,
        issuer: &Certificate,
        now: Timestamp,
    ) -> CrlStatus {
        let key_id = sha256(issuer.spki_der());
        let mut answer = CrlStatus::Missing;
        for held in self.of_issuer(&key_id) {
            let Some(view) = &held.view else {
                if let (Some(delta), CrlStatus::Missing) = (&held.delta, &answer) {
                    answer = CrlStatus::OnlyDelta { number: delta.number() };
                }
                continue;
            };
            if let Some(entry) = view.lookup(certificate.serial()) {
                return CrlStatus::Revoked(entry);
            }
            if !view.full().covers(certificate) {
                continue;
            }
            if now <= view.next_update() {
                answer = CrlStatus::Good { number: view.number() };
            } else if !matches!(answer, CrlStatus::Good { .. }) {
                answer = CrlStatus::Stale { next_update: view.next_update() };
            }
        }
        answer
    }

    /// Every full list with its delta, with the SHA-256 of its issuer's SubjectPublicKeyInfo.
    pub fn views(&self) -> impl Iterator<Item = (&[u8; 32], &CrlView)> {
        self.lists.iter().filter_map(|((key_id, ..), held)| Some((key_id, held.view.as_ref()?)))
    }

    fn of_issuer(&self, key_id: &[u8; 32]) -> impl Iterator<Item = &Held> {
        let first: Key = (*key_id, Vec::new(), false, false);
        let key_id = *key_id;
        self.lists
            .range(first..)
            .take_while(move |((id, ..), _)| *id == key_id)
            .map(|(_, held)| held)
    }
}

impl Held {
    /// The full list with the delta if that fits it; without it otherwise.
    fn merge(&mut self) {
        self.view = self.full.clone().and_then(|full| {
            let view = CrlView::new(full).ok()?;
            match self.delta.clone() {
                Some(delta) => Some(view.clone().with_delta(delta).unwrap_or(view)),
                None => Some(view),
            }
        });
    }
}
