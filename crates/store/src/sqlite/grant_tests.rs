//! Grants against their promises: every answer to a redemption, whom a grant serves, and that it is counted exactly.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use super::tests::{all_rows, at, bundle, certificate, grant, ledger, redemption, row};
use super::*;
use crate::grant::{Applicant, Audience};

fn never(_: &Grant) -> Result<IssuedBundle, RefusalReason> {
    panic!("nothing must be signed")
}

#[test]
fn every_answer_to_a_redemption() {
    let (_directory, ledger) = ledger();
    ledger.create_grant(&grant("g", 1), &row("grant")).unwrap();
    let redeem = |redemption: &Redemption, issue: &mut dyn FnMut(&Grant) -> _| {
        ledger.redeem(redemption, issue).unwrap()
    };

    assert_eq!(redeem(&redemption("h", 1), &mut never), RedeemOutcome::Unknown);
    let wrong = Redemption { code: b"guess".to_vec(), ..redemption("g", 1) };
    assert_eq!(redeem(&wrong, &mut never), RedeemOutcome::WrongCode);
    let late = Redemption { now: at(900), ..redemption("g", 1) };
    assert_eq!(redeem(&late, &mut never), RedeemOutcome::Expired);

    let reason = RefusalReason { code: "no".to_owned(), message: "not you".to_owned() };
    let outcome = redeem(&redemption("g", 1), &mut |_| Err(reason.clone()));
    assert_eq!(outcome, RedeemOutcome::Refused(reason), "and nothing is used");

    let outcome = redeem(&redemption("g", 1), &mut |given| {
        assert_eq!(*given, grant("g", 1));
        Ok(bundle(1))
    });
    assert_eq!(outcome, RedeemOutcome::Redeemed(bundle(1)));

    // The answer may have been lost: it can be had again, also too late, but only by the same key,
    // for the same site and with the code.
    for now in [at(11), at(5000)] {
        let again = Redemption { now, ..redemption("g", 1) };
        assert_eq!(redeem(&again, &mut never), RedeemOutcome::Repeated(bundle(1)));
    }
    let guess = Redemption { code: Vec::new(), ..redemption("g", 1) };
    assert_eq!(redeem(&guess, &mut never), RedeemOutcome::WrongCode);
    let north = Applicant::Site("north".parse().unwrap());
    let other_site = Redemption { applicant: north, ..redemption("g", 1) };
    assert!(matches!(
        redeem(&other_site, &mut never),
        RedeemOutcome::Refused(RefusalReason { code, .. }) if code == "key-used"
    ));
    assert_eq!(redeem(&redemption("g", 2), &mut never), RedeemOutcome::Spent);

    assert_eq!(ledger.issued(&IssuedFilter::default()).unwrap(), [certificate(1)]);
    let served = ledger.redemptions(&"g".parse().unwrap()).unwrap();
    assert_eq!(served.len(), 1);
    assert_eq!((&served[0].bundle, served[0].request_key), (&bundle(1), [1; 32]));
    let outcomes: Vec<_> = all_rows(&ledger)
        .into_iter()
        .filter(|recorded| recorded.row.action == "grant.redeem")
        .map(|recorded| recorded.row.outcome)
        .collect();
    assert_eq!(
        outcomes,
        [
            "refused", "refused", "refused", "ok", "repeated", "repeated", "refused", "refused",
            "refused"
        ]
    );
}

#[test]
fn a_grant_for_one_site_serves_no_other() {
    let (_directory, ledger) = ledger();
    let bound = Grant { audience: Audience::Site("north".parse().unwrap()), ..grant("g", 1) };
    ledger.create_grant(&bound, &row("grant")).unwrap();
    assert!(matches!(
        ledger.redeem(&redemption("g", 1), &mut never).unwrap(),
        RedeemOutcome::Refused(RefusalReason { code, .. }) if code == "wrong-site"
    ));
    let north = Applicant::Site("north".parse().unwrap());
    let north = Redemption { applicant: north, ..redemption("g", 1) };
    let outcome = ledger.redeem(&north, &mut |_| Ok(bundle(1))).unwrap();
    assert_eq!(outcome, RedeemOutcome::Redeemed(bundle(1)));
}

#[test]
fn a_grant_for_agents_serves_no_site_and_the_other_way_round() {
    let (_directory, ledger) = ledger();
    let shop = || Applicant::Agent("shop".parse().unwrap());
    let for_agents = Grant { audience: Audience::Agent("shop".parse().unwrap()), ..grant("a", 2) };
    ledger.create_grant(&for_agents, &row("grant")).unwrap();
    ledger.create_grant(&grant("s", 1), &row("grant")).unwrap();
    let named = Grant { audience: Audience::Site("shop".parse().unwrap()), ..grant("n", 1) };
    ledger.create_grant(&named, &row("grant")).unwrap();
    let site = Applicant::Site("shop".parse().unwrap());
    let other = Applicant::Agent("cart".parse().unwrap());
    for (id, applicant, expect) in [
        ("a", site, "for-agents"),
        ("a", other, "wrong-service"),
        ("s", shop(), "for-sites"),
        ("n", shop(), "for-sites"),
    ] {
        let asked = Redemption { applicant, ..redemption(id, 1) };
        let outcome = ledger.redeem(&asked, &mut never).unwrap();
        let RedeemOutcome::Refused(RefusalReason { code, .. }) = outcome else {
            panic!("{id}: {outcome:?}")
        };
        assert_eq!(code, expect, "{id}");
    }
    let asked = Redemption { applicant: shop(), ..redemption("a", 1) };
    let outcome = ledger.redeem(&asked, &mut |_| Ok(bundle(1))).unwrap();
    assert_eq!(outcome, RedeemOutcome::Redeemed(bundle(1)));
    assert_eq!(ledger.redemptions(&"a".parse().unwrap()).unwrap()[0].applicant, shop());
    assert_eq!(ledger.grant(&"a".parse().unwrap()).unwrap().unwrap().grant, for_agents);
}

