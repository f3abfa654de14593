//! What can be read over the admin port: the audit log and its proof by auditors, what was issued by everybody with a role.

use std::fs;

use handfast_store::{AuditRow, Ledger as _, SqliteLedger};
use handfast_testkit::eventually::{eventually, now};
use serde_json::Value;

use crate::desk::Desk;

/// Who audits needs no account on the machine: rows, proof and kept heads are had over the admin port.
#[test]
fn an_auditor_elsewhere_reads_the_log_and_has_it_proven() {
    let mut desk = Desk::new();
    let audrey = desk.operator("audrey");
    let listed = |line: &str| desk.remotely(&audrey, &format!("audit list {line} -o json"));
    let here = desk.west.json("audit list --limit 1000");
    let rows = listed("--limit 1000").ok().json();
    let here = here.as_array().unwrap();
    assert!(here.len() > 5 && rows.as_array().unwrap().starts_with(here), "{rows:#}");
    // In pages, as they are asked for.
    let newest = listed("--limit 2 --action certificate.issue").ok().json();
    let first = newest[0]["sequence"].as_u64().unwrap();
    assert!(newest.as_array().unwrap().iter().all(|row| row["action"] == "certificate.issue"));
    let before = listed(&format!("--limit 2 --before {first}")).ok().json();
    assert_eq!(before[1]["sequence"].as_u64(), Some(first - 1), "{before:#}");

    let verified = desk.remotely(&audrey, "audit verify -o json").ok().json();
    assert_eq!(verified["whole"], true, "{verified:#}");
    let kept = desk.place.write("kept.txt", verified["head"].as_str().unwrap());
    desk.west.json("cert renew handfast-local-client");
    let line = format!("audit verify --head {} -o json", kept.display());
    let again = desk.remotely(&audrey, &line).ok().json();
    assert!(again["rows"].as_u64() > verified["rows"].as_u64(), "{again:#}");
    // A head of another history: of the same size, over other rows.
    let text = fs::read_to_string(&kept).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    let root = if lines[2].starts_with('A') { "B" } else { "A" }.to_owned() + &lines[2][1..];
    lines[2] = &root;
    desk.place.write("kept.txt", lines.join("\n"));
    let broken = desk.remotely(&audrey, &line).exits(9).json();
    assert_eq!(broken["whole"], false, "{broken:#}");
    desk.place.write("kept.txt", "no head");
    desk.remotely(&audrey, &line).exits(3);

    // The log itself, to be kept and verified where no home is; with others only by their hash, too.
    let export = |who: &str, line: &str| {
        desk.remotely(&desk.operator(who), &format!("audit export {line} -o json"))
    };
    let verify = |file: &str| {
        desk.place.run(&format!("--home nowhere audit verify --export {file} -o json"))
    };
    export("audrey", "all.jsonl").ok();
    let whole = verify("all.jsonl").ok().json();
    assert!(whole["rows"].as_u64() >= again["rows"].as_u64(), "{whole:#}");
    export("audrey", "issued.jsonl --action certificate.issue").ok();
    verify("issued.jsonl").ok();
    let text = |file: &str| fs::read_to_string(desk.place.path(file)).unwrap();
    let others = |file: &str| {
        let rows = text(file);
        let said = |line: &&str| line.contains("\"actor\"") && !line.contains("certificate.issue");
        rows.lines().filter(said).count()
    };
    assert!(others("all.jsonl") > 0, "{}", text("all.jsonl"));
    assert_eq!(others("issued.jsonl"), 0, "{}", text("issued.jsonl"));
    desk.place.write("cut.jsonl", text("all.jsonl").lines().skip(1).collect::<Vec<_>>().join("\n"));
    verify("cut.jsonl").exits(9);
    // However many rows there are.
    desk.west.stop();
    let ledger = SqliteLedger::open(desk.west.path("runtime/state.db")).unwrap();
    let row = |number: u32| AuditRow {
        at: now(),
        actor: "node".to_owned(),
        action: "test.row".to_owned(),
        subject: number.to_string(),
        outcome: "ok".to_owned(),
        detail: String::new(),
        why: String::new(),
    };
    ledger.audit_all(&(0..2_500).map(row).collect::<Vec<_>>()).unwrap();
    drop(ledger);
    desk.west.start();
    let export = |who: &str, line: &str| {
        desk.remotely(&desk.operator(who), &format!("audit export {line} -o json"))
    };
    eventually("the admin port is open again", || {
        (export("audrey", "many.jsonl").code == 0).then_some(())
    });
    let many = verify("many.jsonl").ok().json();
    assert!(many["rows"].as_u64() > Some(2_500), "{many:#}");
    assert_eq!(text("many.jsonl").matches("test.row").count(), 2_500);
    // A name that is taken stays what it was; a refused export leaves none.
    export("audrey", "all.jsonl").exits(3);
    export("oscar", "refused.jsonl").exits(5);
    assert!(!desk.place.path("refused.jsonl").exists());

    // Others may not, and an auditor may do nothing else.
    for (who, line) in [
        ("alice", "audit list"),
        ("oscar", "audit verify"),
        ("audrey", "cert renew --all"),
        ("audrey", "token issue t.token"),
    ] {
        desk.remotely(&desk.operator(who), line).exits(5);
    }
}

