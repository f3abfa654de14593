//! What collectors keep, asked of a node or read from the directory of a collector that runs by itself;
//! and how texts are shown that agents made up.

use std::path::PathBuf;

use handfast_api::admin::{Client, ClientError};
use handfast_telemetry::keep::{KeepError, KeepReader};
use jiff::{SignedDuration, Timestamp};

use super::Context;
use crate::clock;
use crate::exit::Exit;
use crate::failure::Failure;

/// Where to look.
#[derive(clap::Args, Debug)]
pub(crate) struct Source {
    /// Read the directory of a collector that runs by itself, instead of asking a node
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

impl Source {
    /// Asks the node, or the directory.
    pub(super) async fn ask<T>(
        &self,
        context: &Context,
        node: impl AsyncFnOnce(&Client) -> Result<T, ClientError>,
        directory: impl FnOnce(&[KeepReader]) -> Result<T, KeepError>,
    ) -> anyhow::Result<T> {
        let Some(data) = &self.data else { return Ok(node(&context.client()).await?) };
        let unreadable = |error: KeepError| {
            Failure::new(Exit::BadInput, "what is kept there cannot be read")
                .at(data.display())
                .because(error)
                .remedy("name the directory that was given to `handfast collector run --data`")
        };
        if !data.is_dir() {
            return Err(Failure::new(Exit::BadInput, "there is no such directory")
                .at(data.display())
                .remedy("name the directory that was given to `handfast collector run --data`")
                .into());
        }
        // The command does nothing else meanwhile, so it may wait for the disk here.
        let reader = KeepReader::open(data).map_err(unreadable)?;
        Ok(directory(&[reader]).map_err(unreadable)?)
    }
}

/// From when to when.
#[derive(clap::Args, Debug)]
pub(crate) struct Period {
    /// Not older than this, like 1h
    #[arg(long, value_name = "DURATION", value_parser = super::duration, conflicts_with = "from")]
    since: Option<std::time::Duration>,
    /// Not before this moment, like 2026-11-25T12:00:00Z
    #[arg(long, value_name = "TIME")]
    from: Option<Timestamp>,
    /// Not after this moment
    #[arg(long, value_name = "TIME", visible_alias = "until")]
    to: Option<Timestamp>,
}

impl Period {
    /// Its beginning, if it has one.
    pub(super) fn from(&self) -> Option<Timestamp> {
        let since = self.since.map(|since| SignedDuration::try_from(since).unwrap_or_default());
        self.from.or_else(|| since.and_then(|since| clock::now().checked_sub(since).ok()))
    }

    /// Its end, if it has one.
    pub(super) fn to(&self) -> Option<Timestamp> {
        self.to
    }
}

/// A tag on the command line: `http.status_code=500`.
pub(super) fn tag(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((key, _)) if !key.is_empty() => Ok(text.to_owned()),
        _ => Err("write a tag like http.status_code=500".to_owned()),
    }
}

/// A text that an agent made up, on one line and without what a terminal would obey.
pub(super) fn shown(text: &str) -> String {
    text.chars()
        .map(|character| match character {
            '\n' | '\r' | '\t' => ' ',
            // Controls, and what turns the direction of writing around.
            it if it.is_control() || matches!(it, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => '\u{fffd}',
            it => it,
        })
        .collect()
}

/// Milliseconds, in one unit.
pub(super) fn milliseconds(ms: u64) -> String {
    microseconds(i64::try_from(ms.saturating_mul(1000)).unwrap_or(i64::MAX))
}

/// Microseconds, in one unit.
pub(super) fn microseconds(us: i64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let value = us as f64;
    match us.unsigned_abs() {
        0..=999 => format!("{us} us"),
        1_000..=9_999 if us % 1_000 != 0 => format!("{:.1} ms", value / 1e3),
        1_000..=9_999_999 => format!("{} ms", us / 1_000),
        10_000_000..=119_999_999 => format!("{:.1} s", value / 1e6),
        _ => super::words::span(us.unsigned_abs() / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_agents_say_moves_no_cursor() {
        assert_eq!(shown("a\x1b[2Jb\nc\u{202e}d"), "a\u{fffd}[2Jb c\u{fffd}d");
    }

    #[test]
    fn durations_have_one_unit() {
        let all =
            [(0, "0 us"), (999, "999 us"), (1500, "1.5 ms"), (2000, "2 ms"), (153_000, "153 ms")];
        for (us, expect) in all {
            assert_eq!(microseconds(us), expect);
        }
        assert_eq!(microseconds(12_345_678), "12.3 s");
        assert_eq!(milliseconds(3_600_000), "60 min");
    }
}
