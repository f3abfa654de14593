//! `handfast cert revoke`: nobody accepts it any more, here at once and elsewhere within a second.

use std::io::{BufRead as _, IsTerminal as _};

use handfast_api::admin::{ClientError, Revoke, Revoked, RevokedCertificate};
use handfast_pki::{RevocationReason, Serial, SpiffeId};

use crate::clock;
use crate::commands::{Context, words};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::node;
use crate::output::Page;

/// Arguments of `handfast cert revoke`.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    #[command(flatten)]
    what: What,
    /// Only one that this CA of the home signed: its name, or the SHA-256 of its public key in hex
    #[arg(long, value_name = "NAME|KEY ID", requires = "serial")]
    issuer: Option<String>,
    /// The issuer signed it elsewhere, before it was imported, say: revoke it although the ledger does not know it
    #[arg(long, requires = "issuer")]
    not_issued_here: bool,
    /// Why: key-compromise, ca-compromise, affiliation-changed, superseded, cessation-of-operation, privilege-withdrawn or unspecified
    #[arg(long, value_name = "REASON")]
    reason: RevocationReason,
    /// Words for the audit log
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// What to revoke.
#[derive(clap::Args, Debug)]
#[group(required = true, multiple = false)]
struct What {
    /// One certificate, by its serial number in hex
    #[arg(long, value_name = "SERIAL")]
    serial: Option<Serial>,
    /// Everything of an identity, and its enrolment: nothing is renewed under it any more
    #[arg(long, value_name = "SPIFFE ID")]
    identity: Option<SpiffeId>,
    /// Everything of a credential of this home or, if there is none, issued under this name, such as a site's
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

/// Revokes, and says what was revoked and what that did.
pub(super) async fn run(arguments: Arguments, context: &Context) -> anyhow::Result<()> {
    let Arguments { what, issuer, not_issued_here, reason, note, yes } = arguments;
    let request = Revoke {
        serial: what.serial.as_ref().map(ToString::to_string),
        issuer,
        not_issued_here,
        identity: what.identity.as_ref().map(ToString::to_string),
        name: what.name,
        reason: reason.to_string(),
        note,
    };
    if !yes && context.output.is_interactive() && std::io::stdin().is_terminal() {
        confirm(&request, context)?;
    }
    let (revoked, runs) = match context.client().revoke(&request).await {
        // What was never started has issued nothing.
        Err(ClientError::NoNode { .. }) if context.home.state_db.exists() => {
            (node::revoke_offline(&context.home, &request).await?, false)
        }
        answer => (answer?, true),
    };
    context.output.show(&revoked, |page| {
        draw(page, &revoked, runs);
        if request.not_issued_here {
            page.line(
                "The ledger knows nothing of it, neither whose it is nor when it ends: it stays revoked, and listed, for as long as its \
                 issuer's key answers for what it signed.",
            );
        }
    })
}

/// There is no way back, so a person is asked once.
fn confirm(request: &Revoke, context: &Context) -> anyhow::Result<()> {
    let what = [&request.serial, &request.identity, &request.name];
    let mut what = what.into_iter().flatten().next().cloned().unwrap_or_default();
    if let (Some(issuer), true) = (&request.issuer, request.not_issued_here) {
        what = format!(
            "serial {what} of {issuer}, which was not issued here and of which nothing is known"
        );
    }
    context.output.say(&format!(
        "Revoke {what} ({})? Its connections are cut, and this cannot be undone. Type yes:",
        request.reason
    ))?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    if answer.trim() == "yes" {
        return Ok(());
    }
    Err(Failure::new(Exit::Usage, "nothing was revoked")
        .because("the question was not answered with yes")
        .remedy("type yes, or give --yes")
        .into())
}

fn draw(page: &mut Page, revoked: &Revoked, runs: bool) {
    table(page, &revoked.certificates, "");
    let new = revoked.certificates.iter().filter(|one| !one.already).count();
    page.line(format!(
        "{} revoked, {} ended, {} of this node cut.",
        words::several(new, "certificate"),
        words::several(revoked.enrolments_ended, "enrolment"),
        words::several(revoked.connections_cut, "connection")
    ));
    if !runs {
        page.line(
            "The node does not run: it refuses them, and tells other sites, from its start on.",
        );
    } else if let Some(unknown) = &revoked.network_unknown {
        page.line(format!(
            "It is not known what else was cut and whom it tells ({unknown}): see `handfast status`."
        ));
    } else if revoked.sites_told.is_empty() {
        page.line("No site is linked now; each is told when it links.");
    } else {
        page.line(format!("Told: {}.", revoked.sites_told.join(", ")));
    }
}

/// Revoked certificates as a table.
pub(super) fn table(page: &mut Page, certificates: &[RevokedCertificate], empty: &str) {
    let now = clock::now();
    let rows: Vec<Vec<String>> = certificates
        .iter()
        .map(|one| {
            vec![
                one.serial.clone(),
                one.identity.clone().unwrap_or_default(),
                one.reason.clone(),
                words::distance(one.at, now),
                one.not_after.map(|end| words::distance(end, now)).unwrap_or_default(),
            ]
        })
        .collect();
    page.table(&["SERIAL", "IDENTITY", "REASON", "REVOKED", "EXPIRES"], &rows, empty);
}
