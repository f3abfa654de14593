//! Renewals that were refused, on record: each kind once an hour for each identity. Who asks in vain asks every few seconds,
//! and shall not fill the disk.

use std::collections::BTreeMap;

use handfast_pki::SpiffeId;
use handfast_store::{AuditRow, CredentialStore, Ledger};
use jiff::{SignedDuration, Timestamp};

use crate::authority::Authority;
use crate::renewal::RenewRefusal;

/// When which refusal was written down last.
#[derive(Debug, Default)]
pub(crate) struct RefusedRenewals(BTreeMap<(String, &'static str), Timestamp>);

impl RefusedRenewals {
    /// Whether this one is to be written down; it counts as written then.
    fn is_news(&mut self, who: &SpiffeId, code: &'static str, now: Timestamp) -> bool {
        self.0.retain(|_, at| now.duration_since(*at) < PAUSE && *at <= now);
        let key = (who.to_string(), code);
        if self.0.contains_key(&key) || self.0.len() >= REMEMBERED {
            return false;
        }
        self.0.insert(key, now);
        true
    }
}

impl<S: CredentialStore, L: Ledger> Authority<S, L> {
    /// Nothing was signed, so that a row which cannot be written changes nothing.
    pub(crate) fn note_refused_renewal(
        &self,
        who: &SpiffeId,
        refusal: &RenewRefusal,
        now: Timestamp,
    ) {
        // That something fails here is said elsewhere; it is no fault of whoever asks.
        let passing = matches!(refusal, RenewRefusal::NotReady(_) | RenewRefusal::Store(_));
        if passing || !self.memory().refused.is_news(who, refusal.code(), now) {
            return;
        }
        let row = AuditRow {
            at: now,
            actor: who.to_string(),
            action: "certificate.renew".to_owned(),
            subject: who.to_string(),
            outcome: "refused".to_owned(),
            detail: format!("{}: {refusal}", refusal.code()),
            why: String::new(),
        };
        if let Err(error) = self.ledger.audit(&row) {
            tracing::error!(%who, %error, "a refused renewal could not be recorded");
        }
    }
}

/// Between two rows about the same.
const PAUSE: SignedDuration = SignedDuration::from_hours(1);
/// Kinds of refusals that are told apart within that time; identities are proven, so that nobody makes them up.
const REMEMBERED: usize = 4096;
