//! Backups of homes at work, and putting them back: what comes back, and what stays as it is now.

use std::fs;
use std::path::{Path, PathBuf};

use handfast_store::{
    Applicant, AuditLog, AuditRow, BackedUp, BackupError, BackupRequest, CredentialStore,
    DirectoryStore, Home, HomePaths, IssuedFilter, Kind, Ledger, RedeemOutcome, Redemption,
    RestoreRequest, Restored, SignedHead, SqliteLedger, StoreError, WatchSettings, back_up,
    restore,
};
use tempfile::TempDir;
use zeroize::Zeroizing;

use crate::material::{CODE, at, bundle, grant, name, number_in, pem, revocation};

const KIND: Kind = Kind::Certificate;

struct Site {
    directory: TempDir,
}

impl Site {
    fn new() -> Self {
        let site = Self::empty();
        let home = Home::open(site.root()).unwrap();
        let store = DirectoryStore::open(&home, WatchSettings::default()).unwrap();
        let revision = store.stage(KIND, &name("east"), &pem(1)).unwrap();
        store.promote(KIND, &name("east"), revision).unwrap();
        let resource = home.layout().input_resources.join("site.yaml");
        fs::write(resource, "kind: Site").unwrap();
        crate::material::supply(&home.layout().input_certs.join("shop"), 7);
        let ledger = site.ledger();
        ledger.create_grant(&grant("g", 2), &row("grant g")).unwrap();
        ledger.create_grant(&grant("h", 2), &row("grant h")).unwrap();
        ledger.record_issued(&bundle(1).issued, &row("issue 1")).unwrap();
        ledger.record_issued(&bundle(2).issued, &row("issue 2")).unwrap();
        site
    }

    fn empty() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("home")
    }

    fn paths(&self) -> HomePaths {
        Home::paths(self.root())
    }

    fn file(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    fn ledger(&self) -> SqliteLedger {
        SqliteLedger::open(self.paths().state_db).unwrap()
    }

    fn back_up(&self, to: &Path, passphrase: Option<&str>) -> BackedUp {
        let passphrase = passphrase.map(secret);
        let request = BackupRequest {
            to,
            passphrase: passphrase.as_ref(),
            actor: "uid:0",
            why: "nightly",
            now: at(100),
        };
        back_up(&self.paths(), &request).unwrap()
    }

    fn try_restore(&self, from: &Path, passphrase: Option<&str>) -> Result<Restored, BackupError> {
        let passphrase = passphrase.map(secret);
        let home = Home::open(self.root()).unwrap();
        let request = RestoreRequest {
            from,
            passphrase: passphrase.as_ref(),
            actor: "uid:0",
            why: "the disk was lost",
            now: at(200),
        };
        restore(&home, &request)
    }

    fn restore(&self, from: &Path, passphrase: Option<&str>) -> Restored {
        self.try_restore(from, passphrase).unwrap()
    }

    fn number(&self) -> Option<u64> {
        let store = DirectoryStore::read_only(&self.paths());
        store.load(KIND, &name("east")).unwrap().map(|stored| number_in(&stored))
    }

    fn promote(&self, number: u64) {
        let home = Home::open(self.root()).unwrap();
        let store = DirectoryStore::open(&home, WatchSettings::default()).unwrap();
        let revision = store.stage(KIND, &name("east"), &pem(number)).unwrap();
        store.promote(KIND, &name("east"), revision).unwrap();
    }

    fn is_whole(&self) {
        self.is_whole_against(Vec::new());
    }

    fn is_whole_against(&self, heads: Vec<(String, SignedHead)>) {
        let verified = AuditLog::open(self.paths().state_db).unwrap().verify(heads).unwrap();
        assert_eq!(verified.flaws, []);
        assert!(verified.remarks.iter().any(|it| it.contains("restored by uid:0")));
    }

    /// What happens between a backup and the loss of everything.
    fn live_on(&self) {
        let ledger = self.ledger();
        ledger.revoke(&[revocation(1)], &[lineage()], &row("revoke")).unwrap();
        ledger.keep_statement(b"signed elsewhere", &[revocation(9)], &[], &row("heard")).unwrap();
        assert!(matches!(redeem(&ledger, "g", 1, 3), RedeemOutcome::Redeemed(_)));
        ledger.withdraw_grant(&name("h"), at(150), &row("withdraw")).unwrap();
        for _ in 0..3 {
            ledger.next_crl_number(&[1; 32]).unwrap();
            ledger.next_bundle_sequence(&domain(), &row("bundle")).unwrap();
        }
    }

    /// That none of it can be undone.
    fn has_forgotten_nothing(&self) {
        let ledger = self.ledger();
        let revoked = revocation(1);
        let found = ledger.revocation(&revoked.issuer_key_id, &revoked.serial).unwrap().unwrap();
        assert_eq!(found.revocation, revoked);
        assert!(ledger.lineage_ended(&lineage()).unwrap().is_some());
        let again = redeem(&ledger, "g", 2, 4);
        assert!(matches!(again, RedeemOutcome::Expired | RedeemOutcome::Redeemed(_)), "{again:?}");
        assert_eq!(redeem(&ledger, "h", 1, 5), RedeemOutcome::Expired);
        assert_eq!(ledger.next_crl_number(&[1; 32]).unwrap(), 4);
        assert_eq!(ledger.bundle_sequence(&domain()).unwrap(), 3);
    }
}

