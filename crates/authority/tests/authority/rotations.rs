//! Rotations: the state machine walked from every state, and real homes taken through every step,
//! killed and restarted between them.

use std::collections::BTreeSet;
use std::time::Duration;

use handfast_authority::rotation::{
    Cause, Consumer, Heard, Mend, Next, Phase, Rotation, Seen, Waiver, Who, next, scheduled,
};
use handfast_authority::{
    GrantOptions, KeyState, Revocable, RevokeRequest, RotateError, RotateOrder, SiteSeen,
};
use handfast_pki::{
    Certificate, Fingerprint, Purpose, RevocationReason, TrustAnchors, verify_chain,
};
use handfast_store::{Audience, AuditRange, CredentialStore, Kind, Ledger};
use jiff::Timestamp;
use proptest::prelude::*;

use crate::site::{Applicant, Site, anchors, assert_live_are_valid, chain, name, start};

const OLD: Fingerprint = Fingerprint([1; 32]);
const NEW: Fingerprint = Fingerprint([2; 32]);

/// A disk, as far as the machine sees it.
#[derive(Clone, Debug)]
struct Disk {
    staged: Option<Fingerprint>,
    current: Option<Fingerprint>,
    previous: Option<Fingerprint>,
}

impl Disk {
    fn fresh() -> Self {
        Self { staged: None, current: Some(OLD), previous: None }
    }

    fn mend(&mut self, mend: Mend, record: &mut Rotation) {
        match mend {
            Mend::Adopt(new) => {
                *record = Rotation { new: Some(new), ..record.entering(Phase::Prepared, start()) }
            }
            Mend::DiscardPrevious => self.previous = None,
            Mend::DiscardStaged => self.staged = None,
            Mend::Make => self.staged = Some(NEW),
            Mend::Promote => {
                self.previous = self.current;
                self.current = self.staged.take();
            }
            Mend::Restage => self.staged = self.previous,
        }
    }

    fn seen(&self, consumers: Vec<Consumer>, awaits_absent: bool) -> Seen {
        Seen {
            staged: self.staged,
            staged_has_new_key: self.staged.is_some() && self.staged != self.current,
            current: self.current,
            previous: self.previous,
            consumers,
            awaits_absent,
            activate_at: start(),
            clock_is_sound: true,
        }
    }
}

fn begun(cause: Cause) -> Rotation {
    Rotation::begin(OLD, None, cause, "operator", "because", start())
}

fn consumer(who: &str, reachable: bool, trusts: bool, follows: bool) -> Consumer {
    Consumer {
        who: Who::Site(name(who)),
        trusts,
        sequence: None,
        follows,
        reachable,
        seen: None,
        expires: None,
    }
}

/// Takes the machine as far as it goes with these consumers.
fn walk(record: &mut Rotation, disk: &mut Disk, consumers: &[Consumer], absent: bool) -> Next {
    for _ in 0..16 {
        match next(record, &disk.seen(consumers.to_vec(), absent), start()) {
            Next::Mend(mend) => disk.mend(mend, record),
            Next::Enter(phase) => *record = record.entering(phase, start()),
            waiting => return waiting,
        }
    }
    panic!("never comes to rest: {record:?} {disk:?}");
}

#[test]
fn a_rotation_nobody_waits_for_goes_from_the_first_step_to_the_last() {
    for cause in [Cause::Asked, Cause::Forced] {
        let (mut record, mut disk) = (begun(cause), Disk::fresh());
        assert_eq!(walk(&mut record, &mut disk, &[], true), Next::Rest);
        assert_eq!(record.phase, Phase::Revoked);
        assert_eq!((disk.staged, disk.current, disk.previous), (None, Some(NEW), None));
        assert_eq!(record.active(), 2);
    }
}

