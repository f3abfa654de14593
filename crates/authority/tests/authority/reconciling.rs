//! Reconciling a real home: making, renewing in two phases, wrong clocks, restarts.

use std::sync::Arc;
use std::time::Duration;

use handfast_authority::{
    CredentialFacts, CredentialState, Declared, Lifetimes, ProblemCode, Reason, RenewNowError,
    Selection, Tally,
};
use handfast_store::{CredentialStore, IssuedFilter, Kind, Ledger, Source};
use jiff::SignedDuration;

use crate::site::{Site, assert_live_are_valid, name, start, state};

#[test]
fn a_fresh_site_gets_what_it_needs_and_then_rests() {
    let site = Site::new("west");
    let report = site.settled();
    let names: Vec<String> =
        report.credentials.iter().map(|facts| facts.name.to_string()).collect();
    assert_eq!(
        names,
        [
            "handfast-local-ca",
            "handfast-local-client",
            "handfast-local-server",
            "handfast-root",
            "handfast-service-ca",
            "handfast-site-ca",
            "handfast-site-server",
        ]
    );
    assert!(report.credentials.iter().all(|facts| facts.state == CredentialState::Ready));
    assert_eq!(report.changed.len(), 7);
    assert_eq!(site.issued(), 7);
    assert_live_are_valid(&report, site.now);

    let server = site.live("handfast-site-server");
    assert_eq!(
        server.leaf().spiffe_id().unwrap().unwrap().to_string(),
        "spiffe://demo.example/site/west"
    );
    assert_eq!(server.chain().len(), 2, "leaf and site CA, the root is the anchor");

    let again = site.settled();
    assert_eq!(again.changed, Vec::new());
    assert_eq!(site.issued(), 7);
    assert!(Arc::ptr_eq(&server, &again.live[&name("handfast-site-server")]));
    assert!(again.next_wake > site.now);
    assert!(again.next_wake <= site.now.checked_add(SignedDuration::from_mins(10)).unwrap());
}

#[test]
fn a_restart_changes_nothing() {
    let site = Site::new("west");
    let before = site.settled();
    let site = site.restarted();
    let after = site.settled();
    assert_eq!(after.changed, Vec::new());
    // What was done is counted from the start, as counters of a process are.
    let counted_anew = |mut facts: CredentialFacts| {
        facts.tally = Tally::default();
        facts
    };
    let made: Vec<_> = before.credentials.into_iter().map(counted_anew).collect();
    assert_eq!(made, after.credentials);
    assert_eq!(site.issued(), 7);
}

#[test]
fn a_standalone_site_signs_itself_and_gets_a_new_key_in_time() {
    let mut site = Site::declared(Declared::new(name("east")));
    let before = site.settled();
    let ca = site.authority.trust_anchors().unwrap();
    assert_eq!(state(&before, "handfast-site-ca"), CredentialState::Ready);
    assert!(ca.iter().next().unwrap().is_self_signed());

    // Prepared with thirty days left, in use with fifteen (a sixth of ninety, but for what it signs).
    site.pass(61 * 86_400);
    site.settled();
    let both = site.authority.trust_anchors().unwrap();
    assert_eq!(both.len(), 2, "{}", both.describe());
    assert!(both.contains(ca.iter().next().unwrap()));
    site.pass(22 * 86_400 + 3600);
    let report = site.settled();
    let new = site.authority.trust_anchors().unwrap();
    assert_eq!(new.len(), 1, "{}", new.describe());
    assert!(both.contains(new.iter().next().unwrap()) && !ca.contains(new.iter().next().unwrap()));
    assert_live_are_valid(&report, site.now);
    assert_eq!(site.settled().changed, Vec::new());
}

