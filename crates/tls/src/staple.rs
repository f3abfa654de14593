//! Stapling (RFC 6066 section 8, RFC 8446 section 4.4.2.1): a server sends the OCSP response for its own
//! certificate along, if the client asks. Where the response comes from, and that it is fresh, is for others:
//! here it is bytes that are swapped live.

use std::fmt;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// The OCSP response that a configuration sends along; nothing until it is set. Clones share it, so whoever
/// keeps one can renew the response while the configuration is in use.
#[derive(Clone, Default)]
pub struct Staple(Arc<ArcSwapOption<Vec<u8>>>);

impl Staple {
    /// Sends `response` (DER) along from the next handshake on, or nothing.
    pub fn set(&self, response: Option<Vec<u8>>) {
        self.0.store(response.map(Arc::new));
    }

    /// Whether there is a response to send.
    pub fn is_set(&self) -> bool {
        self.0.load().is_some()
    }
}

impl fmt::Debug for Staple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Staple").field("is_set", &self.is_set()).finish()
    }
}

/// One certificate, with whatever is stapled to it at the moment.
pub(crate) struct Stapled {
    bare: Arc<CertifiedKey>,
    staple: Staple,
    /// The last pair that was put together: handshakes are more frequent than new responses.
    made: ArcSwap<Made>,
}

struct Made {
    response: Option<Arc<Vec<u8>>>,
    key: Arc<CertifiedKey>,
}

impl Stapled {
    pub(crate) fn new(key: CertifiedKey, staple: Staple) -> Self {
        let bare = Arc::new(key);
        let made = ArcSwap::from_pointee(Made { response: None, key: Arc::clone(&bare) });
        Self { bare, staple, made }
    }

    fn current(&self) -> Arc<CertifiedKey> {
        let wanted = self.staple.0.load_full();
        let made = self.made.load();
        let same = match (&made.response, &wanted) {
            (None, None) => true,
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        };
        if same {
            return Arc::clone(&made.key);
        }
        let mut key = CertifiedKey::clone(&self.bare);
        key.ocsp = wanted.as_deref().cloned();
        let key = Arc::new(key);
        self.made.store(Arc::new(Made { response: wanted, key: Arc::clone(&key) }));
        key
    }
}

impl ResolvesServerCert for Stapled {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

impl fmt::Debug for Stapled {
    /// Never shows the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stapled").field("staple", &self.staple).finish_non_exhaustive()
    }
}
