//! The node's log: lines on standard error, for people or for programs.

use tracing_subscriber::EnvFilter;

use super::LogFormat;

/// What is logged, in the manner of `RUST_LOG`; `info` when absent.
const FILTER: &str = "HANDFAST_LOG";

/// Starts logging. A second start in the same process changes nothing.
pub(super) fn start(format: LogFormat) {
    let filter = EnvFilter::builder()
        .with_env_var(FILTER)
        .with_default_directive(tracing_subscriber::filter::LevelFilter::INFO.into())
        .from_env_lossy();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
        LogFormat::Text => {
            let colour =
                anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
            lines.with_ansi(colour).with_target(false).try_init()
        }
    };
    // Tests run several nodes in one process; the first one's log serves all.
    drop(started);
}
