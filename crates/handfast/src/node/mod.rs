//! The wiring of one node. (Being written; this is the interface that the commands call.)

use std::net::SocketAddr;

use handfast_api::admin::{RedeemToken, RedeemedToken};
use handfast_store::HomePaths;

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
}

/// Runs the node of `home` until it is told to end.
#[expect(clippy::unused_async, reason = "a placeholder")]
pub(crate) async fn run(home: HomePaths, options: RunOptions) -> anyhow::Result<()> {
    anyhow::bail!(
        "not wired yet: {} {:?} {:?}",
        home.root.display(),
        options.log_format,
        options.metrics
    )
}

/// Redeems a token while no node runs.
#[expect(clippy::unused_async, reason = "a placeholder")]
pub(crate) async fn redeem_offline(
    home: &HomePaths,
    request: RedeemToken,
) -> anyhow::Result<RedeemedToken> {
    anyhow::bail!("not wired yet: {} {}", home.root.display(), request.name)
}