#[test]
fn gates_wait_for_whom_they_must_and_for_nobody_else() {
    let away = consumer("away", false, false, false);
    let deaf = consumer("deaf", true, false, false);
    let slow = consumer("slow", true, true, false);

    // Before it signs: whoever can be reached and does not trust it yet.
    let (mut record, mut disk) = (begun(Cause::Asked), Disk::fresh());
    let Next::Wait(laggards) = walk(&mut record, &mut disk, &[away.clone(), deaf.clone()], true)
    else {
        panic!("{record:?}");
    };
    assert_eq!(record.phase, Phase::Prepared);
    assert_eq!(laggards.iter().map(|l| l.who.to_string()).collect::<Vec<_>>(), ["site deaf"]);

    // Before the old one goes: everybody, but in a compromise who is away is not waited for.
    for (cause, waits) in
        [(Cause::Asked, vec!["site away", "site slow"]), (Cause::Forced, vec!["site slow"])]
    {
        let (mut record, mut disk) = (begun(cause), Disk::fresh());
        let Next::Wait(laggards) =
            walk(&mut record, &mut disk, &[away.clone(), slow.clone()], true)
        else {
            panic!("{record:?}");
        };
        assert_eq!(record.phase, Phase::Draining);
        assert_eq!(laggards.iter().map(|l| l.who.to_string()).collect::<Vec<_>>(), waits);
    }

    // Who has nothing left that is valid is no laggard any more.
    let expired = Consumer { expires: Some(start()), ..away.clone() };
    let (mut record, mut disk) = (begun(Cause::Asked), Disk::fresh());
    assert_eq!(walk(&mut record, &mut disk, &[expired], true), Next::Rest);

    // An operator's word lets sites be left behind, and never what is ours.
    let ours = Consumer { who: Who::Credential(name("server")), ..slow };
    let (mut record, mut disk) = (begun(Cause::Asked), Disk::fresh());
    walk(&mut record, &mut disk, &[away.clone(), ours.clone()], true);
    record.waiver = Some(Waiver { by: "o".into(), why: "w".into(), at: start() });
    let Next::Wait(laggards) = walk(&mut record, &mut disk, &[away, ours], true) else {
        panic!("{record:?}");
    };
    assert_eq!(laggards.len(), 1, "{laggards:?}");
}

#[test]
fn a_scheduled_successor_waits_for_its_time_and_for_a_sound_clock() {
    let (mut record, mut disk) = (begun(Cause::Scheduled), Disk::fresh());
    let later = start().checked_add(Duration::from_secs(60)).unwrap();
    walk(&mut record, &mut disk, &[consumer("deaf", true, false, false)], true);
    let mut seen = disk.seen(Vec::new(), true);
    seen.activate_at = later;
    assert_eq!(next(&record, &seen, start()), Next::WaitUntil(later));
    seen.clock_is_sound = false;
    assert_eq!(next(&record, &seen, later), Next::Wait(Vec::new()));
    seen.clock_is_sound = true;
    assert_eq!(next(&record, &seen, later), Next::Enter(Phase::Draining));
}

#[test]
fn there_is_a_way_back_from_every_step_until_the_last() {
    // Before the successor signs: it is forgotten.
    let (mut record, mut disk) = (begun(Cause::Asked), Disk::fresh());
    walk(&mut record, &mut disk, &[consumer("deaf", true, false, false)], true);
    record = record.back("operator", "", start()).unwrap();
    assert_eq!(walk(&mut record, &mut disk, &[], true), Next::Rest);
    assert_eq!((record.phase, record.active()), (Phase::RolledBack, 1));
    assert_eq!((disk.staged, disk.current), (None, Some(OLD)));

    // After: the old one is the successor, through the same gates; and forth again.
    let slow = [consumer("slow", true, true, false)];
    let (mut record, mut disk) = (begun(Cause::Asked), Disk::fresh());
    walk(&mut record, &mut disk, &slow, true);
    assert_eq!((disk.current, record.active()), (Some(NEW), 2));
    record = record.back("operator", "", start()).unwrap();
    walk(&mut record, &mut disk, &slow, true);
    assert_eq!((disk.current, record.active()), (Some(OLD), 1));
    record = record.back("operator", "", start()).unwrap();
    walk(&mut record, &mut disk, &slow, true);
    assert_eq!((disk.current, record.active()), (Some(NEW), 2));
    assert_eq!(walk(&mut record, &mut disk, &[], true), Next::Rest);
    assert_eq!((record.phase, disk.previous), (Phase::Revoked, None));
    assert_eq!(record.back("operator", "", start()), None);
}