/// Whose a certificate is can be asked by its serial number, here and from elsewhere.
#[test]
fn what_was_issued_is_found_by_serial_identity_and_end() {
    let mut desk = Desk::new();
    let pay = desk.place.path("pay");
    let issue = |name: &str, ttl: &str| {
        let out = desk.place.path(name);
        let line = format!("cert issue --profile component --name {name} --ttl {ttl}");
        desk.west.json(&format!("{line} --out {}", out.display()))
    };
    let (first, second) = (issue("pay", "24h"), issue("shop", "10m"));
    let serial = first["serial"].as_str().unwrap().to_owned();
    let alice = desk.operator("alice");
    let asked = |line: &str| desk.remotely(&alice, &format!("cert list --issued {line} -o json"));
    let found = asked(&format!("--serial {serial}")).ok().json();
    assert_eq!(found.as_array().unwrap().len(), 1, "{found:#}");
    assert_eq!(found[0]["identity"], "spiffe://demo.example/component/pay");
    assert_eq!(found[0]["profile"], "component");
    assert_eq!(
        (&found[0]["revokedAt"], &found[0]["enrolmentEnded"]),
        (&Value::Null, &false.into())
    );
    for (line, name) in [
        ("--identity spiffe://demo.example/component/shop", "shop"),
        ("--name shop", "shop"),
        ("--expiring 15m --name shop", "shop"),
        ("--identity spiffe://demo.example/component/pay", "pay"),
    ] {
        let found = asked(line).ok().json();
        assert_eq!(found.as_array().unwrap().len(), 1, "{line}: {found:#}");
        assert_eq!(found[0]["names"][0], name, "{line}");
    }
    asked("--expiring 5m --name shop").exits(9);
    let nothing = asked("--serial 00ff").ok().json();
    assert_eq!(nothing, Value::Array(Vec::new()));
    // All of it, page by page, the newest first.
    let all = asked("--limit 3").ok().json();
    assert_eq!(all[0]["serial"], second["serial"], "{all:#}");
    assert_eq!(all.as_array().unwrap().len(), 3);

    desk.west.json("cert revoke --name pay --reason key-compromise --yes");
    let found = asked(&format!("--serial {serial}")).ok().json();
    assert_eq!(found[0]["revocationReason"], "key-compromise", "{found:#}");
    assert_eq!(found[0]["enrolmentEnded"], true);
    let text = desk.remotely(&alice, &format!("cert list --issued --serial {serial}")).ok().stdout;
    assert!(text.contains("revoked: key-compromise") && text.contains(&serial), "{text}");
    // At the home whose node is down, the same.
    desk.west.stop();
    let there = desk.west.json(&format!("cert list --issued --serial {serial}"));
    assert_eq!(there, found);
    assert!(pay.exists());
}
