//! Processes killed in the middle of their work, again and again: nothing that was said to be done
//! is undone, nothing is half-done, nothing is done twice.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use handfast_store::{
    Applicant, AuditLog, AuditRange, AuditRow, CredentialStore, DirectoryStore, Home, IssuedFilter,
    Kind, Ledger, RedeemOutcome, Redemption, SqliteLedger, WatchSettings, write_atomic,
};

use crate::child::{self, Worker};
use crate::material::{CODE, at, bundle, grant, name, number_in, pem, revocation};

const ROUNDS: u64 = 20;
const KIND: Kind = Kind::Certificate;

/// Kills are to hit every part of the work, so each comes a different moment after the last word.
fn linger(round: u64) {
    thread::sleep(Duration::from_micros(round * 7919 % 5000));
}

#[test]
fn credentials_survive_kill_9() {
    if let Some(root) = child::role() {
        return rotate_for_ever(&root);
    }
    let directory = tempfile::tempdir().unwrap();
    let east = name("east");
    let mut promoted = 0;
    for round in 0..ROUNDS {
        let mut worker = Worker::start("crash::credentials_survive_kill_9", directory.path());
        let reader = DirectoryStore::read_only(&Home::paths(directory.path()));
        let mut said = vec![worker.hear(), worker.hear(), worker.hear()];
        let killed = AtomicBool::new(false);
        said.extend(thread::scope(|scope| {
            // Whoever reads meanwhile always meets something, never a mixture, and never goes back.
            scope.spawn(|| {
                let mut newest = promoted;
                while !killed.load(Ordering::Acquire) {
                    let number = number_in(&reader.load(KIND, &east).unwrap().unwrap());
                    assert!(number >= newest, "{number} after {newest}");
                    newest = number;
                }
            });
            let mut said: Vec<_> = (0..(round * 5 % 11)).map_while(|_| worker.next()).collect();
            linger(round);
            said.extend(worker.kill());
            killed.store(true, Ordering::Release);
            said
        }));
        check_revisions(&Home::paths(directory.path()).runtime_certs.join("east"));

        let last = |what: &str| {
            said.iter().rev().find_map(|line| line.strip_prefix(what)?.trim().parse::<u64>().ok())
        };
        promoted = last("promoted").unwrap_or(promoted);
        let home = Home::open(directory.path()).expect("the lock went with the process");
        let store = DirectoryStore::open(&home, WatchSettings::default()).unwrap();
        let current = store.load(KIND, &east).unwrap().map_or(0, |stored| number_in(&stored));
        // The last promotion may have happened without being reported any more.
        assert!((promoted..=promoted + 1).contains(&current), "{current} after {said:?}");
        if let Some((_, staged)) = store.staged(KIND, &east).unwrap() {
            assert_eq!(number_in(&staged), current + 1);
        } else {
            assert!(last("staged").is_none_or(|staged| staged <= current), "{said:?}");
        }
        let left: Vec<_> = std::fs::read_dir(home.layout().runtime_certs.join("east"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|entry| entry.starts_with("..tmp") || entry.starts_with("..rev"))
            .collect();
        assert!(left.len() <= 3 && !left.iter().any(|entry| entry.contains("tmp")), "{left:?}");
        promoted = current;
    }
    assert!(promoted > ROUNDS, "the children did some work: {promoted}");
}

/// Whatever has the name of a revision is a whole one, before anything is cleaned up.
fn check_revisions(directory: &Path) {
    let mut found = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap().starts_with("..rev-") {
            found += 1;
            let read = |file| std::fs::read_to_string(path.join(file)).unwrap();
            let number = read("tls.crt").split_whitespace().nth(1).unwrap().parse().unwrap();
            let whole = pem(number);
            assert_eq!(read("tls.crt"), whole.tls_crt);
            assert_eq!(read("tls.key"), *whole.tls_key);
            assert_eq!(read("ca.crt"), whole.ca_crt);
        }
    }
    assert!(found > 0);
}

fn rotate_for_ever(root: &Path) {
    let home = Home::open(root).unwrap();
    let store = DirectoryStore::open(&home, WatchSettings::default()).unwrap();
    let east = name("east");
    loop {
        let current = store.load(KIND, &east).unwrap().map_or(0, |stored| number_in(&stored));
        let revision = match store.staged(KIND, &east).unwrap() {
            // Sometimes what the crash left is used, sometimes it is thrown away.
            Some((revision, staged)) if number_in(&staged).is_multiple_of(2) => revision,
            Some((revision, _)) => {
                store.discard(KIND, &east, revision).unwrap();
                store.stage(KIND, &east, &pem(current + 1)).unwrap()
            }
            None => store.stage(KIND, &east, &pem(current + 1)).unwrap(),
        };
        child::say(&format!("staged {}", current + 1));
        store.promote(KIND, &east, revision).unwrap();
        child::say(&format!("promoted {}", current + 1));
        if current.is_multiple_of(3) {
            store.discard_previous(KIND, &east).unwrap();
        }
    }
}