proptest! {
    #[test]
    fn any_record_is_read_back_as_it_was(
        why in "\\PC*", by in any::<String>(), heard in proptest::collection::btree_map("[a-z]{1,8}", any::<u64>(), 0..4),
        phase in 0_usize..5, cause in 0_usize..3, sequence in any::<u64>(), new in any::<Option<[u8; 32]>>(),
        waived in any::<Option<(String, String)>>(),
    ) {
        let record = Rotation {
            phase: Phase::ALL[phase],
            cause: Cause::ALL[cause],
            by,
            why,
            new: new.map(Fingerprint),
            sequence,
            cross: Some("-----BEGIN\nx\r\n-----END\n".to_owned()),
            waiver: waived.map(|(by, why)| Waiver { by, why, at: start() }),
            heard: heard.into_iter().map(|(site, sequence)| (name(&site), Heard { sequence, at: start() })).collect(),
            ..begun(Cause::Asked)
        };
        prop_assert_eq!(Rotation::from_text(&record.to_text()), Some(record));
    }

    #[test]
    fn nonsense_is_no_record(text in any::<String>()) {
        prop_assert!(Rotation::from_text(&text).is_none_or(|read| read.to_text().starts_with("rotation 1")));
    }

    /// Wherever it was killed, whatever is on disk: it comes to rest, or waits for somebody by name;
    /// and at rest exactly one key is there.
    #[test]
    fn from_any_disk_it_comes_to_rest(
        phase in 0_usize..5, has_new in any::<bool>(),
        staged in 0_usize..4, current in 1_usize..4, previous in 0_usize..4,
        reachable in any::<bool>(), trusts in any::<bool>(), follows in any::<bool>(),
    ) {
        let some = |which: usize| [None, Some(OLD), Some(NEW), Some(Fingerprint([3; 32]))][which];
        let mut disk = Disk { staged: some(staged), current: some(current), previous: some(previous) };
        let mut record = Rotation {
            phase: Phase::ALL[phase],
            new: has_new.then_some(NEW),
            ..begun(Cause::Asked)
        };
        let consumers = [consumer("one", reachable, trusts, follows)];
        match walk(&mut record, &mut disk, &consumers, true) {
            Next::Rest => prop_assert!(!record.is_under_way()),
            Next::Wait(laggards) => prop_assert_eq!(laggards.len(), 1),
            other => prop_assert!(false, "{:?}", other),
        }
        prop_assert!(disk.current.is_some());
    }

    #[test]
    fn a_successor_is_prepared_before_it_signs_and_signs_in_time(life in 61_i64..400_000_000, share in 1_u32..12) {
        let end = start().checked_add(jiff::SignedDuration::from_secs(life)).unwrap();
        let begin = start().checked_sub(Duration::from_secs(60)).unwrap();
        let longest = Duration::from_secs(life.unsigned_abs()) / share;
        let (prepare, activate) = scheduled(begin, end, longest);
        prop_assert!(start() <= prepare && prepare <= activate && activate <= end);
        if share >= 6 {
            let left = Duration::try_from(end.duration_since(activate)).unwrap();
            prop_assert!(left >= longest, "{left:?} for {longest:?}");
        }
    }
}

fn order(site: &Site, authority: &str, forced: bool, without_laggards: bool) {
    let order = RotateOrder {
        authority: name(authority),
        forced,
        without_laggards,
        by: "uid:0".to_owned(),
        why: "a test".to_owned(),
    };
    site.authority.rotate(&site.declared, &order, site.now).unwrap();
}

fn fingerprint(site: &Site, issuer: &str) -> Fingerprint {
    let stored = site.authority.store().load(Kind::Issuer, &name(issuer)).unwrap().unwrap();
    stored.credential(None).unwrap().leaf().fingerprint()
}

fn states(site: &Site, issuer: &str) -> Vec<KeyState> {
    let all = site.authority.authorities(&site.declared, site.now).unwrap();
    let standing = all.into_iter().find(|each| each.name == name(issuer)).unwrap();
    standing.keys.iter().map(|key| key.state).collect()
}

