//! Asks the linker to pack relative relocations, where what is built here runs here and its loader can read them (the
//! GNU C library since 2.36).
//!
//! A program that may lie anywhere in memory has a table of what to mend when it is loaded. Unpacked ours is 2 MB, read whole
//! at every start, and stays in memory: a tenth of what a relay may have. Packed it is a fiftieth of that.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let told = |name: &str| env::var(name).unwrap_or_default();
    let at_home = told("HOST") == told("TARGET");
    let gnu = told("CARGO_CFG_TARGET_OS") == "linux" && told("CARGO_CFG_TARGET_ENV") == "gnu";
    if at_home && gnu && c_library().is_some_and(|version| version >= READS_PACKED) {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// Which version of the GNU C library this machine has.
fn c_library() -> Option<(u32, u32)> {
    let answer = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let answer = String::from_utf8(answer.stdout).ok()?;
    let (major, minor) = answer.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The first whose loader reads them; an older one refuses to start the program.
const READS_PACKED: (u32, u32) = (2, 36);
