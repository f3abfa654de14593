//! What is revoked, as every verifier of this process sees it at this moment.
//!
//! A [`Revocations`] is shared by whoever learns of revocations and by every verifier that was built
//! with it. It is read without a lock at each handshake, a look-up costs the same however much is
//! revoked, and recording one more revocation copies a 256th of what is known. What was recorded is
//! never taken back; lists that others publish are replaced as a whole.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use handfast_pki::{Certificate, CertificateId, CrlView, RevocationReason, Serial};
use jiff::Timestamp;

use crate::fault::{Fault, FaultCode, Side};
use crate::refusal::Refusal;

/// Since when a certificate is revoked, and why.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RevokedInfo {
    /// Since when.
    pub at: Timestamp,
    /// Why.
    pub reason: RevocationReason,
}

/// A certificate of a path that is revoked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Revoked {
    /// Which certificate.
    pub certificate: CertificateId,
    /// How far from the leaf it stands: 0 is the leaf itself.
    pub depth: usize,
    /// Since when, and why.
    pub info: RevokedInfo,
}

/// Why it cannot be told whether a certificate is revoked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Unknown {
    /// No list of its issuer is at hand.
    Missing(CertificateId),
    /// The newest list of its issuer was to be replaced before now.
    Stale {
        /// The certificate.
        certificate: CertificateId,
        /// When a newer list was due.
        next_update: Timestamp,
    },
}

impl Revoked {
    /// For a handshake with the holder of the path.
    pub(crate) fn refusal(&self) -> Refusal {
        let whose = if self.depth == 0 {
            "the peer's certificate was"
        } else {
            "a CA certificate above the peer's was"
        };
        let what = format!("{whose} revoked at {} ({})", self.info.at, self.info.reason);
        let refusal = Refusal::new(FaultCode::Revoked, Side::Peer, what);
        self.evidence().into_iter().fold(refusal, |refusal, (key, value)| refusal.with(key, value))
    }

    /// For a connection that was made before the revocation, and is cut because of it.
    pub fn fault(&self, place: impl Into<String>) -> Fault {
        let refusal = self.refusal();
        let fault = Fault::new(FaultCode::Revoked, Side::Peer, place).saying(&refusal.what);
        refusal.evidence.iter().fold(fault, |fault, (key, value)| fault.with(key, value))
    }

    fn evidence(&self) -> [(&'static str, String); 4] {
        [
            ("revocation-reason", self.info.reason.to_string()),
            ("revoked-at", self.info.at.to_string()),
            ("revoked-serial", self.certificate.serial.to_string()),
            ("issuer-key-id", self.certificate.issuer_hex()),
        ]
    }
}

impl Unknown {
    pub(crate) fn refusal(&self) -> Refusal {
        let (certificate, what) = match self {
            Self::Missing(certificate) => (
                certificate,
                "it cannot be told whether the peer's chain is revoked: there is no revocation \
                 list of one of its issuers"
                    .to_owned(),
            ),
            Self::Stale { certificate, next_update } => (
                certificate,
                format!(
                    "it cannot be told whether the peer's chain is revoked: the revocation list of \
                     one of its issuers was to be replaced by {next_update}"
                ),
            ),
        };
        let refusal = Refusal::new(FaultCode::RevocationUnknown, Side::Ours, what)
            .with("checked-serial", certificate.serial.to_string())
            .with("issuer-key-id", certificate.issuer_hex());
        match self {
            Self::Missing(_) => refusal,
            Self::Stale { next_update, .. } => refusal.with("next-update", next_update.to_string()),
        }
    }
}

/// A revocation list of one issuer, its delta merged, its signature checked by whoever made this.
#[derive(Clone, Debug)]
pub struct RevocationList {
    /// SHA-256 of the issuer's SubjectPublicKeyInfo.
    pub issuer_key_id: [u8; 32],
    /// What it says, and until when it holds.
    pub view: CrlView,
}

/// The view itself. Clones are the same view.
#[derive(Clone, Default)]
pub struct Revocations(Arc<Inner>);

#[derive(Default)]
struct Inner {
    current: ArcSwap<Snapshot>,
    generation: AtomicU64,
    /// One writer at a time; readers never wait.
    writing: Mutex<()>,
}

#[derive(Clone)]
struct Snapshot {
    recorded: Vec<Arc<HashMap<CertificateId, RevokedInfo>>>,
    count: usize,
    /// An issuer may publish several, each for a part of what it signs.
    lists: Arc<HashMap<[u8; 32], Vec<CrlView>>>,
    /// Issuers whose revocations are recorded here first: no list is needed to know them.
    own: Arc<HashSet<[u8; 32]>>,
}

/// Parts that what is recorded is kept in; a power of two, at most 256.
const SHARDS: usize = 256;

impl Default for Snapshot {
    fn default() -> Self {
        Self {
            recorded: vec![Arc::default(); SHARDS],
            count: 0,
            lists: Arc::default(),
            own: Arc::default(),
        }
    }
}

impl Revocations {
    /// A view in which nothing is revoked yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Records revocations and returns how many were news. What is recorded already stays as it is.
    pub fn record(&self, revoked: impl IntoIterator<Item = (CertificateId, RevokedInfo)>) -> usize {
        self.change(|snapshot| {
            let mut news = 0;
            for (certificate, info) in revoked {
                let shard = &mut snapshot.recorded[shard_of(&certificate.serial)];
                if !shard.contains_key(&certificate) {
                    Arc::make_mut(shard).insert(certificate, info);
                    news += 1;
                }
            }
            snapshot.count += news;
            news
        })
    }