#[test]
fn what_cannot_be_proven_is_not_put_to_use_and_is_not_made_twice() {
    let mut site = Site::new("west");
    site.settled();
    let server = name("handfast-site-server");
    let before = site.live("handfast-site-server");
    let issued = site.issued();

    site.pass(20 * 3600);
    site.refuse(Some("the handshake failed: connection refused"));
    let report = site.reconcile();
    assert!(Arc::ptr_eq(&before, &report.live[&server]), "the old one stays");
    assert_eq!(state(&report, "handfast-site-server"), CredentialState::Expiring);
    let problem = report.problems.iter().find(|problem| problem.name == server).unwrap();
    assert_eq!(problem.code, ProblemCode::IssuanceFailed);
    assert_eq!(problem.resource.as_ref().unwrap().to_string(), "RouterAccess/west");
    assert!(problem.to_string().contains("connection refused"), "{problem}");
    let after = site.issued();
    assert_eq!(after, issued + 3, "one new one each for three leaves");

    // Held back until its time, and then proven again, not made again.
    assert!(site.reconcile().changed.is_empty());
    assert_eq!(site.issued(), after);
    assert!(report.next_wake < site.now.checked_add(SignedDuration::from_secs(60)).unwrap());
    site.refuse(None);
    site.now = report.next_wake;
    let report = site.settled();
    assert!(report.changed.iter().any(|change| change.name == server));
    assert_eq!(site.issued(), after);
    assert!(!Arc::ptr_eq(&before, &report.live[&server]));

    // And the one before is still on disk.
    let previous = site.authority.store().previous(Kind::Certificate, &server).unwrap().unwrap();
    let previous = previous.credential(None).unwrap();
    assert_eq!(previous.leaf().fingerprint(), before.leaf().fingerprint());
}

#[test]
fn what_can_never_be_proven_is_made_anew_after_a_few_tries() {
    let mut site = Site::new("west");
    site.settled();
    site.pass(20 * 3600);
    site.refuse(Some("bad luck"));
    let server = name("handfast-site-server");
    let mut staged = std::collections::BTreeSet::new();
    for _ in 0..12 {
        let report = site.reconcile();
        if let Some((_, stored)) =
            site.authority.store().staged(Kind::Certificate, &server).unwrap()
        {
            staged.insert(stored.credential(None).unwrap().leaf().fingerprint());
        }
        assert!(report.next_wake > site.now);
        site.now = report.next_wake;
    }
    assert!(staged.len() >= 2, "{} tried", staged.len());
    assert!(staged.len() <= 6, "{} tried", staged.len());
}

#[test]
fn a_staged_one_from_before_a_crash_is_used() {
    let mut site = Site::new("west");
    site.settled();
    site.pass(20 * 3600);
    site.refuse(Some("killed here"));
    site.reconcile();
    let issued = site.issued();
    site.refuse(None);
    let site = site.restarted();
    let report = site.settled();
    assert_eq!(report.changed.len(), 3);
    assert_eq!(site.issued(), issued);
}

#[test]
fn other_hosts_mean_another_certificate_for_the_server_alone() {
    let mut site = Site::new("west");
    site.settled();
    site.declared.accesses[0].hosts.push("west.example".parse().unwrap());
    let report = site.settled();
    let changed: Vec<_> = report.changed.iter().map(|c| (c.name.to_string(), c.reason)).collect();
    assert_eq!(changed, [("handfast-site-server".to_owned(), Some(Reason::NamesChanged))]);
    let server = site.live("handfast-site-server");
    assert_eq!(server.leaf().dns_names(), ["west.example"]);
    assert_eq!(server.leaf().ip_addresses().len(), 1);
}

#[test]
fn a_renewed_site_ca_is_taken_up_under_the_same_root() {
    let mut site = Site::new("west");
    site.settled();
    let before = site.live("handfast-site-server");
    site.pass(85 * 86_400);
    let report = site.settled();
    let after = site.live("handfast-site-server");
    assert_ne!(before.chain().rest()[0].fingerprint(), after.chain().rest()[0].fingerprint());
    assert_ne!(before.chain().rest()[0].spki_der(), after.chain().rest()[0].spki_der());
    assert_eq!(before.anchors().to_pem(), after.anchors().to_pem());
    assert_live_are_valid(&report, site.now);
    // It was long due, so once under the old CA, and once when the new one took over.
    let servers =
        report.changed.iter().filter(|change| change.name == name("handfast-site-server"));
    assert_eq!(servers.count(), 2);
}

#[test]
fn renew_now_renews_all_but_what_signs_itself() {
    let site = Site::new("west");
    site.settled();
    let report = site.authority.renew_now(&site.declared, &Selection::All, site.now).unwrap();
    assert_eq!(report.problems, Vec::new());
    let mut changed: Vec<_> = report.changed.iter().map(|each| each.name.to_string()).collect();
    changed.sort();
    assert_eq!(
        changed,
        [
            "handfast-local-ca",
            "handfast-local-client",
            "handfast-local-server",
            "handfast-service-ca",
            "handfast-site-ca",
            "handfast-site-server",
        ]
    );
    assert!(report.changed.iter().all(|change| change.reason == Some(Reason::Asked)));
    assert_live_are_valid(&report, site.now);
    assert_eq!(site.settled().changed, Vec::new());

    let server = Selection::Named(vec![name("handfast-site-server")]);
    let report = site.authority.renew_now(&site.declared, &server, site.now).unwrap();
    assert_eq!(report.changed.len(), 1);
    let unknown = Selection::Named(vec![name("nobody")]);
    assert!(matches!(
        site.authority.renew_now(&site.declared, &unknown, site.now),
        Err(RenewNowError::Unknown { .. })
    ));
}

