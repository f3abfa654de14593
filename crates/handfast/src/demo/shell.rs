//! Runs `handfast` commands exactly as a user would type them: the same binary, the same arguments, as a child process.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::de::DeserializeOwned;

use super::child::{POLL, terminate};
use crate::exit::Exit;
use crate::failure::Failure;

/// The binary, the directory everything happens in, and the commands typed so far.
pub(super) struct Shell {
    binary: PathBuf,
    directory: PathBuf,
    typed: Mutex<Vec<String>>,
    running: Arc<Mutex<BTreeSet<u32>>>,
}

/// How one command ended.
pub(super) struct Ended {
    line: String,
    status: ExitStatus,
    stdout: String,
    stderr: String,
}

impl Shell {
    /// A shell for the running binary, standing in `directory`.
    pub(super) fn new(directory: PathBuf) -> anyhow::Result<Self> {
        let binary =
            std::env::current_exe().context("cannot find the running program's own file")?;
        Ok(Self { binary, directory, typed: Mutex::default(), running: Arc::default() })
    }

    /// The directory all relative paths start from.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The running binary.
    pub(super) fn binary(&self) -> &Path {
        &self.binary
    }

    /// Runs a command and keeps it for [`Shell::typed`]; it has to succeed.
    pub(super) async fn typed_run(&self, line: &str) -> anyhow::Result<Ended> {
        self.note(format!("handfast {line}"));
        self.run(line).await?.succeeded()
    }

    /// Runs a command (words are separated by single spaces) and waits for its end, whatever it is.
    pub(super) async fn run(&self, line: &str) -> anyhow::Result<Ended> {
        let mut command = self.command(line);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let running = Arc::clone(&self.running);
        // Blocking and bounded: each of our commands has its own time limits.
        let finished = tokio::task::spawn_blocking(move || {
            let child = command.spawn()?;
            let pid = child.id();
            guarded(&running).insert(pid);
            let finished = child.wait_with_output();
            guarded(&running).remove(&pid);
            finished
        });
        let finished = finished.await?;
        let finished = finished.with_context(|| format!("cannot start `handfast {line}`"))?;
        Ok(Ended {
            line: line.to_owned(),
            status: finished.status,
            stdout: String::from_utf8_lossy(&finished.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&finished.stderr).into_owned(),
        })
    }

    /// The command, ready to be spawned, in a process group of its own: a Ctrl-C on the terminal reaches the demo,
    /// which then ends its children in order.
    pub(super) fn command(&self, line: &str) -> Command {
        use std::os::unix::process::CommandExt as _;
        let mut command = Command::new(&self.binary);
        command
            .args(line.split(' '))
            .current_dir(&self.directory)
            .env_remove("HANDFAST_HOME")
            .env("NO_COLOR", "1")
            .process_group(0);
        command
    }

    /// Ends commands that were given up on and run still, so that none writes where the demo cleans up.
    pub(super) async fn abandon(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let pids: Vec<u32> = guarded(&self.running).iter().copied().collect();
            if pids.is_empty() || Instant::now() > deadline {
                return;
            }
            pids.into_iter().for_each(terminate);
            tokio::time::sleep(POLL).await;
        }
    }

    /// Keeps a line for the list of commands to be typed by hand.
    pub(super) fn note(&self, line: String) {
        guarded(&self.typed).push(line);
    }

    /// What a user has to type to get the same.
    pub(super) fn typed(&self) -> Vec<String> {
        guarded(&self.typed).clone()
    }
}

/// What is behind the lock; a list of lines or numbers is whole at every moment.
fn guarded<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long a command that was asked to end may take.
const PATIENCE: Duration = Duration::from_secs(2);

impl Ended {
    /// What it printed, as JSON.
    pub(super) fn json<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        serde_json::from_str(&self.stdout).with_context(|| {
            format!("`handfast {}` printed something unexpected: {}", self.line, self.stdout)
        })
    }

    /// What it printed, as text.
    pub(super) fn printed(&self) -> &str {
        &self.stdout
    }

    /// What it said on standard error, without the trailing line end.
    pub(super) fn complaint(&self) -> String {
        self.stderr.trim_end().to_owned()
    }

    /// Whether it ended with success.
    pub(super) fn is_success(&self) -> bool {
        self.status.success()
    }

    /// Demands success.
    pub(super) fn succeeded(self) -> anyhow::Result<Self> {
        if self.status.success() {
            return Ok(self);
        }
        let failure = Failure::new(
            Exit::Failed,
            format!("`handfast {}` failed ({})", self.line, self.status),
        )
        .because(
            if self.stderr.trim().is_empty() { &self.stdout } else { &self.stderr }.trim_end(),
        );
        Err(failure.into())
    }

    /// Demands the refusal it was typed for, by its exit code, and gives back what the user reads.
    pub(super) fn refused(self, exit: Exit) -> anyhow::Result<String> {
        if self.status.code() == Some(i32::from(exit.code())) && !self.stderr.trim().is_empty() {
            return Ok(self.complaint());
        }
        let failure = Failure::new(
            Exit::Failed,
            format!("`handfast {}` was not refused as it should be", self.line),
        )
        .because(format!("it ended with {}, exit code {} was expected", self.status, exit.code()))
        .remedy(format!("what it said: {}{}", self.stdout, self.stderr));
        Err(failure.into())
    }
}