    /// Replaces the lists that others published.
    pub fn set_lists(&self, lists: impl IntoIterator<Item = RevocationList>) {
        let mut by_issuer: HashMap<[u8; 32], Vec<CrlView>> = HashMap::new();
        for RevocationList { issuer_key_id, view } in lists {
            by_issuer.entry(issuer_key_id).or_default().push(view);
        }
        self.change(|snapshot| snapshot.lists = Arc::new(by_issuer));
    }

    /// Says which issuers' revocations are recorded here before anywhere else, so that what is not
    /// recorded is known to be good.
    pub fn set_own_issuers(&self, issuers: impl IntoIterator<Item = [u8; 32]>) {
        let own: HashSet<[u8; 32]> = issuers.into_iter().collect();
        if *self.0.current.load().own != own {
            self.change(|snapshot| snapshot.own = Arc::new(own));
        }
    }

    /// Since when and why a certificate is revoked, if it is. What was recorded goes before lists.
    pub fn is_revoked(&self, issuer_key_id: &[u8; 32], serial: &Serial) -> Option<RevokedInfo> {
        let id = CertificateId { issuer_key_id: *issuer_key_id, serial: serial.clone() };
        self.0.current.load().find(&id)
    }

    /// The first certificate of a path, leaf first, that is revoked.
    pub fn find_revoked(&self, path: &[CertificateId]) -> Option<Revoked> {
        let snapshot = self.0.current.load();
        path.iter().enumerate().find_map(|(depth, certificate)| {
            let info = snapshot.find(certificate)?;
            Some(Revoked { certificate: certificate.clone(), depth, info })
        })
    }

    /// The first certificate of a path of which it cannot be told whether it is revoked: whose issuer
    /// is none of ours and has no list for it that is fresh at `now`.
    pub fn find_unknown(
        &self,
        path: &[(CertificateId, Certificate)],
        now: Timestamp,
    ) -> Option<Unknown> {
        let snapshot = self.0.current.load();
        path.iter().find_map(|(id, certificate)| {
            if snapshot.own.contains(&id.issuer_key_id) {
                return None;
            }
            let lists = snapshot.lists.get(&id.issuer_key_id).into_iter().flatten();
            let covering = lists.filter(|view| view.full().covers(certificate));
            match covering.map(CrlView::next_update).max() {
                None => Some(Unknown::Missing(id.clone())),
                Some(next_update) => (now > next_update)
                    .then(|| Unknown::Stale { certificate: id.clone(), next_update }),
            }
        })
    }

    /// The lists at hand, in no order.
    pub fn lists(&self) -> Vec<RevocationList> {
        let lists = Arc::clone(&self.0.current.load().lists);
        let of = |(issuer_key_id, views): (&[u8; 32], &Vec<CrlView>)| {
            let issuer_key_id = *issuer_key_id;
            views
                .iter()
                .map(move |view| RevocationList { issuer_key_id, view: view.clone() })
                .collect::<Vec<_>>()
        };
        lists.iter().flat_map(of).collect()
    }

    /// How many revocations are recorded; entries of lists are not counted.
    pub fn recorded(&self) -> usize {
        self.0.current.load().count
    }

