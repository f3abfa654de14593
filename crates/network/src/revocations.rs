//! What this node tells other sites about revocations, and how far it has heard each of them. Values
//! behind a lock, shared by the node, which adds, and the control thread, which passes on; nothing
//! here signs, verifies or is kept on disk.
//!
//! Each node counts the revocations it has recorded, from wherever they came. A *position* in that
//! count is a number and a digest of everything up to it: a node that was restored from a backup
//! counts from an earlier number again, and would mean something else by it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use handfast_pki::{CertificateId, Fingerprint, Name};
use handfast_proto::link::v1::SignedRevocations;
use prost::Message as _;

/// How far somebody has got in another's count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The number of the last revocation; 0 before the first.
    pub sequence: u64,
    /// Stands for everything up to it.
    pub digest: Vec<u8>,
}

/// A signed statement and the revocations that were news in it.
#[derive(Clone, Debug)]
pub struct Told {
    /// The revocations recorded because of it, by the numbers under which this node recorded them, in
    /// order; at least one.
    pub recorded: Vec<(u64, CertificateId)>,
    /// The statement, to be passed on; nothing if all it is about has expired.
    pub statement: Option<SignedRevocations>,
}

/// The node's own count. Clones are the same one.
#[derive(Clone, Default)]
pub struct RevocationFeed(Arc<Mutex<Feed>>);

#[derive(Default)]
struct Feed {
    /// For each number, the digest of everything up to it.
    digests: Vec<(u64, Digest)>,
    /// With the last number that each brought.
    statements: Vec<(u64, Arc<SignedRevocations>)>,
    heard: HashMap<Name, Position>,
}

type Digest = [u8; 32];

/// Statements that go into one message, in octets; a message of the control stream may have 1 MiB.
const PAGE: usize = 256 * 1024;

impl RevocationFeed {
    /// An empty count.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what was recorded, the lowest number first.
    pub fn extend(&self, told: impl IntoIterator<Item = Told>) {
        let mut feed = self.lock();
        for Told { recorded, statement } in told {
            let Some((last, _)) = recorded.last() else { continue };
            let last = *last;
            for (number, certificate) in recorded {
                let before = feed.digests.last().map_or([0; 32], |(_, digest)| *digest);
                let mut text = before.to_vec();
                text.extend_from_slice(&certificate.issuer_key_id);
                text.extend_from_slice(certificate.serial.as_bytes());
                feed.digests.push((number, Fingerprint::of(&text).0));
            }
            feed.statements.extend(statement.map(|statement| (last, Arc::new(statement))));
        }
    }

    /// Up to where this node counts.
    pub fn newest(&self) -> Position {
        self.lock().newest()
    }

    /// Notes that everything up to this position of that site's count is recorded here.
    pub fn has_heard(&self, site: Name, position: Position) {
        self.lock().heard.insert(site, position);
    }

    /// How far the count of that site was heard since this node was started.
    pub fn heard(&self, site: &Name) -> Position {
        self.lock().heard.get(site).cloned().unwrap_or_default()
    }

    /// The first statement that somebody who got to `position` has not heard yet. Who was told by
    /// another count than ours hears everything.
    pub(crate) fn first_after(&self, position: &Position) -> usize {
        let feed = self.lock();
        if !feed.knows(position) {
            return 0;
        }
        feed.statements.partition_point(|(last, _)| *last <= position.sequence)
    }

    /// Statements from `first` on, as many as go into one message. The position is the newest one if
    /// nothing follows, else that of `before`: only who has heard all has got on in the count.
    pub(crate) fn page(&self, first: usize, before: &Position) -> Option<Page> {
        let feed = self.lock();
        let mut size = 0;
        let statements: Vec<SignedRevocations> = feed
            .statements
            .get(first..)?
            .iter()
            .take_while(|(_, statement)| {
                let fits = size == 0 || size + statement.encoded_len() <= PAGE;
                size += statement.encoded_len();
                fits
            })
            .map(|(_, statement)| SignedRevocations::clone(statement))
            .collect();
        if statements.is_empty() {
            return None;
        }
        let next = first + statements.len();
        let last = next == feed.statements.len();
        let position = if last { feed.newest() } else { before.clone() };
        Some(Page { statements, next, position })
    }

    fn lock(&self) -> MutexGuard<'_, Feed> {
        // Each change is one step; a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What goes into one message.
pub(crate) struct Page {
    pub(crate) statements: Vec<SignedRevocations>,
    /// The statement that comes after.
    pub(crate) next: usize,
    /// Where the other site stands when it has recorded these.
    pub(crate) position: Position,
}

impl Feed {
    fn newest(&self) -> Position {
        self.digests.last().map_or_else(Position::default, |(sequence, digest)| Position {
            sequence: *sequence,
            digest: shown(digest),
        })
    }

