//! `audit`, `backup` and `restore` on a home whose node does not run.

use handfast_pki::RevocationReason;
use handfast_store::{AuditRow, Home, Ledger, Revocation, SqliteLedger};
use jiff::Timestamp;

use crate::desk::Desk;

fn ledger(desk: &Desk) -> SqliteLedger {
    drop(Home::open(desk.path("home")).expect("a home"));
    SqliteLedger::open(desk.path("home/runtime/state.db")).expect("a ledger")
}

fn row(subject: &str, outcome: &str) -> AuditRow {
    AuditRow {
        at: Timestamp::from_second(1_800_000_000).expect("a time"),
        actor: "spiffe://demo.example/operator/alice".to_owned(),
        action: "certificate.issue".to_owned(),
        subject: subject.to_owned(),
        outcome: outcome.to_owned(),
        detail: "serial 5a".to_owned(),
        why: "asked by Bob".to_owned(),
    }
}

fn desk() -> Desk {
    let desk = Desk::new();
    let ledger = ledger(&desk);
    for (subject, outcome) in [("east", "ok"), ("west", "refused"), ("north", "ok")] {
        ledger.audit(&row(subject, outcome)).expect("a row");
    }
    desk
}

#[test]
fn the_audit_log_is_listed_verified_and_exported() {
    let desk = desk();
    let listed = desk.run("--home home audit list");
    assert_eq!(listed.code, 0, "{listed:#?}");
    for expected in ["ROW", "east", "west", "operator/alice", "asked by Bob", "certificate.issue"] {
        assert!(listed.stdout.contains(expected), "{expected}: {listed:#?}");
    }
    let refused = desk.run("--home home audit list --outcome refused -o json");
    let rows: serde_json::Value = serde_json::from_str(&refused.stdout).expect("JSON");
    assert_eq!(rows[0]["subject"], "west", "{rows}");
    assert_eq!(rows.as_array().map(Vec::len), Some(1), "{rows}");
    let none = desk.run("--home home audit list --since 2040-01-01T00:00:00Z");
    assert!(none.stdout.contains("No rows that fit."), "{none:#?}");

    let verified = desk.run("--home home audit verify");
    assert_eq!(verified.code, 0, "{verified:#?}");
    assert!(verified.stdout.contains("whole"), "{verified:#?}");

    // Only one row in full; what was left out is there by its hash, and all of it verifies anywhere.
    let exported = desk.run("--home home audit export out.jsonl --outcome refused");
    assert_eq!(exported.code, 0, "{exported:#?}");
    let text = desk.read("out.jsonl");
    assert_eq!(text.lines().count(), 4);
    assert!(text.contains("west") && !text.contains("\"east\""), "{text}");
    let elsewhere = desk.run("--home nowhere audit verify --export out.jsonl");
    assert_eq!(elsewhere.code, 0, "{elsewhere:#?}");
    desk.write("out.jsonl", text.replace("asked by Bob", "asked by Ben"));
    let edited = desk.run("audit verify --export out.jsonl -o json");
    assert_eq!(edited.code, 9, "{edited:#?}");
    assert!(edited.stdout.contains("\"code\": \"edited\""), "{edited:#?}");
    assert!(edited.stdout.contains("\"first\": 2"), "{edited:#?}");

    let no_home = desk.run("--home nowhere audit list");
    assert_eq!(no_home.code, 6, "{no_home:#?}");
}

#[test]
fn a_list_of_the_audit_log_that_is_not_all_of_it_says_so() {
    let desk = desk();
    let all = desk.run("--home home audit list --limit 3 -o json");
    assert_eq!((all.code, all.stderr.as_str()), (0, ""), "{all:#?}");
    let newest = desk.run("--home home audit list --limit 2 -o json");
    let rows: serde_json::Value = serde_json::from_str(&newest.stdout).expect("JSON");
    let subjects: Vec<&str> =
        rows.as_array().into_iter().flatten().filter_map(|row| row["subject"].as_str()).collect();
    assert_eq!(subjects, ["west", "north"], "the newest, in the order they were written");
    assert!(
        newest.stderr.starts_with("note: showing the newest 2, and there are more"),
        "{newest:#?}"
    );
}

#[test]
fn a_word_that_is_misspelt_does_not_look_like_nothing_having_happened() {
    let desk = desk();
    let action = desk.run("--home home audit list --action certificate.isue");
    assert_eq!((action.code, action.stdout.as_str()), (0, "No rows that fit.\n"), "{action:#?}");
    assert_eq!(action.stderr, "note: did you mean --action certificate.issue?\n");
    let silent = desk.run("--home home audit list --action certificate.issue --actor nobody");
    assert_eq!((silent.code, silent.stderr.as_str()), (0, ""), "{silent:#?}");
    let outcome = desk.run("--home home audit list --outcome refussed");
    assert_eq!(outcome.code, 2, "{outcome:#?}");
    assert!(outcome.stderr.contains("'refused'"), "{outcome:#?}");
}

