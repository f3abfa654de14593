//! The rotation of one authority: what its successor waits for, and when the old one goes.
//!
//! A pure state machine. It is given the record of the rotation as the ledger keeps it, what is seen
//! of the world (the revisions on disk, and every consumer with what it acknowledged), and the time;
//! it answers with one [`Next`]. Everything it does is two steps: the record says where things stand
//! first, then the disk is brought in line. A process that is killed between the two finds the
//! difference by the same function, and goes on.
//!
//! The states of design section 6, for the two keys of an authority:
//!
//! | phase | the old key | the new key |
//! |---|---|---|
//! | [`Phase::Preparing`] | active | being made |
//! | [`Phase::Prepared`] | active | prepared: trusted, signs nothing |
//! | [`Phase::Draining`] | draining (tainted, if forced): verifies only | active |
//! | [`Phase::Revoked`] | revoked: gone | active |
//! | [`Phase::RolledBack`] | active | gone |

mod gate;
mod record;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use handfast_pki::{Fingerprint, Name};
use jiff::Timestamp;

use crate::schedule;

pub use gate::{AGENTS_GRACE, Consumer, Lack, Laggard, STEP_GRACE, Who, may_take};

/// Where a rotation stands, as the ledger keeps it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rotation {
    /// How far it is.
    pub phase: Phase,
    /// What made it begin, or made it urgent since.
    pub cause: Cause,
    /// Who asked for it.
    pub by: String,
    /// Why, in their words; empty if they said nothing.
    pub why: String,
    /// When it began.
    pub began: Timestamp,
    /// When this phase began.
    pub since: Timestamp,
    /// The number of the old key: 1 for the authority's first.
    pub old_generation: u64,
    /// The number of the new key.
    pub generation: u64,
    /// The authority's certificate with the old key.
    pub old: Fingerprint,
    /// The one with the new key; absent while it is being made.
    pub new: Option<Fingerprint>,
    /// The number of the trust bundle that this phase waits for; 0 where no bundle changes.
    pub sequence: u64,
    /// The key that came later certified by the one before it (PEM), presented while one of the two
    /// drains so that who was away can link.
    pub cross: Option<String>,
    /// Who let this phase end without its laggards.
    pub waiver: Option<Waiver>,
    /// What each site acknowledged.
    pub heard: BTreeMap<Name, Heard>,
}

/// How far a rotation is. See the table in the module's text.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Phase {
    /// The new key is being made.
    Preparing,
    /// The new key is trusted by more and more consumers, and signs nothing yet.
    Prepared,
    /// The new key signs; what the old one signed is being replaced.
    Draining,
    /// The old key is gone. The end.
    Revoked,
    /// The new key is gone. The other end.
    RolledBack,
}

/// What made a rotation begin.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Cause {
    /// An operator, in peace.
    Asked,
    /// An operator, because the key is in the wrong hands: the old key is tainted, and does not wait
    /// for who is away.
    Forced,
    /// The old key nears its end.
    Scheduled,
}

/// An operator's word that a phase may end without its laggards.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Waiver {
    /// Who.
    pub by: String,
    /// Why.
    pub why: String,
    /// When.
    pub at: Timestamp,
}

/// The newest bundle that a site acknowledged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Heard {
    /// Its number.
    pub sequence: u64,
    /// When it was heard.
    pub at: Timestamp,
}

/// What is seen of the world.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The staged revision of the authority.
    pub staged: Option<Fingerprint>,
    /// Whether the staged revision has another key than the current one.
    pub staged_has_new_key: bool,
    /// The current revision.
    pub current: Option<Fingerprint>,
    /// The revision before.
    pub previous: Option<Fingerprint>,
    /// Whoever trusts the authority, or holds what it signed.
    pub consumers: Vec<Consumer>,
    /// Whether the old key has to stay until who is away has come back: so for anchors, which the
    /// other side has to know. An authority below an anchor is trusted through it.
    pub awaits_absent: bool,
    /// When a scheduled successor may begin to sign.
    pub activate_at: Timestamp,
    /// Whether the clock can be believed.
    pub clock_is_sound: bool,
}

/// What happens next.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Next {
    /// Bring the disk in line with the record.
    Mend(Mend),
    /// Write down that this phase begins.
    Enter(Phase),
    /// Wait for them.
    Wait(Vec<Laggard>),
    /// Wait for the moment when a scheduled successor begins to sign.
    WaitUntil(Timestamp),
    /// Nothing: it is over.
    Rest,
}

/// What brings the disk in line with the record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mend {
    /// Take what is staged for the successor.
    Adopt(Fingerprint),
    /// Remove the old revision.
    DiscardPrevious,
    /// Remove what is staged.
    DiscardStaged,
    /// Make the successor and stage it.
    Make,
    /// Make what is staged current.
    Promote,
    /// Stage the previous revision again: the way back.
    Restage,
}

impl Rotation {
    /// The beginning of one.
    pub fn begin(
        old: Fingerprint,
        last: Option<&Self>,
        cause: Cause,
        by: &str,
        why: &str,
        now: Timestamp,
    ) -> Self {
        let (active, highest) = last.map_or((1, 1), |last| (last.active(), last.highest()));
        Self {
            phase: Phase::Preparing,
            cause,
            by: by.to_owned(),
            why: why.to_owned(),
            began: now,
            since: now,
            old_generation: active,
            generation: highest + 1,
            old,
            new: None,
            sequence: 0,
            cross: None,
            waiver: None,
            heard: last.map(|last| last.heard.clone()).unwrap_or_default(),
        }
    }

    /// Whether it has not ended.
    pub fn is_under_way(&self) -> bool {
        !matches!(self.phase, Phase::Revoked | Phase::RolledBack)
    }

