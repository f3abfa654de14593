//! `kill -9`, again and again: this test program runs itself as a worker, kills it at any moment,
//! and then looks at what is on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use handfast_authority::{
    CredentialState, Declared, GrantOptions, KeySecrets, ProblemCode, Protection, RedeemRefusal,
    RedeemRequest, Redeemer, Selection,
};
use handfast_pki::{Fingerprint, Passphrase, PrivateKey};
use handfast_store::{CredentialStore, Home, IssuedFilter, Kind, Ledger};
use jiff::{SignedDuration, Timestamp};
use tempfile::TempDir;
use zeroize::Zeroizing;

use crate::site::{Applicant, Site, Subjected, assert_live_are_valid, name, open, start};

const HOME: &str = "HANDFAST_TEST_HOME";
const WORK: &str = "HANDFAST_TEST_WORK";
const FROM: &str = "HANDFAST_TEST_FROM";

#[test]
fn reconciling_survives_being_killed() {
    let directory = TempDir::new().unwrap();
    let mut at = start();
    let mut steps = 0;
    for round in 0..12_u64 {
        let mut worker = Worker::start("reconcile", directory.path(), at);
        // Killed at another point of the work each time: after so many reconciliations, and then a
        // little into the next.
        for line in worker.kill(round % 5, Duration::from_millis(3 * round)) {
            at = line.parse().expect("a worker prints times");
            steps += 1;
        }
    }
    assert!(steps >= 12, "{steps} reconciliations");

    let (_home, authority) = open(directory.path(), &Arc::default());
    let report = authority.reconcile(&declared(), at);
    assert_eq!(report.problems, Vec::new());
    assert!(report.credentials.iter().all(|facts| facts.state == CredentialState::Ready));
    assert_live_are_valid(&report, at);
    assert_everything_is_recorded(&authority);
    assert!(authority.reconcile(&declared(), at).changed.is_empty());
}

#[test]
fn redeeming_survives_being_killed() {
    let west = Site::new("west");
    west.settled();
    let options = GrantOptions { redemptions_allowed: 30, ..GrantOptions::default() };
    let (grant, code) = west.authority.issue_grant(&options, west.now).unwrap();
    let west = west.closed();
    let applicants = west.directory().join("applicants");
    fs::create_dir(&applicants).unwrap();
    for number in 0..40 {
        let applicant = Applicant::new(&format!("site-{number:02}"));
        fs::write(applicants.join(&applicant.site), &applicant.csr).unwrap();
    }
    let token = format!("{} {}", grant.id, code.expose());
    fs::write(west.directory().join("token"), token).unwrap();

    // What each applicant was answered must never change.
    let mut answered: BTreeMap<String, String> = BTreeMap::new();
    for round in 0..14_u64 {
        let mut worker = Worker::start("redeem", west.directory(), start());
        for line in worker
            .kill(if round == 13 { 41 } else { round * 3 }, Duration::from_micros(700 * round))
        {
            let (site, fingerprint) = line.split_once(' ').expect("a worker prints answers");
            if site == "all" {
                continue;
            }
            let before = answered.insert(site.to_owned(), fingerprint.to_owned());
            assert!(before.is_none_or(|before| before == fingerprint), "{site} was answered anew");
        }
    }
    assert_eq!(answered.len(), 40, "the last worker got to the end");

    let (_home, authority) = open(west.directory(), &Arc::default());
    let redeemed = authority.ledger().redemptions(&grant.id).unwrap();
    assert!(redeemed.len() <= 30, "{} redemptions", redeemed.len());
    let sites: BTreeSet<String> =
        redeemed.iter().map(|each| each.applicant.name().to_string()).collect();
    assert_eq!(sites.len(), redeemed.len(), "somebody was served twice");
    for each in &redeemed {
        if let Some(answer) = answered.get(each.applicant.name().as_str()) {
            assert_eq!(*answer, each.bundle.issued.fingerprint.to_string());
        }
    }
    for (site, answer) in answered.iter().filter(|(_, answer)| *answer != "spent") {
        assert!(sites.contains(site), "{site} was answered {answer}, and it is not recorded");
    }
    let record = authority.ledger().grant(&grant.id).unwrap().unwrap();
    assert_eq!(record.redemptions as usize, redeemed.len());
    assert_everything_is_recorded(&authority);
}