#[test]
fn an_export_that_cannot_be_written_leaves_nothing_behind() {
    let desk = Desk::new();
    drop(ledger(&desk));
    let empty = desk.run("--home home audit export out.jsonl");
    assert_eq!(empty.code, 9, "{empty:#?}");
    assert!(!desk.path("out.jsonl").exists(), "half an export is in the way of the next one");
}

#[test]
fn a_ledger_that_was_tampered_with_is_not_whole() {
    let desk = desk();
    let head = desk.run("--home home audit verify -o json");
    let view: serde_json::Value = serde_json::from_str(&head.stdout).expect("JSON");
    desk.write("kept.txt", view["head"].as_str().expect("a head"));
    ledger(&desk).audit(&row("south", "ok")).expect("a row");
    let kept = desk.run("--home home audit verify --head kept.txt");
    assert_eq!(kept.code, 0, "an older head is a part of the log: {kept:#?}");

    std::fs::remove_file(desk.path("home/runtime/audit.head")).expect("the file");
    let verified = desk.run("--home home audit verify --head kept.txt");
    assert_eq!(verified.code, 9, "{verified:#?}");
    assert!(verified.stdout.contains("audit.head"), "{verified:#?}");
    assert!(verified.stderr.contains("one flaw"), "{verified:#?}");
}

#[test]
fn a_home_is_backed_up_and_restored_and_nothing_comes_back_that_was_revoked() {
    let desk = desk();
    desk.write("pass", "long words\n");
    desk.write("home/input/certs/shop/tls.key", "-----BEGIN PRIVATE KEY-----\n");
    let made = desk.run("--home home backup west.tar --with-keys --passphrase-file pass");
    assert_eq!(made.code, 0, "{made:#?}");
    let again = desk.run("--home home backup west.tar");
    assert_ne!(again.code, 0, "never over a file that is there: {again:#?}");

    let revoked = Revocation {
        issuer_key_id: [1; 32],
        serial: "5a".parse().expect("a serial"),
        reason: RevocationReason::KeyCompromise,
        at: Timestamp::from_second(1_800_000_000).expect("a time"),
        not_after: None,
        identity: None,
        lineage: None,
    };
    ledger(&desk).revoke(std::slice::from_ref(&revoked), &[], &row("5a", "ok")).expect("revoked");
    std::fs::remove_file(desk.path("home/input/certs/shop/tls.key")).expect("the key is gone");

    let held = Home::open(desk.path("home")).expect("a node runs");
    let busy = desk.run("--home home restore west.tar --passphrase-file pass");
    assert_eq!(busy.code, 6, "{busy:#?}");
    drop(held);
    let blind = desk.run("--home home restore west.tar");
    assert_eq!(blind.code, 3, "{blind:#?}");
    assert!(blind.stderr.contains("--passphrase-file"), "{blind:#?}");
    let restored =
        desk.run("--home home restore west.tar --passphrase-file pass --why mistake -o json");
    assert_eq!(restored.code, 0, "{restored:#?}");
    assert!(restored.stdout.contains("\"rowsKept\": 1"), "{restored:#?}");
    assert!(desk.path("home/input/certs/shop/tls.key").is_file());
    let found = ledger(&desk).revocation(&revoked.issuer_key_id, &revoked.serial);
    assert!(found.expect("a ledger").is_some(), "still revoked");

    let verified = desk.run("--home home audit verify");
    assert_eq!(verified.code, 0, "{verified:#?}");
    assert!(verified.stdout.contains("restored by uid:"), "{verified:#?}");
}

/// The program in the book, which needs nothing of ours, agrees with us.
#[test]
fn python_and_openssl_verify_an_export_as_the_book_says() {
    let book = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/book/audit.md");
    let book = std::fs::read_to_string(book).expect("the chapter");
    let (_, rest) = book.split_once("```python\n").expect("a program in the chapter");
    let (program, _) = rest.split_once("```").expect("its end");
    let desk = desk();
    desk.write("verify.py", program);
    desk.run("--home home audit export audit.jsonl --action certificate.issue");
    let python = |file: &str| {
        std::process::Command::new("python3")
            .args(["verify.py", file])
            .current_dir(desk.path("."))
            .output()
    };
    let Ok(ran) = python("audit.jsonl") else {
        println!("skipped: no python3 here");
        return;
    };
    assert!(ran.status.success(), "{ran:?}");
    let openssl = std::process::Command::new("openssl")
        .args(
            "pkeyutl -verify -pubin -inkey audit.pub -rawin -in head.txt -sigfile head.sig"
                .split(' '),
        )
        .current_dir(desk.path("."))
        .output();
    match openssl {
        Ok(ran) => assert!(ran.status.success(), "{ran:?}"),
        Err(_) => println!("skipped: no openssl here"),
    }
    let text = desk.read("audit.jsonl");
    desk.write("edited.jsonl", text.replace("asked by Bob", "asked by Ben"));
    assert!(!python("edited.jsonl").expect("it ran before").status.success());
}
