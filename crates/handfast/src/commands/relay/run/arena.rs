//! One arena of memory for all threads of a relay.
//!
//! The C library gives threads arenas of their own, and each keeps what its largest burst needed: 3 MiB together, of the 25 that
//! a relay may have beside an application. How many there are is read from the environment when a program starts, so the
//! relay starts itself once more with that said. Process id, arguments and open sockets of systemd stay.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Returns where it was said already, also by whoever started this, and where it cannot be done.
pub(super) fn settle() {
    if std::env::var_os(SETTING).is_some() {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let mut words = std::env::args_os();
    let mut command = Command::new(program);
    if let Some(name) = words.next() {
        command.arg0(name);
    }
    // It comes back only if it failed.
    let error = command.args(words).env(SETTING, "1").exec();
    tracing::debug!(%error, "goes on with an arena for each thread");
}

/// Of the GNU C library (mallopt, `M_ARENA_MAX`); others do not know it.
const SETTING: &str = "MALLOC_ARENA_MAX";
