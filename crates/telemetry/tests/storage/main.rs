//! The journal and the store over real directories: order, limits, damage, kill -9, full disks.

#![expect(clippy::unwrap_used, reason = "what cannot be unwrapped here is a failed test")]
#![expect(clippy::print_stdout, reason = "what was skipped is said")]

mod appending;
mod asking;
mod crashing;
mod damage;
mod full_disk;
mod keeping;
mod measuring;
mod reports;
mod support;