#[test]
fn redemptions_survive_kill_9_and_are_never_spent_twice() {
    if let Some(root) = child::role() {
        return redeem_for_ever(&root);
    }
    let directory = tempfile::tempdir().unwrap();
    // What was said to be redeemed: grant and key, and the serial that was handed out.
    let mut handed_out: BTreeMap<(u64, u8), String> = BTreeMap::new();
    for round in 0..ROUNDS {
        let mut worker = Worker::start(
            "crash::redemptions_survive_kill_9_and_are_never_spent_twice",
            directory.path(),
        );
        let mut said: Vec<_> = (0..=(round * 7 % 13)).map(|_| worker.hear()).collect();
        linger(round);
        said.extend(worker.kill());
        for line in said {
            let mut words = line.split_whitespace();
            let mut word = || words.next().unwrap();
            let key = (word().parse().unwrap(), word().parse().unwrap());
            handed_out.insert(key, word().to_owned());
        }

        let ledger = SqliteLedger::open(directory.path().join("state.db")).unwrap();
        let (mut redemptions, mut certificates) = (0, Vec::new());
        for record in ledger.grants().unwrap() {
            let served = ledger.redemptions(&record.grant.id).unwrap();
            assert!(served.len() <= 2, "{:?} is spent {} times", record.grant.id, served.len());
            redemptions += served.len();
            certificates.extend(served.into_iter().map(|served| served.bundle.issued));
        }
        // Certificate, redemption and audit row came together or not at all.
        let mut issued = ledger.issued(&IssuedFilter::default()).unwrap();
        for list in [&mut issued, &mut certificates] {
            list.sort_by_key(|issued| issued.serial.to_string());
        }
        assert_eq!(issued, certificates);
        let rows = ledger.audit_rows(&AuditRange::after(0, u32::MAX)).unwrap();
        let recorded = rows
            .iter()
            .filter(|recorded| {
                recorded.row.action == "grant.redeem" && recorded.row.outcome == "ok"
            })
            .count();
        assert_eq!(recorded, redemptions);
        // Whoever got an answer gets the same again; whoever lost it as well.
        for ((number, key), serial) in &handed_out {
            let again =
                ledger.redeem(&redemption(*number, *key), &mut |_| panic!("signed twice")).unwrap();
            let RedeemOutcome::Repeated(bundle) = again else {
                panic!("{number} {key}: {again:?}")
            };
            assert_eq!(bundle.issued.serial.to_string(), *serial);
        }
    }
    assert!(handed_out.len() as u64 > ROUNDS * 2, "{}", handed_out.len());
}

fn redeem_for_ever(root: &Path) {
    let ledger = SqliteLedger::open(root.join("state.db")).unwrap();
    let grants = ledger.grants().unwrap();
    let mut serial = ledger.issued(&IssuedFilter::default()).unwrap().len() as u64;
    // Go on with the grant that the last one was killed over.
    for number in (grants.len() as u64).saturating_sub(1).. {
        let id = format!("g-{number}");
        if ledger.grant(&name(&id)).unwrap().is_none() {
            let row = AuditRow {
                at: at(0),
                actor: "node".to_owned(),
                action: "grant.create".to_owned(),
                subject: id.clone(),
                outcome: "ok".to_owned(),
                detail: String::new(),
                why: String::new(),
            };
            ledger.create_grant(&grant(&id, 2), &row).unwrap();
        }
        // Three ask, twice each; two can be served.
        for key in [1, 2, 3, 1, 2, 3] {
            let outcome = ledger
                .redeem(&redemption(number, key), &mut |_| {
                    serial += 1;
                    Ok(bundle(serial))
                })
                .unwrap();
            match outcome {
                RedeemOutcome::Redeemed(bundle) | RedeemOutcome::Repeated(bundle) => {
                    assert_ne!(key, 3, "the first two were first");
                    child::say(&format!("{number} {key} {}", bundle.issued.serial));
                }
                RedeemOutcome::Spent => assert_eq!(key, 3),
                other => panic!("{other:?}"),
            }
        }
    }
}

fn redemption(number: u64, key: u8) -> Redemption {
    Redemption {
        grant_id: name(&format!("g-{number}")),
        code: CODE.to_vec(),
        request_key: [key; 32],
        applicant: Applicant::Site(name("east")),
        origin: "127.0.0.1:5000".to_owned(),
        now: at(1),
    }
}

