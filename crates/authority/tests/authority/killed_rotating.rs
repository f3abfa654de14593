//! A rotation that is killed before and after every single write of its record: this test program runs itself as a worker,
//! which kills itself with SIGKILL at the moment that it is told. Whatever is found, it goes on from there to its end.

use std::collections::BTreeSet;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use handfast_authority::rotation::{Phase, Rotation};
use handfast_authority::{Authority, KeyState, RotateOrder};
use handfast_pki::{Credential, Name};
use handfast_store::{
    AuditLog, CredentialStore, DirectoryStore, Home, Ledger, SqliteLedger, WatchSettings,
};
use tempfile::TempDir;

use crate::killed::west;
use crate::site::{assert_live_are_valid, name, open, start};
use crate::unrecorded::Bounded;

const HOME: &str = "HANDFAST_TEST_ROTATING_HOME";
const MOMENT: &str = "HANDFAST_TEST_ROTATING_MOMENT";
const ORDER: &str = "HANDFAST_TEST_ROTATING_ORDER";

/// More than there are: who needs as many has hung.
const MOST: u64 = 400;

#[test]
fn a_root_rotation_killed_at_every_write_goes_on_to_its_end() {
    killed_at_every_write("handfast-root", false);
}

#[test]
fn a_forced_rotation_of_a_site_ca_killed_at_every_write_goes_on_to_its_end() {
    killed_at_every_write("handfast-site-ca", true);
}

#[expect(clippy::print_stdout, reason = "how much was gone through")]
fn killed_at_every_write(authority: &str, forced: bool) {
    let template = TempDir::new().unwrap();
    {
        let (_home, authority) = open(template.path(), &Arc::default());
        while !authority.reconcile(&west(), start()).changed.is_empty() {}
    }
    let mut found = BTreeSet::new();
    let mut moments = 0;
    for moment in 1..MOST {
        let directory = TempDir::new().unwrap();
        let home = directory.path().join("home");
        let copied = Command::new("cp").arg("-a").args([template.path(), &home]).status();
        assert!(copied.unwrap().success());
        let worker = Command::new(env::current_exe().unwrap())
            .args(["--exact", "killed_rotating::worker", "--nocapture", "--test-threads=1"])
            .env(HOME, &home)
            .env(MOMENT, moment.to_string())
            .env(ORDER, format!("{authority} {forced}"))
            .output()
            .unwrap();
        if worker.status.success() {
            // It got through before its time had come.
            moments = moment;
            break;
        }
        let said = String::from_utf8_lossy(&worker.stdout);
        assert!(!said.contains("panicked"), "moment {moment}: {said}");
        found.insert(goes_on(&home, authority, moment));
    }
    println!("{authority}: killed at each of {} moments, found {found:?}", moments - 1);
    assert!(moments > 10, "{moments} moments");
    for phase in ["preparing", "prepared", "draining", "revoked"] {
        assert!(found.contains(phase), "never killed in the step {phase}: {found:?}");
    }
}

/// Opens what was left by the killed one and goes on; the step that was found.
fn goes_on(home: &Path, ca: &str, moment: u64) -> &'static str {
    let (lock, authority) = open(home, &Arc::default());
    let phase = phase_of(&authority, ca);
    let mut report = authority.reconcile(&west(), start());
    let mut turns = 0;
    let under_way = || !matches!(phase_of(&authority, ca), None | Some(Phase::Revoked));
    while !report.changed.is_empty() || under_way() {
        report = authority.reconcile(&west(), start());
        turns += 1;
        assert!(turns < 20, "moment {moment}: it does not come to rest: {report:#?}");
    }
    assert_eq!(report.problems, Vec::new(), "moment {moment}");
    assert_live_are_valid(&report, start());
    let all = authority.authorities(&west(), start()).unwrap();
    let standing = all.into_iter().find(|each| each.name == name(ca)).unwrap();
    let states: Vec<KeyState> = standing.keys.iter().map(|key| key.state).collect();
    assert_eq!(states, [KeyState::Active], "moment {moment}");
    if phase.is_some() {
        assert_eq!(phase_of(&authority, ca), Some(Phase::Revoked), "moment {moment}");
        assert_eq!(standing.rotation.unwrap().active(), 2, "moment {moment}: the new key signs");
    }
    drop((authority, lock));
    let log = home.join("runtime/state.db");
    let verified = AuditLog::open(log).unwrap().verify(Vec::new()).unwrap();
    assert!(verified.is_whole(), "moment {moment}: {:?}", verified.flaws);
    phase.map_or("none", Phase::as_str)
}

fn phase_of<S: CredentialStore, L: Ledger>(authority: &Authority<S, L>, ca: &str) -> Option<Phase> {
    let text = authority.ledger().rotation(&name(ca)).unwrap()?;
    Some(Rotation::from_text(&text).expect("a record").phase)
}

/// Rotates until it is through, or until it is killed. Does nothing unless it was started for that.
#[test]
fn worker() {
    let (Ok(home), Ok(moment), Ok(order)) = (env::var(HOME), env::var(MOMENT), env::var(ORDER))
    else {
        return;
    };
    let (ca, forced) = order.split_once(' ').unwrap();
    let home = Home::open(PathBuf::from(home)).unwrap();
    let store = DirectoryStore::open(&home, WatchSettings::default()).unwrap();
    let ledger = Bounded {
        ledger: SqliteLedger::open(&home.layout().state_db).unwrap(),
        full: AtomicBool::new(false),
        moments: Some(AtomicU64::new(moment.parse().unwrap())),
    };
    let proven = |_: &Name, _: &Credential| Ok(());
    let authority = Authority::new(Arc::new(store), Arc::new(ledger), proven);
    authority.reconcile(&west(), start());
    let order = RotateOrder {
        authority: name(ca),
        forced: forced == "true",
        without_laggards: false,
        by: "uid:0".to_owned(),
        why: "copied".to_owned(),
    };
    authority.rotate(&west(), &order, start()).unwrap();
    while !authority.reconcile(&west(), start()).changed.is_empty() {}
    assert_eq!(phase_of(&authority, ca), Some(Phase::Revoked));
}
