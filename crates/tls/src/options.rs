//! What a configuration can be asked for. Plain data with defaults that are safe inside the
//! fabric; `config` turns it into configurations of rustls.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use handfast_pki::{IdentityKind, TrustAnchors, TrustDomain};
use jiff::Timestamp;
use rustls::pki_types::UnixTime;
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};

use crate::identity::IdentityRule;
use crate::revocation::RevocationCheck;
use crate::staple::Staple;

/// Application protocol of a handfast link (ALPN, RFC 7301).
pub const LINK_ALPN: &[u8] = b"handfast-link/1";

/// Whether a server asks for a client certificate.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ClientAuth {
    /// It does not ask; peers are anonymous.
    None,
    /// It asks, and a client that has none is anonymous. One that is presented is judged as with `Required`: what is
    /// wrong with it refuses the client.
    Optional,
    /// It asks, and refuses a client that has none.
    #[default]
    Required,
}

/// The oldest TLS version that is spoken.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Floor {
    /// TLS 1.2 (RFC 5246) and newer: for edges towards old software.
    Tls12,
    /// TLS 1.3 (RFC 8446) only: the rule inside the fabric.
    #[default]
    Tls13,
}

/// Where the verifiers of a configuration get the time from. The default is the system clock.
#[derive(Clone)]
pub struct Clock(pub(crate) Arc<dyn TimeProvider>);

impl Clock {
    /// A clock that stands still: for checks at a given moment and for tests.
    pub fn fixed(now: Timestamp) -> Self {
        Self(Arc::new(Fixed(unix_time(now))))
    }

    /// Any source of time that rustls accepts.
    pub fn from_provider(provider: Arc<dyn TimeProvider>) -> Self {
        Self(provider)
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self(Arc::new(DefaultTimeProvider))
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How a server accepts. `Default`: TLS 1.3, client certificate required, any identity, no ALPN.
#[derive(Clone, Debug, Default)]
pub struct ServerOptions {
    /// Application protocols, most wanted first; empty means ALPN is not negotiated. A client
    /// that offers only others is refused; one that offers none is accepted
    /// (see [`Session::require_alpn`](crate::Session::require_alpn)).
    pub alpn: Vec<Vec<u8>>,
    /// Whether clients have to present a certificate.
    pub client_auth: ClientAuth,
    /// Source of time for validity checks.
    pub clock: Clock,
    /// Oldest TLS version.
    pub floor: Floor,
    /// Which client identities are allowed; not looked at with [`ClientAuth::None`].
    pub identities: IdentityRule,
    /// What is revoked, looked up at every handshake for the whole path; not looked at with
    /// [`ClientAuth::None`].
    pub revocation: RevocationCheck,
    /// The OCSP response that is sent along to clients that ask for it; nothing until it is set.
    pub staple: Staple,
    /// What clients are judged by, where that is not the trust anchors of the server's own credential: the CAs of
    /// several kinds of clients, say. It stands instead of those, not beside them.
    pub trust: Option<TrustAnchors>,
}

impl ServerOptions {
    /// The accepting side of a link: TLS 1.3, [`LINK_ALPN`], client certificate of a site of
    /// `trust_domain`.
    pub fn link(trust_domain: TrustDomain) -> Self {
        Self {
            alpn: vec![LINK_ALPN.to_vec()],
            identities: IdentityRule::within(trust_domain).kind(IdentityKind::Site),
            ..Self::default()
        }
    }
}

/// How a client connects. `Default`: TLS 1.3, any server identity, no ALPN. The server's
/// certificate must always match the dialled name in its SANs.
#[derive(Clone, Debug, Default)]
pub struct ClientOptions {
    /// Application protocols, most wanted first; empty means none are offered.
    pub alpn: Vec<Vec<u8>>,
    /// Source of time for validity checks.
    pub clock: Clock,
    /// Oldest TLS version.
    pub floor: Floor,
    /// Which server identities are allowed, in addition to the host name.
    pub identities: IdentityRule,
    /// What is revoked, looked up at every handshake for the whole path.
    pub revocation: RevocationCheck,
}

impl ClientOptions {
    /// The dialling side of a link: TLS 1.3, [`LINK_ALPN`], server identity of a site of
    /// `trust_domain`.
    pub fn link(trust_domain: TrustDomain) -> Self {
        Self {
            alpn: vec![LINK_ALPN.to_vec()],
            identities: IdentityRule::within(trust_domain).kind(IdentityKind::Site),
            ..Self::default()
        }
    }
}

#[derive(Debug)]
struct Fixed(UnixTime);

impl TimeProvider for Fixed {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.0)
    }
}

/// Seconds since 1970; moments before that count as 1970.
pub(crate) fn unix_time(at: Timestamp) -> UnixTime {
    let seconds = u64::try_from(at.as_second()).unwrap_or(0);
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

/// The moment as a timestamp; beyond what a timestamp can hold it is the last one there is.
pub(crate) fn timestamp(at: UnixTime) -> Timestamp {
    i64::try_from(at.as_secs())
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .unwrap_or(Timestamp::MAX)
}
