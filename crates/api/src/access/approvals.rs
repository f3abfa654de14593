//! The two-person rule: what one person asked for waits here until another approves it, or until it is
//! forgotten. A pure state machine: time and identifiers are arguments. Whoever uses it keeps what waits on
//! disk, and puts it back after a restart.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::Principal;

/// What waits for a second person; `T` is whatever is to be done then.
#[derive(Debug)]
pub struct Approvals<T> {
    waiting: BTreeMap<String, Waiting<T>>,
}

/// One thing that waits.
#[derive(Clone, Debug)]
pub struct Waiting<T> {
    /// What is to be done.
    pub what: T,
    /// Who asked.
    pub requested_by: Principal,
    /// When.
    pub requested_at: Timestamp,
    /// From then on it can no longer be approved.
    pub expires_at: Timestamp,
}

/// Why something was not put here, or not taken from here.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ApprovalError {
    /// Too much waits.
    #[error(
        "{MOST} requests wait for a second person already; approve some, or wait until they expire"
    )]
    Full,
    /// Who asked for it cannot approve it.
    #[error(
        "{person} asked for this, and the two-person rule wants somebody else to approve it; \
         have another operator run `handfast approve`"
    )]
    SamePerson {
        /// Who.
        person: Principal,
    },
    /// There is nothing of this identifier, or no longer.
    #[error(
        "nothing waits under {id:?}: it was approved or has expired; `handfast approve list` shows what \
         waits"
    )]
    Unknown {
        /// The identifier, shortened.
        id: String,
    },
}

impl<T: PartialEq> Approvals<T> {
    /// Has `what` wait under `id`. The same asked for again by the same person, while it waits, is the
    /// same thing: it keeps its identifier and its time.
    ///
    /// # Errors
    ///
    /// [`ApprovalError::Full`].
    pub fn hold(
        &mut self,
        id: String,
        what: T,
        requested_by: Principal,
        now: Timestamp,
    ) -> Result<(String, &Waiting<T>), ApprovalError> {
        let same = |waiting: &Waiting<T>| {
            waiting.what == what && waiting.requested_by == requested_by && now < waiting.expires_at
        };
        let known =
            self.waiting.iter().find(|(_, waiting)| same(waiting)).map(|(id, _)| id.clone());
        let id = match known {
            Some(known) => known,
            None if self.waiting.len() >= MOST => return Err(ApprovalError::Full),
            None => {
                let expires_at = now.checked_add(LIFE).unwrap_or(Timestamp::MAX);
                let waiting = Waiting { what, requested_by, requested_at: now, expires_at };
                self.waiting.insert(id.clone(), waiting);
                id
            }
        };
        match self.waiting.get(&id) {
            Some(waiting) => Ok((id, waiting)),
            None => Err(ApprovalError::Unknown { id }),
        }
    }

    /// Takes what waits under `id`, so that it is done once, if `second` is somebody else than who asked
    /// for it. Otherwise it goes on waiting.
    ///
    /// # Errors
    ///
    /// [`ApprovalError::Unknown`], [`ApprovalError::SamePerson`].
    pub fn approve(
        &mut self,
        id: &str,
        second: &Principal,
        now: Timestamp,
    ) -> Result<Waiting<T>, ApprovalError> {
        let unknown = || ApprovalError::Unknown { id: id.chars().take(40).collect() };
        let waiting =
            self.waiting.get(id).filter(|one| now < one.expires_at).ok_or_else(unknown)?;
        if waiting.requested_by == *second {
            return Err(ApprovalError::SamePerson { person: second.clone() });
        }
        self.waiting.remove(id).ok_or_else(unknown)
    }

    /// Puts back what waited before a restart, or could not be carried out because nothing could be
    /// recorded.
    pub fn put_back(&mut self, id: String, waiting: Waiting<T>) {
        self.waiting.insert(id, waiting);
    }

    /// Takes back what could not be recorded.
    pub fn forget(&mut self, id: &str) {
        self.waiting.remove(id);
    }

