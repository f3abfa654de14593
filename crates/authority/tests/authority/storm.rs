//! The renewal storm: ten thousand credentials issued in the same second. They are spread, none expires, and what
//! signs for them is never asked for more than it was built for; also when it was away while they were due.
//!
//!     HANDFAST_STORM=10000 HANDFAST_STORM_REAL=100 cargo test --release -p handfast-authority --test authority storm -- --nocapture
//!
//! prints the figures; without the variables the same is done on a smaller scale: so many credentials in the simulation,
//! and so many on a real store and ledger.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use handfast_authority::{
    Action, Current, Declared, DeclaredLink, DeclaredService, DesiredCredential, Facts, Failure,
    KeyPlace, Observed, ResourceRef, Situation, Staged, decide, desired, renew_at, retry_at,
};
use handfast_pki::Fingerprint;
use handfast_store::{Kind, Source};
use jiff::Timestamp;

use crate::site::{Site, name, start};

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

const DAY: i64 = 86_400;

/// What became of a fleet.
#[derive(Debug, Default)]
struct Outcome {
    renewed: usize,
    expired: usize,
    /// The most requests in one second: connections that are open at a time, for one that takes a second.
    busiest_second: u32,
    /// The most requests in one minute.
    busiest_minute: u32,
    requests: u32,
    /// The least life that was left to one when it was renewed, in seconds.
    least_left: i64,
}

/// One site with one link credential that another site renews, as decisions see it.
struct Fleet {
    desired: Vec<DesiredCredential>,
}

impl Fleet {
    fn new() -> Self {
        let mut declared = Declared::new(name("east"));
        declared.links.push(DeclaredLink {
            resource: ResourceRef::new("Link", "west"),
            name: name("west"),
            credential: name("west"),
        });
        let wanted = desired(&declared).into_iter().filter(|each| each.name == name("west"));
        Self { desired: wanted.collect() }
    }

    fn facts(&self, index: usize, issued: Timestamp) -> Facts {
        let wanted = &self.desired[0];
        let fingerprint = Fingerprint::of(format!("{index} {issued}").as_bytes());
        Facts {
            fingerprint,
            serial: index.to_string(),
            issuer: "CN=west".to_owned(),
            identity: wanted.subject.identity.clone(),
            common_name: Some(wanted.subject.common_name.clone()),
            dns: BTreeSet::new(),
            ips: BTreeSet::new(),
            not_before: second(issued, -60),
            not_after: second(issued, DAY),
            signer: Some(fingerprint),
            signer_key: None,
            anchors: [fingerprint].into(),
            id: None,
            revoked: None,
            can_sign: true,
            key: KeyPlace::Plain,
        }
    }

    /// Whether a site would do something now.
    fn acts(&self, facts: &Facts, failure: Option<&Failure>, now: Timestamp) -> bool {
        let key = (Kind::Certificate, self.desired[0].name.clone());
        let observed = Observed {
            kind: key.0,
            name: key.1.clone(),
            current: Current::Usable {
                source: Source::Managed,
                facts: Box::new(facts.clone()),
                warnings: Vec::new(),
            },
            staged: Staged::Nothing,
        };
        let failures: BTreeMap<_, _> =
            failure.map(|failure| (key, failure.clone())).into_iter().collect();
        let actions = decide(&Situation {
            desired: &self.desired,
            observed: &[observed],
            failures: &failures,
            held: &BTreeSet::new(),
            trust: &BTreeMap::new(),
            signers: &BTreeMap::new(),
            asked: &BTreeSet::new(),
            skew: None,
            now,
        });
        actions.iter().any(|action| matches!(action, Action::Request(..) | Action::Renew(..)))
    }

    /// Lives through one renewal of `count` sites. The signer is away from `away` on, for as long, and never answers
    /// more than `capacity` requests in a second; who is too many is refused and comes again.
    fn live(&self, count: usize, away: std::ops::Range<Timestamp>, capacity: u32) -> Outcome {
        let issued = start();
        let all: Vec<Facts> = (0..count).map(|index| self.facts(index, issued)).collect();
        let mut failures: Vec<Option<Failure>> = vec![None; count];
        let mut outcome = Outcome { least_left: DAY, ..Outcome::default() };
        let mut per_second: BTreeMap<i64, u32> = BTreeMap::new();
        let mut granted: BTreeMap<i64, u32> = BTreeMap::new();
        let mut events: BinaryHeap<Reverse<(Timestamp, usize)>> = all
            .iter()
            .enumerate()
            .map(|(index, facts)| {
                let due = renew_at(facts.not_before, facts.not_after, facts.fingerprint.as_bytes());
                assert!(!self.acts(facts, None, second(due, -1)), "nobody comes before his time");
                Reverse((due, index))
            })
            .collect();
        while let Some(Reverse((now, index))) = events.pop() {
            let facts = &all[index];
            if now >= facts.not_after {
                outcome.expired += 1;
                continue;
            }
            assert!(self.acts(facts, failures[index].as_ref(), now), "who is due comes");
            outcome.requests += 1;
            *per_second.entry(now.as_second()).or_default() += 1;
            let served = granted.entry(now.as_second()).or_default();
            if !away.contains(&now) && *served < capacity {
                *served += 1;
                outcome.renewed += 1;
                let left = facts.not_after.as_second() - now.as_second();
                outcome.least_left = outcome.least_left.min(left);
                continue;
            }
            let count = failures[index].as_ref().map_or(0, |failure| failure.count) + 1;
            failures[index] = Some(Failure { count, last: now, what: "away".to_owned() });
            events.push(Reverse((retry_at(count, now, Some(facts.not_after)), index)));
        }
        outcome.busiest_second = per_second.values().copied().max().unwrap_or(0);
        let mut per_minute: BTreeMap<i64, u32> = BTreeMap::new();
        for (at, n) in &per_second {
            *per_minute.entry(at / 60).or_default() += n;
        }
        outcome.busiest_minute = per_minute.values().copied().max().unwrap_or(0);
        outcome
    }
}

