//! One file per command. This one is the dispatch, and what several commands share.

pub(crate) mod agent_certs;
pub(crate) mod approve;
mod aside;
pub(crate) mod audit;
pub(crate) mod backup;
mod bound;
pub(crate) mod ca;
pub(crate) mod cert;
pub(crate) mod check;
pub(crate) mod collector;
pub(crate) mod completion;
pub(crate) mod connector;
mod edge;
pub(crate) mod enrol;
pub(crate) mod event;
mod kept;
pub(crate) mod link;
pub(crate) mod listener;
pub(crate) mod log;
mod lone;
pub(crate) mod man;
pub(crate) mod metric;
pub(crate) mod policy;
pub(crate) mod relay;
mod remote;
pub(crate) mod rollout;
pub(crate) mod run;
pub(crate) mod service;
pub(crate) mod site;
mod stations;
pub(crate) mod status;
pub(crate) mod token;
pub(crate) mod trace;
mod uptake;
mod words;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use handfast_api::admin::{Client, Remote};

use handfast_store::{Home, HomePaths};

use crate::cli::{Cli, Command};
use crate::demo;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::home;
use crate::output::{Format, Output};

/// What every command is given: the home it is about, and where its result goes.
pub(crate) struct Context {
    pub(crate) home: HomePaths,
    pub(crate) output: Output,
    /// The home as it was typed; absent where it is the default or comes from the environment.
    typed_home: Option<PathBuf>,
    /// The node elsewhere that is meant instead of the home's.
    remote: Option<Remote>,
}

impl Context {
    /// A client for the node that is meant, whether it runs or not: the home's, unless another is named.
    pub(crate) fn client(&self) -> Client {
        let client = match &self.remote {
            Some(remote) => Client::remote(remote.clone()),
            None => Client::new(&self.home.admin_sock),
        };
        // What programs read on standard error is one document.
        if self.output.format() == Format::Text { client.telling(slow) } else { client }
    }

    /// Whether a node elsewhere is meant.
    pub(crate) fn is_remote(&self) -> bool {
        self.remote.is_some()
    }

    /// What is not there holds nothing, and a list of it would be empty: its name was mistyped, most likely.
    pub(crate) fn home_is_there(&self) -> anyhow::Result<()> {
        if self.home.root.is_dir() {
            return Ok(());
        }
        Err(Failure::new(Exit::Home, "there is no such home")
            .at(self.home.root.display())
            .because("the directory is not there")
            .remedy("name the right one with --home or HANDFAST_HOME; `handfast site create NAME` makes one")
            .into())
    }

    /// Whether the home has a ledger. One that may not be looked at is none that is not there.
    pub(crate) fn has_ledger(&self) -> anyhow::Result<bool> {
        self.home.state_db.try_exists().map_err(|error| {
            Failure::new(Exit::Home, "the ledger cannot be read")
                .at(self.home.state_db.display())
                .because(error)
                .remedy("run this as the node's user or as root, or name another home with --home")
                .into()
        })
    }

    /// A command to be typed next, about the same home.
    pub(crate) fn command(&self, line: &str) -> String {
        match &self.typed_home {
            Some(home) => format!("handfast --home {} {line}", home.display()),
            None => format!("handfast {line}"),
        }
    }
}

