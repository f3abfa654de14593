//! A disk that is full: what does not fit is refused and said to be, what was accepted stays, and it goes
//! on when there is room. The disk is a file system in memory of 2 MiB, which needs root.

use std::path::{Path, PathBuf};
use std::process::Command;

use handfast_telemetry::journal::{AppendError, JournalSettings, Position};

use crate::support::{number, open, read_all, record, run};

struct SmallDisk {
    at: PathBuf,
    _directory: tempfile::TempDir,
}

impl SmallDisk {
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().join("disk");
        std::fs::create_dir(&at).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=2m", "none"])
            .arg(&at)
            .output()
            .is_ok_and(|output| output.status.success());
        if !mounted {
            println!("skipped: a file system in memory can be mounted by root only");
            return None;
        }
        Some(Self { at, _directory: directory })
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}

fn filler(at: &Path) -> PathBuf {
    at.join("somebody-elses")
}

#[test]
fn a_full_disk_refuses_what_does_not_fit_and_takes_again_when_there_is_room() {
    let Some(disk) = SmallDisk::mount() else { return };
    let directory = disk.at.join("journal");
    let settings = JournalSettings { chunk_bytes: 256 << 10, ..JournalSettings::default() };
    std::fs::write(filler(&disk.at), vec![1; 1 << 20]).unwrap();
    let accepted = run(async {
        let (journal, _) = open(&directory, settings.clone());
        let mut accepted = Vec::new();
        let mut refused = 0;
        for n in 0..200 {
            match journal.append(vec![record(n, 10_000)]).await.unwrap().durable().await {
                Ok(_) => accepted.push(n),
                Err(error) => {
                    assert!(matches!(error, AppendError::Write { .. }), "{error}");
                    let said = error.to_string();
                    assert!(said.contains("No space left") && said.contains("make room"), "{said}");
                    refused += 1;
                }
            }
        }
        assert!(accepted.len() > 50 && refused > 50, "{} {refused}", accepted.len());
        assert_eq!(journal.status().refused_batches, refused);
        let read: Vec<u64> = read_all(&journal).iter().map(|(_, r)| number(r)).collect();
        assert_eq!(read, accepted);

        // Somebody makes room.
        std::fs::remove_file(filler(&disk.at)).unwrap();
        for n in 1000..1050 {
            journal.append(vec![record(n, 10_000)]).await.unwrap().durable().await.unwrap();
            accepted.push(n);
        }
        accepted
    });
    // Opened while the disk is full: what is there can be read and drained.
    let room = vec![1; 4 << 20];
    let _ = std::fs::write(filler(&disk.at), room);
    run(async {
        let (journal, repair) = open(&directory, settings);
        assert_eq!(repair.cut_bytes, 0, "a refused batch leaves nothing behind: {repair:?}");
        let all = read_all(&journal);
        assert_eq!(all.iter().map(|(_, r)| number(r)).collect::<Vec<_>>(), accepted);
        assert!(journal.append(vec![record(1, 60_000)]).await.unwrap().durable().await.is_err());
        // Draining is what makes room.
        let mut reader = journal.reader(Position::START);
        while !reader.next_batch(1 << 20).unwrap().is_empty() {}
        assert!(journal.release(reader.position()).unwrap() > 0);
        journal.append(vec![record(2000, 60_000)]).await.unwrap().durable().await.unwrap();
        assert_eq!(number(&reader.next_batch(1).unwrap()[0].1), 2000);
    });
}
