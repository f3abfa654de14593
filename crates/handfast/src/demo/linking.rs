//! First act: two sites, two nodes, a token, a link, a service that is reached through it.

use anyhow::{Context as _, ensure};
use handfast_api::status::{LinkState, LinkStatus, ListenerStatus, NodeState, NodeStatus};

use super::service::{BULK, GREETING};
use super::stage::{Stage, links};
use super::story::{Broken, Proof, Story};
use super::traffic::Connection;

/// Plays it.
pub(super) async fn play(story: &mut Story, stage: &mut Stage) -> Result<(), Broken> {
    story.step("site-west", "site west", create_west(stage)).await?;
    story.step("site-east", "site east", create_east(stage)).await?;
    story.step("node-west", "node west", start_node(stage, "west")).await?;
    story.step("node-east", "node east", start_node(stage, "east")).await?;
    story.step("token-issue", "west issues a token", issue(stage)).await?;
    story.step("token-redeem", "east redeems it", redeem(stage)).await?;
    story.step("link", "the link", link(stage)).await?;
    story.step("service", "an HTTP service at west", service(stage)).await?;
    story.step("connector", "a connector at west", connector(stage)).await?;
    story.step("listener", "a listener at east", listener(stage)).await?;
    story.step("traffic", "requests from east", traffic(stage)).await
}

async fn create_west(stage: &Stage) -> anyhow::Result<Proof> {
    let (link, grant) = (stage.ports.link, stage.ports.grant);
    let line = format!(
        "--home west site create west --trust-domain {TRUST_DOMAIN} --enable-link-access --link-host 127.0.0.1 \
         --link-port {link} --grant-port {grant}"
    );
    stage.shell.typed_run(&line).await?;
    Ok(Proof::new(format!(
        "founds the trust domain {TRUST_DOMAIN}, takes links at 127.0.0.1:{link}"
    )))
}

async fn create_east(stage: &Stage) -> anyhow::Result<Proof> {
    stage.shell.typed_run("--home east site create east").await?;
    Ok(Proof::new("only links outwards: no open port, no trust in anybody yet"))
}

/// Starts the node of a home, and waits until it is ready.
pub(super) async fn start_node(stage: &mut Stage, home: &'static str) -> anyhow::Result<Proof> {
    stage.shell.note(format!("handfast --home {home} run &"));
    let pid = stage.start(home, &format!("--home {home} run"))?;
    stage.shell.typed_run(&format!("--home {home} status --wait 10s")).await?;
    stage
        .until(&format!("node {home} is ready"), async |shell| {
            let ended = shell.run(&format!("--home {home} status -o json")).await?;
            if !ended.is_success() {
                return Ok(None);
            }
            let status: NodeStatus = ended.json()?;
            Ok((status.state == NodeState::Ready).then_some(()))
        })
        .await?;
    Ok(Proof::new(format!("process {pid}, own home, own keys")))
}

async fn issue(stage: &mut Stage) -> anyhow::Result<Proof> {
    let line = "--home west token issue west.token";
    stage.shell.typed_run(line).await?;
    Ok(Proof::new("one redemption, 15 minutes; west keeps only a hash of its code"))
}

async fn redeem(stage: &Stage) -> anyhow::Result<Proof> {
    stage.shell.typed_run("--home east token redeem west.token").await?;
    Ok(Proof::new("east made a key, west signed its request: no private key travelled"))
}

