//! Whoever can write the ledger's file can change it; verification says that, and where.

use std::fs;
use std::path::{Path, PathBuf};

use handfast_store::{
    AuditFilter, AuditKey, AuditLog, AuditRow, Flaw, Ledger, RecordedAudit, SignedHead,
    SqliteLedger, StoreError, TreeHead, Verification, merkle,
};
use rusqlite::{Connection, params};
use tempfile::TempDir;

use crate::material::at;

const ROWS: u64 = 20;

/// A ledger of twenty rows that nobody has open.
struct Log {
    directory: TempDir,
}

impl Log {
    fn new() -> Self {
        let log = Self { directory: tempfile::tempdir().unwrap() };
        log.grow(1, ROWS);
        log
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("state.db")
    }

    fn beside(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    fn grow(&self, from: u64, to: u64) {
        let ledger = SqliteLedger::open(self.path()).unwrap();
        for number in from..=to {
            assert_eq!(ledger.audit(&row(number)).unwrap(), number);
        }
    }

    fn verify(&self) -> Verification {
        self.verify_against(Vec::new())
    }

    fn verify_against(&self, heads: Vec<(String, SignedHead)>) -> Verification {
        AuditLog::open(self.path()).unwrap().verify(heads).unwrap()
    }

    fn flaws(&self) -> Vec<Flaw> {
        self.verify().flaws
    }

    fn head(&self) -> SignedHead {
        AuditLog::open(self.path()).unwrap().head().unwrap().unwrap()
    }

    /// As an intruder does it: the triggers go first.
    fn tamper(&self, work: impl FnOnce(&Connection)) {
        let connection = Connection::open(self.path()).unwrap();
        let triggers: Vec<String> = connection
            .prepare("SELECT name FROM sqlite_schema WHERE type = 'trigger'")
            .unwrap()
            .query_map([], |row| row.get(0))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        for trigger in triggers {
            connection.execute_batch(&format!("DROP TRIGGER {trigger}")).unwrap();
        }
        work(&connection);
    }

    /// Gives all rows the hashes that fit what they say now.
    fn rehash(connection: &Connection, rows: &[RecordedAudit]) -> merkle::Frontier {
        let mut tree = merkle::Frontier::default();
        for recorded in rows {
            connection
                .execute(
                    "UPDATE audit SET leaf = ?2 WHERE sequence = ?1",
                    params![i64::try_from(recorded.sequence).unwrap(), recorded.leaf()],
                )
                .unwrap();
            tree.push(recorded.leaf());
        }
        tree
    }

    fn rows(&self) -> Vec<RecordedAudit> {
        AuditLog::open(self.path()).unwrap().rows(&AuditFilter::newest(1000)).unwrap()
    }
}

fn row(number: u64) -> AuditRow {
    AuditRow {
        at: at(i64::try_from(number).unwrap()),
        actor: "node".to_owned(),
        action: "certificate.issue".to_owned(),
        subject: format!("certificate east-{number}"),
        outcome: "ok".to_owned(),
        detail: format!("serial {number}"),
        why: "it was missing".to_owned(),
    }
}

fn run(connection: &Connection, statement: &str) {
    connection.execute_batch(statement).unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::copy(from, to).unwrap();
}

#[test]
fn a_log_that_nobody_touched_is_whole() {
    let log = Log::new();
    let verified = log.verify();
    assert_eq!(verified.flaws, []);
    assert_eq!((verified.rows, verified.head), (ROWS, Some(log.head())));
    assert_eq!(verified.keys.len(), 1);
    assert!(verified.remarks.is_empty(), "{:?}", verified.remarks);
    let key = AuditKey::from_pem(&fs::read(log.beside("audit.key")).unwrap()).unwrap();
    assert!(log.head().is_signed_by(key.public()));

    let empty = Log { directory: tempfile::tempdir().unwrap() };
    drop(SqliteLedger::open(empty.path()).unwrap());
    assert_eq!(empty.flaws(), []);
    // A node that is at work does not disturb, and is not disturbed.
    let ledger = SqliteLedger::open(log.path()).unwrap();
    ledger.audit(&row(ROWS + 1)).unwrap();
    assert_eq!(log.verify().rows, ROWS + 1);
    ledger.audit(&row(ROWS + 2)).unwrap();
    assert_eq!(log.flaws(), []);
}

#[test]
fn an_edited_row_is_named() {
    for column in ["actor", "action", "subject", "outcome", "detail", "why"] {
        let log = Log::new();
        log.tamper(|it| run(it, &format!("UPDATE audit SET {column} = 'x' WHERE sequence = 7")));
        assert_eq!(log.flaws(), [Flaw::Edited { sequence: 7 }], "{column}");
    }
    let log = Log::new();
    log.tamper(|it| run(it, "UPDATE audit SET at = at + 1 WHERE sequence = 7"));
    assert_eq!(log.flaws(), [Flaw::Edited { sequence: 7 }]);
    // What the triggers would have kept from happening does not go on unnoticed.
    log.grow(ROWS + 1, ROWS + 3);
    assert_eq!(log.flaws(), [Flaw::Edited { sequence: 7 }]);
}

#[test]
fn a_row_edited_together_with_its_hash_is_named() {
    let log = Log::new();
    log.tamper(|it| run(it, "UPDATE audit SET subject = 'x' WHERE sequence = 7"));
    let rows = log.rows();
    log.tamper(|it| drop(Log::rehash(it, &rows)));
    let flaws = log.flaws();
    assert_eq!(flaws[0], Flaw::Rewritten { first: 7, last: 7 }, "{flaws:?}");
}

#[test]
fn a_removed_row_is_named() {
    let log = Log::new();
    log.tamper(|it| run(it, "DELETE FROM audit WHERE sequence IN (1, 9, 10)"));
    let flaws = log.flaws();
    assert_eq!(
        flaws[..2],
        [Flaw::Missing { first: 1, last: 1 }, Flaw::Missing { first: 9, last: 10 }]
    );
}

#[test]
fn a_row_put_in_is_named() {
    let log = Log::new();
    log.tamper(|it| {
        run(it, "UPDATE audit SET sequence = -sequence WHERE sequence > 12");
        run(it, "UPDATE audit SET sequence = 1 - sequence WHERE sequence < 0");
        run(
            it,
            "INSERT INTO audit SELECT 13, at, actor, action, subject, outcome, 'x', why, leaf
                 FROM audit WHERE sequence = 12",
        );
    });
    let flaws = log.flaws();
    assert_eq!(flaws[0], Flaw::Edited { sequence: 13 }, "{flaws:?}");
    assert!(flaws.contains(&Flaw::Unsigned { first: 21, last: 21 }), "{flaws:?}");
}

#[test]
fn a_row_put_at_the_end_is_named() {
    let log = Log::new();
    log.tamper(|it| {
        run(
            it,
            "INSERT INTO audit SELECT 21, at, actor, action, subject, outcome, 'x', why, leaf
                 FROM audit WHERE sequence = 20",
        );
    });
    let rows = log.rows();
    log.tamper(|it| drop(Log::rehash(it, &rows)));
    assert_eq!(log.flaws(), [Flaw::Unsigned { first: 21, last: 21 }]);
}

#[test]
fn rows_that_changed_places_are_named() {
    let log = Log::new();
    log.tamper(|it| {
        run(it, "UPDATE audit SET sequence = -5 WHERE sequence = 5");
        run(it, "UPDATE audit SET sequence = 5 WHERE sequence = 4");
        run(it, "UPDATE audit SET sequence = 4 WHERE sequence = -5");
    });
    let flaws = log.flaws();
    assert_eq!(flaws[..2], [Flaw::Edited { sequence: 4 }, Flaw::Edited { sequence: 5 }]);
}

/// Cuts the log so that everything in the file fits again.
fn cut_after(log: &Log, size: u64) {
    let rows = log.rows();
    log.tamper(|it| {
        run(it, &format!("DELETE FROM audit WHERE sequence > {size}"));
        run(it, &format!("DELETE FROM audit_head WHERE size > {size}"));
        let tree = Log::rehash(it, &rows[..usize::try_from(size).unwrap()]);
        it.execute(
            "UPDATE audit_tree SET size = ?1, peaks = ?2",
            params![i64::try_from(size).unwrap(), tree.peaks().as_flattened()],
        )
        .unwrap();
        run(it, &format!("UPDATE sqlite_sequence SET seq = {size} WHERE name = 'audit'"));
    });
}

#[test]
fn a_log_cut_short_is_noticed_and_not_gone_on_with() {
    let log = Log::new();
    log.tamper(|it| run(it, "DELETE FROM audit WHERE sequence > 15"));
    let flaws = log.flaws();
    assert!(matches!(&flaws[0], Flaw::RolledBack { first: 16, last: 20, source }
        if source.contains("in the log")));

    let log = Log::new();
    cut_after(&log, 15);
    let gone = |source: &str| Flaw::RolledBack { first: 16, last: 20, source: source.to_owned() };
    assert_eq!(log.flaws(), [gone("the file `audit.head`")]);
    let error = SqliteLedger::open(log.path()).unwrap_err();
    assert!(matches!(error, StoreError::RolledBack { .. }), "{error}");
    assert!(error.to_string().contains("handfast restore"), "{error}");
}

#[test]
fn an_older_copy_of_the_ledger_is_noticed_and_not_gone_on_with() {
    let log = Log { directory: tempfile::tempdir().unwrap() };
    log.grow(1, 10);
    copy(&log.path(), &log.beside("yesterday"));
    log.grow(11, ROWS);
    let elsewhere = log.head();
    copy(&log.beside("yesterday"), &log.path());
    let source = "the file `audit.head`".to_owned();
    assert_eq!(log.flaws(), [Flaw::RolledBack { first: 11, last: 20, source }]);
    assert!(matches!(SqliteLedger::open(log.path()), Err(StoreError::RolledBack { .. })));

    // Without the file nobody here can tell, and that is said; a head from elsewhere can tell.
    fs::remove_file(log.beside("audit.head")).unwrap();
    assert_eq!(log.flaws(), [Flaw::NoHead { source: "the file `audit.head`".to_owned() }]);
    let flaws = log.verify_against(vec![("the auditor's head".to_owned(), elsewhere)]).flaws;
    let source = "the auditor's head".to_owned();
    assert!(flaws.contains(&Flaw::RolledBack { first: 11, last: 20, source }), "{flaws:?}");
    // And if a node goes on with it, the log itself says that the file was not there.
    drop(SqliteLedger::open(log.path()).unwrap());
    let newest = log.rows().pop().unwrap();
    assert_eq!((newest.sequence, newest.row.action.as_str()), (11, "audit.head"));
    assert!(log.verify().remarks[0].contains("row 11"), "{:?}", log.verify());
}

#[test]
fn a_revocation_in_the_journal_betrays_an_older_copy_as_well() {
    let log = Log::new();
    copy(&log.path(), &log.beside("yesterday"));
    let ledger = SqliteLedger::open(log.path()).unwrap();
    ledger.revoke(&[crate::material::revocation(1)], &[], &row(21)).unwrap();
    drop(ledger);
    copy(&log.beside("yesterday"), &log.path());
    fs::remove_file(log.beside("audit.head")).unwrap();
    let error = SqliteLedger::open(log.path()).unwrap_err();
    assert!(error.to_string().contains("revocations.log"), "{error}");
}

#[test]
fn a_forged_head_is_noticed() {
    let log = Log::new();
    log.tamper(|it| {
        run(it, "UPDATE audit_head SET signature = zeroblob(64) WHERE size = 20");
    });
    let forged = Flaw::ForgedHead { size: 20, source: "the newest head in the log".to_owned() };
    assert_eq!(log.flaws(), [forged]);

    // A head that fits, but over other rows than the ones that are there.
    let log = Log::new();
    log.tamper(|it| run(it, "UPDATE audit_head SET root = zeroblob(32) WHERE size = 8"));
    assert_eq!(log.flaws(), [Flaw::Rewritten { first: 8, last: 8 }]);
}

/// Rewrites row 7 and everything after it, and signs it all with `key`.
fn rewrite(log: &Log, key: &AuditKey) {
    log.tamper(|it| run(it, "UPDATE audit SET detail = 'nothing' WHERE sequence = 7"));
    let rows = log.rows();
    log.tamper(|it| {
        it.execute("UPDATE audit_key SET public_key = ?1", [key.public().spki()]).unwrap();
        let mut tree = merkle::Frontier::default();
        for recorded in &rows {
            tree.push(recorded.leaf());
            let head = TreeHead { size: tree.size(), root: tree.root(), at: recorded.row.at };
            it.execute(
                "UPDATE audit_head SET root = ?2, signature = ?3 WHERE size = ?1",
                params![i64::try_from(tree.size()).unwrap(), tree.root(), key.sign(head).signature],
            )
            .unwrap();
        }
        let tree = Log::rehash(it, &rows);
        it.execute("UPDATE audit_tree SET peaks = ?1", [tree.peaks().as_flattened()]).unwrap();
    });
}

#[test]
fn a_history_rewritten_from_end_to_end_is_noticed() {
    // Signed with a key of the intruder's own, who cannot write the other files.
    let log = Log::new();
    rewrite(&log, &AuditKey::generate().unwrap());
    let flaws = log.flaws();
    let forged = Flaw::ForgedHead { size: 20, source: "the newest head in the log".to_owned() };
    assert!(flaws.contains(&forged), "{flaws:?}");

    // With the home's own key, and the file replaced too: only what was kept elsewhere tells.
    let log = Log::new();
    let elsewhere = log.head();
    let key = AuditKey::from_pem(&fs::read(log.beside("audit.key")).unwrap()).unwrap();
    rewrite(&log, &key);
    fs::write(log.beside("audit.head"), log.head().to_string()).unwrap();
    assert_eq!(log.flaws(), []);
    let flaws = log.verify_against(vec![("the auditor's head".to_owned(), elsewhere)]).flaws;
    assert_eq!(flaws, [Flaw::Diverged { size: 20, source: "the auditor's head".to_owned() }]);
}

#[test]
fn a_key_that_went_missing_is_replaced_and_that_is_recorded() {
    let log = Log::new();
    let before = log.head().origin;
    fs::remove_file(log.beside("audit.key")).unwrap();
    log.grow(ROWS + 2, ROWS + 2);
    let verified = log.verify();
    assert_eq!(verified.flaws, []);
    assert_eq!(verified.keys.len(), 2);
    assert!(verified.remarks[0].contains(&before), "{:?}", verified.remarks);

    fs::write(log.beside("audit.key"), "not a key").unwrap();
    let error = SqliteLedger::open(log.path()).unwrap_err();
    assert!(matches!(error, StoreError::AuditKey { .. }), "{error}");
}

#[test]
fn proofs_hold_for_the_heads_of_the_log() {
    let log = Log::new();
    let mut reader = AuditLog::open(log.path()).unwrap();
    let head = reader.head().unwrap().unwrap().head;
    let rows = log.rows();
    for recorded in &rows {
        let proof = reader.inclusion(recorded.sequence, head.size).unwrap();
        let index = recorded.sequence - 1;
        let leaf = recorded.leaf();
        assert!(merkle::verify_inclusion(&leaf, index, head.size, &proof, &head.root));
        let mut tree = merkle::Frontier::default();
        rows.iter().take(usize::try_from(index + 1).unwrap()).for_each(|r| tree.push(r.leaf()));
        let proof = reader.consistency(index + 1, head.size).unwrap();
        assert!(merkle::verify_consistency(
            (index + 1, &tree.root()),
            (head.size, &head.root),
            &proof
        ));
    }
}
