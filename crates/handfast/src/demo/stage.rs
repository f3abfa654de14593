//! Everything the demo owns while it runs: a directory, ports, a shell, child processes. Taken down in one place.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use handfast_api::status::{CredentialStatus, LinkStatus};
use rustix::process::Signal;

use super::child::{POLL, Running};
use super::ports;
use super::shell::Shell;
use crate::exit::Exit;
use crate::failure::Failure;

/// The demo's surroundings.
pub(super) struct Stage {
    pub(super) shell: Shell,
    pub(super) ports: Ports,
    children: Vec<Running>,
}

/// The loopback ports of one demo.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    /// Where west takes links.
    pub(super) link: u16,
    /// Where west redeems tokens.
    pub(super) grant: u16,
    /// Where the HTTP service is, at west.
    pub(super) service: u16,
    /// Where east's listener offers it.
    pub(super) listener: u16,
    /// Where branch's listener offers it.
    pub(super) branch: u16,
    /// Where the impostor waits.
    pub(super) impostor: u16,
    /// Where west's collector is.
    pub(super) collector: u16,
    /// Where east's listener offers it.
    pub(super) telemetry: u16,
    /// Where agents report to east's relay.
    pub(super) relay: u16,
}

impl Stage {
    /// Makes a private directory and chooses ports. Nothing runs yet.
    pub(super) fn set() -> anyhow::Result<Self> {
        let directory = make_directory()?;
        let [link, grant, service, listener, branch, impostor, collector, telemetry, relay] =
            ports::free()?;
        let ports =
            Ports { link, grant, service, listener, branch, impostor, collector, telemetry, relay };
        Ok(Self { shell: Shell::new(directory)?, ports, children: Vec::new() })
    }

    /// The directory with both homes.
    pub(super) fn directory(&self) -> &Path {
        self.shell.directory()
    }

    /// Starts a long-running `handfast` command; its output goes to `<name>.log`.
    pub(super) fn start(&mut self, name: &str, line: &str) -> anyhow::Result<u32> {
        let log = self.directory().join(format!("{name}.log"));
        let running = Running::start(name, self.shell.command(line), log)?;
        let pid = running.pid();
        self.children.push(running);
        Ok(pid)
    }

    /// Looks again and again until `look` finds something, a child dies, or the limit is over.
    pub(super) async fn until<T>(
        &mut self,
        what: &str,
        mut look: impl AsyncFnMut(&Shell) -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<T> {
        let deadline = Instant::now() + CONDITION_LIMIT;
        loop {
            if let Some(found) = look(&self.shell).await? {
                return Ok(found);
            }
            for child in &mut self.children {
                child.must_live()?;
            }
            if Instant::now() > deadline {
                let logs: Vec<String> = self.children.iter().map(Running::last_words).collect();
                let failure = Failure::new(
                    Exit::TimedOut,
                    format!("{what}: not within {} s", CONDITION_LIMIT.as_secs()),
                )
                .because(logs.join("\n"));
                return Err(failure.into());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// What must be stopped by hand when the demo is kept.
    pub(super) fn pids(&self) -> Vec<u32> {
        self.children.iter().map(Running::pid).collect()
    }

    /// The log files of the children.
    pub(super) fn logs(&self) -> Vec<PathBuf> {
        self.children.iter().map(|child| child.log().to_owned()).collect()
    }

    /// Leaves everything running and every file in place.
    pub(super) fn keep(self) {
        for child in self.children {
            child.release();
        }
    }

    /// Ends every child, newest first, and removes the directory. Says which child did not drain in time.
    pub(super) async fn strike(mut self) -> anyhow::Result<()> {
        self.shell.abandon().await;
        let mut untidy = Vec::new();
        while let Some(child) = self.children.pop() {
            let log = child.log().to_owned();
            let status = child.stop().await?;
            // Ended by our own SIGTERM before it could say that it heard: it had nothing to drain yet.
            if !status.success() && status.signal() != Some(Signal::TERM.as_raw()) {
                let words = std::fs::read_to_string(&log).unwrap_or_default();
                let last = words.lines().last().unwrap_or_default().to_owned();
                untidy.push(format!("{} ended with {status}: {last}", log.display()));
            }
        }
        let directory = self.shell.directory();
        std::fs::remove_dir_all(directory)
            .with_context(|| format!("cannot remove {}", directory.display()))?;
        if untidy.is_empty() {
            return Ok(());
        }
        Err(Failure::new(Exit::Failed, "not every child ended in order")
            .because(untidy.join("\n"))
            .into())
    }
}

/// The links of a home, as its node reports them.
pub(super) async fn links(shell: &Shell, home: &str) -> anyhow::Result<Vec<LinkStatus>> {
    shell.run(&format!("--home {home} link status -o json")).await?.succeeded()?.json()
}

/// The certificates of a home, as its node reports them.
pub(super) async fn certificates(
    shell: &Shell,
    home: &str,
) -> anyhow::Result<Vec<CredentialStatus>> {
    shell.run(&format!("--home {home} cert list -o json")).await?.succeeded()?.json()
}

/// Makes a directory for this demo alone. The path stays short: the admin sockets below it have at most 107 bytes.
fn make_directory() -> anyhow::Result<PathBuf> {
    let base = std::env::temp_dir();
    let base = if base.as_os_str().len() > LONGEST_BASE { PathBuf::from("/tmp") } else { base };
    let mut tried = 0_u32;
    loop {
        let path = base.join(format!("handfast-demo-{}-{tried}", std::process::id()));
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && tried < 1000 => {
                tried += 1;
            }
            made => {
                made.with_context(|| format!("cannot make {}", path.display()))?;
                return Ok(path);
            }
        }
    }
}

/// How long any one condition may take; far more than it needs.
const CONDITION_LIMIT: Duration = Duration::from_secs(15);

/// The longest temporary directory we stay in, in bytes.
const LONGEST_BASE: usize = 48;