async fn link(stage: &mut Stage) -> anyhow::Result<Proof> {
    stage.shell.note("handfast --home east link status".to_owned());
    let up =
        stage.until("east is linked to west", async |shell| first_up(shell, "east").await).await?;
    let far =
        stage.until("west sees the link", async |shell| first_up(shell, "west").await).await?;
    let peer = up.peer.context("east does not say who it is linked to")?;
    let session = up.session.context("east does not say how its link is protected")?;
    let far_peer = far.peer.context("west does not say who linked to it")?;
    let identity = peer.identity.unwrap_or_default();
    let far_identity = far_peer.identity.unwrap_or_default();
    ensure!(
        identity == format!("spiffe://{TRUST_DOMAIN}/site/west"),
        "east is linked to `{identity}`"
    );
    ensure!(
        far_identity == format!("spiffe://{TRUST_DOMAIN}/site/east"),
        "`{far_identity}` linked to west"
    );
    ensure!(session.version == "TLSv1.3", "the link speaks {}", session.version);
    ensure!(session.group == "X25519MLKEM768", "the link's key exchange is {}", session.group);
    Ok(Proof::new("both proved who they are")
        .fact("east sees", identity)
        .fact("west sees", far_identity)
        .fact("protocol", session.version)
        .fact("cipher", session.cipher)
        .fact("key exchange", session.group)
        .fact("fingerprint", peer.fingerprint)
        .fact("issuer", peer.issuer)
        .fact("expires", peer.not_after.map(|end| end.to_string()).unwrap_or_default()))
}

async fn service(stage: &mut Stage) -> anyhow::Result<Proof> {
    let port = stage.ports.service;
    stage.shell.note(format!(
        "# any HTTP service will do: mkdir -p www; python3 -m http.server {port} --bind 127.0.0.1 --directory www &"
    ));
    let pid = stage.start("service", &format!("demo-service {port}"))?;
    stage.until("the service answers", async |_| Ok(Connection::open(port).await.ok())).await?;
    Ok(Proof::new(format!("process {pid} on 127.0.0.1:{port}, plain HTTP, knows nothing of TLS")))
}

async fn connector(stage: &Stage) -> anyhow::Result<Proof> {
    let port = stage.ports.service;
    stage
        .shell
        .typed_run(&format!("--home west connector create payments {port} --host 127.0.0.1"))
        .await?;
    Ok(Proof::new(format!("routing key payments is 127.0.0.1:{port}")))
}

async fn listener(stage: &mut Stage) -> anyhow::Result<Proof> {
    let port = stage.ports.listener;
    stage
        .shell
        .typed_run(&format!("--home east listener create payments {port} --host 127.0.0.1"))
        .await?;
    stage
        .until("east's listener finds west's connector", async |shell| {
            let listeners: Vec<ListenerStatus> = shell
                .run("--home east listener status payments -o json")
                .await?
                .succeeded()?
                .json()?;
            Ok(listeners.into_iter().find(|one| one.has_matching_connector && one.fault.is_none()))
        })
        .await?;
    Ok(Proof::new(format!("127.0.0.1:{port} leads to payments, wherever it is")))
}

async fn traffic(stage: &mut Stage) -> anyhow::Result<Proof> {
    let port = stage.ports.listener;
    stage.shell.note(format!("curl http://127.0.0.1:{port}/"));
    let mut connection = Connection::open(port).await?;
    let greeting = connection.fetch("/").await?;
    ensure!(greeting == GREETING.as_bytes(), "the answer is not what the service said");
    let bulk = connection.fetch("/bulk").await?;
    ensure!(bulk.len() == BULK, "{} of {BULK} bytes arrived", bulk.len());
    let (link, carried) = stage
        .until("the link has counted the bytes", async |shell| {
            let link = first_up(shell, "east").await?;
            Ok(link
                .map(|link| (link.bytes_in + link.bytes_out, link))
                .filter(|(carried, _)| *carried >= BULK as u64)
                .map(|(carried, link)| (link, carried)))
        })
        .await?;
    Ok(Proof::new(format!("\"{}\"", GREETING.trim_end()))
        .fact("asked at", format!("http://127.0.0.1:{port}/"))
        .fact("bytes carried", carried)
        .fact("over link", link.name))
}

/// The first link of a home that is up.
async fn first_up(shell: &super::shell::Shell, home: &str) -> anyhow::Result<Option<LinkStatus>> {
    Ok(links(shell, home).await?.into_iter().find(|link| link.state == LinkState::Up))
}

/// The trust domain of the demo.
pub(super) const TRUST_DOMAIN: &str = "demo.example";
