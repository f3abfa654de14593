//! Writers that come together: what they share, and what they must not.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::tests::{all_rows, bundle, certificate, grant, ledger, redemption, row};
use super::*;

/// Waits until so many writers stand in line.
fn wait_for_line(ledger: &SqliteLedger, length: usize) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while ledger.group.waiting.load(Ordering::SeqCst) < length {
        assert!(Instant::now() < deadline, "nobody came");
        thread::yield_now();
    }
}

#[test]
fn who_comes_while_another_writes_shares_its_commit_and_no_failure() {
    let (directory, ledger) = ledger();
    ledger.create_grant(&grant("g", 1), &row("grant")).unwrap();
    ledger.record_issued(&certificate(100), &row("issue")).unwrap();
    let heads =
        |ledger: &SqliteLedger| ledger.read(|it| tree::each_head(it, 0, 1000)).unwrap().len();
    let before = heads(&ledger);

    thread::scope(|scope| {
        scope.spawn(|| {
            // Holds everybody up until the others are there.
            let outcome = ledger.redeem(&redemption("g", 1), &mut |_| {
                wait_for_line(&ledger, 8);
                Ok(bundle(1))
            });
            assert_eq!(outcome.unwrap(), RedeemOutcome::Redeemed(bundle(1)));
        });
        // Whoever came before it would be gone before the line is complete.
        wait_until_busy(&ledger);
        for number in 2..=9 {
            let ledger = &ledger;
            scope.spawn(move || {
                // One of them is refused, one goes down with a panic.
                let recorded = match number {
                    5 => ledger.record_issued(&certificate(100), &row("again")),
                    6 => {
                        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                            ledger.write(|writing| -> Result<(), Failure> {
                                audit::insert(writing, &row("panic"))?;
                                panic!("in the middle")
                            })
                        }));
                        assert!(caught.is_err());
                        return;
                    }
                    _ => ledger.record_issued(&certificate(number), &row("issue")),
                };
                assert_eq!(recorded.is_ok(), number != 5, "{recorded:?}");
            });
        }
    });

    assert_eq!(heads(&ledger), before + 1, "one commit, one head for all");
    assert_eq!(all_rows(&ledger).len(), 2 + 7);
    drop(ledger);
    let ledger = SqliteLedger::open(directory.path().join("state.db")).unwrap();
    assert_eq!(ledger.issued(&IssuedFilter::default()).unwrap().len(), 1 + 7);
    drop(ledger);
    let mut log = AuditLog::open(directory.path().join("state.db")).unwrap();
    assert_eq!(log.verify(Vec::new()).unwrap().flaws, []);
}

#[test]
fn a_transaction_that_breaks_down_fails_everybody_in_it() {
    let (_directory, ledger) = ledger();
    thread::scope(|scope| {
        let first = scope.spawn(|| {
            ledger.write(|writing| {
                audit::insert(writing, &row("first"))?;
                wait_for_line(&ledger, 1);
                Ok(())
            })
        });
        // As a full disk does: the whole transaction is gone, not only this piece of work.
        wait_until_busy(&ledger);
        let second = ledger.write(|writing| -> Result<(), Failure> {
            writing.execute_batch("ROLLBACK")?;
            Err(Failure::ReadOnly)
        });
        assert!(matches!(second, Err(StoreError::ReadOnly { .. })));
        assert!(matches!(first.join().unwrap(), Err(StoreError::ReadOnly { .. })));
    });
    assert_eq!(all_rows(&ledger), []);
    assert_eq!(ledger.audit(&row("after")).unwrap(), 1, "and the ledger goes on");
}

fn wait_until_busy(ledger: &SqliteLedger) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !ledger.group.is_busy() {
        assert!(Instant::now() < deadline, "the first never began");
        thread::yield_now();
    }
}
