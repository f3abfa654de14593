//! The decisions as a whole, on worlds made up at random: whatever is on disk, deciding and doing
//! comes to rest, makes what can be made, and never writes what is the user's.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use handfast_authority::{
    Action, Current, Declared, DeclaredAccess, DeclaredLink, DeclaredService, DesiredCredential,
    Facts, Failure, Key, KeyPlace, Lifetimes, Observed, Reason, ResourceRef, SignedBy, Situation,
    Skew, Staged, decide, desired, detect, wake_at,
};
use handfast_pki::{Fingerprint, Host, Name, Profile, TrustDomain};
use handfast_store::{Kind, Source};
use jiff::Timestamp;
use proptest::prelude::*;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn now() -> Timestamp {
    Timestamp::from_second(2_000_000_000).unwrap()
}

fn declared(standalone: bool) -> Declared {
    let hosts: Vec<Host> = ["west.example", "127.0.0.1"].map(|host| host.parse().unwrap()).into();
    let mut declared = Declared::new(name("west"));
    declared.trust_domain = (!standalone).then(|| "demo.example".parse::<TrustDomain>().unwrap());
    declared.accesses.push(DeclaredAccess {
        resource: ResourceRef::new("RouterAccess", "west"),
        credential: declared.names.site_server.clone(),
        hosts: hosts.clone(),
    });
    declared.links.push(DeclaredLink {
        resource: ResourceRef::new("Link", "north"),
        name: name("north"),
        credential: name("north"),
    });
    declared.services.push(DeclaredService {
        resource: ResourceRef::new("Listener", "payments"),
        credential: name("handfast-tls-payments"),
        hosts,
    });
    declared
}

/// A store in memory that does what actions say, and nothing else.
#[derive(Clone, Debug)]
struct World {
    desired: Vec<DesiredCredential>,
    observed: BTreeMap<Key, Observed>,
    asked: BTreeSet<Key>,
    failures: BTreeMap<Key, Failure>,
    held: BTreeSet<Name>,
    trust: BTreeMap<Name, BTreeSet<Fingerprint>>,
    skew: Option<Skew>,
    made: u32,
    now: Timestamp,
}

impl World {
    fn new(declared: &Declared) -> Self {
        Self {
            desired: desired(declared),
            observed: BTreeMap::new(),
            asked: BTreeSet::new(),
            failures: BTreeMap::new(),
            held: BTreeSet::new(),
            trust: BTreeMap::new(),
            skew: None,
            made: 0,
            now: now(),
        }
    }

