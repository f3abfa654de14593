//! An act: every certificate of both sites is renewed while requests run; none may fail.

use anyhow::ensure;
use handfast_api::admin::{Renewal, RenewalOutcome};
use handfast_api::status::{CredentialStatus, LinkState, LinkStatus};

use super::shell::Shell;
use super::stage::{Stage, certificates, links};
use super::story::{Broken, Proof, Story};
use super::traffic::{Load, Tally};
use crate::exit::Exit;
use crate::failure::Failure;

/// Plays it.
pub(super) async fn play(story: &mut Story, stage: &mut Stage) -> Result<(), Broken> {
    story.step("renewal", "every certificate of both sites renewed under load", renew(stage)).await
}

async fn renew(stage: &mut Stage) -> anyhow::Result<Proof> {
    let load = Load::start(stage.ports.listener);
    wait_for_requests(stage, &load, &load.tally()).await?;

    let west = renew_all(&stage.shell, "west").await?;
    let east = renew_all(&stage.shell, "east").await?;
    stage
        .until("every new certificate is in use", async |shell| {
            let shown = shows(&certificates(shell, "west").await?, &west)
                && shows(&certificates(shell, "east").await?, &east);
            Ok(shown.then_some(()))
        })
        .await?;
    let (at_east, at_west) = stage
        .until("the link's connections have moved to the new certificates", async |shell| {
            let at_east = moved(links(shell, "east").await?, &west);
            let at_west = moved(links(shell, "west").await?, &east);
            Ok(at_east.zip(at_west))
        })
        .await?;

    // What runs now runs on the new certificates alone.
    wait_for_requests(stage, &load, &load.tally()).await?;
    let tally = load.finish().await;
    judge(&tally)?;
    Ok(Proof::new(format!("{} requests, {} failed", tally.kept + tally.fresh, tally.failed))
        .fact("on kept connections", tally.kept)
        .fact("on new connections", tally.fresh)
        .fact("failed", tally.failed)
        .fact("certificates renewed", west.len() + east.len())
        .fact("west now shows", shown(&at_east))
        .fact("east now shows", shown(&at_west))
        .log(serials("west", &west).chain(serials("east", &east))))
}

/// Renews everything of one home; every certificate must come out with another serial number.
async fn renew_all(shell: &Shell, home: &str) -> anyhow::Result<Vec<New>> {
    let line = format!("--home {home} cert renew --all");
    shell.note(format!("handfast {line}"));
    let renewals: Vec<Renewal> =
        shell.run(&format!("{line} -o json")).await?.succeeded()?.json()?;
    let new: Vec<New> = renewals
        .into_iter()
        .filter(|one| one.outcome == RenewalOutcome::Renewed)
        .filter_map(New::of)
        .collect();
    ensure!(!new.is_empty(), "{home} had nothing to renew");
    for one in &new {
        ensure!(
            one.old.as_ref() != Some(&one.serial),
            "{} of {home} kept its serial number",
            one.name
        );
    }
    Ok(new)
}

/// A certificate that took the place of another.
struct New {
    name: String,
    old: Option<String>,
    serial: String,
}

impl New {
    fn of(renewal: Renewal) -> Option<Self> {
        let serial = renewal.credential?.serial?;
        Some(Self { name: renewal.name, old: renewal.old_serial, serial })
    }
}

fn serials<'a>(home: &'a str, all: &'a [New]) -> impl Iterator<Item = String> + 'a {
    let short = |serial: &str| serial.chars().take(12).collect::<String>();
    all.iter().map(move |one| {
        let old = one.old.as_deref().map(short).unwrap_or_default();
        format!("{home} {}: {old}… -> {}…", one.name, short(&one.serial))
    })
}

/// Whether the list of a home shows every new certificate.
fn shows(list: &[CredentialStatus], new: &[New]) -> bool {
    new.iter().all(|one| {
        list.iter().any(|listed| {
            listed.name == one.name && listed.serial.as_deref() == Some(one.serial.as_str())
        })
    })
}

pub(super) fn judge(tally: &Tally) -> anyhow::Result<()> {
    if tally.failed == 0 {
        return Ok(());
    }
    let failure = Failure::new(
        Exit::Failed,
        format!("{} of {} requests failed", tally.failed, tally.kept + tally.fresh + tally.failed),
    )
    .because(tally.first_failure.clone().unwrap_or_default());
    Err(failure.into())
}

/// Waits until both kinds of requests have gone through a good number of times since `since`.
pub(super) async fn wait_for_requests(
    stage: &mut Stage,
    load: &Load,
    since: &Tally,
) -> anyhow::Result<()> {
    stage
        .until("requests go through", async |_| {
            let now = load.tally();
            let enough = now.kept >= since.kept + ENOUGH && now.fresh >= since.fresh + ENOUGH;
            // A failure is judged at the end; waiting on would only hide it.
            Ok((enough || now.failed > 0).then_some(()))
        })
        .await
}

/// The link whose peer shows one of the new certificates.
fn moved(links: Vec<LinkStatus>, new: &[New]) -> Option<LinkStatus> {
    links.into_iter().find(|link| {
        let serial = link.peer.as_ref().map(|peer| &peer.serial);
        link.state == LinkState::Up && new.iter().any(|one| Some(&one.serial) == serial)
    })
}

fn shown(link: &LinkStatus) -> String {
    let Some(peer) = &link.peer else { return String::new() };
    let until = peer.not_after.map(|end| end.to_string()).unwrap_or_default();
    format!("serial {}, until {until}", peer.serial)
}

/// Requests of each kind before, and after, the renewal.
const ENOUGH: u64 = 50;