#[test]
fn revocations_survive_kill_9_and_the_audit_log_stays_whole() {
    if let Some(root) = child::role() {
        return revoke_for_ever(&root);
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    let mut said = Vec::new();
    for round in 0..ROUNDS {
        let mut worker = Worker::start(
            "crash::revocations_survive_kill_9_and_the_audit_log_stays_whole",
            directory.path(),
        );
        said.extend((0..=(round * 7 % 13)).map(|_| worker.hear()));
        linger(round);
        said.extend(worker.kill());

        // Before anybody opens it again: what is on disk fits together as it is.
        let verified = AuditLog::open(&path).unwrap().verify(Vec::new()).unwrap();
        assert_eq!(verified.flaws, []);
        let ledger = SqliteLedger::open(&path).unwrap();
        for number in &said {
            let revoked = revocation(number.parse().unwrap());
            let found = ledger.revocation(&revoked.issuer_key_id, &revoked.serial).unwrap();
            assert_eq!(found.map(|found| found.revocation), Some(revoked), "{number}");
            let lineage = format!("grant/{number}").parse().unwrap();
            assert!(ledger.lineage_ended(&lineage).unwrap().is_some(), "{number}");
        }
        // Revocation, enrolment and audit row came together or not at all.
        let revoked = ledger.revocations_after(0, u32::MAX).unwrap();
        let rows = ledger.audit_rows(&AuditRange::after(0, u32::MAX)).unwrap();
        assert_eq!(rows.len(), revoked.len());
        assert!(revoked.iter().zip(1..).all(|(recorded, number)| recorded.sequence == number));
        // The journal was brought up to date: without the ledger nothing would be forgotten.
        let journal = std::fs::read_to_string(directory.path().join("revocations.log")).unwrap();
        for recorded in &revoked {
            let serial = recorded.revocation.serial.to_string();
            assert!(journal.contains(&serial), "{serial}");
        }
    }
    assert!(said.len() as u64 > ROUNDS * 2, "{}", said.len());
}

fn revoke_for_ever(root: &Path) {
    let ledger = SqliteLedger::open(root.join("state.db")).unwrap();
    let first = ledger.revocations_after(0, u32::MAX).unwrap().len() as u64;
    // Several at a time, so that the kill meets shared transactions as well.
    thread::scope(|scope| {
        for writer in 0..4 {
            let ledger = &ledger;
            scope.spawn(move || {
                for number in (first + writer..).step_by(4) {
                    let new = revocation(number);
                    // The last one of another writer was killed over, and this one was quicker.
                    if ledger.revocation(&new.issuer_key_id, &new.serial).unwrap().is_some() {
                        continue;
                    }
                    let row = AuditRow {
                        at: at(0),
                        actor: "uid:0".to_owned(),
                        action: "certificate.revoke".to_owned(),
                        subject: number.to_string(),
                        outcome: "ok".to_owned(),
                        detail: String::new(),
                        why: "lost".to_owned(),
                    };
                    let lineage = format!("grant/{number}").parse().unwrap();
                    ledger.revoke(&[new], &[lineage], &row).unwrap();
                    child::say(&number.to_string());
                }
            });
        }
    });
}

#[test]
fn files_survive_kill_9_whole() {
    if let Some(root) = child::role() {
        let _home = Home::open(&root).unwrap();
        let path = Home::paths(&root).runtime_resources.join("link.yaml");
        for number in 0_u64.. {
            write_atomic(&path, content(number).as_bytes(), 0o600).unwrap();
            child::say(&number.to_string());
        }
    }
    let directory = tempfile::tempdir().unwrap();
    for round in 0..ROUNDS {
        let mut worker = Worker::start("crash::files_survive_kill_9_whole", directory.path());
        let mut said: Vec<u64> =
            (0..=(round * 3 % 7)).map(|_| worker.hear().parse().unwrap()).collect();
        linger(round);
        said.extend(worker.kill().iter().map(|line| line.parse::<u64>().unwrap()));
        let last = *said.last().unwrap();

        let home = Home::open(directory.path()).unwrap();
        let resources = &home.layout().runtime_resources;
        let found = std::fs::read_to_string(resources.join("link.yaml")).unwrap();
        assert!(found == content(last) || found == content(last + 1), "after {last}");
        assert_eq!(std::fs::read_dir(resources).unwrap().count(), 1, "nothing else is left");
    }
}

fn content(number: u64) -> String {
    format!("line {number}\n").repeat(5000)
}
