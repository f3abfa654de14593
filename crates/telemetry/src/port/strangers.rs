//! Who has connected and is not known yet. So many are served at the same time, so many more wait as bare
//! sockets; both are shared between the addresses they come from. A flood from one address fills what is
//! left, and whoever comes from another one takes a place of it. Pure: what waits is anything.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};

use super::shares::{Share, Shares};

/// Where strangers come from, as far as they are told apart: an address, or a network of IPv6 of which anybody has
/// as many as he likes.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Source(IpAddr);

impl Source {
    pub(super) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            v4 @ IpAddr::V4(_) => Self(v4),
            IpAddr::V6(v6) => Self(IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & NETWORK_OF_IPV6))),
        }
    }
}

/// The strangers of one port.
#[derive(Debug)]
pub(super) struct Strangers<G> {
    served: Shares<Source>,
    rooms: usize,
    waiting: usize,
    queues: HashMap<Source, VecDeque<(u64, G)>>,
    next: u64,
}

/// What becomes of somebody who has come.
#[derive(Debug)]
pub(super) enum Arrival<G> {
    /// It is served.
    Served(G, Share<Source>),
    /// It waits. If somebody else had to go for it, that is here.
    Waits(Option<G>),
    /// There is no room for it.
    Refused(G),
}

impl<G> Strangers<G> {
    /// Room for so many to be served, and for so many to wait.
    pub(super) fn new(places: usize, rooms: usize) -> Self {
        Self { served: Shares::new(places), rooms, waiting: 0, queues: HashMap::new(), next: 0 }
    }

    /// Somebody has come.
    pub(super) fn arrive(&mut self, from: Source, guest: G) -> Arrival<G> {
        // Whoever waits already goes first.
        let first = !self.queues.contains_key(&from);
        if first && let Some(share) = self.served.take(&from) {
            return Arrival::Served(guest, share);
        }
        let mut gone = None;
        if self.waiting >= self.rooms {
            let own = self.queues.get(&from).map_or(0, VecDeque::len);
            let fullest = self.queues.iter().max_by_key(|(_, queue)| queue.len());
            let Some((fullest, _)) = fullest.filter(|(_, queue)| own + 1 < queue.len()) else {
                return Arrival::Refused(guest);
            };
            let fullest = *fullest;
            gone = self.leave_queue(fullest, VecDeque::pop_back);
        }
        self.queues.entry(from).or_default().push_back((self.next, guest));
        self.next += 1;
        self.waiting += 1;
        Arrival::Waits(gone)
    }

    /// It is known who somebody is, or that one does not want to know.
    pub(super) fn leave(&mut self, share: &Share<Source>) {
        self.served.give_back(share);
    }

    /// Who is to be served now that there is a place: of those who wait, one from where the fewest are
    /// served, and among these whoever has waited for longest.
    pub(super) fn next(&mut self) -> Option<(G, Share<Source>)> {
        if self.waiting == 0 || !self.served.any_left() {
            return None;
        }
        let (from, _) = self.queues.iter().min_by_key(|(source, queue)| {
            (self.served.held(source), queue.front().map(|(number, _)| *number))
        })?;
        let from = *from;
        let guest = self.leave_queue(from, VecDeque::pop_front)?;
        let share = self.served.take(&from)?;
        Some((guest, share))
    }

    fn leave_queue(
        &mut self,
        from: Source,
        pop: impl FnOnce(&mut VecDeque<(u64, G)>) -> Option<(u64, G)>,
    ) -> Option<G> {
        let queue = self.queues.get_mut(&from)?;
        let (_, guest) = pop(queue)?;
        if queue.is_empty() {
            self.queues.remove(&from);
        }
        self.waiting -= 1;
        Some(guest)
    }
}

/// The first half of an address of IPv6 is the network's.
const NETWORK_OF_IPV6: u128 = !0 << 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::of(text.parse().expect("an address"))
    }

    #[test]
    fn a_network_of_ipv6_is_one_source_and_an_address_of_ipv4_is() {
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:0:2"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_eq!(source("::ffff:10.0.0.1"), source("10.0.0.1"));
        assert_ne!(source("10.0.0.1"), source("10.0.0.2"));
    }

    #[test]
    fn a_storm_from_one_address_is_served_in_order_and_nobody_is_refused() {
        let (mut strangers, relay) = (Strangers::new(2048, 4096), source("127.0.0.1"));
        let mut served = VecDeque::new();
        for agent in 0..5000 {
            match strangers.arrive(relay, agent) {
                Arrival::Served(agent, share) => served.push_back((agent, share)),
                Arrival::Waits(gone) => assert_eq!(gone, None),
                Arrival::Refused(agent) => panic!("{agent} is refused"),
            }
        }
        assert_eq!(served.len(), 2048);
        for expected in 0..5000 {
            let (agent, share) = served.pop_front().expect("somebody is served");
            assert_eq!(agent, expected);
            assert!(!share.lost.is_cancelled());
            strangers.leave(&share);
            served.extend(strangers.next());
        }
        assert!(strangers.next().is_none() && strangers.queues.is_empty());
    }

    #[test]
    fn whoever_comes_from_elsewhere_is_served_at_once_whatever_a_flood_holds() {
        let mut strangers = Strangers::new(100, 200);
        let (flood, good) = (source("10.0.0.1"), source("10.0.0.2"));
        let mut held = Vec::new();
        let mut refused = 0;
        for n in 0..1000 {
            match strangers.arrive(flood, n) {
                Arrival::Served(_, share) => held.push(share),
                Arrival::Waits(gone) => assert!(gone.is_none()),
                Arrival::Refused(_) => refused += 1,
            }
        }
        assert_eq!((held.len(), refused), (100, 700));
        let Arrival::Served(.., share) = strangers.arrive(good, 0) else { panic!("not served") };
        assert!(held[99].lost.is_cancelled() && !held[98].lost.is_cancelled());
        strangers.leave(&share);
        // The place that it leaves is the flood's again: nobody else is there.
        assert_eq!(strangers.next().map(|(guest, _)| guest), Some(100));
    }

    #[test]
    fn of_those_who_wait_the_one_with_fewest_places_goes_first_and_the_longest_queue_makes_room() {
        let mut strangers = Strangers::new(2, 4);
        let (a, b, c) = (source("10.0.0.1"), source("10.0.0.2"), source("10.0.0.3"));
        let Arrival::Served(_, first) = strangers.arrive(a, "a1") else { panic!("not served") };
        let Arrival::Served(_, other) = strangers.arrive(b, "b1") else { panic!("not served") };
        for guest in ["a2", "a3", "a4", "a5"] {
            assert!(matches!(strangers.arrive(a, guest), Arrival::Waits(None)));
        }
        assert!(matches!(strangers.arrive(a, "a6"), Arrival::Refused("a6")));
        // There is nobody with two places, so it waits; the last of the longest queue goes for it.
        assert!(matches!(strangers.arrive(c, "c1"), Arrival::Waits(Some("a5"))));
        let mut next = |left| {
            strangers.leave(left);
            strangers.next().map(|(guest, _)| guest)
        };
        assert_eq!(next(&first), Some("a2"), "both have none, and it has waited longer");
        assert_eq!(next(&other), Some("c1"), "it has none");
    }
}
