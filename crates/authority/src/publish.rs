//! Revocation for whoever is not told by a link: CRLs and OCSP answers, made from the ledger's rows.
//!
//! Everything is kept by the key that signed: a CA that is made anew gets lists of its own, while those of the
//! key before are made anew as long as something that it signed has not expired. The lists are made here and
//! handed out by others.

mod answer;
mod issuer;
mod pointers;
mod responder;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use handfast_pki::{Certificate, CrlBuilder, Issuer, Name, RevokedEntry};
use handfast_store::{CredentialStore, Kind, Ledger, StoreError};
use jiff::Timestamp;

use crate::authority::Authority;
use crate::making::MakingError;

use answer::Answers;
pub use answer::OcspAnswer;
use issuer::Signer;
pub(crate) use pointers::pointers;
use responder::Progress;

/// What is published, and what it is made from. Shared by whoever publishes and whoever hands out.
#[derive(Debug)]
pub struct Publisher {
    interval: Duration,
    state: Mutex<State>,
    view: Mutex<Arc<Published>>,
    answers: Mutex<Answers>,
    /// By CA.
    progress: Mutex<BTreeMap<Name, Progress>>,
}

/// What only publishing touches.
#[derive(Debug, Default)]
struct State {
    /// The number of the newest revocation read.
    sequence: u64,
    lists: BTreeMap<[u8; 32], Lists>,
}

/// The lists of one key.
#[derive(Debug, Default)]
struct Lists {
    builder: CrlBuilder,
    /// Whether there are entries that no published list has.
    news: bool,
    /// When a full list was last made, and when the one that deltas continue.
    made: Option<Timestamp>,
    base_made: Option<Timestamp>,
    signer: Option<Signer>,
}

/// Everything that is handed out at one moment.
#[derive(Clone, Debug, Default)]
pub struct Published {
    issuers: BTreeMap<[u8; 32], Arc<PublishedIssuer>>,
}

/// What is handed out for one CA.
#[derive(Clone, Debug)]
pub struct PublishedIssuer {
    /// The credential's name.
    pub name: Name,
    /// Its certificate.
    pub certificate: Certificate,
    /// The number of its newest list.
    pub number: u64,
    /// Its full CRL.
    pub full: Document,
    /// What changed since the full CRL that was last made on schedule.
    pub delta: Document,
    /// How many certificates are listed.
    pub revoked: usize,
    signer: handfast_pki::ocsp::OcspSigner,
    key_id: [u8; 32],
}

/// A signed list, in DER.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Document {
    /// Its octets.
    pub der: Arc<[u8]>,
    /// When it was made.
    pub this_update: Timestamp,
    /// Until when it is good.
    pub next_update: Timestamp,
}

/// What came of publishing.
#[derive(Debug)]
pub struct PublishReport {
    /// CAs whose lists could not be made, and why. What was published before is still handed out.
    pub failed: Vec<(Name, PublishError)>,
    /// When to publish again if nothing is revoked before.
    pub next: Timestamp,
}

