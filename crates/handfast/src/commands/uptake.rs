//! Waiting, within bounds, until the running node has taken up a resource that was written or deleted.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use handfast_api::admin::{Client, ClientError};
use handfast_api::status::{EdgeState, FaultView, ProblemSeverity, ProblemView};
use serde::Serialize;

use super::{Context, Wait};
use crate::exit::Exit;
use crate::failure::Failure;

/// What became of a resource.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Uptake<T> {
    /// `Kind/name`.
    pub(super) resource: String,
    /// The file that declares it, or declared it.
    pub(super) file: PathBuf,
    /// Whether a node runs on this home.
    pub(super) node_running: bool,
    /// How it is now, where a node runs.
    pub(super) status: Option<T>,
}

impl<T> Uptake<T> {
    /// What to tell the user when no node runs.
    pub(super) fn without_node(&self, context: &Context) -> Option<String> {
        (!self.node_running)
            .then(|| format!("No node runs on this home yet. Start it: {}", context.command("run")))
    }
}

/// Waits until `look` finds the resource (or its absence) in what the node reports.
pub(super) async fn wait<T>(
    context: &Context,
    wait: Wait,
    resource: String,
    file: PathBuf,
    look: impl AsyncFn(&Client) -> Result<Option<T>, ClientError>,
) -> anyhow::Result<Uptake<T>> {
    wait_unless(context, wait, resource, file, look, problem).await
}

/// The same, where `obstacle` decides what ends the waiting early.
pub(super) async fn wait_unless<T>(
    context: &Context,
    wait: Wait,
    resource: String,
    file: PathBuf,
    look: impl AsyncFn(&Client) -> Result<Option<T>, ClientError>,
    obstacle: impl AsyncFn(&Client, &str, &Path) -> Result<Option<Failure>, ClientError>,
) -> anyhow::Result<Uptake<T>> {
    let client = context.client();
    let deadline = Instant::now() + wait.timeout;
    loop {
        match look(&client).await {
            Err(ClientError::NoNode { .. }) => {
                return Ok(Uptake { resource, file, node_running: false, status: None });
            }
            Ok(Some(status)) => {
                return Ok(Uptake { resource, file, node_running: true, status: Some(status) });
            }
            Ok(None) => {}
            Err(error) => return Err(error.into()),
        }
        if let Some(failure) = obstacle(&client, &resource, &file).await? {
            // It may have been taken up between the two questions, with more to say than that.
            return match look(&client).await? {
                Some(status) => {
                    Ok(Uptake { resource, file, node_running: true, status: Some(status) })
                }
                None => Err(failure.into()),
            };
        }
        if Instant::now() >= deadline {
            return Err(too_late(context, wait.timeout, &resource, &file).into());
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Waits until the node has let go of a resource that was deleted: it is not `there` any more, and nothing is said of it.
/// What was wrong with it does not end the waiting; what is said of it in the end, by another document of its name, does.
pub(super) async fn wait_until_gone(
    context: &Context,
    wait: Wait,
    resource: String,
    file: PathBuf,
    there: impl AsyncFn(&Client) -> Result<bool, ClientError>,
) -> anyhow::Result<Uptake<&'static str>> {
    let subject = resource.clone();
    let gone = async |client: &Client| {
        let gone = !there(client).await? && problems(client, &subject).await?.is_empty();
        Ok(gone.then_some("deleted"))
    };
    let start = Instant::now();
    let obstacle = async |client: &Client, resource: &str, file: &Path| {
        let late = start.elapsed() >= wait.timeout;
        if late && !there(client).await? { problem(client, resource, file).await } else { Ok(None) }
    };
    wait_unless(context, wait, resource, file, gone, obstacle).await
}

/// A listener, connector or access that the node has taken up and that does not work.
pub(super) fn must_work(
    resource: &str,
    file: &Path,
    state: EdgeState,
    fault: Option<&FaultView>,
) -> anyhow::Result<()> {
    let (EdgeState::Failed, Some(fault)) = (state, fault) else { return Ok(()) };
    let exit = if fault.code == PORT_IN_USE { Exit::PortInUse } else { Exit::Failed };
    let failure = Failure::new(
        exit,
        format!("{resource} is declared in {} and does not work", file.display()),
    )
    .at(&fault.place)
    .because(format!("{} [{}]", fault.message, fault.code))
    .remedy(&fault.remedy);
    Err(failure.into())
}

async fn problem(
    client: &Client,
    resource: &str,
    file: &Path,
) -> Result<Option<Failure>, ClientError> {
    let problem = problems(client, resource).await?.into_iter().next();
    Ok(problem.map(|problem| {
        Failure::new(Exit::BadInput, format!("the node cannot use {resource}"))
            .at(place(&problem, file))
            .because(problem.message)
            .remedy(problem.remedy)
    }))
}

/// What the node says stands in the way of a resource.
pub(super) async fn problems(
    client: &Client,
    resource: &str,
) -> Result<Vec<ProblemView>, ClientError> {
    let mut problems = client.faults().await?.problems;
    problems.retain(|one| one.subject == resource && one.severity == ProblemSeverity::Error);
    Ok(problems)
}

/// Where a problem of a resource is, by file and line.
pub(super) fn place(problem: &ProblemView, file: &Path) -> String {
    let line = problem.line.map(|line| format!(":{line}")).unwrap_or_default();
    format!("{}{line}", problem.file.clone().unwrap_or_else(|| file.display().to_string()))
}

fn too_late(context: &Context, limit: Duration, resource: &str, file: &Path) -> Failure {
    Failure::new(
        Exit::TimedOut,
        format!(
            "{resource} is written, and the node has not taken it up within {} s",
            limit.as_secs()
        ),
    )
    .at(file.display())
    .remedy(format!("look what it is busy with: {}", context.command("status")))
}

/// How often the node is asked.
const POLL: Duration = Duration::from_millis(25);

/// The fault code of a port that another program holds.
const PORT_IN_USE: &str = "port-in-use";