/// Runs one command.
pub(crate) fn run(cli: Cli) -> anyhow::Result<Exit> {
    let output = Output::new(cli.globals.output);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let context = || {
        let given = cli.globals.home.clone();
        let root = home::choose(given.clone()).ok_or_else(no_home)?;
        let from_environment = std::env::var_os("HANDFAST_HOME").map(PathBuf::from);
        let typed_home = given.filter(|given| from_environment.as_ref() != Some(given));
        let home = Home::paths(root);
        let remote = remote::named(&cli.globals, &home)?;
        Ok::<_, anyhow::Error>(Context { home, output, typed_home, remote })
    };
    if cli.globals.node.is_some() {
        remote::check(&cli.command)?;
    }
    let done = match cli.command {
        Command::Ca(verb) => runtime.block_on(ca::run(verb, output, context)),
        Command::Audit(verb) => runtime.block_on(audit::run(&verb, &context()?)),
        Command::Backup(arguments) => backup::make(&arguments, &context()?),
        Command::Cert(verb) => {
            let done = runtime.block_on(cert::run(verb, &context()?));
            runtime.shutdown_background();
            return done;
        }
        Command::AgentCerts(arguments) => {
            runtime.block_on(agent_certs::run(arguments, &context()?))
        }
        Command::Approve(arguments) => runtime.block_on(approve::run(arguments, &context()?)),
        Command::Check(arguments) => runtime.block_on(check::run(&arguments, &context()?)),
        Command::Collector(verb) => runtime.block_on(collector::run(verb, context)),
        Command::Completion(arguments) => completion::run(&arguments),
        Command::Connector(verb) => runtime.block_on(connector::run(verb, &context()?)),
        Command::Demo(arguments) => return runtime.block_on(demo::run(arguments, output)),
        Command::DemoService(arguments) => runtime.block_on(demo::serve(arguments)),
        Command::Enrol(arguments) => runtime.block_on(enrol::run(arguments, output)),
        Command::Event(verb) => runtime.block_on(event::run(verb, &context()?)),
        Command::Link(verb) => runtime.block_on(link::run(verb, &context()?)),
        Command::Listener(verb) => runtime.block_on(listener::run(verb, &context()?)),
        Command::Man(arguments) => man::run(&arguments, output),
        Command::Restore(arguments) => backup::put_back(&arguments, &context()?),
        Command::Policy(verb) => {
            let done = runtime.block_on(policy::run(verb, &context()?));
            runtime.shutdown_background();
            return done;
        }
        Command::Log(verb) => runtime.block_on(log::run(verb, &context()?)),
        Command::Metric(verb) => runtime.block_on(metric::run(verb, &context()?)),
        Command::Relay(verb) => runtime.block_on(relay::run(verb, context)),
        Command::Rollout(verb) => {
            let done = runtime.block_on(rollout::run(verb, &context()?));
            runtime.shutdown_background();
            return done;
        }
        Command::Run(arguments) => runtime.block_on(run::run(arguments, context()?.home)),
        Command::Service(verb) => runtime.block_on(service::run(verb, &context()?)),
        Command::Site(verb) => runtime.block_on(site::run(verb, &context()?)),
        Command::Status(arguments) => runtime.block_on(status::run(&arguments, &context()?)),
        Command::Token(verb) => runtime.block_on(token::run(verb, &context()?)),
        Command::Trace(verb) => runtime.block_on(trace::run(verb, &context()?)),
    };
    // A command that is done does not wait for what still runs on threads of its own.
    runtime.shutdown_background();
    done.map(|()| Exit::Success)
}

/// How long a command waits until the running node has taken up what it wrote.
#[derive(clap::Args, Clone, Copy, Debug)]
pub(crate) struct Wait {
    /// How long to wait until the running node has taken it up
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub(crate) timeout: Duration,
}

/// A duration on the command line: `45s`, `15m`, `1h30m`, `1d`; more than nothing.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    match handfast_authority::parse_duration(text) {
        Some(duration) if !duration.is_zero() => Ok(duration),
        _ => Err("write a duration like 45s, 15m, 1h30m or 1d".to_owned()),
    }
}

/// Tells people that a node has not answered yet.
fn slow(place: &Path, bound: Duration) {
    let (quiet, bound) = (Client::QUIET.as_secs(), bound.as_secs());
    // Whoever closed standard error does not want to know.
    let _ = writeln!(
        anstream::stderr().lock(),
        "note: the node at {} has not answered for {quiet} s; it has {bound} s in all, and may still do it after that",
        place.display()
    );
}

fn no_home() -> anyhow::Error {
    Failure::new(Exit::Usage, "it is not known which home is meant")
        .because("neither --home nor HANDFAST_HOME is given, and HOME is not set")
        .remedy("name the directory: handfast --home DIR ...")
        .into()
}
