//! `handfast cert renew`: now, instead of at two thirds of a certificate's life.

use handfast_api::admin::{Renew, Renewal, RenewalOutcome};
use handfast_pki::Name;

use crate::commands::Context;
use crate::exit::Exit;
use crate::failure::Failure;

/// Arguments of `handfast cert renew`.
#[derive(clap::Args, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct Arguments {
    /// The credentials to renew
    names: Vec<Name>,
    /// Every credential that handfast keeps on this home
    #[arg(long)]
    all: bool,
}

/// Renews, and says what became of each.
pub(super) async fn run(arguments: Arguments, context: &Context) -> anyhow::Result<()> {
    let request = Renew {
        names: arguments.names.iter().map(ToString::to_string).collect(),
        all: arguments.all,
    };
    let renewals = context.client().renew(&request).await?.renewals;
    context.output.show(&renewals, |page| {
        let rows: Vec<Vec<String>> = renewals.iter().map(row).collect();
        page.table(
            &["NAME", "OUTCOME", "OLD SERIAL", "NEW SERIAL", "NOTE"],
            &rows,
            "Nothing to renew.",
        );
    })?;
    let failed: Vec<&Renewal> =
        renewals.iter().filter(|one| one.outcome == RenewalOutcome::Failed).collect();
    if failed.is_empty() {
        return Ok(());
    }
    let reasons = failed.iter().map(|one| {
        format!("{}: {}", one.name, one.message.as_deref().unwrap_or("no reason given"))
    });
    Err(Failure::new(
        Exit::Failed,
        format!("{} of {} credentials were not renewed", failed.len(), renewals.len()),
    )
    .because(reasons.collect::<Vec<_>>().join("\n"))
    .remedy("the old ones stay in use; the node tries again by itself before they expire")
    .into())
}

fn row(renewal: &Renewal) -> Vec<String> {
    let outcome = match renewal.outcome {
        RenewalOutcome::Failed => "failed",
        RenewalOutcome::Renewed => "renewed",
        RenewalOutcome::Skipped => "skipped",
    };
    let new = renewal.credential.as_ref().and_then(|credential| credential.serial.clone());
    vec![
        renewal.name.clone(),
        outcome.to_owned(),
        renewal.old_serial.clone().unwrap_or_default(),
        new.filter(|_| renewal.outcome == RenewalOutcome::Renewed).unwrap_or_default(),
        renewal.message.clone().unwrap_or_default(),
    ]
}
