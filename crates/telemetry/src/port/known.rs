//! Callers whose chains were worked out before. After a handshake has proven who holds a certificate, what that
//! certificate stands for (its path up to an anchor, the identity that counts) is the same as the last time,
//! as long as the same anchors are trusted: when thousands of agents come back at once, it is looked up and
//! not verified a second time. Revocation is not remembered here: it is asked for at each handshake.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use handfast_pki::{CertificateId, Chain, Fingerprint};
use rustls::ServerConfig;

use crate::caller::Identity;

/// What a certificate stands for.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub(super) chain: Chain,
    pub(super) identity: Identity,
    pub(super) path: Vec<CertificateId>,
}

/// Certificates that were seen under one configuration.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    under: Option<Arc<ServerConfig>>,
    /// How often everything was forgotten.
    era: u64,
    standings: HashMap<Fingerprint, Arc<Standing>>,
}

impl Known {
    /// What is known of a certificate under this configuration.
    pub(super) fn find(
        &self,
        under: &Arc<ServerConfig>,
        leaf: &Fingerprint,
    ) -> Option<Arc<Standing>> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same = seen.under.as_ref().is_some_and(|config| Arc::ptr_eq(config, under));
        same.then(|| seen.standings.get(leaf).cloned()).flatten()
    }

    /// Forgets everybody, and what is being worked out at the moment.
    pub(super) fn forget(&self) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *seen = Seen { era: seen.era + 1, ..Seen::default() };
    }

    /// To be asked before something is worked out that is to be remembered.
    pub(super) fn era(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).era
    }

    /// Remembers it, unless everything was forgotten since it was begun; under another configuration everything
    /// else is forgotten.
    pub(super) fn remember(
        &self,
        era: u64,
        under: &Arc<ServerConfig>,
        leaf: Fingerprint,
        standing: Arc<Standing>,
    ) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.era != era {
            return;
        }
        if !seen.under.as_ref().is_some_and(|config| Arc::ptr_eq(config, under)) {
            *seen = Seen { under: Some(Arc::clone(under)), era, standings: HashMap::new() };
        }
        if seen.standings.len() >= STANDINGS {
            seen.standings.clear();
        }
        seen.standings.insert(leaf, standing);
    }
}

/// Certificates that are remembered; leaves live for a day, so most are in use.
const STANDINGS: usize = 16_384;
