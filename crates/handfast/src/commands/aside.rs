//! `handfast collector aside` and `handfast relay aside`: what a backend refused for good, looked at, sent again or
//! thrown away.

mod place;

use std::path::PathBuf;

use handfast_api::resources::Quantity;
use handfast_api::telemetry::{AsideDealt, AsideLine, StationKind};
use handfast_telemetry::RecordKind;

use self::place::{Place, Records};
use super::bound::{Bound, Cut};
use super::kept::shown;
use super::lone::word;
use super::{Context, words};
use crate::exit::Exit;
use crate::failure::Failure;

/// Verbs of `aside`.
#[derive(clap::Subcommand, Debug)]
pub(crate) enum Verb {
    /// List the records that lie aside, with the reason, the oldest first
    #[command(
        visible_alias = "list",
        after_help = "Examples:\n  handfast collector aside ls oap\n  handfast relay aside ls shop --service bank -o json\n  \
        handfast relay aside ls --data /var/lib/relay"
    )]
    Ls(Ls),
    /// See one record: who said it, when, and what the backend answered
    #[command(
        after_help = "Examples:\n  handfast collector aside show oap 1048640\n  handfast relay aside show shop 64 -o json\n  \
        handfast relay aside show --data /var/lib/relay 64"
    )]
    Show(Show),
    /// Send records again: all that lie aside, or those that are chosen
    #[command(
        after_help = "Examples:\n  handfast collector aside retry oap\n  handfast collector aside retry oap --service bank\n  \
        handfast relay aside retry shop 64 1048640\n  handfast relay aside retry --data /var/lib/relay\n\n\
        They go into the spool first and leave this place then: nothing is lost whatever happens meanwhile, and what is \
        refused again lies aside again. In a directory (--data) that is done while nobody runs on it; they are sent when it \
        runs again."
    )]
    Retry(Retry),
    /// Throw records away
    #[command(
        after_help = "Examples:\n  handfast collector aside drop oap 1048640\n  handfast collector aside drop oap --kind log\n  \
        handfast relay aside drop shop --all\n  handfast relay aside drop --data /var/lib/relay --service bank\n\n\
        What is to go has to be said: ids, --service, --kind or --all. In a directory (--data) that is done while nobody \
        runs on it."
    )]
    Drop(Drop),
}

/// Arguments of `aside ls`.
#[derive(clap::Args, Debug)]
pub(crate) struct Ls {
    #[command(flatten)]
    whose: Whose,
    #[command(flatten)]
    which: Which,
    /// Only what came after the record with this id: the next page
    #[arg(long, value_name = "ID")]
    after: Option<u64>,
    /// How many
    #[arg(long, default_value = "100", value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
}

/// Arguments of `aside show`.
#[derive(clap::Args, Debug)]
pub(crate) struct Show {
    #[command(flatten)]
    whose: Whose,
    /// The record, by its id in the list
    id: Option<u64>,
}

/// Arguments of `aside retry`.
#[derive(clap::Args, Debug)]
pub(crate) struct Retry {
    #[command(flatten)]
    whose: Whose,
    /// Only these records, by their ids in the list
    #[arg(value_name = "ID")]
    ids: Vec<u64>,
    #[command(flatten)]
    which: Which,
    /// With --data: how much may wait in the spool, as `run` is told by --spool-size or --max-size
    #[arg(long, value_name = "SIZE", default_value = "10Gi", requires = "data")]
    spool_size: Quantity,
}

/// Arguments of `aside drop`.
#[derive(clap::Args, Debug)]
pub(crate) struct Drop {
    #[command(flatten)]
    whose: Whose,
    /// These records, by their ids in the list
    #[arg(value_name = "ID")]
    ids: Vec<u64>,
    #[command(flatten)]
    which: Which,
    /// All that lie aside
    #[arg(long, conflicts_with_all = ["ids", "service", "kind"])]
    all: bool,
}

