//! `handfast metric ls`: what services measure, each with its newest value.

use std::time::Duration;

use handfast_api::telemetry::{self, NewestMetric, NewestSearch};
use jiff::SignedDuration;

use super::bound::Bound;
use super::kept::{Source, shown};
use super::{Context, words};
use crate::clock;

/// Verbs of `handfast metric`.
#[derive(clap::Subcommand, Debug)]
pub(crate) enum Verb {
    /// List the newest value of each metric
    #[command(
        visible_alias = "list",
        after_help = "Examples:\n  handfast metric ls --service shop\n  \
            handfast metric ls --name jvm_memory_used_bytes --since 1d\n  handfast metric ls --service shop -o json\n\n\
        For the values before it: handfast service metrics SERVICE. Prometheus reads them at the node's metrics port, at \
        /metrics/telemetry/NAME of the collector."
    )]
    Ls(Ls),
}

/// Arguments of `handfast metric ls`.
#[derive(clap::Args, Debug)]
pub(crate) struct Ls {
    /// Of this service
    #[arg(long)]
    service: Option<String>,
    /// Of this instance
    #[arg(long)]
    instance: Option<String>,
    /// Of this name, as it was reported
    #[arg(long)]
    name: Option<String>,
    /// With a value that is not older than this
    #[arg(long, value_name = "DURATION", value_parser = super::duration, default_value = "1h")]
    since: Duration,
    /// How many
    #[arg(long, default_value = "1000", value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    #[command(flatten)]
    source: Source,
}

/// Runs the verb.
pub(crate) async fn run(verb: Verb, context: &Context) -> anyhow::Result<()> {
    let Verb::Ls(ls) = verb;
    let now = clock::now();
    let bound = Bound::of(ls.limit);
    let since = SignedDuration::try_from(ls.since).unwrap_or(SignedDuration::MAX);
    let search = NewestSearch {
        service: ls.service,
        instance: ls.instance,
        name: ls.name,
        from: now.checked_sub(since).ok(),
        limit: Some(bound.asked()),
    };
    let mut metrics = ls
        .source
        .ask(
            context,
            async |client| client.newest(&search).await,
            |stores| telemetry::newest(stores, &search),
        )
        .await?;
    // They come by name.
    let note = bound.cut(&mut metrics).note("first", "--service, --instance or --name");
    context.output.show_noting(&metrics, note.as_deref(), |page| {
        let row = |one: &NewestMetric| {
            let labels: Vec<String> = one.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
            vec![
                shown(&one.name),
                one.kind.clone(),
                shown(&one.service),
                shown(&one.instance),
                shown(&labels.join(" ")),
                value(one),
                words::distance(one.time, now),
            ]
        };
        let rows: Vec<Vec<String>> = metrics.iter().map(row).collect();
        let header = ["METRIC", "TYPE", "SERVICE", "INSTANCE", "LABELS", "VALUE", "FROM"];
        page.table(
            &header,
            &rows,
            "No service has measured that in this time: handfast service ls",
        );
    })
}

fn value(one: &NewestMetric) -> String {
    let number = one.value.map(|value| value.to_string());
    if one.buckets.is_empty() {
        return number.unwrap_or_else(|| "none".to_owned());
    }
    let count = one.buckets.iter().fold(0_u64, |sum, bucket| sum.saturating_add(bucket.count));
    let sum = number.map(|sum| format!(", together {sum}")).unwrap_or_default();
    format!("{count} values{sum}")
}
