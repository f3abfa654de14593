//! What a node holds on to, and the small questions about it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use handfast_api::health::{Health, NothingMeasured};
use handfast_api::resources::{Kind, Resources};
use handfast_api::status::{ProblemSeverity, ProblemView, RefusalView};
use handfast_authority::{
    Authority, AuthorityStanding, CredentialFacts, Declared, Publisher, Report,
};
use handfast_network::{Network, NetworkStatus, PeerRequest, Unknown};
use handfast_pki::{Credential, Name, Purpose, TrustAnchors};
use handfast_store::{DirectoryStore, Home, HomePaths, Ledger as _, SqliteLedger, WatchSettings};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;

use super::access::Access;
use super::admin_port::OpenAdminPort;
use super::configuration::Configuration;
use super::disk::{Disk, DiskWatch};
use super::distribution::DistributionPort;
use super::grants::GrantPort;
use super::issue::Issuances;
use super::key_secret::KeySource;
use super::lists::Lists;
use super::notifying::{self, Notifiers};
use super::plan::TlsCache;
use super::redeem::Attempts;
use super::revocations::Revoked;
use super::telemetry::{Stations, TelemetryTurn};
use super::time_jumps::TimeJumps;
use crate::clock;

/// Everything of one node. Shared by its tasks.
pub(super) struct Core {
    pub(super) paths: HomePaths,
    authority: Authority<DirectoryStore, SqliteLedger>,
    /// What is revoked.
    pub(super) revoked: Revoked,
    pub(super) publisher: Publisher,
    key_source: Mutex<KeySource>,
    /// What of it others publish.
    pub(super) lists: Lists,
    /// Held through one turn: turns do not overlap.
    pub(super) turning: tokio::sync::Mutex<Turning>,
    state: Mutex<State>,
    access: Mutex<Access>,
    nudge: Notify,
    disk: Mutex<DiskWatch>,
    /// Running collectors and relays.
    pub(super) stations: Stations,
    pub(super) started: Timestamp,
}

/// What only a turn touches.
#[derive(Default)]
pub(super) struct Turning {
    pub(super) configuration: Configuration,
    pub(super) tls: TlsCache,
    pub(super) grant_port: Option<GrantPort>,
    pub(super) distribution_port: Option<DistributionPort>,
    pub(super) admin_port: Option<OpenAdminPort>,
    pub(super) attempts: Attempts,
    pub(super) notifiers: Notifiers,
    pub(super) telemetry: TelemetryTurn,
}

/// What the last turn left, for everybody to read.
#[derive(Default)]
pub(super) struct State {
    pub(super) resources: Arc<Resources>,
    pub(super) declared: Option<Arc<Declared>>,
    pub(super) report: Option<Arc<Report>>,
    pub(super) problems: Vec<ProblemView>,
    pub(super) network: Option<Arc<Network>>,
    pub(super) requests: Option<tokio::sync::mpsc::Receiver<PeerRequest>>,
    pub(super) grant_fault: Option<ProblemView>,
    /// Why CRLs and OCSP are not served, and why a CRL could not be made.
    pub(super) distribution_fault: Option<ProblemView>,
    pub(super) lists_fault: Option<ProblemView>,
    pub(super) admin_fault: Option<ProblemView>,
    /// What collectors and relays lack.
    pub(super) telemetry_faults: Vec<ProblemView>,
    pub(super) refusals: Vec<RefusalView>,
    pub(super) issuances: Issuances,
    /// Anchors of other sites that they gave up in order, by the link credential they go with.
    pub(super) retired: BTreeMap<Name, TrustAnchors>,
    /// Credentials whose renewal is being asked for at another site.
    pub(super) asking: BTreeSet<Name>,
    /// Why a link is not dialled, by its name.
    pub(super) unready: BTreeMap<Name, String>,
    pub(super) next_wake: Option<Timestamp>,
    pub(super) time: TimeJumps,
    pub(super) disk: Disk,
    /// How the authorities stand, and whom their rotations wait for.
    pub(super) authorities: Arc<Vec<AuthorityStanding>>,
    /// Rows that the newest signed head of the audit log covers.
    pub(super) audit_rows: Option<u64>,
    /// How it goes with those who are told of trouble.
    pub(super) deliveries: BTreeMap<Name, notifying::Shown>,
    pub(super) draining: bool,
    pub(super) no_network: bool,
}

