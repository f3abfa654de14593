//! An act: the root of the trust domain is replaced while requests run; none may fail, no flow may end.

use anyhow::{Context as _, ensure};
use handfast_api::admin::{AuthorityStatus, RotationStatus};
use handfast_api::status::LinkState;

use super::renewal::{judge, wait_for_requests};
use super::shell::Shell;
use super::stage::{Stage, certificates, links};
use super::story::{Broken, Proof, Story};
use super::traffic::Load;

/// Plays it.
pub(super) async fn play(story: &mut Story, stage: &mut Stage) -> Result<(), Broken> {
    story.step("root-rotation", "the root replaced under load", rotate(stage)).await
}

async fn rotate(stage: &mut Stage) -> anyhow::Result<Proof> {
    let load = Load::start(stage.ports.listener);
    wait_for_requests(stage, &load, &load.tally()).await?;
    let old = root(&stage.shell).await?;

    stage.shell.typed_run("--home west ca rotate root").await?;
    stage
        .until("nobody but the agents of shop keeps the old root", async |shell| {
            let waits_for = rotation(shell).await?.waits_for;
            let agents = !waits_for.is_empty() && waits_for.iter().all(|one| one.kind == "agents");
            Ok(agents.then_some(()))
        })
        .await?;
    // They would renew by themselves before their certificate ends; the old root is trusted until then.
    stage.shell.typed_run("enrol east/input/certs/shop-agent --now").await?;
    stage
        .until("the old root is given up", async |shell| {
            Ok((!rotation(shell).await?.under_way).then_some(()))
        })
        .await?;
    let new = root(&stage.shell).await?;
    ensure!(old != new, "west still signs with the root {old}");
    let peer = stage
        .until("east sees west under the new root", async |shell| {
            let links = links(shell, "east").await?;
            Ok(links.into_iter().find(|link| link.state == LinkState::Up).and_then(|up| up.peer))
        })
        .await?;

    // What runs now has only the new root to stand on.
    wait_for_requests(stage, &load, &load.tally()).await?;
    let tally = load.finish().await;
    judge(&tally)?;
    Ok(Proof::new(format!("{} requests, {} failed", tally.kept + tally.fresh, tally.failed))
        .fact("on kept connections", tally.kept)
        .fact("on new connections", tally.fresh)
        .fact("failed", tally.failed)
        .fact("old root", old)
        .fact("new root", new)
        .fact("west shows east", format!("serial {}, issued by {}", peer.serial, peer.issuer)))
}

/// How far the rotation of the root is.
async fn rotation(shell: &Shell) -> anyhow::Result<RotationStatus> {
    let shown = shell.run("--home west ca status root -o json").await?.succeeded()?;
    let authorities: Vec<AuthorityStatus> = shown.json()?;
    let root = authorities.into_iter().find(|one| one.role == "root");
    root.and_then(|root| root.rotation).context("west shows no rotation of its root")
}

/// The serial number of the root that west signs with.
async fn root(shell: &Shell) -> anyhow::Result<String> {
    let listed = certificates(shell, "west").await?;
    let root = listed.into_iter().find(|one| one.name == "handfast-root");
    root.and_then(|root| root.serial).context("west lists no root")
}
