//! `handfast cert list --issued`: what the site has signed, whoever holds it. From the running node, or from the ledger of
//! the home when none runs.

use std::time::Duration;

use handfast_api::admin::{ClientError, FindIssued, IssuedView};
use handfast_pki::{Serial, SpiffeId};
use jiff::Timestamp;

use crate::clock;
use crate::commands::bound::Bound;
use crate::commands::{Context, words};
use crate::exit::Exit;
use crate::node::ledger;
use crate::output::Page;

/// Which of them.
#[derive(clap::Args, Debug)]
pub(super) struct Which {
    /// What this site has issued instead, whoever holds it, the newest first
    #[arg(long, conflicts_with = "revoked")]
    issued: bool,
    /// With --issued: only the one with this serial number in hex
    #[arg(long, value_name = "SERIAL", requires = "issued")]
    serial: Option<Serial>,
    /// With --issued: only what proves this identity
    #[arg(long, value_name = "SPIFFE-ID", requires = "issued")]
    identity: Option<SpiffeId>,
    /// With --issued: only what has exactly this common name, DNS name or address
    #[arg(long, value_name = "NAME", requires = "issued")]
    name: Option<String>,
    /// With --issued: also what has expired
    #[arg(long, requires = "issued")]
    expired: bool,
    /// With --issued: at most so many
    #[arg(long, value_name = "COUNT", requires = "issued", default_value_t = 50)]
    limit: u32,
}

impl Which {
    pub(super) fn wanted(&self) -> bool {
        self.issued
    }
}

/// Prints them. With `expiring` it exits with 9 if there is none.
pub(super) async fn run(
    which: &Which,
    expiring: Option<Duration>,
    context: &Context,
) -> anyhow::Result<Exit> {
    let now = clock::now();
    let horizon = expiring.map(|within| now.checked_add(within).unwrap_or(Timestamp::MAX));
    let mut search = FindIssued {
        serial: which.serial.as_ref().map(ToString::to_string),
        identity: which.identity.as_ref().map(ToString::to_string),
        name: which.name.clone(),
        expires_before: horizon,
        expired: which.expired.then_some(true),
        ..FindIssued::default()
    };
    let bound = Bound::of(which.limit);
    let page = async |wanted: u32, last: Option<&IssuedView>| {
        search.limit = Some(wanted);
        search.before = last.map(|one| one.number);
        Ok(match context.client().issued(&search).await {
            Err(ClientError::NoNode { .. }) => {
                context.home_is_there()?;
                ledger::issued_offline(&context.home, &search)?
            }
            answer => answer?,
        })
    };
    let mut found = bound.newest_first(FindIssued::MOST, page).await?;
    let note = bound.cut(&mut found).note("newest", "--serial, --identity, --name or --expiring");
    context.output.show_noting(&found, note.as_deref(), |page| draw(page, &found, now))?;
    Ok(if expiring.is_some() && found.is_empty() { Exit::No } else { Exit::Success })
}

fn draw(page: &mut Page, found: &[IssuedView], now: Timestamp) {
    let rows: Vec<Vec<String>> = found
        .iter()
        .map(|one| {
            vec![
                one.serial.clone(),
                one.identity.clone().unwrap_or_else(|| one.names.join(", ")),
                one.profile.clone(),
                one.issuer.clone().unwrap_or_default(),
                words::distance(one.not_before, now),
                words::distance(one.not_after, now),
                state(one, now),
            ]
        })
        .collect();
    let header = ["SERIAL", "IDENTITY", "PROFILE", "ISSUER", "VALID FROM", "EXPIRES", "STATE"];
    page.table(&header, &rows, "Nothing that fits was issued here.");
}

fn state(one: &IssuedView, now: Timestamp) -> String {
    match &one.revocation_reason {
        Some(reason) => format!("revoked: {reason}"),
        None if one.not_after <= now => "expired".to_owned(),
        None if one.enrolment_ended => "valid, not renewed".to_owned(),
        None => "valid".to_owned(),
    }
}
