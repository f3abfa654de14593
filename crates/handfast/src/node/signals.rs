//! What the operating system and systemd say to the node, and what it tells systemd.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM and SIGINT.
pub(crate) struct Stopping {
    terminate: Signal,
    interrupt: Signal,
}

impl Stopping {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Returns when told to stop, with the signal's name.
    pub(crate) async fn told(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Tells systemd, where it asked to be told, that the node serves.
pub(crate) fn ready() {
    notify(&[sd_notify::NotifyState::Ready]);
}

/// Tells systemd that the node winds down.
pub(super) fn stopping() {
    notify(&[sd_notify::NotifyState::Stopping]);
}

/// Keeps systemd's watchdog content: told from the loop that does the work, so that a node that
/// hangs is noticed.
pub(super) struct Watchdog {
    every: Option<Duration>,
}

impl Watchdog {
    pub(super) fn new() -> Self {
        Self { every: sd_notify::watchdog_enabled().map(|interval| interval / 2) }
    }

    /// Returns after having told systemd; never where nobody asked.
    pub(super) async fn due(&mut self) {
        match self.every {
            Some(every) => {
                tokio::time::sleep(every).await;
                notify(&[sd_notify::NotifyState::Watchdog]);
            }
            None => std::future::pending().await,
        }
    }
}

fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd was not told");
    }
}