    /// One thing that waits.
    pub fn get(&self, id: &str, now: Timestamp) -> Option<&Waiting<T>> {
        self.waiting.get(id).filter(|one| now < one.expires_at)
    }

    /// What waits at `now`, with its identifiers.
    pub fn list(&self, now: Timestamp) -> impl Iterator<Item = (&str, &Waiting<T>)> {
        self.waiting
            .iter()
            .filter(move |(_, waiting)| now < waiting.expires_at)
            .map(|(id, waiting)| (id.as_str(), waiting))
    }

    /// Takes out what has expired, to be recorded.
    pub fn expire(&mut self, now: Timestamp) -> Vec<(String, Waiting<T>)> {
        let ended = |waiting: &Waiting<T>| waiting.expires_at <= now;
        let ids: Vec<String> = self
            .waiting
            .iter()
            .filter(|(_, waiting)| ended(waiting))
            .map(|(id, _)| id.clone())
            .collect();
        ids.into_iter().filter_map(|id| self.waiting.remove_entry(&id)).collect()
    }
}

impl<T> Default for Approvals<T> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new() }
    }
}

/// How long something waits for a second person.
const LIFE: Duration = Duration::from_secs(3600);

/// How much may wait at a time.
const MOST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).expect("a time")
    }

    fn person(name: &str) -> Principal {
        format!("spiffe://shop.example/operator/{name}").parse().expect("an operator")
    }

    fn held() -> Approvals<&'static str> {
        let mut approvals = Approvals::default();
        let (id, _) = approvals.hold("one".into(), "rotate", person("alice"), at(0)).expect("room");
        assert_eq!(id, "one");
        approvals
    }

    #[test]
    fn another_person_approves_and_only_once() {
        let mut approvals = held();
        let same = approvals.approve("one", &person("alice"), at(1));
        assert!(matches!(same, Err(ApprovalError::SamePerson { .. })), "{same:?}");
        let taken = approvals.approve("one", &person("bob"), at(2)).expect("another person");
        assert_eq!((taken.what, taken.requested_by), ("rotate", person("alice")));
        let again = approvals.approve("one", &person("carol"), at(3));
        assert!(matches!(again, Err(ApprovalError::Unknown { .. })), "{again:?}");
    }

    #[test]
    fn local_users_are_persons_by_their_number() {
        let mut approvals = Approvals::default();
        let root = Principal::Local { uid: 0 };
        approvals.hold("one".into(), "rotate", root.clone(), at(0)).expect("room");
        assert!(approvals.approve("one", &root, at(1)).is_err());
        assert!(approvals.approve("one", &Principal::Local { uid: 999 }, at(1)).is_ok());
    }

    #[test]
    fn what_expires_is_not_approved_and_told_once() {
        let mut approvals = held();
        assert_eq!(approvals.list(at(3599)).count(), 1);
        assert_eq!(approvals.list(at(3600)).count(), 0);
        assert!(approvals.approve("one", &person("bob"), at(3600)).is_err());
        assert_eq!(approvals.expire(at(3599)).len(), 0);
        assert_eq!(approvals.expire(at(3600)).len(), 1);
        assert_eq!(approvals.expire(at(3600)).len(), 0);
    }

    #[test]
    fn the_same_asked_again_is_the_same_and_the_list_is_bounded() {
        let mut approvals = held();
        let (id, waiting) =
            approvals.hold("two".into(), "rotate", person("alice"), at(10)).expect("room");
        assert_eq!((id.as_str(), waiting.requested_at), ("one", at(0)));
        let (id, _) = approvals.hold("two".into(), "rotate", person("bob"), at(10)).expect("room");
        assert_eq!(id, "two", "another person's wish is another");
        let mut many = Approvals::default();
        for number in 0..MOST {
            many.hold(number.to_string(), number, person("alice"), at(0)).expect("room");
        }
        let more = many.hold("more".into(), MOST, person("alice"), at(0)).map(drop);
        assert_eq!(more, Err(ApprovalError::Full));
    }
}
