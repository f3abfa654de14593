//! The node's log: lines on standard error, for people or for programs.

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, Registry};

use super::LogFormat;

/// What is logged: a level, or levels by crate, such as `info,handfast_network=debug`.
const FILTER: &str = "HANDFAST_LOG";

/// Starts logging. A second start in the same process changes nothing.
pub(crate) fn start(format: LogFormat) {
    let wanted = std::env::var(FILTER).ok();
    let (filter, unclear) = filter(wanted.as_deref());
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Json => lines.json().flatten_event(true).with_filter(filter).boxed(),
        LogFormat::Text => {
            let colour =
                anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
            lines.with_ansi(colour).with_target(false).with_filter(filter).boxed()
        }
    };
    // Tests run several nodes in one process; the first one's log serves all.
    let started = Registry::default().with(lines).try_init();
    drop(started);
    if unclear {
        tracing::warn!(value = wanted, "{FILTER} cannot be understood; `info` is used");
    }
}

/// The filter, and whether what was wanted could not be understood.
fn filter(wanted: Option<&str>) -> (Targets, bool) {
    let usual = || Targets::new().with_default(LevelFilter::INFO);
    match wanted.map(str::parse::<Targets>) {
        None => (usual(), false),
        Some(Ok(filter)) => (filter, false),
        Some(Err(_)) => (usual(), true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_by_crate_and_what_is_unclear_is_said() {
        let (some, unclear) = filter(Some("warn,handfast_network=debug"));
        assert!(!unclear);
        assert!(some.would_enable("handfast_network::gate", &tracing::Level::DEBUG));
        assert!(!some.would_enable("handfast_store", &tracing::Level::INFO));
        let (usual, unclear) = filter(Some("handfast=loud"));
        assert!(unclear && usual.would_enable("handfast", &tracing::Level::INFO));
        assert!(!filter(None).1);
    }
}
