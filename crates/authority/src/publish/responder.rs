//! The OCSP responders as credentials among others: they are nowhere on disk, and end like any other.

use std::collections::BTreeMap;

use handfast_pki::Name;
use handfast_store::{Kind, Source};
use jiff::Timestamp;

use super::{PublishError, Published, PublishedIssuer, Publisher, lock};
use crate::decide::Failure;
use crate::keyring::KeyPlace;
use crate::report::{CredentialFacts, CredentialState, Tally};

/// What became of the work for one CA since the start.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    tally: Tally,
    failure: Option<Failure>,
}

impl Publisher {
    /// The responders that answer now, by name, for lists and metrics. Waits for no disk.
    pub fn responders(&self, now: Timestamp) -> Vec<CredentialFacts> {
        let published = self.published();
        let progress = lock(&self.progress).clone();
        let mut all: Vec<CredentialFacts> = published
            .issuers()
            .filter_map(|issuer| facts(&published, &progress, issuer, now))
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Counts what was made for a CA; `appointed` if a responder was among it.
    pub(super) fn made(&self, ca: &Name, appointed: bool) {
        let mut progress = lock(&self.progress);
        let progress = progress.entry(ca.clone()).or_default();
        progress.failure = None;
        progress.tally.renewed += u64::from(appointed);
    }

    /// Counts what could not be made for a CA.
    pub(super) fn failed(&self, ca: &Name, error: &PublishError, now: Timestamp) {
        let mut progress = lock(&self.progress);
        let progress = progress.entry(ca.clone()).or_default();
        progress.tally.failed += 1;
        let count = progress.failure.as_ref().map_or(0, |failure| failure.count);
        progress.failure =
            Some(Failure { count: count.saturating_add(1), last: now, what: error.to_string() });
    }
}

fn facts(
    published: &Published,
    progress: &BTreeMap<Name, Progress>,
    issuer: &PublishedIssuer,
    now: Timestamp,
) -> Option<CredentialFacts> {
    let certificate = issuer.signer.certificate();
    // Several keys of one CA have a responder each; the one of the key in use goes by the CA's name.
    let newest = published.issuer(issuer.name.as_str())?;
    let name = if newest.key_id == issuer.key_id {
        format!("{}-ocsp", issuer.name)
    } else {
        format!("{}-ocsp-{}", issuer.name, issuer.label())
    };
    let renew_at = super::issuer::renew_at(certificate);
    let Progress { tally, failure } = progress.get(&issuer.name).cloned().unwrap_or_default();
    Some(CredentialFacts {
        kind: Kind::Certificate,
        name: name.parse().ok()?,
        identity: certificate.common_name().map(ToOwned::to_owned),
        serial: Some(certificate.serial().to_string()),
        issuer: Some(certificate.issuer().to_owned()),
        not_before: Some(certificate.not_before()),
        not_after: Some(certificate.not_after()),
        renew_at: Some(renew_at),
        source: Source::Managed,
        state: if certificate.not_after() <= now {
            CredentialState::Expired
        } else if renew_at <= now {
            CredentialState::Expiring
        } else {
            CredentialState::Ready
        },
        fingerprint: Some(certificate.fingerprint().to_string()),
        key: Some(KeyPlace::Memory),
        failure,
        tally,
    })
}