/// `ca protect` rewrites a key file after the other: whenever it dies, each of them is whole, in the
/// form from before or in the new one, and the credentials go on as they were.
#[test]
fn encrypting_the_keys_survives_being_killed() {
    let directory = TempDir::new().unwrap();
    let (home, authority) = open(directory.path(), &Arc::default());
    // A second revision of each leaf, and a request that waits: all have keys.
    assert_eq!(authority.reconcile(&west(), start()).problems, Vec::new());
    authority.renew_now(&west(), &Selection::All, start()).unwrap();
    authority.reconcile(&west(), start());
    let before = keys_on_disk(&authority);
    let issued = authority.ledger().issued(&IssuedFilter::default()).unwrap().len();
    assert!(before.len() >= 10, "{before:#?}");
    drop((authority, home));

    let all = before.len();
    for round in 1..=6 {
        // After so many of the files; the worker begins with what it finds.
        let worker = Worker::start("protect", directory.path(), start());
        let changed = worker.kill_when(|| {
            let sealed = sealed_files(directory.path());
            (sealed >= all * round / 7 && sealed < all).then_some(sealed)
        });
        assert!((1..all).contains(&changed), "round {round}: {changed} of {all}");
        let (_home, authority) = open(directory.path(), &Arc::default());
        let after = keys_on_disk(&authority);
        let ids = |keys: &Keys| -> BTreeMap<_, _> {
            keys.iter().map(|(at, (id, _))| (at.clone(), *id)).collect()
        };
        assert_eq!(ids(&after), ids(&before), "round {round}: every key is the one that it was");
        authority.set_key_secrets(secrets());
        let report = authority.reconcile(&west(), start());
        let broken: Vec<_> =
            report.problems.iter().filter(|p| p.code != ProblemCode::KeyUnprotected).collect();
        assert!(broken.is_empty() && report.changed.is_empty(), "round {round}: {report:#?}");
        assert_live_are_valid(&report, start());
    }
    // Doing it once more does the rest.
    let (_home, authority) = open(directory.path(), &Arc::default());
    authority.set_key_secrets(secrets());
    authority.reconcile(&west(), start());
    authority.protect(Protection::Everything, "test", start()).unwrap();
    assert!(keys_on_disk(&authority).values().all(|(_, sealed)| *sealed));
    assert_eq!(authority.ledger().issued(&IssuedFilter::default()).unwrap().len(), issued);
}

/// Every key file: of which certificate it is, and whether it lies encrypted.
type Keys = BTreeMap<String, (Fingerprint, bool)>;

fn keys_on_disk(authority: &Subjected) -> Keys {
    let store = authority.store();
    let mut found = BTreeMap::new();
    for kind in [Kind::Certificate, Kind::Issuer] {
        for name in store.list(kind).unwrap() {
            for stored in store.kept(kind, &name).unwrap() {
                let file = stored.pem.tls_key.as_ref().expect("a key file");
                let sealed = PrivateKey::is_encrypted(file);
                // Read with either secret; that it belongs to the certificate is checked with it.
                let read = SECRETS.iter().find_map(|secret| {
                    stored.credential(sealed.then(|| Passphrase::new(*secret)).as_ref()).ok()
                });
                let credential = read.unwrap_or_else(|| panic!("{kind} {name} cannot be read"));
                let at = format!("{kind} {name} {}", stored.revision);
                found.insert(at, (credential.leaf().fingerprint(), sealed));
            }
        }
    }
    found
}

/// How many key files of a home lie encrypted.
fn sealed_files(directory: &Path) -> usize {
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    let found = entries.filter_map(Result::ok).map(|entry| {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => sealed_files(&path),
            Ok(kind) if kind.is_file() && entry.file_name() == "tls.key" => {
                usize::from(fs::read(&path).is_ok_and(|bytes| PrivateKey::is_encrypted(&bytes)))
            }
            _ => 0,
        }
    });
    found.sum()
}

const SECRETS: [&str; 2] = ["the first secret", "the second secret"];

fn secrets() -> KeySecrets {
    KeySecrets::Given(SECRETS.iter().map(|secret| Passphrase::new(*secret)).collect())
}

/// What a killed worker is in the middle of. Does nothing unless it was started as one; that it
/// does something then is what the tests above look at.
#[test]
fn worker() {
    let (Ok(work), Ok(home), Ok(from)) = (env::var(WORK), env::var(HOME), env::var(FROM)) else {
        return;
    };
    let home = PathBuf::from(home);
    let from: Timestamp = from.parse().unwrap();
    match work.as_str() {
        "reconcile" => reconcile_for_ever(&home, from),
        "protect" => protect_for_ever(&home, from),
        "redeem" => redeem_all(&home, from),
        other => panic!("no such work: {other}"),
    }
}

fn reconcile_for_ever(home: &Path, from: Timestamp) {
    let (_home, authority) = open(home, &Arc::default());
    let mut now = from;
    loop {
        let report = authority.reconcile(&declared(), now);
        assert_eq!(report.problems, Vec::new());
        say(&now.to_string());
        now = report.next_wake.max(now.checked_add(SignedDuration::from_secs(1)).unwrap());
    }
}

fn protect_for_ever(home: &Path, now: Timestamp) {
    let (_home, authority) = open(home, &Arc::default());
    authority.set_key_secrets(secrets());
    authority.reconcile(&west(), now);
    say("begun");
    loop {
        for how in [Protection::Off, Protection::Everything] {
            authority.protect(how, "worker", now).unwrap();
            say("changed");
        }
    }
}

