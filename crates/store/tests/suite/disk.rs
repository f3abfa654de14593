//! A disk that is full, for real: a small file system of its own.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use handfast_store::{
    AuditRange, AuditRow, CredentialStore, DirectoryStore, Home, Kind, Ledger, SqliteLedger,
    WatchSettings, write_atomic,
};
use tempfile::TempDir;

use crate::material::{at, name, number_in, pem};

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

        disk.free();
        let revision = store.stage(kind, &east, &pem(2)).unwrap();
        store.promote(kind, &east, revision).unwrap();
        assert_eq!(number_in(&store.load(kind, &east).unwrap().unwrap()), 2);
        write_atomic(&resource, b"new", 0o600).unwrap();
        assert_eq!(ledger.audit(&row).unwrap(), rows.len() as u64 + 1);
    }
}
