//! The open connections of a port: who they are, and the means to end them. A connection that was
//! proven is judged again when something is revoked and when trust changes.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use handfast_pki::{CertificateId, Chain, Purpose, TrustAnchors, verify_chain};
use handfast_tls::{Fault, Revocations};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::shares::{Share, Shares};
use super::strangers::Source;
use super::{CONNECTIONS, Mode, Protection};
use crate::caller::{Caller, Identity, OwnDomain, Transport};

/// The connections of one port. Clones are the same register.
#[derive(Clone, Default)]
pub struct Connections(Arc<Inner>);

struct Inner {
    open: Mutex<HashMap<u64, Entry>>,
    shares: Mutex<Shares<Holder>>,
}

/// Whose a connection is: nobody shuts others out by opening many.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Holder {
    /// Whoever comes from there without a certificate.
    At(Source),
    /// The holder of an identity.
    Named(Bytes),
    /// Whoever may open the Unix socket.
    Local,
}

struct Entry {
    caller: Arc<Caller>,
    proof: Option<Proof>,
    since: Timestamp,
    ending: Ending,
}

impl Entry {
    fn revoked(&self, revocations: &Revocations, port: &str) -> Option<Fault> {
        let revoked = revocations.find_revoked(&self.proof.as_ref()?.path)?;
        Some(revoked.fault(format!("port {port}")))
    }

    /// Cuts it if there is a reason to, and says whether there was.
    fn cut(&self, why: impl Fn(&Self) -> Option<Fault>) -> bool {
        if self.ending.cut.is_cancelled() {
            return false;
        }
        let Some(fault) = why(self) else { return false };
        tracing::warn!(caller = %self.caller.name(), fault = %fault.one_line(), "cut");
        self.ending.cut.cancel();
        true
    }
}

/// How a connection is told to end.
#[derive(Clone)]
pub(super) struct Ending {
    /// At once.
    pub(super) cut: CancellationToken,
    /// When the calls under way are done.
    pub(super) finish: CancellationToken,
}

/// What a caller proved itself with.
pub(super) struct Proof {
    pub(super) chain: Chain,
    /// Its path up to an anchor.
    pub(super) path: Vec<CertificateId>,
}

/// One open connection, for tables.
#[derive(Clone, Debug)]
pub struct Open {
    /// Who is at the other end.
    pub caller: Arc<Caller>,
    /// Since when.
    pub since: Timestamp,
}

/// The place in the register; the connection leaves it when this is dropped.
pub(super) struct Registered {
    register: Connections,
    share: Share<Holder>,
    pub(super) ending: Ending,
}

impl Default for Inner {
    fn default() -> Self {
        Self { open: Mutex::default(), shares: Mutex::new(Shares::new(CONNECTIONS)) }
    }
}

impl Holder {
    fn of(caller: &Caller) -> Self {
        match caller.address {
            _ if !caller.label().is_empty() => Self::Named(caller.label().clone()),
            Some(address) => Self::At(Source::of(address.ip())),
            None => Self::Local,
        }
    }
}

impl Connections {
    /// `None` if there is no place for one more of this caller's.
    pub(super) fn enter(
        &self,
        caller: Arc<Caller>,
        proof: Option<Proof>,
        since: Timestamp,
    ) -> Option<Registered> {
        let share = self.shares().take(&Holder::of(&caller))?;
        let ending = Ending { cut: share.lost.clone(), finish: CancellationToken::new() };
        let entry = Entry { caller, proof, since, ending: ending.clone() };
        self.open_ones().insert(share.number, entry);
        Some(Registered { register: self.clone(), share, ending })
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.open_ones().len()
    }

    /// True if none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All that are open.
    pub fn list(&self) -> Vec<Open> {
        let entries = self.open_ones();
        let open = |e: &Entry| Open { caller: Arc::clone(&e.caller), since: e.since };
        entries.values().map(open).collect()
    }