fn second(at: Timestamp, offset: i64) -> Timestamp {
    Timestamp::from_second(at.as_second() + offset).unwrap()
}

#[test]
fn those_that_were_issued_together_are_renewed_apart() {
    let count = number("HANDFAST_STORM", 1_000);
    let outcome = Fleet::new().live(count, start()..start(), u32::MAX);
    println!("storm of {count}, signer there: {outcome:?}");
    assert_eq!((outcome.renewed, outcome.expired), (count, 0));
    assert_eq!(outcome.requests as usize, count, "each comes once");
    // Spread over 13 % of a day, 3.2 hours: 0.87 a second on average for ten thousand.
    let average = f64::from(u32::try_from(count).unwrap()) / (0.1333 * 86_400.0);
    assert!(f64::from(outcome.busiest_second) < 12.0 + 4.0 * average, "{outcome:?}");
    assert!(f64::from(outcome.busiest_minute) < 60.0 * (1.0 + 1.5 * average), "{outcome:?}");
    assert!(outcome.least_left > DAY / 4, "{outcome:?}");
}

#[test]
fn a_signer_that_was_away_while_all_were_due_is_not_trampled_and_none_expires() {
    let count = number("HANDFAST_STORM", 1_000);
    // Away from before the first is due until an hour after the last one was; then a tenth of what is measured.
    let away = second(start(), DAY / 2)..second(start(), DAY * 734 / 1000 + 3600);
    let capacity = 300;
    let outcome = Fleet::new().live(count, away, capacity);
    println!("storm of {count}, signer away for all of it, then {capacity}/s: {outcome:?}");
    assert_eq!((outcome.renewed, outcome.expired), (count, 0));
    assert!(outcome.least_left > 3600, "an hour to spare: {outcome:?}");
    assert!(outcome.busiest_second as usize <= count / 20, "{outcome:?}");
    assert!(outcome.requests as usize <= count * 20, "who waits does not hammer: {outcome:?}");
}

#[test]
fn a_real_site_with_many_credentials_renews_them_a_few_at_a_time() {
    let count = number("HANDFAST_STORM_REAL", 12);
    let mut declared = Declared::new(name("west"));
    for index in 0..count {
        declared.services.push(DeclaredService {
            resource: ResourceRef::new("Listener", format!("s{index}")),
            credential: name(&format!("handfast-tls-s{index}")),
            hosts: vec!["127.0.0.1".parse().unwrap()],
        });
    }
    let mut site = Site::declared(declared);
    let first = site.settled();
    assert!(first.changed.len() >= count);
    let (mut most, mut renewed, mut turns) = (0, BTreeSet::new(), 0);
    let end = second(site.now, DAY * 3 / 4);
    let mut wake = first.next_wake;
    while wake < end {
        // Long sleeps of a site at rest are gone through in fewer steps.
        site.now = wake.max(second(site.now, 300));
        let report = site.settled();
        let of_services: Vec<_> = report
            .changed
            .iter()
            .filter(|change| change.name.as_str().starts_with("handfast-tls-s"))
            .collect();
        most = most.max(of_services.len());
        renewed.extend(of_services.into_iter().map(|change| change.name.clone()));
        wake = report.next_wake;
        turns += 1;
    }
    println!("real storm of {count}: {turns} turns, at most {most} credentials in one");
    assert_eq!(renewed.len(), count, "each was renewed before three quarters of its life");
    assert!(most <= 3 + count / 4, "{most} of {count} in one turn");
    let live = site.settled();
    for credential in live.live.values() {
        assert!(
            credential.leaf().not_after()
                > second(site.now, Duration::from_secs(3600).as_secs().try_into().unwrap())
        );
    }
}