    /// Whether the new key signs.
    pub fn is_past_promotion(&self) -> bool {
        matches!(self.phase, Phase::Draining | Phase::Revoked)
    }

    /// The number of the key that signs now.
    pub fn active(&self) -> u64 {
        match self.phase {
            Phase::Preparing | Phase::Prepared | Phase::RolledBack => self.old_generation,
            Phase::Draining | Phase::Revoked => self.generation,
        }
    }

    fn highest(&self) -> u64 {
        self.generation.max(self.old_generation)
    }

    /// The record as of a new phase.
    #[must_use]
    pub fn entering(&self, phase: Phase, now: Timestamp) -> Self {
        Self { phase, since: now, waiver: None, ..self.clone() }
    }

    /// The way back: from before the successor signs by forgetting it, from after that by making the
    /// old key the successor of the new one. `None` when there is none any more.
    pub fn back(&self, by: &str, why: &str, now: Timestamp) -> Option<Self> {
        let said = Self { by: by.to_owned(), why: why.to_owned(), ..self.clone() };
        match self.phase {
            Phase::Preparing | Phase::Prepared => Some(said.entering(Phase::RolledBack, now)),
            Phase::Draining => Some(Self {
                cause: Cause::Asked,
                old: self.new?,
                new: Some(self.old),
                old_generation: self.generation,
                generation: self.old_generation,
                ..said.entering(Phase::Draining, now)
            }),
            Phase::Revoked | Phase::RolledBack => None,
        }
    }
}

/// What happens next in a rotation.
pub fn next(record: &Rotation, seen: &Seen, now: Timestamp) -> Next {
    match (record.phase, record.new) {
        (Phase::Preparing, _) => preparing(record, seen),
        (Phase::Prepared, Some(new)) => prepared(record, new, seen, now),
        (Phase::Draining, Some(new)) => draining(record, new, seen, now),
        // A record that lost half of itself: back to where nothing has changed.
        (Phase::Prepared | Phase::Draining, None) => Next::Enter(Phase::RolledBack),
        (Phase::Revoked, _) if seen.previous == Some(record.old) => {
            Next::Mend(Mend::DiscardPrevious)
        }
        (Phase::RolledBack, Some(new)) if seen.staged == Some(new) => {
            Next::Mend(Mend::DiscardStaged)
        }
        (Phase::Revoked | Phase::RolledBack, _) => Next::Rest,
    }
}

fn preparing(record: &Rotation, seen: &Seen) -> Next {
    if seen.current != Some(record.old) {
        return Next::Enter(Phase::RolledBack);
    }
    match seen.staged {
        None => Next::Mend(Mend::Make),
        Some(staged) if seen.staged_has_new_key => Next::Mend(Mend::Adopt(staged)),
        Some(_) => Next::Mend(Mend::DiscardStaged),
    }
}

fn prepared(record: &Rotation, new: Fingerprint, seen: &Seen, now: Timestamp) -> Next {
    if seen.current != Some(record.old) || seen.staged != Some(new) {
        // Somebody took the files away by hand, or put others there.
        return Next::Enter(Phase::RolledBack);
    }
    if record.cause == Cause::Scheduled {
        if !seen.clock_is_sound {
            return Next::Wait(Vec::new());
        }
        if now < seen.activate_at {
            return Next::WaitUntil(seen.activate_at);
        }
    }
    pass(Phase::Draining, gate::before_activation(record, seen, now))
}

fn draining(record: &Rotation, new: Fingerprint, seen: &Seen, now: Timestamp) -> Next {
    if seen.current != Some(new) {
        return if seen.staged == Some(new) {
            Next::Mend(Mend::Promote)
        } else if seen.previous == Some(new) {
            Next::Mend(Mend::Restage)
        } else {
            Next::Enter(Phase::RolledBack)
        };
    }
    pass(Phase::Revoked, gate::before_revocation(record, seen, now))
}

fn pass(phase: Phase, laggards: Vec<Laggard>) -> Next {
    if laggards.is_empty() { Next::Enter(phase) } else { Next::Wait(laggards) }
}

/// When a key that lives from `not_before` to `not_after` is given a successor, and when that begins
/// to sign: with half of its life left (30 days at most), and with a sixth (7 days at most).
///
/// Never so late that something it signs, which may live for `longest`, would have to be cut short.
/// (The rule of SPIRE's `rotationutil`, with that addition.)
pub fn scheduled(
    not_before: Timestamp,
    not_after: Timestamp,
    longest: Duration,
) -> (Timestamp, Timestamp) {
    let life = schedule::lifetime(not_before, not_after);
    let activate = (life / 6).min(ACTIVATE_AT_MOST).max(longest.min(life / 3));
    let prepare = (life / 2).min(PREPARE_AT_MOST).max(activate * 3 / 2);
    let issued = schedule::issued_at(not_before, not_after);
    let before = |ahead: Duration| schedule::later(issued, life.saturating_sub(ahead));
    (before(prepare), before(activate))
}

const PREPARE_AT_MOST: Duration = Duration::from_secs(30 * 86_400);
const ACTIVATE_AT_MOST: Duration = Duration::from_secs(7 * 86_400);

impl Phase {
    /// The stable text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Prepared => "prepared",
            Self::Draining => "draining",
            Self::Revoked => "revoked",
            Self::RolledBack => "rolled-back",
        }
    }

    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Preparing, Self::Prepared, Self::Draining, Self::Revoked, Self::RolledBack];
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Cause {
    /// The stable text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Forced => "forced",
            Self::Scheduled => "scheduled",
        }
    }

    /// All of them.
    pub const ALL: [Self; 3] = [Self::Asked, Self::Forced, Self::Scheduled];
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