/// At whom they lie.
#[derive(clap::Args, Debug)]
struct Whose {
    /// The collector or relay; none with --data
    #[arg(value_name = "NAME", required_unless_present = "data")]
    name: Option<String>,
    /// Look into the directory of one that runs by itself, instead of asking a node
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

impl Whose {
    /// Where that is, and the word that is no name but the first id: with a directory nobody is named.
    fn place(self, kind: StationKind) -> Result<(Place, Option<u64>), Failure> {
        let first = self.name.unwrap_or_default();
        match self.data {
            None => match first.parse() {
                Ok(name) => Ok((Place::station(kind, &name), None)),
                Err(error) => {
                    let what = format!("`{}` is no name of a {}", shown(&first), word(kind));
                    Err(Failure::new(Exit::Usage, what).because(error))
                }
            },
            Some(data) if first.is_empty() => Ok((Place::directory(kind, data)?, None)),
            Some(data) => {
                let id = first.parse().map_err(|_| {
                    Failure::new(Exit::Usage, format!("`{}` is no id of a record", shown(&first)))
                        .because(
                            "with --data it is known whose they are: no name is given, only ids",
                        )
                        .remedy("leave the name away, or --data")
                })?;
                Ok((Place::directory(kind, data)?, Some(id)))
            }
        }
    }
}

/// Which of them are meant.
#[derive(clap::Args, Debug)]
pub(crate) struct Which {
    /// Only of this service; may be given several times
    #[arg(long)]
    service: Vec<String>,
    /// Only of this kind, like segment, log or meter; may be given several times
    #[arg(long, value_parser = record_kind)]
    kind: Vec<String>,
}

impl Which {
    fn with(self, ids: Vec<u64>) -> Records {
        Records { ids, services: self.service, kinds: self.kind }
    }
}

impl Records {
    fn is_everything(&self) -> bool {
        self.ids.is_empty() && self.services.is_empty() && self.kinds.is_empty()
    }
}

/// Runs the verb for a collector or a relay.
pub(super) async fn run(kind: StationKind, verb: Verb, context: &Context) -> anyhow::Result<()> {
    match verb {
        Verb::Ls(ls) => list(kind, ls, context).await,
        Verb::Show(show) => self::show(kind, show, context).await,
        Verb::Retry(Retry { whose, ids, which, spool_size }) => {
            let (place, first) = whose.place(kind)?;
            let records = which.with(first.into_iter().chain(ids).collect());
            let dealt = place.retry(context, records, spool_size.bytes()).await?;
            let more = match place {
                Place::Directory { .. } => format!(
                    "Sent when the {} runs; what is refused again lies aside again.",
                    word(kind)
                ),
                Place::Station(_) => "What is refused again lies aside again.".to_owned(),
            };
            told(context, dealt, "put back into the spool", &more)
        }
        Verb::Drop(Drop { whose, ids, which, all }) => {
            let (place, first) = whose.place(kind)?;
            let records = which.with(first.into_iter().chain(ids).collect());
            if all != records.is_everything() {
                return Err(Failure::new(Exit::Usage, "what is to be thrown away has to be said")
                    .remedy("give ids, --service or --kind; or --all and none of these")
                    .into());
            }
            let dealt = place.discard(context, records).await?;
            told(context, dealt, "thrown away", "")
        }
    }
}

async fn list(kind: StationKind, ls: Ls, context: &Context) -> anyhow::Result<()> {
    let (place, id) = ls.whose.place(kind)?;
    if id.is_some() {
        return Err(Failure::new(Exit::Usage, "a list is of no id")
            .remedy("`aside show` shows one record; `--after ID` lists what came after it")
            .into());
    }
    let bound = Bound::of_pages(ls.limit, PAGE);
    let mut lines = place.list(context, ls.which.with(Vec::new()), ls.after, bound.asked()).await?;
    let cut = bound.cut(&mut lines);
    let next = lines.last().filter(|_| cut != Cut::Nothing);
    let note = next.map(|last| {
        let (count, id) = (lines.len(), last.id);
        format!(
            "showing the oldest {count}, and there may be more: see the next ones with --after {id}"
        )
    });
    context.output.show_noting(&lines, note.as_deref(), |page| {
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
    })
}

async fn show(kind: StationKind, show: Show, context: &Context) -> anyhow::Result<()> {
    let (place, first) = show.whose.place(kind)?;
    let ((Some(id), None) | (None, Some(id))) = (first, show.id) else {
        return Err(Failure::new(Exit::Usage, "one record is shown, by its id")
            .remedy(format!("`handfast {} aside ls` lists them with their ids", word(kind)))
            .into());
    };
    let found = place.one(context, id).await?;
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

/// What there was none of was asked for in vain.
fn told(context: &Context, dealt: AsideDealt, done: &str, more: &str) -> anyhow::Result<()> {
    if dealt.records == 0 {
        return Err(Failure::new(Exit::NotFound, "nothing of that kind lies aside").into());
    }
    context.output.show(&dealt, |page| {
        let size = words::bytes(dealt.bytes);
        let count = match dealt.records {
            1 => "1 record".to_owned(),
            many => format!("{many} records"),
        };
        page.line(format!("{count}, {size}, {done}. {more}").trim_end());
    })
}

fn record_kind(word: &str) -> Result<String, String> {
    let words: Vec<&str> = RecordKind::ALL.iter().map(|kind| kind.as_str()).collect();
    if words.contains(&word) {
        return Ok(word.to_owned());
    }
    Err(format!("there is no such kind; choose of {}", words.join(", ")))
}

/// What is listed at most at once.
const PAGE: usize = 1000;
