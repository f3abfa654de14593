//! `handfast trace ls|show`: traces that services reported, in a list and as a waterfall.

mod lines;
mod tree;
mod waterfall;

use handfast_api::admin::{ClientError, RefusalCode};
use handfast_api::telemetry::{self, Trace, TraceLine, TraceSearch, TraceWanted};

use super::bound::Bound;
use super::kept::{Period, Source, milliseconds, shown, tag};
use super::{Context, words};
use crate::exit::Exit;
use crate::failure::Failure;

/// Verbs of `handfast trace`.
#[derive(clap::Subcommand, Debug)]
pub(crate) enum Verb {
    /// List traces, the newest first
    #[command(
        visible_alias = "list",
        after_help = "Examples:\n  handfast trace ls\n  handfast trace ls --service shop --since 1h --errors\n  \
            handfast trace ls --min-duration 500ms --longest --limit 5\n  \
            handfast trace ls --tag http.status_code=500 -o json\n  handfast trace ls --data /var/lib/collector"
    )]
    Ls(Ls),
    /// Draw a trace: its spans over all services, to scale
    #[command(after_help = "Examples:\n  handfast trace show 7f3a01d2c45e4c0f9a17be0a3f1c2d3e\n  \
            handfast trace show 7f3a01d2c45e4c0f9a17be0a3f1c2d3e --details\n  \
            handfast trace show 7f3a01d2c45e4c0f9a17be0a3f1c2d3e -o json | jq .segments\n\n\
        What was logged in the trace stands below the drawing: the newest 200 lines; `handfast log ls --trace ID` has all. \
        Exits with 11 if nothing of that trace is kept. Where the clock of one service is behind that of another, the \
        drawing moves its spans, and says by how much; JSON has the times as they came.")]
    Show(Show),
}

/// Arguments of `handfast trace ls`.
#[derive(clap::Args, Debug)]
pub(crate) struct Ls {
    /// With a segment of this service
    #[arg(long)]
    service: Option<String>,
    /// With a segment of this instance
    #[arg(long)]
    instance: Option<String>,
    /// With a segment that began at this endpoint
    #[arg(long)]
    endpoint: Option<String>,
    #[command(flatten)]
    period: Period,
    /// At least this long, like 500ms
    #[arg(long, value_name = "DURATION", value_parser = short_duration)]
    min_duration: Option<u64>,
    /// At most this long
    #[arg(long, value_name = "DURATION", value_parser = short_duration)]
    max_duration: Option<u64>,
    /// Only those with an error
    #[arg(long)]
    errors: bool,
    /// With this tag; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = tag)]
    tag: Vec<String>,
    /// The longest first
    #[arg(long)]
    longest: bool,
    /// How many
    #[arg(long, default_value = "20", value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    #[command(flatten)]
    source: Source,
}

/// Arguments of `handfast trace show`.
#[derive(clap::Args, Debug)]
pub(crate) struct Show {
    /// The trace's id, as `trace ls` shows it
    id: String,
    /// Also show tags, and what happened during the spans
    #[arg(long)]
    details: bool,
    /// Leave out what was logged in the trace
    #[arg(long)]
    no_logs: bool,
    /// Draw this many columns wide [default: the terminal's, else 100]
    #[arg(long, value_name = "COLUMNS", value_parser = clap::value_parser!(u16).range(40..=1000))]
    width: Option<u16>,
    #[command(flatten)]
    source: Source,
}

/// Runs the verb.
pub(crate) async fn run(verb: Verb, context: &Context) -> anyhow::Result<()> {
    match verb {
        Verb::Ls(ls) => self::ls(ls, context).await,
        Verb::Show(show) => self::show(show, context).await,
    }
}

async fn ls(ls: Ls, context: &Context) -> anyhow::Result<()> {
    let (from, to) = (ls.period.from(), ls.period.to());
    let bound = Bound::of_store(ls.limit);
    let search = TraceSearch {
        service: ls.service,
        instance: ls.instance,
        endpoint: ls.endpoint,
        from,
        to,
        min_duration: ls.min_duration,
        max_duration: ls.max_duration,
        tag: ls.tag,
        errors: ls.errors,
        longest: ls.longest,
        limit: Some(bound.asked()),
    };
    let mut traces = ls
        .source
        .ask(
            context,
            async |client| client.traces(&search).await,
            |stores| telemetry::traces(stores, &search),
        )
        .await?;
    let which = if search.longest { "longest" } else { "newest" };
    let note = bound.cut(&mut traces).note(which, "--service, --since, --to, --tag or --errors");
    context.output.show_noting(&traces, note.as_deref(), |page| {
        let row = |one: &TraceLine| {
            let others: Vec<String> = one.services.iter().map(|name| shown(name)).collect();
            vec![
                shown(&one.trace_id),
                words::whole_seconds(one.start),
                milliseconds(one.duration),
                shown(&one.service),
                shown(&one.endpoint),
                one.spans.to_string(),
                one.errors.to_string(),
                others.join(" "),
            ]
        };
        let rows: Vec<Vec<String>> = traces.iter().map(row).collect();
        let header =
            ["TRACE", "BEGAN", "DURATION", "SERVICE", "ENDPOINT", "SPANS", "ERRORS", "SERVICES"];
        page.table(
            &header,
            &rows,
            "No trace is kept that matches. Who reports: handfast service ls",
        );
    })
}

async fn show(show: Show, context: &Context) -> anyhow::Result<()> {
    let wanted = TraceWanted { id: show.id, logs: !show.no_logs };
    let node = async |client: &handfast_api::admin::Client| match client.trace(&wanted).await {
        Ok(trace) => Ok(Some(trace)),
        Err(ClientError::Refused(refusal)) if refusal.code == RefusalCode::NotFound => {
            // Without any store there is more to say than that it is not there.
            if client.services().await.is_err() {
                Err(ClientError::Refused(refusal))
            } else {
                Ok(None)
            }
        }
        Err(error) => Err(error),
    };
    let found = show.source.ask(context, node, |stores| telemetry::trace(stores, &wanted)).await?;
    let Some(trace) = found else { return Err(absent(&wanted.id, context).into()) };
    context.output.show(&trace, |page| draw(page, &trace, show.width, show.details))
}

fn draw(page: &mut crate::output::Page, trace: &Trace, width: Option<u16>, details: bool) {
    let tree = tree::Tree::of(trace);
    let width = usize::from(width.or_else(|| page.width()).unwrap_or(PIPE_WIDTH));
    waterfall::draw(page, trace, &tree, waterfall::Manner { width, details });
    lines::draw(page, trace, &tree, width);
}

fn absent(id: &str, context: &Context) -> Failure {
    Failure::new(Exit::NotFound, format!("no trace `{}` is kept", shown(id)))
        .because("no segment of it has arrived, or it is older than what is kept")
        .remedy(format!(
            "see which there are: {}; a segment arrives when its spans are over",
            context.command("trace ls")
        ))
}

/// A duration in milliseconds: `250ms`, `1s`, `2m`.
fn short_duration(text: &str) -> Result<u64, String> {
    if let Some(ms) = text.strip_suffix("ms") {
        return ms.parse().map_err(|_| "write a duration like 250ms, 1s or 2m".to_owned());
    }
    let duration =
        super::duration(text).map_err(|_| "write a duration like 250ms, 1s or 2m".to_owned())?;
    u64::try_from(duration.as_millis()).map_err(|_| "that is too long".to_owned())
}

/// Columns where nobody's terminal says how many.
const PIPE_WIDTH: u16 = 100;
