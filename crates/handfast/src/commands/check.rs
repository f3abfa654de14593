//! `handfast check`: one line for each fact about this home and its node, with a mark, and for what is
//! not well a hint and its page in the book. For people, and for cron by its exit code.
//!
//! [`facts`] gathers, everything below it is a pure function of what was gathered.

mod authority;
mod credentials;
mod facts;
mod home;
mod network;
mod node;
mod report;

use facts::Facts;
use report::Check;

use super::Context;
use crate::exit::Exit;
use crate::failure::Failure;

/// Arguments of `handfast check`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  handfast check\n  handfast check --offline\n  handfast check -o json | jq -r '.checks[] | select(.mark == \"failed\") | .fact'\n  \
    */10 * * * *  handfast check --quiet || mail -s 'handfast on this machine' ops@shop.example\n\n\
    Exits with 0 when nothing failed (warnings may be there), with 1 when something did. With --strict warnings count as failures."
)]
pub(crate) struct Arguments {
    /// Check the home while its node is not meant to run: before the first start, or a backup
    #[arg(long)]
    offline: bool,
    /// Print only what is not well
    #[arg(short, long)]
    quiet: bool,
    /// Let warnings fail the command too
    #[arg(long)]
    strict: bool,
}

/// Prints them.
pub(crate) async fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<()> {
    let facts = Facts::gather(context, arguments.offline).await;
    let view = report::View::of(checks(&facts), arguments.quiet);
    context.output.show(&view, |page| view.draw(page))?;
    let bad = view.failed + if arguments.strict { view.warnings } else { 0 };
    if bad == 0 {
        return Ok(());
    }
    let what = format!("{bad} of {} checks failed", view.total);
    Err(Failure::new(Exit::Failed, what).remedy("each of them says what to do").into())
}

/// Everything there is to say, in the order it is read.
fn checks(facts: &Facts) -> Vec<Check> {
    let mut checks = home::checks(facts);
    checks.extend(node::checks(facts));
    checks.extend(authority::checks(facts));
    checks.extend(credentials::checks(facts));
    checks.extend(network::checks(facts));
    checks
}

#[cfg(test)]
mod tests;
