//! The authority of one site: what it holds on to between decisions, and who may run when.
//!
//! The decisions are in `decide`, what carries them out in `reconcile` and `making`, what it
//! answers to others in `redeem` and `peer`. Its methods block on disk and on the prover: call
//! them from a thread that may.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use handfast_pki::{
    Certificate, CertificateId, Credential, Entropy, KeyAlgorithm, Name, SystemEntropy,
    TrustAnchors,
};
use handfast_store::{AuditRow, CredentialStore, Ledger, StoreError};
use jiff::Timestamp;

use crate::agent::AgentsHeard;
use crate::decide::{Failure, Key};
use crate::declared::Declared;
use crate::issue::ReadyIssuers;
use crate::keyring::{KeySecrets, Keyring, Tokens};
use crate::refused::RefusedRenewals;
use crate::report::Tally;
use crate::rotating::SiteSeen;

/// Decides and signs for one site, on a credential store `S` and a ledger `L`.
///
/// All methods take `&self` and may be called from several threads. Reconciling and completing
/// enrolments happen one at a time; so does signing for any one other site, and none of it happens
/// while something is revoked. Signing for different sites goes on side by side.
pub struct Authority<S, L> {
    pub(crate) store: Arc<S>,
    pub(crate) ledger: Arc<L>,
    pub(crate) prover: Box<dyn Prove>,
    pub(crate) keys: Keyring,
    pub(crate) key_algorithm: KeyAlgorithm,
    pub(crate) revoked: Box<RevokedSince>,
    pub(crate) memory: Mutex<Memory>,
    pub(crate) entropy: Mutex<Box<dyn Entropy + Send>>,
    pub(crate) ready: ReadyIssuers,
    reconciling: Mutex<()>,
    signing: RwLock<()>,
    /// One of these is held while something is signed for a site; which, its name says.
    turns: [Mutex<()>; TURNS],
}

/// Since when a certificate is revoked, if it is, whoever revoked it.
type RevokedSince = dyn Fn(&CertificateId) -> Option<Timestamp> + Send + Sync;

/// Proves that a new credential works, before it takes the place of the one in use.
///
/// The node proves a certificate by a real handshake with it; issuers are proven here, without
/// this. A refusal leaves the credential staged, to be proven again later.
pub trait Prove: Send + Sync + 'static {
    /// Proves the credential of this name, or says in one sentence why that failed.
    ///
    /// Called while a reconciliation is under way: must not wait for anything that reconciles, or
    /// completes an enrolment, itself.
    fn prove(&self, name: &Name, credential: &Credential) -> Result<(), String>;
}

impl<F> Prove for F
where
    F: Fn(&Name, &Credential) -> Result<(), String> + Send + Sync + 'static,
{
    fn prove(&self, name: &Name, credential: &Credential) -> Result<(), String> {
        self(name, credential)
    }
}

/// What is remembered between reconciliations, and rebuilt from nothing after a restart.
#[derive(Default)]
pub(crate) struct Memory {
    /// What was declared last.
    pub(crate) declared: Option<Arc<Declared>>,
    /// What failed, and how often in a row.
    pub(crate) failures: BTreeMap<Key, Failure>,
    /// What was done and what failed since the start.
    pub(crate) tallies: BTreeMap<Key, Tally>,
    /// What somebody asked to have renewed.
    pub(crate) asked: BTreeSet<Key>,
    /// The last good credential of each name.
    pub(crate) live: BTreeMap<Name, Arc<Credential>>,
    /// The last good certificate of each issuer that is used by its name.
    pub(crate) issuers: BTreeMap<Name, Certificate>,
    /// The agents that asked when to renew.
    pub(crate) agents_heard: AgentsHeard,
    /// The sites that link here, as the network saw them last.
    pub(crate) sites: BTreeMap<Name, SiteSeen>,
    /// Anchors that an authority gave up in order, by authority.
    pub(crate) retired: BTreeMap<Name, TrustAnchors>,
    /// The key that signs at the other end of a link now, by the link's credential.
    pub(crate) signers: BTreeMap<Name, [u8; 32]>,
    /// When the last of what a key signed expires, for keys that sign no more.
    pub(crate) answers_until: BTreeMap<[u8; 32], Option<Timestamp>>,
    /// Renewals that were refused lately.
    pub(crate) refused: RefusedRenewals,
    /// When the next rotation goes on by itself.
    pub(crate) rotation_wake: Option<Timestamp>,
}

impl<S: CredentialStore, L: Ledger> Authority<S, L> {
    /// An authority that works on `store` and `ledger`, and proves new credentials by `prover`.
    pub fn new(store: Arc<S>, ledger: Arc<L>, prover: impl Prove) -> Self {
        Self {
            store,
            ledger,
            prover: Box::new(prover),
            keys: Keyring::default(),
            key_algorithm: KeyAlgorithm::EcdsaP256,
            revoked: Box::new(|_| None),
            memory: Mutex::new(Memory::default()),
            entropy: Mutex::new(Box::new(SystemEntropy)),
            ready: ReadyIssuers::default(),
            reconciling: Mutex::new(()),
            signing: RwLock::new(()),
            turns: [const { Mutex::new(()) }; TURNS],
        }
    }