    /// A number that grows with every change of the view.
    pub fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Snapshot) -> T) -> T {
        let _turn = self.0.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = Snapshot::clone(&self.0.current.load());
        let outcome = change(&mut next);
        self.0.current.store(Arc::new(next));
        // After the view: whoever sees the number sees what it stands for.
        self.0.generation.fetch_add(1, Ordering::Release);
        outcome
    }
}

impl Snapshot {
    fn find(&self, certificate: &CertificateId) -> Option<RevokedInfo> {
        let recorded = self.recorded[shard_of(&certificate.serial)].get(certificate);
        recorded.copied().or_else(|| {
            let mut lists = self.lists.get(&certificate.issuer_key_id)?.iter();
            let entry = lists.find_map(|view| view.lookup(&certificate.serial))?;
            Some(RevokedInfo { at: entry.at, reason: entry.reason })
        })
    }
}

/// Serials of ours are random; others' often count upwards: the last octet spreads both.
fn shard_of(serial: &Serial) -> usize {
    serial.as_bytes().last().map_or(0, |octet| usize::from(*octet)) % SHARDS
}

impl fmt::Debug for Revocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let snapshot = self.0.current.load();
        f.debug_struct("Revocations")
            .field("recorded", &snapshot.count)
            .field("lists", &snapshot.lists.len())
            .field("generation", &self.generation())
            .finish_non_exhaustive()
    }
}

/// What a verifier does about revocation. The default knows of no revocation and asks for no list.
#[derive(Clone, Debug, Default)]
pub struct RevocationCheck {
    /// What is revoked.
    pub view: Revocations,
    /// Refuse a certificate of which it cannot be told whether it is revoked. Without it, only what
    /// is known to be revoked is refused.
    pub require: bool,
}

impl RevocationCheck {
    /// Refuses what `view` knows to be revoked.
    pub fn by(view: Revocations) -> Self {
        Self { view, require: false }
    }

    /// Refuses also what cannot be told.
    #[must_use]
    pub fn required(mut self, require: bool) -> Self {
        self.require = require;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn id(issuer: u8, serial: u32) -> CertificateId {
        CertificateId {
            issuer_key_id: [issuer; 32],
            serial: Serial::from_der_integer(&[&[0], serial.to_be_bytes().as_slice()].concat()),
        }
    }

    fn info(second: i64) -> RevokedInfo {
        RevokedInfo {
            at: Timestamp::from_second(second).expect("a moment"),
            reason: RevocationReason::KeyCompromise,
        }
    }

    #[test]
    fn the_first_time_and_reason_stay_and_clones_are_one_view() {
        let view = Revocations::new();
        let other = view.clone();
        assert_eq!(view.record([(id(1, 5), info(10))]), 1);
        assert_eq!(other.record([(id(1, 5), info(20)), (id(1, 6), info(20))]), 1);
        assert_eq!(view.is_revoked(&[1; 32], &id(1, 5).serial), Some(info(10)));
        assert_eq!((view.recorded(), view.generation()), (2, 2));
        assert_eq!(view.is_revoked(&[2; 32], &id(1, 5).serial), None, "another issuer's");
    }

    #[test]
    fn a_path_is_as_good_as_its_worst_certificate() {
        let view = Revocations::new();
        view.record([(id(9, 1), info(3))]);
        let path = [id(1, 1), id(9, 1)];
        let found = view.find_revoked(&path).expect("its CA is revoked");
        assert_eq!((found.depth, found.certificate), (1, id(9, 1)));
        assert_eq!(view.find_revoked(&path[..1]), None);
    }

    proptest! {
        /// The view agrees with a plain map, whatever is recorded in whatever order.
        #[test]
        fn the_view_is_a_map_in_which_the_first_entry_stays(
            records in vec((0_u8..4, 0_u32..600, 0_i64..1000), 0..200),
        ) {
            let view = Revocations::new();
            let mut plain: HashMap<CertificateId, RevokedInfo> = HashMap::new();
            for batch in records.chunks(7) {
                let batch: Vec<_> = batch.iter().map(|(i, s, t)| (id(*i, *s), info(*t))).collect();
                let before = plain.len();
                for (id, info) in &batch {
                    plain.entry(id.clone()).or_insert(*info);
                }
                prop_assert_eq!(view.record(batch), plain.len() - before);
            }
            prop_assert_eq!(view.recorded(), plain.len());
            for issuer in 0..4 {
                for serial in 0..600 {
                    let id = id(issuer, serial);
                    let expected = plain.get(&id).copied();
                    prop_assert_eq!(view.is_revoked(&id.issuer_key_id, &id.serial), expected);
                }
            }
        }
    }
}