#[test]
fn a_clock_set_back_is_reported_and_makes_nothing_until_asked() {
    let mut site = Site::new("west");
    site.settled();
    let issued = site.issued();
    let before = site.live("handfast-site-server");
    site.pass(-86_400);
    for _ in 0..3 {
        let report = site.reconcile();
        assert_eq!(report.changed, Vec::new());
        let skew = &report.problems[0];
        assert_eq!(skew.code, ProblemCode::ClockSkew);
        assert!(skew.what.contains("23 h"), "{skew}");
        assert!(Arc::ptr_eq(&before, &report.live[&name("handfast-site-server")]));
        assert!(report.next_wake > site.now);
    }
    assert_eq!(site.issued(), issued);
    let mut site = site.restarted();
    assert_eq!(site.reconcile().changed, Vec::new());

    // The clock is right, it was wrong before: the operator says so, and the site heals.
    let report = site.authority.renew_now(&site.declared, &Selection::All, site.now).unwrap();
    assert_eq!(report.problems, Vec::new(), "{:#?}", report.changed);
    assert_live_are_valid(&report, site.now);

    // The clock is set right after all: nothing is lost either.
    site.pass(86_400);
    let report = site.reconcile();
    assert_eq!(report.problems, Vec::new());
    assert_live_are_valid(&report, site.now);
}

#[test]
fn a_clock_a_day_ahead_renews_once_and_is_noticed_when_set_right() {
    let mut site = Site::new("west");
    site.settled();
    site.pass(86_400);
    site.settled();
    let issued = site.issued();
    site.pass(-86_400);
    let report = site.reconcile();
    assert_eq!(report.problems[0].code, ProblemCode::ClockSkew);
    assert_eq!(site.issued(), issued);
}

#[test]
fn ten_second_leaves_are_always_good() {
    let mut site = Site::new("west").short_lived(10);
    let mut report = site.settled();
    let end = start().checked_add(SignedDuration::from_mins(3)).unwrap();
    let mut wakes = 0;
    while site.now < end {
        site.now = report.next_wake;
        report = site.settled();
        assert_live_are_valid(&report, site.now);
        wakes += 1;
    }
    let per_minute = wakes / 3;
    assert!((10..60).contains(&per_minute), "{per_minute} wakes a minute");
    // Three leaves every six to seven seconds, two CAs every forty, and what goes with them.
    let issued = site.issued();
    assert!((80..170).contains(&issued), "{issued} issued in three minutes");
}

#[test]
fn settings_that_change_take_effect() {
    let mut site = Site::new("west");
    site.settled();
    site.declared.settings =
        Lifetimes::new(Duration::from_secs(30), Duration::from_secs(180)).unwrap();
    let report = site.settled();
    assert!(!report.changed.is_empty());
    let server = site.live("handfast-site-server");
    assert!(
        server.leaf().not_after() <= site.now.checked_add(SignedDuration::from_secs(30)).unwrap()
    );
    assert_eq!(site.settled().changed, Vec::new());
}

#[test]
fn everything_in_the_store_is_in_the_ledger_with_an_audit_row() {
    let mut site = Site::new("west");
    site.settled();
    site.pass(20 * 3600);
    site.settled();
    let ledger = site.authority.ledger();
    for kind in [Kind::Certificate, Kind::Issuer] {
        for each in site.authority.store().list(kind).unwrap() {
            let stored = site.authority.store().load(kind, &each).unwrap().unwrap();
            assert_eq!(stored.source, Source::Managed);
            let leaf = stored.credential(None).unwrap().leaf().clone();
            let filter =
                IssuedFilter { fingerprint: Some(leaf.fingerprint()), ..IssuedFilter::default() };
            assert_eq!(ledger.issued(&filter).unwrap().len(), 1, "{each}");
        }
    }
    let rows = ledger.audit_rows(&handfast_store::AuditRange::after(0, 100)).unwrap();
    assert_eq!(rows.len(), site.issued());
    assert!(rows.iter().all(|row| row.row.action == "certificate.issue"));
}
