//! A test that starts itself again in a process of its own, to be killed, or to be somebody else.

use std::io::{BufRead, BufReader, Lines, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

/// Set in a child: the directory to work in.
const MARK: &str = "HANDFAST_STORE_TEST_CHILD";
/// Tells what a child says apart from what the test harness prints.
const PREFIX: &str = "said: ";

/// The directory to work in, if this process is a child.
pub(crate) fn role() -> Option<PathBuf> {
    std::env::var_os(MARK).map(PathBuf::from)
}

/// Called by a child after something is done and durable.
pub(crate) fn say(what: &str) {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{PREFIX}{what}").and_then(|()| stdout.flush()).unwrap();
}

/// A child at work. Killed at the latest when dropped.
pub(crate) struct Worker {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Worker {
    /// Starts the test of this full name (`module::function`) again as a child.
    pub(crate) fn start(test: &str, directory: &Path) -> Self {
        Self::run(command(test, directory))
    }

    /// The same as a user without rights; only root can do that.
    pub(crate) fn start_as_nobody(test: &str, directory: &Path) -> Self {
        let mut command = command(test, directory);
        command.uid(NOBODY).gid(NOBODY);
        Self::run(command)
    }

    /// The same in a process that gives everybody every permission on what it makes.
    pub(crate) fn start_without_umask(test: &str, directory: &Path) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", "umask 000; exec \"$@\"", "sh"]).arg(std::env::current_exe().unwrap());
        Self::run(arguments(shell, test, directory))
    }

    fn run(mut command: Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let stdout = process.stdout.take().unwrap();
        Self { process, lines: BufReader::new(stdout).lines() }
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// The next thing it says; panics if it stops instead.
    pub(crate) fn hear(&mut self) -> String {
        self.next().expect("the child stopped by itself; see its output above")
    }

    /// Kills it with SIGKILL, and returns what it had said until then.
    pub(crate) fn kill(mut self) -> Vec<String> {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        std::iter::from_fn(|| self.next()).collect()
    }

    /// Waits for it to end, and returns what it said; panics if it failed.
    pub(crate) fn finish(mut self) -> Vec<String> {
        let said = std::iter::from_fn(|| self.next()).collect();
        assert!(self.process.wait().unwrap().success(), "the child failed, having said {said:?}");
        said
    }

    /// The next thing it says; `None` if it has stopped.
    pub(crate) fn next(&mut self) -> Option<String> {
        loop {
            let line = self.lines.next()?.unwrap();
            // The harness prints the name of the test without ending the line.
            if let Some((_, said)) = line.split_once(PREFIX) {
                return Some(said.to_owned());
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Whether this process may do what only root may.
pub(crate) fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| {
        status.lines().any(|line| {
            line.strip_prefix("Uid:").is_some_and(|ids| ids.split_whitespace().nth(1) == Some("0"))
        })
    })
}

fn command(test: &str, directory: &Path) -> Command {
    arguments(Command::new(std::env::current_exe().unwrap()), test, directory)
}

fn arguments(mut command: Command, test: &str, directory: &Path) -> Command {
    command.args([test, "--exact", "--nocapture"]).env(MARK, directory);
    command
}

/// The user and group without rights on every system.
const NOBODY: u32 = 65_534;
