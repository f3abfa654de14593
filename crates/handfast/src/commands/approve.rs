//! `handfast approve`: the second person of the two-person rule.

use handfast_api::admin::Approve;

use super::{Context, words};
use crate::clock;
use crate::exit::Exit;
use crate::failure::Failure;

/// Arguments of `handfast approve`.
#[derive(clap::Args, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  handfast approve list\n  handfast approve 5f3c01ab\n\n\
    Where a Site says `two-person: root`, whoever asks to rotate or revoke the root is told such a number, and somebody \
    else types it here within an hour. Users of the machine count by their number, operators by their identity."
)]
pub(crate) struct Arguments {
    /// What to approve, as `handfast approve list` shows it
    id: Option<String>,
    #[command(subcommand)]
    verb: Option<Verb>,
}

/// Verbs of `handfast approve`.
#[derive(clap::Subcommand, Debug)]
enum Verb {
    /// List what waits for a second person
    #[command(after_help = "Example:\n  handfast approve list")]
    List,
}

/// Lists or approves.
pub(crate) async fn run(arguments: Arguments, context: &Context) -> anyhow::Result<()> {
    match (arguments.id, arguments.verb) {
        (Some(id), _) => approve(id, context).await,
        (None, Some(Verb::List)) => list(context).await,
        (None, None) => Err(Failure::new(Exit::Usage, "what is to be approved?")
            .remedy("see what waits with `handfast approve list`, and name one")
            .into()),
    }
}

async fn list(context: &Context) -> anyhow::Result<()> {
    let waiting = context.client().approvals().await?;
    context.output.show(&waiting, |page| {
        let now = clock::now();
        let rows: Vec<Vec<String>> = waiting
            .iter()
            .map(|one| {
                vec![
                    one.id.clone(),
                    one.action.clone(),
                    one.targets.join(", "),
                    one.requested_by.clone(),
                    words::distance(one.expires_at, now),
                ]
            })
            .collect();
        let header = ["ID", "ACTION", "OF", "ASKED BY", "EXPIRES"];
        page.table(&header, &rows, "Nothing waits for a second person.");
    })
}

async fn approve(id: String, context: &Context) -> anyhow::Result<()> {
    let done = context.client().approve(&Approve { id }).await?;
    context.output.show(&done, |page| {
        page.line(format!("{} is done, as {} asked.", done.action, done.requested_by));
        page.fields(&[("approved by", done.approved_by.clone())]);
    })
}