/// Enrols a site, and returns what the network would see of it when it is linked.
fn enrolled(west: &Site, site: &str) -> (SiteSeen, TrustAnchors) {
    let bundle = west.enrol(&GrantOptions::default(), &Applicant::new(site));
    let seen = SiteSeen {
        site: name(site),
        linked: true,
        lost_at: None,
        chain: Some(chain(&bundle)),
        acknowledged: Some((0, west.now)),
    };
    (seen, anchors(&bundle))
}

#[test]
fn every_authority_is_rotated_in_one_go_where_no_site_is_linked() {
    for (standalone, issuers) in [
        (false, vec!["handfast-root", "handfast-site-ca", "handfast-local-ca"]),
        (true, vec!["handfast-site-ca", "handfast-local-ca"]),
    ] {
        for issuer in issuers {
            let mut site = Site::new("west");
            if standalone {
                site.declared.trust_domain = None;
            }
            site.settled();
            let before = fingerprint(&site, issuer);
            order(&site, issuer, false, false);
            let report = site.settled();
            assert_ne!(fingerprint(&site, issuer), before, "{issuer}");
            assert_eq!(states(&site, issuer), [KeyState::Active], "{issuer}");
            assert_live_are_valid(&report, site.now);
            assert!(site.settled().changed.is_empty(), "{issuer}");
            let rows = site.authority.ledger().audit_rows(&AuditRange::after(0, 10_000)).unwrap();
            let actions: BTreeSet<String> = rows.into_iter().map(|row| row.row.action).collect();
            for phase in ["preparing", "prepared", "draining", "revoked"] {
                assert!(actions.contains(&format!("rotation.{phase}")), "{issuer}: {actions:?}");
            }
        }
    }
}

#[test]
fn every_step_survives_a_restart_and_the_away_come_back_over_the_cross_certificate() {
    let mut west = Site::new("west");
    west.settled();
    let (mut east, pinned) = enrolled(&west, "east");
    let first = fingerprint(&west, "handfast-root");
    order(&west, "handfast-root", false, false);

    // Prepared: trusted by what is ours, and east has not acknowledged.
    west.authority.sites_seen(vec![east.clone()]);
    west.settled();
    for _ in 0..2 {
        assert_eq!(states(&west, "handfast-root"), [KeyState::Prepared, KeyState::Active]);
        assert_eq!(fingerprint(&west, "handfast-root"), first);
        assert_eq!(west.live("handfast-site-server").anchors().len(), 2);
        west = west.restarted();
        west.authority.sites_seen(vec![east.clone()]);
        west.settled();
    }
    let bundle = west.authority.bundle(&west.declared).unwrap();
    assert_eq!((bundle.sequence, bundle.anchors.len()), (1, 2));

    // It acknowledged, and then went away: the new key signs, the old one waits for it.
    east.acknowledged = Some((1, west.now));
    west.authority.sites_seen(vec![east.clone()]);
    west.settled();
    (east.linked, east.chain) = (false, None);
    for _ in 0..2 {
        west = west.restarted();
        west.authority.sites_seen(vec![east.clone()]);
        west.settled();
        assert_eq!(states(&west, "handfast-root"), [KeyState::Active, KeyState::Draining]);
        assert_ne!(fingerprint(&west, "handfast-root"), first);
    }
    // Who knows only the old anchor follows what is presented now.
    let server = west.live("handfast-site-server");
    assert_eq!(verify_chain(server.chain(), &pinned, Purpose::Server, west.now), Ok(()));
    assert_eq!(server.chain().len(), 3, "leaf, site CA, cross certificate");

    // It is back, with a certificate of the new one: the old one goes.
    let renewed = west.enrol(
        &GrantOptions { audience: Audience::Site(name("east")), ..GrantOptions::default() },
        &Applicant::new("east"),
    );
    (east.linked, east.chain) = (true, Some(chain(&renewed)));
    west.authority.sites_seen(vec![east]);
    let report = west.settled();
    for _ in 0..2 {
        assert_eq!(states(&west, "handfast-root"), [KeyState::Active]);
        assert_eq!(west.live("handfast-site-server").anchors().len(), 1);
        west = west.restarted();
        west.settled();
    }
    let retired = report.bundle.unwrap().retired.unwrap();
    assert_eq!(retired.iter().map(Certificate::fingerprint).collect::<Vec<_>>(), [first]);
    assert_eq!(west.authority.bundle(&west.declared).unwrap().sequence, 2);
    assert!(
        west.authority.store().previous(Kind::Issuer, &name("handfast-root")).unwrap().is_none()
    );
}

