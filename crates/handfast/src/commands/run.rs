//! `handfast run`: the node of this home, in the foreground.

use std::net::SocketAddr;

use handfast_store::HomePaths;

use crate::node::{self, LogFormat, RunOptions};

/// Arguments of `handfast run`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  handfast run\n  handfast --home ./west run --log-format json --metrics 127.0.0.1:9600\n\n\
    Stops on SIGTERM or Ctrl-C: takes nothing new, finishes what is open, ends."
)]
pub(crate) struct Arguments {
    /// How log lines are written
    #[arg(long, value_enum, default_value_t = LogFormat::Text, value_name = "FORMAT")]
    log_format: LogFormat,
    /// Serve /metrics and /healthz here, like 127.0.0.1:9600
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<SocketAddr>,
}

/// Runs it.
pub(crate) async fn run(arguments: Arguments, home: HomePaths) -> anyhow::Result<()> {
    node::run(home, RunOptions { log_format: arguments.log_format, metrics: arguments.metrics })
        .await
}
