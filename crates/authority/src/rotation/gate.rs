//! Who has to be ready before a rotation goes on, and who is not.

use std::fmt;
use std::time::Duration;

use handfast_pki::Name;
use jiff::Timestamp;

use super::{Cause, Rotation, Seen};
use crate::agent::LATELY;
use crate::hint::LONGEST_SPREAD;
use crate::schedule::later;

/// For how long a step of a rotation by force waits for agents: as long as they usually let pass between two questions, with
/// their jitter, and time to renew.
pub const AGENTS_GRACE: Duration = Duration::from_secs(15 * 60);

/// How long a step may take where everybody whom it waits for is connected: credentials are made anew and proven, sites take a
/// bundle and renew.
pub const STEP_GRACE: Duration = Duration::from_secs(5 * 60);

/// Whoever trusts an authority, or holds what it signed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Consumer {
    /// Who it is.
    pub who: Who,
    /// Whether it verifies by the present bundle, old and new key together.
    pub trusts: bool,
    /// The newest bundle it acknowledged, where bundles are numbered.
    pub sequence: Option<u64>,
    /// Whether what it shows is signed by the new key.
    pub follows: bool,
    /// Whether it can be reached now.
    pub reachable: bool,
    /// When it was last seen, if it is away.
    pub seen: Option<Timestamp>,
    /// When the last thing it holds expires: after that it has to enrol anew whatever happens, and
    /// nobody waits for it.
    pub expires: Option<Timestamp>,
}

impl Consumer {
    fn is_agents(&self) -> bool {
        matches!(self.who, Who::Agent(_))
    }
}

/// Who a consumer is.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Who {
    /// The agents of a service that were enrolled by a token.
    Agent(Name),
    /// A credential of this site.
    Credential(Name),
    /// A site that holds a link credential of this one.
    Site(Name),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(name) => write!(f, "agents of {name}"),
            Self::Credential(name) => write!(f, "credential {name}"),
            Self::Site(name) => write!(f, "site {name}"),
        }
    }
}

/// A consumer that a gate waits for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Laggard {
    /// Who it is.
    pub who: Who,
    /// Whether it can be reached now.
    pub reachable: bool,
    /// Since when it has not been seen, if it is away.
    pub seen: Option<Timestamp>,
    /// The newest bundle it acknowledged.
    pub sequence: Option<u64>,
    /// What it has not done yet.
    pub lacks: Lack,
    /// When nobody waits for it any more, because all it holds has expired.
    pub expires: Option<Timestamp>,
}

/// What a laggard has not done yet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lack {
    /// Show something that the new key signed.
    Credential,
    /// Trust the new key.
    Trust,
}

impl Lack {
    /// The stable text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Credential => "credential",
            Self::Trust => "trust",
        }
    }
}

/// Who must trust the new key before it signs: everybody who can be reached. Who is away comes back
/// over the cross certificate; so do agents, which hear of nothing before they ask, unless there is none: in a compromise.
pub(super) fn before_activation(record: &Rotation, seen: &Seen, now: Timestamp) -> Vec<Laggard> {
    let forced = record.cause == Cause::Forced;
    let waits = |consumer: &Consumer| {
        consumer.reachable && !consumer.trusts && (forced || !consumer.is_agents())
    };
    laggards(record, seen, now, waits)
}

/// Who must have moved before the old key goes: everybody that it would shut out. In a compromise
/// nobody waits for who is away: a thief would be as welcome meanwhile. Agents that ask when to renew are not away, but
/// nobody sees them between two questions: they are waited for as long as it takes to ask, [`AGENTS_GRACE`].
pub(super) fn before_revocation(record: &Rotation, seen: &Seen, now: Timestamp) -> Vec<Laggard> {
    let absent = seen.awaits_absent && record.cause != Cause::Forced;
    let waits = |consumer: &Consumer| {
        (consumer.reachable || absent) && !(consumer.trusts && consumer.follows)
    };
    laggards(record, seen, now, waits)
}

/// How long the present step may take from its beginning while all is well with those that it waits for.
///
/// Agents add what they need to ask, each at its own time, and to take their turn: also those that cannot be reached yet, for
/// nobody knows of an agent that is there before it has asked. Who is away for longer is away.
pub fn may_take(record: &Rotation, laggards: &[Laggard]) -> Duration {
    let agents = laggards.iter().any(|laggard| matches!(laggard.who, Who::Agent(_)));
    STEP_GRACE
        + match record.cause {
            _ if !agents => Duration::ZERO,
            Cause::Forced => AGENTS_GRACE,
            Cause::Asked | Cause::Scheduled => LATELY + LONGEST_SPREAD,
        }
}

fn laggards(
    record: &Rotation,
    seen: &Seen,
    now: Timestamp,
    waits: impl Fn(&Consumer) -> bool,
) -> Vec<Laggard> {
    let late = record.cause == Cause::Forced && now >= later(record.since, AGENTS_GRACE);
    seen.consumers
        .iter()
        .filter(|consumer| !(late && consumer.is_agents()))
        .filter(|consumer| consumer.expires.is_none_or(|end| end > now))
        // What is ours can be mended here, and is never left behind.
        .filter(|consumer| record.waiver.is_none() || matches!(consumer.who, Who::Credential(_)))
        .filter(|consumer| waits(consumer))
        .map(|consumer| Laggard {
            who: consumer.who.clone(),
            reachable: consumer.reachable,
            seen: consumer.seen,
            sequence: consumer.sequence,
            lacks: if consumer.trusts { Lack::Credential } else { Lack::Trust },
            expires: consumer.expires,
        })
        .collect()
}