#[test]
fn by_force_nobody_waits_for_the_away_and_nothing_of_the_old_key_may_finish() {
    let west = Site::new("west");
    west.settled();
    let (mut east, _) = enrolled(&west, "east");
    (east.linked, east.chain) = (false, None);
    west.authority.sites_seen(vec![east]);
    order(&west, "handfast-root", true, false);
    let report = west.settled();
    assert_eq!(states(&west, "handfast-root"), [KeyState::Active]);
    assert_eq!(report.bundle.unwrap().retired, None);
    assert_eq!(
        west.live("handfast-site-server").chain().len(),
        2,
        "the tainted key vouches for nothing"
    );
}

/// Nothing that a revoked site holds opens a door, so it would be waited for in vain, until that has expired.
#[test]
fn whose_certificates_are_revoked_is_waited_for_no_more() {
    for what in [
        Revocable::Identity("spiffe://demo.example/site/east".parse().unwrap()),
        Revocable::Name("east".to_owned()),
        // With the CA that signed it.
        Revocable::Name("handfast-site-ca".to_owned()),
    ] {
        let mut west = Site::new("west");
        west.settled();
        let (mut east, _) = enrolled(&west, "east");
        (east.linked, east.chain) = (false, None);
        west.authority.sites_seen(vec![east]);
        order(&west, "handfast-root", false, false);
        west.settled();
        assert_eq!(states(&west, "handfast-root"), [KeyState::Active, KeyState::Draining]);
        let request = RevokeRequest {
            what: what.clone(),
            reason: RevocationReason::KeyCompromise,
            actor: "uid:0".to_owned(),
            why: "stolen".to_owned(),
        };
        west.authority.revoke(&request, west.now).unwrap();
        let report = west.settled();
        assert_eq!(states(&west, "handfast-root"), [KeyState::Active], "{what}");
        assert_live_are_valid(&report, west.now);

        if what == Revocable::Name("handfast-site-ca".to_owned()) {
            continue;
        }
        // Let in again by a new token, it counts again.
        west.pass(60);
        west.settled();
        let options =
            GrantOptions { audience: Audience::Site(name("east")), ..GrantOptions::default() };
        west.enrol(&options, &Applicant::new("east"));
        order(&west, "handfast-root", false, false);
        west.settled();
        assert_eq!(
            states(&west, "handfast-root"),
            [KeyState::Active, KeyState::Draining],
            "{what}"
        );
    }
}

#[test]
fn a_tainted_ca_below_the_root_is_revoked() {
    let west = Site::new("west");
    west.settled();
    order(&west, "handfast-site-ca", false, false);
    west.settled();
    let ledger = west.authority.ledger();
    assert!(ledger.revocations_after(0, 10).unwrap().is_empty(), "not in peace");
    let stored = |west: &Site| {
        let ca = west.authority.store().load(Kind::Issuer, &name("handfast-site-ca"));
        ca.unwrap().unwrap().credential(None).unwrap().leaf().clone()
    };
    let tainted = stored(&west);
    order(&west, "handfast-site-ca", true, false);
    let report = west.settled();
    let revoked = ledger.revocations_after(0, 10).unwrap();
    assert_eq!(revoked.len(), 1, "{revoked:?}");
    assert_eq!(revoked[0].revocation.serial, *tainted.serial());
    assert_ne!(stored(&west).serial(), tainted.serial());
    assert_live_are_valid(&report, west.now);
}