fn secret(text: &str) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(text.as_bytes().to_vec())
}

fn lineage() -> handfast_store::Lineage {
    "grant/east".parse().unwrap()
}

fn domain() -> handfast_pki::TrustDomain {
    "demo.example".parse().unwrap()
}

fn redeem(ledger: &SqliteLedger, id: &str, key: u8, number: u64) -> RedeemOutcome {
    let redemption = Redemption {
        grant_id: name(id),
        code: CODE.to_vec(),
        request_key: [key; 32],
        applicant: Applicant::Site(name("east")),
        origin: "here".to_owned(),
        now: at(160),
    };
    ledger.redeem(&redemption, &mut |_| Ok(bundle(number))).unwrap()
}

fn row(subject: &str) -> AuditRow {
    AuditRow {
        at: at(0),
        actor: "node".to_owned(),
        action: "test".to_owned(),
        subject: subject.to_owned(),
        outcome: "ok".to_owned(),
        detail: String::new(),
        why: String::new(),
    }
}

#[test]
fn a_backup_of_a_home_at_work_brings_everything_back_on_another_machine() {
    let site = Site::new();
    let file = site.file("backup");
    let made = {
        // A node is at work: it has the home, and writes all the time.
        let _home = Home::open(site.root()).unwrap();
        let ledger = site.ledger();
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    ledger.audit(&row("meanwhile")).unwrap();
                }
            });
            let made = site.back_up(&file, Some("pass"));
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            made
        })
    };
    assert!(made.sealed >= 2 && made.left_out == 0, "{made:?}");
    let bytes = fs::read(&file).unwrap();
    let key = pem(1).tls_key;
    assert!(!bytes.windows(60).any(|part| part == &key.as_bytes()[..60]), "no key in the clear");

    let other = Site::empty();
    let restored = other.restore(&file, Some("pass"));
    assert_eq!(restored.made, Some(at(100)));
    assert_eq!(restored.left_behind, None);
    assert_eq!(other.number(), Some(1));
    let resource = other.paths().input_resources.join("site.yaml");
    assert_eq!(fs::read_to_string(resource).unwrap(), "kind: Site");
    assert!(other.paths().input_certs.join("shop/tls.key").is_file());
    assert_eq!(other.ledger().issued(&IssuedFilter::default()).unwrap().len(), 2);
    other.is_whole();
    assert_eq!(restored.audit_row, made.audit_rows + 1);
    Home::open(other.root()).unwrap();
}

#[test]
fn restoring_yesterdays_backup_does_not_bring_back_what_was_revoked_today() {
    let site = Site::new();
    let file = site.file("backup");
    let made = site.back_up(&file, Some("pass"));
    site.promote(2);
    site.live_on();
    let today = AuditLog::open(site.paths().state_db).unwrap().head().unwrap().unwrap();

    let restored = site.restore(&file, Some("pass"));
    assert_eq!((restored.revocations_kept, restored.lineages_kept), (2, 1));
    assert_eq!(restored.rows_kept, today.head.size - made.audit_rows);
    assert_eq!(restored.left_behind, None, "the audit log went on");
    assert_eq!(site.number(), Some(1), "the credentials are yesterday's");
    assert_eq!(site.ledger().statements_after(0, 9).unwrap().len(), 1);
    // An auditor who kept today's head finds it in the log.
    site.is_whole_against(vec![("the auditor's head".to_owned(), today)]);
    site.has_forgotten_nothing();
    // And what was there before is not lost.
    assert_eq!(restored.before.len(), 2);
    assert!(restored.before.iter().all(|path| path.is_dir()), "{:?}", restored.before);
    site.is_whole();
}

#[test]
fn with_the_ledger_destroyed_the_journal_remembers() {
    for damage in ["gone", "garbage", "torn"] {
        let site = Site::new();
        let file = site.file("backup");
        site.back_up(&file, None);
        site.live_on();
        let today = AuditLog::open(site.paths().state_db).unwrap().head().unwrap().unwrap();
        let ledger = site.paths().state_db;
        for end in ["-wal", "-shm"] {
            let mut path = ledger.clone().into_os_string();
            path.push(end);
            drop(fs::remove_file(path));
        }
        match damage {
            "gone" => fs::remove_file(&ledger).unwrap(),
            "garbage" => fs::write(&ledger, "not a ledger".repeat(1000)).unwrap(),
            _ => {
                let mut bytes = fs::read(&ledger).unwrap();
                bytes[4096..].fill(0x55);
                fs::write(&ledger, bytes).unwrap();
            }
        }

        let restored = site.restore(&file, None);
        assert_eq!((restored.revocations_kept, restored.lineages_kept), (2, 1), "{damage}");
        assert_eq!(restored.left_behind, Some(today.clone()), "{damage}");
        assert_eq!(site.number(), Some(1), "keys that are still there are still used");
        site.has_forgotten_nothing();
        // The rows since are lost, and the log says so: a head of that time is accounted for.
        site.is_whole_against(vec![("the auditor's head".to_owned(), today)]);
    }
}