#[test]
fn grants_are_listed_withdrawn_and_never_made_twice() {
    let (_directory, ledger) = ledger();
    for id in ["b", "a"] {
        ledger.create_grant(&grant(id, 2), &row(id)).unwrap();
    }
    let error = ledger.create_grant(&grant("a", 9), &row("a")).unwrap_err();
    assert!(error.to_string().contains("a grant named `a`"), "{error}");
    ledger.redeem(&redemption("a", 1), &mut |_| Ok(bundle(1))).unwrap();
    assert_eq!(
        ledger.grants().unwrap(),
        [
            GrantRecord { grant: grant("b", 2), redemptions: 0 },
            GrantRecord { grant: grant("a", 2), redemptions: 1 },
        ]
    );

    let a: Name = "a".parse().unwrap();
    ledger.withdraw_grant(&a, at(9), &row("a")).unwrap();
    assert_eq!(ledger.redeem(&redemption("a", 2), &mut never).unwrap(), RedeemOutcome::Expired);
    ledger.withdraw_grant(&a, at(5000), &row("a")).unwrap();
    assert_eq!(ledger.grant(&a).unwrap().unwrap().grant.expires, at(9), "never extended");
    let nobody: Name = "c".parse().unwrap();
    assert!(matches!(
        ledger.withdraw_grant(&nobody, at(9), &row("c")),
        Err(StoreError::UnknownGrant { id }) if id == nobody
    ));
    assert_eq!(ledger.grant(&nobody).unwrap(), None);
}

#[test]
fn guesses_cannot_fill_the_disk() {
    let (_directory, ledger) = ledger();
    ledger.create_grant(&grant("g", 1), &row("grant")).unwrap();
    for _ in 0..200 {
        let guess = Redemption { code: b"guess".to_vec(), ..redemption("g", 1) };
        assert_eq!(ledger.redeem(&guess, &mut never).unwrap(), RedeemOutcome::WrongCode);
        ledger.redeem(&redemption("nobody", 1), &mut never).unwrap();
    }
    assert_eq!(all_rows(&ledger).len(), 1 + 64);
    let outcome = ledger.redeem(&redemption("g", 1), &mut |_| Ok(bundle(1))).unwrap();
    assert_eq!(outcome, RedeemOutcome::Redeemed(bundle(1)), "and the right code still works");
    assert_eq!(all_rows(&ledger).len(), 1 + 64 + 1, "which is always recorded");
}

#[test]
fn a_panic_or_a_clash_while_signing_uses_nothing() {
    let (_directory, ledger) = ledger();
    ledger.create_grant(&grant("g", 1), &row("grant")).unwrap();
    ledger.record_issued(&certificate(7), &row("issue")).unwrap();
    let caught = catch_unwind(AssertUnwindSafe(|| {
        let _outcome = ledger.redeem(&redemption("g", 1), &mut never);
    }));
    assert!(caught.is_err());
    let clash = ledger.redeem(&redemption("g", 1), &mut |_| Ok(bundle(7))).unwrap_err();
    assert!(matches!(clash, StoreError::AlreadyRecorded { .. }), "{clash}");
    let outcome = ledger.redeem(&redemption("g", 1), &mut |_| Ok(bundle(8))).unwrap();
    assert_eq!(outcome, RedeemOutcome::Redeemed(bundle(8)));
    assert_eq!(all_rows(&ledger).len(), 3);
}

#[test]
fn many_threads_and_two_connections_share_what_is_allowed_exactly() {
    let (directory, ledger) = ledger();
    let second = SqliteLedger::open(directory.path().join("state.db")).unwrap();
    ledger.create_grant(&grant("g", 3), &row("grant")).unwrap();
    let (serial, start) = (AtomicU32::new(0), Barrier::new(16));
    let outcomes: Vec<(u8, RedeemOutcome)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..16_u8)
            .map(|thread| {
                let ledger = if thread % 2 == 0 { &ledger } else { &second };
                let (serial, start) = (&serial, &start);
                scope.spawn(move || {
                    // Eight keys, each used from both connections at once.
                    let key = thread / 2;
                    start.wait();
                    let outcome = ledger
                        .redeem(&redemption("g", key), &mut |_| {
                            Ok(bundle(serial.fetch_add(1, Ordering::Relaxed)))
                        })
                        .unwrap();
                    (key, outcome)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });

    let served: Vec<_> = outcomes
        .iter()
        .filter_map(|(key, outcome)| match outcome {
            RedeemOutcome::Redeemed(bundle) => Some((*key, bundle)),
            _ => None,
        })
        .collect();
    assert_eq!(served.len(), 3);
    for (key, outcome) in &outcomes {
        let own = served.iter().find(|(served, _)| served == key);
        match (outcome, own) {
            (RedeemOutcome::Redeemed(_), Some(_)) | (RedeemOutcome::Spent, None) => {}
            (RedeemOutcome::Repeated(again), Some((_, first))) => assert_eq!(again, *first),
            other => panic!("key {key}: {other:?}"),
        }
    }
    assert_eq!(second.issued(&IssuedFilter::default()).unwrap().len(), 3);
}
