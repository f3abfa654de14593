//! Whether the home can be written: tried for real, because a quota, a read-only remount or a broken
//! disk shows in no figure. A node that cannot write signs and renews nothing, and must say so early.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use handfast_api::status::{ProblemSeverity, ProblemView};

/// How the home's file system is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Disk {
    /// Bytes left for us; absent before it was looked at.
    pub(super) free: Option<u64>,
    /// Why nothing can be written.
    pub(super) fault: Option<String>,
}

/// Looks at the disk now and then.
#[derive(Debug)]
pub(super) struct DiskWatch {
    probe: PathBuf,
    looked: Option<Instant>,
    disk: Disk,
}

impl DiskWatch {
    /// Nothing is done yet.
    pub(super) fn below(runtime: &Path) -> Self {
        Self { probe: runtime.join(PROBE), looked: None, disk: Disk::default() }
    }

    /// How it is, looked at anew when that is due or `now`, and whether it was just mended. Blocks on
    /// the disk.
    pub(super) fn look(&mut self, now: bool) -> (Disk, bool) {
        let mut mended = false;
        let pause = if self.disk.fault.is_some() { WHILE_BROKEN } else { WHILE_WELL };
        if now || self.looked.is_none_or(|at| at.elapsed() >= pause) {
            let fault = write(&self.probe).err().map(|error| error.to_string());
            match (&self.disk.fault, &fault) {
                (None, Some(why)) => {
                    tracing::error!(
                        why,
                        "nothing can be written to the home: nothing is signed or renewed"
                    );
                }
                (Some(_), None) => {
                    mended = true;
                    tracing::info!("the home can be written again");
                }
                _ => {}
            }
            self.disk = Disk { free: free(&self.probe), fault };
            self.looked = Some(Instant::now());
        }
        (self.disk.clone(), mended)
    }
}

impl Disk {
    /// What `status` says.
    pub(super) fn problem(&self, home: &Path) -> Option<ProblemView> {
        let why = self.fault.as_ref()?;
        Some(ProblemView {
            severity: ProblemSeverity::Error,
            subject: "home".to_owned(),
            file: None,
            line: None,
            message: format!(
                "nothing can be written to {}: {why}; so nothing is signed, renewed or redeemed",
                home.display()
            ),
            remedy: "make room there, or make it writable again; the certificates in use serve until they \
                     expire, and what is due is then done by itself"
                .to_owned(),
        })
    }
}

/// What is left for processes like ours on the file system of `path`'s directory.
pub(crate) fn free(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path.parent()?).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Writes a few blocks, has them on the disk, and takes them away.
fn write(probe: &Path) -> io::Result<()> {
    let written = File::create(probe).and_then(|mut file| {
        file.write_all(&vec![0; PROBE_BYTES])?;
        file.sync_data()
    });
    let removed = match fs::remove_file(probe) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    written.and(removed)
}

/// Not in a directory that is watched for changes.
const PROBE: &str = ".probe";
/// About what one audited certificate takes in the ledger's journal.
const PROBE_BYTES: usize = 32 * 1024;
const WHILE_WELL: Duration = Duration::from_secs(60);
const WHILE_BROKEN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_can_be_written_is_fine_and_nothing_stays() {
        let place = tempfile::tempdir().unwrap();
        let (disk, mended) = DiskWatch::below(place.path()).look(false);
        assert!(!mended);
        assert_eq!(disk.fault, None);
        assert!(disk.free.is_some_and(|bytes| bytes > 0));
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    }

    #[test]
    fn one_that_cannot_is_told_with_the_reason_and_looked_at_again() {
        let place = tempfile::tempdir().unwrap();
        let runtime = place.path().join("runtime");
        let mut watch = DiskWatch::below(&runtime);
        let (disk, _) = watch.look(false);
        assert!(disk.fault.as_deref().is_some_and(|why| why.contains("No such file")), "{disk:?}");
        let problem = disk.problem(place.path()).unwrap();
        assert!(problem.message.contains("nothing can be written"), "{problem:?}");
        fs::create_dir(&runtime).unwrap();
        let (disk, mended) = watch.look(true);
        assert!(mended);
        assert_eq!(disk.problem(place.path()), None);
    }
}
