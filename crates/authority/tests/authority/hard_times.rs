//! Hard times, with a clock of our own: an authority that is away for a day, a clock that jumps, and
//! everybody asking for the same thing at once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use handfast_authority::{CredentialState, GrantOptions, Lifetimes, RedeemRefusal};
use handfast_pki::{Purpose, verify_chain};
use handfast_store::{IssuedFilter, Ledger};

use crate::site::{Applicant, Site, answer, chain, name, start, state};

const LINK: &str = "link-west";
const HOUR: i64 = 3600;

/// West with these settings, and an east that is linked to it.
fn linked(settings: Lifetimes) -> (Site, Site) {
    let mut west = Site::new("west");
    west.declared.settings = settings;
    west.settled();
    let mut east = Site::edge("east");
    east.settled();
    let anchors = west.authority.trust_anchors().unwrap();
    let request = east
        .authority
        .begin_enrolment(&name(LINK), &name(LINK), &name("east"), &anchors, east.now)
        .unwrap();
    let bundle = west.enrol(&GrantOptions::default(), &Applicant::of("east", &request));
    east.authority.complete(&name(LINK), answer(&bundle), east.now).unwrap();
    east.link(LINK);
    east.settled();
    (west, east)
}

/// Whether the link's credential of east is good for a handshake.
fn serves(east: &Site) -> bool {
    let live = east.live(LINK);
    verify_chain(live.chain(), live.anchors(), Purpose::Client, east.now).is_ok()
}

/// With `renewal-grace: 24h` (or `leaf-ttl: 96h`) an authority may be away for a day, whenever that begins:
/// nothing expires, and what was due is renewed when it is back. With the defaults it is six hours, as
/// docs/book/check.md says. East knows nothing of the setting: what it holds lives long enough.
#[test]
fn an_authority_that_is_away_for_a_day_is_outlasted() {
    let leaf = |text| Lifetimes::parse(Some(text), None, None).unwrap();
    let grace = |text| Lifetimes::parse(None, None, Some(text)).unwrap();
    for (settings, away, outlasted) in [
        (grace("24h"), 24, true),
        (grace("4d"), 96, true),
        (leaf("96h"), 24, true),
        (leaf("24h"), 6, true),
        (leaf("24h"), 24, false),
    ] {
        // It goes away at the worst moment: just when the renewal is due.
        let (mut west, mut east) = linked(settings);
        let ttl = settings.leaf().as_secs() / 3600;
        let report = east.reconcile();
        let facts = report.credentials.iter().find(|one| one.name == name(LINK)).unwrap();
        east.now = facts.renew_at.unwrap();
        let end = east.now.checked_add(jiff::SignedDuration::from_hours(away)).unwrap();
        let mut attempts = 0;
        while east.now < end {
            let report = east.reconcile();
            for request in &report.waiting {
                if request.send_at <= east.now {
                    attempts += 1;
                    east.authority.request_failed(&request.credential, "nobody answers", east.now);
                }
            }
            assert!(serves(&east) || !outlasted, "{ttl} h, away for {away} h: at {}", east.now);
            let report = east.reconcile();
            east.now = report
                .next_wake
                .max(east.now.checked_add(jiff::SignedDuration::from_mins(30)).unwrap());
        }
        assert!(attempts >= 10, "{attempts} attempts");
        east.now = end;
        west.now = end;
        west.settled();
        assert_eq!(serves(&east), outlasted, "{ttl} h, away for {away} h");
        if !outlasted {
            assert_eq!(state(&east.reconcile(), LINK), CredentialState::Expired);
            continue;
        }
        // Back again: the request that waits is answered, and the link never knew.
        let request = east.reconcile().waiting.remove(0);
        let identity = "spiffe://demo.example/site/east".parse().unwrap();
        let renewed =
            west.authority.renew_for_peer(&identity, request.csr_pem.as_bytes(), west.now).unwrap();
        let taken = handfast_authority::EnrolmentAnswer {
            chain: renewed.chain,
            anchors: Some(renewed.anchors),
        };
        east.authority.complete(&name(LINK), taken, east.now).unwrap();
        let report = east.reconcile();
        assert_eq!(state(&report, LINK), CredentialState::Ready, "{:#?}", report.problems);
    }
}

