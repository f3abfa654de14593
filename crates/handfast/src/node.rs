//! The wiring of one node: resources and credentials in, a running network out.
//!
//! One flow: resources -> declared -> the authority reconciles -> credentials -> live TLS
//! configurations -> the network's plan. [`Core::turn`](core::Core::turn) is that flow, once;
//! [`run`] repeats it whenever something changed. Decisions are made in the crates below; here
//! things are only put together.

mod access;
mod admin;
mod admin_port;
mod alerts;
pub(crate) mod ceremony;
mod configuration;
mod core;
mod descriptors;
mod disk;
mod distribution;
pub(crate) mod export;
mod grants;
mod issue;
pub(crate) mod key_secret;
pub(crate) mod ledger;
mod lists;
mod logging;
mod metrics;
mod notifying;
mod peers;
mod plan;
mod redeem;
mod revocations;
mod rotation;
mod signals;
mod staples;
mod telemetry;
mod time_jumps;
mod tokens;
mod turn;
pub(crate) mod view;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use handfast_api::admin::{AdminSocket, RedeemToken, RedeemedToken};
use handfast_api::health::HealthServer;
use handfast_store::{ContentWatch, CredentialStore as _, Home, HomePaths, WatchSettings};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(crate) use self::access::local_admins;
pub(crate) use self::admin::revoke_offline;
use self::core::Core;
pub(crate) use self::descriptors::raise as raise_descriptors;
pub(crate) use self::logging::start as start_log;
pub(crate) use self::metrics::measured as page_of_measured;
pub(crate) use self::metrics::of_stations as metrics_of_stations;
pub(crate) use self::signals::{Stopping, ready as say_ready};
use crate::clock;

pub(crate) use issue::offline as issue_offline;

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// One JSON object per line
    Json,
    /// For people
    #[default]
    Text,
}

/// What `handfast run` was asked for.
#[derive(Clone, Debug)]
pub(crate) struct RunOptions {
    /// How log lines are written.
    pub(crate) log_format: LogFormat,
    /// Where `/metrics` and `/healthz` are served; `None` serves neither.
    pub(crate) metrics: Option<SocketAddr>,
    /// The file with the secret that keys at rest are encrypted with.
    pub(crate) key_file: Option<PathBuf>,
}

/// Flows may go on for so long after the node was told to stop.
const DRAIN: Duration = Duration::from_secs(20);

/// Runs the node of `home` until it is told to end.
pub(crate) async fn run(home: HomePaths, options: RunOptions) -> anyhow::Result<()> {
    logging::start(options.log_format);
    descriptors::raise();
    // First of all: a signal that comes while the node starts is an orderly end too.
    let mut stopping = Stopping::new().context("cannot listen for signals")?;
    let lock = Home::open(&home.root)?;
    let watch = WatchSettings::default();
    let core = Arc::new(Core::open(&lock, watch)?);
    core.take_key_file(options.key_file);
    let resources = ContentWatch::start(
        vec![
            home.input_policies.clone(),
            home.input_resources.clone(),
            home.runtime_resources.clone(),
        ],
        watch,
    );
    let shutdown = CancellationToken::new();
    let mut tasks = JoinSet::new();

    let socket = AdminSocket::bind(&home.admin_sock).await?;
    let health = match options.metrics {
        Some(address) => Some(HealthServer::bind(address).await?),
        None => None,
    };
    tracing::info!(home = %home.root.display(), version = env!("CARGO_PKG_VERSION"), "the node starts");
    core.turn(None).await;
    tasks.spawn(socket.serve(Arc::new(admin::Admin::new(Arc::clone(&core))), shutdown.clone()));
    if let Some(server) = health {
        if let Ok(address) = server.local_addr() {
            tracing::info!(%address, "metrics and health are served");
        }
        tasks.spawn(server.serve(Arc::clone(&core), shutdown.clone()));
    }
    let mut credentials = core.authority().store().changes();
    let mut declared = resources.changes();
    tasks.spawn(Arc::clone(&core).answer_peers(shutdown.clone()));
    tasks.spawn(Arc::clone(&core).watch_time(shutdown.clone()));
    tasks.spawn(Arc::clone(&core).record_denials(shutdown.clone()));
    signals::ready();

    let mut watchdog = signals::Watchdog::new();
    loop {
        let wake = core.wake_in(clock::now());
        tokio::select! {
            signal = stopping.told() => {
                tracing::info!(signal, "stopping: nothing new is taken, open flows may end");
                break;
            }
            () = watchdog.due() => continue,
            () = core.nudged() => {}
            Ok(()) = credentials.changed() => {}
            Ok(()) = declared.changed() => {}
            () = tokio::time::sleep(wake) => {}
        }
        core.turn(None).await;
    }

    signals::stopping();
    core.drain();
    shutdown.cancel();
    tokio::select! {
        () = core.stop(DRAIN) => {}
        signal = stopping.told() => tracing::warn!(signal, "told twice: what is open is cut"),
    }
    let ended = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(Duration::from_secs(5), ended).await.is_err() {
        tracing::warn!("some tasks did not end in time");
    }
    // The store lets go before the home does.
    drop((credentials, declared, resources, core));
    drop(lock);
    tracing::info!("the node has stopped");
    Ok(())
}

/// Redeems a token while no node runs.
pub(crate) async fn redeem_offline(
    home: &HomePaths,
    request: RedeemToken,
) -> anyhow::Result<RedeemedToken> {
    let lock = Home::open(&home.root)?;
    let core = Arc::new(Core::open(&lock, WatchSettings::default())?);
    core.without_network();
    core.turn(None).await;
    let redeemed = core.redeem(&request).await;
    drop(core);
    drop(lock);
    Ok(redeemed?)
}