#[test]
fn orders_that_cannot_be_taken_say_why() {
    let west = Site::new("west");
    west.settled();
    let order = |authority: &str, forced, without_laggards, why: &str| RotateOrder {
        authority: name(authority),
        forced,
        without_laggards,
        by: "uid:0".to_owned(),
        why: why.to_owned(),
    };
    let rotate = |order: &RotateOrder| west.authority.rotate(&west.declared, order, west.now);
    let refused = rotate(&order("handfast-root", true, false, " "));
    assert!(matches!(refused, Err(RotateError::NoReason { .. })), "{refused:?}");
    let refused = rotate(&order("handfast-root", false, true, "why not"));
    assert!(matches!(refused, Err(RotateError::NotUnderWay { .. })), "{refused:?}");
    let refused = rotate(&order("nobody", false, false, ""));
    assert!(matches!(refused, Err(RotateError::Unknown { .. })), "{refused:?}");
    let back =
        |what: &str| west.authority.roll_back(&west.declared, &name(what), "uid:0", "", west.now);
    assert!(matches!(back("handfast-root"), Err(RotateError::NotUnderWay { .. })));

    // One at a time, up and down the tree.
    let (east, _) = enrolled(&west, "east");
    west.authority.sites_seen(vec![east]);
    rotate(&order("handfast-root", false, false, "")).unwrap();
    west.settled();
    let refused = rotate(&order("handfast-site-ca", false, false, ""));
    assert!(matches!(refused, Err(RotateError::Busy { .. })), "{refused:?}");
    back("handfast-root").unwrap();
    west.settled();
    assert_eq!(states(&west, "handfast-root"), [KeyState::Active]);
    assert_eq!(west.live("handfast-site-server").anchors().len(), 1);
    rotate(&order("handfast-site-ca", false, false, "")).unwrap();
}

fn ca(site: &Site) -> Timestamp {
    let stored =
        site.authority.store().load(Kind::Issuer, &name("handfast-site-ca")).unwrap().unwrap();
    stored.credential(None).unwrap().leaf().not_after()
}

#[test]
fn left_alone_for_months_the_cas_are_rotated_by_themselves_and_nothing_expires() {
    let mut west = Site::new("west");
    west.settled();
    let end = ca(&west);
    for _ in 0..24 {
        west.pass(5 * 86_400);
        // The leaves of five days ago have expired, and are made anew first.
        let report = west.reconcile();
        assert_live_are_valid(&report, west.now);
        assert!(ca(&west) > west.now);
    }
    assert!(ca(&west) > end);
}

/// Each key of a root has a name of its own: what the one before signed finds no issuer any more, instead of one
/// whose signature does not fit. The name stays with the key when its certificate is made anew.
#[test]
fn a_root_of_another_generation_has_another_name() {
    let mut site = Site::new("west");
    site.settled();
    let server = |site: &Site| site.live("handfast-site-server");
    let before = server(&site);
    for (generation, expected) in [(2, "demo.example root G2"), (3, "demo.example root G3")] {
        site.pass(60);
        let order = RotateOrder {
            authority: name("handfast-root"),
            forced: false,
            without_laggards: false,
            by: "test".to_owned(),
            why: String::new(),
        };
        site.authority.rotate(&site.declared, &order, site.now).unwrap();
        site.settled();
        let root = server(&site).anchors().iter().next().unwrap().clone();
        assert_eq!(root.common_name(), Some(expected), "key {generation}");
        assert!(site.settled().changed.is_empty(), "and it is as it should be");
    }
    let now = server(&site);
    assert!(verify_chain(now.chain(), now.anchors(), Purpose::Server, site.now).is_ok());
    let old = verify_chain(before.chain(), now.anchors(), Purpose::Server, site.now).unwrap_err();
    assert!(old.to_string().contains("which is not trusted here"), "{old}");
    assert!(!old.to_string().contains("signature"), "{old}");

    let names = handfast_authority::Selection::Named(vec![name("handfast-root")]);
    site.authority.renew_now(&site.declared, &names, site.now).unwrap();
    site.settled();
    let root = server(&site).anchors().iter().next().unwrap().clone();
    assert_eq!(root.common_name(), Some("demo.example root G3"));
    assert!(site.settled().changed.is_empty());
    assert_live_are_valid(&site.settled(), site.now);
}