    fn knows(&self, position: &Position) -> bool {
        self.digests
            .binary_search_by_key(&position.sequence, |(sequence, _)| *sequence)
            .ok()
            .and_then(|index| self.digests.get(index))
            .is_some_and(|(_, digest)| shown(digest) == position.digest)
    }
}

/// What of a digest travels: enough to tell two counts apart.
fn shown(digest: &Digest) -> Vec<u8> {
    digest[..16].to_vec()
}

impl fmt::Debug for RevocationFeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RevocationFeed").field("newest", &self.newest()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use handfast_pki::Serial;
    use proptest::prelude::*;

    fn told(numbers: &[u64], size: usize) -> Told {
        let id = |number: &u64| CertificateId {
            issuer_key_id: [1; 32],
            serial: Serial::from_der_integer(&[&[0], number.to_be_bytes().as_slice()].concat()),
        };
        Told {
            recorded: numbers.iter().map(|number| (*number, id(number))).collect(),
            statement: Some(SignedRevocations { revoked: vec![7; size], ..Default::default() }),
        }
    }

    fn listen(feed: &RevocationFeed, from: &Position) -> (usize, Position, usize) {
        let (mut first, mut position, mut heard, mut pages) =
            (feed.first_after(from), from.clone(), 0, 0);
        while let Some(page) = feed.page(first, &position) {
            (first, position, pages) = (page.next, page.position, pages + 1);
            heard += page.statements.len();
        }
        (heard, position, pages)
    }

    #[test]
    fn who_has_heard_all_hears_only_what_is_new() {
        let feed = RevocationFeed::new();
        feed.extend([told(&[1, 2], 10), told(&[3], 10)]);
        let (heard, position, _) = listen(&feed, &Position::default());
        assert_eq!((heard, position.sequence), (2, 3));
        assert_eq!(listen(&feed, &position).0, 0);
        feed.extend([told(&[4], 10)]);
        assert_eq!(listen(&feed, &position).0, 1);
    }

    #[test]
    fn a_count_that_went_back_is_noticed_and_everything_is_told_again() {
        let (feed, restored) = (RevocationFeed::new(), RevocationFeed::new());
        feed.extend([told(&[1], 10), told(&[2], 10), told(&[3], 10)]);
        let (_, heard, _) = listen(&feed, &Position::default());
        restored.extend([told(&[1], 10)]);
        assert_eq!(listen(&restored, &heard).0, 1, "it counts no further than 1");
        let other = |number: u64| Told {
            recorded: told(&[number + 40], 10)
                .recorded
                .into_iter()
                .map(|(_, id)| (number, id))
                .collect(),
            ..told(&[number], 10)
        };
        restored.extend([other(2), other(3)]);
        assert_eq!(restored.newest().sequence, heard.sequence);
        assert_eq!(listen(&restored, &heard).0, 3, "the same number, but of another count");
    }

    #[test]
    fn the_position_moves_with_the_last_page_only() {
        let feed = RevocationFeed::new();
        feed.extend((1..=10).map(|number| told(&[number], PAGE / 3)));
        let first = feed.page(0, &Position::default()).expect("a page");
        assert_eq!((first.next, first.position), (2, Position::default()));
        let (heard, position, pages) = listen(&feed, &Position::default());
        assert_eq!((heard, position.sequence, pages), (10, 10, 5));
        feed.extend([told(&[11], 4 * PAGE)]);
        assert_eq!(listen(&feed, &position).0, 1, "one that is too large still goes out alone");
    }

    proptest! {
        #[test]
        fn everybody_hears_everything_once_wherever_they_begin(
            batches in proptest::collection::vec(1_u64..5, 1..30),
            stop in 0_usize..30,
        ) {
            let feed = RevocationFeed::new();
            let mut number = 0;
            let mut middle = Position::default();
            let mut before = 0;
            for (index, batch) in batches.iter().enumerate() {
                let numbers: Vec<u64> = (1..=*batch).map(|step| number + step).collect();
                number += batch;
                feed.extend([told(&numbers, 100)]);
                if index == stop {
                    (before, middle, _) = listen(&feed, &Position::default());
                }
            }
            prop_assert_eq!(listen(&feed, &middle).0, batches.len() - before);
            prop_assert_eq!(listen(&feed, &middle).1, feed.newest());
        }
    }
}