fn redeem_all(home: &Path, now: Timestamp) {
    let (_home, authority) = open(home, &Arc::default());
    authority.reconcile(&west(), now);
    let token = fs::read_to_string(home.join("token")).unwrap();
    let (grant, code) = token.split_once(' ').unwrap();
    let mut applicants: Vec<PathBuf> =
        fs::read_dir(home.join("applicants")).unwrap().map(|entry| entry.unwrap().path()).collect();
    applicants.sort();
    for path in applicants {
        let site = path.file_name().unwrap().to_str().unwrap().to_owned();
        let request = RedeemRequest {
            grant: grant.to_owned(),
            code: Zeroizing::new(code.as_bytes().to_vec()),
            redeemer: Redeemer::Site,
            name: site.clone(),
            csr: fs::read(&path).unwrap(),
            origin: "worker".to_owned(),
        };
        match authority.redeem(&request, &|_| String::new(), now) {
            Ok(bundle) => say(&format!("{site} {}", bundle.issued.fingerprint)),
            Err(RedeemRefusal::Spent) => say(&format!("{site} spent")),
            Err(other) => panic!("{site}: {other}"),
        }
    }
    say("all done");
    // To be killed like the others, not to end by itself and hide that.
    loop {
        thread::park();
    }
}

fn declared() -> Declared {
    let mut declared = west();
    let leaf = Duration::from_secs(10);
    declared.settings = handfast_authority::Lifetimes::new(leaf, leaf * 6).unwrap();
    declared
}

pub(crate) fn west() -> Declared {
    let mut declared = Declared::new(name("west"));
    declared.trust_domain = Some("demo.example".parse().unwrap());
    declared.accesses.push(handfast_authority::DeclaredAccess {
        resource: handfast_authority::ResourceRef::new("RouterAccess", "west"),
        credential: declared.names.site_server.clone(),
        hosts: vec!["127.0.0.1".parse().unwrap()],
    });
    declared
}

/// Every certificate on disk, whatever state it is in, is in the ledger, and none is there twice.
fn assert_everything_is_recorded(authority: &Subjected) {
    let issued = authority.ledger().issued(&IssuedFilter::default()).unwrap();
    let known: BTreeSet<_> = issued.iter().map(|each| each.fingerprint).collect();
    assert_eq!(known.len(), issued.len());
    let serials: BTreeSet<_> =
        issued.iter().map(|each| (each.issuer_key_id, each.serial.clone())).collect();
    assert_eq!(serials.len(), issued.len());
    let store = authority.store();
    for kind in [Kind::Certificate, Kind::Issuer] {
        for each in store.list(kind).unwrap() {
            let current = store.load_managed(kind, &each).unwrap();
            let staged = store.staged(kind, &each).unwrap().map(|(_, stored)| stored);
            let previous = store.previous(kind, &each).unwrap();
            for stored in [current, staged, previous].into_iter().flatten() {
                let leaf = stored.credential(None).unwrap().leaf().fingerprint();
                assert!(known.contains(&leaf), "{kind} {each} is not in the ledger");
            }
        }
    }
}

/// Said whole and at once: what the parent reads was done.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "said: {line}").unwrap();
    out.flush().unwrap();
}

struct Worker {
    process: Child,
    lines: mpsc::Receiver<String>,
}

impl Worker {
    fn start(work: &str, home: &Path, from: Timestamp) -> Self {
        // The lock of a killed process is gone when the process is.
        drop(Home::open(home).unwrap());
        let mut process = Command::new(env::current_exe().unwrap())
            .args(["--exact", "killed::worker", "--nocapture", "--test-threads=1"])
            .env(WORK, work)
            .env(HOME, home)
            .env(FROM, from.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(process.stdout.take().unwrap());
        let (said, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let Some((_, line)) = line.split_once("said: ") else { continue };
                if said.send(line.to_owned()).is_err() {
                    return;
                }
            }
        });
        Self { process, lines }
    }

    /// Kills it the moment that something is seen.
    fn kill_when<T>(mut self, mut seen: impl FnMut() -> Option<T>) -> T {
        let found = handfast_testkit::eventually::eventually("the moment to kill it", &mut seen);
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        found
    }

    /// Kills it once it has said so many things, and a little later still: in the middle of
    /// whatever it does then. Returns all that it said.
    fn kill(&mut self, after: u64, later: Duration) -> Vec<String> {
        let mut said = Vec::new();
        for _ in 0..after {
            match self.lines.recv_timeout(Duration::from_secs(60)) {
                Ok(line) => said.push(line),
                Err(_) => break,
            }
        }
        thread::sleep(later);
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        said.extend(self.lines.iter());
        said
    }
}
