//! Tells the declared receivers what is wrong. Each has a task of its own, so that one that hangs keeps
//! nobody waiting: not the other receivers, and never the node.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use handfast_api::notify::{Alert, Outbox, Receiver, deliver};
use handfast_api::resources::{Notification, Resources};
use handfast_api::status::{ProblemSeverity, ProblemView};
use handfast_authority::Report;
use handfast_pki::Name;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::alerts::{FaultRate, Sight, alerts};
use super::core::Core;
use crate::clock;

/// The receivers that are told, and what is needed to know what to tell them.
pub(super) struct Notifiers {
    running: BTreeMap<Name, Notifier>,
    rate: FaultRate,
    start: Instant,
}

impl Default for Notifiers {
    fn default() -> Self {
        Self { running: BTreeMap::new(), rate: FaultRate::default(), start: Instant::now() }
    }
}

/// One receiver. Dropping it ends its task.
struct Notifier {
    declared: Notification,
    alerts: watch::Sender<Vec<Alert>>,
    _task: AbortOnDropHandle<()>,
}

/// How it went with one receiver so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Deliveries {
    pub(super) delivered: u64,
    pub(super) failed: u64,
    /// Failures in a row, and the last one.
    pub(super) failing: Option<(u32, String)>,
    /// Notices that wait.
    pub(super) waiting: usize,
}

/// Shared by a receiver's task and whoever shows it.
pub(super) type Shown = Arc<Mutex<Deliveries>>;

impl Core {
    /// Has the declared receivers told what is wrong now.
    pub(super) async fn notify(
        self: &Arc<Self>,
        resources: &Resources,
        report: &Report,
        notifiers: &mut Notifiers,
    ) {
        // Without an answer nothing is known to be over either: what was told stays.
        let Ok(network) = self.network_status_apart().await else { return };
        let refused = network.handshakes.refused;
        // Counted whether or not anybody is to be told: a receiver may be declared in the midst of it.
        let total = refused.iter().map(|(_, count)| count).sum();
        let most_frequent =
            refused.iter().max_by_key(|(_, count)| *count).map(|(code, _)| code.clone());
        let lately = notifiers.rate.observe(notifiers.start.elapsed(), total);
        if resources.notifications.is_empty() && notifiers.running.is_empty() {
            return;
        }
        let (disk, time, authorities) = {
            let state = self.state();
            let problem = state.disk.problem(&self.paths.root);
            (problem, state.time.problem(), Arc::clone(&state.authorities))
        };
        let found = alerts(&Sight {
            report,
            disk,
            time,
            refused: lately,
            most_frequent,
            authorities: &authorities,
            now: clock::now(),
        });
        let Some(site) = self.site() else { return };
        self.place_notifiers(resources, &site, notifiers);
        for notifier in notifiers.running.values() {
            let wanted: Vec<Alert> = found
                .iter()
                .filter(|alert| notifier.declared.wants(alert.condition))
                .cloned()
                .collect();
            notifier.alerts.send_if_modified(|told| {
                let is_news = *told != wanted;
                *told = wanted;
                is_news
            });
        }
    }

    fn place_notifiers(&self, resources: &Resources, site: &Name, notifiers: &mut Notifiers) {
        let declared = &resources.notifications;
        notifiers.running.retain(|name, notifier| {
            declared.get(name).is_some_and(|resource| resource.spec == notifier.declared)
        });
        let mut state = self.state();
        state.deliveries.retain(|name, _| notifiers.running.contains_key(name));
        for (name, resource) in declared {
            if notifiers.running.contains_key(name) {
                continue;
            }
            let Some(receiver) = resource.spec.receiver() else { continue };
            let shown = Shown::default();
            state.deliveries.insert(name.clone(), Arc::clone(&shown));
            let (alerts, told) = watch::channel(Vec::new());
            let outbox = Outbox::new(site.as_str());
            let task = tokio::spawn(tell(name.clone(), receiver, outbox, told, shown));
            let notifier = Notifier {
                declared: resource.spec.clone(),
                alerts,
                _task: AbortOnDropHandle::new(task),
            };
            notifiers.running.insert(name.clone(), notifier);
        }
    }
}

/// Tells one receiver until its [`Notifier`] is dropped.
async fn tell(
    name: Name,
    receiver: Receiver,
    mut outbox: Outbox,
    mut alerts: watch::Receiver<Vec<Alert>>,
    shown: Shown,
) {
    let start = Instant::now();
    loop {
        outbox.update(&alerts.borrow_and_update(), clock::now());
        lock(&shown).waiting = outbox.waiting();
        if let Some(notice) = outbox.next(start.elapsed(), clock::now()) {
            let sent = deliver(&receiver, &notice, clock::now(), BOUND).await;
            match sent {
                Ok(()) => {
                    outbox.sent(&notice, start.elapsed());
                    let mut shown = lock(&shown);
                    shown.delivered += 1;
                    if shown.failing.take().is_some() {
                        tracing::info!(notification = %name, "notices are delivered again");
                    }
                }
                Err(error) => {
                    outbox.failed(start.elapsed());
                    let mut shown = lock(&shown);
                    if shown.failing.is_none() {
                        tracing::warn!(notification = %name, %error, "a notice was not delivered");
                    }
                    shown.failed += 1;
                    shown.failing = Some((outbox.failures(), error.to_string()));
                }
            }
            continue;
        }
        let pause = outbox.due().map(|due| due.saturating_sub(start.elapsed()));
        tokio::select! {
            changed = alerts.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            () = tokio::time::sleep(pause.unwrap_or(LONGEST_PAUSE)) => {}
        }
    }
}

/// What `status` says of a receiver that takes nothing.
pub(super) fn problem(name: &Name, shown: &Shown) -> Option<ProblemView> {
    let (times, why) = lock(shown).failing.clone()?;
    if times < SHOWN_FROM {
        return None;
    }
    Some(ProblemView {
        severity: ProblemSeverity::Warning,
        subject: format!("Notification/{name}"),
        file: None,
        line: None,
        message: format!("notices were not delivered, {times} attempts in a row: {why}"),
        remedy:
            "they are sent again until they arrive; correct the Notification, or mend its receiver"
                .to_owned(),
    })
}

/// How it went so far.
pub(super) fn deliveries(shown: &Shown) -> Deliveries {
    lock(shown).clone()
}

fn lock(shown: &Shown) -> MutexGuard<'_, Deliveries> {
    shown.lock().unwrap_or_else(PoisonError::into_inner)
}

/// For one notice, name lookup and handshake included.
const BOUND: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// A receiver that is restarted fails once.
const SHOWN_FROM: u32 = 3;