/// However far away the next thing to do is, a turn is made this often: clocks jump, and machines
/// sleep.
const LONGEST_SLEEP: Duration = Duration::from_secs(15);
/// However near it is, not more often than this.
const SHORTEST_SLEEP: Duration = Duration::from_millis(50);

impl Core {
    /// Opens store and ledger of a locked home.
    pub(super) fn open(home: &Home, watch: WatchSettings) -> anyhow::Result<Self> {
        let paths = home.layout().clone();
        let store = Arc::new(DirectoryStore::open(home, watch)?);
        let ledger = Arc::new(SqliteLedger::open(&paths.state_db)?);
        let mut access = Access::new(&paths).map_err(|faults| {
            anyhow::anyhow!("the built-in policies are broken: {faults:?}; this is a bug")
        })?;
        access.remember(ledger.waiting()?);
        let revoked = Revoked::default();
        let view = revoked.view.clone();
        let authority = Authority::new(store, ledger, prove).with_revoked(move |id| {
            view.is_revoked(&id.issuer_key_id, &id.serial).map(|info| info.at)
        });
        let tls = TlsCache::new(revoked.view.clone());
        let turning = Turning { tls, ..Turning::default() };
        Ok(Self {
            access: Mutex::new(access),
            authority: with_tokens(authority),
            revoked,
            publisher: Publisher::new(Publisher::INTERVAL),
            key_source: Mutex::new(KeySource::new(None)),
            lists: Lists::default(),
            disk: Mutex::new(DiskWatch::below(&paths.runtime)),
            stations: Stations::default(),
            paths,
            turning: tokio::sync::Mutex::new(turning),
            state: Mutex::default(),
            nudge: Notify::new(),
            started: clock::now(),
        })
    }

