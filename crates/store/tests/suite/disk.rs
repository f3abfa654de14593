//! A disk that is full, for real: a small file system of its own.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use handfast_store::{
    AuditLog, AuditRange, AuditRow, CredentialStore, DirectoryStore, Home, IssuedFilter, Kind,
    Ledger, Lineage, SqliteLedger, WatchSettings, write_atomic,
};
use tempfile::TempDir;

use crate::material::{at, bundle, name, number_in, pem, revocation};

/// A file system of two megabytes, unmounted when dropped.
struct SmallDisk {
    directory: TempDir,
}

impl SmallDisk {
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=2m,mode=0700", "tmpfs"])
            .arg(directory.path())
            .stderr(Stdio::null())
            .status();
        mounted.is_ok_and(|status| status.success()).then_some(Self { directory })
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Takes all the room there is, to the last page.
    fn fill(&self) {
        let mut file = File::create(self.path().join("ballast")).unwrap();
        for size in [65_536, 4096, 1] {
            let chunk = vec![0; size];
            loop {
                match file.write_all(&chunk) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }

    fn free(&self) {
        fs::remove_file(self.path().join("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg(self.path()).status());
    }
}

#[test]
fn a_full_disk_loses_nothing_and_is_said_with_its_path() {
    let Some(disk) = SmallDisk::mount() else {
        println!("skipped: no file system can be mounted here (it takes root)");
        return;
    };
    {
        let home = Home::open(disk.path()).unwrap();
        let paths = home.layout().clone();
        let store = DirectoryStore::open(&home, WatchSettings::default()).unwrap();
        let ledger = SqliteLedger::open(&paths.state_db).unwrap();
        let (kind, east) = (Kind::Certificate, name("east"));
        let revision = store.stage(kind, &east, &pem(1)).unwrap();
        store.promote(kind, &east, revision).unwrap();
        let resource = paths.runtime_resources.join("link.yaml");
        write_atomic(&resource, b"old", 0o600).unwrap();
        let row = AuditRow {
            at: at(0),
            actor: "node".to_owned(),
            action: "test".to_owned(),
            subject: "east".to_owned(),
            outcome: "ok".to_owned(),
            detail: "x".repeat(100_000),
            why: String::new(),
        };
        ledger.audit(&row).unwrap();

        disk.fill();
        let error = store.stage(kind, &east, &pem(2)).unwrap_err();
        assert!(error.is_disk_full(), "{error}");
        let text = error.to_string();
        assert!(text.contains("runtime/certs/east") && text.contains("free space"), "{text}");
        let error = write_atomic(&resource, b"new", 0o600).unwrap_err();
        assert!(error.is_disk_full(), "{error}");
        assert!(error.to_string().contains("link.yaml"), "{error}");
        let error = (0..50).find_map(|_| ledger.audit(&row).err()).expect("it must fill up");
        assert!(error.is_disk_full(), "{error:?}");
        assert!(error.to_string().contains("state.db"), "{error}");

        assert_eq!(number_in(&store.load(kind, &east).unwrap().unwrap()), 1);
        assert!(store.staged(kind, &east).unwrap().is_none());
        assert_eq!(fs::read(&resource).unwrap(), b"old");
        let rows = ledger.audit_rows(&AuditRange::after(0, 100)).unwrap();
        assert!(rows.iter().all(|recorded| recorded.row == row) && !rows.is_empty());

        // What cannot be recorded is not revoked either.
        let refused = (0..50).find_map(|n| {
            ledger.revoke(&[revocation(n)], &[lineage(n)], &row).err().map(|e| (n, e))
        });
        let (refused, error) = refused.expect("it must fill up");
        assert!(error.is_disk_full(), "{error:?}");
        let revoked = revocation(refused);
        assert_eq!(ledger.revocation(&revoked.issuer_key_id, &revoked.serial).unwrap(), None);
        assert_eq!(ledger.lineage_ended(&lineage(refused)).unwrap(), None);
        let rows = ledger.audit_rows(&AuditRange::after(0, 100)).unwrap();

        disk.free();
        let revision = store.stage(kind, &east, &pem(2)).unwrap();
        store.promote(kind, &east, revision).unwrap();
        assert_eq!(number_in(&store.load(kind, &east).unwrap().unwrap()), 2);
        write_atomic(&resource, b"new", 0o600).unwrap();
        assert_eq!(ledger.audit(&row).unwrap(), rows.len() as u64 + 1);
        let verified = AuditLog::open(&paths.state_db).unwrap().verify(Vec::new()).unwrap();
        assert_eq!(verified.flaws, []);
    }
}

#[test]
fn a_disk_that_fills_up_under_many_writers_keeps_exactly_what_was_acknowledged() {
    let Some(disk) = SmallDisk::mount() else {
        println!("skipped: no file system can be mounted here (it takes root)");
        return;
    };
    {
        let path = disk.path().join("state.db");
        let ledger = SqliteLedger::open(&path).unwrap();
        let acknowledged: Vec<u64> = thread::scope(|scope| {
            let writers: Vec<_> = (0..8)
                .map(|writer| {
                    let ledger = &ledger;
                    scope.spawn(move || {
                        let mut acknowledged = Vec::new();
                        for number in (writer * 1000).. {
                            let mut issued = bundle(number).issued;
                            issued.pem = "x".repeat(20_000);
                            match ledger.record_issued(&issued, &row(&number.to_string())) {
                                Ok(()) => acknowledged.push(number),
                                Err(error) => {
                                    assert!(error.is_disk_full(), "{error:?}");
                                    return acknowledged;
                                }
                            }
                        }
                        acknowledged
                    })
                })
                .collect();
            writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
        });
        assert!(!acknowledged.is_empty());
        drop(ledger);

        let ledger = SqliteLedger::open(&path).unwrap();
        let issued = ledger.issued(&IssuedFilter::default()).unwrap();
        let mut expected: Vec<_> =
            acknowledged.iter().map(|number| bundle(*number).issued.serial).collect();
        let mut found: Vec<_> = issued.into_iter().map(|issued| issued.serial).collect();
        expected.sort();
        found.sort();
        assert_eq!(found, expected);
        let rows = ledger.audit_rows(&AuditRange::after(0, u32::MAX)).unwrap();
        assert_eq!(rows.len(), acknowledged.len());
        let verified = AuditLog::open(&path).unwrap().verify(Vec::new()).unwrap();
        assert_eq!(verified.flaws, []);
    }
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

fn lineage(number: u64) -> Lineage {
    format!("grant/{number}").parse().unwrap()
}
