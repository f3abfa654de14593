//! `handfast rollout enforce`: edits the mode of ports in a Collector's file, one port after the other, and
//! notes in an annotation what was before, so that it can be taken back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use handfast_api::admin::ClientError;
use handfast_api::resources::edit::{self, Existing};
use handfast_api::resources::{
    Collector, CollectorPort, Kind, Resource, ResourceFault, Resources, Sharing,
};
use handfast_api::status::ProblemView;
use handfast_api::telemetry::StationKind;
use handfast_pki::Name;
use handfast_telemetry::port::Mode;
use serde::Serialize;

use super::{Heard, outlook};
use crate::commands::{Context, Wait, uptake};
use crate::exit::Exit;
use crate::failure::Failure;

/// Arguments of `handfast rollout enforce`.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// The collector
    collector: Name,
    /// Only this port: grpc, http, sharing-grpc or sharing-http [default: all, one after the other]
    #[arg(long, value_name = "PORT")]
    port: Option<String>,
    /// The mode from now on
    #[arg(
        long,
        value_name = "mtls|permissive|tls|plaintext",
        required_unless_present = "back",
        conflicts_with = "back"
    )]
    to: Option<Mode>,
    /// Back to the mode before
    #[arg(long)]
    back: bool,
    #[command(flatten)]
    wait: Wait,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct View {
    resource: String,
    file: PathBuf,
    node_running: bool,
    changed: Vec<Change>,
    /// Reporters that the node heard and that the new modes do not admit.
    shut_out: usize,
}

#[derive(Serialize)]
struct Change {
    port: String,
    from: String,
    to: String,
}

/// Changes the modes.
pub(super) async fn run(arguments: Arguments, context: &Context) -> anyhow::Result<Exit> {
    if context.is_remote() {
        return Err(Failure::new(Exit::Usage, "`handfast rollout enforce` is about a home of this machine")
            .because("--node (or HANDFAST_NODE) names a node elsewhere, whose files cannot be edited from here")
            .remedy("leave --node away, or change the mode in the file over there")
            .into());
    }
    let mut resource = declared(context, &arguments.collector)?;
    let reference = resource.reference();
    let mut before = noted(&resource);
    let wanted = wanted(&arguments, &resource, &before)?;
    let command = match arguments.to {
        Some(to) => format!("handfast rollout enforce {} --to {to}", arguments.collector),
        None => format!("handfast rollout enforce {} --back", arguments.collector),
    };
    let mut view = View {
        file: resource.origin.file.clone(),
        resource: reference.clone(),
        node_running: false,
        changed: Vec::new(),
        shut_out: 0,
    };
    for (port, from, to) in wanted {
        if arguments.back {
            before.remove(&port);
        } else {
            before.insert(port.clone(), from);
        }
        set(&mut resource.spec, &port, to);
        note(&mut resource, &before);
        let change = Attempt::before(&reference, &arguments, context).await?;
        let written = write(&resource, &command, context)?;
        let taken = change.taken_up(context, written.clone(), &arguments, &port, to).await?;
        view.node_running = taken.node_running;
        view.file = written;
        view.changed.push(Change { port, from: from.to_string(), to: to.to_string() });
        if view.node_running {
            let outlook =
                outlook(context, to, Some(&arguments.collector), Heard::default()).await?;
            view.shut_out = view.shut_out.max(outlook.shut_out);
        }
    }
    context.output.show(&view, |page| {
        for change in &view.changed {
            page.line(format!(
                "{} {}: {} -> {}",
                view.resource, change.port, change.from, change.to
            ));
        }
        if view.changed.is_empty() {
            page.line(format!("{reference} is so already: nothing was changed."));
        }
        if view.shut_out > 0 {
            page.line(format!(
                "{} shut out by that. Who, and what each needs: {}",
                match view.shut_out {
                    1 => "1 reporter that was heard is".to_owned(),
                    count => format!("{count} reporters that were heard are"),
                },
                context.command(&format!("rollout plan --to {}", change_to(&view)))
            ));
            let back = format!("rollout enforce {} --back", arguments.collector);
            page.line(format!("Back to the mode before: {}", context.command(&back)));
        }
        if !view.node_running {
            page.line("No node runs on this home; it will be so when one does.");
        }
    })?;
    Ok(Exit::Success)
}

