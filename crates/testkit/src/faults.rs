//! Faults of the machine, injected for real: a disk of a few megabytes that fills up or turns read-only,
//! and a clock that is set while a process runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::site::Site;

/// A file system of a few megabytes, unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one at `at`; `size` as mount(8) writes it: `6m`. `None`, and a line that says so, where
    /// nothing can be mounted.
    #[expect(clippy::print_stdout, reason = "a skipped part says so")]
    pub fn mount(at: &Path, size: &str) -> Option<Self> {
        fs::create_dir_all(at).expect("a directory");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size},mode=0700"), "tmpfs"])
            .arg(at)
            .stderr(Stdio::null())
            .status();
        if !mounted.is_ok_and(|status| status.success()) {
            println!("skipped: no file system can be mounted here (it takes root)");
            return None;
        }
        Some(Self(at.to_owned()))
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Mounts it anew with this option: `ro`, `rw`.
    pub fn remount(&self, option: &str) {
        let done =
            Command::new("mount").args(["-o", &format!("remount,{option}")]).arg(&self.0).status();
        assert!(done.expect("mount").success());
    }

    /// Has whoever opens a file here from now on find the file system read-only, even while files are
    /// open for writing (which keeps a remount away). Undone by [`SmallDisk::release`].
    pub fn freeze(&self) {
        let mount = |options: &[&str]| {
            let done = Command::new("mount").args(options).arg(&self.0).status();
            assert!(done.expect("mount").success(), "mount {options:?}");
        };
        let path = self.0.display().to_string();
        mount(&["--bind", &path]);
        mount(&["-o", "remount,bind,ro"]);
    }

    /// Undoes [`SmallDisk::freeze`].
    pub fn release(&self) {
        let done = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(done.expect("umount").success());
    }

    /// Takes all the room there is.
    pub fn fill(&self) {
        let mut room = 1 << 20;
        let mut ballast = Vec::new();
        while room > 0 {
            ballast.resize(ballast.len() + room, 0);
            if fs::write(self.0.join("ballast"), &ballast).is_err() {
                ballast.truncate(ballast.len() - room);
                room /= 2;
            }
        }
        // What was written of the last attempt stays, and takes the last of the room.
        drop(fs::write(self.0.join("ballast-too"), vec![0; 1 << 20]));
    }

    /// Gives the room back.
    pub fn empty(&self) {
        for name in ["ballast", "ballast-too"] {
            fs::remove_file(self.0.join(name)).expect("removed");
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

/// The library that shifts a process's clock, where Debian's `faketime` is installed.
pub fn libfaketime() -> Option<PathBuf> {
    fs::read_dir("/usr/lib")
        .ok()?
        .filter_map(Result::ok)
        .map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"))
        .find(|path| path.exists())
}

/// The clock of one site's node, which can be set while it runs.
#[derive(Debug)]
pub struct SiteClock(PathBuf);

impl SiteClock {
    /// Gives `site`, which does not run yet, a clock of its own; it goes right. `None`, and a line that
    /// says so, without libfaketime.
    #[expect(clippy::print_stdout, reason = "a skipped part says so")]
    pub fn of(site: &mut Site) -> Option<Self> {
        let Some(library) = libfaketime() else {
            println!("skipped: no libfaketime here (Debian package `faketime`)");
            return None;
        };
        let clock = Self(site.home().with_extension("clock"));
        clock.set("+0");
        site.set("LD_PRELOAD", &library.display().to_string());
        site.set("FAKETIME_TIMESTAMP_FILE", &clock.0.display().to_string());
        site.set("FAKETIME_NO_CACHE", "1");
        site.set("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        Some(clock)
    }

    /// Sets it apart from the true time by this much: `+25h`, `-1h`, `+0`.
    pub fn set(&self, offset: &str) {
        // Replaced in one step: it is read with every look at the clock.
        let next = self.0.with_extension("clock.new");
        fs::write(&next, format!("{offset}\n")).expect("a file");
        fs::rename(&next, &self.0).expect("renamed");
    }
}
