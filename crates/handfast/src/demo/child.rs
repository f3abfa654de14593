//! Long-running children of the demo: nodes and the small service. Started, watched, and always ended, by process id.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

use crate::exit::Exit;
use crate::failure::Failure;

/// How long a child may take to drain after SIGTERM before it is killed.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// How often a condition on a child is looked at again.
pub(super) const POLL: Duration = Duration::from_millis(15);

/// A running child. Dropping it kills it, unless it was [released](Running::release).
pub(super) struct Running {
    name: String,
    log: PathBuf,
    child: Option<Child>,
}

impl Running {
    /// Starts `command`; what it prints goes to `log`.
    pub(super) fn start(name: &str, mut command: Command, log: PathBuf) -> anyhow::Result<Self> {
        // Appended to: with --keep, somebody who starts the node anew may write to it too.
        let file = File::options()
            .append(true)
            .create(true)
            .open(&log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        let errors = file.try_clone().with_context(|| format!("cannot write {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name: name.to_owned(), log, child: Some(child) })
    }

    /// The process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Where its output goes.
    pub(super) fn log(&self) -> &Path {
        &self.log
    }

    /// Fails, with the end of its log, if the child has ended by itself.
    pub(super) fn must_live(&mut self) -> anyhow::Result<()> {
        let Some(child) = &mut self.child else { return Ok(()) };
        let Some(status) =
            child.try_wait().with_context(|| format!("cannot watch {}", self.name))?
        else {
            return Ok(());
        };
        let failure =
            Failure::new(Exit::Failed, format!("{} ended by itself ({status})", self.name))
                .at(self.log.display())
                .because(self.last_words());
        Err(failure.into())
    }

    /// The last lines of its log.
    pub(super) fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
    }

    /// Asks the child to drain and end; kills it at the limit. Says how it ended.
    pub(super) async fn stop(mut self) -> anyhow::Result<ExitStatus> {
        let name = self.name.clone();
        let mut child = self.child.take().with_context(|| format!("{name} runs no longer"))?;
        terminate(child.id());
        let deadline = Instant::now() + DRAIN_LIMIT;
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                child.kill()?;
                return Ok(child.wait()?);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Lets the child live on after the demo.
    pub(super) fn release(mut self) {
        self.child = None;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Reached only when the orderly way was not: a panic or a failed start of the other child.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Asks a process to end.
pub(super) fn terminate(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // It may have ended already: then there is nothing to ask for, and the wait below sees it.
        let _ = kill_process(pid, Signal::TERM);
    }
}

/// How much of a log is shown when a child ended by itself.
const LAST_LINES: usize = 12;