    pub(super) fn authority(&self) -> &Authority<DirectoryStore, SqliteLedger> {
        &self.authority
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who may do what. Never locked while [`state`](Self::state) is.
    pub(super) fn access(&self) -> MutexGuard<'_, Access> {
        self.access.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the secret for keys at rest comes from, if the command line says so.
    pub(super) fn take_key_file(&self, file: Option<PathBuf>) {
        *self.key_source.lock().unwrap_or_else(PoisonError::into_inner) = KeySource::new(file);
    }

    /// Reads the secret for keys at rest anew.
    pub(super) fn refresh_key_secrets(&self) {
        let source = self.key_source.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.authority.set_key_secrets(source.secrets());
    }

    /// Has the next turn made soon.
    pub(super) fn nudge(&self) {
        self.nudge.notify_one();
    }

    /// Returns when somebody nudged.
    pub(super) async fn nudged(&self) {
        self.nudge.notified().await;
    }

    /// For commands that only change credentials.
    pub(super) fn without_network(&self) {
        self.state().no_network = true;
    }

    /// How long nothing has to be done.
    pub(super) fn wake_in(&self, now: Timestamp) -> Duration {
        let Some(wake) = self.state().next_wake else { return LONGEST_SLEEP };
        let left: SignedDuration = wake.duration_since(now);
        Duration::try_from(left).unwrap_or_default().clamp(SHORTEST_SLEEP, LONGEST_SLEEP)
    }

    pub(super) fn network(&self) -> Option<Arc<Network>> {
        self.state().network.clone()
    }

    /// How the network is; nothing is there when there is none. Blocks until that is known, for seconds if need be.
    pub(super) fn network_status(&self) -> Result<NetworkStatus, Unknown> {
        self.network().map_or_else(|| Ok(NetworkStatus::default()), |network| network.status())
    }

    /// The same for who must not block.
    pub(super) async fn network_status_apart(self: &Arc<Self>) -> Result<NetworkStatus, Unknown> {
        let core = Arc::clone(self);
        // It is only cut short when the process ends.
        let asked = tokio::task::spawn_blocking(move || core.network_status());
        asked.await.unwrap_or(Err(Unknown::Ended))
    }

    /// Looks whether the home can be written, if that is due or `now`. What failed for want of that is
    /// tried again soon after it was mended.
    pub(super) fn look_at_disk(&self, now: bool) {
        let (disk, mended) = self.disk.lock().unwrap_or_else(PoisonError::into_inner).look(now);
        self.state().disk = disk;
        if mended {
            self.authority.try_again();
        }
    }

    pub(super) fn site(&self) -> Option<Name> {
        self.state().declared.as_ref().map(|declared| declared.site.clone())
    }

    /// From now on nothing new is taken.
    pub(super) fn drain(&self) {
        self.state().draining = true;
    }

    /// Winds the network down.
    pub(super) async fn stop(&self, grace: Duration) {
        {
            let mut turning = self.turning.lock().await;
            if let Some(port) = turning.grant_port.take() {
                port.close();
            }
            if let Some(port) = turning.distribution_port.take() {
                port.close();
            }
            if let Some(port) = turning.admin_port.take() {
                port.close();
            }
        }
        self.stop_telemetry(grace).await;
        let network = {
            let mut state = self.state();
            state.requests = None;
            state.network.take()
        };
        let Some(mut network) = network else { return };
        let stopped = tokio::task::spawn_blocking(move || {
            // Whoever asks for the status at this moment lets go of it right away.
            let start = Instant::now();
            loop {
                match Arc::try_unwrap(network) {
                    Ok(network) => return network.stop(grace),
                    Err(shared) if start.elapsed() < grace => {
                        network = shared;
                        std::thread::yield_now();
                    }
                    Err(_) => return,
                }
            }
        });
        if stopped.await.is_err() {
            tracing::error!("the network did not stop in order");
        }
    }

    /// Problems of resources, credentials and ports together, errors first.
    pub(super) fn problems(&self) -> Vec<ProblemView> {
        let foreign = self.foreign_relays();
        let state = self.state();
        let mut problems = state.problems.clone();
        problems.extend(foreign);
        problems.extend(state.grant_fault.clone());
        problems.extend(state.distribution_fault.clone());
        problems.extend(state.lists_fault.clone());
        problems.extend(state.admin_fault.clone());
        problems.extend(state.telemetry_faults.iter().cloned());
        problems.extend(state.disk.problem(&self.paths.root));
        problems.extend(state.time.problem());
        let told = state.deliveries.iter();
        problems.extend(told.filter_map(|(name, shown)| notifying::problem(name, shown)));
        if let Some(report) = &state.report {
            problems.extend(report.problems.iter().map(super::view::problem));
        }
        problems.sort_by_key(|problem| problem.severity);
        problems
    }

    /// Every credential: those of the last report, and the responders that are nowhere on disk.
    pub(super) fn credential_facts(&self) -> Vec<CredentialFacts> {
        let (report, hands_out) = {
            let state = self.state();
            let declared = state.declared.as_ref();
            let hands_out = declared.is_some_and(|declared| declared.distribution.is_some());
            (state.report.clone(), hands_out)
        };
        let mut all = report.map(|report| report.credentials.clone()).unwrap_or_default();
        if hands_out {
            all.extend(self.publisher.responders(clock::now()));
        }
        all
    }

    /// The directory where the node keeps the resources that it made itself.
    pub(super) fn own_resources(&self) -> PathBuf {
        self.paths.runtime_resources.clone()
    }
}

impl Health for Core {
    fn healthy(&self) -> Result<(), String> {
        if self.state().draining {
            return Err("the node is stopping".to_owned());
        }
        let problems = self.problems();
        if let Some(problem) = problems.iter().find(|p| p.severity == ProblemSeverity::Error) {
            return Err(format!("{}: {}", problem.subject, problem.message));
        }
        let network = self.network_status().map_err(|unknown| unknown.to_string())?;
        super::view::closed_port(&network).map_or(Ok(()), Err)
    }

    fn metrics(&self) -> String {
        super::metrics::text(self)
    }

    async fn measured(&self, collector: &str) -> Result<String, NothingMeasured> {
        let subject = format!("{}/{collector}", Kind::Collector);
        let mut keep = None;
        self.each_station(|other, station| {
            if other == subject {
                keep = station.keep().cloned();
            }
        });
        super::page_of_measured(keep.ok_or(NothingMeasured::NoSuchStore)?).await
    }
}

/// An authority that finds keys in PKCS#11 tokens, where this build can.
fn with_tokens(
    authority: Authority<DirectoryStore, SqliteLedger>,
) -> Authority<DirectoryStore, SqliteLedger> {
    #[cfg(feature = "pkcs11")]
    let authority = authority.with_tokens(crate::tokens::Tokens::default());
    authority
}

/// Takes a new credential through a handshake before it goes into use.
fn prove(_name: &Name, credential: &Credential) -> Result<(), String> {
    let leaf = credential.leaf();
    let client = leaf
        .extended_key_usage()
        .is_some_and(|usages| usages.contains(&handfast_pki::Eku::ClientAuth));
    let purpose = if client { Purpose::Client } else { Purpose::Server };
    handfast_tls::check(credential, purpose, &[], clock::now()).map_err(|fault| fault.one_line())
}