/// Writes the resource, if the node would take it.
fn write(
    resource: &Resource<Collector>,
    command: &str,
    context: &Context,
) -> anyhow::Result<PathBuf> {
    let file = &resource.origin.file;
    if let Some(fault) = edit::faults_of(resource, file)?.into_iter().next() {
        let what = format!("{} would be refused with these modes", resource.reference());
        return Err(refused(&fault, what).into());
    }
    let resources = &context.home.input_resources;
    Ok(edit::write(resources, resource, command, Existing::Replace)?.file)
}

/// A document that no node takes.
fn refused(fault: &ResourceFault, what: String) -> Failure {
    let line = fault.line.map(|line| format!(":{line}")).unwrap_or_default();
    Failure::new(Exit::BadInput, format!("{what}; nothing was written"))
        .at(format!("{}{line}", fault.file.display()))
        .because(&fault.what)
        .remedy(&fault.remedy)
}

/// One change of the file, and what stood in the collector's way before it.
struct Attempt {
    reference: String,
    collector: Name,
    known: Vec<String>,
    start: Instant,
}

impl Attempt {
    async fn before(
        reference: &str,
        arguments: &Arguments,
        context: &Context,
    ) -> anyhow::Result<Self> {
        let known = match uptake::problems(&context.client(), reference).await {
            Ok(problems) => problems.into_iter().map(|problem| problem.message).collect(),
            Err(ClientError::NoNode { .. }) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        let (reference, collector) = (reference.to_owned(), arguments.collector.clone());
        Ok(Self { reference, collector, known, start: Instant::now() })
    }

    /// Waits until the node has the port in its new mode. What was wrong before does not end the waiting; what is
    /// wrong since does, and the file stays written.
    async fn taken_up(
        &self,
        context: &Context,
        file: PathBuf,
        arguments: &Arguments,
        port: &str,
        to: Mode,
    ) -> anyhow::Result<uptake::Uptake<()>> {
        let told = |problem: &ProblemView, file: &Path| {
            Failure::new(
                Exit::Failed,
                format!(
                    "{} {port} is written as `{to}`, and the node has a problem with it",
                    self.reference
                ),
            )
            .at(uptake::place(problem, file))
            .because(&problem.message)
            .remedy(if arguments.back {
                problem.remedy.clone()
            } else {
                let back = format!("rollout enforce {} --back", self.collector);
                format!("{}; or take the mode back: {}", problem.remedy, context.command(&back))
            })
        };
        let is_new = |problem: &ProblemView| !self.known.contains(&problem.message);
        let taken = uptake::wait_unless(
            context,
            arguments.wait,
            self.reference.clone(),
            file.clone(),
            async |client| {
                let stations = client.stations().await?;
                let found = stations.iter().find(|one| {
                    one.kind == StationKind::Collector && one.name == self.collector.as_str()
                });
                let mode = found.and_then(|one| one.port(port)).map(|port| port.mode.clone());
                Ok((mode.as_deref() == Some(to.as_str())).then_some(()))
            },
            async |client, resource, file| {
                let late = self.start.elapsed() >= arguments.wait.timeout;
                let problems = uptake::problems(client, resource).await?;
                let ends = problems.iter().find(|problem| late || is_new(problem));
                Ok(ends.map(|problem| told(problem, file)))
            },
        )
        .await?;
        if taken.node_running {
            let problems = uptake::problems(&context.client(), &self.reference).await?;
            if let Some(problem) = problems.iter().find(|problem| is_new(problem)) {
                return Err(told(problem, &file).into());
            }
        }
        Ok(taken)
    }
}

/// The mode that shuts somebody out: the last one set.
fn change_to(view: &View) -> &str {
    view.changed.last().map_or("mtls", |change| change.to.as_str())
}

fn declared(context: &Context, name: &Name) -> anyhow::Result<Resource<Collector>> {
    let (mut resources, faults) = Resources::load(&context.home.input_resources);
    resources.collectors.remove(name).ok_or_else(|| {
        let of_it = |fault: &&ResourceFault| {
            fault.kind == Some(Kind::Collector) && fault.name.as_deref() == Some(name.as_str())
        };
        if let Some(fault) = faults.iter().find(of_it) {
            return refused(fault, format!("Collector/{name} cannot be used as it is")).into();
        }
        Failure::new(Exit::NotFound, format!("Collector/{name} is not declared"))
            .at(context.home.input_resources.display())
            .remedy(format!("see which there are: {}", context.command("collector ls")))
            .into()
    })
}

/// Each port to change, with its mode and the one it gets.
fn wanted(
    arguments: &Arguments,
    resource: &Resource<Collector>,
    before: &BTreeMap<String, Mode>,
) -> anyhow::Result<Vec<(String, Mode, Mode)>> {
    let ports = resource.spec.ports();
    if let Some(port) = &arguments.port
        && !ports.iter().any(|(name, _)| name == port)
    {
        let known: Vec<&str> = ports.iter().map(|(name, _)| *name).collect();
        return Err(Failure::new(
            Exit::Usage,
            format!("{} has no port `{port}`", resource.reference()),
        )
        .because(format!("it has: {}", known.join(", ")))
        .into());
    }
    let meant =
        ports.iter().filter(|(name, _)| arguments.port.as_ref().is_none_or(|only| only == name));
    let mut changes = Vec::new();
    for (name, port) in meant {
        let to = match arguments.to {
            Some(to) => Some(to),
            None => before.get(*name).copied(),
        };
        if let Some(to) = to.filter(|to| *to != port.mode) {
            changes.push(((*name).to_owned(), port.mode, to));
        }
    }
    if arguments.back && changes.is_empty() {
        return Err(Failure::new(
            Exit::Failed,
            format!("{} was not changed by `rollout enforce`", resource.reference()),
        )
        .at(resource.origin.file.display())
        .because(format!("it has no annotation {BEFORE}, or is as it was"))
        .remedy("say which mode is wanted: --to permissive")
        .into());
    }
    Ok(changes)
}

fn set(spec: &mut Collector, port: &str, mode: Mode) {
    // What was not said is said from now on.
    for (name, known) in spec.ports() {
        let declared =
            CollectorPort { mode: if name == port { mode } else { known.mode }, ..known };
        match name {
            "grpc" => spec.grpc = Some(declared),
            "http" => spec.http = Some(declared),
            other => {
                let sharing = spec.sharing.get_or_insert_with(Sharing::default);
                if other == "sharing-grpc" {
                    sharing.grpc = Some(declared);
                } else {
                    sharing.http = Some(declared);
                }
            }
        }
    }
}

fn noted(resource: &Resource<Collector>) -> BTreeMap<String, Mode> {
    let text = resource.annotations.get(BEFORE).map(String::as_str).unwrap_or_default();
    let entry = |entry: &str| {
        let (port, mode) = entry.split_once('=')?;
        Some((port.to_owned(), mode.parse().ok()?))
    };
    text.split(' ').filter_map(entry).collect()
}

fn note(resource: &mut Resource<Collector>, before: &BTreeMap<String, Mode>) {
    if before.is_empty() {
        resource.annotations.remove(BEFORE);
        return;
    }
    let entries: Vec<String> = before.iter().map(|(port, mode)| format!("{port}={mode}")).collect();
    resource.annotations.insert(BEFORE.to_owned(), entries.join(" "));
}

/// The annotation that holds the modes before.
const BEFORE: &str = "handfast.dev/mode-before";
