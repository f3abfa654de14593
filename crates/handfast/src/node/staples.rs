//! What is stapled to the certificates that this node's ports present: filled by whoever makes OCSP answers, shared with whoever
//! builds configurations.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use handfast_pki::{Credential, Name};
use handfast_tls::Staple;

/// A staple for each credential that a port presents. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Staples(Arc<Mutex<Kept>>);

type Kept = BTreeMap<Name, (Arc<Credential>, Staple)>;

impl Staples {
    /// The staple of every configuration with this credential.
    pub(super) fn of(&self, name: &Name, credential: &Arc<Credential>) -> Staple {
        let mut kept = self.kept();
        if let Some((made_for, staple)) = kept.get(name)
            && Arc::ptr_eq(made_for, credential)
        {
            return staple.clone();
        }
        let staple = Staple::default();
        kept.insert(name.clone(), (Arc::clone(credential), staple.clone()));
        staple
    }

    /// All of them, with what they are stapled to.
    pub(super) fn all(&self) -> Vec<(Arc<Credential>, Staple)> {
        self.kept().values().cloned().collect()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
