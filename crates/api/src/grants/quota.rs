//! Who may ask how often at the grant port: strangers by the address that they come from, agents that have shown their
//! certificate by that, wherever they come from. Behind one address there may be one agent or all of a data centre's.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use handfast_authority::hint::{QUESTIONS_PER_SECOND, RENEWALS_PER_SECOND};
use handfast_pki::{Fingerprint, SpiffeId};
use handfast_tls::Peer;
use tokio::time::Instant;

use super::message::{Problem, ProblemCode};
use super::server::GrantLimits;
use crate::gate::{Buckets, Rate, RateLimiter};

/// What agents may cost that have proved who they are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ProvedLimits {
    /// Questions when to renew by one certificate over time; and, counted apart, its renewals. One agent that asks in a loop
    /// takes nothing from the others.
    pub by_certificate: Rate,
    /// Questions of all who have one identity, which agents of one service share.
    pub hints: Rate,
    /// Their renewals. Each makes a certificate that counts for itself, so this is what bounds whoever makes many.
    pub renewals: Rate,
    /// Certificates and identities that are remembered, of each kind of request.
    pub remembered: usize,
}

impl Default for ProvedLimits {
    /// One certificate as often as one stranger's address; all of one identity as often as agents are told to come by the
    /// renewal hint, with ten seconds' worth at once.
    fn default() -> Self {
        let all = |each_second: u32| Rate { burst: 10 * each_second, every: SECOND / each_second };
        Self {
            by_certificate: Rate { burst: 20, every: SECOND },
            hints: all(QUESTIONS_PER_SECOND),
            renewals: all(RENEWALS_PER_SECOND),
            remembered: 16_384,
        }
    }
}

/// What everybody has asked lately, over all connections of a port.
pub(super) struct Quotas {
    strangers: Mutex<RateLimiter>,
    hints: Mutex<Proved>,
    renewals: Mutex<Proved>,
}

impl Quotas {
    pub(super) fn new(limits: &GrantLimits, now: Instant) -> Self {
        let GrantLimits { request_rate, sources, proved, .. } = *limits;
        Self {
            strangers: Mutex::new(RateLimiter::new(request_rate, sources, now)),
            hints: Mutex::new(Proved::new(proved.hints, proved, now)),
            renewals: Mutex::new(Proved::new(proved.renewals, proved, now)),
        }
    }

    /// Counts a request against the address that it comes from.
    pub(super) fn stranger(&self, from: IpAddr, now: Instant) -> Result<(), Problem> {
        too_many(locked(&self.strangers, |strangers| strangers.take(from, now)))
    }

    /// Counts a question when to renew: against who asks, if he has proved who he is.
    pub(super) fn hint(
        &self,
        from: IpAddr,
        peer: Option<&Peer>,
        now: Instant,
    ) -> Result<(), Problem> {
        self.proved(&self.hints, from, peer, now)
    }

    /// Counts a renewal likewise.
    pub(super) fn renewal(
        &self,
        from: IpAddr,
        peer: Option<&Peer>,
        now: Instant,
    ) -> Result<(), Problem> {
        self.proved(&self.renewals, from, peer, now)
    }

    fn proved(
        &self,
        kind: &Mutex<Proved>,
        from: IpAddr,
        peer: Option<&Peer>,
        now: Instant,
    ) -> Result<(), Problem> {
        let Some((fingerprint, identity)) = peer.and_then(identified) else {
            return self.stranger(from, now);
        };
        too_many(locked(kind, |proved| proved.take(fingerprint, identity, now)))
    }
}

/// Who is at the other end, if he is anybody.
pub(super) fn identified(peer: &Peer) -> Option<(Fingerprint, &SpiffeId)> {
    Some((peer.fingerprint, peer.identity.as_ref()?))
}

/// One kind of request of those who have proved who they are.
struct Proved {
    certificates: Buckets<Fingerprint>,
    identities: Buckets<SpiffeId>,
}

impl Proved {
    fn new(by_identity: Rate, limits: ProvedLimits, now: Instant) -> Self {
        Self {
            certificates: Buckets::new(limits.by_certificate, limits.remembered, now),
            identities: Buckets::new(by_identity, limits.remembered, now),
        }
    }

    fn take(
        &mut self,
        certificate: Fingerprint,
        identity: &SpiffeId,
        now: Instant,
    ) -> Result<(), Duration> {
        // Whoever has had his own takes nothing from what he shares.
        self.certificates.take(certificate, now)?;
        self.identities.take(identity.clone(), now)
    }
}

fn locked<T, R>(shared: &Mutex<T>, work: impl FnOnce(&mut T) -> R) -> R {
    // Nothing that runs under the lock can panic half-way through a change.
    work(&mut shared.lock().unwrap_or_else(PoisonError::into_inner))
}

fn too_many(taken: Result<(), Duration>) -> Result<(), Problem> {
    taken.map_err(|wait| Problem::new(ProblemCode::TooMany).retry_after(wait))
}

const SECOND: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_certificate_that_asks_in_a_loop_takes_nothing_from_the_others_of_its_service() {
        let now = Instant::now();
        let every = Duration::from_secs(3600);
        let limits = ProvedLimits {
            by_certificate: Rate { burst: 2, every },
            hints: Rate { burst: 5, every },
            ..ProvedLimits::default()
        };
        let mut proved = Proved::new(limits.hints, limits, now);
        let shop: SpiffeId = "spiffe://demo.example/agent/shop".parse().unwrap();
        let cart: SpiffeId = "spiffe://demo.example/agent/cart".parse().unwrap();
        let mut answered = |certificate: u8, identity: &SpiffeId| {
            (0..100)
                .filter(|_| proved.take(Fingerprint([certificate; 32]), identity, now).is_ok())
                .count()
        };
        assert_eq!(answered(1, &shop), 2);
        assert_eq!(answered(2, &shop), 2, "as much as if nobody had asked in a loop");
        // Whoever makes himself many certificates has what his service has.
        assert_eq!(answered(3, &shop), 1);
        assert_eq!(answered(4, &shop), 0);
        assert_eq!(answered(5, &cart), 2, "another service is not concerned");
    }
}
