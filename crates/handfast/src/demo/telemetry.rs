//! Third act: a small program at east speaks the agents' protocol, in the clear, to a relay beside it; the relay
//! carries it over mutual TLS, and over the link, to a collector at west; the trace is read back and drawn. Then
//! somebody at east claims to be another service.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use handfast_api::status::ListenerStatus;
use handfast_pki::SystemEntropy;
use handfast_telemetry::grpc::{Code, Status};
use handfast_telemetry::upstream::{Backend, Dice, Security, Upstream, UpstreamPlan};
use serde_json::Value;

use super::stage::Stage;
use super::story::{Broken, Proof, Story};
use crate::clock;

mod program;

/// Plays it.
pub(super) async fn play(story: &mut Story, stage: &mut Stage) -> Result<(), Broken> {
    story.step("collector", "a collector at west", collector(stage)).await?;
    story.step("enrol", "a certificate for the agents of shop", enrol(stage)).await?;
    story.step("relay", "a relay at east", relay(stage)).await?;
    story.step("trace", "an instrumented program at east", trace(stage)).await?;
    story.step("spoofing", "the same program as another service", spoof(stage)).await
}

async fn collector(stage: &mut Stage) -> anyhow::Result<Proof> {
    let port = stage.ports.collector;
    let line = format!(
        "--home west collector create telemetry --host 127.0.0.1 --hosts localhost --grpc-port {port} --http-port 0"
    );
    stage.shell.typed_run(&line).await?;
    let line = format!("--home west connector create telemetry {port} --host 127.0.0.1");
    stage.shell.typed_run(&line).await?;
    Ok(Proof::new(format!("mutual TLS at 127.0.0.1:{port}, offered over the link as telemetry")))
}

async fn enrol(stage: &mut Stage) -> anyhow::Result<Proof> {
    stage.shell.typed_run("--home west token issue shop.token --agent shop").await?;
    stage.shell.typed_run("enrol east/input/certs/shop-agent --token shop.token").await?;
    Ok(Proof::new("redeemed at east: the key was made there, and speaks for /agent/shop only"))
}

async fn relay(stage: &mut Stage) -> anyhow::Result<Proof> {
    let (port, listener) = (stage.ports.relay, stage.ports.telemetry);
    let line = format!("--home east listener create telemetry {listener} --host 127.0.0.1");
    stage.shell.typed_run(&line).await?;
    stage
        .until("east's listener finds west's collector", async |shell| {
            let listeners: Vec<ListenerStatus> = shell
                .run("--home east listener status telemetry -o json")
                .await?
                .succeeded()?
                .json()?;
            Ok(listeners.into_iter().find(|one| one.has_matching_connector && one.fault.is_none()))
        })
        .await?;
    let line = format!(
        "--home east relay create shop --service shop --backend 127.0.0.1:{listener} --server-name localhost \
         --tls-credentials shop-agent --grpc 127.0.0.1:{port}"
    );
    stage.shell.typed_run(&line).await?;
    Ok(Proof::new(format!(
        "agents report in the clear to 127.0.0.1:{port}, and need no setting but that"
    )))
}

async fn trace(stage: &mut Stage) -> anyhow::Result<Proof> {
    let agent = agent(stage.ports.relay);
    let began = Instant::now();
    let (id, segments) = program::checkout("shop", clock::now());
    Box::pin(agent.call(program::SEGMENTS, &segments)).await.map_err(|status| refused(&status))?;
    let accepted = began.elapsed();
    let show = format!("--home west trace show {id} -o json");
    stage
        .until("west's collector has the trace", async |shell| {
            let shown = shell.run(&show).await?;
            if !shown.is_success() {
                return Ok(None);
            }
            let trace: Value = shown.json()?;
            let segments = trace["segments"].as_array().map_or(0, Vec::len);
            Ok((segments == 2).then_some(()))
        })
        .await?;
    stage.shell.note("handfast --home west trace ls --service shop".to_owned());
    // Whoever follows by hand has a trace of another id, and finds it with the line above.
    let drawn =
        stage.shell.run(&format!("--home west trace show {id} --width 92")).await?.succeeded()?;
    let (reporter, transport) = reporter(stage).await?;
    ensure!(transport == "mtls", "the relay came by {transport}");
    let milliseconds = u64::try_from(accepted.as_millis()).unwrap_or(u64::MAX);
    Ok(Proof::new(format!("its trace was accepted in {milliseconds} ms, and read back at west"))
        .fact("reported by", reporter)
        .fact("transport", transport)
        .log(drawn.printed().lines().map(ToOwned::to_owned)))
}

async fn reporter(stage: &Stage) -> anyhow::Result<(String, String)> {
    let status: Value =
        stage.shell.run("--home west rollout status -o json").await?.succeeded()?.json()?;
    let found = find(&status, "shop").context("`rollout status` does not know the service")?;
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    Ok((text("identity"), text("transport")))
}

/// The object about a service, wherever in the document it stands.
fn find<'a>(document: &'a Value, service: &str) -> Option<&'a Value> {
    match document {
        Value::Object(fields) if fields.get("service").and_then(Value::as_str) == Some(service) => {
            Some(document)
        }
        Value::Object(fields) => fields.values().find_map(|value| find(value, service)),
        Value::Array(values) => values.iter().find_map(|value| find(value, service)),
        _ => None,
    }
}

async fn spoof(stage: &mut Stage) -> anyhow::Result<Proof> {
    let agent = agent(stage.ports.relay);
    let (_, segments) = program::checkout("bank", clock::now());
    // The relay takes it and finds out from the collector; from then on it refuses by itself.
    let fault = stage
        .until("the agent is told that it may not speak for bank", async |_| {
            match Box::pin(agent.call(program::SEGMENTS, &segments)).await {
                Err(status) if status.code == Code::PermissionDenied => Ok(Some(status.message)),
                _ => Ok(None),
            }
        })
        .await?;
    let rows: Value = stage
        .until("the denial is in west's audit log", async |shell| {
            let rows: Value =
                shell.run("--home west audit list -o json").await?.succeeded()?.json()?;
            let text = rows.to_string();
            Ok((text.contains("telemetry.report") && text.contains("bank")).then_some(rows))
        })
        .await?;
    drop(rows);
    Ok(Proof::new("refused, counted, and on record in west's audit log").fault(fault))
}

fn agent(port: u16) -> Upstream {
    let plan = UpstreamPlan {
        authentication: None,
        backends: vec![Backend { host: "127.0.0.1".to_owned(), port }],
        security: Some(Security::Plaintext),
    };
    Upstream::new(plan, Arc::new(clock::now), Dice::new(SystemEntropy))
}

fn refused(status: &Status) -> anyhow::Error {
    anyhow::anyhow!("the relay refused the report: {status}")
}