    /// With tokens, in which the keys of supplied issuers may be.
    #[must_use]
    pub fn with_tokens(mut self, tokens: impl Tokens) -> Self {
        self.keys.with_tokens(tokens);
        self
    }

    /// Takes over the secrets that open encrypted keys, supplied ones too, and that new keys of
    /// issuers are encrypted with. Before the first reconciliation, and whenever they may have changed.
    pub fn set_key_secrets(&self, secrets: KeySecrets) {
        self.keys.set_secrets(secrets);
    }

    /// With another kind of keys than ECDSA P-256 for what is made from now on.
    #[must_use]
    pub fn with_key_algorithm(mut self, algorithm: KeyAlgorithm) -> Self {
        self.key_algorithm = algorithm;
        self
    }

    /// With what tells since when a certificate is revoked, asked for every credential at every
    /// reconciliation: a managed one that is revoked is made anew. Must not block.
    #[must_use]
    pub fn with_revoked(
        mut self,
        revoked: impl Fn(&CertificateId) -> Option<Timestamp> + Send + Sync + 'static,
    ) -> Self {
        self.revoked = Box::new(revoked);
        self
    }

    /// With another source of randomness than the system's, for serials and codes.
    #[must_use]
    pub fn with_entropy(mut self, entropy: impl Entropy + Send + 'static) -> Self {
        self.entropy = Mutex::new(Box::new(entropy));
        self
    }

    /// The last good credential of this name, as of the last reconciliation.
    ///
    /// It stays the last good one while what is on disk is broken.
    pub fn live(&self, name: &Name) -> Option<Arc<Credential>> {
        self.memory().live.get(name).map(Arc::clone)
    }

    /// Has everything that failed tried again soon, as after a first failure: for when what stood in
    /// the way (a full disk, a wrong clock) is known to be gone.
    pub fn try_again(&self) {
        for failure in self.memory().failures.values_mut() {
            failure.count = failure.count.min(1);
        }
    }

    /// The store it works on.
    pub fn store(&self) -> &Arc<S> {
        &self.store
    }

    /// The ledger it works on.
    pub fn ledger(&self) -> &Arc<L> {
        &self.ledger
    }

    /// What was declared at the last reconciliation; nothing before the first.
    pub(crate) fn declared(&self) -> Option<Arc<Declared>> {
        self.memory().declared.as_ref().map(Arc::clone)
    }

    pub(crate) fn memory(&self) -> MutexGuard<'_, Memory> {
        lock(&self.memory)
    }

    pub(crate) fn entropy(&self) -> MutexGuard<'_, Box<dyn Entropy + Send>> {
        lock(&self.entropy)
    }

    pub(crate) fn reconciling(&self) -> MutexGuard<'_, ()> {
        lock(&self.reconciling)
    }

    /// While this is held, nothing is signed for others.
    pub(crate) fn signing(&self) -> RwLockWriteGuard<'_, ()> {
        self.signing.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// While this is held, nobody else signs for this site, and nothing is revoked.
    pub(crate) fn signing_for(&self, site: &Name) -> (RwLockReadGuard<'_, ()>, MutexGuard<'_, ()>) {
        let signing = self.signing.read().unwrap_or_else(PoisonError::into_inner);
        let sum = site
            .as_str()
            .bytes()
            .fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte)));
        (signing, lock(&self.turns[sum % TURNS]))
    }

    /// Counts a failure against a credential, for the back-off and the report.
    pub(crate) fn failed(&self, key: &Key, what: String, now: Timestamp) {
        tracing::warn!(kind = %key.0, name = %key.1, what, "a credential could not be renewed");
        let mut memory = self.memory();
        let tally = memory.tallies.entry(key.clone()).or_default();
        tally.failed = tally.failed.saturating_add(1);
        let failure = memory.failures.entry(key.clone()).or_insert_with(|| Failure {
            count: 0,
            last: now,
            what: String::new(),
        });
        failure.count = failure.count.saturating_add(1);
        failure.last = now;
        failure.what = what;
    }

    /// Forgets the failures of a credential.
    pub(crate) fn succeeded(&self, key: &Key) {
        self.memory().failures.remove(key);
    }

    /// Adds an audit row for something this site's own node did.
    pub(crate) fn audit(
        &self,
        action: &str,
        key: &Key,
        detail: String,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.ledger.audit(&own_audit(action, key, detail, now)).map(drop)
    }
}

/// An audit row of the node itself.
pub(crate) fn own_audit(action: &str, key: &Key, detail: String, now: Timestamp) -> AuditRow {
    AuditRow {
        at: now,
        actor: "node".to_owned(),
        action: action.to_owned(),
        subject: format!("{} {}", key.0, key.1),
        outcome: "ok".to_owned(),
        detail,
        why: String::new(),
    }
}

/// A panic elsewhere does not make what these locks protect invalid: each change is one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sites of different names rarely wait for each other.
const TURNS: usize = 64;
