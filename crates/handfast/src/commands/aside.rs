//! `handfast collector aside` and `handfast relay aside`: what a backend refused for good, looked at, sent again or
//! thrown away.

use handfast_api::admin::{ClientError, RefusalCode};
use handfast_api::telemetry::{
    AsideChoice, AsideDealt, AsideLine, AsideSearch, AsideWanted, StationKind,
};
use handfast_pki::Name;
use handfast_telemetry::RecordKind;

use super::kept::shown;
use super::{Context, words};
use crate::exit::Exit;
use crate::failure::Failure;

/// Verbs of `aside`.
#[derive(clap::Subcommand, Debug)]
pub(crate) enum Verb {
    /// List the records that lie aside, with the reason, the oldest first
    #[command(
        visible_alias = "list",
        after_help = "Examples:\n  handfast collector aside ls oap\n  handfast relay aside ls shop --service bank -o json"
    )]
    Ls(Ls),
    /// See one record: who said it, when, and what the backend answered
    #[command(
        after_help = "Examples:\n  handfast collector aside show oap 1048640\n  handfast relay aside show shop 64 -o json"
    )]
    Show(Show),
    /// Send records again: all that lie aside, or those that are chosen
    #[command(
        after_help = "Examples:\n  handfast collector aside retry oap\n  handfast collector aside retry oap --service bank\n  \
        handfast relay aside retry shop 64 1048640\n\n\
        They go into the spool first and leave this place then: nothing is lost whatever happens meanwhile, and what is \
        refused again lies aside again."
    )]
    Retry(Retry),
    /// Throw records away
    #[command(
        after_help = "Examples:\n  handfast collector aside drop oap 1048640\n  handfast collector aside drop oap --kind log\n  \
        handfast relay aside drop shop --all"
    )]
    Drop(Drop),
}

/// Arguments of `aside ls`.
#[derive(clap::Args, Debug)]
pub(crate) struct Ls {
    /// The collector or relay
    name: Name,
    #[command(flatten)]
    which: Which,
    /// Only what came after the record with this id: the next page
    #[arg(long, value_name = "ID")]
    after: Option<u64>,
    /// How many
    #[arg(long, default_value = "100", value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
}

/// Arguments of `aside show`.
#[derive(clap::Args, Debug)]
pub(crate) struct Show {
    /// The collector or relay
    name: Name,
    /// The record, by its id in the list
    id: u64,
}

/// Arguments of `aside retry`.
#[derive(clap::Args, Debug)]
pub(crate) struct Retry {
    /// The collector or relay
    name: Name,
    /// Only these records, by their ids in the list
    #[arg(value_name = "ID")]
    ids: Vec<u64>,
    #[command(flatten)]
    which: Which,
}

/// Arguments of `aside drop`.
#[derive(clap::Args, Debug)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true).args(["ids", "service", "kind", "all"]))]
pub(crate) struct Drop {
    /// The collector or relay
    name: Name,
    /// These records, by their ids in the list
    #[arg(value_name = "ID")]
    ids: Vec<u64>,
    #[command(flatten)]
    which: Which,
    /// All that lie aside
    #[arg(long, conflicts_with_all = ["ids", "service", "kind"])]
    all: bool,
}

/// Which records are meant.
#[derive(clap::Args, Debug)]
pub(crate) struct Which {
    /// Only of this service; may be given several times
    #[arg(long)]
    service: Vec<String>,
    /// Only of this kind, like segment, log or meter; may be given several times
    #[arg(long, value_parser = record_kind)]
    kind: Vec<String>,
}