    fn with<T>(&self, ask: impl FnOnce(&Situation<'_>) -> T) -> T {
        let observed: Vec<Observed> = self.observed.values().cloned().collect();
        ask(&Situation {
            desired: &self.desired,
            observed: &observed,
            failures: &self.failures,
            asked: &self.asked,
            held: &self.held,
            trust: &self.trust,
            signers: &BTreeMap::new(),
            skew: self.skew.as_ref(),
            now: self.now,
        })
    }

    fn decide(&self) -> Vec<Action> {
        self.with(decide)
    }

    fn current(&self, key: &Key) -> &Current {
        self.observed.get(key).map_or(&Current::Missing, |seen| &seen.current)
    }

    fn wanted(&self, key: &Key) -> &DesiredCredential {
        self.desired.iter().find(|each| (each.kind, &each.name) == (key.0, &key.1)).unwrap()
    }

    fn put(&mut self, key: &Key, current: Current, staged: Staged) {
        let seen = Observed { kind: key.0, name: key.1.clone(), current, staged };
        self.observed.insert(key.clone(), seen);
    }

    /// What would be made for this credential, `age` after it was made.
    fn make(&mut self, key: &Key, age: Duration) -> Facts {
        self.made += 1;
        let wanted = self.wanted(key).clone();
        let fingerprint = Fingerprint::of(format!("{key:?} {}", self.made).as_bytes());
        let authority = match &wanted.signed_by {
            SignedBy::Issuer(signer) => {
                self.current(&(Kind::Issuer, signer.clone())).facts().cloned()
            }
            SignedBy::Itself | SignedBy::RemoteSite(_) => None,
        };
        let start = self.now.checked_sub(age).unwrap();
        let mut not_after = start.checked_add(wanted.ttl).unwrap();
        if let Some(authority) = &authority {
            not_after = not_after.min(authority.not_after);
        }
        Facts {
            fingerprint,
            serial: self.made.to_string(),
            issuer: "CN=any".to_owned(),
            identity: wanted.subject.identity.clone(),
            common_name: Some(wanted.subject.common_name.clone()),
            dns: wanted.subject.dns.iter().cloned().collect(),
            ips: wanted.subject.ips.iter().copied().collect(),
            not_before: start.checked_sub(Duration::from_secs(60)).unwrap(),
            not_after,
            signer: Some(authority.as_ref().map_or(fingerprint, |facts| facts.fingerprint)),
            signer_key: None,
            anchors: authority.map_or_else(|| [fingerprint].into(), |facts| facts.anchors),
            id: None,
            revoked: None,
            can_sign: true,
            key: KeyPlace::Plain,
        }
    }

    fn apply(&mut self, action: &Action) {
        let key = action.key().clone();
        let before = self.current(&key).clone();
        assert!(!before.is_supplied(), "{action:?} writes what is the user's");
        match action {
            Action::Anchor(_) => {
                let mut facts = before.usable().unwrap().clone();
                let SignedBy::Issuer(signer) = self.wanted(&key).signed_by.clone() else {
                    panic!("{key:?} signs itself");
                };
                let authority = self.current(&(Kind::Issuer, signer.clone())).facts().cloned();
                facts.anchors = match self.trust.get(&signer) {
                    Some(trust) => trust.clone(),
                    None => authority.unwrap().anchors,
                };
                self.put(&key, managed(facts), Staged::Nothing);
            }
            Action::Await(_) => {}
            Action::Discard(_) => self.put(&key, before, Staged::Nothing),
            Action::Issue(_) | Action::Renew(..) => {
                let facts = self.make(&key, Duration::ZERO);
                self.put(&key, managed(facts), Staged::Nothing);
                self.asked.remove(&key);
            }
            Action::Prove(_) => {
                let Some(Staged::Complete(facts)) =
                    self.observed.get(&key).map(|seen| seen.staged.clone())
                else {
                    panic!("nothing to prove for {key:?}");
                };
                self.put(&key, managed(*facts), Staged::Nothing);
                self.asked.remove(&key);
            }
            Action::Request(..) => {
                self.put(&key, before, Staged::Request);
                self.asked.remove(&key);
            }
        }
    }

    /// Decides and does until nothing is left to do; returns all that was done.
    fn settle(&mut self) -> Vec<Action> {
        let mut done = Vec::new();
        for _ in 0..16 {
            let mut actions = self.decide();
            actions.retain(|action| !matches!(action, Action::Await(_)));
            if actions.is_empty() {
                return done;
            }
            for action in actions {
                self.apply(&action);
                done.push(action);
            }
        }
        panic!("never comes to rest: {done:#?}");
    }
}

fn managed(facts: Facts) -> Current {
    Current::Usable { source: Source::Managed, facts: Box::new(facts), warnings: Vec::new() }
}

fn supplied(facts: Facts) -> Current {
    Current::Usable { source: Source::Supplied, facts: Box::new(facts), warnings: Vec::new() }
}

fn broken(source: Source) -> Current {
    Current::Broken { source, what: "torn".into(), remedy: "mend it".into(), facts: None }
}

/// One of the ways in which a credential can lie on disk, by number; ages are in percent of life.
fn scatter(world: &mut World, key: &Key, how: u8, age: u32) {
    let aged = world.wanted(key).ttl.mul_f64(f64::from(age) / 100.0);
    let current = match how % 8 {
        0 => Current::Missing,
        1 => supplied(world.make(key, aged)),
        2 => broken(Source::Supplied),
        3 => broken(Source::Managed),
        4 => {
            let mut facts = world.make(key, aged);
            facts.common_name = Some("another".to_owned());
            managed(facts)
        }
        5 => {
            let mut facts = world.make(key, aged);
            facts.signer = Some(Fingerprint::of(b"an earlier CA"));
            managed(facts)
        }
        _ => managed(world.make(key, aged)),
    };
    let staged = match how / 8 % 6 {
        0 => Staged::Complete(Box::new(world.make(key, aged))),
        1 => Staged::Request,
        2 => Staged::Unreadable,
        _ => Staged::Nothing,
    };
    world.put(key, current, staged);
}

fn scattered(standalone: bool, picks: &[(u8, u32)]) -> World {
    let mut world = World::new(&declared(standalone));
    let keys: Vec<Key> = world.desired.iter().map(|each| (each.kind, each.name.clone())).collect();
    for (key, (how, age)) in keys.iter().zip(picks.iter().cycle()) {
        scatter(&mut world, key, *how, *age);
    }
    world
}

fn worlds() -> impl Strategy<Value = World> {
    (any::<bool>(), proptest::collection::vec((any::<u8>(), 0_u32..150), 12))
        .prop_map(|(standalone, picks)| scattered(standalone, &picks))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_world_comes_to_rest_and_supplied_is_never_written(mut world in worlds()) {
        let before = world.clone();
        world.settle();
        for (key, seen) in &before.observed {
            if seen.current.is_supplied() {
                prop_assert_eq!(world.current(key), &seen.current);
            }
        }
        // At rest, asking again changes nothing.
        prop_assert_eq!(world.settle(), Vec::new());
    }

    #[test]
    fn at_rest_everything_that_can_be_made_is_there_and_fits(mut world in worlds()) {
        world.settle();
        for wanted in &world.desired {
            let SignedBy::Issuer(signer) = &wanted.signed_by else { continue };
            let authority = world.current(&(Kind::Issuer, signer.clone())).usable().cloned();
            let Some(authority) = authority.filter(|facts| facts.not_after > now()) else {
                continue;
            };
            let current = world.current(&(wanted.kind, wanted.name.clone()));
            if current.is_supplied() {
                continue;
            }
            let Some(facts) = current.usable() else {
                prop_assert!(false, "{} is not there: {current:?}", wanted.name);
                continue;
            };
            prop_assert_eq!(facts.signer, Some(authority.fingerprint));
            prop_assert_eq!(&facts.anchors, &authority.anchors);
            prop_assert_eq!(facts.common_name.as_ref(), Some(&wanted.subject.common_name));
            prop_assert!(facts.renew_at() > now());
        }
    }

    #[test]
    fn the_next_look_is_in_the_future_and_not_after_what_is_due(mut world in worlds()) {
        world.settle();
        let wake = world.with(wake_at);
        prop_assert!(wake > world.now);
        for wanted in &world.desired {
            let key = (wanted.kind, wanted.name.clone());
            if let Current::Usable { source: Source::Managed, facts, .. } = world.current(&key)
                && facts.renew_at() > world.now
            {
                prop_assert!(wake <= facts.renew_at().max(world.now.checked_add(Duration::from_secs(1)).unwrap()));
            }
        }
    }

    #[test]
    fn a_wrong_clock_makes_nothing(mut world in worlds()) {
        world.skew = Some(Skew { behind: Duration::from_secs(86_400), evidence: "a test".into() });
        for action in world.settle() {
            prop_assert!(
                matches!(action, Action::Discard(_) | Action::Prove(_)),
                "{:?} under a wrong clock", action
            );
        }
    }

    #[test]
    fn what_failed_is_left_alone_until_its_time(mut world in worlds(), count in 1_u32..40) {
        let actions = world.decide();
        for action in &actions {
            let failure = Failure { count, last: world.now, what: "a test".into() };
            world.failures.insert(action.key().clone(), failure);
        }
        for action in world.decide() {
            prop_assert!(!world.failures.contains_key(action.key()), "{:?}", action);
        }
        // ... and taken up again later, but for what cannot wait so long.
        let wake = world.with(wake_at);
        prop_assert!(wake > world.now);
    }
}

/// The clock was set back by a day after a failure: nobody waits until that day is over.
#[test]
fn a_failure_in_the_future_holds_nothing_back() {
    let mut world = World::new(&declared(false));
    let asked = world.decide();
    assert!(!asked.is_empty());
    for action in &asked {
        let failure =
            Failure { count: 9, last: now() + Duration::from_secs(86_400), what: "a test".into() };
        world.failures.insert(action.key().clone(), failure);
    }
    assert_eq!(world.decide(), asked);
}

#[test]
fn an_empty_store_is_filled_root_first_each_once() {
    for standalone in [false, true] {
        let mut world = World::new(&declared(standalone));
        let done = world.settle();
        let keys: Vec<&Key> = done.iter().map(Action::key).collect();
        let distinct: BTreeSet<&Key> = keys.iter().copied().collect();
        assert_eq!(keys.len(), distinct.len(), "{done:#?}");
        assert!(done.iter().all(|action| matches!(action, Action::Issue(_))), "{done:#?}");
        // Everything but the link, whose credential another site signs.
        assert_eq!(keys.len(), world.desired.len() - 1);
        let roots = world.desired.iter().filter(|each| each.profile == Profile::Root).count();
        assert_eq!(roots, usize::from(!standalone));
    }
}

#[test]
fn a_new_site_ca_renews_what_it_signs_and_nothing_else() {
    let declared = declared(false);
    let mut world = World::new(&declared);
    world.settle();
    let ca = (Kind::Issuer, declared.names.site_ca.clone());
    let replaced = world.make(&ca, Duration::ZERO);
    world.put(&ca, managed(replaced), Staged::Nothing);
    let server = (Kind::Certificate, declared.names.site_server.clone());
    assert_eq!(world.settle(), vec![Action::Renew(server, Reason::AuthorityChanged)]);
}

#[test]
fn a_due_site_ca_goes_before_its_leaves() {
    let declared = declared(false);
    let mut world = World::new(&declared);
    world.settle();
    world.now = now().checked_add(Duration::from_secs(80 * 86_400)).unwrap();
    let done = world.settle();
    let at = |name: &Name| done.iter().position(|action| action.key().1 == *name).unwrap();
    assert!(at(&declared.names.site_ca) < at(&declared.names.site_server), "{done:#?}");
    let server = done.iter().filter(|each| each.key().1 == declared.names.site_server).count();
    assert_eq!(server, 1, "{done:#?}");
    assert!(done.iter().all(|action| action.key().1 != declared.names.root), "{done:#?}");
}

#[test]
fn a_root_is_not_made_where_nothing_needs_it() {
    let declared = declared(false);
    let mut world = World::new(&declared);
    for ca in [&declared.names.site_ca, &declared.names.local_ca, &declared.names.service_ca] {
        let key = (Kind::Issuer, ca.clone());
        let facts = world.make(&key, Duration::ZERO);
        world.put(&key, supplied(facts), Staged::Nothing);
    }
    let done = world.settle();
    assert!(done.iter().all(|action| action.key().0 == Kind::Certificate), "{done:#?}");
    assert!(done.iter().any(|action| action.key().1 == declared.names.site_server));
}

#[test]
fn a_root_that_cannot_be_read_is_never_replaced() {
    let declared = declared(false);
    let mut world = World::new(&declared);
    world.settle();
    world.put(
        &(Kind::Issuer, declared.names.root.clone()),
        broken(Source::Managed),
        Staged::Nothing,
    );
    assert_eq!(world.settle(), Vec::new());
}

#[test]
fn a_link_credential_is_asked_for_once_and_waits() {
    let declared = declared(false);
    let mut world = World::new(&declared);
    let link = (Kind::Certificate, name("north"));
    let held = world.make(&link, Duration::from_secs(20 * 3600));
    world.put(&link, managed(held), Staged::Nothing);
    let done = world.settle();
    assert!(done.contains(&Action::Request(link.clone(), Reason::Due)), "{done:#?}");
    assert_eq!(world.decide(), vec![Action::Await(link.clone())]);
    // Expired, it can neither ask nor wait any more.
    world.now = now().checked_add(Duration::from_secs(5 * 3600)).unwrap();
    assert!(world.decide().iter().all(|action| *action.key() != link));
}

#[test]
fn a_longer_leaf_life_renews_the_ca_first() {
    let mut declared = declared(false);
    declared.settings =
        Lifetimes::new(Duration::from_secs(600), Duration::from_secs(3600)).unwrap();
    let mut world = World::new(&declared);
    world.settle();
    declared.settings =
        Lifetimes::new(Duration::from_secs(3600), Duration::from_secs(21_600)).unwrap();
    world.desired = desired(&declared);
    let done = world.settle();
    let ca = (Kind::Issuer, declared.names.site_ca.clone());
    assert!(done.contains(&Action::Renew(ca, Reason::LifetimeChanged)), "{done:#?}");
    // And back: everything lives too long now.
    declared.settings = Lifetimes::new(Duration::from_secs(10), Duration::from_secs(60)).unwrap();
    world.desired = desired(&declared);
    let done = world.settle();
    let server = (Kind::Certificate, declared.names.site_server.clone());
    assert!(done.iter().any(|action| *action.key() == server), "{done:#?}");
}

#[test]
fn skew_is_seen_from_the_store_and_from_the_ledger() {
    let declared = declared(false);
    let mut world = World::new(&declared);
    world.settle();
    let observed: Vec<Observed> = world.observed.values().cloned().collect();
    assert_eq!(detect(&observed, None, now()), None);
    let yesterday = now().checked_sub(Duration::from_secs(86_400)).unwrap();
    let skew = detect(&observed, None, yesterday).unwrap();
    assert_eq!(skew.behind, Duration::from_secs(86_400 - 60));
    let ahead = now().checked_add(Duration::from_secs(3600)).unwrap();
    let skew = detect(&observed, Some(ahead), now()).unwrap();
    assert_eq!(skew.behind, Duration::from_secs(3600));
    assert!(skew.evidence.contains("ledger"), "{}", skew.evidence);
}

#[test]
fn the_table_of_credentials_is_that_of_the_design() {
    let names = |declared: &Declared| -> Vec<String> {
        desired(declared).iter().map(|each| format!("{} {}", each.kind, each.name)).collect()
    };
    assert_eq!(
        names(&declared(false)),
        [
            "issuer handfast-root",
            "issuer handfast-site-ca",
            "issuer handfast-local-ca",
            "issuer handfast-service-ca",
            "certificate handfast-local-server",
            "certificate handfast-local-client",
            "certificate handfast-service-client",
            "certificate handfast-site-server",
            "certificate handfast-tls-payments",
            "certificate north",
        ]
    );
    assert_eq!(
        names(&Declared::new(name("east"))),
        [
            "issuer handfast-site-ca",
            "issuer handfast-local-ca",
            "issuer handfast-service-ca",
            "certificate handfast-local-server",
            "certificate handfast-local-client",
        ]
    );
}

#[test]
fn one_name_for_two_purposes_is_reported_and_the_first_keeps_it() {
    let mut declared = declared(false);
    declared.links[0].credential = declared.names.site_server.clone();
    let conflicts = handfast_authority::conflicts(&declared);
    assert_eq!(conflicts.len(), 1);
    assert_eq!(conflicts[0].taken_for, Profile::SiteServer);
    assert_eq!(conflicts[0].resource.to_string(), "Link/north");
    let server = declared.names.site_server.clone();
    let holders = desired(&declared).into_iter().filter(|each| each.name == server).count();
    assert_eq!(holders, 1);
}
