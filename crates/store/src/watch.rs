//! Noticing that the content of some directories has changed: told by the kernel, settled for a
//! moment, compared by content, and looked at again now and then in case nobody told us.
//! What to do about a change is for whoever subscribes.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::watch;

use crate::scan::scan;

/// How patient a watch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchSettings {
    /// How long nothing must have happened before the content is read. Default 100 ms: a mounted
    /// Secret reports its first change while the old data is still linked.
    pub settle: Duration,
    /// The longest time that steady changes can put the reading off. Default 2 s.
    pub settle_limit: Duration,
    /// How often everything is read again unasked: some file systems tell nobody. Default 30 s.
    pub reread: Duration,
}

impl Default for WatchSettings {
    fn default() -> Self {
        Self {
            settle: Duration::from_millis(100),
            settle_limit: Duration::from_secs(2),
            reread: Duration::from_secs(30),
        }
    }
}

/// Watches directories on a thread of its own until dropped.
#[derive(Debug)]
pub struct ContentWatch {
    counter: watch::Sender<u64>,
    signals: SyncSender<Signal>,
    thread: Option<JoinHandle<()>>,
}

impl ContentWatch {
    /// Starts watching everything below `roots`, which need not exist yet.
    ///
    /// The content is first read before this returns: any later change is a change. If the kernel
    /// cannot watch, say because its limit on watches is reached, that is logged, and changes are
    /// noticed at the next `reread`.
    pub fn start(roots: Vec<PathBuf>, settings: WatchSettings) -> Self {
        let counter = watch::Sender::new(0);
        // One waiting signal says it all: something happened.
        let (signals, inbox) = sync_channel(1);
        // `ca.crt` alone has no directory in its path that could be watched.
        let whole = |root: PathBuf| std::path::absolute(&root).unwrap_or(root);
        let roots = roots.into_iter().map(whole).collect();
        let mut observer = Observer {
            watcher: new_watcher(signals.clone()),
            watched: BTreeSet::new(),
            complained: false,
            digest: [0; 32],
            counter: counter.clone(),
            roots,
        };
        observer.look();
        let thread = thread::Builder::new()
            .name("handfast-watch".to_owned())
            .spawn(move || observer.run(&inbox, settings))
            .inspect_err(|error| tracing::error!(%error, "files are not watched: no thread"))
            .ok();
        Self { counter, signals, thread }
    }

    /// A counter that moves when the content has changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.counter.subscribe()
    }

    /// Has the content looked at now, as if the kernel had reported something.
    pub fn poke(&self) {
        // If a signal is waiting already, this one would say nothing new.
        drop(self.signals.try_send(Signal::Changed));
    }
}

impl Drop for ContentWatch {
    fn drop(&mut self) {
        // Both fail only if the thread is gone already.
        drop(self.signals.send(Signal::Stop));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

enum Signal {
    Changed,
    Stop,
}

struct Observer {
    roots: Vec<PathBuf>,
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    complained: bool,
    digest: [u8; 32],
    counter: watch::Sender<u64>,
}

impl Observer {
    fn run(mut self, inbox: &Receiver<Signal>, settings: WatchSettings) {
        loop {
            match inbox.recv_timeout(settings.reread) {
                Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Signal::Changed) => {
                    if !settle(inbox, settings) {
                        return;
                    }
                }
            }
            let before = self.digest;
            self.look();
            if self.digest != before {
                self.counter.send_modify(|counter| *counter += 1);
            }
        }
    }

    /// Reads the content and watches where it lies, until no new directory turns up: what changed in
    /// one before it was watched would otherwise be missed.
    fn look(&mut self) {
        for _ in 0..ROUNDS {
            let found = scan(&self.roots);
            self.digest = found.digest;
            if !self.watch(found.directories) {
                return;
            }
        }
    }

    /// Watches exactly these directories; says whether any of them is new.
    fn watch(&mut self, directories: BTreeSet<PathBuf>) -> bool {
        let Some(watcher) = &mut self.watcher else { return false };
        for gone in self.watched.difference(&directories) {
            // It has usually been deleted, and its watch with it.
            drop(watcher.unwatch(gone));
        }
        let mut complete = true;
        for directory in &directories {
            // Known ones too: one deleted and made again has lost its watch. It costs a system call.
            if let Err(error) = watcher.watch(directory, RecursiveMode::NonRecursive) {
                complete = false;
                if !self.complained {
                    tracing::warn!(
                        directory = %directory.display(),
                        %error,
                        "a directory cannot be watched; changes in it are noticed by a slow timer"
                    );
                }
            }
        }
        self.complained = !complete;
        let new = directories.difference(&self.watched).next().is_some();
        self.watched = directories;
        new
    }
}

/// Waits until nothing has happened for a while. False if it is time to stop.
fn settle(inbox: &Receiver<Signal>, settings: WatchSettings) -> bool {
    let deadline = Instant::now() + settings.settle_limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match inbox.recv_timeout(settings.settle.min(left)) {
            Err(RecvTimeoutError::Timeout) => return true,
            Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
            Ok(Signal::Changed) if left.is_zero() => return true,
            Ok(Signal::Changed) => {}
        }
    }
}

fn new_watcher(signals: SyncSender<Signal>) -> Option<RecommendedWatcher> {
    notify::recommended_watcher(move |event: notify::Result<Event>| {
        // An error may hide any event (a queue that ran over, for one): look.
        if event.as_ref().map_or(true, is_change) {
            drop(signals.try_send(Signal::Changed));
        }
    })
    .inspect_err(|error| {
        tracing::warn!(%error, "files cannot be watched; changes are noticed by a slow timer");
    })
    .ok()
}

/// Our own reading is reported as well, and must not set us off again.
fn is_change(event: &Event) -> bool {
    !matches!(event.kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write))
}

/// New directories below new directories: the depth of the tree, and one round to see that it is over.
const ROUNDS: usize = 4;

#[cfg(test)]
mod tests {
    use notify::event::{CreateKind, ModifyKind, RemoveKind};

    use super::*;

    #[test]
    fn reading_is_not_a_change() {
        let reported = |kind| is_change(&Event::new(kind));
        for kind in [
            AccessKind::Any,
            AccessKind::Open(AccessMode::Any),
            AccessKind::Read,
            AccessKind::Close(AccessMode::Read),
        ] {
            assert!(!reported(EventKind::Access(kind)), "{kind:?}");
        }
        for kind in [
            EventKind::Access(AccessKind::Close(AccessMode::Write)),
            EventKind::Any,
            EventKind::Create(CreateKind::Any),
            EventKind::Modify(ModifyKind::Any),
            EventKind::Other,
            EventKind::Remove(RemoveKind::Any),
        ] {
            assert!(reported(kind), "{kind:?}");
        }
    }

    #[test]
    fn steady_changes_do_not_put_the_reading_off_for_ever() {
        let (signals, inbox) = sync_channel(1);
        let settings = WatchSettings {
            settle: Duration::from_secs(600),
            settle_limit: Duration::from_millis(20),
            reread: Duration::from_secs(600),
        };
        let noise = thread::spawn(move || while signals.send(Signal::Changed).is_ok() {});
        assert!(settle(&inbox, settings));
        drop(inbox);
        noise.join().unwrap();
    }

    #[test]
    fn stopping_does_not_wait_for_quiet() {
        let (signals, inbox) = sync_channel(1);
        signals.send(Signal::Stop).unwrap();
        assert!(!settle(&inbox, WatchSettings::default()));
    }
}