#[test]
fn an_older_copy_of_the_ledger_is_taken_in_by_restoring_it() {
    let site = Site::new();
    let ledger = site.paths().state_db;
    fs::copy(&ledger, site.file("yesterday")).unwrap();
    site.live_on();
    fs::copy(site.file("yesterday"), &ledger).unwrap();
    let error = SqliteLedger::open(&ledger).unwrap_err();
    assert!(matches!(error, StoreError::RolledBack { .. }), "{error}");

    let restored = site.restore(&ledger, None);
    assert_eq!(restored.revocations_kept, 2);
    assert_eq!(restored.before.len(), 1, "only what the node keeps was replaced");
    assert_eq!(site.number(), Some(1));
    site.has_forgotten_nothing();
    site.is_whole();
}

#[test]
fn a_backup_without_keys_goes_with_the_keys_that_are_there() {
    let site = Site::new();
    let file = site.file("backup");
    let made = site.back_up(&file, None);
    assert!(made.sealed == 0 && made.left_out >= 2, "{made:?}");
    site.promote(2);
    site.restore(&file, None);
    assert_eq!(site.number(), Some(1), "the key of the time is still there, as the previous one");
    site.promote(3);
    site.promote(4);
    let restored = site.restore(&file, None);
    assert_eq!(site.number(), Some(4), "a certificate without its key would be no use");
    assert!(site.paths().input_certs.join("shop/tls.key").is_file());

    let other = Site::empty();
    let elsewhere = other.restore(&file, None);
    assert_eq!(other.number(), None);
    assert!(elsewhere.without_keys.iter().any(|path| path == "input/certs/shop/tls.key"));
    assert!(other.paths().input_certs.join("shop/tls.crt").is_file());
    other.is_whole();
    assert!(restored.audit_row > 0);
}

#[test]
fn a_backup_of_another_history_takes_nothing_back_either() {
    let one = Site::new();
    let file = one.file("backup");
    one.back_up(&file, None);
    let other = Site::new();
    other.live_on();
    let today = AuditLog::open(other.paths().state_db).unwrap().head().unwrap().unwrap();
    let restored = other.restore(&file, None);
    assert_eq!((restored.revocations_kept, restored.lineages_kept), (2, 1));
    assert_eq!(restored.rows_kept, 0);
    assert_eq!(restored.left_behind, Some(today.clone()));
    other.has_forgotten_nothing();
    other.is_whole_against(vec![("the auditor's head".to_owned(), today)]);
}

#[test]
fn what_is_no_backup_changes_nothing() {
    let site = Site::new();
    let file = site.file("backup");
    site.back_up(&file, Some("pass"));
    let whole = fs::read(&file).unwrap();
    let rows = |site: &Site| AuditLog::open(site.paths().state_db).unwrap().head().unwrap();
    let before = rows(&site);
    let refused = |site: &Site, passphrase: Option<&str>| {
        let error = site.try_restore(&file, passphrase).unwrap_err();
        assert_eq!(rows(site), before);
        assert!(!site.root().join(".restore").exists(), "nothing is left lying about");
        error
    };
    assert!(matches!(refused(&site, None), BackupError::PassphraseNeeded { .. }));
    assert!(matches!(refused(&site, Some("other")), BackupError::WrongPassphrase { .. }));
    for cut in [0, 10, 600, 5000, whole.len() / 2] {
        fs::write(&file, &whole[..cut]).unwrap();
        assert!(matches!(refused(&site, Some("pass")), BackupError::Damaged { .. }), "{cut}");
    }
    // One octet, anywhere in any file of it.
    for at in (1024..whole.len()).step_by(whole.len() / 40) {
        let mut changed = whole.clone();
        changed[at] ^= 0x20;
        fs::write(&file, &changed).unwrap();
        if let Err(error) = site.try_restore(&file, Some("pass")) {
            assert!(
                matches!(error, BackupError::Damaged { .. } | BackupError::WrongPassphrase { .. }),
                "{at}: {error}"
            );
        } else {
            // Between the files of a tar archive there are octets that mean nothing.
            site.is_whole();
            return;
        }
    }
    fs::write(&file, &whole).unwrap();
    let taken = BackupRequest { to: &file, passphrase: None, actor: "uid:0", why: "", now: at(1) };
    assert!(matches!(back_up(&site.paths(), &taken), Err(BackupError::File(_))));
}
