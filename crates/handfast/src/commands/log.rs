//! `handfast log ls`: lines of log that services reported.

use handfast_api::telemetry::{self, LogSearch};

use super::Context;
use super::bound::Bound;
use super::kept::{Period, Source, shown, tag};
use super::words;

/// Verbs of `handfast log`.
#[derive(clap::Subcommand, Debug)]
pub(crate) enum Verb {
    /// List lines of log, the newest last
    #[command(
        visible_alias = "list",
        after_help = "Examples:\n  handfast log ls --service shop --since 1h\n  \
            handfast log ls --text timeout --tag level=ERROR\n  handfast log ls --trace 7f3a... -o json"
    )]
    Ls(Ls),
}

/// Arguments of `handfast log ls`.
#[derive(clap::Args, Debug)]
pub(crate) struct Ls {
    /// Of this service
    #[arg(long)]
    service: Option<String>,
    /// Of this instance
    #[arg(long)]
    instance: Option<String>,
    /// Of this endpoint
    #[arg(long)]
    endpoint: Option<String>,
    /// Of this trace
    #[arg(long, value_name = "ID")]
    trace: Option<String>,
    /// With this in what they say
    #[arg(long)]
    text: Option<String>,
    /// With this tag; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = tag)]
    tag: Vec<String>,
    #[command(flatten)]
    period: Period,
    /// How many
    #[arg(long, default_value = "100", value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    #[command(flatten)]
    source: Source,
}

/// Runs the verb.
pub(crate) async fn run(verb: Verb, context: &Context) -> anyhow::Result<()> {
    let Verb::Ls(ls) = verb;
    let (from, to) = (ls.period.from(), ls.period.to());
    let bound = Bound::of_store(ls.limit);
    let search = LogSearch {
        service: ls.service,
        instance: ls.instance,
        endpoint: ls.endpoint,
        trace: ls.trace,
        from,
        to,
        tag: ls.tag,
        text: ls.text,
        limit: Some(bound.asked()),
    };
    let mut lines = ls
        .source
        .ask(
            context,
            async |client| client.logs(&search).await,
            |stores| telemetry::logs(stores, &search),
        )
        .await?;
    let cut = bound.cut(&mut lines);
    let note = cut.note("newest", "--service, --since, --to, --text or --tag");
    lines.reverse();
    context.output.show_noting(&lines, note.as_deref(), |page| {
        let row = |one: &telemetry::LogLine| {
            vec![
                words::whole_seconds(one.time),
                shown(&one.service),
                shown(&one.instance),
                shown(&one.level),
                shown(&one.trace_id),
                shown(&one.text),
            ]
        };
        let rows: Vec<Vec<String>> = lines.iter().map(row).collect();
        let header = ["TIME", "SERVICE", "INSTANCE", "LEVEL", "TRACE", "TEXT"];
        page.table(&header, &rows, "No line of log is kept that matches.");
    })
}
