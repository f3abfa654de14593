//! `handfast event ls`: what happened to services: starts, shutdowns, deployments.

use handfast_api::telemetry::{self, EventLine, EventSearch, EventType};

use super::bound::Bound;
use super::kept::{Period, Source, milliseconds, shown};
use super::{Context, words};

/// Verbs of `handfast event`.
#[derive(clap::Subcommand, Debug)]
pub(crate) enum Verb {
    /// List events, the newest last
    #[command(
        visible_alias = "list",
        after_help = "Examples:\n  handfast event ls --service shop --since 1h\n  \
            handfast event ls --type error --until 2026-11-25T12:00:00Z\n  handfast event ls --name Shutdown -o json\n\n\
        An event that was told twice, when it began and when it had ended, is listed once."
    )]
    Ls(Ls),
}

/// Arguments of `handfast event ls`.
#[derive(clap::Args, Debug)]
pub(crate) struct Ls {
    /// Of this service
    #[arg(long)]
    service: Option<String>,
    /// Of this instance
    #[arg(long)]
    instance: Option<String>,
    /// Of this name
    #[arg(long)]
    name: Option<String>,
    /// Of this type
    #[arg(long = "type", value_enum, value_name = "TYPE")]
    kind: Option<Kind>,
    #[command(flatten)]
    period: Period,
    /// How many
    #[arg(long, default_value = "100", value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    #[command(flatten)]
    source: Source,
}

/// `--type`.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Kind {
    /// Faults
    Error,
    /// Everything else
    Normal,
}

/// Runs the verb.
pub(crate) async fn run(verb: Verb, context: &Context) -> anyhow::Result<()> {
    let Verb::Ls(ls) = verb;
    let (from, to) = (ls.period.from(), ls.period.to());
    let bound = Bound::of_store(ls.limit);
    let search = EventSearch {
        service: ls.service,
        instance: ls.instance,
        name: ls.name,
        kind: ls.kind.map(|kind| match kind {
            Kind::Error => EventType::Error,
            Kind::Normal => EventType::Normal,
        }),
        from,
        to,
        limit: Some(bound.asked()),
    };
    let mut events = ls
        .source
        .ask(
            context,
            async |client| client.events(&search).await,
            |stores| telemetry::events(stores, &search),
        )
        .await?;
    let cut = bound.cut(&mut events);
    let note = cut.note("newest", "--service, --name, --type, --since or --to");
    events.reverse();
    context.output.show_noting(&events, note.as_deref(), |page| {
        let rows: Vec<Vec<String>> = events.iter().map(row).collect();
        let header = ["BEGAN", "TOOK", "TYPE", "EVENT", "SERVICE", "INSTANCE", "MESSAGE"];
        page.table(&header, &rows, "No event is kept that matches.");
    })
}

fn row(one: &EventLine) -> Vec<String> {
    let kind = match one.kind {
        EventType::Error => "error",
        EventType::Normal => "normal",
    };
    vec![
        one.start.or(one.end).map(words::whole_seconds).unwrap_or_default(),
        took(one),
        kind.to_owned(),
        shown(&one.name),
        shown(&one.service),
        shown(&one.instance),
        shown(&one.message),
    ]
}

/// How long it took; nothing where its beginning or its end is not known.
fn took(one: &EventLine) -> String {
    let span = one.start.zip(one.end).map(|(start, end)| end.duration_since(start));
    let span = span.filter(|span| !span.is_negative());
    span.map(|span| milliseconds(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
        .unwrap_or_default()
}