    /// How many are open by transport.
    pub fn by_transport(&self) -> Vec<(Transport, usize)> {
        let mut counts: HashMap<Transport, usize> = HashMap::new();
        for entry in self.open_ones().values() {
            *counts.entry(entry.caller.transport).or_default() += 1;
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_unstable();
        counts
    }

    /// Ends every connection that was let in as a port was protected before and would not be now.
    pub(super) fn judge_again(&self, before: &Protection, now: &Protection) {
        if let Some(tls) = &now.tls {
            let before = before.tls.as_ref();
            if before.is_some_and(|before| before.anchors != tls.anchors) {
                self.cut_untrusted(&tls.anchors);
            }
            if before.is_some_and(|before| before.own != tls.own) {
                self.cut_disowned(tls.own.as_ref());
            }
        }
        if before.mode != now.mode {
            self.end_unadmitted(now.mode);
        }
    }

    /// Cuts every connection whose path holds a revoked certificate; says how many.
    pub(super) fn cut_revoked(&self, revocations: &Revocations, port: &str) -> u64 {
        self.cut(|entry| entry.revoked(revocations, port))
    }

    /// Cuts every connection whose chain does not lead to any of these anchors. It is judged as of the
    /// moment it was made: that a certificate has expired since is no reason to cut.
    fn cut_untrusted(&self, anchors: &TrustAnchors) -> u64 {
        self.cut(|entry| {
            let proof = entry.proof.as_ref()?;
            let error = verify_chain(&proof.chain, anchors, Purpose::Client, entry.since).err()?;
            let fault = Fault::new(
                handfast_tls::FaultCode::UnknownIssuer,
                handfast_tls::Side::Peer,
                "an open connection",
            );
            Some(fault.saying(format!("the caller is not trusted any more: {error}")))
        })
    }

    /// Cuts every connection that counts as one of our own domain and would not any more.
    fn cut_disowned(&self, own: Option<&OwnDomain>) -> u64 {
        self.cut(|entry| {
            let (Identity::Own(id), Some(proof)) = (&entry.caller.identity, &entry.proof) else {
                return None;
            };
            let is_own = own.is_some_and(|own| {
                own.trust_domain == *id.trust_domain()
                    && verify_chain(&proof.chain, &own.anchors, Purpose::Client, entry.since)
                        .is_ok()
            });
            let fault = || {
                Fault::new(
                    handfast_tls::FaultCode::WrongTrustDomain,
                    handfast_tls::Side::Peer,
                    "an open connection",
                )
            };
            (!is_own).then(|| fault().saying("the caller is not of our own trust domain any more"))
        })
    }

    /// Lets every connection end that the mode would not admit now.
    fn end_unadmitted(&self, mode: Mode) {
        for entry in self.open_ones().values() {
            if !mode.admits(entry.caller.transport) {
                entry.ending.finish.cancel();
            }
        }
    }

    pub(super) fn end_all(&self) {
        for entry in self.open_ones().values() {
            entry.ending.finish.cancel();
        }
    }

    pub(super) fn cut_all(&self) {
        for entry in self.open_ones().values() {
            entry.ending.cut.cancel();
        }
    }

    fn cut(&self, why: impl Fn(&Entry) -> Option<Fault>) -> u64 {
        let open = self.open_ones();
        let cut = open.values().filter(|entry| entry.cut(&why)).count();
        u64::try_from(cut).unwrap_or(u64::MAX)
    }

    fn shares(&self) -> MutexGuard<'_, Shares<Holder>> {
        self.0.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_ones(&self) -> MutexGuard<'_, HashMap<u64, Entry>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("open", &self.len()).finish_non_exhaustive()
    }
}

impl Registered {
    /// Cuts this connection if its path holds a revoked certificate. The others are looked at when something is
    /// revoked; to look at all of them whenever one comes would make a storm of agents quadratic.
    pub(super) fn cut_if_revoked(&self, revocations: &Revocations, port: &str) -> bool {
        let open = self.register.open_ones();
        open.get(&self.share.number)
            .is_some_and(|entry| entry.cut(|entry| entry.revoked(revocations, port)))
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.register.open_ones().remove(&self.share.number);
        self.register.shares().give_back(&self.share);
    }
}
