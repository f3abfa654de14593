//! `handfast run`: the node of this home, in the foreground.

use std::net::SocketAddr;
use std::path::PathBuf;

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
    /// The file with the secret that the keys of CAs are encrypted with on disk, one a line: the first encrypts, the others still open
    #[arg(long, value_name = "FILE", env = "HANDFAST_KEY_FILE", hide_env_values = true)]
    key_file: Option<PathBuf>,
}

/// Runs it.
pub(crate) async fn run(arguments: Arguments, home: HomePaths) -> anyhow::Result<()> {
    node::run(
        home,
        RunOptions {
            log_format: arguments.log_format,
            metrics: arguments.metrics,
            key_file: arguments.key_file,
        },
    )
    .await
}
