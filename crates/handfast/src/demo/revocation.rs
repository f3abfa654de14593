//! Last act: a third site joins, is revoked in the middle of a conversation, and is cut off; the others are not. Then
//! west's audit log proves that it is whole.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use handfast_api::status::{LinkState, ListenerStatus};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::linking::{TRUST_DOMAIN, start_node};
use super::service::GREETING;
use super::stage::{Stage, links};
use super::story::{Broken, Proof, Story};
use super::traffic::Connection;

/// Plays it.
pub(super) async fn play(story: &mut Story, stage: &mut Stage) -> Result<(), Broken> {
    story.step("site-branch", "a third site, branch", join(stage)).await?;
    story.step("revocation", "branch's identity revoked", revoke(stage)).await?;
    story.step("audit", "west's audit log", audit(stage)).await
}

async fn join(stage: &mut Stage) -> anyhow::Result<Proof> {
    let port = stage.ports.branch;
    stage.shell.typed_run("--home branch site create branch").await?;
    start_node(stage, "branch").await?;
    stage.shell.typed_run("--home west token issue branch.token").await?;
    stage.shell.typed_run("--home branch token redeem branch.token").await?;
    let line = format!("--home branch listener create payments {port} --host 127.0.0.1");
    stage.shell.typed_run(&line).await?;
    stage
        .until("branch's listener finds west's connector", async |shell| {
            let listeners: Vec<ListenerStatus> = shell
                .run("--home branch listener status payments -o json")
                .await?
                .succeeded()?
                .json()?;
            Ok(listeners.into_iter().find(|one| one.has_matching_connector && one.fault.is_none()))
        })
        .await?;
    let greeting = Connection::open(port).await?.fetch("/").await?;
    ensure!(greeting == GREETING.as_bytes(), "the answer is not what the service said");
    Ok(Proof::new(format!("linked, and reaches payments at 127.0.0.1:{port}")))
}

async fn revoke(stage: &mut Stage) -> anyhow::Result<Proof> {
    let identity = format!("spiffe://{TRUST_DOMAIN}/site/branch");
    let mut flow = OpenFlow::through(stage.ports.branch).await?;
    let line =
        format!("--home west cert revoke --identity {identity} --reason key-compromise --yes");
    stage.shell.note(format!("handfast {line}"));
    let began = Instant::now();
    let (ended, cut) = tokio::join!(stage.shell.run(&line), flow.ends());
    ended?.succeeded()?;
    let cut = cut?.duration_since(began);

    let fault = stage
        .until("branch is told why it is refused", async |shell| {
            let links = links(shell, "branch").await?;
            let refused = links.into_iter().find(|link| link.state != LinkState::Up);
            Ok(refused.and_then(|link| link.fault).filter(|fault| fault.code == "revoked"))
        })
        .await?;
    let greeting = Connection::open(stage.ports.listener).await?.fetch("/").await?;
    ensure!(greeting == GREETING.as_bytes(), "east's answer is not what the service said");
    let milliseconds = u64::try_from(cut.as_millis()).unwrap_or(u64::MAX);
    Ok(Proof::new(format!(
        "its open connection was cut {milliseconds} ms after the command was typed; east's traffic goes on"
    ))
    .fact("revoked", identity)
    .fact("cut after ms", milliseconds)
    .fact("branch now reads", fault.message))
}

async fn audit(stage: &mut Stage) -> anyhow::Result<Proof> {
    stage.shell.note("handfast --home west audit verify".to_owned());
    let verified: Value =
        stage.shell.run("--home west audit verify -o json").await?.succeeded()?.json()?;
    let rows = verified["rows"].as_u64().context("`audit verify` does not say how many rows")?;
    ensure!(verified["whole"] == true && rows > 0, "`audit verify` says {verified}");
    Ok(Proof::new(format!("{rows} entries, each where it was written, under a signed head"))
        .fact("entries", rows))
}

/// A connection in the middle of a request that its server never ends.
struct OpenFlow(TcpStream);

impl OpenFlow {
    /// Asks something and reads the beginning of the answer: the flow stands at both ends.
    async fn through(port: u16) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: payments\r\n\r\n").await?;
        let mut first = [0; 1];
        let read = tokio::time::timeout(LIMIT, stream.read_exact(&mut first)).await;
        read.context("no answer through branch's listener")??;
        Ok(Self(stream))
    }

    /// Waits until the connection ends, however it does.
    async fn ends(&mut self) -> anyhow::Result<Instant> {
        let mut rest = [0; 4096];
        let end = async {
            loop {
                // A reset is an end as good as any.
                match self.0.read(&mut rest).await {
                    Ok(0) | Err(_) => return Instant::now(),
                    Ok(_) => {}
                }
            }
        };
        tokio::time::timeout(LIMIT, end)
            .await
            .context("branch's connection still stands after the revocation")
    }
}

/// How long the answer, and the cut, may take; a cut within a second is the claim of a bench.
const LIMIT: Duration = Duration::from_secs(10);