/// Why lists could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The list could not be signed.
    #[error(transparent)]
    Crl(#[from] handfast_pki::CrlError),
    /// The CA cannot sign, or its OCSP responder could not be appointed.
    #[error(transparent)]
    Making(#[from] MakingError),
    /// The responder's certificate cannot be used.
    #[error(transparent)]
    Ocsp(#[from] handfast_pki::ocsp::OcspError),
    /// The ledger failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Publisher {
    /// How often lists are made anew unless something is revoked. A full list is good for four times, a
    /// delta and an OCSP answer for twice as long, so that one missed time breaks nobody.
    pub const INTERVAL: Duration = Duration::from_secs(3600);

    /// A publisher that has published nothing yet; `interval` is at least a second.
    pub fn new(interval: Duration) -> Self {
        Self {
            interval: interval.max(Duration::from_secs(1)),
            state: Mutex::default(),
            view: Mutex::default(),
            answers: Mutex::default(),
            progress: Mutex::default(),
        }
    }

    /// What is handed out now.
    pub fn published(&self) -> Arc<Published> {
        Arc::clone(&lock(&self.view))
    }

    fn due(&self, made: Option<Timestamp>, now: Timestamp) -> bool {
        // A clock that was set back would leave the lists as they are for as long.
        made.is_none_or(|made| now >= made + self.interval || now < made - self.interval)
    }
}

impl Published {
    /// The CA that goes by `label`: the first 16 hex digits of its key's SHA-256, which certificates point
    /// to, or the credential's name, for people.
    pub fn issuer(&self, label: &str) -> Option<&Arc<PublishedIssuer>> {
        let named = |issuer: &&Arc<PublishedIssuer>| issuer.name.as_str() == label;
        let by_key = self.issuers.values().find(|issuer| issuer.label() == label);
        // Several keys of one name: the newest certificate is the one in use.
        by_key.or_else(|| {
            self.issuers.values().filter(named).max_by_key(|issuer| issuer.certificate.not_before())
        })
    }

    /// Every CA.
    pub fn issuers(&self) -> impl Iterator<Item = &Arc<PublishedIssuer>> {
        self.issuers.values()
    }
}

impl PublishedIssuer {
    /// What its lists are called in URLs.
    pub fn label(&self) -> String {
        pointers::label(&self.key_id)
    }

    fn has_signer_of(&self, other: &Self) -> bool {
        self.signer.certificate() == other.signer.certificate()
    }
}

impl<S: CredentialStore, L: Ledger> Authority<S, L> {
    /// Reads what was revoked since the last time and makes the lists that are due: all of a CA's when one of
    /// its certificates was revoked, otherwise each interval. Cheap when nothing is due.
    ///
    /// Nothing is published before the first reconciliation, nor while no place is declared.
    pub fn publish_revocation(&self, publisher: &Publisher, now: Timestamp) -> PublishReport {
        let mut report = PublishReport { failed: Vec::new(), next: now + publisher.interval };
        let Some(declared) = self.declared() else { return report };
        let Some(base) = &declared.distribution else { return report };
        let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
        let mut state = lock(&publisher.state);
        if let Err(error) = self.read_revocations(&mut state) {
            report.failed.push((declared.names.site_ca.clone(), error.into()));
            return report;
        }
        let names = &declared.names;
        let mut published = Published::clone(&publisher.published());
        let mut news = false;
        for name in [&names.root, &names.site_ca, &names.local_ca, &names.service_ca] {
            let issuers = match self.publishing(name, *name == names.root, now) {
                Ok(issuers) => issuers,
                Err(error) => {
                    publisher.failed(name, &error, now);
                    report.failed.push((name.clone(), error));
                    continue;
                }
            };
            for issuer in &issuers {
                match self.publish_issuer(publisher, &mut state, name, issuer, base, now) {
                    Ok(Some(issuer)) => {
                        news = true;
                        let before = published.issuers.get(&issuer.key_id);
                        publisher.made(name, before.is_none_or(|b| !b.has_signer_of(&issuer)));
                        published.issuers.insert(issuer.key_id, Arc::new(issuer));
                    }
                    Ok(None) => {}
                    Err(error) => {
                        publisher.failed(name, &error, now);
                        report.failed.push((name.clone(), error));
                    }
                }
            }
        }
        let before = published.issuers.len();
        published.issuers.retain(|_, issuer| issuer.full.next_update >= now);
        if news || published.issuers.len() != before {
            *lock(&publisher.view) = Arc::new(published);
            lock(&publisher.answers).forget();
        }
        let due = state.lists.values().filter_map(|lists| lists.next_due(publisher.interval)).min();
        report.next = due.unwrap_or(report.next).min(report.next).max(now);
        report
    }

    /// A CA with every key that lists are to be signed with: the one in use, and those of before that have
    /// still to answer for something. None if there is no such CA.
    fn publishing(
        &self,
        name: &Name,
        is_root: bool,
        now: Timestamp,
    ) -> Result<Vec<Issuer>, PublishError> {
        if self.store.load(Kind::Issuer, name)?.is_none() {
            return Ok(Vec::new());
        }
        let mut issuers = self.answering(name, is_root, now)?;
        match self.issuer(name) {
            Ok(issuer) => issuers.insert(0, issuer),
            // The others go on answering; that this one does not is for whoever issues to say.
            Err(error) if issuers.is_empty() => return Err(error.into()),
            Err(error) => tracing::error!(authority = %name, %error, "its lists are not made"),
        }
        Ok(issuers)
    }

    fn read_revocations(&self, state: &mut State) -> Result<(), StoreError> {
        loop {
            let page = self.ledger.revocations_after(state.sequence, PAGE)?;
            for recorded in &page {
                let revoked = &recorded.revocation;
                let entry = RevokedEntry {
                    serial: revoked.serial.clone(),
                    at: revoked.at,
                    reason: revoked.reason,
                };
                let lists = state.lists.entry(revoked.issuer_key_id).or_default();
                lists.news |= lists.builder.push(&entry, revoked.not_after);
                state.sequence = state.sequence.max(recorded.sequence);
            }
            if page.len() < PAGE as usize {
                return Ok(());
            }
        }
    }
}

impl Lists {
    fn next_due(&self, interval: Duration) -> Option<Timestamp> {
        let renew = self.signer.as_ref().map(Signer::renew_at);
        let lists = self.made.map(|made| made + interval);
        [renew, lists].into_iter().flatten().min()
    }
}

/// Revocations read at a time.
const PAGE: u32 = 10_000;

/// A panic elsewhere does not make what these locks protect invalid: each change is one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