/// Runs the verb for a collector or a relay.
pub(super) async fn run(kind: StationKind, verb: Verb, context: &Context) -> anyhow::Result<()> {
    match verb {
        Verb::Ls(ls) => list(kind, ls, context).await,
        Verb::Show(show) => self::show(kind, &show, context).await,
        Verb::Retry(Retry { name, ids, which }) => {
            let choice = choice(kind, &name, ids, which);
            let dealt = context.client().retry_aside(&choice).await.map_err(absent)?;
            told(
                context,
                dealt,
                "put back into the spool",
                "What is refused again lies aside again.",
            )
        }
        Verb::Drop(Drop { name, ids, which, all: _ }) => {
            let choice = choice(kind, &name, ids, which);
            let dealt = context.client().drop_aside(&choice).await.map_err(absent)?;
            told(context, dealt, "thrown away", "")
        }
    }
}

async fn list(kind: StationKind, ls: Ls, context: &Context) -> anyhow::Result<()> {
    let search = AsideSearch {
        station: station(kind, &ls.name),
        service: ls.which.service,
        kind: ls.which.kind,
        after: ls.after,
        limit: Some(usize::from(ls.limit)),
    };
    let lines = context.client().aside(&search).await.map_err(absent)?;
    context.output.show(&lines, |page| {
        let row = |one: &AsideLine| {
            vec![
                one.id.to_string(),
                one.at.map(words::whole_seconds).unwrap_or_default(),
                shown(&one.service),
                one.kind.clone(),
                words::bytes(one.bytes),
                shown(&one.reason),
            ]
        };
        let rows: Vec<Vec<String>> = lines.iter().map(row).collect();
        let header = ["ID", "SINCE", "SERVICE", "KIND", "SIZE", "REASON"];
        page.table(&header, &rows, "Nothing of that kind lies aside.");
        if let (Some(last), true) = (lines.last(), lines.len() == usize::from(ls.limit)) {
            page.line(format!("There may be more: --after {}", last.id));
        }
    })
}

async fn show(kind: StationKind, show: &Show, context: &Context) -> anyhow::Result<()> {
    let wanted = AsideWanted { station: station(kind, &show.name), id: show.id };
    let found = context.client().aside_record(&wanted).await.map_err(absent)?;
    context.output.show(&found, |page| {
        let one = &found.record;
        page.fields(&[
            ("id", one.id.to_string()),
            ("kind", one.kind.clone()),
            ("service", shown(&one.service)),
            ("reporter", shown(&one.reporter)),
            ("accepted", words::whole_seconds(one.received)),
            ("aside since", one.at.map(words::whole_seconds).unwrap_or_default()),
            ("reason", shown(&one.reason)),
            ("size", words::bytes(one.bytes)),
        ]);
        page.line("The message itself, in protobuf: -o json");
    })
}

fn choice(kind: StationKind, name: &Name, ids: Vec<u64>, which: Which) -> AsideChoice {
    AsideChoice { station: station(kind, name), ids, services: which.service, kinds: which.kind }
}

/// What there was none of was asked for in vain.
fn told(context: &Context, dealt: AsideDealt, done: &str, more: &str) -> anyhow::Result<()> {
    if dealt.records == 0 {
        return Err(Failure::new(Exit::NotFound, "nothing of that kind lies aside").into());
    }
    context.output.show(&dealt, |page| {
        let size = words::bytes(dealt.bytes);
        page.line(format!("{} records, {size}, {done}. {more}", dealt.records).trim_end());
    })
}

/// What was asked about is not there.
fn absent(error: ClientError) -> anyhow::Error {
    match error {
        ClientError::Refused(refusal) if refusal.code == RefusalCode::NotFound => {
            Failure::new(Exit::NotFound, refusal.message).remedy(refusal.remedy).into()
        }
        error => error.into(),
    }
}

fn record_kind(word: &str) -> Result<String, String> {
    let words: Vec<&str> = RecordKind::ALL.iter().map(|kind| kind.as_str()).collect();
    if words.contains(&word) {
        return Ok(word.to_owned());
    }
    Err(format!("there is no such kind; choose of {}", words.join(", ")))
}

/// As the node calls it.
fn station(kind: StationKind, name: &Name) -> String {
    format!("{kind}/{name}")
}