/// A machine that slept for 25 hours finds its leaves expired: one look, and all are good again.
#[test]
fn a_day_that_was_slept_through_costs_one_reconciliation() {
    let mut west = Site::new("west");
    west.settled();
    west.pass(25 * HOUR);
    let report = west.settled();
    assert!(report.changed.len() >= 3, "{:#?}", report.changed);
    crate::site::assert_live_are_valid(&report, west.now);
    assert!(report.skew.is_none());
}

/// After the clock was ahead for a while: what was made then is made anew on request, and only that.
#[test]
fn what_was_made_while_the_clock_was_ahead_is_made_anew() {
    let mut west = Site::new("west");
    west.settled();
    west.pass(25 * HOUR);
    west.settled();
    west.pass(-25 * HOUR);
    let report = west.reconcile();
    let skew = report.skew.expect("it is noticed");
    assert!(skew.behind > Duration::from_secs(24 * 3600), "{skew:?}");
    let ahead: Vec<_> = report
        .credentials
        .iter()
        .filter(|facts| facts.not_before.is_some_and(|at| at > west.now))
        .map(|facts| facts.name.clone())
        .collect();
    assert!(!ahead.is_empty());
    let selection = handfast_authority::Selection::Named(ahead);
    let report = west.authority.renew_now(&west.declared, &selection, west.now).unwrap();
    assert_eq!(report.problems, Vec::new());
    assert!(report.skew.is_none());
    crate::site::assert_live_are_valid(&report, west.now);
}

/// Sixteen at once redeem one token for one site with one key: one certificate, used up once.
#[test]
fn duplicate_and_concurrent_redemptions_are_one() {
    let west = Site::new("west");
    west.settled();
    let (grant, code) = west.authority.issue_grant(&GrantOptions::default(), west.now).unwrap();
    let applicant = Applicant::new("east");
    let before = west.issued();
    let west = Arc::new(west);
    let serials: BTreeSet<String> = thread::scope(|scope| {
        let all: Vec<_> = (0..16)
            .map(|_| {
                let (west, applicant) = (Arc::clone(&west), applicant.clone());
                let (grant, code) = (grant.clone(), code.clone());
                scope.spawn(move || {
                    let bundle = west.redeem(grant.id.as_str(), code.expose(), &applicant).unwrap();
                    chain(&bundle).leaf().serial().to_string()
                })
            })
            .collect();
        all.into_iter().map(|each| each.join().unwrap()).collect()
    });
    assert_eq!(serials.len(), 1);
    assert_eq!(west.issued(), before + 1);
    // Replayed later, it is the same answer; with another key the token is spent.
    let again = west.redeem(grant.id.as_str(), code.expose(), &applicant).unwrap();
    assert!(serials.contains(&chain(&again).leaf().serial().to_string()));
    let other = west.redeem(grant.id.as_str(), code.expose(), &Applicant::new("east"));
    assert!(matches!(other, Err(RedeemRefusal::Spent)), "{other:?}");
}

/// One request for a renewal, sent sixteen times at once and replayed afterwards: one certificate.
#[test]
fn duplicate_concurrent_and_replayed_renewals_are_one() {
    let (mut west, mut east) = linked(Lifetimes::default());
    for site in [&mut west, &mut east] {
        site.pass(18 * HOUR);
    }
    west.settled();
    let request = east.settled().waiting.remove(0);
    let identity: handfast_pki::SpiffeId = "spiffe://demo.example/site/east".parse().unwrap();
    let before = west.issued();
    let mut west = Arc::new(west);
    let renew = |west: &Site, csr: &str| {
        let renewed = west.authority.renew_for_peer(&identity, csr.as_bytes(), west.now).unwrap();
        renewed.chain.leaf().serial().to_string()
    };
    let serials: BTreeSet<String> = thread::scope(|scope| {
        let all: Vec<_> = (0..16).map(|_| scope.spawn(|| renew(&west, &request.csr_pem))).collect();
        all.into_iter().map(|each| each.join().unwrap()).collect()
    });
    assert_eq!(serials.len(), 1);
    assert_eq!(west.issued(), before + 1);
    // Somebody who recorded the request sends it again within the certificate's life: nothing new.
    Arc::get_mut(&mut west).unwrap().pass(HOUR);
    assert!(serials.contains(&renew(&west, &request.csr_pem)));
    let filter = IssuedFilter { identity: Some(identity.clone()), ..IssuedFilter::default() };
    assert_eq!(west.authority.ledger().issued(&filter).unwrap().len(), 2);
    assert!(west.now > start());
}
